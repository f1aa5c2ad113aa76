"""What `install` changes in FlexExecutor, and how it is taken back.

FlexExecutor is used with its checkout and the folder in it both on the path, so
its modules exist twice, as `flexecutor.workflow.executor` and as
`workflow.executor`: each is patched by itself, and nothing goes by class.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from types import ModuleType, SimpleNamespace
from typing import Any

from lithowatt._support.harmless import Harmless
from lithowatt._support.hook import hook_here
from lithowatt._support.switches import enabled
from lithowatt.flexecutor import _fields, _notices, _profile
from lithowatt.flexecutor._estimate import Place, estimate, place_of
from lithowatt.flexecutor._given import given_of
from lithowatt.flexecutor._proxy import Failure, MeteredExecutor, meter
from lithowatt.profiles._columns import FunctionTimes
from lithowatt.profiles._file import Configuration
from lithowatt.profiles._values import (
    RIDING,
    TASK_TIMES,
    apply_energy,
    energy_values,
    has_energy,
    set_values,
)

logger = logging.getLogger("lithowatt")

#: The names that FlexExecutor's executor module goes by.
MODULES = ("flexecutor.workflow.executor", "workflow.executor")

#: In a patched module's globals: what was replaced.
_ORIGINALS = "__lithowatt_originals__"

_NEEDED = (
    "AssetType",
    "DAGExecutor",
    "FunctionTimes",
    "ThreadPoolProcessor",
    "load_profiling_results",
    "save_profiling_results",
)

#: Values that only the worker's marks give.
_PHASES = ("energy_read", "energy_compute", "energy_write")

_lock = threading.RLock()


# --- the pieces ---------------------------------------------------------------


class _View:
    """A processor whose executor meters; everything else is the processor's own."""

    def __init__(self, processor: Any, executor: Any) -> None:
        self.__dict__["_lithowatt_processor"] = processor
        self.__dict__["_executor"] = executor

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_lithowatt_processor"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["_lithowatt_processor"], name, value)


def process_stage(
    processor: Any,
    stage: Any,
    original: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    """FlexExecutor's `_process_stage` of a stage, its calls metered and its timings complete."""
    view: Any = None
    inner = getattr(processor, "_executor", None)
    with Harmless("metering a stage"):
        if enabled() and inner is not None:
            if type(inner) is MeteredExecutor:
                inner = inner._lithowatt_inner
            view = _View(processor, meter(inner, functools.partial(_note_failure, stage)))
    if view is None:
        return original(processor, stage, *args, **kwargs)
    future = original(view, stage, *args, **kwargs)
    with Harmless("completing the timings of a stage"):
        place = place_of(inner, getattr(stage, "resource_config", None))
        complete_timings(future, place, str(getattr(stage, "stage_id", "unknown")))
        # FlexExecutor forgets it where another stage of the same batch fails.
        stage.__dict__[_ENDED] = future
    return future


class _Timings:
    """A StageFuture's `get_timings` that fills in the energy of each call."""

    def __init__(
        self, original: Callable[[], Any], future: Any, place: Place, stage: str = "unknown"
    ) -> None:
        self._original = original
        self._future = future
        self._place = place
        self._stage = stage

    def __call__(self) -> Any:
        timings = self._original()
        with Harmless("filling in the energy of a stage's calls"):
            for times, stats in zip(timings, self._future.stats, strict=False):
                with Harmless("filling in the energy of a call"):
                    _complete(times, stats, self._place)
            _notices.say(self._stage, timings, self._future.stats)
        return timings

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, str]]:
        # A copy of the future, here or elsewhere, is as FlexExecutor made it.
        return getattr, (self._future, "get_timings")


def complete_timings(future: Any, place: Place, stage: str = "unknown") -> None:
    """Has a StageFuture's `get_timings` fill in the energy of each call."""
    original = future.get_timings
    if not isinstance(original, _Timings):
        future.get_timings = _Timings(original, future, place, stage)


def _complete(times: Any, stats: Any, place: Place) -> None:
    stats = stats if isinstance(stats, dict) else {}
    # What the worker left on the times itself: FlexExecutor may have written
    # zeros over the fields that it knows, for what the stats do not have.
    riding = times.__dict__.get(RIDING) or {}
    values = energy_values(stats)
    if has_energy(stats):
        for name in _PHASES:
            if values[name] is None:
                values[name] = riding.get(name)
    else:
        known = riding or estimate(times, stats, place)
        values.update({name: known[name] for name in known if name not in TASK_TIMES})
    set_values(times, values)


#: Attribute of a stage: the `Failure` of its run.
_FAILURE = "_lithowatt_failure"

#: Attribute of a stage: the future of its run, when that has ended well.
_ENDED = "_lithowatt_ended"

#: Attribute of a DAGExecutor: what it runs is for a profile.
_PROFILING = "_lithowatt_profiling"


def _note_failure(stage: Any, failure: Failure) -> None:
    """Keeps what a failed stage used, until its run has ended."""
    stage.__dict__[_FAILURE] = failure


def _failed_record(stage: Any, failure: Failure) -> dict[str, Any]:
    error = f"{type(failure.error).__name__}: {failure.error}"
    return _record(stage, error, [_times_of(stats) for stats in failure.calls])


def _ended_record(stage: Any, ended: Any, failed: list[str]) -> dict[str, Any]:
    error = f"not in the profile: stage {', '.join(failed) or 'unknown'} failed"
    calls: list[Any] = [_times_of(stats) for stats in ended.stats]
    if None in calls:
        # The energy is on the results, which need to be fetched.
        calls = ended.get_timings()
    return _record(stage, error, calls)


def _times_of(stats: Any) -> FunctionTimes | None:
    """The energy of a call that left no FunctionTimes, None where nothing is known of it."""
    return apply_energy(FunctionTimes(), stats) if has_energy(stats) else None


def _record(stage: Any, error: str, calls: list[Any]) -> dict[str, Any]:
    from lithowatt.profiles import _sidecar

    resources = getattr(stage, "resource_config", None)
    name = str(getattr(stage, "stage_id", "unknown"))
    key = None if resources is None else Configuration.of(resources.key).key
    return _sidecar.failure(name, key, error, calls)


def _keep_failures(executor: Any, asset: Any) -> None:
    """Writes what a failed run used into the sidecars of its stages' profiles.

    The stages that had ended well are among them: FlexExecutor profiles a run
    when all of it is done, so this one is in no profile.
    """
    failed = [stage.stage_id for stage in executor._dag.stages if _FAILURE in stage.__dict__]
    for stage in executor._dag.stages:
        with Harmless("keeping what a stage of a failed run used"):
            failure = stage.__dict__.pop(_FAILURE, None)
            ended = stage.__dict__.pop(_ENDED, None)
            if failure is not None:
                record = _failed_record(stage, failure)
            elif ended is not None:
                record = _ended_record(stage, ended, failed)
            else:
                continue
            logger.info(
                "%s of a failed run used %s J", record["stage"], record["energy_known"] or "unknown"
            )
            # A run that is for no profile shall not leave files.
            if executor.__dict__.get(_PROFILING):
                path = executor._get_asset_path(stage, asset)
                _profile.record_failure(path, record)


def _context(executor: Any, resources: Any) -> dict[str, Any]:
    inner = getattr(executor, "_executor", None)
    lithops = sys.modules.get("lithops")
    given = given_of(inner, resources)
    return {
        "dag": str(getattr(getattr(executor, "_dag", None), "dag_id", "")) or None,
        "backend": place_of(inner, None).backend,
        "given": None if given is None else given.record(),
        "lithops": getattr(lithops, "__version__", None),
    }


def store_profiling(
    executor: Any, original: Callable[..., None], core: list[str], *args: Any, **kwargs: Any
) -> None:
    """FlexExecutor's `_store_profiling(profile_data, new_profile_data, resource_config)`."""

    def own() -> None:
        original(executor, *args, **kwargs)

    names = ("profile_data", "new_profile_data", "resource_config")
    given = dict(zip(names, args, strict=False)) | kwargs
    if not enabled() or set(given) != set(names):
        return own()
    _profile.store(
        given["profile_data"],
        given["new_profile_data"],
        given["resource_config"],
        own,
        core,
        lambda: _context(executor, given["resource_config"]),
    )


def execute_with_profiling(
    executor: Any,
    namespace: MutableMapping[str, Any],
    num_workers: int | None = None,
    configurations: list[dict[str, Any]] | None = None,
    num_reps: int = 1,
) -> dict[str, Any]:
    """Runs a DAG and writes the profile of each of its stages.

    Args:
        executor: A DAGExecutor that meters.
        namespace: The globals of its module.
        num_workers: Workers for every stage, as `DAGExecutor.execute` takes it.
        configurations: Run these instead, `num_reps` times each; as
            `DAGExecutor.profile` takes them.
        num_reps: Repetitions.

    Returns:
        The StageFuture of each stage's last run, by stage id.

    Raises:
        ValueError: For numbers below 1, and for `num_workers` with `configurations`.
    """
    for name, value in (("num_workers", num_workers), ("num_reps", num_reps)):
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        if not whole and not (value is None and name == "num_workers"):
            raise ValueError(f"{name} {value!r:.80} is not a whole number of 1 or more")
    if num_workers is not None and configurations is not None:
        raise ValueError("num_workers goes with no configurations: each has its own workers")
    futures: dict[str, Any] = {}
    if configurations is not None:
        executor.profile(configurations, num_reps)
        futures = executor._futures
        return futures
    asset = namespace["AssetType"].PROFILE
    for _ in range(num_reps):
        futures = executor.execute(num_workers)
        for stage in executor._dag.stages:
            future = futures.get(stage.stage_id)
            if future is None or future.error():
                continue
            path = executor._get_asset_path(stage, asset)
            profile = namespace["load_profiling_results"](path)
            executor._store_profiling(profile, future.get_timings(), stage.resource_config)
            namespace["save_profiling_results"](path, profile)
    return futures


# --- patching a module --------------------------------------------------------


def fault(namespace: MutableMapping[str, Any]) -> str | None:
    """Why a module is not FlexExecutor's executor as we know it, None where it is."""
    missing = [name for name in _NEEDED if not callable(namespace.get(name))]
    if missing:
        return f"it has no {', '.join(missing)}"
    methods = {
        "DAGExecutor": ("_store_profiling", "_get_asset_path", "execute", "profile"),
        "ThreadPoolProcessor": ("_process_stage",),
    }
    for owner, names in methods.items():
        for name in names:
            if not callable(getattr(namespace[owner], name, None)):
                return f"its {owner} has no {name}"
    return None


def patch_executor(namespace: MutableMapping[str, Any]) -> bool:
    """Meters FlexExecutor's executor module whose globals these are, once.

    The last lines of a vendored copy may call it with `globals()`. Never raises;
    returns False, and logs why, where metering is switched off or the module
    is not as we know it.
    """
    trouble = Harmless("patching FlexExecutor")
    done = False
    with trouble:
        done = _patch(namespace)
    if trouble.trouble:
        logger.warning("FlexExecutor is left alone: %s", trouble.trouble)
    return done


def patch_imported(module: ModuleType) -> None:
    """`patch_executor` of a module that the hook saw imported."""
    patch_executor(module.__dict__)


def _patch(namespace: MutableMapping[str, Any]) -> bool:
    if not enabled():
        return False
    with _lock:
        if _ORIGINALS in namespace:
            return True
        why = fault(namespace)
        if why is not None:
            logger.warning("%s is left alone: %s", namespace.get("__name__"), why)
            return False
        dag, processor = namespace["DAGExecutor"], namespace["ThreadPoolProcessor"]
        methods = _methods(dag, namespace)
        originals: dict[str, Any] = {
            name: _plain(namespace[name])
            for name in ("load_profiling_results", "save_profiling_results")
        }
        originals.update({name: (dag, dag.__dict__.get(name)) for name in methods})
        # The module's other copy has the same processor, perhaps patched already.
        if not hasattr(processor._process_stage, _ORIGINAL):
            originals["_process_stage"] = (processor, processor.__dict__["_process_stage"])
        namespace[_ORIGINALS] = originals
        try:
            _use_our_files(namespace)
            _fields.extend(namespace["FunctionTimes"])
            if "_process_stage" in originals:
                processor._process_stage = _process_stage_of(processor._process_stage)
            for name, value in methods.items():
                setattr(dag, name, value)
        except BaseException:
            unpatch_executor(namespace)
            raise
    return True


#: Attribute of a function of ours: the one of FlexExecutor's that it stands for.
_ORIGINAL = "__lithowatt_original__"


def _plain(function: Any) -> Any:
    """FlexExecutor's own function behind ours."""
    return getattr(function, _ORIGINAL, function)


def _use_our_files(namespace: MutableMapping[str, Any]) -> None:
    load = _plain(namespace["load_profiling_results"])
    save = _plain(namespace["save_profiling_results"])

    @functools.wraps(load)
    def load_profiling_results(file: str) -> Any:
        return _profile.load(file, load) if enabled() else load(file)

    @functools.wraps(save)
    def save_profiling_results(file: str, profile_data: Any) -> None:
        _profile.save(file, profile_data, save)

    setattr(load_profiling_results, _ORIGINAL, load)
    setattr(save_profiling_results, _ORIGINAL, save)
    namespace["load_profiling_results"] = load_profiling_results
    namespace["save_profiling_results"] = save_profiling_results


def _process_stage_of(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def _process_stage(self: Any, stage: Any, *args: Any, **kwargs: Any) -> Any:
        return process_stage(self, stage, original, *args, **kwargs)

    setattr(_process_stage, _ORIGINAL, original)
    return _process_stage


@contextlib.contextmanager
def _profiling(executor: Any) -> Iterator[None]:
    """Marks what `execute` does as being for a profile."""
    before = executor.__dict__.get(_PROFILING, False)
    executor.__dict__[_PROFILING] = True
    try:
        yield
    finally:
        executor.__dict__[_PROFILING] = before


def _methods(dag: Any, namespace: MutableMapping[str, Any]) -> dict[str, Any]:
    """The methods of a DAGExecutor that meters, on top of those of `dag`."""
    plain_store, plain_execute, plain_profile = dag._store_profiling, dag.execute, dag.profile

    @functools.wraps(plain_store)
    def _store_profiling(self: Any, *args: Any, **kwargs: Any) -> None:
        core = list(namespace["FunctionTimes"].profile_keys())
        store_profiling(self, plain_store, core, *args, **kwargs)

    @functools.wraps(plain_execute)
    def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        with Harmless("forgetting earlier runs of the stages"):
            for stage in self._dag.stages:
                stage.__dict__.pop(_ENDED, None)
                stage.__dict__.pop(_FAILURE, None)
        try:
            return plain_execute(self, *args, **kwargs)
        except (Exception, SystemExit):  # Lithops raises what a call raised
            with Harmless("keeping what failed stages used"):
                _keep_failures(self, namespace["AssetType"].PROFILE)
            raise

    @functools.wraps(plain_profile)
    def profile(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _profiling(self):
            return plain_profile(self, *args, **kwargs)

    def with_profiling(
        self: Any,
        num_workers: int | None = None,
        configurations: list[dict[str, Any]] | None = None,
        num_reps: int = 1,
    ) -> dict[str, Any]:
        with _profiling(self):
            return execute_with_profiling(self, namespace, num_workers, configurations, num_reps)

    with_profiling.__name__ = "execute_with_profiling"
    with_profiling.__doc__ = execute_with_profiling.__doc__
    return {
        "_store_profiling": _store_profiling,
        "execute": execute,
        "profile": profile,
        "execute_with_profiling": with_profiling,
    }


def unpatch_executor(namespace: MutableMapping[str, Any]) -> None:
    """Puts back what `patch_executor` replaced."""
    with _lock:
        originals = namespace.pop(_ORIGINALS, None)
        if originals is None:
            return
        for name, value in originals.items():
            if not isinstance(value, tuple):
                namespace[name] = value
                continue
            owner, method = value
            if method is None:
                if name in owner.__dict__:
                    delattr(owner, name)
            else:
                setattr(owner, name, method)


# --- installing ---------------------------------------------------------------


def install() -> bool:
    """Meters every FlexExecutor workflow of this process: joules in times and profiles.

    Each stage call's FunctionTimes get the fields of `PROFILE_COLUMNS`, and the
    profile files their columns and a sidecar; executors that exist already
    included. Calling it again changes nothing; FlexExecutor may be imported
    before or after. `uninstall` takes it back.

    Returns:
        False where `ENERGY_MONITORING_ENABLED` switches metering off, or the
        FlexExecutor found is not as we know it (which is logged); else True.

    Raises:
        ImportError: FlexExecutor is not on the path.

    Example:
        >>> import lithowatt.flexecutor
        >>> lithowatt.flexecutor.install()  # doctest: +SKIP
        True
    """
    if not enabled():
        return False
    with _lock:
        loaded = [name for name in MODULES if name in sys.modules]
        if not loaded and _spec(MODULES[0]) is None:
            raise ImportError(
                "FlexExecutor is not on the path: add its checkout, and the folder flexecutor "
                "in it, to PYTHONPATH"
            )
        watch()
        done = [
            patch_executor(sys.modules[name].__dict__) for name in MODULES if name in sys.modules
        ]
    return all(done)


def watch() -> None:
    """Patches FlexExecutor when it is imported, should it be.

    The module behind the wheel's `.pth` does that. Where only the package is on
    the path, as a bare copy, FlexExecutor is imported here and now.
    """
    try:
        hook = importlib.import_module("_lithowatt_hook")
    except ImportError:
        patch_executor(importlib.import_module(MODULES[0]).__dict__)
        return
    hook.watch(*MODULES)


def unwatch() -> None:
    """Ends `watch`."""
    hook = hook_here()
    if hook is not None:
        hook.unwatch(*MODULES)


def _spec(name: str) -> Any:
    try:
        return importlib.util.find_spec(name.split(".")[0])
    except (ImportError, ValueError):
        return None


def uninstall() -> None:
    """Leaves FlexExecutor in this process as it was written. Calling it again changes nothing."""
    with _lock:
        unwatch()
        for name in MODULES:
            module = sys.modules.get(name)
            if module is not None:
                unpatch_executor(module.__dict__)
                _fields.restore(getattr(module, "FunctionTimes", None))


def installed() -> bool:
    """Whether a FlexExecutor that is loaded in this process meters."""
    return any(name in sys.modules and _ORIGINALS in sys.modules[name].__dict__ for name in MODULES)


# --- EnergyDAGExecutor --------------------------------------------------------


@functools.cache
def energy_dag_executor() -> type:
    """FlexExecutor's DAGExecutor that meters, whatever is installed.

    Raises:
        ImportError: FlexExecutor is not on the path.
    """
    module = importlib.import_module(MODULES[0])
    namespace = module.__dict__
    why = fault(namespace)
    if why is not None:
        raise ImportError(f"{module.__name__} is not FlexExecutor as lithowatt knows it: {why}")
    base = namespace["DAGExecutor"]
    if enabled():
        _fields.extend(namespace["FunctionTimes"])

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        base.__init__(self, *args, **kwargs)
        original = type(self._processor)._process_stage

        def _process_stage(stage: Any, *more: Any, **named: Any) -> Any:
            return process_stage(self._processor, stage, original, *more, **named)

        self._processor._process_stage = _process_stage

    # On top of FlexExecutor's own methods, also where those are replaced by `install`.
    plain = namespace.get(_ORIGINALS, {})
    original = SimpleNamespace(
        **{
            name: plain[name][1] if name in plain else getattr(base, name)
            for name in ("_store_profiling", "execute", "profile")
        }
    )

    def with_files(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def metered(self: Any, *args: Any, **kwargs: Any) -> Any:
            with _metered_files(namespace):
                return method(self, *args, **kwargs)

        return metered

    methods = _methods(original, namespace)
    for name in ("profile", "execute_with_profiling"):
        methods[name] = with_files(methods[name])

    body = {
        "__doc__": (
            "FlexExecutor's DAGExecutor whose stages carry their energy.\n\n"
            "Takes what DAGExecutor takes and does what it does; FunctionTimes and profile\n"
            "files get the fields of `PROFILE_COLUMNS`. `execute_with_profiling(num_workers=None,\n"
            "configurations=None, num_reps=1)` runs the DAG, or each of the configurations,\n"
            "and writes the profile of every stage."
        ),
        "__module__": "lithowatt.flexecutor",
        "__init__": __init__,
        **methods,
    }
    return type("EnergyDAGExecutor", (base,), body)


_files_in_use: Counter[int] = Counter()


@contextlib.contextmanager
def _metered_files(namespace: MutableMapping[str, Any]) -> Iterator[None]:
    """While it lasts, a module reads and writes profiles our way, for all of its threads."""
    with _lock:
        _files_in_use[id(namespace)] += 1
        if enabled():
            _use_our_files(namespace)
    try:
        yield
    finally:
        with _lock:
            _files_in_use[id(namespace)] -= 1
            if _files_in_use[id(namespace)] == 0 and _ORIGINALS not in namespace:
                for name in ("load_profiling_results", "save_profiling_results"):
                    namespace[name] = _plain(namespace[name])
