"""Platforms: profiles of Kubernetes, of the client's machine and of a server, from the file on."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lithowatt import PowerModel
from lithowatt.analysis._observe import observe
from lithowatt.analysis.platforms import (
    AwsLambda,
    FunctionSandbox,
    Kubernetes,
    Localhost,
    Platform,
    Price,
    Server,
    Share,
    Worker,
    platform_named,
)
from lithowatt.cli import main
from lithowatt.errors import UnreadableFileError
from lithowatt.estimate import Estimate
from lithowatt.flexecutor import FunctionTimes, _patch
from lithowatt.flexecutor import _profile as profile_files
from lithowatt.flexecutor._given import given_of
from lithowatt.flexecutor._scheduling import stage_models
from lithowatt.profiles import (
    Configuration,
    PerformanceModel,
    append_repetition,
    read_profile,
    read_sidecar,
    recommend,
)

CPU = "AMD EPYC 7R13 Processor"
WORKERS = (1, 2, 4, 8)
REPETITIONS = 3

#: As Lithops' configuration names them.
BACKENDS: dict[str, dict[str, Any]] = {
    "k8s": {"runtime_cpu": 4, "runtime_memory": 512, "worker_processes": 1},
    "localhost": {},
    "aws_ec2": {"worker_processes": 1},
}


def times_of(
    workers: int, repetition: int, joules: bool, memory: int = 16384
) -> list[FunctionTimes]:
    """A worker of two threads: 60 CPU seconds of work for all, and 1 s for each."""
    found = []
    # No two runs start alike.
    cold_start = 0.5 + 0.1 * repetition + memory / 1e5
    for index in range(workers):
        cpu = (60 / workers + 1) * (1 + 0.01 * repetition + 0.001 * index)
        one = FunctionTimes(
            read=0.2, compute=cpu / 2, write=0.1, cold_start=cold_start, total=cpu / 2 + 1
        )
        one.worker_time_execution = cpu / 2 + 0.4
        one.cpu_time = cpu
        one.cpu_name, one.cpu_architecture, one.cpu_cores_logical = CPU, "x86_64", 96
        if joules:
            one.energy = one.energy_marginal = 3.0 * cpu
            one.energy_low, one.energy_high = 2.7 * cpu, 3.3 * cpu
            one.energy_quality, one.energy_method = "attributed", "rapl+cputime"
            one.energy_definition = "marginal"
        found.append(one)
    return found


def write(
    folder: Path, backend: str, memories: Iterable[int] = (16384,), joules: bool = True
) -> Path:
    """A profile and its sidecar as lithowatt writes them for FlexExecutor on a backend."""
    lithops = SimpleNamespace(
        config={"lithops": {"backend": backend}, backend: BACKENDS.get(backend, {})}
    )
    executor = SimpleNamespace(_executor=lithops, _dag=SimpleNamespace(dag_id="dag"))
    file = str(folder / "stage.json")

    def refused(*given: Any) -> Any:
        raise AssertionError("not to be needed")

    profile = profile_files.load(file, refused)
    core = ["read", "compute", "write", "cold_start"]
    for memory in memories:
        for workers in WORKERS:
            resources = SimpleNamespace(
                cpu=1, memory=memory, workers=workers, key=(1, memory, workers)
            )
            for repetition in range(REPETITIONS):
                times = times_of(workers, repetition, joules, memory)

                def own(_: Any, data: Any, new: Any, config: Any) -> None:
                    metrics = data.setdefault(config.key, {})
                    for name in core:
                        metrics.setdefault(name, []).append([getattr(one, name) for one in new])

                _patch.store_profiling(executor, own, core, profile, times, resources)
            profile_files.save(file, profile, refused)
    return Path(file)


# --- Kubernetes ---------------------------------------------------------------


def test_the_sidecar_records_what_a_pod_was_given(tmp_path: Path) -> None:
    file = write(tmp_path, "k8s")
    records = read_sidecar(file)["configurations"]["(1, 16384, 4)"]
    assert len(records) == REPETITIONS
    for one in records:
        assert one["backend"] == "k8s"
        assert one["given"] == {
            "cpus": 4.0,
            "memory_mb": 16384.0,
            "set_by": "requests and limits of the pod",
        }
        assert one["hardware"][0]["cpu_name"] == CPU


@pytest.mark.parametrize(
    ("backend", "section", "given"),
    [
        ("k8s", {"runtime_cpu": 2, "runtime_memory": 512}, (2.0, 512.0)),
        ("k8s", {"runtime_cpu": 0.5}, (0.5, None)),
        ("k8s", {"runtime_cpu": "2", "runtime_memory": True}, None),
        ("k8s", {"runtime_cpu": 2, "worker_processes": 4}, None),
        ("k8s", {"runtime_cpu": 2, "rabbitmq_executor": True}, None),
        ("k8s", {}, None),
        ("localhost", {"runtime_cpu": 2}, None),
        ("aws_lambda", {"runtime_memory": 1024}, None),
    ],
)
def test_only_what_is_a_workers_own_is_recorded(
    backend: str, section: dict[str, Any], given: tuple[float, float | None] | None
) -> None:
    lithops = SimpleNamespace(config={"lithops": {"backend": backend}, backend: section})
    found = given_of(lithops, SimpleNamespace(memory=0, cpu=1))
    assert (None if found is None else found[:2]) == given


def test_a_profile_of_large_pods_is_kept_whole(tmp_path: Path) -> None:
    file = write(tmp_path, "k8s", memories=(16384, 32768))
    data = read_profile(file)
    observed = observe(file)
    assert {one.requested for one in observed.observations} == set(data)
    assert observed.warnings == []
    for one in observed.observations:
        assert isinstance(one.platform, Kubernetes)
        assert one.worker == Worker(one.memory_mb, "x86_64", 4.0, CPU, 96)
        figures = one.figures
        assert {"time", "worker_time", "cpu_seconds", "energy", "energy_modelled"} <= set(figures)
        assert all(figure.repetitions == REPETITIONS for figure in figures.values())
        joules = [math.fsum(row) for row in data[one.requested]["energy"]]
        assert figures["energy"].mean == pytest.approx(sum(joules) / REPETITIONS)


def test_what_large_pods_would_take(tmp_path: Path) -> None:
    model = PerformanceModel(write(tmp_path, "k8s"))
    assert not any("left out" in warning for warning in model.warnings)
    one = model.predict(3, 16384)
    assert one.inside and not one.profiled
    assert one.vcpus == 4.0
    assert one.cost is None
    assert one.cost_reason is not None and "k8s" in one.cost_reason
    assert "price of a vCPU-hour" in one.cost_reason
    assert one.energy is not None and one.energy_reason is None
    assert one.energy_quality == "attributed"
    assert one.energy.value == pytest.approx(3 * 3.0 * 21, rel=0.05)
    assert one.time.value == pytest.approx(0.8 + 10.5, rel=0.05)
    # Between 16 GB and nothing there is nothing to learn from, and beyond it no bound.
    assert model.predict(3, 65536, extrapolate=True).time.value > 0


def test_a_price_of_the_users(tmp_path: Path) -> None:
    file = write(tmp_path, "k8s")
    price = Price(vcpu_hour=0.04, gib_hour=0.005)
    model = PerformanceModel(file, price=price)
    assert model.no_price is None and model.region is None
    for workers in WORKERS:
        one = model.predict(workers, 16384)
        seconds = workers * one.worker_time.value
        assert one.cost is not None and one.cost_reason is None
        assert one.cost.value == pytest.approx(seconds / 3600 * (4 * 0.04 + 16 * 0.005))
        assert model.estimates(workers, 16384, "x86_64")["cost"] == pytest.approx(one.cost.value)
    cheapest = recommend(file, minimise="cost", price=price).best
    assert cheapest is not None and cheapest.workers == 1
    # Another number of vCPUs than the profile records is the user's own.
    double = PerformanceModel(file, price=Price(vcpu_hour=0.04, vcpus=8)).predict(1, 16384)
    single = PerformanceModel(file, price=Price(vcpu_hour=0.04)).predict(1, 16384)
    assert double.cost is not None and single.cost is not None
    assert double.cost.value == pytest.approx(2 * single.cost.value)


def test_without_joules_the_power_model_of_the_nodes_processor_tells_them(tmp_path: Path) -> None:
    model = PerformanceModel(write(tmp_path, "k8s", joules=False))
    assert model.energy_quality == "modelled"
    one = model.predict(2, 16384)
    assert one.energy is not None and one.cpu_seconds is not None
    seconds = 2 * one.worker_time.value
    power = PowerModel.for_cpu(CPU, 96).share_watts(4.0, one.cpu_seconds.value / seconds, 16.0)
    # Above idle, as a meter on a node would have it.
    assert one.energy.value == pytest.approx(power.active.value * seconds, rel=1e-6)
    assert one.energy.low < one.energy.value < one.energy.high


def test_the_command_on_large_pods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(write(tmp_path, "k8s"))
    assert main(["profile", "recommend", file, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["platform"], report["region"]) == ("k8s", None)
    assert report["learned_from"] == len(WORKERS)
    assert len(report["ranked"]) == len(WORKERS)
    for one in report["ranked"]:
        assert one["cost_usd"] is None and "vCPU-hour" in one["cost_reason"]
        assert one["energy_j"]["value"] > 0 and one["energy_reason"] is None
        assert (one["memory_mb"], one["vcpus"]) == (16384, 4.0)
    assert main(["profile", "recommend", file, "--minimise", "cost"]) == 2
    assert "vCPU-hour" in capsys.readouterr().err

    priced = ["--vcpu-hour", "0.04", "--gib-hour", "0.005"]
    assert main(["profile", "recommend", file, "--minimise", "cost", *priced]) == 0
    out = capsys.readouterr().out
    assert "USD" in out.splitlines()[0] and "us-east-1" not in out
    assert "the price is the one given" in out
    assert main(["profile", "recommend", file, *priced, "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["best"]
    assert best["cost_usd"]["value"] > 0 and best["cost_reason"] is None


def test_a_stage_of_a_workflow_on_large_pods(tmp_path: Path) -> None:
    write(tmp_path, "k8s")
    dag = SimpleNamespace(dag_id="dag", stages=[SimpleNamespace(stage_id="stage")])
    (model,) = stage_models(dag, {"stage": tmp_path / "stage.json"}, price=Price(vcpu_hour=0.04))
    assert model.platform == Kubernetes(price=Price(vcpu_hour=0.04))
    assert len(model.observations) == len(WORKERS)


# --- others -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "kind"), [("localhost", Localhost), ("aws_ec2", Server), ("ibm_vpc", Server)]
)
def test_machines_have_joules_and_no_price(
    backend: str, kind: type, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, backend, memories=(512, 65536))
    observed = observe(file)
    assert len(observed.observations) == 2 * len(WORKERS)
    assert observed.warnings == []
    model = PerformanceModel(file)
    assert type(model.platform) is kind and model.platform.name == backend
    one = model.predict(2, 65536)
    assert one.cost is None and one.cost_reason is not None and backend in one.cost_reason
    assert one.vcpus is None
    assert one.energy is not None and one.energy_quality == "attributed"
    # Nobody recorded vCPUs of a worker: their price has nothing to be multiplied with.
    priced = PerformanceModel(file, price=Price(vcpu_hour=0.04))
    assert priced.no_price == "the profiles do not record the vCPUs of a worker: give their number"
    told = PerformanceModel(file, price=Price(vcpu_hour=0.04, vcpus=2))
    assert told.no_price is None
    command = ["profile", "recommend", str(file), "--vcpu-hour", "0.04", "--vcpus", "2", "--json"]
    assert main(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["platform"] == backend and report["best"]["cost_usd"]["value"] > 0


def test_a_sandbox_of_another_provider_is_no_lambda(tmp_path: Path) -> None:
    model = PerformanceModel(write(tmp_path, "gcp_functions", joules=False))
    assert isinstance(model.platform, FunctionSandbox)
    one = model.predict(2, 16384)
    assert one.energy is not None and one.cpu_seconds is not None
    seconds = 2 * one.worker_time.value
    power = PowerModel.for_cpu(CPU, 96).share_watts(96, one.cpu_seconds.value / seconds, 16.0)
    # Its idle power is the call's.
    assert one.energy.value == pytest.approx(power.total.value * seconds, rel=1e-6)


def test_the_platform_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, "k8s")
    # Without its sidecar a profile with a column for AWS that holds nothing is of some server.
    file.with_name("stage.json.energy").unlink()
    assert PerformanceModel(file).platform.name == "not AWS Lambda"
    # One that says nothing at all is taken for one of AWS Lambda, which has no such memory.
    silent = read_profile(file)
    for metrics in silent.values():
        del metrics["aws_cpu"]
    with pytest.raises(ValueError, match="16384 MB left out, not from 128 to 10240"):
        PerformanceModel(silent)
    for platform in ("kubernetes", "k8s", Kubernetes()):
        model = PerformanceModel(silent, platform=platform)
        assert model.platform == Kubernetes()
        assert len(model.observations) == len(WORKERS)
    command = ["profile", "recommend", str(file), "--json", "--platform"]
    assert main([*command, "kubernetes"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["platform"] == "k8s"
    notes = [one["text"] for one in found["warnings"]]
    assert any(one.startswith("taken as k8s, as asked: there is no price") for one in notes)
    assert main([*command, "moon"]) == 2
    assert "'moon' is not one of aws-lambda, kubernetes" in capsys.readouterr().err
    # Named as what it is not, it is left out, and the answer says so.
    assert main([*command, "aws-lambda"]) == 2
    assert "16384 MB left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ran_on", "asked", "says"),
    [
        ("aws_lambda", "kubernetes", "taken as k8s, as asked; the profile says AWS Lambda: there"),
        ("k8s", "aws-lambda", "taken as aws_lambda, as asked; the profile says k8s"),
        ("k8s", "localhost", "taken as localhost, as asked; the profile says k8s: there is no"),
    ],
)
def test_what_was_asked_is_not_said_to_be_where_it_ran(
    tmp_path: Path, ran_on: str, asked: str, says: str
) -> None:
    model = PerformanceModel(write(tmp_path, ran_on, (2048,)), platform=asked)
    assert any(one.startswith(says) for one in model.warnings)
    assert not any("ran on" in one for one in model.warnings)


def test_two_platforms_have_no_common_price(tmp_path: Path) -> None:
    files = []
    for backend, memory in (("k8s", 16384), ("aws_lambda", 2048)):
        folder = tmp_path / backend
        folder.mkdir()
        files.append(write(folder, backend, (memory,)))
    model = PerformanceModel(files)
    assert model.platform.name == "aws_lambda, k8s"
    assert len(model.observations) == 2 * len(WORKERS)
    for memory in (2048, 16384):
        one = model.predict(2, memory)
        assert one.cost is None and "several platforms" in str(one.cost_reason)
        assert one.energy is not None
    assert PerformanceModel(files[1]).predict(2, 2048).cost is not None


# --- damaged and odd files ----------------------------------------------------


def test_only_plain_files_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(UnreadableFileError, match="not a plain file"):
            read_profile(path)
        with pytest.raises(UnreadableFileError, match="not a plain file"):
            append_repetition(path, (1, 16384, 1), times_of(1, 0, True))
        assert main(["profile", "recommend", str(path)]) == 2
        assert f"{path}: not a plain file" in capsys.readouterr().err
    file = write(tmp_path, "k8s")
    sidecar = file.with_name("stage.json.energy")
    sidecar.unlink()
    os.mkfifo(sidecar)
    with pytest.raises(UnreadableFileError, match="not a plain file"):
        read_sidecar(file)
    assert main(["profile", "recommend", str(file)]) == 0
    # The profile is written all the same, and the FIFO is left as it is.
    append_repetition(file, (1, 16384, 1), times_of(1, 3, True))
    assert len(read_profile(file)[Configuration(1, 16384, 1)]["compute"]) == REPETITIONS + 1
    assert sidecar.is_fifo()

    monkeypatch.setattr("lithowatt.profiles._file.MOST_BYTES", 100)
    with pytest.raises(UnreadableFileError, match="longer than 100 bytes"):
        read_profile(file)


def changed(
    file: Path,
    columns: Mapping[str, Any] | None = None,
    record: Callable[[dict[str, Any], int], object] | None = None,
) -> Path:
    """The same profile with columns of one value, and with changed records in its sidecar."""
    profile = json.loads(file.read_text())
    for metrics in profile.values():
        for name, value in (columns or {}).items():
            metrics[name] = [[value] * len(workers) for workers in metrics["compute"]]
    file.write_text(json.dumps(profile))
    sidecar = file.with_name(file.name + ".energy")
    told = json.loads(sidecar.read_text())
    for records in told["configurations"].values():
        for index, one in enumerate(records):
            if record is not None:
                record(one, index)
    sidecar.write_text(json.dumps(told))
    return file


@pytest.mark.parametrize("cpus", [-1, 2**40, 10**30])
def test_no_machine_has_so_many_cpus(tmp_path: Path, cpus: int) -> None:
    file = changed(write(tmp_path, "k8s", joules=False), {"cpu_cores_logical": cpus})
    model = PerformanceModel(file)
    written = str(cpus) if cpus < 1 << 53 else f"{cpus:g}"
    assert any(f"cpu_cores_logical {written} left out" in note for note in model.warnings)
    assert model.predict(1, 16384).energy is not None  # the pod's limit is known


@pytest.mark.parametrize("cpus", [10**400, 1e308, -4, 0, "4"])
def test_no_worker_was_given_so_many_cpus(
    tmp_path: Path, cpus: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = changed(
        write(tmp_path, "k8s", joules=False), record=lambda one, _: one["given"].update(cpus=cpus)
    )
    command = ["profile", "recommend", str(file), "--vcpu-hour", "0.04", "--json"]
    assert main(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert "do not record the vCPUs" in report["best"]["cost_reason"]
    assert any(
        "given.cpus" in note["text"] and "left out" in note["text"] for note in report["warnings"]
    )


def test_a_price_of_more_than_anything_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["profile", "recommend", str(write(tmp_path, "k8s")), "--json", "--vcpu-hour"]
    assert main([*command, "1e308"]) == 2
    assert capsys.readouterr().err.startswith("lithowatt: vcpu_hour 1e+308 is not a number of USD")
    for wrong in (10**400, 1e308):
        with pytest.raises(ValueError, match="is not a number of USD, 0 or more and up to"):
            Price(vcpu_hour=wrong)
        with pytest.raises(ValueError, match="is not a number above 0 and up to 65536"):
            Price(vcpu_hour=0.04, vcpus=wrong)


def test_repetitions_of_several_platforms_in_one_file(tmp_path: Path) -> None:
    price = Price(vcpu_hour=0.04)
    file = changed(
        write(tmp_path, "k8s"),
        record=lambda one, index: one.update(backend="localhost" if index == 0 else "k8s"),
    )
    model = PerformanceModel(file, price=price)
    assert model.platform.name == "k8s, localhost"
    assert any("several platforms (k8s, localhost)" in note for note in model.warnings)
    one = model.predict(2, 16384)
    assert one.cost is None and "several platforms" in str(one.cost_reason)
    assert one.energy is not None
    # Beside another profile of one of them they are no more than these two.
    folder = tmp_path / "k8s"
    folder.mkdir()
    both = PerformanceModel([file, write(folder, "k8s", (8192,))])
    assert both.platform.name == "k8s, localhost"
    assert PerformanceModel(file, platform="kubernetes", price=price).no_price is None


def test_limits_that_differ_between_repetitions_are_not_known(tmp_path: Path) -> None:
    file = changed(
        write(tmp_path, "k8s"),
        record=lambda one, index: one["given"].update(cpus=(1, 4, 32)[index]),
    )
    model = PerformanceModel(file, price=Price(vcpu_hour=0.04))
    assert model.predict(2, 16384).vcpus is None
    assert any("given.cpus differs" in note and "(1, 4, 32)" in note for note in model.warnings)
    assert model.no_price is not None and "do not record the vCPUs" in model.no_price


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"schema":', "stage.json.energy is cut off or not JSON"),
        (b"\xff\xfe", "stage.json.energy is not UTF-8"),
        (b'{"schema":99,"units":{},"configurations":{}}', "stage.json.energy has schema 99"),
        (None, "stage.json.energy: Is a directory"),
    ],
)
def test_a_sidecar_that_cannot_be_read_is_told(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    file = write(tmp_path, "k8s")
    sidecar = file.with_name("stage.json.energy")
    sidecar.unlink()
    # One that is not there is nothing to tell: FlexExecutor itself writes none.
    assert not any("sidecar" in note for note in PerformanceModel(file).warnings)
    if content is None:
        sidecar.mkdir()
    else:
        sidecar.write_bytes(content)
    (note,) = (note for note in PerformanceModel(file).warnings if "sidecar" in note)
    assert words in note and str(tmp_path) not in note


# --- the protocol -------------------------------------------------------------

KINDS: list[Platform] = [AwsLambda(), Kubernetes(), Localhost(), Server(), FunctionSandbox()]


@pytest.mark.parametrize("platform", KINDS, ids=lambda one: one.name)
def test_every_answer_is_a_number_or_has_its_reason(platform: Platform) -> None:
    for worker in (
        Worker(0, "x86_64"),
        Worker(2048, "arm64"),
        Worker(2048, "x86_64", 2.0, CPU, 96),
        Worker(2048, "x86_64", None, CPU, None),
    ):
        least, most = platform.memory_mb
        if least <= worker.memory_mb <= most:
            assert (platform.cost(worker, 10.0, 2) is None) == (
                platform.no_price(worker) is not None
            )
        watts = platform.watts(worker, 0.5)
        assert (watts is None) == (platform.no_watts(worker) is not None)
        assert (platform.share(worker) is None) == (watts is None)
        if watts is not None:
            assert 0 <= watts.low <= watts.value <= watts.high
    for memory in (128.0, 1769.0, 10240.0):
        assert platform.memory_of(platform.size(memory)) == pytest.approx(memory)


PRICED: list[Platform] = [AwsLambda(), Kubernetes(price=Price(0.04, 0.005)), FunctionSandbox()]


@pytest.mark.parametrize("platform", PRICED, ids=lambda one: one.name)
@pytest.mark.parametrize("wrong", [0, -2.0, math.nan, math.inf, 1e300, 10**400])
def test_what_is_no_quantity_is_not_known(platform: Platform, wrong: float) -> None:
    good = Worker(2048, "x86_64", 2.0, CPU, 96)
    for worker in (
        good._replace(memory_mb=wrong),
        good._replace(vcpus=wrong),
        good._replace(logical_cpus=wrong),
        good._replace(vcpus=wrong, logical_cpus=wrong),
    ):
        cost, watts = platform.cost(worker, 10.0), platform.watts(worker, 1.0)
        assert (cost is None) == (platform.no_price(worker) is not None)
        assert (watts is None) == (platform.no_watts(worker) is not None)
        assert cost is None or 0 < cost < 1
        assert watts is None or 0 < watts.low <= watts.value <= watts.high < 1e4
    assert AwsLambda().watts(good._replace(memory_mb=wrong), 1.0) is None
    assert Kubernetes().watts(good._replace(vcpus=wrong, logical_cpus=wrong), 1.0) is None
    assert PRICED[1].cost(good._replace(vcpus=wrong), 10.0) is None
    assert PRICED[1].cost(good._replace(memory_mb=wrong), 10.0) is None


@pytest.mark.parametrize("platform", PRICED, ids=lambda one: one.name)
def test_what_is_asked_must_be_a_quantity(platform: Platform) -> None:
    worker = Worker(2048, "x86_64", 2.0, CPU, 96)
    for seconds in (-5.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"seconds {seconds!r} is not a number of 0 or more"):
            platform.cost(worker, seconds)
    for workers in (0, -1, math.nan):
        with pytest.raises(ValueError, match=f"workers {workers!r} is not a number above 0"):
            platform.cost(worker, 10.0, workers)
    with pytest.raises(ValueError, match="busy_vcpus nan is not a finite number"):
        platform.watts(worker, math.nan)


def test_nobody_uses_more_than_the_limit_and_the_machine() -> None:
    pod = Worker(1024, "x86_64", 1.0, CPU, 96)
    assert Kubernetes().watts(pod, 64.0) == Kubernetes().watts(pod, 1.0)
    large, whole = pod._replace(vcpus=500.0), pod._replace(vcpus=96.0)
    for platform in (Kubernetes(price=Price(vcpu_hour=0.04)), FunctionSandbox()):
        assert platform.vcpus(large) == 96.0
        assert platform.watts(large, 1.0) == platform.watts(whole, 1.0)
        assert platform.cost(large, 10.0) == platform.cost(whole, 10.0)


def test_a_limit_that_nobody_recorded_widens_the_band(tmp_path: Path) -> None:
    file = write(tmp_path, "k8s", joules=False)
    known = PerformanceModel(file)
    assert not any("how many CPUs" in note for note in known.warnings)
    unknown = PerformanceModel(changed(file, record=lambda one, _: one.pop("given")))
    (note,) = (note for note in unknown.warnings if "how many CPUs" in note)
    assert "all CPUs of the machine (96), with a band from one CPU on" in note
    energy = unknown.predict(1, 16384).energy
    assert energy is not None
    worker = unknown.observations[0].worker
    for limit in (2, 4, 8, 32, 96):
        given = {"given": {"cpus": limit}}
        changed(file, record=lambda one, _, given=given: one.update(given))  # type: ignore[misc]
        model = PerformanceModel(file)
        limited = model.predict(1, 16384).energy
        assert limited is not None
        # Whatever the limit is, its band is inside, but for the fit of times on both sides.
        assert energy.low <= limited.low * 1.005 and limited.high <= energy.high * 1.005
    # The best estimate is that of the machine, and a limit below the busy CPUs cannot be.
    assert energy.value == pytest.approx(limited.value)
    for platform in (Server(), Kubernetes(), FunctionSandbox()):
        found = platform.watts(worker, 2.0)
        limits = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 96.0)
        bands = [platform.watts(worker._replace(vcpus=limit), 2.0) for limit in limits]
        assert found is not None and found.value == bands[-1].value  # type: ignore[union-attr]
        assert found.low == min(one.low for one in bands if one is not None)
        assert found.high == max(one.high for one in bands if one is not None)
    # Nothing limits a process on the client's own machine.
    assert Localhost().watts(worker, 2.0) == Localhost().watts(worker._replace(vcpus=96.0), 2.0)


def test_a_price_that_tells_no_dollars_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = changed(write(tmp_path, "k8s"), record=lambda one, _: one.pop("given"))
    assert main(["profile", "recommend", str(file), "--vcpu-hour", "0.04"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "there is no price" not in out
    assert "the price that was given tells no dollars (the profiles do not record the vCPUs" in out


def test_options_of_the_command_are_named_as_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(write(tmp_path, "k8s"))
    for more in ((), ("--gib-hour", "0.01")):
        assert main(["profile", "recommend", file, "--vcpus", "2", *more]) == 2
        assert capsys.readouterr().err.startswith("lithowatt: --vcpus needs --vcpu-hour")
    assert main(["profile", "recommend", file, "--region", "mars-1"]) == 2
    assert "no price for region 'mars-1'" in capsys.readouterr().err
    assert main(["profile", "recommend", file, "--region", "eu-west-1"]) == 0
    assert "region eu-west-1 has no effect on k8s" in capsys.readouterr().out


def test_memory_that_nobody_asked_for_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(write(tmp_path, "k8s", memories=(0,)))
    assert main(["profile", "recommend", file]) == 0
    assert " 0 (512 given) " in capsys.readouterr().out
    assert main(["profile", "recommend", file, "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["best"]
    assert (best["memory_mb"], best["memory_given_mb"]) == (0, 512)


@pytest.mark.parametrize("wrong", [5, Kubernetes, b"k8s", object()])
def test_what_is_no_platform_is_named(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(TypeError, match="platform must be a Platform or one of aws-lambda"):
        PerformanceModel(write(tmp_path, "k8s"), platform=wrong)


@pytest.mark.parametrize("wrong", [5, (0.04, 0.005), {}, "0.04", 0])
def test_what_is_no_price_is_named(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"price must be a lithowatt.analysis.platforms.Price, not"):
        PerformanceModel(write(tmp_path, "k8s"), price=wrong)


class Own:
    """A platform of a user's, with the cost that it is told to have."""

    name, region, definition = "own", None, "marginal"
    memory_mb, most_vcpus, visible_cpus = (0.0, 1e9), None, None

    def __init__(self, dollars: Any) -> None:
        self.dollars = dollars

    def size(self, memory_mb: float) -> float:
        return max(memory_mb, 1) / 1024

    def memory_of(self, size: float) -> float:
        return size * 1024

    def vcpus(self, worker: Worker) -> float | None:
        return 2.0

    def share(self, worker: Worker) -> Share | None:
        return None

    def watts(self, worker: Worker, busy_vcpus: float) -> Estimate | None:
        return None

    def no_watts(self, worker: Worker) -> str | None:
        return "no power"

    def cost(
        self, worker: Worker, seconds: float, workers: float = 1, rounded: bool = True
    ) -> float | None:
        return self.dollars  # type: ignore[no-any-return]

    def no_price(self, worker: Worker) -> str | None:
        return None


def test_a_platform_of_the_users(tmp_path: Path) -> None:
    file = write(tmp_path, "k8s")
    cost = PerformanceModel(file, platform=Own(1.5)).predict(2, 16384).cost
    assert cost is not None and cost.value == 1.5
    with pytest.raises(ValueError, match="platform own answers its cost itself: it takes no price"):
        PerformanceModel(file, platform=Own(1.5), price=Price(vcpu_hour=0.04))
    for wrong in (None, -1.0, math.nan, math.inf, "1"):
        model = PerformanceModel(file, platform=Own(wrong))
        one = model.predict(2, 16384)
        assert one.cost is None and one.cost_reason is not None
        assert "own has no cost that is a number of USD, 0 or more" in one.cost_reason
        assert "cost" not in model.estimates(2, 16384, "x86_64")
        with pytest.raises(ValueError, match="own has no cost"):
            recommend(model, minimise="cost")


def test_what_is_no_memory_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, "k8s")
    model = PerformanceModel(file)
    for wrong in ("16384", math.nan, 1e300, -1, None):
        with pytest.raises(ValueError, match="is not a number of MB, 0 or more"):
            model.predict(2, wrong, extrapolate=True)  # type: ignore[arg-type]
    for words in (["1"], "1", [None]):
        with pytest.raises(ValueError, match=r"memory .* is no number and no list of numbers"):
            recommend(model, memory=words, extrapolate=True)  # type: ignore[arg-type]


def test_only_where_memory_buys_cpus_it_does() -> None:
    buys = [one.name for one in KINDS if one.most_vcpus is not None]
    assert buys == ["aws_lambda"]
    assert AwsLambda().vcpus(Worker(1769, "arm64")) == 1.0
    assert Kubernetes().vcpus(Worker(1769, "arm64")) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "needs vcpu_hour or gib_hour"),
        ({"vcpu_hour": -1.0}, "vcpu_hour -1.0 is not a number of USD"),
        ({"gib_hour": math.nan}, "gib_hour nan"),
        ({"vcpu_hour": "4"}, "vcpu_hour '4'"),
        ({"vcpu_hour": 0.04, "vcpus": 0}, "vcpus 0 is not a number above 0"),
    ],
)
def test_a_wrong_price_is_named(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Price(**arguments)


def test_a_table_of_prices_takes_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="prices of aws_lambda are in a table"):
        platform_named("aws-lambda", price=Price(vcpu_hour=0.04))
    with pytest.raises(ValueError, match="not one of aws-lambda, kubernetes, localhost, server"):
        platform_named("moon")
