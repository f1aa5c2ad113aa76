"""The examples' tables never sum joules of two definitions, and say which they are of."""

from __future__ import annotations

import sys
from types import SimpleNamespace

from tests.support import TOP

sys.path.insert(0, str(TOP))

from examples._common import summary
from examples._common.records import CallRecord, MachineRecord, RunRecord


def call(definition: str, marginal: float, idle: float) -> CallRecord:
    amortised = marginal + idle
    joules = marginal if definition == "marginal" else amortised
    stats = {
        "schema": 1,
        "consumption": joules,
        "low": 0.9 * joules,
        "high": 1.1 * joules,
        "marginal": marginal,
        "amortised": amortised,
        "definition": definition,
        "phase_read": 0.25 * joules,
        "phase_compute": 0.5 * joules,
        "phase_write": 0.25 * joules,
    }
    return CallRecord(
        SimpleNamespace(total=1.0),
        {f"worker_func_energy_{key}": value for key, value in stats.items()},
    )


def run(*calls: CallRecord) -> RunRecord:
    nothing = MachineRecord(None, None, None, None, 0.0, None, "no counter")
    return RunRecord(len(calls), 2048, 1, 1.0, {"train": list(calls)}, nothing, "done")


def test_joules_of_one_definition_are_summed_and_named() -> None:
    for definition, joules in (("marginal", "5.000"), ("amortised", "25.000")):
        one = run(call(definition, 2.0, 10.0), call(definition, 3.0, 10.0))
        assert summary.energy(one) == f"{joules} J {definition}"
        assert one.as_dict()["functions"]["definition"] == definition
        head, line, *_ = summary.stages([one]).splitlines()
        assert f"J {definition}" in head.partition("95 % band")[0]
        assert joules in line and " to " in line
        assert max(map(len, summary.text([one]).splitlines())) <= 80
        told = summary.calls(one.calls())
        assert f"{float(joules):g} J [" in told and f"] {definition}, sum of 2 of 2 calls" in told


def test_joules_of_two_definitions_are_told_above_idle() -> None:
    mixed = run(call("marginal", 2.0, 10.0), call("amortised", 3.0, 10.0))
    assert mixed.functions("joules") is None
    assert mixed.functions("marginal") == 5.0
    assert summary.energy(mixed) == "5.000 J marginal"
    assert mixed.as_dict()["functions"]["definition"] is None
    head, line, *_ = summary.stages([mixed]).splitlines()
    assert "J marginal" in head.partition("95 % band")[0]
    # Neither the band nor the phases are of that.
    assert "5.000" in line and " to " not in line
    parts = next(one for one in summary.stages([mixed]).splitlines() if "25.000" in one)
    assert parts.count(summary.DASH) == 3
    assert "15.000" not in summary.stages([mixed])
    told = summary.calls(mixed.calls())
    assert "5 J marginal, sum of 2 of 2 calls" in told and " to " not in told


def _told(**sources: str) -> list[str]:
    stats = {
        "worker_func_energy_schema": 1,
        "worker_func_energy_consumption": 1.0,
        "worker_func_energy_source": "modelled: model:x",
    }
    stats["worker_func_energy_schema"] = 1
    stats |= {f"worker_func_{method}_source": source for method, source in sources.items()}
    return CallRecord(SimpleNamespace(total=1.0), stats=stats).reasons()


def test_what_is_missing_is_told_in_one_line() -> None:
    nothing = "unavailable: /sys/class/powercap does not exist"
    told = _told(rapl=nothing, perf=nothing, ebpf=nothing, psutil="measured: /proc")
    assert len(told) == 1 and "lithowatt doctor" in told[0] and "model" in told[0]
    # One counter is enough, and kernel probes are a refinement.
    assert _told(rapl="measured: package-0", perf=nothing, ebpf=nothing, psutil="measured") == []
    assert _told(rapl=nothing, perf="measured: package-0", psutil=nothing) == [f"psutil: {nothing}"]
