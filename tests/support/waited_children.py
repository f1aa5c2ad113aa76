"""Meters ordinary work that starts processes and waits for them; prints the warnings as JSON."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def one() -> None:
    subprocess.run([sys.executable, "-c", "sum(range(2_000_000))"], check=True)


def many() -> None:
    for _ in range(20):
        subprocess.run(["true"], check=True)


def pipeline() -> None:
    counts = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done"
    command = f"{counts} | sort | wc -l | cat >&2"
    subprocess.run(command, shell=True, check=True, stderr=subprocess.DEVNULL)


def pool() -> None:
    with multiprocessing.get_context("fork").Pool(2) as workers:
        workers.map(burn, [0.02] * 4)


def fork() -> None:
    pid = os.fork()
    if pid == 0:
        burn(0.05)
        os._exit(0)
    os.waitpid(pid, 0)


WORK = {work.__name__: work for work in (one, many, pipeline, pool, fork)}

if __name__ == "__main__":
    from lithowatt import EnergyMeter

    warnings: list[str] = []
    for interval in (0.01, 0.1, None):
        with EnergyMeter(methods=["psutil", "tdp"], interval=interval) as meter:
            WORK[sys.argv[1]]()
        warnings += meter.reading.warnings
    print(json.dumps(warnings))
