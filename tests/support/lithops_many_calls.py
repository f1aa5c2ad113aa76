"""Runs one Lithops job of many short calls of all kinds, for lithops/test_many_calls.py.

A script of its own because it runs in an environment that holds one release of Lithops and not
pytest: `python lithops_many_calls.py RESULT.json CALLS`. RESULT gets the result of each call, what
the process that handles calls had open while the call ran, and what is left when all is over.
"""

import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time

#: How often each kind of call comes, in turns.
KINDS = "burn sleep memory burn child raises threads file result nothing".split()


def mixed(x):
    """A call of the kind of its number; returns what it came to, and its handler's state."""
    kind = KINDS[x % len(KINDS)]
    handler = os.getppid()
    state = {
        "handler": handler,
        "descriptors": len(os.listdir(f"/proc/{handler}/fd")),
        "mappings": sum(1 for _ in open(f"/proc/{handler}/maps")),
    }
    value = None
    if kind == "burn":
        end = time.process_time() + 0.02 * (1 + x % 7)
        while time.process_time() < end:
            sum(range(1000))
        value = x
    elif kind == "sleep":
        time.sleep(0.01 * (x % 13))
    elif kind == "memory":
        block = bytearray(b"ab" * (1 << 20) * (1 + x % 10))
        value = hashlib.sha256(block).hexdigest()
    elif kind == "child":
        done = subprocess.run(["echo", str(x)], capture_output=True, text=True, check=True)
        value = done.stdout
    elif kind == "raises":
        try:
            raise ValueError(f"call {x}")
        except ValueError as error:
            value = repr(error)
    elif kind == "threads":
        seen = []
        threads = [threading.Thread(target=seen.append, args=(x + i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        value = sorted(seen)
    elif kind == "file":
        with tempfile.TemporaryFile() as file:
            file.write(str(x).encode() * 1000)
            value = file.tell()
    elif kind == "result":
        value = "y" * (x * 97 % 50_000)
    return value, state


def left():
    """Names in the directories where something could be left."""
    places = {"shm": "/dev/shm", "temporary": tempfile.gettempdir()}
    return {place: sorted(os.listdir(path)) for place, path in places.items()}


def main():
    result, calls = sys.argv[1], int(sys.argv[2])
    import lithops

    logging.getLogger("lithops").setLevel(logging.ERROR)
    before = left()
    config = {
        "lithops": {"backend": "localhost", "storage": "localhost"},
        "localhost": {"runtime": sys.executable, "version": 1, "worker_processes": 2},
    }
    began = time.monotonic()
    executor = lithops.FunctionExecutor(config=config)
    futures = executor.map(mixed, list(range(calls)))
    answers = executor.get_result(futures)
    seconds = time.monotonic() - began
    energies = [future.stats.get("worker_func_energy_consumption") for future in futures]
    executor.clean()
    after = left()
    seen = {
        "seconds": seconds,
        "results": [value for value, _ in answers],
        "states": [state for _, state in answers],
        "energies": energies,
        "left": {place: sorted({*after[place]} - {*before[place]}) for place in after},
    }
    with open(result, "w") as file:
        json.dump(seen, file)


if __name__ == "__main__":
    main()
