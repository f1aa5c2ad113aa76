"""Writes down what NVIDIA's library shows on a machine, for those who have no such GPU.

    python3 record_nvml.py gpus.jsonl          20 s; run something on the GPU meanwhile
    python3 record_nvml.py gpus.jsonl 60       60 s

It needs Python and the driver, nothing else, and no right. Look through the file and send it with
an issue. It holds the driver's version, the names and limits of the GPUs, and what they showed; no
serial numbers, no names of hosts, users or programs, and processes by numbers of its own (0 is this
one). At the end it prints how often counter and power changed, and how long
calls took: the meter's bands are made of that.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

#: Between two looks, s.
PAUSE = 0.01
SUCCESS, NOT_FOUND, INSUFFICIENT_SIZE = 0, 6, 7


class _Sample(ctypes.Structure):
    """`nvmlProcessUtilizationSample_t`."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("time_stamp", ctypes.c_ulonglong),
        ("sm", ctypes.c_uint),
        ("memory", ctypes.c_uint),
        ("encoder", ctypes.c_uint),
        ("decoder", ctypes.c_uint),
    )


class Recorder:
    """Asks the library, and keeps what it said."""

    def __init__(self) -> None:
        try:
            self.library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError as error:
            raise SystemExit(
                f"NVIDIA's library, a part of its driver, is missing: {error}"
            ) from None
        self.pids = {os.getpid(): 0}
        code = self.library.nvmlInit_v2()
        if code != SUCCESS:
            raise SystemExit(f"nvmlInit_v2: error {code}")
        count = ctypes.c_uint()
        self.library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        self.handles = []
        for index in range(count.value):
            handle = ctypes.c_void_p()
            if self.library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) == SUCCESS:
                self.handles.append(handle)
        self.last = [0] * len(self.handles)

    def call(self, name: str, *arguments: Any) -> int:
        """A function's code; -1 where the library lacks it."""
        function = getattr(self.library, name, None)
        return -1 if function is None else int(function(*arguments))

    def number(self, name: str, handle: ctypes.c_void_p, kind: Any = ctypes.c_uint) -> Any:
        """What a function says of a GPU: its value, or `[code]`."""
        value = kind()
        code = self.call(name, handle, ctypes.byref(value))
        return value.value if code == SUCCESS else [code]

    def text(self, name: str, *before: Any) -> str | None:
        """A text that a function gives."""
        buffer = ctypes.create_string_buffer(96)
        code = self.call(name, *before, buffer, ctypes.c_uint(95))
        return buffer.value.decode(errors="replace") if code == SUCCESS else None

    def header(self) -> dict[str, Any]:
        """What does not change."""
        gpus = []
        for handle in self.handles:
            now, pending = ctypes.c_uint(), ctypes.c_uint()
            mig = self.call(
                "nvmlDeviceGetMigMode", handle, ctypes.byref(now), ctypes.byref(pending)
            )
            gpus.append(
                {
                    "name": self.text("nvmlDeviceGetName", handle),
                    "limit_mw": self.number("nvmlDeviceGetEnforcedPowerLimit", handle),
                    "architecture": self.number("nvmlDeviceGetArchitecture", handle),
                    "persistence": self.number("nvmlDeviceGetPersistenceMode", handle),
                    "mig": now.value if mig == SUCCESS else [mig],
                }
            )
        driver = self.text("nvmlSystemGetDriverVersion")
        return {"nvml_record": 1, "driver": driver, "gpus": gpus, "realtime_ns": time.time_ns()}

    def look(self, index: int) -> dict[str, Any]:
        """What one GPU shows now, with how long each call took, µs."""
        handle, took = self.handles[index], []

        def timed(name: str, kind: Any = ctypes.c_uint) -> Any:
            begun = time.monotonic_ns()
            value = self.number(name, handle, kind)
            took.append((time.monotonic_ns() - begun) // 1000)
            return value

        row: dict[str, Any] = {"gpu": index, "t_ns": time.monotonic_ns()}
        row["mj"] = timed("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)
        row["mw"] = timed("nvmlDeviceGetPowerUsage")
        # Two numbers of 32 bits: GPU and memory, percent.
        rates = timed("nvmlDeviceGetUtilizationRates", ctypes.c_ulonglong)
        row["busy"] = rates if isinstance(rates, list) else rates & 0xFFFFFFFF
        begun = time.monotonic_ns()
        row["processes"] = self.processes(index)
        took.append((time.monotonic_ns() - begun) // 1000)
        row["took_us"] = took
        return row

    def processes(self, index: int) -> Any:
        """The samples of processes since the last that were seen."""
        name, handle = "nvmlDeviceGetProcessUtilization", self.handles[index]
        room = ctypes.c_uint(64)
        samples = (_Sample * room.value)()
        since = ctypes.c_ulonglong(self.last[index])
        code = self.call(name, handle, samples, ctypes.byref(room), since)
        if code != SUCCESS:
            return [code]
        rows = []
        for sample in samples[: room.value]:
            self.last[index] = max(self.last[index], sample.time_stamp)
            who = self.pids.setdefault(sample.pid, len(self.pids))
            use = (sample.sm, sample.memory, sample.encoder, sample.decoder)
            rows.append({"who": who, "us": sample.time_stamp, "percent": use})
        return rows


def _period(rows: list[dict[str, Any]], key: str) -> str:
    """How often a value changed, in words."""
    values = [(row["t_ns"], row[key]) for row in rows if isinstance(row[key], int)]
    if not values:
        return f"not there ({rows[0][key]})" if rows else "not read"
    pairs = itertools.pairwise(values)
    changes = [now for (_, before), (now, value) in pairs if value != before]
    if len(changes) < 2:
        return f"changed {len(changes)} times"
    return f"every {(changes[-1] - changes[0]) / (len(changes) - 1) / 1e6:.0f} ms"


def main(argv: list[str]) -> int:
    """Records to a file, and prints what was seen."""
    if not 1 <= len(argv) <= 2:
        print(__doc__)
        return 2
    seconds = float(argv[1]) if argv[1:] else 20.0
    recorder = Recorder()
    rows: list[dict[str, Any]] = []
    header = recorder.header()
    end = time.monotonic() + seconds
    with Path(argv[0]).open("w", encoding="utf-8") as file:
        file.write(json.dumps(header) + "\n")
        while time.monotonic() < end:
            for index in range(len(recorder.handles)):
                rows.append(recorder.look(index))
                file.write(json.dumps(rows[-1]) + "\n")
            time.sleep(PAUSE)
    for index, gpu in enumerate(header["gpus"]):
        own = [row for row in rows if row["gpu"] == index]
        print(
            f"gpu {index} {gpu['name']}: counter {_period(own, 'mj')}, power {_period(own, 'mw')}"
        )
        longest = [max(took) for took in zip(*(row["took_us"] for row in own), strict=True)]
        print(f"  calls took up to {longest} µs: energy, power, use, processes")
    print(f"written: {argv[0]} ({len(rows)} looks)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
