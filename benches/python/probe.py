"""Times one energy meter in a process of its own; ``compare.py`` starts it.

``python probe.py PEER TASK [key=value ...]`` prints one line of JSON. It runs in the peer's own
environment, so it imports nothing but the standard library and the peer.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from statistics import median
from typing import Any

Window = tuple[Callable[[], Any], Callable[[], Any], Callable[[], "float | None"]]
"""Start, stop, and the package joules of the window that was stopped last."""

JOULES_PER_KWH = 3.6e6


# -- the meters: each opens what a user would, and returns a window that can be repeated ----------


def nothing() -> Window:
    return (lambda: None, lambda: None, lambda: None)


def _lithowatt(**options: Any) -> Window:
    meter = import_module("lithowatt").EnergyMeter(**options)

    def joules() -> float | None:
        value: float | None = meter.reading.rapl.package
        return value

    return meter.start, meter.stop, joules


def lithowatt_rapl() -> Window:
    return _lithowatt(methods=["rapl"])


def lithowatt_edges() -> Window:
    return _lithowatt(methods=["rapl"], interval=None)


def lithowatt_all() -> Window:
    return _lithowatt()


def lithowatt_100hz() -> Window:
    return _lithowatt(methods=["rapl"], interval=0.01)


def lithowatt_1000hz() -> Window:
    return _lithowatt(methods=["rapl"], interval=0.001)


def pyrapl() -> Window:
    module = import_module("pyRAPL")
    module.setup()
    last: list[Any] = []

    def start() -> None:
        last[:] = [module.Measurement("window")]
        last[0].begin()

    def joules() -> float:
        return float(sum(last[0].result.pkg)) * 1e-6

    return start, lambda: last[0].end(), joules


def pyjoules() -> Window:
    devices = import_module("pyJoules.device").DeviceFactory.create_devices()
    meter = import_module("pyJoules.energy_meter").EnergyMeter(devices)

    def joules() -> float:
        (sample,) = meter.get_trace()
        energies: dict[str, float] = sample.energy
        return sum(uj for name, uj in energies.items() if name.startswith("package")) * 1e-6

    return lambda: meter.start(tag="window"), meter.stop, joules


def zeus() -> Window:
    monitor = import_module("zeus.monitor").ZeusMonitor(gpu_indices=[])
    last: list[Any] = []

    def stop() -> None:
        last[:] = [monitor.end_window("window", sync_execution=False)]

    def joules() -> float | None:
        by_package = last[0].cpu_energy
        return None if by_package is None else float(sum(by_package.values()))

    return lambda: monitor.begin_window("window", sync_execution=False), stop, joules


def _codecarbon_tracker() -> Any:
    return import_module("codecarbon").OfflineEmissionsTracker(
        country_iso_code="USA", save_to_file=False, log_level="critical", allow_multiple_runs=True
    )


def codecarbon_task() -> Window:
    tracker = _codecarbon_tracker()
    last: list[Any] = []

    def stop() -> None:
        last[:] = [tracker.stop_task()]

    return tracker.start_task, stop, lambda: float(last[0].cpu_energy) * JOULES_PER_KWH


def codecarbon_tracker() -> Window:
    last: list[Any] = []

    def start() -> None:
        last[:] = [_codecarbon_tracker()]
        last[0].start()

    def joules() -> float:
        return float(last[0].final_emissions_data.cpu_energy) * JOULES_PER_KWH

    return start, lambda: last[0].stop(), joules


def codegreen() -> Window:
    session = import_module("codegreen").Session("bench", save_to_file=False)
    session.start()
    last: list[Any] = []

    def stop() -> None:
        last[:] = [session.stop_task()]

    def joules() -> float:
        domains = last[0].domains
        packages = [j for name, j in domains.items() if name.startswith(("package", "pkg"))]
        return float(sum(packages)) if packages else float(last[0].energy_j)

    return lambda: session.start_task("window"), stop, joules


def emt() -> Window:
    monitor = import_module("emt").EnergyMonitor
    last: list[Any] = []

    def start() -> None:
        last[:] = [monitor()]
        last[0].__enter__()

    def stop() -> None:
        last[0].__exit__(None, None, None)

    return start, stop, lambda: float(last[0].total_consumed_energy)


def psutil_loop() -> Window:
    """What many write themselves: a thread that reads psutil ten times a second."""
    psutil = import_module("psutil")
    process = psutil.Process()
    state: dict[str, Any] = {}

    def sample() -> None:
        psutil.cpu_percent(None)
        psutil.virtual_memory()
        process.cpu_times()
        process.memory_info()

    def loop(ended: threading.Event) -> None:
        while not ended.wait(0.1):
            sample()

    def start() -> None:
        sample()
        state["ended"] = threading.Event()
        state["thread"] = threading.Thread(target=loop, args=(state["ended"],), daemon=True)
        state["thread"].start()

    def stop() -> None:
        state["ended"].set()
        state["thread"].join()
        sample()

    return start, stop, lambda: None


METERS: dict[str, tuple[str, Callable[[], Window]]] = {
    "nothing": ("sys", nothing),
    "lithowatt rapl": ("lithowatt", lithowatt_rapl),
    "lithowatt rapl, edges": ("lithowatt", lithowatt_edges),
    "lithowatt all": ("lithowatt", lithowatt_all),
    "lithowatt 100 Hz": ("lithowatt", lithowatt_100hz),
    "lithowatt 1000 Hz": ("lithowatt", lithowatt_1000hz),
    "pyRAPL": ("pyRAPL", pyrapl),
    "pyJoules": ("pyJoules.energy_meter", pyjoules),
    "zeus": ("zeus.monitor", zeus),
    "codecarbon task": ("codecarbon", codecarbon_task),
    "codecarbon tracker": ("codecarbon", codecarbon_tracker),
    "CodeGreen": ("codegreen", codegreen),
    "EMT": ("emt", emt),
    "psutil loop": ("psutil", psutil_loop),
}
"""Name: (module that its user imports, what opens it)."""


# -- what is measured ----------------------------------------------------------------------------


def family() -> list[int]:
    """This process and all its living descendants."""
    pids, queue = [], [os.getpid()]
    while queue:
        pid = queue.pop()
        pids.append(pid)
        with contextlib.suppress(OSError):
            for tid in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{tid}/children") as children:
                    queue += [int(child) for child in children.read().split()]
    return pids


def cpu_seconds() -> float:
    """CPU time of the family. A clock id made of a pid is that process's CPU clock, in ns."""
    total = 0.0
    for pid in family():
        with contextlib.suppress(OSError):
            total += time.clock_gettime((~pid << 3) | 2)
    return total


def memory_mb() -> dict[str, float]:
    """Resident and proportional set of the family, MB of 10^6 bytes."""
    sums = {"Rss": 0.0, "Pss": 0.0}
    for pid in family():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as rollup:
            for line in rollup:
                key = line.split(":")[0]
                if key in sums:
                    sums[key] += int(line.split()[1]) * 1024 / 1e6
    return {"rss": sums["Rss"], "pss": sums["Pss"]}


def first(name: str) -> dict[str, Any]:
    """Import, opening with the first start, first stop; s."""
    module, meter = METERS[name]
    t0 = time.perf_counter()
    import_module(module)
    t1 = time.perf_counter()
    start, stop, _ = meter()
    t2 = time.perf_counter()
    start()
    t3 = time.perf_counter()
    stop()
    t4 = time.perf_counter()
    return {"import": t1 - t0, "cold": t3 - t1, "first_start": t3 - t2, "first_stop": t4 - t3}


def warm(name: str, budget: float) -> dict[str, Any]:
    """Median s of a start and stop: in a loop, with its result, and with 60 ms in between."""
    start, stop, joules = METERS[name][1]()

    def once(result: bool) -> float:
        begun = time.perf_counter()
        start()
        stop()
        if result:
            joules()
        return time.perf_counter() - begun

    def often(result: bool, rest: float, most: int) -> float:
        times: list[float] = []
        end = time.perf_counter() + budget
        while len(times) < 3 or (len(times) < most and time.perf_counter() < end):
            times.append(once(result))
            if rest:
                time.sleep(rest)
        return median(times)

    for _ in range(3):
        once(True)
    return {
        "pair": often(False, 0.0, 5000),
        "pair_spaced": often(False, 0.06, 200),
        "pair_and_result": often(True, 0.0, 5000),
    }


def background(name: str, seconds: float) -> dict[str, Any]:
    """Part of a core that is used while a window is open and the program sleeps, in percent."""
    start, stop, _ = METERS[name][1]()
    start()
    # Helper processes take a while to start.
    time.sleep(0.3 * seconds)
    cpu, wall = cpu_seconds(), time.perf_counter()
    time.sleep(seconds)
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    stop()
    return {"percent": 100.0 * cpu / wall}


def memory(name: str) -> dict[str, Any]:
    """MB added by importing, by a window, and by its result."""
    before = memory_mb()
    stages: dict[str, dict[str, float]] = {}

    def note(stage: str) -> None:
        now = memory_mb()
        stages[stage] = {key: now[key] - before[key] for key in now}

    module, meter = METERS[name]
    import_module(module)
    note("import")
    start, stop, joules = meter()
    start()
    time.sleep(0.25)
    note("window")
    stop()
    joules()
    note("result")
    return {**stages, "processes": len(family())}


def accuracy(name: str, window: float, repeats: int) -> dict[str, Any]:
    """Windows of a busy function: its length in s and the joules that the meter shows."""
    start, stop, joules = METERS[name][1]()
    rows = []
    # The first is not counted: it may open things.
    for _ in range(repeats + 1):
        start()
        begun = time.monotonic_ns()
        while (now := time.monotonic_ns()) < begun + window * 1e9:
            pass
        stop()
        rows.append(((now - begun) * 1e-9, joules()))
    return {"windows": rows[1:]}


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "first": first,
    "warm": warm,
    "background": background,
    "memory": memory,
    "accuracy": accuracy,
}


def main() -> None:
    """Runs one task; what the peer prints goes to standard error."""
    name, task, *options = sys.argv[1:]
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    arguments = {key: json.loads(value) for key, value in (o.split("=", 1) for o in options)}
    answer = TASKS[task](name, **arguments)
    print(json.dumps(answer), file=out, flush=True)
    # Some peers keep threads that do not end, and helper processes that outlive their parent.
    for pid in family()[1:]:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
