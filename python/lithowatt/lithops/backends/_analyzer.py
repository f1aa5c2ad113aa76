"""``MultiBackendEnergyAnalyzer``: the same workload on each backend, and what differs."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lithowatt._support.arguments import shown
from lithowatt.analysis.plan import STARTS, Wanted, schedule_of
from lithowatt.errors import MalformedValueError, UnavailableError
from lithowatt.lithops.backends import _backend
from lithowatt.lithops.backends._backend import Backend
from lithowatt.lithops.backends._job import Call, JobError, LithopsBackend
from lithowatt.lithops.backends._keep import Keeper, prepare, sessions
from lithowatt.lithops.backends._workload import NOTHING, bound
from lithowatt.profiles._file import Configuration
from lithowatt.profiles._find import Label

#: A backend on which so many runs fail one after the other, before any succeeds, is given up.
GIVE_UP = 3

#: What a job may take beyond the time of its calls, s: invoking, queueing, fetching results.
GRACE_S = 120.0

#: What deploying a runtime may take, s: Lithops builds a layer or an image where there is none.
CONNECT_S = 900.0

#: The backends that are meant where none is named.
DEFAULT_BACKENDS = ("localhost", "k8s", "aws_lambda")


class Runner(Protocol):
    """A backend as a run sees it."""

    release: str | None

    def connect(self, memories: Sequence[float], patience: float) -> None:
        """Reaches it, or raises `JobError`."""

    def run(
        self,
        function: Callable[..., Any],
        data: Sequence[Any],
        memory_mb: float,
        timeout: float,
        patience: float,
    ) -> list[Call]:
        """Runs one job, or raises `JobError`."""

    def close(self) -> None:
        """Ends what it started."""


class MultiBackendEnergyAnalyzer:
    """Runs one workload on several of Lithops' backends, and compares time, energy and cost.

    Repetitions are interleaved: each round runs every configuration on every backend once, in a
    random order of its own, so that what changes with the time of day changes for all of them.
    Each run is written as it ends. A backend that has no configuration, cannot be reached or whose
    runs all fail is named with the reason, and left out.

    Args:
        backend_configs: Name to Lithops' configuration: a mapping, the path of a file, or ``None``
            for what Lithops finds by itself. The configuration says which backend it is
            (``lithops.backend``), so there may be several of a kind. The first is what the others
            are compared with. By default ``localhost``, ``k8s`` and ``aws_lambda``.
        repetitions: Recorded runs of each configuration on each backend.
        start: ``warm``: one run of each, which is kept apart, goes before; ``as-is``: none does.
        seed: Of the order; by default a new one, which the result holds.
        timeout: Of a call, s.
        output: A folder for the profiles and the log; by default they are not kept.
        append: The folder may hold an earlier session, which then counts as well.
        ship: Whether the meter travels with the jobs, to workers without lithowatt.
        progress: Called with a line of text as the run goes on.

    Raises:
        MalformedValueError: An argument is not as described: what was given, and what is expected.

    Example:
        >>> from lithowatt.analysis import MultiBackendEnergyAnalyzer
        >>> analyzer = MultiBackendEnergyAnalyzer({"localhost": None}, repetitions=5)
        >>> result = analyzer.run_comparative_analysis(  # doctest: +SKIP
        ...     workload, [(1, 512, 2), (1, 1024, 2)]
        ... )
    """

    def __init__(
        self,
        backend_configs: Mapping[str, Any] | None = None,
        *,
        repetitions: int = 5,
        start: str = "warm",
        seed: int | None = None,
        timeout: float = 300.0,
        output: str | os.PathLike[str] | None = None,
        append: bool = False,
        ship: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        if isinstance(repetitions, bool) or not isinstance(repetitions, int) or repetitions < 1:
            raise MalformedValueError(
                f"repetitions is {shown(repetitions)}: expected a whole number of at least 1"
            )
        if start not in ("warm", "as-is"):
            raise MalformedValueError(f"start is {shown(start)}: expected 'warm' or 'as-is'")
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
            raise MalformedValueError(f"timeout is {shown(timeout)}: expected seconds above 0")
        if seed is not None and (
            isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63
        ):
            raise MalformedValueError(f"seed is {shown(seed)}: expected a whole number from 0")
        configs = dict.fromkeys(DEFAULT_BACKENDS) if backend_configs is None else backend_configs
        if not configs:
            raise MalformedValueError("backend_configs is empty: expected one backend at least")
        self._use(*_backend.given(configs), list(configs))
        self.repetitions = repetitions
        self.start = start
        self.seed = secrets.randbelow(2**32) if seed is None else seed
        self.timeout = float(timeout)
        self.output = output
        self.append = append
        self.ship = ship
        self._progress = progress or (lambda _text: None)
        self._runner: Callable[[Backend], Runner] = LithopsBackend

    @classmethod
    def _of(
        cls,
        backends: Sequence[Backend],
        missing: Mapping[str, str],
        order: Sequence[str],
        **options: Any,
    ) -> MultiBackendEnergyAnalyzer:
        """An analyzer of backends that are resolved already, and of those that have no
        configuration with the reason; the options are those of the class."""
        made = cls({"localhost": {"lithops": {"backend": "localhost"}}}, **options)
        made._use(backends, missing, order)
        return made

    def _use(
        self, backends: Sequence[Backend], missing: Mapping[str, str], order: Sequence[str]
    ) -> None:
        self._backends, self._missing, self._order = list(backends), dict(missing), list(order)
        #: Name to Lithops' configuration, of those that have one.
        self.backend_configs = {one.name: one.config for one in backends}

    def run_comparative_analysis(
        self,
        workload_func: Callable[..., Any],
        configurations: Sequence[Any] = ((1, 0, 1),),
        *,
        arguments: Any = NOTHING,
        settings: Any = None,
        quantities: Sequence[str] | None = None,
        fail_if_worse: float | None = None,
    ) -> dict[str, Any]:
        """Runs the workload and says what differs.

        Args:
            workload_func: What each worker calls. Its parameter ``id``, if it has one, is the
                number of the worker, from 0.
            configurations: Each ``(cpu, memory_mb, workers)``, or an object with such a ``key`` as
                FlexExecutor's ``StageConfig``. A memory of 0 is that of the backend's own
                configuration. The CPUs are a name only: a backend's configuration sets them.
            arguments: Of each call: a mapping by name, a list by place, or the only argument.
            settings: `lithowatt.analysis.selection.Settings`: which repetitions count.
            quantities: What is compared, as `lithowatt profile stats` names it.
            fail_if_worse: `worse` of the result names what takes more than this part more than on
                the first backend.

        Returns:
            What ``lithowatt profile compare --by backend --json`` says of the profiles, with
            ``run`` (seed, order, versions), ``backends`` (each with its configurations),
            ``left_out`` (the others with the reason), ``failures``, ``warm_ups`` and
            ``correlation``. After Ctrl-C it holds what had ended by then, and
            ``run.interrupted`` is true.

        Raises:
            MalformedValueError: A configuration or a quantity is none, or the workload does not
                take the arguments. Nothing has run then.
            UnavailableError: No backend could be reached, or no run succeeded: each with the
                reason.
            UnwritableFileError: The output cannot be written.
        """
        keys = _configurations(configurations)
        _known_quantities(quantities)
        data = bound(workload_func, arguments)
        name = _name_of(workload_func)
        with self._folder() as folder:
            run = _Run(self, Keeper(folder, name), workload_func, data, keys)
            with self._shipping():
                run.go()
            return run.result(settings, quantities, fail_if_worse)

    def correlate_backend_results(self, results: Mapping[str, Any]) -> list[dict[str, Any]]:
        """See `lithowatt.analysis.correlate_backend_results`."""
        from lithowatt.analysis.backends import correlate_backend_results

        return correlate_backend_results(results)

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        if self.output is not None:
            yield prepare(self.output, self.append)
            return
        with tempfile.TemporaryDirectory(prefix="lithowatt-compare-") as folder:
            yield Path(folder)

    @contextlib.contextmanager
    def _shipping(self) -> Iterator[None]:
        if not self.ship:
            yield
            return
        from lithowatt.lithops import ship_meter

        with ship_meter():
            yield


class _Run:
    """One session: what is run, in which order, and what became of it."""

    def __init__(
        self,
        analyzer: MultiBackendEnergyAnalyzer,
        keeper: Keeper,
        function: Callable[..., Any],
        data: Any,
        keys: Sequence[Configuration],
    ) -> None:
        self.analyzer = analyzer
        self.keeper = keeper
        self.function = function
        self.data = data
        self.keys = keys
        self.left_out: dict[str, str] = dict(analyzer._missing)
        self.interrupted = False
        self.reached: list[tuple[Backend, Runner]] = []
        self.schedule: list[dict[str, Any]] = []

    # --- running --------------------------------------------------------------

    def go(self) -> None:
        """Runs all there is to run; Ctrl-C ends it, and keeps what ended before."""
        try:
            self._connect()
            if self.reached:
                self._plan()
                self._run_all()
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            for _, runner in self.reached:
                # A second Ctrl-C shall not leave workers of the others behind.
                with contextlib.suppress(KeyboardInterrupt):
                    runner.close()

    def _connect(self) -> None:
        memories = [one.memory_mb for one in self.keys]
        for backend in self.analyzer._backends:
            self._tell(f"connecting to {backend.name} ({backend.kind})")
            runner = self.analyzer._runner(backend)
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    runner.connect(memories, CONNECT_S)
            except JobError as error:
                self.left_out[backend.name] = f"it cannot be reached: {error}"
                self._tell(f"{backend.name} is left out: {error}")
                with contextlib.suppress(Exception):
                    runner.close()
                continue
            except BaseException:
                runner.close()
                raise
            self.reached.append((backend, runner))

    def _plan(self) -> None:
        """Every backend with every configuration, in rounds of a random order each."""
        arms = [(at, key) for at in range(len(self.reached)) for key in self.keys]
        rows = [
            {"key": key.key, "architecture": None, "per_session": self.analyzer.repetitions}
            for _, key in arms
        ]
        wanted = Wanted(sessions=1, pair=False, start=self.analyzer.start, seed=self.analyzer.seed)
        self.schedule = [
            {**one, "backend": self.reached[arms[one["configuration"]][0]][0].name}
            for one in schedule_of(rows, None, wanted)
        ]
        for one in self.schedule:
            one["arm"] = arms[one.pop("configuration")]
        self.keeper.begin(self.head())

    def head(self) -> dict[str, Any]:
        """How this session is run, so that it can be run again."""
        analyzer = self.analyzer
        return {
            "seed": analyzer.seed,
            "repetitions": analyzer.repetitions,
            "start": analyzer.start,
            "start_policy": STARTS[analyzer.start],
            "timeout_s": analyzer.timeout,
            "configurations": [one.key for one in self.keys],
            "backends": [
                {"name": one.name, "kind": one.kind, "configuration_from": one.source}
                for one, _ in self.reached
            ],
            "lithops": next((runner.release for _, runner in self.reached), None),
            "meter_shipped": analyzer.ship,
        }

    def _run_all(self) -> None:
        failed = dict.fromkeys((one.name for one, _ in self.reached), 0)
        well: set[str] = set()
        places = {name: at for at, name in enumerate(self.analyzer._order)}
        for step in self.schedule:
            at, key = step["arm"]
            backend, runner = self.reached[at]
            if backend.name in self.left_out:
                continue
            recorded = not step["discard"]
            what = f"round {step['round']}" if recorded else "warm-up"
            self._tell(f"{step['run']} of {len(self.schedule)}: {backend.name}, {key.key}, {what}")
            context = {
                "backend": backend.kind,
                "backend_name": backend.name,
                "backend_place": places[backend.name],
                "round": step["round"],
                "run": step["run"],
                "seed": self.analyzer.seed,
                "lithops": runner.release,
            }
            calls, error = self._job(runner, key)
            row = self.keeper.keep(key, calls, context, recorded=recorded, error=error)
            if row["error"] is None:
                well.add(backend.name)
                continue
            self._tell(f"{backend.name}, {key.key} failed: {row['error']}")
            failed[backend.name] += 1
            if backend.name not in well and failed[backend.name] >= GIVE_UP:
                self.left_out[backend.name] = (
                    f"its first {GIVE_UP} runs failed, and no more were made: {row['error']}"
                )

    def _job(self, runner: Runner, key: Configuration) -> tuple[list[Call], str | None]:
        timeout = self.analyzer.timeout
        # Calls may run one after the other where there are fewer CPUs than workers.
        patience = timeout * key.workers + GRACE_S
        try:
            with contextlib.redirect_stdout(sys.stderr):
                calls = runner.run(
                    self.function, [self.data] * key.workers, key.memory_mb, timeout, patience
                )
        except JobError as error:
            return error.calls, str(error)
        return calls, None

    def _tell(self, text: str) -> None:
        self.analyzer._progress(text)

    # --- the result -----------------------------------------------------------

    def result(
        self, settings: Any, quantities: Sequence[str] | None, fail_if_worse: float | None
    ) -> dict[str, Any]:
        """What the kept profiles show."""
        from lithowatt.analysis.backends import compare_backends
        from lithowatt.analysis.selection import COLUMNS
        from lithowatt.profiles._runs import read_profiles

        for backend, _ in self.reached:
            rows = [one for one in self.keeper.rows if one["backend_name"] == backend.name]
            recorded = [one for one in rows if one["recorded"]]
            if backend.name in self.left_out or any(one["error"] is None for one in recorded):
                continue
            self.left_out[backend.name] = _nothing(recorded, self.interrupted)
        folder = self.keeper.folder / self.keeper.workload
        log = [
            one
            for one in sessions(self.keeper.folder, self.keeper.workload)
            if "backend_name" in one
        ]
        if not any(self.keeper.profile(one.name).exists() for one, _ in self.reached):
            if self.interrupted:
                raise KeyboardInterrupt
            reasons = "; ".join(f"{name}: {why}" for name, why in self.left_out.items())
            raise UnavailableError(f"no backend could be compared: {reasons}")
        found = compare_backends(
            read_profiles([folder], keep=COLUMNS),
            settings,
            quantities=quantities,
            fail_if_worse=fail_if_worse,
            baseline=self._baseline(),
            log=log,
            left_out=[
                {"backend": name, "reason": self.left_out[name]}
                for name in self.analyzer._order
                if name in self.left_out
            ],
        )
        found["run"] = {
            "workload": self.keeper.workload,
            **self.head(),
            "interrupted": self.interrupted,
            "folder": None if self.analyzer.output is None else os.fspath(self.analyzer.output),
            "order": [
                {"backend": one["backend"], "key": one["key"], "round": one["round"]}
                for one in self.schedule
            ],
        }
        if self.interrupted:
            done, all_ = len(self.keeper.rows), len(self.schedule)
            found["warnings"].append(
                {
                    "code": "interrupted",
                    "text": f"interrupted after {done} of {all_} runs: these are kept",
                    "files": [],
                }
            )
        return found

    def _baseline(self) -> str | None:
        """The first backend that has something to compare with."""
        names = (one.name for one, _ in self.reached)
        return next((one for one in names if self.keeper.profile(one).exists()), None)


def _known_quantities(names: Sequence[str] | None) -> None:
    """Refuses names that `lithowatt profile stats` does not have, before anything runs."""
    from lithowatt.analysis.selection import NAMES

    unknown = [one for one in names or () if one not in NAMES]
    if unknown:
        raise MalformedValueError(
            f"quantity {shown(unknown[0])} is none; expected one of {', '.join(NAMES)}"
        )


def _nothing(recorded: Sequence[Mapping[str, Any]], interrupted: bool) -> str:
    errors = list(dict.fromkeys(str(one["error"]) for one in recorded))
    if errors:
        return f"all its {len(recorded)} recorded runs failed: {errors[0]}"
    return "none of its recorded runs was made" + (", for an interruption" if interrupted else "")


def _configurations(given: Sequence[Any]) -> list[Configuration]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        raise MalformedValueError(
            f"configurations is {shown(given)}: expected a list of (cpu, memory_mb, workers)"
        )
    found = []
    for one in given:
        values = getattr(one, "key", one)
        if isinstance(values, str):
            found.append(Configuration.parse(values))
        elif isinstance(values, Sequence) and len(values) == 3:
            found.append(Configuration.of(values))
        else:
            raise MalformedValueError(
                f"configuration {shown(one)} is not (cpu, memory_mb, workers), e.g. (1, 512, 4)"
            )
    if not found:
        raise MalformedValueError("configurations is empty: expected one at least")
    return list(dict.fromkeys(found))


def _name_of(function: Callable[..., Any]) -> str:
    """The workload's name, as a folder can be called."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", str(getattr(function, "__name__", "workload")))
    name = name.strip("._-")[:60]
    # Of a folder's name these say where a workload ran, and not which it is.
    return name if Label.of(f"{name}/x.json").workload else "workload"
