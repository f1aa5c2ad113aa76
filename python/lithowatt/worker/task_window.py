"""The stats of a whole task, beside those of its function: `worker_task_*`.

What a worker does for a call has three parts, and each has its own keys:

* the start of its process: the interpreter, Lithops' imports and ours. No meter
  can watch what comes before its own import, so this part is its CPU time
  times the joules that a CPU second of the task cost, and is apart from the rest;
* the task: download of the function and its data, the function's own process,
  upload of the result. This is metered, and the function is inside of it;
* the function, whose own meter gives the energy of the call.

Lithops gives a process the calls of a chunk and downloads what they need at
once. What comes before the calls belongs to the chunk: its first call pays it
where the calls run one after another, and each call pays the same part of it
where they run in forks of the process, of which none knows who is first.
"""

from __future__ import annotations

import os
import time
from typing import Any

from lithowatt.meter._engine import new_engine
from lithowatt.stats import PREFIX as FUNCTION
from lithowatt.stats import QUALITIES

PREFIX = "worker_task_"

#: Every key there is, so that none is ever missing.
KEYS = tuple(
    PREFIX + key
    for key in (
        "energy_consumption",
        "energy_low",
        "energy_high",
        "energy_quality",
        "energy_duration",
        "energy_startup",
        "energy_startup_low",
        "energy_startup_high",
        "cold_start",
    )
)

#: Nobody saw how busy the machine was while the process started, and a CPU second
#: costs less the busier it is: on AWS' c5.metal the first tenth of the load takes
#: 11.8 W above idle per percent, the whole of it 5.7 W (packages; 58, 176 and 627 W
#: at 0, 10 and 100 %, turbostat, published by Teads Engineering).
_UNSEEN = 2.0


class Chunk:
    """What a process did before the calls of one chunk, and who pays for it."""

    def __init__(self, calls: int, download: Any, startup_cpu: float | None) -> None:
        #: How many calls share it.
        self.calls = max(calls, 1)
        #: Meter of the download, stopped; None where it was not metered.
        self.download = download
        #: CPU seconds of the process before it could meter anything; 0.0 where
        #: it had started for an earlier chunk, None where nobody knows.
        self.startup_cpu = startup_cpu
        self._pid = os.getpid()
        self._paid = False

    def share(self) -> float:
        """The part of it, 0..1, that the call which begins now pays."""
        if os.getpid() != self._pid:
            return 1.0 / self.calls
        share = 0.0 if self._paid else 1.0
        self._paid = True
        return share


class Worker:
    """What is known of this process, which lives through many chunks or just one.

    Args:
        fresh: The process was started for its calls and for nothing else, so that
            its CPU time so far is theirs.
    """

    def __init__(self, fresh: bool) -> None:
        self._pid = os.getpid()
        self._startup_cpu = time.process_time() if fresh else None
        self._chunk: Chunk | None = None
        self._called = 0

    def begin_chunk(self, calls: int, download: Any) -> None:
        """The calls of a chunk are about to run; what they need is downloaded."""
        self._chunk = Chunk(calls, download, self._take_startup())

    def begin_call(self, calls: int) -> tuple[Chunk, float, bool]:
        """A call begins: its chunk, its share of what came before, is it the process's first.

        `calls` is how many the chunk has, for a process that does not know its chunk.
        """
        first = self._is_first()
        if self._chunk is None:
            startup = self._take_startup()
            if os.getpid() != self._pid:
                # The start of the parent is for all of its forks, and how many
                # there are is unknown (the service of the second runner up to 3.3).
                startup = None
            self._chunk = Chunk(calls, None, startup)
        return self._chunk, self._chunk.share(), first

    def pass_call(self) -> None:
        """A call begins that is not metered: the start of the process was for that one."""
        self._is_first()
        self._take_startup()

    def _is_first(self) -> bool:
        # By its process, because the forks of a process have a first call each.
        before, self._called = self._called, os.getpid()
        return before != self._called

    def _take_startup(self) -> float | None:
        cpu, self._startup_cpu = self._startup_cpu, 0.0
        return cpu


class TaskWindow:
    """The window of one task in its handler's process."""

    def __init__(self, worker: Worker, calls: int) -> None:
        self.chunk, self.share, self.cold = worker.begin_call(calls)
        # Without a thread: the process is about to fork.
        self.meter = new_engine(None)
        self.meter.start()

    def stop(self) -> None:
        """Ends the window; one that has ended stays as it is."""
        if self.meter.running:
            self.meter.stop()

    def values(self, function: dict[str, Any] | None) -> dict[str, Any]:
        """The stats of the stopped window.

        Args:
            function: The stats of the function's own window, where it left some.
        """
        values: dict[str, Any] = dict.fromkeys(KEYS)
        values[PREFIX + "cold_start"] = self.cold
        definition = None if function is None else function.get(FUNCTION + "energy_definition")
        energy = self.meter.energy(definition)
        if energy is None:
            return values
        joules, low, high, seconds, quality, _, _ = energy
        self._add_startup(values, energy)
        download = None
        if self.share > 0 and self.chunk.download is not None:
            download = self.chunk.download.energy(definition)
        if download is not None:
            share = self.share
            joules += share * download[0]
            low += share * download[1]
            high += share * download[2]
            seconds += share * download[3]
            quality = max(quality, download[4], key=QUALITIES.index)
        floor = None if function is None else _function_energy(function)
        if floor is not None:
            # The function is in the window, and its own meter, which samples, sees
            # more of it than the two ends of the window.
            joules, low, high = map(max, (joules, low, high), floor)
        for key, value in (
            ("energy_consumption", joules),
            ("energy_low", low),
            ("energy_high", high),
            ("energy_duration", seconds),
            ("energy_quality", quality),
        ):
            values[PREFIX + key] = value
        return values

    def _add_startup(self, values: dict[str, Any], energy: Any) -> None:
        startup = self.chunk.startup_cpu if self.share > 0 else 0.0
        if startup is None:
            return
        startup *= self.share
        joules, low, high, _, _, marginal, cpu = energy
        if startup == 0.0:
            came = (0.0, 0.0, 0.0)
        elif not cpu:
            return
        else:
            per_second = marginal / cpu
            below = low / joules if joules > 0 else 0.0
            above = high / joules if joules > 0 else 1.0
            came = (
                per_second * startup,
                per_second * startup * below / _UNSEEN,
                per_second * startup * above * _UNSEEN,
            )
        for key, value in zip(("", "_low", "_high"), came, strict=True):
            values[f"{PREFIX}energy_startup{key}"] = value


def _function_energy(stats: dict[str, Any]) -> tuple[float, float, float] | None:
    """Joules of the function's own window with their band, where it has a length, too."""
    joules, low, high, seconds = (
        stats.get(f"{FUNCTION}energy_{key}") for key in ("consumption", "low", "high", "duration")
    )
    if not all(isinstance(number, (int, float)) for number in (joules, low, high, seconds)):
        return None
    return joules, low, high  # type: ignore[return-value]
