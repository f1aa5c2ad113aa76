"""Profiles in object storage: the analysis on this machine beside Lithops maps.

Makes many profiles, puts them into Lithops' storage and lets `lithowatt profile stats` say the same
of all of them, from the folder and by Lithops. Run with the Python that has lithowatt and Lithops:

    python benches/python/stored_profiles.py [--files 1000] [--repetitions 5]

The map's results are compared with the local one; the times are of whole processes, start-up of
Python and of Lithops included. On one machine a map is no faster than its CPUs allow.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import results

MEMORY_MB = 1024
WORKERS = (2, 4, 8)


def profile(seed: int, repetitions: int) -> dict[str, Any]:
    """A profile of FlexExecutor's energy fork, about 20 kB."""
    random = np.random.default_rng(seed)
    found = {}
    for workers in WORKERS:
        shape = (repetitions, workers)
        phases = {
            name: random.lognormal(np.log(mean), 0.05, shape)
            for name, mean in (("read", 0.7), ("compute", 20.0 / workers), ("write", 0.3))
        }
        total: Any = sum(phases.values()) * 1.1
        columns = {
            **phases,
            "cold_start": random.lognormal(1.0, 0.1, shape),
            "time_consumption": total,
            "worker_time_execution": total,
            "TDP": total * random.uniform(0.4, 0.6, shape),
        }
        metrics: dict[str, Any] = {
            name: np.asarray(values).tolist() for name, values in columns.items()
        }
        for name, value in (
            ("cpu_name", "Intel(R) Xeon(R) Processor @ 2.50GHz"),
            ("cpu_architecture", "x86_64"),
            ("cpu_cores_logical", 2),
            ("aws_cpu", f"type:lambda-function|arch:x86_64|lambda:True|mem:{MEMORY_MB}"),
        ):
            metrics[name] = [[value] * workers for _ in range(repetitions)]
        found[f"(1, {MEMORY_MB}, {workers})"] = metrics
    return found


def run(directory: Path, workers: int | None, path: str) -> tuple[float, dict[str, Any]]:
    """Seconds of `profile stats`, and what it printed."""
    command = [sys.executable, "-m", "lithowatt", "profile", "stats", "--json", path]
    env = {**os.environ, "HOME": str(directory), "TMPDIR": str(directory)}
    if workers is not None:
        command.append("--lithops")
        config = {
            "lithops": {"backend": "localhost", "storage": "localhost"},
            "localhost": {
                "runtime": sys.executable,
                "worker_processes": workers,
                "storage_bucket": "profiles",
            },
        }
        file = directory / f"config-{workers}.yaml"
        file.write_text(json.dumps(config))
        env["LITHOPS_CONFIG_FILE"] = str(file)
    began = time.perf_counter()
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True)
    seconds = time.perf_counter() - began
    result = json.loads(done.stdout)
    result.pop("created")
    return seconds, result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--repetitions", type=int, default=5)
    results.argument(parser)
    arguments = parser.parse_args()
    # Lithops' own cleaner may still be at work when the last run has ended.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        directory = Path(name)
        # Where Lithops keeps the objects of its localhost storage.
        uid = os.environ.get("USER") or "root"
        storage = directory / f"lithops-{uid}" / "profiles"
        size = 0
        for seed in range(arguments.files):
            file = storage / "runs" / f"job{seed:05d}_aws_{MEMORY_MB}Mb_x86" / "stage.json"
            file.parent.mkdir(parents=True)
            text = json.dumps(profile(seed, arguments.repetitions))
            size += len(text)
            file.write_text(text)
        print(f"{arguments.files} profiles, {size / 1e6:.1f} MB, {os.cpu_count()} CPUs")
        local_s, local = run(directory, None, str(storage / "runs"))
        print(f"one process        {local_s:6.1f} s")
        figures = [results.Figure("one process", "s", local_s)]
        for workers in (1, 2, 4):
            seconds, result = run(directory, workers, "profiles/runs")
            same = "equal" if result == local else "NOT EQUAL"
            figures.append(results.Figure(f"Lithops, {workers} workers", "s", seconds))
            print(
                f"Lithops, {workers} workers {seconds:6.1f} s, x {seconds / local_s:.1f}: {same}",
                flush=True,
            )
    if arguments.json:
        how = {"files": arguments.files, "repetitions": arguments.repetitions}
        results.write(arguments.json, "stored_profiles", figures, how)


if __name__ == "__main__":
    main()
