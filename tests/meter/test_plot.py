"""Pictures say what the numbers say: what is drawn is read, not looked at."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lithowatt import EnergyMeter, Reading, Timeline
from lithowatt.figures import _reading
from lithowatt.lithops import EnergyTable, table
from tests.source.test_hwmon import cards
from tests.support.powercap_files import FakeMachine

pytest.importorskip("matplotlib")

with warnings.catch_warnings():
    # Its own imports use what a newer Python or pyparsing has replaced.
    warnings.simplefilter("ignore")
    from matplotlib import pyplot
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import StepPatch


def axes() -> Axes:
    """Axes of a figure that pyplot does not know."""
    return Figure().subplots()


def steps(ax: Axes) -> dict[str, Any]:
    return {str(p.get_label()): p for p in ax.patches if isinstance(p, StepPatch)}


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.fixture(scope="module")
def meter() -> EnergyMeter:
    with EnergyMeter(interval=0.02, methods=["psutil", "model"], label="a $x_1$ job") as made:
        with made.phase("read"):
            time.sleep(0.05)
        with made.phase("compute"):
            with made.phase("inner $"):
                burn(0.05)
            burn(0.05)
    return made


# --- Timeline.plot ------------------------------------------------------------------------------


def test_each_column_is_a_line_of_its_watts(meter: EnergyMeter) -> None:
    line = meter.timeline()
    ax = line.plot(axes())
    drawn = steps(ax)
    for zone in ("package", "dram"):
        data = drawn[f"{zone} (modelled)"].get_data()
        np.testing.assert_array_equal(data.values, line.watts[f"model:{zone}"])
        np.testing.assert_allclose(data.edges, line.edges)
    assert ax.get_xlabel() == "time since the window began, s"
    assert ax.get_ylabel() == "power of the whole machine, W"
    assert ax.get_ylim()[0] == 0
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == list(drawn)


def test_the_area_holds_the_functions_joules(meter: EnergyMeter) -> None:
    (own,) = (p for name, p in steps(meter.timeline().plot(axes())).items() if "function" in name)
    data = own.get_data()
    joules = float(np.sum(data.values * np.diff(data.edges)))
    assert joules == pytest.approx(meter.joules)
    assert "(modelled, marginal), by its CPU time" in str(own.get_label())


def test_phases_are_spans_at_their_times(meter: EnergyMeter) -> None:
    line = meter.timeline()
    assert [span.name for span in line.phases] == ["read", "inner $", "compute"]
    read, inner, compute = line.phases
    assert 0 <= read.start < read.end <= compute.start <= inner.start < inner.end <= compute.end
    for span in line.phases:
        (phase,) = (p for p in meter.reading.phases if p.name == span.name)
        assert phase.duration == pytest.approx(span.end - span.start, abs=0.01)
    ax = line.plot(axes())
    spans = [p for p in ax.patches if not isinstance(p, StepPatch)]
    drawn = sorted((p.get_x(), p.get_x() + p.get_width()) for p in spans)  # type: ignore[attr-defined]
    np.testing.assert_allclose(
        drawn, sorted((s.start, min(s.end, line.t[-1])) for s in line.phases)
    )
    assert {text.get_text() for text in ax.texts} == {"read", "compute", r"inner \$"}


def test_foreign_text_is_no_formula(meter: EnergyMeter) -> None:
    ax = meter.timeline().plot(axes())
    assert r"a \$x_1\$ job" in ax.get_title(loc="left")
    with EnergyMeter(interval=None, label="$\\frac{$ \x1b[31m\n" + "y" * 500) as odd:
        pass
    ax = odd.reading.plot(axes())
    ax.figure.savefig(os.devnull, format="svg")  # type: ignore[union-attr]
    assert "\x1b" not in ax.get_title(loc="left") and len(ax.get_title(loc="left")) < 250


def test_what_is_not_known_is_a_gap() -> None:
    times = np.array([0, 1, 2, 3], np.uint64) * np.uint64(10**9)
    joules = {"rapl:package-0": np.array([0.0, 5.0, np.nan, 12.0])}
    line = Timeline(times, joules, np.zeros(4))
    ax = line.plot(axes())
    values = steps(ax)["package-0 (rapl, measured)"].get_data().values
    np.testing.assert_array_equal(values, [5.0, np.nan, np.nan])
    assert len(steps(ax)) == 1  # no reading: no area


def test_a_counter_that_repeats_another_is_not_drawn_and_the_model_is_dotted() -> None:
    times = np.array([0, 1], np.uint64) * np.uint64(10**9)
    names = ("rapl:package-0", "rapl:repeated:package-0-mmio", "model:package")
    line = Timeline(times, {name: np.array([0.0, 2.0]) for name in names}, np.zeros(2))
    drawn = steps(line.plot(axes()))
    assert {name: p.get_linestyle() for name, p in drawn.items()} == {
        "package-0 (rapl, measured)": "-",
        "package (modelled)": ":",
    }


def test_without_samples_it_is_said() -> None:
    with EnergyMeter(interval=None) as none:
        pass
    ax = none.timeline().plot(axes())
    assert [text.get_text() for text in ax.texts] == [
        "no samples: the meter took no samples (interval=None)"
    ]
    assert not ax.patches


def test_a_copied_meter_keeps_its_phases(meter: EnergyMeter) -> None:
    assert copy.copy(meter).timeline().phases == meter.timeline().phases
    again = copy.copy(meter)
    with again:
        pass
    assert again.timeline().phases == ()


def test_a_meter_that_an_older_version_pickled_has_no_phases(meter: EnergyMeter) -> None:
    again = copy.copy(meter)
    assert again._past is not None
    again._past = again._past[:3]  # type: ignore[assignment]
    assert again.timeline().phases == ()
    assert again.joules == meter.joules


def test_phases_of_one_window_only_and_no_more_than_so_many() -> None:
    many = EnergyMeter(interval=None, methods=["psutil"])
    mark = many.phase("x")
    with mark:
        pass  # the meter does not run
    with many:
        for _ in range(1005):
            with mark:
                pass
    assert len(many._spans) == 1000 and mark._since == []
    with many:
        pass
    assert many._spans == []
    with many, many.phase("open"):
        many.stop()
    assert [name for name, *_ in many._spans] == ["open"]


# --- Reading.plot -------------------------------------------------------------------------------


def test_a_bar_for_each_part_with_its_band(meter: EnergyMeter) -> None:
    reading = meter.reading
    ax = reading.plot(axes())
    parts = {
        "this function, above idle (modelled)": reading.marginal_estimate,
        "this function, with its share of idle (modelled)": reading.amortised_estimate,
        "others, above idle (modelled, no band)": None,
        "idle (modelled)": reading.idle_estimate,
        "machine (modelled)": reading.machine_estimate,
    }
    assert [label.get_text() for label in ax.get_yticklabels()] == list(parts)
    widths = [bar.get_width() for bar in ax.patches]  # type: ignore[attr-defined]
    expected = ["marginal", "amortised", "others", "idle", "machine"]
    assert widths == [getattr(reading, name) for name in expected]
    bands = [c.get_segments()[0][:, 0] for c in ax.collections]  # type: ignore[attr-defined]
    np.testing.assert_allclose(bands, [(e.low, e.high) for e in parts.values() if e is not None])
    assert ax.get_xlabel() == "energy, J (lines: 95 % band)"
    assert "modelled: " in ax.get_title(loc="left")


def test_counters_have_bars(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path)
    with EnergyMeter(interval=None, root=tmp_path, methods="rapl,psutil") as counted:
        burn(0.02)
        machine.add("intel-rapl:0", 0.5)
    ax = counted.reading.plot(axes())
    labels = [label.get_text() for label in ax.get_yticklabels()]
    at = labels.index("machine's package (rapl, measured)")
    assert ax.patches[at].get_width() == counted.reading.rapl.package  # type: ignore[attr-defined]


def test_gpus_have_bars_beside_the_machines(tmp_path: Path) -> None:
    cards(tmp_path, arc=False)
    with EnergyMeter(root=tmp_path) as meter:
        time.sleep(0.4)
    bars = {bar.name: bar for bar in _reading._bars(meter.reading)}
    whole = bars["GPUs, beside the machine (measured)"]
    gpu = meter.reading.gpu
    assert gpu is not None and whole.value == gpu.value and whole.low == gpu.low
    # A bar where it is known whose they are, which no look may have told so soon.
    parts = [name for name in bars if "function's part of the GPUs" in name]
    assert len(parts) == (meter.reading.gpu_attributed is not None)


def test_no_energy_has_no_bar_and_a_reason() -> None:
    with EnergyMeter(methods=["psutil"]) as nothing:
        pass
    ax = nothing.reading.plot(axes())
    assert not ax.patches
    assert [text.get_text() for text in ax.texts] == ["not measured"]
    assert "no energy: " in ax.get_title(loc="left")
    line = nothing.timeline().plot(axes())
    assert not steps(line) and "no energy: " in line.get_title(loc="left")


# --- calls --------------------------------------------------------------------------------------


def test_a_dot_for_each_call(meter: EnergyMeter) -> None:
    stats = meter.stats()
    calls = table([stats, {}, stats])
    ax = calls.plot(axes())
    (dots,) = ax.containers
    assert list(dots[0].get_xdata()) == [0, 2]
    assert list(dots[0].get_ydata()) == [meter.joules, meter.joules]
    headline = meter.reading.headline
    assert headline is not None
    band = dots[2][0].get_segments()[1][:, 1]
    np.testing.assert_allclose(band, [headline.low, headline.high])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1", "2"]
    assert "not drawn, no energy: 1 call" in ax.get_title(loc="left")
    assert ax.get_ylabel() == "energy, J, marginal (lines: 95 % band)"
    assert table([]).plot(axes()).get_title(loc="left") == "no calls"


def test_a_band_that_does_not_hold_its_value_is_drawn_to_the_value(
    meter: EnergyMeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    (call,) = table([meter.stats()])
    calls = EnergyTable([call._replace(joules=2.0, band=(2.5, 3.0))], "marginal")
    (dots,) = calls.plot(axes()).containers
    assert dots[2][0].get_segments()[0][:, 1].tolist() == [2.0, 3.0]
    monkeypatch.setattr(_reading, "_bars", lambda _: [_reading._Bar("a", 2.0, 1.0, 1.5, "k")])
    (band,) = meter.reading.plot(axes()).collections
    assert band.get_segments()[0][:, 0].tolist() == [1.0, 2.0]  # type: ignore[attr-defined]


# --- where it is drawn --------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["timeline", "reading", "calls"])
def test_new_axes_are_of_pyplots_figure(what: str, meter: EnergyMeter) -> None:
    things: dict[str, Any] = {
        "timeline": meter.timeline(),
        "reading": meter.reading,
        "calls": table([meter.stats()]),
    }
    before = pyplot.get_backend()
    ax = things[what].plot()
    try:
        assert pyplot.get_fignums() == [ax.figure.number]
        assert pyplot.get_backend() == before
    finally:
        pyplot.close(ax.figure)
    own = axes()
    assert things[what].plot(ax=own) is own and pyplot.get_fignums() == []
    with pytest.raises(TypeError, match=r"ax must be axes of matplotlib, or None.* not 7"):
        things[what].plot(7)


def test_without_matplotlib_the_command_is_named(
    meter: EnergyMeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for thing in (meter.timeline(), meter.reading, table([{}])):
        with pytest.raises(ImportError, match=r"matplotlib: .* -m pip install 'matplotlib>=3.7'"):
            thing.plot()


def test_metering_loads_no_matplotlib() -> None:
    code = (
        "import sys, lithowatt\n"
        "with lithowatt.EnergyMeter() as m:\n    pass\n"
        "m.timeline(), m.reading\n"
        "print([name for name in sys.modules if 'matplotlib' in name or 'figures' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- lithowatt run --plot -----------------------------------------------------------------------


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lithowatt", "run", *map(str, arguments)]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF-"}


@pytest.mark.slow
@pytest.mark.parametrize("ending", MAGIC)
def test_a_command_becomes_a_picture(ending: str, tmp_path: Path) -> None:
    picture = tmp_path / f"out{ending}"
    for _ in range(2):  # a picture is replaced
        done = run("--plot", picture, "--", sys.executable, "-c", "raise SystemExit(7)")
        assert done.returncode == 7, done.stderr
        assert picture.read_bytes().startswith(MAGIC[ending])
        assert "could not be drawn" not in done.stderr
    assert list(tmp_path.iterdir()) == [picture]


def test_what_the_picture_says(tmp_path: Path) -> None:
    picture = tmp_path / "out.SVG"
    done = run("--plot", picture, "--", "sh", "-c", "exit 0 # <b>&")
    assert done.returncode == 0, done.stderr
    assert "plot written to " in done.stderr
    text = picture.read_text()
    assert "sh -c exit 0 # &lt;b&gt;&amp;" in text and "modelled" in text


@pytest.mark.parametrize(
    ("name", "there", "said"),
    [
        ("x.gif", None, "has no ending of a picture; expected .png, .svg, .pdf"),
        ("x", None, "has no ending of a picture"),
        ("x.png", b"my notes", "is there and no PNG picture; expected another name"),
        ("x.svg", b"<html>", "is there and no SVG picture"),
        ("x.pdf", b"\x89PNG\r\n\x1a\n", "is there and no PDF picture"),
        ("no/x.png", None, "there is no directory"),
    ],
)
def test_what_is_refused_before_the_command_runs(
    name: str, there: bytes | None, said: str, tmp_path: Path
) -> None:
    picture, ran = tmp_path / name, tmp_path / "ran"
    if there is not None:
        picture.write_bytes(there)
    done = run("--plot", picture, "--", "touch", ran)
    assert done.returncode == 2 and not ran.exists()
    assert len(done.stderr.splitlines()) == 1 and said in done.stderr
    assert (picture.read_bytes() if there is not None else None) == there


def test_one_file_for_two_things_is_refused(tmp_path: Path) -> None:
    done = run("--plot", tmp_path / "a.png", "-o", tmp_path / "a.png", "--", "true")
    assert done.returncode == 2 and "expected two files" in done.stderr


def test_a_picture_that_fails_changes_no_exit_code(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    done = run("--plot", folder / "x.png", "--", "sh", "-c", f"rmdir {folder}; exit 5")
    assert done.returncode == 5
    assert done.stderr.splitlines()[-1].startswith("lithowatt: the picture could not be drawn: ")


def test_a_reading_of_the_past_can_be_drawn(meter: EnergyMeter) -> None:
    import pickle

    again: Reading = pickle.loads(pickle.dumps(meter.reading))
    assert len(again.plot(axes()).patches) == 5
