"""lithowatt in FlexExecutor, piece by piece: columns, proxy, worker, estimate, patch."""

from __future__ import annotations

import copy
import dataclasses
import errno
import functools
import json
import logging
import os
import pickle
import random
import subprocess
import sys
import types
import typing
from typing import Any

import pytest

import lithowatt.flexecutor as flexecutor
from lithowatt import EnergyMeter
from lithowatt.flexecutor import (
    COLUMN_NAMES,
    PROFILE_COLUMNS,
    FunctionTimes,
    _fields,
    _notices,
    apply_energy,
    dag_energy,
    energy_values,
    meter,
    metered_stage,
    patch_executor,
)
from lithowatt.flexecutor import _profile as profile_files
from lithowatt.flexecutor._estimate import METHOD, NO_WHEEL, Place, estimate, place_of
from lithowatt.flexecutor._patch import (
    complete_timings,
    execute_with_profiling,
    unpatch_executor,
)
from lithowatt.flexecutor._training import SEED_COLUMN, complete_training
from lithowatt.lithops._worker import _HEADLINE
from lithowatt.meter._engine import new_engine
from lithowatt.profiles import (
    Configuration,
    _sidecar,
    append_repetition,
    read_profile,
    read_sidecar,
    write_profile,
)
from lithowatt.profiles._values import has_energy
from tests.support import TOP

# --- columns ------------------------------------------------------------------


def test_columns_and_fields_are_the_same_names():
    fields = set(FunctionTimes.__dataclass_fields__)
    assert set(COLUMN_NAMES) | {"read", "compute", "write", "cold_start", "total"} == fields
    assert all(column.unit in ("J", "s", "%", "text", "count") for column in PROFILE_COLUMNS)
    assert len(set(COLUMN_NAMES)) == len(COLUMN_NAMES)


def stats(**more: Any) -> dict[str, Any]:
    return {f"worker_func_{key}": value for key, value in more.items()}


def test_a_share_of_the_machine_sums_to_the_machine():
    machine = {"energy_machine": 100.0, "rapl_energy_pkg": 80.0, "rapl_energy_total": 100.0}
    shares = [20.0, 30.0, 50.0]
    calls = [energy_values(stats(energy_consumption=part, **machine)) for part in shares]
    assert sum(call["rapl_energy_pkg"] for call in calls) == pytest.approx(80.0)
    assert sum(call["rapl_energy_total"] for call in calls) == pytest.approx(100.0)
    assert all(call["rapl_energy_cores"] is None for call in calls)
    assert all(call["machine_energy"] == 100.0 for call in calls)


@pytest.mark.parametrize(
    ("consumption", "machine"),
    [(None, 10.0), (1.0, None), (1.0, 0.0), (1.0, float("nan")), (True, 10.0), ("1", 10.0)],
)
def test_without_a_share_there_is_no_reading(consumption, machine):
    values = energy_values(
        stats(energy_consumption=consumption, energy_machine=machine, rapl_energy_pkg=5.0)
    )
    assert values["rapl_energy_pkg"] is None


def test_joules_of_another_meter_are_not_taken_for_lithowatts():
    # What the Lithops of FlexExecutor's energy fork leaves: percent times CPU seconds.
    foreign = stats(
        energy_consumption=262588.8,
        energy_duration=0.4,
        energy_method_used="null, null, null, psutil",
        rapl_energy_pkg=401.0,
        perf_energy_cores=12.0,
        ebpf_energy_total=0.0,
        psutil_cpu_percent=3.0,
    )
    assert not has_energy(foreign)
    times = apply_energy(FunctionTimes(compute=0.49), {**foreign, "worker_exec_time": 0.6})
    assert times.time_consumption == 0.6
    for column in PROFILE_COLUMNS:
        if column.unit == "J" or column.name.startswith(("energy", "measurement", "psutil")):
            assert getattr(times, column.name) is None, column.name


def test_each_form_of_our_message_is_known():
    with EnergyMeter() as m:
        sum(range(1000))
    assert has_energy(m.stats())
    assert has_energy(json.loads(m.stats_json(compact=True)))
    headline = {key: m.stats()[key] for key in _HEADLINE if key in m.stats()}
    assert has_energy(headline)
    assert "worker_func_energy_schema" in headline and "worker_func_energy_definition" in headline
    assert not has_energy(None) and not has_energy({})


def test_a_share_never_exceeds_the_machine():
    values = energy_values(stats(energy_consumption=11.0, energy_machine=10.0, perf_energy_pkg=5.0))
    assert values["perf_energy_pkg"] == 5.0


def test_numbers_of_numpy_are_numbers():
    numpy = pytest.importorskip("numpy")
    seen = stats(energy_consumption=numpy.float32(1.5), energy_quality=numpy.array([1.0]))
    values = energy_values({**seen, "worker_processor_threads": numpy.int64(3)})
    assert (values["energy"], values["cpu_cores_logical"]) == (1.5, 3)
    assert values["energy_quality"] is None


def test_values_are_what_a_profile_can_hold():
    hostile = stats(energy_consumption=float("inf"), energy_quality="", psutil_cpu_percent=[1])
    hostile |= {"worker_processor_info": "x", "worker_start_tstamp": 9, "worker_end_tstamp": 1}
    values = energy_values(hostile)
    assert set(values) == set(COLUMN_NAMES)
    assert all(value is None for value in values.values())
    json.dumps(values, allow_nan=False)


def test_the_seeds_fields_have_the_values_of_the_stats():
    seen = {
        "worker_exec_time": 2.5,
        "worker_start_tstamp": 10.0,
        "worker_end_tstamp": 12.75,
        "worker_processor_name": "AMD EPYC",
        "worker_processor_cores": 1,
        "worker_processor_threads": 2,
        "worker_processor_info": {"architecture": "x86_64"},
        **stats(
            energy_method_used="null, rapl, null, psutil",
            psutil_cpu_percent=41.0,
            tdp_energy=3.25,
            aws_instance_type="lambda-function",
            aws_architecture="x86_64",
            aws_is_lambda=True,
            aws_memory_size=1024,
        ),
    }
    times = apply_energy(FunctionTimes(), seen)
    assert times.time_consumption == 2.5
    assert times.worker_time_execution == 2.75
    assert times.measurement_energy == "null, rapl, null, psutil"
    assert times.TDP == 3.25
    assert (times.cpu_name, times.cpu_architecture) == ("AMD EPYC", "x86_64")
    assert (times.cpu_cores_physical, times.cpu_cores_logical) == (1, 2)
    assert times.aws_cpu == "type:lambda-function|arch:x86_64|lambda:True|mem:1024"


def test_off_aws_nothing_claims_to_be_there():
    with EnergyMeter() as m:
        sum(range(1000))
    values = energy_values(m.stats())
    assert values["aws_cpu"] is None
    assert values["energy"] == m.joules


# --- worker -------------------------------------------------------------------


class Context:
    """What a stage's function gets, as far as metering is concerned."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def download_files(self) -> str:
        self.calls.append("download")
        burn(2)
        return "downloaded"

    def upload_files(self) -> None:
        self.calls.append("upload")
        burn(2)


def burn(thousands: int) -> int:
    return sum(i * i for i in range(1000 * thousands * 10))


def stage(ctx: Any) -> Any:
    assert ctx.download_files() == "downloaded"
    burn(6)
    ctx.upload_files()
    return "result", FunctionTimes(read=0.1, compute=0.2, write=0.3)


def test_a_stage_call_gets_its_energy_by_phase():
    context = Context()
    result, times = metered_stage(stage)(context)
    assert result == "result" and context.calls == ["download", "upload"]
    assert times.energy > 0 and times.energy_low <= times.energy <= times.energy_high
    assert 0 < times.energy_read < times.energy_compute
    assert times.energy_read + times.energy_compute + times.energy_write <= times.energy * 1.001
    # The context is FlexExecutor's own again.
    assert vars(context) == {"calls": ["download", "upload"]}


def test_a_context_sent_elsewhere_is_as_it_was_made():
    class Seen(Exception):
        pass

    def function(ctx: Any) -> Any:
        ctx.download_files()
        copy = pickle.loads(pickle.dumps(ctx))
        assert isinstance(copy.upload_files, types.MethodType)
        raise Seen

    context = Context()
    with pytest.raises(Seen):
        metered_stage(function)(context)
    assert vars(context) == {"calls": ["download"]}


def test_a_context_by_name_and_other_arguments():
    def function(first: int, *, context: Any, more: int = 2) -> Any:
        context.download_files()
        return first + more, FunctionTimes(read=0.1)

    (result, times) = metered_stage(function)(1, context=Context())
    assert result == 3 and times.energy_read > 0


@pytest.mark.parametrize("value", [None, 7, "text", (1, 2), (1, 2, 3), [1, FunctionTimes()]])
def test_what_is_not_a_result_with_times_comes_back_as_it_is(value):
    assert metered_stage(lambda ctx: value)(Context()) is value


def test_exceptions_are_the_functions_own():
    class Odd(BaseException):
        pass

    def function(ctx: Any) -> Any:
        raise Odd("no")

    for error in (Odd, KeyboardInterrupt, SystemExit):
        with pytest.raises(error):
            metered_stage(lambda ctx, error=error: (_ for _ in ()).throw(error))(Context())


def test_whatever_fails_in_metering_the_call_goes_on(monkeypatch):
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the meter is broken")

    monkeypatch.setattr("lithowatt.flexecutor._worker.new_engine", broken)
    assert metered_stage(stage)(Context())[0] == "result"
    monkeypatch.undo()

    class Failing:
        def __init__(self, method: str) -> None:
            self.engine = new_engine()
            setattr(self, method, broken)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.engine, name)

    for method in ("enter_phase", "leave_phase", "stop", "taken"):
        failing = functools.partial(Failing, method)
        monkeypatch.setattr("lithowatt.flexecutor._worker.new_engine", failing)
        assert metered_stage(stage)(Context())[0] == "result"
        monkeypatch.undo()


def test_times_that_take_no_attributes_are_left_alone():
    class Closed:
        __slots__ = ("compute", "read")

        def __init__(self) -> None:
            self.read = self.compute = 1.0

    _, times = metered_stage(lambda ctx: (None, Closed()))(Context())
    assert (times.read, times.compute) == (1.0, 1.0)


def test_switched_off_nothing_is_touched(monkeypatch):
    monkeypatch.setenv("ENERGY_MONITORING_ENABLED", "off")
    _, times = metered_stage(stage)(Context())
    assert times == FunctionTimes(read=0.1, compute=0.2, write=0.3)


def test_metering_twice_is_metering_once():
    once = metered_stage(stage)
    assert metered_stage(once) is once


def test_the_function_runs_where_lithowatt_is_not_installed(tmp_path):
    cloudpickle = pytest.importorskip("cloudpickle")

    def alone(ctx):
        ctx.download_files()
        return "fine", ctx

    (tmp_path / "function").write_bytes(cloudpickle.dumps(metered_stage(alone)))
    script = (
        "import sys, pickle\n"
        "class Nothing:\n"
        "    def find_spec(self, name, *more):\n"
        "        if name.split('.')[0] == 'lithowatt': raise ImportError('not here')\n"
        "sys.meta_path.insert(0, Nothing())\n"
        "class Context:\n"
        "    def download_files(self): pass\n"
        "    def upload_files(self): pass\n"
        "c = Context()\n"
        "r = pickle.load(open('function', 'rb'))(c)\n"
        "print(r[0], r[1] is c, 'lithowatt' in sys.modules, vars(c))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("fine True False {}\n", "")


def test_lithops_packs_nothing_of_ours_with_the_function():
    serialize = pytest.importorskip("lithops.job.serialize")

    def alone(ctx):
        return ctx

    with_, without = (
        serialize.SerializeIndependent([])._module_inspect(function)
        for function in (metered_stage(alone), alone)
    )
    assert with_ == without


# --- proxy --------------------------------------------------------------------


class Executor:
    """A FunctionExecutor that runs its calls in place."""

    def __init__(self, error: Exception | None = None) -> None:
        self.config = {"lithops": {"backend": "localhost"}}
        self.error = error
        self.mapped: Any = None

    def map(self, map_function: Any, map_iterdata: Any, runtime_memory: int = 0) -> Any:
        self.mapped = map_function
        return [types.SimpleNamespace(value=map_function(item), stats={}) for item in map_iterdata]

    def wait(self, fs: Any = None, timeout: float | None = None) -> Any:
        if self.error:
            raise self.error
        return fs, []


def test_the_proxy_is_the_executor_in_all_else():
    inner = Executor()
    proxy = meter(inner)
    assert isinstance(proxy, Executor)
    assert proxy.config is inner.config
    proxy.extra = 5
    assert inner.extra == 5  # type: ignore[attr-defined]
    del proxy.extra
    assert not hasattr(inner, "extra")
    assert meter(proxy) is proxy and meter(None) is None
    futures = proxy.map(map_function=stage, map_iterdata=[Context()], runtime_memory=512)
    assert futures[0].value[1].energy > 0
    assert proxy.wait(futures) == (futures, [])


def test_a_failed_wait_is_told_and_raised():
    error = ValueError("call failed")
    failures: list[Any] = []
    proxy = meter(Executor(error), failures.append)
    futures = [types.SimpleNamespace(stats={"a": 1}), types.SimpleNamespace(), None]
    with pytest.raises(ValueError, match="call failed"):
        proxy.wait(futures)
    assert failures[0].error is error and failures[0].calls == [{"a": 1}, None]

    def broken(failure: Any) -> None:
        raise RuntimeError("no disk")

    with pytest.raises(ValueError, match="call failed"):
        meter(Executor(error), broken).wait(futures)


# --- estimate -----------------------------------------------------------------


def test_the_place_of_a_stage_comes_from_configuration_and_resources():
    executor = types.SimpleNamespace(
        config={"lithops": {"backend": "aws_lambda"}, "aws_lambda": {"architecture": "arm64"}}
    )
    resources = types.SimpleNamespace(cpu=1, memory=1024)
    assert place_of(executor, resources) == Place("aws_lambda", "arm64", 1024.0, 1.0)
    assert place_of(object(), None) == Place(None)
    assert place_of(types.SimpleNamespace(config="x", backend=3), None) == Place(None)


@pytest.mark.parametrize(
    ("place", "definition", "watts"),
    [
        (Place("localhost"), "marginal", (0.5, 30)),
        (Place("aws_lambda", "arm64", 1024.0), "amortised", (0.3, 3)),
        (Place("aws_lambda", None, None), "amortised", (0.5, 8)),
        (Place("gcp_cloudrun", None, 512.0, 2.0), "amortised", (1, 12)),
        # A pod is a machine, and so is what nobody knows.
        (Place("k8s", None, 512.0, 2.0), "marginal", (0.5, 12)),
        (Place(None), "marginal", (0.5, 8)),
    ],
)
def test_an_estimate_has_a_band_and_says_what_it_is(place, definition, watts):
    times = FunctionTimes(read=0.5, compute=9.0, write=0.5)
    values = estimate(times, {"worker_func_exec_time": 10.0}, place)
    assert values["energy_method"] == METHOD and values["energy_quality"] == "modelled"
    assert values["energy_definition"] == definition
    assert watts[0] < values["energy"] / 10.0 < watts[1]
    assert values["energy_low"] < values["energy"] < values["energy_high"]
    twice = estimate(
        FunctionTimes(read=1.0, compute=18.0, write=1.0), {"worker_func_exec_time": 20.0}, place
    )
    assert twice["energy"] == pytest.approx(2 * values["energy"])


def test_a_call_of_unknown_length_gets_no_estimate():
    assert estimate(FunctionTimes(), {}, Place("localhost")) == {}
    assert estimate(FunctionTimes(read=-1.0, compute=float("nan")), {}, Place(None)) == {}


# --- profile in memory --------------------------------------------------------


class Resources:
    key = (1, 512, 2)


def load(path: Any) -> Any:
    def refused(file: str) -> Any:
        raise ValueError("upstream cannot read it either")

    return profile_files.load(str(path), refused)


def store(profile: Any, energies: list[float]) -> None:
    def own() -> None:
        metrics = profile.setdefault(Resources.key, {})
        # No two runs take the same times.
        metrics.setdefault("read", []).append([random.random() for _ in energies])

    times = [FunctionTimes(read=0.1, energy=energy) for energy in energies]
    profile_files.store(profile, times, Resources, own, ["read"], dict)


def upstream(file: str, data: Any) -> None:
    raise AssertionError("not to be needed")


def test_two_profiles_of_one_file_are_merged_when_saved(tmp_path):
    file = str(tmp_path / "stage.json")
    one, two = load(file), load(file)
    store(one, [1.0, 2.0])
    profile_files.save(file, one, upstream)
    store(two, [3.0, 4.0])
    store(two, [5.0, 6.0])
    profile_files.save(file, two, upstream)
    store(one, [7.0, 8.0])
    profile_files.save(file, one, upstream)
    profile_files.save(file, two, upstream)  # nothing new: nothing twice
    expected = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]
    assert read_profile(file)[Configuration(1, 512, 2)]["energy"] == expected
    assert one[1, 512, 2]["energy"] == expected
    records = read_sidecar(file)["configurations"]["(1, 512, 2)"]
    assert [record["energy"] for record in records] == [3.0, 7.0, 11.0, 15.0]


def test_what_others_take_away_or_add_moves_no_record(tmp_path):
    file = tmp_path / "stage.json"
    profile = load(file)
    for energy in (1.0, 2.0, 3.0):
        store(profile, [energy])
        profile_files.save(str(file), profile, upstream)
    # Somebody without lithowatt writes what it knew, and something of its own.
    plain = json.loads(file.read_text())
    reads = plain["(1, 512, 2)"]["read"]
    plain["(1, 512, 2)"] = {"read": [reads[0], reads[1], [0.123]]}
    file.write_text(json.dumps(plain))
    store(profile, [4.0])
    profile_files.save(str(file), profile, upstream)
    metrics = read_profile(file)[Configuration(1, 512, 2)]
    assert metrics["read"][:3] == [*reads[:2], [0.123]] and len(metrics["read"]) == 5
    assert metrics["energy"] == [[None], [None], [None], [3.0], [4.0]]
    records = read_sidecar(file)["configurations"]["(1, 512, 2)"]
    assert [record and record["energy"] for record in records] == [1.0, 2.0, None, 3.0, 4.0]


def test_profiles_and_futures_can_be_copied_and_sent(tmp_path):
    profile = load(tmp_path / "stage.json")
    store(profile, [1.0])
    for other in (copy.deepcopy(profile), pickle.loads(pickle.dumps(profile))):
        assert other == profile and other.records == profile.records
    future = Future()
    complete_timings(future, Place("localhost"))
    assert future.get_timings()[0].energy_method == METHOD
    for other in (copy.deepcopy(future), pickle.loads(pickle.dumps(future))):
        # As FlexExecutor made it, for a place that need not have lithowatt.
        assert type(other.get_timings).__name__ == "method"


class Future:
    """A StageFuture of one call, whose worker had no lithowatt."""

    stats: typing.ClassVar = [{"worker_func_exec_time": 2.0, "worker_exec_time": 2.5}]

    def get_timings(self) -> Any:
        return [FunctionTimes(read=0.5, compute=1.0, write=0.5)]


def test_a_file_damaged_meanwhile_is_moved_aside(tmp_path, caplog):
    file = tmp_path / "stage.json"
    profile = load(file)
    store(profile, [1.0])
    profile_files.save(str(file), profile, upstream)
    file.write_text('{"(1, 512')
    store(profile, [2.0])
    with caplog.at_level(logging.WARNING, logger="lithowatt"):
        profile_files.save(str(file), profile, upstream)
    assert "damaged-1" in caplog.text
    assert (tmp_path / "stage.json.damaged-1").read_text() == '{"(1, 512'
    # Whole again: what was there before is in memory, too.
    assert read_profile(file)[Configuration(1, 512, 2)]["energy"] == [[1.0], [2.0]]
    records = read_sidecar(file)["configurations"]["(1, 512, 2)"]
    assert [record["energy"] for record in records] == [1.0, 2.0]


def test_what_cannot_be_merged_is_written_upstreams_way(tmp_path):
    file = str(tmp_path / "stage.json")
    profile = load(file)
    store(profile, [1.0])
    profile[1, 512, 2]["odd"] = [[object()]]
    seen: list[Any] = []

    def write(name: str, data: Any) -> None:
        seen.append((name, data))
        plain = {str(key): {**metrics, "odd": [[1]]} for key, metrics in data.items()}
        (tmp_path / "stage.json").write_text(json.dumps(plain))

    profile_files.save(file, profile, write)
    assert seen == [(file, profile)]
    # It is taken for written: nothing comes twice.
    profile[1, 512, 2]["odd"] = [[1]]
    profile_files.save(file, profile, upstream)
    assert read_profile(file)[Configuration(1, 512, 2)]["energy"] == [[1.0]]


def truncates_first(file: str, data: Any) -> None:
    """As FlexExecutor writes: it empties the file, then fails at what JSON cannot hold."""
    with open(file, "w") as out:
        json.dump({str(key): metrics for key, metrics in data.items()}, out)


def test_a_write_of_flexecutors_own_that_fails_leaves_the_file_as_it_was(tmp_path):
    file = tmp_path / "stage.json"
    profile = load(file)
    store(profile, [1.0])
    profile_files.save(str(file), profile, upstream)
    before = file.read_bytes()
    profile[1, 512, 2]["odd"] = [[object()]]
    with pytest.raises(TypeError):
        profile_files.save(str(file), profile, truncates_first)
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage.json", "stage.json.energy"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_disk_that_takes_no_more_leaves_the_profile_whole(number, tmp_path, monkeypatch, caplog):
    file = tmp_path / "stage.json"
    profile = load(file)
    for energy in (1.0, 2.0):
        store(profile, [energy])
        profile_files.save(str(file), profile, upstream)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    store(profile, [3.0])

    def full(descriptor: int) -> None:
        raise OSError(number, "no more")

    monkeypatch.setattr(os, "fsync", full)
    with caplog.at_level(logging.WARNING, logger="lithowatt"), pytest.raises(OSError) as raised:
        profile_files.save(str(file), profile, upstream)
    assert raised.value.errno == number
    assert "is left as it was, without the newest repetition" in caplog.text
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    # With room again, nothing is missing, in the sidecar neither.
    monkeypatch.undo()
    store(profile, [4.0])
    profile_files.save(str(file), profile, upstream)
    assert read_profile(file)[Configuration(1, 512, 2)]["energy"] == [[1.0], [2.0], [3.0], [4.0]]
    records = read_sidecar(file)["configurations"]["(1, 512, 2)"]
    assert [record["energy"] for record in records] == [1.0, 2.0, 3.0, 4.0]


def test_a_sidecar_that_cannot_be_written_is_made_up_for_later(tmp_path, monkeypatch):
    file = tmp_path / "stage.json"
    profile = load(file)
    store(profile, [1.0])
    monkeypatch.setattr("lithowatt.profiles._sidecar.write_pieces", refuse)
    profile_files.save(str(file), profile, upstream)
    assert read_profile(file)[Configuration(1, 512, 2)]["energy"] == [[1.0]]
    monkeypatch.undo()
    store(profile, [2.0])
    profile_files.save(str(file), profile, upstream)
    records = read_sidecar(file)["configurations"]["(1, 512, 2)"]
    assert [record["energy"] for record in records] == [1.0, 2.0]


def refuse(*args: Any) -> None:
    raise OSError(errno.ENOSPC, "no room")


def test_where_no_file_can_be_made_the_old_one_is_written_over(tmp_path, monkeypatch):
    file = tmp_path / "stage.json"
    write_profile(file, {(1, 512, 1): {"read": [[1.0]]}})
    real = os.open

    def closed(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_EXCL:
            raise OSError(errno.EACCES, "no new files here")
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", closed)
    write_profile(file, {(1, 512, 1): {"read": [[1.0], [2.0]]}})
    assert read_profile(file)[Configuration(1, 512, 1)]["read"] == [[1.0], [2.0]]
    write_profile(file, {(1, 512, 1): {"read": [[3.0]]}})
    assert read_profile(file)[Configuration(1, 512, 1)]["read"] == [[3.0]]
    # No room for it: what was there is there.
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="no room"):
        write_profile(file, {(1, 512, 1): {"read": [[4.0], [5.0]]}})
    assert read_profile(file)[Configuration(1, 512, 1)]["read"] == [[3.0]]


def test_a_save_makes_text_of_what_is_new_and_reads_nothing_again(tmp_path, monkeypatch):
    file = str(tmp_path / "stage.json")
    profile = load(file)
    made: list[int] = []
    real = json.dumps

    def counted(value: Any, **options: Any) -> str:
        text = real(value, **options)
        made.append(len(text))
        return text

    def again(*args: Any) -> Any:
        raise AssertionError("read again")

    sizes = []
    for energy in range(40):
        store(profile, [float(energy)])
        made.clear()
        with monkeypatch.context() as patched:
            if energy:
                patched.setattr("lithowatt.profiles._file.parse_profile", again)
                patched.setattr("lithowatt.profiles._sidecar.read_sidecar", again)
            patched.setattr("lithowatt.profiles._text.json.dumps", counted)
            profile_files.save(file, profile, upstream)
        sizes.append(sum(made))
    assert sizes[-1] < 1.2 * sizes[1]
    energies = read_profile(file)[Configuration(1, 512, 2)]["energy"]
    assert energies == [[float(energy)] for energy in range(40)]
    records = read_sidecar(file)["configurations"]["(1, 512, 2)"]
    assert [record["energy"] for record in records] == [float(energy) for energy in range(40)]


def test_what_flexecutor_prints_of_a_profile_stays_small(tmp_path):
    profile = load(tmp_path / "stage.json")
    lengths = []
    for energy in range(30):
        store(profile, [float(energy)])
        lengths.append(len(f"{profile}"))
    assert lengths[-1] <= lengths[4] + 20
    assert "energy" not in f"{profile}" and "<28 more>" in f"{profile}"


def test_what_upstream_can_read_is_read(tmp_path):
    file = tmp_path / "stage.json"
    file.write_text('{"(1, 2)": {}}')
    assert profile_files.load(str(file), lambda name: {"its": "own"}) == {"its": "own"}


# --- patch --------------------------------------------------------------------


@pytest.mark.parametrize(
    "namespace",
    [
        {},
        {"DAGExecutor": object, "ThreadPoolProcessor": object},
        {
            **dict.fromkeys(("AssetType", "FunctionTimes", "DAGExecutor"), object),
            **dict.fromkeys(("load_profiling_results", "save_profiling_results"), print),
            "ThreadPoolProcessor": object,
        },
    ],
)
def test_a_module_that_is_not_flexecutors_is_left_alone(namespace, caplog):
    before = dict(namespace)
    with caplog.at_level(logging.WARNING, logger="lithowatt"):
        assert patch_executor(namespace) is False
    assert namespace == before
    assert "is left alone" in caplog.text
    unpatch_executor(namespace)  # and taking back nothing is fine


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"num_workers": 0}, "num_workers 0 is not"),
        ({"num_workers": "x"}, "num_workers 'x' is not"),
        ({"num_reps": 0}, "num_reps 0 is not"),
        ({"num_workers": 2, "configurations": []}, "each has its own"),
    ],
)
def test_execute_with_profiling_refuses_before_anything_runs(arguments, says):
    with pytest.raises(ValueError, match=says):
        execute_with_profiling(object(), {}, **arguments)


def test_without_flexecutor_install_says_what_to_do(monkeypatch):
    monkeypatch.setattr("lithowatt.flexecutor._patch._spec", lambda name: None)
    with pytest.raises(ImportError, match="PYTHONPATH"):
        flexecutor.install()
    assert flexecutor.installed() is False
    flexecutor.uninstall()
    monkeypatch.setenv("ENERGY_MONITORING_ENABLED", "0")
    assert flexecutor.install() is False


def test_uninstall_ends_what_the_start_of_python_began(monkeypatch):
    """The finder of the `.pth` is there before anything of the hook is imported."""
    files = TOP / "lithowatt.data" / "platlib"
    script = (
        "import sys\n"
        f"sys.meta_path[:] = [f for f in sys.meta_path if not hasattr(f, 'lithowatt_hook')]\n"
        f"sys.path.insert(0, {str(files)!r})\n"
        f"exec(open({str(files / 'lithowatt-hook.pth')!r}).read())\n"
        "from lithowatt import flexecutor\n"
        "assert '_lithowatt_hook' not in sys.modules\n"
        "flexecutor.uninstall()\n"
        "import _lithowatt_hook as hook\n"
        "print([hook._wanted(name) for name in sorted(hook.TABLE)])"
    )
    environment = {**os.environ, "LITHOWATT_FLEXECUTOR": "1"}
    environment.pop("ENERGY_MONITORING_ENABLED", None)
    command = [sys.executable, "-B", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    # Of FlexExecutor nothing is watched any more, Lithops is.
    assert (done.stdout, done.stderr) == ("[False, True, False]\n", "")


def test_the_package_is_light_to_import():
    script = (
        "import sys, lithowatt.flexecutor, lithowatt.flexecutor.auto\n"
        "heavy = {'numpy', 'pandas', 'scipy', 'lithops', 'flexecutor'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


# --- FunctionTimes ------------------------------------------------------------


@dataclasses.dataclass
class TheirTimes:
    """FlexExecutor's FunctionTimes, with a field that the energy fork has, too."""

    read: float | None = None
    compute: float | None = None
    TDP: float | None = None
    total: float | None = None

    @classmethod
    def profile_keys(cls) -> list[str]:
        return ["read", "compute"]

    def __lt__(self, other: Any) -> bool:
        return self.total < other.total


@pytest.fixture
def extended() -> Any:
    before = dict(vars(TheirTimes))
    assert _fields.extend(TheirTimes)
    yield TheirTimes
    _fields.restore(TheirTimes)
    after = dict(vars(TheirTimes))
    changed = {name for name in before | after if before.get(name) is not after.get(name)}
    assert not {name for name in changed if name != "__slotnames__"}
    with pytest.raises(TypeError):
        TheirTimes(energy=1.0)  # type: ignore[call-arg]


def test_the_fields_of_flexecutors_times_are_fields_like_its_own(extended):
    times = extended(1.0, 2.0, energy=3.0, rapl_energy_cores=4.0)
    assert (times.read, times.compute, times.energy, times.TDP) == (1.0, 2.0, 3.0, None)
    assert all(hasattr(times, name) for name in COLUMN_NAMES)
    assert dataclasses.asdict(times)["rapl_energy_cores"] == 4.0
    assert set(COLUMN_NAMES) < set(dataclasses.asdict(times))
    assert dataclasses.replace(times, read=9.0).energy == 3.0
    for other in (copy.copy(times), copy.deepcopy(times), pickle.loads(pickle.dumps(times))):
        assert other == times
    assert dataclasses.replace(times, energy=3.5) != times
    assert extended.profile_keys() == ["read", "compute"]
    assert sorted([extended(total=2.0), extended(total=1.0)])[0].total == 1.0
    assert repr(times).endswith(
        "TheirTimes(read=1.0, compute=2.0, TDP=None, total=None, energy=3.0, rapl_energy_cores=4.0)"
    )
    with pytest.raises(TypeError, match="joule"):
        extended(joule=1.0)


@pytest.mark.slow
def test_times_in_a_data_frame_keep_their_joules(extended):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([extended(read=1.0, energy=float(n)) for n in (1, 2)])
    assert frame["energy"].tolist() == [1.0, 2.0]
    assert set(COLUMN_NAMES) <= set(frame.columns)


def test_extending_twice_is_extending_once(extended):
    assert _fields.extend(extended)
    names = [one.name for one in dataclasses.fields(extended)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("what", [None, 7, object, EnergyMeter])
def test_what_is_no_times_class_is_not_extended(what):
    assert _fields.extend(what) is False
    _fields.restore(what)


def test_our_own_times_stand_in_for_flexecutors():
    assert FunctionTimes.profile_keys() == ["read", "compute", "write", "cold_start"]
    assert min(FunctionTimes(total=2.0), FunctionTimes(total=1.0)).total == 1.0


# --- the fork's filling -------------------------------------------------------

#: As the energy fork's `get_timings`: from Lithops' stats, when the results are there.
FILLS = """
def get_timings(futures):
    timings = [result[1] for result in futures.get_result()]
    for times, stats in zip(timings, [f.stats for f in futures]):
        times.time_consumption = stats["worker_exec_time"]
        times.TDP = times.time_consumption * stats.get("worker_func_avg_cpu_usage", 0) / 100
        times.rapl_energy_cores = stats.get("worker_func_rapl_energy_cores", 0.0)
        times.perf_energy_pkg = stats.get("worker_func_perf_energy_pkg", 0.0)
        times.cpu_name = stats.get("worker_processor_name", "Unknown")
    return timings
"""


class Futures(list):  # type: ignore[type-arg]
    """What Lithops' `map` returns."""

    def get_result(self) -> Any:
        return [future.value for future in self]


@pytest.mark.parametrize("module", ["flexecutor.workflow.stagefuture", "workflow.stagefuture"])
def test_in_a_metered_executor_the_machines_readings_replace_no_share(module):
    namespace: dict[str, Any] = {"__name__": module}
    exec(FILLS, namespace)
    raw = {"worker_exec_time": 2.0, "worker_func_avg_cpu_usage": 50.0}
    raw |= {"worker_func_rapl_energy_cores": 122.6, "worker_processor_name": "CPU"}

    class Two(Executor):
        def map(self, map_function: Any, map_iterdata: Any, runtime_memory: int = 0) -> Any:
            return Futures(super().map(map_function, map_iterdata))

        def wait(self, fs: Any = None, timeout: float | None = None) -> Any:
            for future in fs:
                future.stats = raw
            return fs, []

    proxy = meter(Two())
    futures = proxy.map(map_function=stage, map_iterdata=[Context(), Context()])
    measured = [future.value[1].TDP for future in futures]
    proxy.wait(futures)
    timings = namespace["get_timings"](futures)
    for times, tdp in zip(timings, measured, strict=True):
        assert times.TDP == tdp and tdp != 1.0
        assert times.perf_energy_pkg is None or times.perf_energy_pkg > 0
        assert times.rapl_energy_cores != 122.6
        assert times.time_consumption == 2.0
        # What the user sets is set.
        times.TDP = 5.0
        assert times.TDP == 5.0
        for other in (copy.deepcopy(times), pickle.loads(pickle.dumps(times))):
            assert type(other) is FunctionTimes and other == times
        assert isinstance(times, FunctionTimes) and dataclasses.asdict(times)["TDP"] == 5.0
    assert namespace["get_timings"](futures)[0].rapl_energy_cores != 122.6


def test_in_a_metered_executor_without_the_wheel_the_fields_are_none():
    class Plain(Executor):
        def map(self, map_function: Any, map_iterdata: Any, runtime_memory: int = 0) -> Any:
            return Futures([types.SimpleNamespace(value=("result", Bare()), stats={})])

    class Bare:
        read = compute = 1.0

    proxy = meter(Plain())
    futures = proxy.map(map_function=stage, map_iterdata=[Context()])
    proxy.wait(futures)
    [(result, times)] = futures.get_result()
    assert result == "result"
    assert all(getattr(times, name) is None for name in COLUMN_NAMES)


def test_a_time_of_the_worker_that_is_not_known_reads_as_none():
    class Bare:
        read = compute = 1.0

    times = apply_energy(Bare(), {})
    assert times.time_consumption is None and times.worker_time_execution is None
    times.time_consumption = 3.0
    assert apply_energy(times, {}).time_consumption == 3.0


# --- notices ------------------------------------------------------------------


@pytest.fixture
def nothing_said(monkeypatch) -> None:
    monkeypatch.setattr(_notices, "_said", set())


def test_workers_without_the_wheel_are_said_once(nothing_said, caplog):
    with caplog.at_level(logging.WARNING, logger="lithowatt"):
        for _ in range(3):
            future = Future()
            complete_timings(future, Place("localhost"), "train")
            [times] = future.get_timings()
    assert times.energy_warnings == NO_WHEEL and times.energy_idle_source == "modelled"
    [record] = caplog.records
    assert "stage train: 1 of 1 calls ran in a worker without lithowatt" in record.getMessage()
    assert "wheel" in record.getMessage()


def test_warnings_of_calls_reach_times_profile_sidecar_and_one_line(nothing_said, tmp_path, caplog):
    guess = "idle power is the model's guess (20 W)"
    seen = stats(
        energy_schema=1,
        energy_consumption=2.0,
        energy_definition="marginal",
        energy_idle_source="modelled",
        energy_warnings=[guess, "the counter was reset 2 time(s)"],
    )
    times = [apply_energy(FunctionTimes(read=0.1), seen) for _ in range(2)]
    with caplog.at_level(logging.WARNING, logger="lithowatt"):
        _notices.say("train", times)
        times[1].energy_warnings = guess.replace("20", "21")
        _notices.say("train", times)  # other numbers are no news
    said = sorted(record.getMessage() for record in caplog.records)
    assert said == [
        f"stage train, 2 of 2 calls: {guess}",
        "stage train, 2 of 2 calls: the counter was reset 2 time(s)",
    ]
    file = tmp_path / "stage.json"
    append_repetition(file, (1, 512, 2), times)
    metrics = read_profile(file)[Configuration(1, 512, 2)]
    assert metrics["energy_idle_source"] == [["modelled", "modelled"]]
    assert metrics["energy_warnings"][0][0] == f"{guess} | the counter was reset 2 time(s)"
    [record] = read_sidecar(file)["configurations"]["(1, 512, 2)"]
    assert record["energy_idle_source"] == {"modelled": 2}
    assert record["energy_warnings"][guess] == 1
    assert record["energy_warnings"]["the counter was reset 2 time(s)"] == 1


# --- sums ---------------------------------------------------------------------


def call(definition: str | None, energy: float | None) -> FunctionTimes:
    both = {"energy_marginal": 1.0, "energy_amortised": 5.0} if energy is not None else {}
    return FunctionTimes(energy=energy, energy_definition=definition, **both)


def test_a_sum_never_mixes_two_definitions():
    mixed = _sidecar.record([call("marginal", 1.0), call("amortised", 5.0)], 2)
    assert mixed["energy"] is None and mixed["energy_known"] is None
    assert "amortised and marginal, which do not add up" in mixed["energy_reason"]
    assert (mixed["energy_marginal"], mixed["energy_amortised"]) == (2.0, 10.0)
    assert mixed["calls_with_energy"] == 2
    one = _sidecar.record([call("marginal", 1.0)] * 2, 2)
    assert (one["energy"], one["energy_reason"], one["energy_known"]) == (2.0, None, 2.0)


def test_a_sum_of_calls_of_which_one_is_unknown_is_none_with_a_reason():
    record = _sidecar.failure(
        "s", "(1, 512, 3)", "ValueError: no", [call("marginal", 1.0), call("marginal", None), None]
    )
    assert record["energy"] is None and record["energy_marginal"] is None
    assert record["energy_reason"] == "2 of 3 calls have no energy"
    assert (record["energy_known"], record["calls"], record["calls_with_energy"]) == (1.0, 3, 1)
    assert record["energy_definition"] == {"marginal": 2, "unavailable": 1}
    nothing = _sidecar.failure("s", None, "x", [None])
    assert nothing["energy_known"] is None and nothing["energy"] is None


class Ran:
    """A StageFuture whose calls used this."""

    def __init__(self, *times: FunctionTimes) -> None:
        self._times = times

    def get_timings(self) -> list[FunctionTimes]:
        return list(self._times)


def test_a_run_is_told_stage_by_stage_and_in_all():
    one, other = call("marginal", 1.0), call("marginal", 2.5)
    used = dag_energy({"map": Ran(one, other), "reduce": Ran(other)})
    assert {stage: row["energy"] for stage, row in used.items()} == {
        "map": 3.5,
        "reduce": 2.5,
        "total": 6.0,
    }
    assert [row["calls"] for row in used.values()] == [2, 1, 3]
    assert used["total"]["energy_amortised"] == 15.0
    mixed = dag_energy({"map": Ran(one), "reduce": Ran(call("amortised", 5.0)), "x": Ran()})
    assert mixed["map"]["energy"] == 1.0 and mixed["total"]["energy"] is None
    assert "do not add up" in mixed["total"]["energy_reason"]
    assert mixed["x"]["energy"] is None
    with pytest.raises(ValueError, match="total"):
        dag_energy({"total": Ran(one)})


# --- the fork's training column -----------------------------------------------


def training(**metrics: Any) -> Any:
    complete_training(metrics)
    return metrics.get(SEED_COLUMN)


def test_the_training_column_is_whole_or_not_there():
    read = [[0.1, 0.1], [0.1, 0.1], [0.1, 0.1]]
    # Two repetitions from before lithowatt, and a call that could not be metered.
    none = [None, None]
    assert training(read=read, energy=[none, none, [1.0, None]]) == [[1.0, 1.0]] * 3
    assert training(read=read, energy=[none, [1.0, 3.0], [2.0, None]]) == [
        [2.0, 2.0],
        [1.0, 3.0],
        [2.0, 2.0],
    ]
    assert training(read=read, energy=[none, none, none]) is None
    assert training(read=read, RAPL=[none, none, none]) is None
    assert training(read=read) is None


def test_the_training_column_has_one_definition():
    column = training(
        read=[[0.1], [0.1]],
        energy=[[9.0], [1.0]],
        energy_definition=[["amortised"], ["marginal"]],
        energy_marginal=[[2.0], [1.0]],
        energy_amortised=[[9.0], [8.0]],
    )
    assert column == [[2.0], [1.0]]


def test_a_training_column_that_grows_is_the_same_list():
    metrics: Any = {"read": [[0.1]], "energy": [[1.0]]}
    complete_training(metrics)
    column = metrics[SEED_COLUMN]
    metrics["read"].append([0.2])
    metrics["energy"].append([2.0])
    complete_training(metrics)
    assert metrics[SEED_COLUMN] is column and column == [[1.0], [2.0]]


# --- a Lithops with a meter of its own ----------------------------------------


@pytest.mark.parametrize("wrapped", [True, False])
def test_joules_that_came_with_the_times_outlive_another_meters_stats(
    wrapped, nothing_said, caplog
):
    _, times = metered_stage(stage)(Context())
    ridden = (times.energy, times.energy_compute, times.rapl_energy_pkg, times.TDP)

    class Foreign(Future):
        stats: typing.ClassVar = [
            {
                "worker_exec_time": 2.5,
                "worker_func_exec_time": 2.0,
                "worker_func_energy_consumption": 262588.8,
                "worker_func_energy_duration": 0.0,
                "worker_func_energy_method_used": "null, null, null, psutil",
                "worker_func_rapl_energy_pkg": 401.0,
                "worker_func_perf_energy_cores": 0.0,
                "worker_func_psutil_cpu_percent": 0.0,
            }
        ]

        def get_timings(self) -> Any:
            return [times]

    if not wrapped:
        # Nothing came with the times: the client's estimate, and not the other meter's number.
        del times.__dict__["_lithowatt_values"]
    future = Foreign()
    complete_timings(future, Place("localhost"), "s")
    [seen] = future.get_timings()
    if wrapped:
        assert (seen.energy, seen.energy_compute, seen.rapl_energy_pkg, seen.TDP) == ridden
    else:
        assert seen.energy_method == METHOD and 0 < seen.energy < 1000
    assert seen.perf_energy_cores != 0.0 and seen.rapl_energy_pkg != 401.0
    assert seen.time_consumption == 2.5
    assert "the workers' Lithops has a meter of its own" in caplog.text
