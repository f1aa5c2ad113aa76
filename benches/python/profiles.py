"""Reading and exporting profiles, against the json of Python and orjson, side by side.

    python benches/python/profiles.py [--megabytes 50] [--rounds 5] [--large] [--json FILE]

Each reader runs in processes of its own, in turns, on one generated profile (the energy fork's 19
metrics, a value a line); its time is the median, without the start of Python and the imports, and
its memory the most that a process had, with Python and NumPy. ``--large`` adds 1000 MB, streamed
and exported. lithowatt has to be built for release (``maturin develop --release``).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import results

WORKERS = (4, 6, 8, 10, 12, 16, 20, 24, 28)
TEXTS = {
    "measurement_energy": ["null, null, null, psutil"],
    "cpu_name": ["Intel(R) Xeon(R) Processor @ 2.50GHz", "AMD EPYC"],
    "cpu_architecture": ["x86_64"],
    "aws_cpu": ["type:lambda-function|arch:x86_64|lambda:True|mem:1024"],
}
TIMES = ("read", "compute", "write", "cold_start", "time_consumption", "worker_time_execution")
ZEROS = ("perf_energy_cores", "rapl_energy_cores", "ebpf_energy_pkg", "ebpf_energy_cores")
WHOLE = {"RAPL_wrong": 12, "cpu_cores_physical": 2, "cpu_cores_logical": 2}


def write_profile(path: Path, megabytes: float) -> None:
    """A profile of about this size, written a configuration at a time."""
    numbers = random.Random(1)

    def repetition(name: str, workers: int) -> list[Any]:
        if name in TEXTS:
            return numbers.choices(TEXTS[name], k=workers)
        if name in WHOLE:
            return [WHOLE[name]] * workers
        if name in ZEROS:
            return [0.0] * workers
        return [numbers.random() * 20 for _ in range(workers)]

    names = (*TIMES, "TDP", "psutil_cpu_percent", *ZEROS, *WHOLE, *TEXTS)
    with path.open("w") as file:
        written, at = file.write("{"), 0
        while written < megabytes * 1e6:
            workers = WORKERS[at % len(WORKERS)]
            # As many megabytes each, some 12 configurations in 50 MB.
            repetitions = max(1, round(7000 / workers))
            metrics = {
                name: [repetition(name, workers) for _ in range(repetitions)] for name in names
            }
            text = json.dumps({f"(1, {512 + at // len(WORKERS)}, {workers})": metrics}, indent=4)
            written += file.write("," * bool(at) + text[1:-2])
            at += 1
        file.write("\n}")


# -- what is timed: each in a process of its own ---------------------------------------------------


def read_json(path: str) -> int:
    with open(path) as file:
        return len(json.load(file))


def read_orjson(path: str) -> int:
    import orjson

    return len(orjson.loads(Path(path).read_bytes()))


def read_core(path: str) -> int:
    from lithowatt import _core

    reader = _core.ProfileReader(path)
    kept = [
        (column.lengths, column.numbers, column.codes)
        for _, _, columns in reader
        for column in columns.values()
    ]
    return len(kept)


def read_all(path: str) -> int:
    from lithowatt.profiles._runs import read_profiles

    return sum(runs.rows for _, runs in read_profiles([path]))


def stream_times(path: str) -> int:
    from lithowatt.profiles._runs import CORE
    from lithowatt.profiles._stream import ProfileStream

    return sum(runs.rows for _, runs in ProfileStream(path, frozenset(CORE)))


def export_csv(path: str) -> int:
    return _export(path, "csv")


def export_parquet(path: str) -> int:
    return _export(path, "parquet")


def _export(path: str, ending: str) -> int:
    from lithowatt.cli import main

    return main(["profile", "export", path, "-o", f"{path}.{ending}"])


READERS = {
    "json.load": (read_json, ()),
    "orjson.loads": (read_orjson, ("orjson",)),
    "lithowatt: columns": (read_core, ("lithowatt._core",)),
    "lithowatt: read_profiles": (read_all, ("numpy", "lithowatt.profiles._stream")),
    "lithowatt: stream of the times": (stream_times, ("numpy", "lithowatt.profiles._stream")),
}
EXPORTS = {
    "lithowatt: export to CSV": (export_csv, ("numpy",)),
    "lithowatt: export to Parquet": (export_parquet, ("numpy", "pyarrow")),
}


def child(name: str, path: str) -> None:
    """Runs one reader and prints its seconds and its most memory, MB."""
    import resource
    from importlib import import_module

    reader, needs = {**READERS, **EXPORTS}[name]
    for module in needs:
        import_module(module)
    begin = time.perf_counter()
    with open(os.devnull, "w") as null:
        said, sys.stdout = sys.stdout, null
        reader(path)
        sys.stdout = said
    seconds = time.perf_counter() - begin
    # KiB on Linux.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({"seconds": seconds, "peak_mb": peak}))


def measured(names: dict[str, Any], path: Path, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Of each reader its seconds and its memory in each round, in turns."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, runs in found.items():
            run = subprocess.run(
                [sys.executable, __file__, "--child", name, str(path)],
                capture_output=True,
                text=True,
            )
            if run.returncode:
                print(f"{name}: {run.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                continue
            runs.append(json.loads(run.stdout))
    return {name: runs for name, runs in found.items() if runs}


def figures(size: float, rows: dict[str, list[dict[str, float]]]) -> list[results.Figure]:
    """Time and most memory of each reader."""
    listed = []
    for name, runs in rows.items():
        title = f"{size:.0f} MB, {name}"
        listed.append(results.figure(title, "s", [one["seconds"] for one in runs]))
        peaks = [one["peak_mb"] for one in runs]
        listed.append(results.figure(f"{title}: peak memory", "MB", peaks))
    return listed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--megabytes", type=float, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="also 1000 MB")
    results.argument(parser)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    listed: list[results.Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "stage.json")
        sizes = [(arguments.megabytes, arguments.rounds, {**READERS, **EXPORTS})]
        if arguments.large:
            streams = {"lithowatt: stream of the times": None, **EXPORTS}
            sizes.append((1000, 1, streams))
        for megabytes, rounds, names in sizes:
            write_profile(path, megabytes)
            size = path.stat().st_size / 1e6
            rows = measured(names, path, rounds)
            listed += figures(size, rows)
            shown(size, rows)
    if arguments.json:
        results.write(arguments.json, "profiles", listed)


def shown(size: float, rows: dict[str, list[dict[str, float]]]) -> None:
    print(f"{size:.0f} MB".ljust(32), "      s   MB/s  peak MB  of the size  of json.load")
    seconds = {name: median(one["seconds"] for one in runs) for name, runs in rows.items()}
    base = seconds.get("json.load")
    for name, runs in rows.items():
        took, peak = seconds[name], max(one["peak_mb"] for one in runs)
        faster = "" if base is None else f"{base / took:.1f} ×"
        print(
            f"{name:32} {took:7.2f} {size / took:6.0f} {peak:8.0f} "
            f"{peak / size:10.2f} × {faster:>12}"
        )


if __name__ == "__main__":
    main()
