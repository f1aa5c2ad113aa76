"""Runs in the emulated machine: loads the drivers over registers of known power, and meters.

It is alone with Debian's Python and this folder; what it finds goes out by the second serial port,
one JSON object a line.
"""

from __future__ import annotations

import io
import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OUT = Path("/dev/ttyS1")
PARAMETERS = Path("/sys/module/simulated_registers/parameters")
CPUS = Path("/sys/devices/system/cpu")
DOMAINS = ("package", "core", "uncore", "dram", "psys", "total")

LONG = 2.0
LONG_WINDOWS = 3
QUICK_NS = 10_000_000
SHORT = 0.05
SHORT_WINDOWS = 20
EMPTY_WINDOWS = 20
WRAP_SECONDS = 15.0


def shell(command: str) -> str:
    """What a command prints; it may fail."""
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def load(powers: dict[str, Any]) -> None:
    """The drivers anew, over registers of these powers (mW)."""
    for module in ("rapl", "intel_rapl_msr", "intel_rapl_common", "simulated_registers"):
        shell(f"rmmod {module}")
    words = (
        f"{name}={','.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in powers.items()
    )
    print(shell("modprobe intel_rapl_common"), flush=True)
    print(shell(f"insmod {HERE}/simulated_registers.ko {' '.join(words)}"), flush=True)
    load_drivers()


def load_drivers() -> None:
    """powercap's driver, and perf's where the processor has one."""
    print(shell("modprobe intel_rapl_msr; modprobe rapl"), flush=True)


def estimates(domains: Any) -> dict[str, tuple[float, float, float] | None]:
    """Joules, low and high of each domain of a method."""
    found = {}
    for name in DOMAINS:
        estimate = domains.estimate(name)
        found[name] = estimate and (estimate.value, estimate.low, estimate.high)
    return found


def window(work: Callable[[], None], **options: Any) -> dict[str, Any]:
    """Meters ``work``; times are CLOCK_MONOTONIC, ns."""
    from lithowatt import EnergyMeter

    meter = EnergyMeter(**options)
    times = [time.monotonic_ns()]
    meter.start()
    times.append(time.monotonic_ns())
    work()
    times.append(time.monotonic_ns())
    meter.stop()
    times.append(time.monotonic_ns())
    reading = meter.reading
    machine = reading.machine_estimate
    return {
        "times": times,
        "window": reading.window_ns,
        "rapl": estimates(reading.rapl),
        "perf": estimates(reading.perf),
        "rapl_source": reading.rapl.source,
        "perf_source": reading.perf.source,
        "reasons": {"rapl": reading.rapl.reasons, "perf": reading.perf.reasons},
        "machine": machine and (machine.value, machine.low, machine.high),
        "method": reading.method,
        "joules": reading.joules,
        "reason": reading.reason,
        "warnings": meter.stats(compact=False)["worker_func_energy_warnings"],
    }


def doctor() -> dict[str, Any]:
    """What ``lithowatt doctor`` prints, and the findings it is made of."""
    from lithowatt import _core
    from lithowatt.cli import main as command

    printed = io.StringIO()
    with redirect_stdout(printed):
        code = command(["doctor"])
    return {"text": printed.getvalue(), "code": code, "methods": _core.doctor(None)}


def undisturbed() -> dict[str, Any]:
    """Of a few long windows the one in which starting and stopping took least.

    The host halts an emulated processor at times; where it does so at an edge of a window, nothing
    shows when exactly the counters were read. Which one is taken does not depend on its joules.
    """

    def edges(found: dict[str, Any]) -> int:
        before, begun, ending, ended = found["times"]
        return (begun - before) + (ended - ending)

    windows = []
    for _ in range(LONG_WINDOWS):
        windows.append(window(sleeping))
        if edges(windows[-1]) < QUICK_NS:
            break
    return min(windows, key=edges)


def sleeping() -> None:
    """A long window in which nothing happens."""
    time.sleep(LONG)


def reloading() -> None:
    """powercap's driver is unloaded and loaded again within the window."""
    time.sleep(LONG / 4)
    shell("rmmod intel_rapl_msr")
    time.sleep(LONG / 4)
    shell("modprobe intel_rapl_msr")
    time.sleep(LONG / 2)


def wrap_at(moment: float) -> None:
    """The package's register passes its end, 2^32 counts, at this time since boot (s)."""
    watts = int((PARAMETERS / "pkg_mw").read_text().split(",")[0]) / 1000
    counted = int(watts * moment * 2 ** int((PARAMETERS / "unit_shift").read_text()))
    (PARAMETERS / "ahead").write_text(str(2**32 - counted))


def switching(cpus: list[int]) -> Callable[[], None]:
    """CPUs go offline and come back within the window."""

    def work() -> None:
        time.sleep(LONG / 3)
        for cpu in cpus:
            (CPUS / f"cpu{cpu}/online").write_text("0")
        time.sleep(LONG / 3)
        for cpu in cpus:
            (CPUS / f"cpu{cpu}/online").write_text("1")
        time.sleep(LONG / 3)

    return work


def controlled() -> dict[str, Any]:
    """A window beside the machine's management controller, read by the kernel's own driver."""
    from lithowatt import EnergyMeter

    loaded = shell("modprobe ipmi_devintf; modprobe ipmi_si type=kcs ports=0xca2")
    for _ in range(300):
        if Path("/dev/ipmi0").exists():
            break
        time.sleep(0.1)
    meter = EnergyMeter(reference="ipmi")
    with meter:
        time.sleep(5 * LONG)
    reading = meter.reading
    found = reading.machine_reference["ipmi"]
    return {
        "seconds": reading.duration,
        "energy": found.energy and tuple(found.energy[:3]),
        "reason": found.reason,
        "readings": found.readings,
        "package": reading.rapl.package,
        "loaded": loaded + shell("dmesg | grep -i ipmi | tail -n 20"),
    }


def metered(step: dict[str, Any]) -> dict[str, Any]:
    """One step of a scenario, in a process of its own."""
    kind = step["kind"]
    if kind == "guest":
        return guest(step["share"])
    if kind == "controller":
        return controlled()
    if kind == "cost":
        return {"empty": [window(lambda: None)["times"] for _ in range(EMPTY_WINDOWS)]}
    # The sources are opened in the first window.
    window(lambda: time.sleep(SHORT))
    if kind == "plain":
        short = [window(lambda: time.sleep(SHORT)) for _ in range(SHORT_WINDOWS)]
        return {"long": undisturbed(), "short": short, "doctor": doctor()}
    if kind == "wrap":
        time.sleep(max(0.0, step["moment"] - LONG / 2 - time.clock_gettime(time.CLOCK_BOOTTIME)))
        return {"long": window(sleeping)}
    if kind == "reload":
        return {"long": window(reloading), "after": undisturbed()}
    if kind == "switch":
        return {"long": window(switching(step["cpus"])), "after": undisturbed()}
    raise ValueError(
        f"kind is {kind!r}, expected plain, wrap, reload, switch, cost, guest or controller"
    )


def page(file: int) -> tuple[int, int, int] | None:
    """Number, time (ns), energy (µJ) of the newest sample of a guest's ring, past each cache."""
    buffer = mmap.mmap(-1, 8192)
    if os.preadv(file, [buffer], 4096) < 64:
        return None
    number = int.from_bytes(buffer[:8], "little")
    words = 9
    at = 4096 + (number - 1) % 16 * words * 8
    sample = [int.from_bytes(buffer[at + 8 * i : at + 8 * i + 8], "little") for i in range(words)]
    return (number, sample[1], sample[7]) if sample[0] == number else None


def settled(file: int) -> tuple[int, int, int]:
    """:func:`page`, again where it was being written."""
    while (found := page(file)) is None:
        pass
    return found


def guest(share: list[str]) -> dict[str, Any]:
    """Windows of a machine whose host hands its energy on; ``share`` is how that is mounted."""
    from lithowatt import EnergyMeter

    ring = os.open("/var/lithowatt/ring", os.O_RDONLY | os.O_DIRECT)
    busy = time.monotonic() + 3
    while time.monotonic() < busy:
        window(lambda: time.sleep(0.1))
    windows = []
    for seconds, count in ((SHORT, 12), (0.3, 8), (LONG, 4)):
        for number in range(count):
            spins = number % 2 == 0
            meter = EnergyMeter()
            edges = [settled(ring)]
            began = time.monotonic()
            meter.start()
            edges.append(settled(ring))
            while spins and time.monotonic() - began < seconds:
                pass
            time.sleep(max(0.0, began + seconds - time.monotonic()))
            edges.append(settled(ring))
            meter.stop()
            edges.append(settled(ring))
            reading = meter.reading
            estimate = reading.guest.estimate("total")
            windows.append(
                {
                    "seconds": seconds,
                    "duration": reading.duration,
                    "spins": spins,
                    "edges": edges,
                    "guest": estimate and (estimate.value, estimate.low, estimate.high),
                    "reasons": reading.guest.reasons,
                    "joules": reading.joules,
                    "method": reading.method,
                    "notes": reading.notes,
                    "warnings": reading.warnings,
                }
            )
    looks = [time.perf_counter_ns()]
    for _ in range(100):
        page(ring)
    looks.append(time.perf_counter_ns())
    return {
        "share": share,
        "windows": windows,
        "look_us": (looks[1] - looks[0]) / 1e5,
        "doctor": doctor(),
        "stats": meter.stats(compact=False)["worker_func_guest_source"],
    }


def zones() -> dict[str, Any]:
    """What the drivers made of the registers."""
    powercap = {
        zone.name: (zone / "name").read_text().strip()
        for zone in sorted(Path("/sys/class/powercap").glob("intel-rapl*"))
        if (zone / "name").exists()
    }
    pmus = {}
    for pmu in sorted(Path("/sys/bus/event_source/devices").glob("power*")):
        mask = pmu / "cpumask"
        pmus[pmu.name] = {
            "cpumask": mask.read_text().strip() if mask.exists() else None,
            "events": sorted(p.name for p in (pmu / "events").iterdir() if "." not in p.name),
        }
    return {"powercap": powercap, "pmus": pmus}


def run(step: dict[str, Any]) -> dict[str, Any]:
    """Runs a step of a scenario in a fresh interpreter, as the user it asks for."""
    if step["kind"] == "wrap":
        # Time enough to start an interpreter.
        step = {**step, "moment": time.clock_gettime(time.CLOCK_BOOTTIME) + WRAP_SECONDS}
        wrap_at(step["moment"])
    command = [sys.executable, __file__, json.dumps(step)]
    if step.get("user"):
        command = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", *command]
    if step["kind"] == "guest":
        mount(step["share"])
    Path("/proc/sys/kernel/perf_event_paranoid").write_text(str(step.get("paranoid", 2)))
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=surroundings())
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        found = {"failed": done.stdout[-2000:] + done.stderr[-4000:]}
    return found


def mount(share: list[str]) -> None:
    """Mounts the host's folder where a guest looks for it."""
    print(shell("modprobe 9pnet_virtio; modprobe 9p; mkdir -p /var/lithowatt"), flush=True)
    shell("umount /var/lithowatt")
    print(shell(f"mount {' '.join(share)} /var/lithowatt; ls -ln /var/lithowatt"), flush=True)


def surroundings() -> dict[str, str]:
    """Environment of the metering process."""
    return {**os.environ, "PYTHONPATH": str(HERE), "LITHOWATT_STATE_DIR": "/tmp/state"}


@contextmanager
def results() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Writes a result to the host."""
    with OUT.open("w") as port:

        def write(result: dict[str, Any]) -> None:
            port.write(json.dumps(result) + "\n")
            port.flush()

        yield write


def main() -> None:
    """Every scenario of the job."""
    shell("stty -F /dev/ttyS1 -opost -echo")
    job = json.loads((HERE / "job.json").read_text())
    kernel = os.uname().release
    print(kernel, f"{time.monotonic():.0f} s after boot", flush=True)
    with results() as write:
        write({"kernel": kernel, "booted": time.monotonic()})
        for scenario in job:
            if scenario["powers"]:
                load(scenario["powers"])
            base = {"scenario": scenario["name"], "zones": zones()}
            for step in scenario["steps"]:
                began = time.monotonic()
                found = run(step)
                print(scenario["name"], step, f"{time.monotonic() - began:.1f} s", flush=True)
                write({**base, "step": step, "found": found})
            print(shell("dmesg | grep -E 'RAPL|simulated|WARN|BUG|rcu' | tail -n 12"), flush=True)
        write({"complete": True, "seconds": time.monotonic()})


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(metered(json.loads(sys.argv[1]))))
    else:
        main()
