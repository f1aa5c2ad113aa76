"""Grams of CO2e for joules, against sums that anyone can do by hand."""

from __future__ import annotations

import csv
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lithowatt
from lithowatt import Estimate
from lithowatt.carbon import (
    EMBODIED_KG_PER_VCPU,
    LIFETIME_YEARS,
    GridSeries,
    SciScore,
    configure,
    embodied,
    emissions,
    grid_intensity,
    pue,
    regions,
    sci,
)
from lithowatt.cost import lambda_regions
from lithowatt.errors import MalformedValueError, UnreadableFileError

KWH = 3.6e6
YEAR = 365.25 * 86400
DATA = Path(lithowatt.__file__).parent / "data"


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("LITHOWATT_GRID_INTENSITY", "LITHOWATT_PUE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    yield
    configure()


# -- tables -----------------------------------------------------------------------------------


def test_every_region_has_a_grid_and_a_source() -> None:
    assert len(regions()) == len(set(regions())) > 120
    for provider in ("aws", "azure", "gcp"):
        assert len(regions(provider)) > 30
    for region in regions():
        zone = grid_intensity(region)
        assert 5 < zone.gco2e_per_kwh < 950, region
        assert 2023 <= zone.year <= 2025, region
        assert "https://" in zone.source
        assert zone.name
        # Zones are countries, eGRID subregions or Google's.
        assert re.fullmatch(r"[A-Z]{2}|US-[A-Z]{4}|gcp/[a-z0-9-]+", zone.zone)


def test_a_price_has_a_grid() -> None:
    assert set(lambda_regions()) <= set(regions("aws"))


def test_some_grids() -> None:
    assert grid_intensity("us-east-1").zone == "US-SRVC"
    # 596.3 lb/MWh of eGRID2023.
    assert grid_intensity("us-east-1").gco2e_per_kwh == pytest.approx(596.3 * 0.45359237, abs=0.01)
    assert grid_intensity("us-east-2").gco2e_per_kwh == pytest.approx(916.1 * 0.45359237, abs=0.01)
    assert grid_intensity("us-west-2").gco2e_per_kwh == pytest.approx(635.3 * 0.45359237, abs=0.01)
    assert grid_intensity("eu-central-1") == grid_intensity(country="DE")
    assert grid_intensity(" EU-Central-1 ") == grid_intensity(country=" de ")
    assert grid_intensity("westeurope").zone == "NL"
    assert grid_intensity("us-east4").year == 2025
    # Montréal runs on Québec's water, not on Canada's average.
    assert grid_intensity("ca-central-1").gco2e_per_kwh < 20
    assert grid_intensity("ca-central-1") == grid_intensity("northamerica-northeast1")


def test_the_tables_are_whole() -> None:
    for name in ("grid_intensity", "cloud_regions", "pue", "lambda_prices"):
        lines = (DATA / f"{name}.csv").read_text(encoding="utf-8").splitlines()
        rows = list(csv.reader(line for line in lines if not line.startswith("#")))
        assert len({len(row) for row in rows}) == 1, name
        assert all(cell and cell == cell.strip() for row in rows for cell in row), name
        keys = [tuple(row[:3]) if name == "lambda_prices" else tuple(row[:1]) for row in rows]
        if name in ("grid_intensity", "lambda_prices"):
            assert len(keys) == len(set(keys)), name


def test_pues() -> None:
    for provider in ("aws", "azure", "gcp"):
        found = pue(provider)
        assert 1 < found.low <= found.value <= found.high < 1.3
        assert "https://" in found.source
    assert pue("AWS").value == 1.14
    assert "2025" in pue("aws").source


@pytest.mark.parametrize(
    ("call", "named", "accepted"),
    [
        (lambda: grid_intensity("mars-1"), "mars-1", "us-east-1"),
        (lambda: grid_intensity(country="XX"), "XX", "DE, DK"),
        (lambda: grid_intensity(country="gcp/us-east4"), "gcp/us-east4", "US-SRVC"),
        (lambda: grid_intensity(), "region or a country", ""),
        (lambda: grid_intensity("us-east-1", "DE"), "region or a country", ""),
        (lambda: grid_intensity(5), "5", "us-east-1"),
        (lambda: grid_intensity(country=5), "5", "DE"),
        (lambda: pue("ibm"), "ibm", "aws, azure, gcp"),
        (lambda: pue(None), "None", "aws, azure, gcp"),
        (lambda: regions("ibm"), "ibm", "aws, azure, gcp"),
        (lambda: emissions(1), "no grid", "LITHOWATT_GRID_INTENSITY"),
        (lambda: emissions(1, "us-east-1", "DE"), "not both", ""),
        (lambda: emissions(-1, "us-east-1"), "joules -1", "0 or more"),
        (lambda: emissions(None, "us-east-1"), "joules None", "Estimate"),
        (lambda: emissions(Estimate(1, 2, 3, ""), "us-east-1"), "(1, 2, 3)", "low <= value"),
        (lambda: emissions(1, intensity=-1), "intensity -1", "0 or more"),
        (lambda: emissions(1, intensity="400"), "intensity '400'", "0 or more"),
        (lambda: emissions(1, intensity=float("nan")), "intensity nan", "0 or more"),
        (lambda: emissions(1, intensity=1, pue=0.9), "pue 0.9", "1 or more"),
        (lambda: emissions(1, intensity=1, pue="ibm"), "ibm", "aws"),
        (lambda: configure(intensity=-1), "intensity -1", "0 or more"),
        (lambda: configure(pue=0.5), "pue 0.5", "1 or more"),
        (lambda: embodied(1), "vcpus or memory_mb", ""),
        (lambda: embodied(1, 1, 1769), "vcpus or memory_mb", ""),
        (lambda: embodied(1, 0), "vcpus 0", "above 0"),
        (lambda: embodied(1, memory_mb=-5), "memory_mb -5", "above 0"),
        (lambda: embodied(-1, 1), "duration_s -1", "0 or more"),
        (lambda: embodied(1, 1, architecture="riscv"), "riscv", "arm64"),
        (lambda: embodied(1, 1, lifetime_years=0), "lifetime_years 0", "above 0"),
        (lambda: embodied(1, 1, kg_per_vcpu=-1), "kg_per_vcpu -1", "0 or more"),
        (lambda: sci(1, region="us-east-1"), "embodied", "duration_s"),
        (lambda: sci(1, 1, 1769, region="us-east-1", units=0), "units 0", "above 0"),
        (lambda: sci(1, 1, 1769, region="us-east-1", functional_unit=""), "''", "name"),
        (lambda: sci(1, 1, region="us-east-1"), "vcpus or memory_mb", ""),
        (lambda: sci(1, region="us-east-1", embodied_g=-1), "embodied_g -1", "0 or more"),
    ],
)
def test_what_is_wrong_is_named(call: object, named: str, accepted: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)) as error:
        call()  # type: ignore[operator]
    assert accepted in str(error.value)
    assert "\n" not in str(error.value)


# -- emissions --------------------------------------------------------------------------------


def test_a_kwh_emits_what_its_grid_does() -> None:
    # 1 kWh × 342.06 g × 1.14 in Frankfurt; no PUE is known of a country.
    assert emissions(KWH, "eu-central-1").value == pytest.approx(342.06 * 1.14)
    assert emissions(KWH, country="DE").value == pytest.approx(342.06)
    assert emissions(KWH, "europe-west3").value == pytest.approx(275.81 * 1.09)
    assert emissions(KWH, "westeurope").value == pytest.approx(252.7 * 1.18)
    assert emissions(KWH, "eu-central-1", pue=1.0).value == pytest.approx(342.06)
    assert emissions(KWH, country="DE", pue="azure").value == pytest.approx(342.06 * 1.18)
    assert emissions(36.0, intensity=500, pue=1.2).value == pytest.approx(0.006)
    assert emissions(np.float32(36), intensity=np.int64(500)).value == pytest.approx(0.005)


def test_emissions_say_where_they_are_from() -> None:
    source = emissions(Estimate(5, 1, 9, "modelled: rapl"), "eu-west-1").source
    for part in ("modelled: rapl", "279.79", "Ireland 2024", "Ember", "PUE 1.14", "Amazon"):
        assert part in source
    assert "none: no provider" in emissions(1, country="IE").source


def test_an_intensity_that_no_grid_has_is_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "it may be in kg" in emissions(KWH, intensity=0.407).source
    assert "it may be in g per MWh" in emissions(KWH, intensity=Estimate(4e5, 4e5, 4e5, "x")).source
    monkeypatch.setenv("LITHOWATT_GRID_INTENSITY", "0.4")
    grams = emissions(KWH)
    assert grams.value == pytest.approx(0.4)
    assert "LITHOWATT_GRID_INTENSITY; grids have 1 to 1500 g CO2e per kWh" in grams.source
    for grid in (0, 1, 11.36, 1500):
        assert "grids have" not in emissions(KWH, intensity=grid).source


def test_a_band_of_everything() -> None:
    grams = emissions(
        Estimate(KWH, KWH / 2, KWH * 2, "model"),
        intensity=Estimate(400, 300, 600, "a year's hours"),
        pue=Estimate(1.2, 1.1, 1.5, "sites"),
    )
    assert grams[:3] == pytest.approx((480, 165, 1800))


@given(
    middle=st.floats(0, 1e9),
    below=st.floats(0, 1),
    above=st.floats(1, 10),
    intensity=st.floats(0, 2000),
    overhead=st.floats(1, 3),
    scale=st.floats(0, 100),
)
def test_the_band_of_the_energy_is_carried_on(
    middle: float, below: float, above: float, intensity: float, overhead: float, scale: float
) -> None:
    energy = Estimate(middle, middle * below, middle * above, "model")
    grams = emissions(energy, intensity=intensity, pue=overhead)
    assert grams.low <= grams.value <= grams.high
    for part, joules in zip(grams[:3], energy[:3], strict=True):
        assert part == pytest.approx(joules / KWH * intensity * overhead)
    value, low, high = (part * scale for part in energy[:3])
    scaled = emissions(Estimate(value, low, high, ""), intensity=intensity, pue=overhead)
    assert scaled[:3] == pytest.approx([part * scale for part in grams[:3]])


def test_what_the_user_says_goes_before_the_tables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def grams(**more: object) -> float:
        return emissions(KWH, "us-east-1", **more).value  # type: ignore[arg-type]

    table = 270.48 * 1.14
    assert grams() == pytest.approx(table)
    monkeypatch.setenv("LITHOWATT_GRID_INTENSITY", " 100 ")
    monkeypatch.setenv("LITHOWATT_PUE", "1.5")
    assert grams() == pytest.approx(150)
    assert "LITHOWATT_GRID_INTENSITY" in emissions(1).source
    configure(intensity=50, pue=2)
    assert grams() == pytest.approx(100)
    assert "configured" in emissions(1).source
    configure(intensity=Estimate(50, 40, 80, "my grid"))
    assert emissions(KWH)[:3] == pytest.approx((75, 60, 120))
    assert "my grid" in emissions(KWH).source
    assert grams(intensity=10, pue=1) == pytest.approx(10)
    configure()
    for nothing in ("", "  "):
        monkeypatch.setenv("LITHOWATT_GRID_INTENSITY", nothing)
        monkeypatch.setenv("LITHOWATT_PUE", nothing)
        assert grams() == pytest.approx(table)


def test_on_lambda_the_region_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert emissions(KWH) == emissions(KWH, "us-east-1")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert emissions(KWH).value == pytest.approx(35.89 * 1.14)
    monkeypatch.setenv("AWS_REGION", "ca-west-1")
    with pytest.raises(ValueError, match="ca-west-1"):
        emissions(KWH)
    assert emissions(KWH, country="FR").value == pytest.approx(44.18)


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "clean", "1,5", "1e999"])
def test_a_wrong_variable_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITHOWATT_GRID_INTENSITY", value)
    with pytest.raises(MalformedValueError, match=f"LITHOWATT_GRID_INTENSITY='{value}'"):
        emissions(1, "us-east-1")
    monkeypatch.delenv("LITHOWATT_GRID_INTENSITY")
    monkeypatch.setenv("LITHOWATT_PUE", value)
    with pytest.raises(MalformedValueError, match=f"LITHOWATT_PUE='{value}'"):
        emissions(1, "us-east-1")


# -- a grid through time ----------------------------------------------------------------------

DAY = """timestamp,gco2e_per_kwh
2026-01-31T00:00Z,100
2026-01-31T01:00:00+00:00,300
2026-01-31T04:00:00+02:00,500.5
"""
MIDNIGHT = datetime(2026, 1, 31, tzinfo=timezone.utc)


def test_a_file_of_a_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "grid.csv"
    path.write_text(DAY)
    series = GridSeries.read(path)
    assert len(series) == 3
    assert series.start == MIDNIGHT.timestamp()
    assert series.end == series.start + 3 * 3600
    assert series.at(series.start) == 100
    assert series.at(MIDNIGHT + timedelta(minutes=59)) == 100
    assert series.at(series.start + 3600) == 300
    assert series.at(series.end) == 500.5
    assert series.mean(series.start, series.end) == pytest.approx((100 + 300 + 500.5) / 3)
    half = series.mean(series.start + 1800, series.start + 5400)
    assert half == pytest.approx(200)
    assert series.mean(series.start, series.start) == 100
    assert "2026-01-31T00:00:00+00:00" in repr(series)

    grams = emissions(KWH, intensity=series, start=MIDNIGHT, end=MIDNIGHT + timedelta(hours=2))
    assert grams.value == pytest.approx(200)
    assert str(path) in grams.source
    assert emissions(KWH, intensity=series, start=series.start).value == pytest.approx(100)
    configure(intensity=series)
    assert emissions(KWH, "us-east-1", pue=1, start=MIDNIGHT).value == pytest.approx(100)
    configure()
    monkeypatch.setenv("LITHOWATT_GRID_INTENSITY", str(path))
    assert emissions(KWH, start=MIDNIGHT).value == pytest.approx(100)
    # Now is long past it, or long before.
    with pytest.raises(ValueError, match="holds 2026-01-31"):
        emissions(KWH)
    path.write_text(DAY.replace("Z,100", "Z,77"))
    os.utime(path, ns=(1, 1))
    assert emissions(KWH, start=MIDNIGHT).value == pytest.approx(77)
    path.unlink()
    with pytest.raises(UnreadableFileError, match=r"grid\.csv"):
        emissions(KWH, start=MIDNIGHT)


def test_unix_seconds_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    path.write_text("timestamp,gco2e_per_kwh\n0,1\n900,2\n", encoding="utf-8-sig")
    assert GridSeries.read(path).at(899) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("time,intensity\n0,1\n1,2\n", 1),
        ("0,1\n1,2\n", 1),
        ("timestamp,gco2e_per_kwh\n0,1\n1\n", 3),
        ("timestamp,gco2e_per_kwh\n0,1\n1,2,3\n", 3),
        ("timestamp,gco2e_per_kwh\n0,1\n\n1,2\n", 3),
        ("timestamp,gco2e_per_kwh\n0,-1\n1,2\n", 2),
        ("timestamp,gco2e_per_kwh\n0,nan\n1,2\n", 2),
        ("timestamp,gco2e_per_kwh\n0,inf\n1,2\n", 2),
        ("timestamp,gco2e_per_kwh\n0,\n1,2\n", 2),
        ("timestamp,gco2e_per_kwh\nnan,1\n1,2\n", 2),
        ("timestamp,gco2e_per_kwh\n2026-01-31T00:00,1\n1,2\n", 2),
        ("timestamp,gco2e_per_kwh\nyesterday,1\n1,2\n", 2),
        ("timestamp,gco2e_per_kwh\n5,1\n5,2\n", 3),
        ("timestamp,gco2e_per_kwh\n5,1\n4,2\n", 3),
    ],
)
def test_a_wrong_line_is_named(text: str, line: int, tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    path.write_text(text)
    with pytest.raises(MalformedValueError, match=rf"grid\.csv: line {line}\b") as error:
        GridSeries.read(path)
    assert "\n" not in str(error.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "short.csv").write_text("timestamp,gco2e_per_kwh\n0,1\n")
    with pytest.raises(MalformedValueError, match="fewer than two"):
        GridSeries.read(tmp_path / "short.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("bytes.csv", "missing.csv", ".", "pipe.csv"):
        with pytest.raises(UnreadableFileError, match=re.escape(str(tmp_path / name))):
            GridSeries.read(tmp_path / name)


@pytest.mark.parametrize(
    ("points", "named"),
    [
        ([], "two points"),
        ([(0, 1)], "two points"),
        ([(0, 1), (0, 2)], "not after"),
        ([(0, -1), (1, 2)], "(0, -1)"),
        ([("0", 1), (1, 2)], "('0', 1)"),
    ],
)
def test_wrong_points_are_named(points: list, named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        GridSeries(points)


def test_a_time_that_a_series_does_not_hold() -> None:
    series = GridSeries([(0, 1), (10, 2)])
    for time in (-1, 20.1, datetime(2026, 1, 1, tzinfo=timezone.utc)):
        with pytest.raises(ValueError, match="holds 1970"):
            series.at(time)
        with pytest.raises(ValueError, match="holds 1970"):
            series.mean(0, time) if time != -1 else series.mean(time, 5)
    for nothing in (None, "0", datetime(1970, 1, 1), math.nan, True):
        with pytest.raises(ValueError, match="no Unix time in s or datetime with a zone"):
            series.at(nothing)
    with pytest.raises(ValueError, match="ends before it starts"):
        series.mean(5, 4)
    with pytest.raises(ValueError, match="takes a start"):
        emissions(1, intensity=series)
    with pytest.raises(ValueError, match="takes a start"):
        emissions(1, intensity=series, end=5)


@pytest.mark.slow
@given(
    steps=st.lists(st.tuples(st.floats(0.5, 1e5), st.floats(0, 1000)), min_size=2, max_size=20),
    cuts=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_means_of_parts_are_the_mean(steps: list, cuts: tuple) -> None:
    time = 0.0
    points = []
    for step, value in steps:
        points.append((time, value))
        time += step
    series = GridSeries(points)
    first, middle, last = (cut * series.end for cut in sorted(cuts))
    values = [value for _, value in points]
    whole = series.mean(first, last)
    assert min(values) <= whole <= max(values)
    parts = series.mean(first, middle) * (middle - first) + series.mean(middle, last) * (
        last - middle
    )
    assert parts == pytest.approx(whole * (last - first), abs=1e-6 * series.end)


# -- embodied emissions and SCI ---------------------------------------------------------------


def test_embodied_emissions_by_hand() -> None:
    # 20 kg × 1000 × 2 vCPUs × 1 year / 4 years.
    assert embodied(YEAR, 2, kg_per_vcpu=20, lifetime_years=4).value == pytest.approx(10_000)
    # A Lambda function of 3538 MB has two vCPUs.
    assert embodied(1, memory_mb=3538) == embodied(1, 2)
    # The default: 1610.79 kg for 96 vCPUs over 5 years, of which an hour.
    assert embodied(3600, 1).value == pytest.approx(1610.79 / 96 * 1000 * 3600 / YEAR / 5)
    assert embodied(3600, 1, architecture="arm64").value == pytest.approx(
        1333.12 / 64 * 1000 * 3600 / YEAR / 5
    )


def test_embodied_emissions_are_unsure_and_say_so() -> None:
    for architecture, server in EMBODIED_KG_PER_VCPU.items():
        assert 0 < server.low < server.value < server.high
        grams = embodied(3600, 1, architecture=architecture)
        # Little and for long at one end, much and not for long at the other.
        assert grams.low / grams.value == pytest.approx(server.low / server.value * 5 / 6)
        assert grams.high / grams.value == pytest.approx(server.high / server.value * 5 / 4)
        for part in ("Teads", "Dell", "Amazon", "https://"):
            assert part.lower() in grams.source.lower()
    assert LIFETIME_YEARS[:3] == (5, 4, 6)


def test_sci_of_a_call_by_hand() -> None:
    # E·I: 36 kJ = 0.01 kWh × 400 g × 1.1 = 4.4 g. M: 0.6 g. R: 10 calls.
    score = sci(
        Estimate(36_000, 18_000, 72_000, "model"),
        intensity=400,
        pue=1.1,
        embodied_g=Estimate(0.6, 0.3, 1.5, "mine"),
        units=10,
    )
    assert isinstance(score, SciScore)
    assert score.score[:3] == pytest.approx((0.5, 0.25, 1.03))
    assert score.operational[:3] == pytest.approx((0.44, 0.22, 0.88))
    assert score.embodied[:3] == pytest.approx((0.06, 0.03, 0.15))
    assert (score.functional_unit, score.units) == ("call", 10)
    for part in ("g CO2e per call", "model", "mine", "400"):
        assert part in score.score.source


def test_sci_is_the_sum_of_its_parts() -> None:
    score = sci(3, 1.5, 1769, architecture="arm64", region="eu-west-1")
    assert score.operational == emissions(3, "eu-west-1")
    assert score.embodied == embodied(1.5, memory_mb=1769, architecture="arm64")
    assert score.score.value == pytest.approx(score.operational.value + score.embodied.value)
    assert sci(3, 1.5, vcpus=1, region="eu-west-1", functional_unit="image").functional_unit == (
        "image"
    )


@pytest.mark.slow
@given(
    joules=st.floats(0, 1e6),
    seconds=st.floats(0, 900),
    memory=st.floats(128, 10_240),
    units=st.floats(0.1, 1e6),
    region=st.sampled_from(regions()),
    architecture=st.sampled_from(["x86_64", "arm64"]),
)
def test_sci_is_a_rate(
    joules: float, seconds: float, memory: float, units: float, region: str, architecture: str
) -> None:
    def score(scale: float, count: float) -> Estimate:
        return sci(
            Estimate(joules * scale, joules * scale * 0.5, joules * scale * 2, ""),
            seconds * scale,
            memory,
            architecture=architecture,
            region=region,
            units=count,
        ).score

    one = score(1, 1)
    assert 0 <= one.low <= one.value <= one.high
    assert score(1, units)[:3] == pytest.approx([part / units for part in one[:3]])
    assert score(7, 7)[:3] == pytest.approx(one[:3])


# -- lightness --------------------------------------------------------------------------------


def test_nothing_heavy_is_imported_and_no_table_is_read() -> None:
    code = (
        "import sys, lithowatt.cost, lithowatt.carbon\n"
        "heavy = {'numpy', 'pandas', 'yaml', 'csv', 'lithowatt._core'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import lithowatt.aws\n"
        "assert 'lithowatt.aws._cost' not in sys.modules\n"
        "assert not lithowatt.aws._lambda_cost._prices and not lithowatt.carbon._zones\n"
        "lithowatt.aws.calculate_energy_cost_correlation\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("ask", "like"),
    [
        (lambda: grid_intensity("us-eats-1"), "us-east-1"),
        (lambda: grid_intensity("mars-1"), "regions()"),
        (lambda: grid_intensity("x" * 5000), "regions()"),
        (lambda: grid_intensity(["us-east-1"] * 900), "regions()"),
    ],
)
def test_an_unknown_place_is_answered_in_one_line(ask: Any, like: str) -> None:
    with pytest.raises(ValueError, match=re.escape(like)) as error:
        ask()
    assert len(str(error.value)) < 300
