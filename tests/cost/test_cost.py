"""Dollars of Lambda calls, against sums that anyone can do by hand."""

from __future__ import annotations

import copy
import json
import pickle
import re
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lithowatt import Estimate
from lithowatt.aws import calculate_energy_cost_correlation
from lithowatt.cli import main
from lithowatt.cost import (
    LambdaCost,
    energy_cost,
    lambda_cost,
    lambda_price,
    lambda_regions,
)

X86, ARM = "x86_64", "arm64"


def test_ten_million_calls_by_hand() -> None:
    # AWS's own way to count: 10 M × 0.2 s × 0.5 GB × $0.0000166667 + 10 × $0.20.
    cost = lambda_cost(0.2, 512, "x86_64", "us-east-1", requests=10_000_000)
    assert abs(cost - 18.6667) < 1e-9
    assert abs(cost.compute - 16.6667) < 1e-9
    assert abs(cost.request - 2.0) < 1e-9
    assert cost.gb_seconds == 1_000_000
    assert cost.total == cost == cost.compute + cost.request


def test_arm_is_cheaper_by_a_fifth() -> None:
    arm = lambda_cost(10, 2048, "arm64", "us-east-1")
    x86 = lambda_cost(10, 2048, "x86_64", "us-east-1")
    assert arm.compute / x86.compute == pytest.approx(0.8, abs=1e-5)
    assert lambda_cost(10, 2048, "aarch64", "us-east-1") == arm
    assert lambda_cost(10, 2048, "AMD64", "us-east-1") == x86


@pytest.mark.parametrize(
    ("duration", "billed"),
    [(0, 0), (1e-9, 0.001), (0.001, 0.001), (0.0010001, 0.002), (0.2, 0.2), (0.1 + 0.2, 0.3)],
)
def test_each_request_is_rounded_up_to_a_millisecond(duration: float, billed: float) -> None:
    one = lambda_cost(duration, 1024, "x86_64")
    assert one.billed_duration == pytest.approx(billed, abs=1e-12)
    assert lambda_cost(duration, 1024, "x86_64", requests=1000) == pytest.approx(1000 * one)


def test_a_cost_says_where_its_price_is_from() -> None:
    cost = lambda_cost(1, 1024, "arm64")
    assert "aws.amazon.com/lambda/pricing" in cost.source
    assert cost.price.date in cost.source
    assert lambda_price("arm64") == cost.price


def test_a_cost_survives_copies() -> None:
    cost = lambda_cost(1, 1024, "arm64", requests=3)
    for other in (pickle.loads(pickle.dumps(cost)), copy.copy(cost), copy.deepcopy(cost)):
        assert isinstance(other, LambdaCost)
        assert (other, other.compute, other.source) == (cost, cost.compute, cost.source)
    cost = lambda_cost(1, 1024, ARM, requests=3, init_duration_s=2, storage_mb=1024, free_tier=True)
    for other in (pickle.loads(pickle.dumps(cost)), copy.deepcopy(cost)):
        for name in LambdaCost.__slots__:
            assert getattr(other, name) == getattr(cost, name), name


def test_numpy_numbers_are_numbers() -> None:
    cost = lambda_cost(np.float32(1.5), np.int64(1024), "x86_64", requests=np.int32(2))
    assert cost == lambda_cost(1.5, 1024, "x86_64", requests=2)


@pytest.mark.parametrize(
    ("arguments", "named", "accepted"),
    [
        ((-1, 512, "x86_64", "us-east-1"), "-1", "0 or more"),
        ((float("nan"), 512, "x86_64", "us-east-1"), "nan", "0 or more"),
        ((float("inf"), 512, "x86_64", "us-east-1"), "inf", "0 or more"),
        ((None, 512, "x86_64", "us-east-1"), "None", "0 or more"),
        (("1", 512, "x86_64", "us-east-1"), "'1'", "0 or more"),
        ((True, 512, "x86_64", "us-east-1"), "True", "0 or more"),
        ((1, 127, "x86_64", "us-east-1"), "127", "128 to 10240"),
        ((1, 10_241, "x86_64", "us-east-1"), "10241", "128 to 10240"),
        ((1, float("nan"), "x86_64", "us-east-1"), "nan", "128 to 10240"),
        ((1, None, "x86_64", "us-east-1"), "None", "128 to 10240"),
        ((1, 512, "riscv", "us-east-1"), "riscv", "x86_64 or arm64"),
        ((1, 512, None, "us-east-1"), "None", "x86_64 or arm64"),
        ((1, 512, "x86_64", "moon-1"), "moon-1", "us-east-1"),
        ((1, 512, "x86_64", None), "None", "us-east-1"),
        ((1, 512, "x86_64", "us-east-1", -1), "-1", "0 or more"),
        ((1, 512, "x86_64", "us-east-1", 1.5), "1.5", "0 or more"),
        ((1, 512, "x86_64", "us-east-1", True), "True", "0 or more"),
        ((1, 512, "x86_64", ["us-east-1"]), "['us-east-1']", "us-east-1"),
        ((1, 512, "x86_64", "US-EAST-1"), "'US-EAST-1'", "us-east-1"),
    ],
)
def test_a_wrong_value_is_named(arguments: tuple, named: str, accepted: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)) as error:
        lambda_cost(*arguments)
    assert accepted in str(error.value)
    assert "\n" not in str(error.value)


@given(
    milliseconds=st.integers(0, 900_000),
    memory=st.integers(128, 10_240),
    requests=st.integers(0, 10_000),
    architecture=st.sampled_from(["x86_64", "arm64"]),
)
def test_it_is_the_sum_of_its_parts(
    milliseconds: int, memory: int, requests: int, architecture: str
) -> None:
    price = lambda_price(architecture)
    exact = requests * (
        Decimal(milliseconds) / 1000 * memory / 1024 * Decimal(repr(price.gb_second))
        + Decimal(repr(price.request))
    )
    cost = lambda_cost(milliseconds / 1000, memory, architecture, requests=requests)
    assert cost == pytest.approx(float(exact), rel=1e-12, abs=1e-18)


# -- bills by hand ----------------------------------------------------------------------------
#
# Each is the arithmetic of the pricing page, written out: GB·s × price + requests × fee.

BILLS = {
    # The least there is: 0.001 s × 0.125 GB × 0.0000166667, and a request.
    "1 ms at 128 MB": (
        {"duration_s": 0.001, "memory_mb": 128, "architecture": X86},
        "0.0000000020833375 + 0.0000002",
    ),
    # 123.1 ms are billed as 124 ms: 0.124 s × 1 GB × 0.0000166667.
    "rounded up": (
        {"duration_s": 0.1231, "memory_mb": 1024, "architecture": X86},
        "0.0000020666708 + 0.0000002",
    ),
    # The most there is: 900 s × 10 GB = 9000 GB·s × 0.0000166667.
    "10 GB for 15 minutes": (
        {"duration_s": 900, "memory_mb": 10_240, "architecture": X86},
        "0.1500003 + 0.0000002",
    ),
    # 1000 × 3 s × 2 GB = 6000 GB·s × 0.0000133334; 1000 × 0.0000002.
    "arm64": (
        {"duration_s": 3, "memory_mb": 2048, "architecture": ARM, "requests": 1000},
        "0.0800004 + 0.0002",
    ),
    # 5,999,999,000 GB·s were used: of 4000, 1000 at 0.0000166667 and 3000 at 0.000015.
    "over the first boundary": (
        {
            "duration_s": 1,
            "memory_mb": 1024,
            "architecture": X86,
            "requests": 4000,
            "month_gb_seconds": 5_999_999_000,
        },
        "0.0166667 + 0.045 + 0.0008",
    ),
    # 2e9 × 1 s × 10 GB = 20e9 GB·s: 7.5e9 × 0.0000133334, 11.25e9 × 0.0000120001,
    # 1.25e9 × 0.0000106667; 2e9 × 0.0000002.
    "over both boundaries": (
        {"duration_s": 1, "memory_mb": 10_240, "architecture": ARM, "requests": 2_000_000_000},
        "100000.5 + 135001.125 + 13333.375 + 400",
    ),
    # 16e9 GB·s were used: 100 at 80 % of 0.0000183334, which is 0.0000146667.
    "the last tier in Zürich": (
        {
            "duration_s": 1,
            "memory_mb": 1024,
            "architecture": X86,
            "region": "eu-central-2",
            "requests": 100,
            "month_gb_seconds": 16e9,
        },
        "0.00146667 + 0.000022",
    ),
    # 2560 MB of storage are 2 GB above 512 MB: 10 s × 2 GB × 0.0000000309.
    "storage": (
        {"duration_s": 10, "memory_mb": 1024, "architecture": X86, "storage_mb": 2560},
        "0.000166667 + 0.0000002 + 0.000000618",
    ),
    # 60 s × 0.125 GB × 0.0000133334; 60 s × 9.5 GB × 0.0000000586.
    "storage in São Paulo": (
        {
            "duration_s": 60,
            "memory_mb": 128,
            "architecture": ARM,
            "region": "sa-east-1",
            "storage_mb": 10_240,
        },
        "0.0001000005 + 0.0000002 + 0.000033402",
    ),
    # 250.06 ms and 153.91 ms of initialisation are 403.97 ms, billed as 404 ms.
    "a cold start": (
        {"duration_s": 0.25006, "memory_mb": 1024, "architecture": X86, "init_duration_s": 0.15391},
        "0.0000067333468 + 0.0000002",
    ),
    # 990 × 0.1 s + 10 × 0.6 s = 105 s × 0.5 GB = 52.5 GB·s × 0.0000166667.
    "some cold starts": (
        {
            "duration_s": 0.1,
            "memory_mb": 512,
            "architecture": X86,
            "requests": 1000,
            "init_duration_s": 0.5,
            "cold_starts": 10,
        },
        "0.00087500175 + 0.0002",
    ),
    # 100,000 × 0.2 s × 1 GB = 20,000 GB·s × 0.0000221; 100,000 × 0.00000027.
    "Cape Town": (
        {
            "duration_s": 0.2,
            "memory_mb": 1024,
            "architecture": X86,
            "region": "af-south-1",
            "requests": 100_000,
        },
        "0.442 + 0.027",
    ),
    # AWS's own example: 1,500,000 - 400,000 GB·s × 0.0000166667; 3 M - 1 M requests × 0.0000002.
    "the free tier": (
        {
            "duration_s": 1,
            "memory_mb": 512,
            "architecture": X86,
            "requests": 3_000_000,
            "free_tier": True,
        },
        "18.33337 + 0.4",
    ),
    # 1000 of 400,000 GB·s and 500 of 1,000,000 requests are left:
    # 1000 GB·s × 0.0000156138; 1500 × 0.00000023.
    "the rest of the free tier": (
        {
            "duration_s": 1,
            "memory_mb": 1024,
            "architecture": ARM,
            "region": "eu-south-1",
            "requests": 2000,
            "month_gb_seconds": 399_000,
            "month_requests": 999_500,
            "free_tier": True,
        },
        "0.0156138 + 0.000345",
    ),
}


@pytest.mark.parametrize("name", BILLS)
def test_a_bill_by_hand(name: str) -> None:
    arguments, sums = BILLS[name]
    expected = sum(Decimal(part) for part in sums.split(" + "))
    cost = lambda_cost(**arguments)
    assert abs(Decimal(float(cost)) - expected) < Decimal("1e-9")
    assert cost == pytest.approx(float(expected), rel=1e-12)
    assert cost == cost.compute + cost.request + cost.storage


def test_a_cold_start_is_rounded_with_its_request() -> None:
    # Apart they would be 251 + 154 = 405 ms.
    cost = lambda_cost(0.25006, 1024, X86, init_duration_s=0.15391)
    assert (cost.billed_duration, cost.billed_cold_duration) == (0.251, 0.404)
    assert lambda_cost(0.25, 1024, X86, init_duration_s=9, cold_starts=0) == lambda_cost(
        0.25, 1024, X86
    )


def test_tiers_count_what_is_paid_for() -> None:
    # The free 400,000 GB·s of the month do not bring the second tier nearer.
    cost = lambda_cost(1, 1024, X86, requests=1000, month_gb_seconds=6_000_400_000, free_tier=True)
    assert cost.compute == pytest.approx(1000 * 0.000015)
    assert (cost.free_gb_seconds, cost.free_requests) == (0, 1000)
    under = lambda_cost(1, 1024, X86, requests=1000, month_gb_seconds=6_000_399_000, free_tier=True)
    assert under.compute == pytest.approx(1000 * 0.0000166667)


@pytest.mark.slow
@given(
    used=st.floats(0, 4e10),
    calls=st.integers(1, 10_000_000),
    more=st.integers(0, 10_000_000),
    architecture=st.sampled_from([X86, ARM]),
    region=st.sampled_from(lambda_regions()),
)
def test_bills_add_up_over_a_month(
    used: float, calls: int, more: int, architecture: str, region: str
) -> None:
    def cost(month: float, requests: int) -> LambdaCost:
        return lambda_cost(2, 3072, architecture, region, requests=requests, month_gb_seconds=month)

    first = cost(used, calls)
    second = cost(used + first.gb_seconds, more)
    assert first + second == pytest.approx(cost(used, calls + more), rel=1e-9)
    assert second / more <= first / calls * (1 + 1e-9) if more else second == 0


def test_every_price_is_whole() -> None:
    assert len(lambda_regions()) == 24
    for region in lambda_regions():
        for architecture in (X86, ARM):
            price = lambda_price(architecture, region)
            rates = [rate for _, rate in price.tiers]
            assert rates == sorted(rates, reverse=True)
            assert rates[0] == price.gb_second
            assert rates[1] == pytest.approx(0.9 * rates[0], abs=1e-10)
            assert rates[2] == pytest.approx(0.8 * rates[0], abs=1e-10)
            assert 1e-5 < price.gb_second < 3e-5
            assert 1e-7 < price.request < 3e-7
            assert 2e-8 < price.storage < 7e-8
            assert re.fullmatch(r"20\d\d-\d\d(-\d\d)?", price.date)
            assert "https://" in price.source
        assert lambda_price(ARM, region).gb_second == pytest.approx(
            0.8 * lambda_price(X86, region).gb_second, rel=0.003
        )


def test_an_unknown_region_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="mars-1") as error:
        lambda_price(X86, "mars-1")
    for region in lambda_regions():
        assert region in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"init_duration_s": -1}, "init_duration_s -1"),
        ({"init_duration_s": float("nan")}, "init_duration_s nan"),
        ({"init_duration_s": None}, "init_duration_s None"),
        ({"init_duration_s": 1, "cold_starts": 2}, "cold_starts 2"),
        ({"cold_starts": -1}, "cold_starts -1"),
        ({"cold_starts": 0.5}, "cold_starts 0.5"),
        ({"storage_mb": 511}, "storage 511"),
        ({"storage_mb": 10_241}, "storage 10241"),
        ({"storage_mb": "512"}, "storage '512'"),
        ({"month_gb_seconds": -1}, "month_gb_seconds -1"),
        ({"month_gb_seconds": float("inf")}, "month_gb_seconds inf"),
        ({"month_requests": 1.0}, "month_requests 1.0"),
    ],
)
def test_a_wrong_option_is_named(arguments: dict, named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        lambda_cost(1, 1024, X86, **arguments)


# -- the price of energy ----------------------------------------------------------------------


def test_energy_costs_what_its_kwh_cost() -> None:
    # 7.2 MJ are 2 kWh: 2 × 0.25 × 1.2.
    cost = energy_cost(7.2e6, 0.25, pue=1.2)
    assert isinstance(cost, Estimate)
    assert cost[:3] == pytest.approx((0.6, 0.6, 0.6), abs=1e-15)
    assert "0.25 per kWh" in cost.source
    assert "1.2" in cost.source


@given(
    middle=st.floats(0, 1e9),
    below=st.floats(0, 1),
    above=st.floats(1, 10),
    price=st.floats(0, 10),
    pue=st.floats(1, 3),
    scale=st.floats(0, 100),
)
def test_the_band_of_the_energy_is_carried_on(
    middle: float, below: float, above: float, price: float, pue: float, scale: float
) -> None:
    energy = Estimate(middle, middle * below, middle * above, "model")
    cost = energy_cost(energy, price, pue)
    assert cost.low <= cost.value <= cost.high
    for part, joules in zip(cost[:3], energy[:3], strict=True):
        assert part == pytest.approx(joules / 3.6e6 * price * pue)
    scaled = Estimate(*(part * scale for part in energy[:3]), "model")  # type: ignore[arg-type]
    for part, whole in zip(energy_cost(scaled, price, pue)[:3], cost[:3], strict=True):
        assert part == pytest.approx(whole * scale)
    assert "model" in cost.source


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((-1,), "joules -1"),
        ((None,), "joules None"),
        (("5",), "joules '5'"),
        ((float("nan"),), "joules nan"),
        ((Estimate(1, 2, 3, ""),), "joules: (1, 2, 3)"),
        ((Estimate(1, -1, 3, ""),), "joules: (1, -1, 3)"),
        ((Estimate(1, 0, float("inf"), ""),), "joules: (1, 0, inf)"),
        ((1, -0.1), "price_per_kwh -0.1"),
        ((1, 0.1, 0.99), "pue 0.99"),
        ((1, 0.1, True), "pue True"),
    ],
)
def test_a_wrong_energy_is_named(arguments: tuple, named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        energy_cost(*arguments)


# -- the prototype's correlation -------------------------------------------------------------

SEED_KEYS = {
    "aws_compute_cost",
    "aws_request_cost",
    "total_aws_cost",
    "estimated_energy_cost",
    "energy_efficiency_ratio",
    "cost_per_joule",
}


def test_the_correlation_by_hand() -> None:
    costs = calculate_energy_cost_correlation({"total_energy_joules": 36.0}, 2.0, 512)
    assert set(costs) == SEED_KEYS
    # 2 s × 0.5 GB × 0.0000166667, a request; 36 J = 0.00001 kWh × 0.10.
    assert costs["aws_compute_cost"] == pytest.approx(0.0000166667, abs=1e-15)
    assert costs["aws_request_cost"] == pytest.approx(0.0000002, abs=1e-15)
    assert costs["total_aws_cost"] == pytest.approx(0.0000168667, abs=1e-15)
    assert costs["estimated_energy_cost"] == pytest.approx(0.000001, abs=1e-15)
    assert costs["energy_efficiency_ratio"] == pytest.approx(16.8667)
    assert costs["cost_per_joule"] == pytest.approx(0.0000168667 / 36)


def test_the_correlation_of_other_prices() -> None:
    costs = calculate_energy_cost_correlation(
        {"energy_consumption": 3.6e6},
        1.0001,
        1024,
        architecture="arm64",
        region="eu-south-1",
        energy_price_per_kwh=0.3,
    )
    assert costs["aws_compute_cost"] == pytest.approx(1.001 * 0.0000156138)
    assert costs["aws_request_cost"] == pytest.approx(0.00000023)
    assert costs["estimated_energy_cost"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    "metrics",
    [
        {"total_energy_joules": 5},
        {"energy_consumption": 5.0},
        {"worker_func_energy_consumption": np.float64(5)},
        {"energy": Estimate(5, 1, 9, "model")},
    ],
)
def test_the_correlation_finds_the_energy(metrics: dict) -> None:
    costs = calculate_energy_cost_correlation(metrics, 1, 1024)
    assert costs["estimated_energy_cost"] == pytest.approx(5 / 3.6e6 * 0.1)
    assert costs["cost_per_joule"] == pytest.approx((0.0000166667 + 0.0000002) / 5)


def test_no_energy_divides_nothing() -> None:
    costs = calculate_energy_cost_correlation({"total_energy_joules": None}, 1, 1024)
    assert set(costs) == SEED_KEYS
    assert costs["total_aws_cost"] == pytest.approx(0.0000168667)
    assert costs["estimated_energy_cost"] is None
    assert costs["energy_efficiency_ratio"] is None
    assert costs["cost_per_joule"] is None
    costs = calculate_energy_cost_correlation({"total_energy_joules": 0.0}, 1, 1024)
    assert costs["estimated_energy_cost"] == 0
    assert costs["energy_efficiency_ratio"] is None
    assert costs["cost_per_joule"] is None
    free = calculate_energy_cost_correlation({"energy": 1.0}, 1, 1024, energy_price_per_kwh=0)
    assert free["energy_efficiency_ratio"] is None
    assert free["cost_per_joule"] == pytest.approx(0.0000168667)


@pytest.mark.parametrize(
    ("metrics", "named"),
    [
        ({}, "total_energy_joules"),
        ({"energie": 1}, "total_energy_joules"),
        (None, "total_energy_joules"),
        ({"energy": -1}, "joules -1"),
        ({"energy": "12"}, "joules '12'"),
        ({"energy": float("nan")}, "joules nan"),
    ],
)
def test_a_wrong_metric_is_named(metrics: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        calculate_energy_cost_correlation(metrics, 1, 1024)


# -- the command ------------------------------------------------------------------------------


def test_the_command_tells_dollars_joules_and_grams(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LITHOWATT_GRID_INTENSITY", raising=False)
    monkeypatch.delenv("LITHOWATT_PUE", raising=False)
    arguments = "cost --duration 1.5 --memory 1769 --architecture arm64 --region eu-west-1".split()
    assert main([*arguments, "--joules", "3,1,6", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    bill = lambda_cost(1.5, 1769, ARM, "eu-west-1")
    assert report["total_usd"] == bill.total
    for part in report["per_call"].values():
        assert 0 < part["low"] < part["value"] < part["high"]
        assert part["source"]
    score = report["per_call"]["sci_gco2e"]["value"]
    assert score == pytest.approx(
        sum(report["per_call"][f"{part}_gco2e"]["value"] for part in ("operational", "embodied"))
    )
    assert main([*arguments, "--joules", "3"]) == 0
    shown = capsys.readouterr().out
    assert "g CO2e per call" in shown
    assert "aws.amazon.com/lambda/pricing" in shown
    # A plain number has no band, one call no plural, a millionth of a dollar no exponent.
    assert "1 request\n" in shown and re.search(r"^energy +3 J$", shown, re.M)
    assert not re.search(r"\de-\d+ USD", shown)
    assert main([*arguments, "--joules", "3,1,6", "--sources"]) == 0
    more = capsys.readouterr().out
    assert re.search(r"^energy +3 J +1 to 6$", more, re.M)
    assert more.count("https://") > shown.count("https://")
    assert main(arguments) == 0
    assert "CO2e" not in capsys.readouterr().out


@pytest.mark.parametrize("form", [[], ["--json"], ["--sources"]])
def test_the_command_doubts_an_intensity_in_kg(
    form: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["cost", "--duration", "1", "--memory", "1024", "--joules", "3", *form]
    monkeypatch.setenv("LITHOWATT_GRID_INTENSITY", "0.4")
    assert main(command) == 0
    assert "intensity is 0.4, but grids have 1 to 1500 g CO2e per kWh" in capsys.readouterr().err
    monkeypatch.setenv("LITHOWATT_GRID_INTENSITY", "400")
    assert main(command) == 0
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("cost --duration 1 --memory 1024 --region mars-1", "mars-1"),
        ("cost --duration -1 --memory 1024", "-1"),
        ("cost --duration 1 --memory 1", "1.0 is not from 128"),
        ("cost --duration 1 --memory 1024 --joules 1 --intensity -5", "intensity -5"),
    ],
)
def test_the_command_names_what_is_wrong(
    arguments: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments.split()) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("joules", ["x", "1,2", "2,1", "1,2,3", "-1", "nan", "1,0,inf", ""])
def test_the_command_takes_a_band(joules: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["cost", "--duration", "1", "--memory", "1024", f"--joules={joules}"])
    assert end.value.code == 2
    assert "J, low, high" in capsys.readouterr().err
