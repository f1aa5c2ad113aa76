"""Dollars of Lambda calls, against sums that anyone can do by hand."""

from __future__ import annotations

import copy
import pickle
import re
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lithowatt.cost import LambdaCost, lambda_cost, lambda_price


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
