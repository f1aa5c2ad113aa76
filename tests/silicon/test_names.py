"""Processors that others measured are known by name."""

from __future__ import annotations

import pytest

from lithowatt import PowerModel
from tests.silicon.data import silicon_table


@pytest.mark.parametrize("name", ["package_power.csv", "specpower.csv", "specpower_ends.csv"])
def test_measured_processors_are_in_the_table(name: str) -> None:
    names = {row["cpu_name"] for row in silicon_table(name)} - {"unknown"}
    classes = {cpu: PowerModel.for_cpu(cpu).describe() for cpu in names}
    missing = sorted(cpu for cpu, by in classes.items() if by.startswith("model:class-"))
    assert not missing


def test_what_spec_says_of_them_is_what_the_table_says() -> None:
    """SPEC's results state the TDP: a name that leads to another part would show."""
    off = set()
    for row in silicon_table("specpower.csv"):
        found = PowerModel.for_cpu(row["cpu_name"]).tdp_watts
        if row["tdp_w"] and found != float(row["tdp_w"]):
            off.add((row["cpu_name"], found, row["tdp_w"]))
    assert not off
