"""What the layer adds to the start of a Lambda sandbox: `python lambda_cold_start.py LAYER.zip`.

Loads Lithops' handler as the runtime does, in a new interpreter each time, with the layer and
metering, with the layer switched off, and without the layer, in random order. CPU time of the
thread that loads, from before the layer's site directory until the handler is there: the clock of
a busy machine shows the machine, and the threads of NumPy's OpenBLAS spin meanwhile. The
layer is unpacked and not writable by Python, as
on Lambda. Needs Lithops in this interpreter, and a layer that this interpreter built.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import zipfile

import results

SCRIPT = """
import os, site, sys, time
begin = time.thread_time()
if sys.argv[1]:
    site.addsitedir(sys.argv[1])
import lithops.worker.handler
print((time.thread_time() - begin) * 1000, "lithowatt" in sys.modules)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("layer")
    parser.add_argument("--runs", type=int, default=30)
    results.argument(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(arguments.layer) as archive:
            archive.extractall(folder)
        layer = os.path.join(folder, "python")
        kinds = {"metering": (layer, "true"), "off": (layer, "false"), "no layer": ("", "true")}
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for turn in range(arguments.runs + 1):
            for kind in random.sample(list(kinds), len(kinds)):
                path, enabled = kinds[kind]
                milliseconds = start(folder, path, enabled, kind == "metering")
                if turn > 0:  # the first reads files that no cache has
                    times[kind].append(milliseconds)
    for kind, values in times.items():
        values.sort()
        low, high = values[len(values) // 10], values[-1 - len(values) // 10]
        print(f"{kind:<9} {statistics.median(values):7.2f} ms of CPU ({low:.2f} to {high:.2f})")
    pairs = zip(times["metering"], times["off"], strict=True)
    added = statistics.median(a - b for a, b in pairs)
    print(f"metering adds {added:.2f} ms to a cold start (median of {arguments.runs} by rank)")
    if arguments.json:
        figures = [
            results.figure(f"cold start, {kind}", "ms", values) for kind, values in times.items()
        ]
        results.write(arguments.json, "lambda_cold_start", figures)


def start(folder: str, layer: str, enabled: str, metering: bool) -> float:
    """ms of CPU of one start."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ENERGY_")},
        "HOME": folder,
        "TMPDIR": folder,
        "PYTHONDONTWRITEBYTECODE": "1",
        "ENERGY_MONITORING_ENABLED": enabled,
        "AWS_LAMBDA_FUNCTION_NAME": "cold",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_REGION": "us-east-1",
    }
    command = [sys.executable, "-c", SCRIPT, layer]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    milliseconds, loaded = done.stdout.split()
    # An interpreter with a lithowatt of its own would measure that one.
    if (loaded == "True") != metering:
        raise SystemExit(f"lithowatt loaded: {loaded}, metering: {metering}; take a clean venv")
    return float(milliseconds)


if __name__ == "__main__":
    main()
