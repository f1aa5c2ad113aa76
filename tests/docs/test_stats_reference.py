"""One table of keys: what is written, the reference, and `lithowatt explain` are made of it."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lithowatt import EnergyMeter
from lithowatt.aws import _sandbox
from lithowatt.cli import _keys, main
from lithowatt.meter._absent import absent_stats
from lithowatt.profiles import _columns
from lithowatt.stats import PREFIX, RENAMED, spelt, value_of
from lithowatt.worker import task_window as task
from rig import StaticTree
from tests.support import TOP

TYPES: dict[str, tuple[type, ...]] = {
    "float": (float, int),
    "int": (int,),
    "str": (str,),
    "bool": (bool,),
    "list[str]": (list,),
    "dict": (dict,),
}
ROWS = _keys.table()
OF_CORE = [row for row in ROWS if row.group not in (_keys.COLUMNS, _keys.COST, _keys.RESULTS)]
BY_STATS = {name: row for row in ROWS for name in row.stats}
PLAIN = {row.name: row for row in OF_CORE}


def metered(**options: Any) -> EnergyMeter:
    with EnergyMeter(**options) as meter, meter.phase("compute"):
        sum(range(100_000))
    return meter


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[StaticTree]:
    with StaticTree(tmp_path / "root") as made:
        yield made


def counted(tree: StaticTree, monkeypatch: pytest.MonkeyPatch) -> EnergyMeter:
    """A machine with counters, so that as many keys as possible have a value."""
    with EnergyMeter(root=tree.root, interval=None) as meter, meter.phase("compute"):
        tree.add("package-0", 5_000_000)
    return meter


def in_lambda(tree: StaticTree, monkeypatch: pytest.MonkeyPatch) -> EnergyMeter:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "f")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024")
    return metered(root=tree.root)


def in_a_pod(tree: StaticTree, monkeypatch: pytest.MonkeyPatch) -> EnergyMeter:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("HOSTNAME", "pod-1")
    return metered(interval=None)


PLACES: dict[str, Callable[[StaticTree, pytest.MonkeyPatch], EnergyMeter]] = {
    "counters": counted,
    "lambda": in_lambda,
    "pod": in_a_pod,
    "here": lambda tree, patch: metered(),
    "disabled": lambda tree, patch: metered(enabled=False),
    "modelled only": lambda tree, patch: metered(methods="tdp"),
    "system only": lambda tree, patch: metered(methods="psutil"),
    "empty root": lambda tree, patch: metered(root=tree.root.parent),
    "thread": lambda tree, patch: metered(scope="thread", label="mine"),
}


@pytest.mark.parametrize("place", PLACES)
def test_every_value_is_as_its_row_says(
    place: str, tree: StaticTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = PLACES[place](tree, monkeypatch)
    flat, stats = meter.reading.flat(), meter.stats()
    core = {row.name for row in ROWS if row.group not in (_keys.LAMBDA, _keys.TASK)}
    core &= PLAIN.keys()
    assert {key for key in flat if not key.startswith("phase_")} == {
        key for key in core if "<" not in key
    }
    assert set(stats) == {name for key in core for name in PLAIN[key].stats}
    checked = 0
    for name, value, row in (
        *((name, value, _keys.find(name)[0]) for name, value in flat.items()),
        *((name, value, BY_STATS[name]) for name, value in stats.items()),
    ):
        if value is None:
            assert row.absent, f"{name} is None, and its row says never"
            continue
        checked += 1
        assert isinstance(value, TYPES[row.type]), (name, row.type, value)
        assert isinstance(value, bool) == (row.type == "bool"), (name, value)
    assert checked > 40


def test_a_window_that_was_not_metered_has_the_same_keys() -> None:
    stats = absent_stats("no reading yet")
    assert set(stats) == set(metered().stats())
    assert all(BY_STATS[key].absent for key, value in stats.items() if value is None)


def test_what_python_adds_is_in_the_table_and_nothing_else() -> None:
    in_group: Callable[[str], set[str]] = lambda group: {  # noqa: E731
        row.name for row in ROWS if row.group == group
    }
    assert in_group(_keys.TASK) == set(task.KEYS)
    assert {PREFIX + name for name in in_group(_keys.LAMBDA)} == set(_sandbox.call_values())
    assert in_group(_keys.COLUMNS) == set(_columns.COLUMN_NAMES)
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        cost = "cost --duration 1 --memory 1024 --joules 12 --json"
        assert main(cost.split()) == 0
    bill = json.loads(told.getvalue())
    per_call = bill.pop("per_call")
    assert in_group(_keys.COST) == {*bill, *per_call}
    of = {row.name: row for row in ROWS if row.group == _keys.COST}
    for name, value in {**bill, **per_call}.items():
        assert isinstance(value, TYPES[of[name].type]), name


def test_no_two_rows_of_a_calls_stats_have_one_key() -> None:
    names = [name for row in ROWS for name in row.stats]
    assert sorted(names) == sorted(set(names))
    plain = [row.name for row in OF_CORE]
    assert sorted(plain) == sorted(set(plain))
    for row in ROWS:
        assert row.type in TYPES, row
        assert row.meaning.strip(), row


# --- two forms of one reading ----------------------------------------------------


def test_the_stats_are_the_flat_dict_in_other_words(tree: StaticTree) -> None:
    with EnergyMeter(root=tree.root, interval=None, label="mine") as meter:
        tree.add("package-0", 5_000_000)
    flat, stats = meter.reading.flat(), meter.stats()
    assert stats == {
        name: flat[row.name] for row in OF_CORE if row.name in flat for name in row.stats
    }
    assert json.loads(meter.stats_json()) == stats
    assert flat["energy_consumption"] == meter.joules
    assert flat["rapl_energy_package"] == meter.reading.rapl.package == 5.0
    assert flat["label"] == "mine"
    assert flat["processor_name"] == stats["worker_processor_name"]
    assert not any(key.startswith("worker_") for key in flat)
    assert all(value_of(stats, key) == flat[key] for key in flat if spelt(key)[0] in stats)
    assert all(value_of(flat, key) == flat[key] for key in flat)


def test_every_renamed_key_is_one_of_the_stats() -> None:
    for plain, written in RENAMED.items():
        assert PLAIN[plain].stats == written


def test_a_flat_dict_holds_every_phase() -> None:
    names = ["train", "load data", "load-data", "read", "größe/2", "x" * 100]
    with EnergyMeter() as meter:
        for name in names:
            with meter.phase(name):
                sum(range(100_000))
    reading = meter.reading
    flat = reading.flat()
    expected = ["train", "load_data", "load_data_2", "read", "größe_2", "x" * 64]
    for key, phase in zip(expected, reading.phases, strict=True):
        assert flat[f"energy_phase_{key}"] == phase.joules
        assert flat[f"phase_duration_{key}"] == phase.duration > 0
        assert flat[f"phase_cpu_time_{key}"] == phase.cpu_seconds
        assert f"energy_phase_{key}".isidentifier()
    assert flat["energy_phase_compute"] is None
    assert "phase_duration_compute" not in flat
    fixed = {f"{PREFIX}energy_phase_{name}" for name in ("read", "compute", "write")}
    assert {key for key in meter.stats() if "phase" in key} == fixed


def test_a_flat_dict_is_of_its_reading() -> None:
    with EnergyMeter() as meter:
        reading = meter.reading
        sum(range(1_000_000))
    assert reading.flat()["running"] is True
    assert reading.flat()["energy_duration"] == reading.duration < meter.duration
    mine = reading.flat()
    mine.clear()
    assert reading.flat()
    assert json.loads(json.dumps(reading.flat())) == reading.flat()


def test_a_reading_is_copied_with_its_flat_dict() -> None:
    meter = metered()
    reading = meter.reading
    for arrived in (
        pickle.loads(pickle.dumps(reading)),
        copy.deepcopy(reading),
        pickle.loads(pickle.dumps(meter)).reading,
        pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(meter)))).reading,
    ):
        assert arrived.flat() == reading.flat()
        assert arrived.raw == reading.raw


def test_the_prefix_of_lithops_stands_where_its_stats_are_the_question() -> None:
    rooms = ("lithops/", "worker/", "stats.py")
    #: Lithops' own keys, an example of use, and the contract of `stats()`.
    others = {
        "flexecutor/_estimate.py": 1,
        "profiles/_lithops_stats.py": 3,
        "cli/explain.py": 1,
        "meter/_meter.py": 1,
        "report/_executions.py": 1,
    }
    python = TOP / "python" / "lithowatt"
    found = {}
    for path in [*python.rglob("*.py"), *python.rglob("*.pyi"), *(TOP / "src").rglob("*.rs")]:
        name = str(path.relative_to(python if python in path.parents else TOP))
        count = path.read_text("utf-8").count(PREFIX)
        if count and not name.startswith(rooms):
            found[name] = count
    assert found == others


# --- the reference ---------------------------------------------------------------


def test_the_reference_is_what_the_table_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOP / "tools")  # as where the tool is run
    spec = importlib.util.spec_from_file_location("reference", TOP / "tools" / "stats_reference.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        code = tool.main([])
    assert code == 0, f"run make stats-reference:\n{told.getvalue()}"
    document = (TOP / "docs" / "reference" / "stats.md").read_text("utf-8")
    for row in ROWS:
        assert f"| `{row.name}` |" in document
        assert all(f"`{name}`" in document for name in row.stats)


def test_a_row_that_is_missing_is_seen(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import stats_reference as tool\n"
        "tool.DOCUMENT = pathlib.Path(sys.argv[2])\n"
        "rows = tool.table()\n"
        "tool.DOCUMENT.write_text(tool.reference(rows[:5] + rows[6:]), encoding='utf-8')\n"
        "sys.exit(tool.main([]))\n"
    )
    arguments = [sys.executable, "-c", script, str(TOP / "tools"), str(tmp_path / "stats.md")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert f"+| `{ROWS[5].name}` |" in done.stdout


# --- lithowatt explain -----------------------------------------------------------


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["explain", *arguments])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_each_key_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for row in ROWS:
        for name in (row.name, *row.stats):
            found = _keys.find(name)
            assert row in found, name
    code, out, _ = explained(capsys, *(name for row in ROWS for name in (row.name, *row.stats)))
    assert code == 0
    assert out.count("  Group: ") == len(ROWS)


@pytest.mark.parametrize(
    "key", ["rapl_energy_package", "worker_func_rapl_energy_pkg", "rapl_energy_pkg"]
)
def test_a_key_is_found_in_each_form(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = explained(capsys, key)
    assert code == 0
    assert out.startswith("rapl_energy_package (J, float)\n")
    assert "In stats: worker_func_rapl_energy_pkg." in out
    assert re.search(r"None when: .*rapl_source", out)


def test_quantities_of_results_are_of_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    from lithowatt.analysis.quantities import QUANTITIES
    from lithowatt.analysis.selection import NAMES

    assert (*QUANTITIES, "cost_usd", "energy_j") == NAMES
    assert tuple(row.name for row in ROWS if row.group == _keys.RESULTS) == NAMES
    document = (TOP / "docs" / "reference" / "results.md").read_text("utf-8")
    section = document.partition("\n## Quantities\n")[2].partition("\n## ")[0]
    named = [name for line in section.splitlines() if line.startswith("| `")
             for name in re.findall(r"`([a-z_]+)`", line.split("|")[1])]  # fmt: skip
    assert sorted(named) == sorted(NAMES)
    # Of the bill and of results.
    assert explained(capsys, "energy_j")[1].count("  Group: ") == 2
    assert explained(capsys, "cost_usd", "time_s")[0] == 0


def test_the_column_of_two_meanings_has_both(capsys: pytest.CaptureFixture[str]) -> None:
    told = " ".join(explained(capsys, "TDP")[1].split())
    assert "TDP (J, float)" in told and "power model" in told
    assert "energy fork it is no energy but busy seconds" in told


def test_explain_needs_no_numpy() -> None:
    script = (
        "import sys; sys.modules['numpy'] = None\n"
        "from lithowatt.cli import main\n"
        "sys.exit(main(['explain', 'time_s']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "time_s (s, float)")


def test_a_pattern_and_a_phase_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = explained(capsys, "perf_energy_*", "energy_phase_train", "--json")
    rows = json.loads(out)
    names = [row["name"] for row in rows]
    assert code == 0
    assert set(names) >= {"perf_energy_package", "perf_energy_pkg", "energy_phase_<name>"}
    package = next(row for row in rows if row["name"] == "perf_energy_package")
    assert (package["unit"], package["type"]) == ("J", "float")
    assert package["stats"] == ["worker_func_perf_energy_pkg"]


def test_without_a_key_all_are_listed_by_group(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = explained(capsys)
    lines = out.splitlines()
    assert code == 0
    assert [line for line in lines if line and not line.startswith(" ")] == list(
        dict.fromkeys(row.group for row in ROWS)
    )
    assert sum(line.startswith("  ") for line in lines) == len(ROWS)
    assert json.loads(explained(capsys, "--json")[1])[0]["name"] == ROWS[0].name


def test_a_key_that_there_is_not_has_suggestions(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = explained(capsys, "enrgy_consumtion", "energy_watts")
    assert code == 2
    assert "expected a key of the stats, got 'enrgy_consumtion': did you mean" in err
    assert "energy_consumption" in err
    assert out.startswith("energy_watts (W, float)")
    code, out, err = explained(capsys, "qqqq", "--json")
    assert (code, out) == (2, "")
    assert "lithowatt explain lists all" in err


def test_a_key_that_there_is_not_is_shown_in_short(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = explained(capsys, "y" * 100_000)
    assert (code, out) == (2, "")
    assert "got 'yyyy" in err and "yyy…':" in err and len(err) < 200
