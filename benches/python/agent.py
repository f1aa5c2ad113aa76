"""What the node agent and its readers cost: ``python benches/python/agent.py``.

Four zones in memory, so that what is timed is the agent and its system calls; real counters add a
register read each. For 1, 10 and 100 readers, each metering windows of 20 ms: the CPU time of
the agent's sampler, and what start and stop of a meter take. Beside it what a bare sleep of the
same rhythm costs on this machine, which no agent goes below.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent.parent / "tests" / "rig")]

import results  # noqa: E402

from lithowatt import EnergyMeter, _core  # noqa: E402
from rig import StaticTree  # noqa: E402
from tests.support.agent_tools import AgentProcess, blind_root  # noqa: E402

READER = """
import json, sys, time
from lithowatt import EnergyMeter
meter = EnergyMeter(methods=["rapl"], interval=None, root=sys.argv[1])
took = []
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    a = time.perf_counter_ns()
    meter.start()
    b = time.perf_counter_ns()
    time.sleep(0.02)
    c = time.perf_counter_ns()
    meter.stop()
    took.append(time.perf_counter_ns() - c + b - a)
print(json.dumps([meter.reading.rapl.source, took]))
"""


def thread_seconds(pid: int, name: str) -> float:
    """CPU time of a process's threads of this name, s."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == name[:15]:
            total += int((task / "schedstat").read_text().split()[0])
    return total * 1e-9


def bare_rhythm(rate: float, seconds: float) -> float:
    """CPU share of a thread that only sleeps at this rate, percent of a core."""
    code = (
        "import ctypes, sys, time\n"
        "libc = ctypes.CDLL(None)\n"
        "us = int(1e6 / float(sys.argv[1]))\n"
        "end = time.monotonic() + float(sys.argv[2])\n"
        "a = time.thread_time()\n"
        "n = 0\n"
        "while time.monotonic() < end: libc.usleep(us); n += 1\n"
        "print((time.thread_time() - a) / n)\n"
    )
    out = subprocess.check_output([sys.executable, "-c", code, str(rate), str(seconds)])
    return float(out) * rate * 100


def one(
    readers: int, rate: float, seconds: float, folder: Path
) -> tuple[dict[str, object], list[results.Figure]]:
    """One line of the table, and its figures."""
    tree = StaticTree(folder / f"root{readers}", packages=2, domains=("package", "dram"))
    (folder / f"r{readers}").mkdir()
    blind = blind_root(folder / f"r{readers}")
    agent = AgentProcess(tree.root, blind / "run/lithowatt/ring", "--rate", str(rate))
    done = threading.Event()

    def move() -> None:
        while not done.wait(0.005):
            for zone in tree.zones:
                tree.add(zone.key, 250_000)

    mover = threading.Thread(target=move, daemon=True)
    with agent:
        assert agent.process is not None
        mover.start()
        command = [sys.executable, "-c", READER, str(blind), str(seconds)]
        processes = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(readers)
        ]
        time.sleep(0.3)
        pid, began = agent.process.pid, time.monotonic()
        cpu = thread_seconds(pid, "lithowatt-agent")
        whole = agent.cpu_seconds()
        time.sleep(max(1.0, seconds - 0.5))
        span = time.monotonic() - began
        cpu = (thread_seconds(pid, "lithowatt-agent") - cpu) / span * 100
        whole = (agent.cpu_seconds() - whole) / span * 100
        took: list[int] = []
        for process in processes:
            out, _ = process.communicate()
            source, times = json.loads(out)
            if "via agent" not in source and "did not move" not in source:
                raise SystemExit(f"a reader had no ring: {source}")
            took += times[1:]
        rss = Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]
        done.set()
        mover.join()
    line: dict[str, object] = {
        "readers": readers,
        "sampler_percent": round(cpu, 3),
        "process_percent": round(whole, 3),
        "rss_mb": round(int(rss) / 1024, 1),
        "start_stop_us_median": round(statistics.median(took) / 1e3, 2),
        "start_stop_us_p95": round(statistics.quantiles(took, n=20)[18] / 1e3, 2),
        "windows": len(took),
    }
    return line, [
        results.Figure(f"{readers} readers: sampler, of a core", "%", cpu),
        results.Figure(f"{readers} readers: agent's process, of a core", "%", whole),
        results.Figure(f"{readers} readers: agent's memory, RSS", "MiB", int(rss) / 1024),
        results.figure(f"{readers} readers: start + stop", "µs", [ns / 1e3 for ns in took]),
    ]


def tight(folder: Path, turns: int) -> dict[str, list[float]]:
    """Start and stop, and a look alone, in a warm loop, µs."""
    tree = StaticTree(folder / "tight", packages=2, domains=("package", "dram"))
    (folder / "t").mkdir()
    blind = blind_root(folder / "t")
    path = blind / "run/lithowatt/ring"
    with AgentProcess(tree.root, path):
        meter = EnergyMeter(methods=["rapl"], interval=None, root=blind)
        meter.start()
        meter.stop()
        ring = _core.Ring(path, blind)
        found = {}
        for name, action in (
            ("start_stop", lambda: (meter.start(), meter.stop())),
            ("look", ring.touch),
        ):
            took = []
            for _ in range(turns):
                a = time.perf_counter_ns()
                action()
                took.append((time.perf_counter_ns() - a) / 1e3)
            found[name] = took
        assert meter.reading.rapl.source
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--readers", default="1,10,100")
    results.argument(parser)
    arguments = parser.parse_args()
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="lithowatt-bench-", dir=base))
    try:
        print(json.dumps({"cpus": os.cpu_count(), "load": os.getloadavg()[0]}))
        bare = bare_rhythm(arguments.rate, 4)
        figures = [results.Figure("a bare sleep of this rhythm, of a core", "%", bare)]
        print(json.dumps({"bare_rhythm_percent": round(bare, 3)}))
        warm = tight(folder, 3000)
        figures += [results.figure(f"warm loop: {name}", "µs", us) for name, us in warm.items()]
        medians = {name: round(statistics.median(us), 2) for name, us in warm.items()}
        print(json.dumps({"warm_us": medians}))
        for readers in (int(part) for part in arguments.readers.split(",")):
            line, found = one(readers, arguments.rate, arguments.seconds, folder)
            figures += found
            print(json.dumps(line), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        how = {"rate": arguments.rate, "seconds": arguments.seconds}
        results.write(arguments.json, "agent", figures, how)


if __name__ == "__main__":
    main()
