"""``lithowatt doctor`` names each setting that is not used as it is written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lithowatt import EnergyMeter
from lithowatt._support.environment_variables import SETTINGS, misspelt
from lithowatt.cli import main
from lithowatt.cli._problems import BY_CORE, FREE, JUDGES, problems
from lithowatt.errors import LithowattError

NAMES = [name for group in SETTINGS.values() for name, _, _ in group]

#: With these no meter can be made.
REFUSED = [
    ("ENERGY_METHODS", "bogus", '"rapl"'),
    ("ENERGY_METHODS", "rapl,\udcff", "text in UTF-8"),
    ("ENERGY_DEFINITION", "bogus", '"marginal" or "amortised"'),
    ("ENERGY_DEFINITION", " ", '"marginal" or "amortised"'),
    ("ENERGY_COLLECTION_INTERVAL", "abc", "milliseconds from 1 to 3600000, or off"),
    ("ENERGY_COLLECTION_INTERVAL", "0", "milliseconds from 1 to 3600000, or off"),
]

#: With these one can, and something else than what is written is done.
OTHERS = [
    ("ENERGY_MONITORING_ENABLED", "disabled", "false, 0, no or off"),
    ("ENERGY_ESTIMATION_METHOD", "bogus", '"curve", "tdp_based" or "vcpu"'),
    ("ENERGY_ESTIMATION_METHOD", "\udcff", "string without lone surrogates"),
    ("ENERGY_STATS", "full", "expected compact or essential"),
    ("LITHOWATT_IDLE_WATTS", "-1", "number of watts, 0 or more"),
    ("LITHOWATT_GRID_INTENSITY", "nope.csv", "expected g CO2e per kWh, 0 or more, or the path"),
    ("LITHOWATT_GRID_INTENSITY", "0.4", "used as it is, but grids have 1 to 1500 g CO2e per kWh"),
    ("LITHOWATT_GRID_INTENSITY", "green", "neither g CO2e per kWh, 0 or more, nor a CSV file"),
    ("LITHOWATT_PUE", "x", "a number, 1 or more"),
    ("LITHOWATT_PUE", "0.5", "a number, 1 or more"),
    ("LITHOWATT_STATE_DIR", __file__, "expected a directory"),
    ("LITHOWATT_ROOT", str(Path(__file__).parent), "holds no proc"),
    ("LITHOWATT_RING", "/nowhere/ring", "expected the ring of a node agent"),
    ("LITHOWATT_GUEST", "/nowhere/guest", "expected the file of this virtual machine's host"),
    ("LITHOWATT_RING_OWNER", "me", "expected the number of a user"),
    ("LITHOWATT_RING_OWNER", "9" * 5000, "expected the number of a user"),
    ("LITHOWATT_FLEXECUTOR", "maybe", "false, 0, no or off"),
]

ACCEPTED = [
    *(("ENERGY_MONITORING_ENABLED", value) for value in ("", "true", " OFF ", "0")),
    *(("ENERGY_METHODS", value) for value in ("", "rapl, psutil", "ALL", "auto,tdp")),
    *(("ENERGY_COLLECTION_INTERVAL", value) for value in ("", "50", "off")),
    *(("ENERGY_ESTIMATION_METHOD", value) for value in ("", "curve", "TDP_based")),
    *(("ENERGY_DEFINITION", value) for value in ("", "marginal", "Amortised")),
    *(("ENERGY_STATS", value) for value in ("", "compact", " Essential ")),
    *(("LITHOWATT_IDLE_WATTS", value) for value in ("", "12.5")),
    ("LITHOWATT_INSTANCE_TYPE", "m7g.large"),
    *(("LITHOWATT_GRID_INTENSITY", value) for value in ("", "250", "0")),
    *(("LITHOWATT_PUE", value) for value in ("", "1.2")),
    ("LITHOWATT_STATE_DIR", "/nowhere/yet"),
    ("LITHOWATT_ROOT", "/"),
    ("LITHOWATT_RING", __file__),
    ("LITHOWATT_RING_OWNER", "1000"),
    ("LITHOWATT_GUEST", __file__),
    *(
        (f"LITHOWATT_{meter}_{what}", "any")
        for meter in ("MQTT", "REDFISH")
        for what in ("USER", "PASSWORD")
    ),
    *(("LITHOWATT_CALLS", value) for value in ("", "on", "/run/lithowatt/calls")),
    *(("LITHOWATT_FLEXECUTOR", value) for value in ("", "1", "no")),
    ("POD_NAME", "pod-1"),
    ("NODE_NAME", "node-1"),
]


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name in NAMES or name.startswith(("ENERGY_", "LITHOWATT_")):
            monkeypatch.delenv(name)


def test_every_setting_has_its_judge() -> None:
    assert sorted([*JUDGES, *BY_CORE, *FREE]) == sorted(NAMES)
    assert {name for name, _, _ in REFUSED + OTHERS} == {*JUDGES, *BY_CORE}
    assert {name for name, _ in ACCEPTED} == set(NAMES)


@pytest.mark.parametrize(("name", "value", "accepted"), REFUSED + OTHERS)
def test_what_is_not_accepted_is_named_with_what_is(
    name: str,
    value: str,
    accepted: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    (told,) = problems()
    # The core names a root by its path.
    assert (name if name != "LITHOWATT_ROOT" else value) in told
    assert accepted in told and len(told) < 400
    assert main(["doctor"]) == 0
    assert f"warning: {told}" in " ".join(capsys.readouterr().out.split())
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == [told]


@pytest.mark.parametrize(("name", "value", "accepted"), REFUSED)
def test_what_doctor_calls_refused_a_meter_refuses(
    name: str, value: str, accepted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(LithowattError) as refused:
        EnergyMeter()
    assert problems() == [f"{name}={value!r} is refused: {refused.value}"]


@pytest.mark.parametrize(("name", "value"), ACCEPTED)
def test_what_is_accepted_is_not_remarked_on(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert problems() == []


def test_all_that_is_wrong_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value, _ in REFUSED:
        monkeypatch.setenv(name, value)
    assert [told.partition("=")[0] for told in problems()] == [
        "ENERGY_METHODS",
        "ENERGY_COLLECTION_INTERVAL",
        "ENERGY_DEFINITION",
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ENERGY_METHOD", "ENERGY_METHODS"),
        ("ENERGY_DEFINTION", "ENERGY_DEFINITION"),
        ("ENERGY_COLLECTION_INTERVAL_MS", "ENERGY_COLLECTION_INTERVAL"),
        ("ENERGY_MONITORING_ENABLE", "ENERGY_MONITORING_ENABLED"),
        ("LITHOWATT_PEU", "LITHOWATT_PUE"),
    ],
)
def test_a_misspelt_name_is_told(name: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    assert problems() == [f"{name} is set, and no setting has this name: {meant}?"]


def test_other_programs_may_have_variables_that_begin_alike() -> None:
    theirs = ["ENERGY_PRICE", "ENERGY_UNIT", "ENERGY_", "ENERGY_MONITOR", "ENERGY_API_KEY"]
    assert misspelt(dict.fromkeys(theirs, "1")) == []
    assert misspelt({"LITHOWATT_QQQQ": "1"}) == [
        "LITHOWATT_QQQQ is set, and no setting has this name"
    ]
