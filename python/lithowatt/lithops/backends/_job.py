"""One backend of Lithops, and one repetition on it: a job of as many calls as there are workers.

Nothing here waits for ever: what takes longer than its time is left behind in a thread of its own
that ends with the process, and the backend is told to drop the job.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from lithowatt._support.text import shortened
from lithowatt.errors import LithowattError
from lithowatt.lithops.backends._backend import Backend

#: Between two looks at a job's calls, s; they have the time of their end in their stats.
_LOOK_S = 0.1

#: Longest text of an error that is kept.
_MOST_TEXT = 300

#: After a worker ended by itself its calls may still have told what became of them, s.
_SETTLE_S = 5.0

_Result = TypeVar("_Result")


class Call(NamedTuple):
    """What came of one call.

    Attributes:
        stats: Lithops' stats, as far as there are any.
        error: What it failed with; `None` where it did not.
        digest: Of the text of its result, so that results can be compared and need not be kept.
    """

    stats: Mapping[str, Any]
    error: str | None
    digest: str | None = None


class JobError(LithowattError, RuntimeError):
    """A job that did not run to its end: why, and the calls as far as they are known."""

    def __init__(self, reason: str, calls: Sequence[Call] = ()) -> None:
        super().__init__(reason)
        self.calls = list(calls)


def within(seconds: float, function: Callable[[], _Result], what: str) -> _Result:
    """What a function returns, if it does so in time; else it goes on in a thread of its own.

    Raises:
        TimeoutError: It did not.
        BaseException: What it raised.
    """
    done: list[tuple[bool, Any]] = []

    def run() -> None:
        try:
            done.append((True, function()))
        except BaseException as error:
            done.append((False, error))

    thread = threading.Thread(target=run, daemon=True, name=f"lithowatt {what}")
    thread.start()
    deadline = time.monotonic() + seconds
    # In steps: a wait without an end is not interrupted by Ctrl-C everywhere.
    while thread.is_alive() and time.monotonic() < deadline:
        thread.join(0.05)
    if not done:
        raise TimeoutError(f"{what} took longer than {seconds:g} s")
    good, value = done[0]
    if not good:
        raise value
    result: _Result = value
    return result


class _Heard(logging.Handler):
    """What Lithops logs of a worker that ends by itself: nobody else says so, and its client waits
    for ever."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        #: When each such worker was heard of, by the monotonic clock.
        self.ended: list[float] = []
        #: Whether one of them had all calls of a job, as those of localhost's version 1.
        self.whole = False
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "failed with return code" in text:
            self.ended.append(time.monotonic())
            self.whole |= "Job process" in text
        # The end of a traceback, where there is one.
        self.last = shortened(text.strip().splitlines()[-1] if text.strip() else "", _MOST_TEXT)

    @property
    def settled(self) -> bool:
        """Whether what else there was to say of the ended workers has been said."""
        return bool(self.ended) and time.monotonic() - self.ended[-1] > _SETTLE_S

    def __enter__(self) -> _Heard:
        logger = logging.getLogger("lithops")
        # Lithops' own handler stays at the level that was asked for.
        logger.setLevel(min(logger.level or logging.ERROR, logging.ERROR))
        logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("lithops").removeHandler(self)


def told(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return shortened(f"{name}: {text}" if text else name, _MOST_TEXT)


class _EndedError(RuntimeError):
    """Workers ended without a word."""


class LithopsBackend:
    """A backend, reached by an executor of its own."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.executor: Any = None
        self.release: str | None = None

    def connect(self, memories: Sequence[float], patience: float) -> None:
        """Makes the executor, and deploys the runtime with each of these memories.

        Raises:
            JobError: It cannot be reached: why.
        """
        try:
            within(patience, lambda: self._connect(memories), "connecting")
        except JobError:
            raise
        except Exception as error:
            raise JobError(told(error)) from error

    def _connect(self, memories: Sequence[float]) -> None:
        try:
            import lithops
        except ImportError as error:
            raise JobError(f"Lithops is not installed: {error}") from error
        self.release = getattr(lithops, "__version__", None)
        # Its progress goes to standard output, and what fails is told by us.
        self.executor = lithops.FunctionExecutor(
            config=dict(self.backend.config), log_level="CRITICAL"
        )
        for memory in dict.fromkeys(map(_memory, memories)):
            self.executor.invoker.select_runtime("A000", memory)

    def run(
        self,
        function: Callable[..., Any],
        data: Sequence[Any],
        memory_mb: float,
        timeout: float,
        patience: float,
    ) -> list[Call]:
        """Runs one job to its end.

        Args:
            function: The workload.
            data: Of each call.
            memory_mb: Of each worker; 0: as the backend is configured.
            timeout: Of a call's function, s; Lithops ends one that takes longer.
            patience: Of the job, s: calls may wait for each other.

        Raises:
            JobError: It could not be started, or took longer than the patience.
        """
        futures: list[Any] = []
        give_up = threading.Event()
        heard = _Heard()
        try:
            with heard:
                return within(
                    patience,
                    lambda: self._run(function, data, memory_mb, timeout, futures, give_up, heard),
                    "the job",
                )
        except TimeoutError as error:
            give_up.set()
            calls = [_call(one, None) for one in futures]
            self.drop(futures)
            raise JobError(str(error), calls) from None
        except Exception as error:
            calls = [_call(one, None) for one in futures]
            self.drop(futures)
            text = str(error) if isinstance(error, _EndedError) else told(error)
            raise JobError(text, calls) from error
        except BaseException:  # Ctrl-C
            give_up.set()
            self.drop(futures)
            raise

    def _run(
        self,
        function: Callable[..., Any],
        data: Sequence[Any],
        memory_mb: float,
        timeout: float,
        futures: list[Any],
        give_up: threading.Event,
        heard: _Heard,
    ) -> list[Call]:
        executor = self.executor
        futures += executor.map(
            function,
            list(data),
            runtime_memory=_memory(memory_mb),
            timeout=math.ceil(timeout),
        )
        silent = {"throw_except": False, "show_progressbar": False}
        # Lithops' own timeout is a signal, which only the main thread of a program can have.
        while left := [one for one in futures if not (one.success or one.done or one.error)]:
            if give_up.wait(_LOOK_S):
                raise TimeoutError("given up")
            if heard.settled and (heard.whole or len(heard.ended) >= len(left)):
                raise _EndedError(f"its workers ended by themselves: {heard.last}")
            executor.wait(fs=futures, return_when=0, **silent)
        executor.wait(fs=futures, return_when=0, download_results=True, **silent)
        results = [_result(one) for one in futures]
        with contextlib.suppress(Exception):
            executor.clean(fs=futures, clean_cloudobjects=False)
        return [_call(one, result) for one, result in zip(futures, results, strict=True)]

    def drop(self, futures: Sequence[Any]) -> None:
        """Lets the backend end a job's calls, as far as it can."""
        keys = {key for one in futures if (key := getattr(one, "job_key", None)) is not None}
        if not keys:
            return
        for clear in (
            lambda: self.executor.job_monitor.remove(list(futures)),
            lambda: self.executor.compute_handler.clear(keys, exception=TimeoutError()),
            lambda: self.executor.compute_handler.clear(keys),
            lambda: self.executor.clean(fs=list(futures), clean_cloudobjects=False, force=True),
        ):
            with contextlib.suppress(Exception):
                within(30.0, clear, "dropping a job")

    def close(self) -> None:
        """Ends the executor, and the workers that it started."""
        executor, self.executor = self.executor, None
        if executor is None:
            return
        with contextlib.suppress(Exception):
            within(60.0, lambda: executor.__exit__(None, None, None), "closing")
        with contextlib.suppress(Exception):
            within(60.0, lambda: executor.clean(clean_cloudobjects=False), "cleaning")


def _memory(memory_mb: float) -> int | None:
    return int(memory_mb) or None


def _result(future: Any) -> Any:
    """The result; `None` of a call that failed."""
    if future.error:
        return None
    return future.result(throw_except=False)


def _call(future: Any, result: Any) -> Call:
    stats = getattr(future, "stats", None)
    stats = dict(stats) if isinstance(stats, Mapping) else {}
    if getattr(future, "error", False):
        return Call(stats, _error(future))
    if not (getattr(future, "success", False) or getattr(future, "done", False)):
        return Call(stats, "it did not end")
    # What a result is worth comparing by: two that print alike are taken for alike.
    return Call(stats, None, hashlib.sha256(repr(result).encode("utf-8", "replace")).hexdigest())


def _error(future: Any) -> str:
    found = getattr(future, "_exception", None)
    if isinstance(found, tuple):
        found = next((one for one in found if isinstance(one, BaseException)), None)
    return told(found) if isinstance(found, BaseException) else "the call failed"
