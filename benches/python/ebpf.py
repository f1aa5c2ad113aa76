"""What kernel probes add to a meter: start + stop, and the first window of a forked worker.

``python benches/python/ebpf.py [--rounds 7] [--calls 2000]`` loads the probes if they are not, runs
meters with and without them in turn, and prints medians. Needs the right to load them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import struct
import time
from collections.abc import Callable

import results

from lithowatt import EnergyMeter, UnavailableError, _core

WITH = ("rapl", "perf", "ebpf", "psutil", "tdp")
WITHOUT = ("rapl", "perf", "psutil", "tdp")


def warm(methods: tuple[str, ...], calls: int) -> float:
    """Median start + stop of a meter that ran before, us."""
    meter = EnergyMeter(methods=methods, interval=None)
    times = []
    for _ in range(calls):
        begun = time.perf_counter_ns()
        meter.start()
        meter.stop()
        times.append(time.perf_counter_ns() - begun)
    return statistics.median(times) / 1e3


def forked(methods: tuple[str, ...]) -> float:
    """First start in a process that was just forked, as a Lithops worker does, us."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        meter = EnergyMeter(methods=methods, interval=None)
        begun = time.perf_counter_ns()
        meter.start()
        took = time.perf_counter_ns() - begun
        meter.stop()
        os.write(into, struct.pack("q", took))
        os._exit(0)
    os.close(into)
    (took,) = struct.unpack("q", os.read(out, 8))
    os.close(out)
    os.waitpid(child, 0)
    return float(took) / 1e3


def paired(
    name: str, measure: Callable[[tuple[str, ...]], float], rounds: int
) -> list[results.Figure]:
    pairs = [(measure(WITHOUT), measure(WITH)) for _ in range(rounds)]
    without, with_probes = (statistics.median(side) for side in zip(*pairs, strict=True))
    added = statistics.median(b - a for a, b in pairs)
    print(f"{name:<34} {without:9.1f} us {with_probes:9.1f} us {added:+9.1f} us")
    return [
        results.figure(f"{name}, without probes", "µs", [a for a, _ in pairs]),
        results.figure(f"{name}, added by probes", "µs", [b - a for a, b in pairs], "without"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=2000)
    results.argument(parser)
    arguments = parser.parse_args()
    try:
        _core.Probes()
        ours = False
    except UnavailableError:
        begun = time.perf_counter()
        _core.load_probes()
        print(f"load and pin: {1e3 * (time.perf_counter() - begun):.1f} ms")
        ours = True
    try:
        print(f"{'median of ' + str(arguments.rounds) + ' pairs':<34}   without      with probes")
        figures = paired("start + stop, warm", lambda m: warm(m, arguments.calls), arguments.rounds)
        figures += paired("first start after a fork", forked, 10 * arguments.rounds)
    finally:
        if ours:
            _core.unload_probes()
    if arguments.json:
        results.write(arguments.json, "ebpf", figures, {"calls": arguments.calls})


if __name__ == "__main__":
    main()
