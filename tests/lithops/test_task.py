"""The task's window beside the function's: who pays for what, and that nothing is paid twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from lithowatt.worker import task_window as task
from lithowatt.worker.task_window import KEYS, PREFIX, TaskWindow, Worker
from tests.support import TOP

pytestmark = [pytest.mark.lithops, pytest.mark.slow]


class Meter:
    """A meter whose window is what the test says."""

    def __init__(self, interval: float | None = 0.1) -> None:
        assert interval is None, "the handler gets no thread before it forks"
        self.running = False
        self.set(2.0, seconds=1.0, cpu=0.5)

    def set(
        self,
        joules: float,
        *,
        seconds: float,
        cpu: float | None = 0.5,
        quality: str = "attributed",
        definition: str = "marginal",
        amortised: float = 0.0,
    ) -> Meter:
        marginal = joules if definition == "marginal" else joules - 1
        other = amortised if definition == "marginal" else marginal
        self.definition = definition
        self.came: dict[bool, Any] = {
            same: (own, 0.5 * own, 2.0 * own, seconds, quality, marginal, cpu)
            for same, own in ((True, joules), (False, other))
        }
        return self

    def energy(self, definition: str | None = None) -> Any:
        return self.came[definition in (None, self.definition)] if self.came else None

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        assert self.running
        self.running = False


@pytest.fixture(autouse=True)
def meters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "new_engine", Meter)


def worker(startup_cpu: float | None = 0.25) -> Worker:
    worker = Worker(fresh=startup_cpu is not None)
    worker._startup_cpu = startup_cpu
    return worker


def values(window: TaskWindow, function: dict[str, Any] | None = None) -> dict[str, Any]:
    window.stop()
    window.stop()  # again changes nothing
    stats = window.values(function)
    assert tuple(stats) == KEYS
    return {key.removeprefix(PREFIX): value for key, value in stats.items()}


def downloaded(joules: float) -> Meter:
    return Meter(interval=None).set(joules, seconds=0.5)


def test_calls_one_after_another_the_first_pays() -> None:
    here = worker()
    here.begin_chunk(3, downloaded(1.0))
    first, second = (values(TaskWindow(here, 3)) for _ in range(2))

    assert (first["cold_start"], second["cold_start"]) == (True, False)
    assert (first["energy_consumption"], second["energy_consumption"]) == (3.0, 2.0)
    assert (first["energy_low"], first["energy_high"]) == (1.5, 6.0)
    assert (first["energy_duration"], second["energy_duration"]) == (1.5, 1.0)
    # 0.25 s at the task's 2 J in 0.5 s; the band once the task's and once for what nobody saw.
    startup = [first["energy_startup" + key] for key in ("", "_low", "_high")]
    assert startup == pytest.approx([1.0, 0.25, 4.0])
    assert second["energy_startup"] == second["energy_startup_high"] == 0.0


def test_a_warm_process_pays_for_the_next_chunk_and_not_for_its_start() -> None:
    here = worker()
    here.begin_chunk(1, downloaded(1.0))
    values(TaskWindow(here, 1))
    here.begin_chunk(1, downloaded(0.5))
    warm = values(TaskWindow(here, 1))
    assert warm["cold_start"] is False
    assert warm["energy_consumption"] == 2.5
    assert warm["energy_startup"] == 0.0


def test_calls_in_forks_each_pay_the_same_part() -> None:
    # In an interpreter of its own: a fork of pytest's would run its clean-up too.
    script = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from tests.lithops import test_task as here
here.task.new_engine = here.Meter
parent = here.worker()
parent.begin_chunk(4, here.downloaded(1.0))
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        for _ in range(2):
            print(json.dumps(here.values(here.TaskWindow(parent, 4))), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
"""
    command = [sys.executable, "-c", script, str(TOP)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    calls = [json.loads(line) for line in done.stdout.splitlines()]
    assert [call["cold_start"] for call in calls] == [True, False, True, False]
    assert sum(call["energy_consumption"] - 2.0 for call in calls) == pytest.approx(1.0)
    assert sum(call["energy_startup"] for call in calls) == pytest.approx(1.0)
    assert len({call["energy_consumption"] for call in calls}) == 1


def test_forks_that_were_there_before_their_calls_do_not_all_pay_the_start() -> None:
    here = worker()
    here._pid = os.getpid() + 1  # as in a fork of the process that started
    first, second = (values(TaskWindow(here, 1)) for _ in range(2))
    assert first["cold_start"] is True
    assert first["energy_startup"] is None
    assert second["energy_startup"] == 0.0


def test_a_process_that_did_other_things_before_does_not_guess_its_start() -> None:
    here = worker(startup_cpu=None)
    first = values(TaskWindow(here, 1))
    assert first["cold_start"] is True
    assert first["energy_startup"] is None
    assert first["energy_startup_low"] is None
    assert values(TaskWindow(here, 1))["energy_startup"] == 0.0


def test_a_call_that_is_not_metered_uses_up_the_start() -> None:
    here = worker()
    here.pass_call()
    next_one = values(TaskWindow(here, 1))
    assert next_one["cold_start"] is False
    assert next_one["energy_startup"] == 0.0


FUNCTION = {
    "worker_func_energy_consumption": 2.5,
    "worker_func_energy_low": 1.5,
    "worker_func_energy_high": 4.5,
    "worker_func_energy_duration": 0.5,
    "worker_func_energy_quality": "attributed",
    "worker_func_energy_definition": "marginal",
}


def test_the_task_holds_its_function() -> None:
    stats = values(TaskWindow(worker(), 1), FUNCTION)
    band = [stats["energy_" + key] for key in ("low", "consumption", "high")]
    assert band == [1.5, 2.5, 4.5]


def test_both_are_of_one_definition() -> None:
    window = TaskWindow(worker(), 1)
    window.meter.set(2.0, seconds=1.0, amortised=8.0)
    amortised = {**FUNCTION, "worker_func_energy_definition": "amortised"}
    stats = values(window, amortised)
    band = [stats["energy_" + key] for key in ("low", "consumption", "high")]
    assert band == [4.0, 8.0, 16.0]


def test_the_worst_quality_is_the_sums() -> None:
    here = worker()
    here.begin_chunk(1, downloaded(1.0).set(1.0, seconds=0.5, quality="modelled"))
    assert values(TaskWindow(here, 1))["energy_quality"] == "modelled"


@pytest.mark.parametrize("cpu", [None, 0.0])
def test_no_cpu_time_no_startup(cpu: float | None) -> None:
    window = TaskWindow(worker(), 1)
    window.meter.set(2.0, seconds=1.0, cpu=cpu)
    stats = values(window)
    assert stats["energy_startup"] is None
    assert stats["energy_consumption"] == 2.0


def test_without_energy_all_is_none_but_the_cold_start() -> None:
    window = TaskWindow(worker(), 1)
    window.meter.came = {}
    stats = values(window, {"worker_func_energy_consumption": None})
    assert stats.pop("cold_start") is True
    assert set(stats.values()) == {None}
