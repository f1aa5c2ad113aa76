"""Bad input, one test each: refused with what is accepted, or survived."""

from __future__ import annotations

import json
import math
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lithowatt
from lithowatt import EnergyMeter, _core, measure
from rig import StaticTree

ACCEPTED_INTERVAL = "0.001 to 3600"


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[StaticTree]:
    """Two counters that the test sets, in an otherwise real machine."""
    with StaticTree(tmp_path / "root", domains=("package", "dram")) as tree:
        yield tree


def metered(**options: Any) -> EnergyMeter:
    """A meter after a short window."""
    with EnergyMeter(**options) as m:
        time.sleep(0.003)
    return m


def check(meter: EnergyMeter) -> dict[str, Any]:
    """Everything that a reading offers, asked for once; the stats, which must be JSON."""
    stats = meter.stats()
    json.dumps(stats, allow_nan=False)
    assert repr(meter)
    assert str(meter.reading)
    assert meter.reading._repr_html_()
    meter.timeline()
    for method in ("rapl", "perf", "ebpf", "psutil", "tdp"):
        available = stats[f"worker_func_{method}_available"]
        assert available is not stats[f"worker_func_{method}_source"].startswith("unavailable: ")
    return stats


# -- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize("methods", ["joulemeter", ["rapl", "joulemeter"], ("joulemeter",)])
def test_an_unknown_method_is_named_with_those_that_exist(methods: Any) -> None:
    with pytest.raises(lithowatt.UnknownMethodError, match="joulemeter") as caught:
        EnergyMeter(methods=methods)
    for known in ("auto", "rapl", "perf", "ebpf", "psutil", "tdp", "model"):
        assert known in str(caught.value)


def test_an_unknown_method_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENERGY_METHODS", "rapl,joulemeter")
    with pytest.raises(lithowatt.UnknownMethodError, match="joulemeter"):
        EnergyMeter()


def test_a_method_given_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENERGY_METHODS", "joulemeter")
    assert metered(methods=["tdp"]).stats()["worker_func_tdp_available"] is True


def test_a_long_unknown_method_is_cut_in_the_message() -> None:
    with pytest.raises(lithowatt.UnknownMethodError) as caught:
        EnergyMeter(methods="x" * 100_000)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("methods", [3, [1], b"rapl", {"rapl": 1}, object()])
def test_methods_of_another_type(methods: Any) -> None:
    with pytest.raises(TypeError, match="methods must be a string or a sequence of strings"):
        EnergyMeter(methods=methods)


@pytest.mark.parametrize(
    "interval",
    [-1, -0.1, 0, 0.0, 0.000_999, 3600.1, math.nan, math.inf, -math.inf, 1e308, 10**400],
    ids=lambda interval: str(interval)[:12],
)
def test_an_interval_out_of_range(interval: float) -> None:
    with pytest.raises(lithowatt.InvalidIntervalError, match=ACCEPTED_INTERVAL) as caught:
        EnergyMeter(interval=interval)
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "interval",
    ["0.1", b"0.1", [0.1], {}, pytest.param(object(), id="object"), 1j],
    ids=repr,
)
def test_an_interval_of_another_type(interval: Any) -> None:
    with pytest.raises((TypeError, lithowatt.InvalidIntervalError), match="interval") as caught:
        EnergyMeter(interval=interval)
    assert ACCEPTED_INTERVAL in str(caught.value)


@pytest.mark.parametrize("text", ["abc", "-5", "0", "nan", "inf", "1e999", "3600001", "10 ms"])
def test_an_interval_in_the_environment(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENERGY_COLLECTION_INTERVAL", text)
    with pytest.raises((lithowatt.MalformedValueError, lithowatt.InvalidIntervalError)):
        EnergyMeter()


def test_a_word_as_interval_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENERGY_COLLECTION_INTERVAL", "abc")
    with pytest.raises(lithowatt.MalformedValueError, match="abc") as caught:
        EnergyMeter()
    assert "ENERGY_COLLECTION_INTERVAL" in str(caught.value)
    assert "milliseconds" in str(caught.value)


@pytest.mark.parametrize("name", ["ENERGY_COLLECTION_INTERVAL", "ENERGY_METHODS"])
def test_an_empty_variable_is_one_that_is_not_set(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "")
    m = metered()
    assert m.reading.raw["interval"] == pytest.approx(0.1)
    assert m.stats()["worker_func_psutil_available"] is True


def test_an_interval_in_the_environment_is_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENERGY_COLLECTION_INTERVAL", " 20 ")
    assert metered().reading.raw["interval"] == pytest.approx(0.02)


def dead_pid() -> int:
    """The pid of a process that has just been waited for."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_the_pid_of_no_process() -> None:
    pid = dead_pid()
    with pytest.raises(lithowatt.ProcessNotFoundError, match=str(pid)) as caught:
        EnergyMeter(pid=pid)
    assert isinstance(caught.value, ProcessLookupError)
    assert "running process" in str(caught.value)


@pytest.mark.parametrize("pid", [0, -1, 2**31, 2**40, -(2**40), 2**63, 2**100, -(2**100)])
def test_a_pid_that_cannot_be_one(pid: int) -> None:
    with pytest.raises(lithowatt.ProcessNotFoundError, match=str(pid)):
        EnergyMeter(pid=pid)


@pytest.mark.parametrize("pid", ["1", 1.5, ["1"]])
def test_a_pid_of_another_type(pid: Any) -> None:
    with pytest.raises(TypeError, match="pid"):
        EnergyMeter(pid=pid)


def test_a_process_that_ends_within_the_window() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    with EnergyMeter(pid=process.pid) as m:
        process.communicate(b"\n")
    check(m)


@pytest.mark.parametrize("cgroup", ["nothing/here", "a\0b"])
def test_a_cgroup_that_is_not_there(cgroup: str, tmp_path: Path) -> None:
    with pytest.raises(lithowatt.UnreadableFileError, match=tmp_path.name) as caught:
        EnergyMeter(cgroup=f"{tmp_path}/{cgroup}")
    assert isinstance(caught.value, OSError)
    assert "cpu.stat" in str(caught.value)


def test_a_directory_that_is_no_cgroup(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text("nonsense\n")
    with pytest.raises(lithowatt.UnreadableFileError, match=tmp_path.name):
        EnergyMeter(cgroup=tmp_path)


def test_an_empty_cgroup_is_not_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.stat").write_text("usage_usec 5\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(lithowatt.LithowattError):
        EnergyMeter(cgroup="")


def test_a_cgroup_that_vanishes_before_the_start(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text("usage_usec 5\n")
    m = EnergyMeter(cgroup=tmp_path)
    (tmp_path / "cpu.stat").unlink()
    # Who starts a meter is about to run something, and that is to run.
    with m:
        pass
    stats = check(m)
    assert m.joules is None
    assert stats["worker_func_energy_cpu_time"] is None
    assert tmp_path.name in stats["worker_func_energy_source"]
    (tmp_path / "cpu.stat").write_text("usage_usec 5\n")
    with m:
        pass
    assert m.reading.cpu_seconds == 0.0, "it is there again"


NO_TIME_OF_A_GROUP = {
    "garbage": b"\xff\xfe usage_usec -1\n",
    "empty": b"",
    "no number": b"usage_usec x\n",
    "negative": b"usage_usec -1\n",
    "beyond 64 bits": b"usage_usec 99999999999999999999\n",
    "beyond 64 bits of ns": f"usage_usec {2**64 - 1}\n".encode(),
    "less than before": b"usage_usec 5\n",
    "no such line": b"user_usec 7\n",
    "a large file": b"x" * 10_000,
}


@pytest.mark.parametrize("content", NO_TIME_OF_A_GROUP.values(), ids=NO_TIME_OF_A_GROUP)
def test_a_cgroup_that_turns_to_garbage_within_the_window(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cpu.stat").write_text("usage_usec 900000\n")
    with EnergyMeter(cgroup=tmp_path) as m:
        (tmp_path / "cpu.stat").write_bytes(content)
    stats = check(m)
    assert stats["worker_func_energy_cpu_time"] is None
    assert stats["worker_func_psutil_process_cpu_percent"] is None
    assert stats["worker_func_energy_consumption"] is None
    assert any("cgroup could not be read" in text for text in m.reading.warnings)


@pytest.mark.parametrize("content", [b"", b"x\n", b"-1\n", b"5\n"])
def test_an_old_cgroup_that_turns_to_garbage_within_the_window(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "cpuacct.usage").write_text("900000000\n")
    with EnergyMeter(cgroup=tmp_path) as m:
        # As who writes 0 to the file has it.
        (tmp_path / "cpuacct.usage").write_bytes(content)
    assert check(m)["worker_func_energy_cpu_time"] is None
    assert any("lower than before" in text for text in m.reading.warnings)


def test_a_cgroup_that_is_garbage_for_a_while_is_counted_when_it_can_be_read(
    tmp_path: Path,
) -> None:
    stat = tmp_path / "cpu.stat"
    stat.write_text("usage_usec 900000\n")
    with EnergyMeter(cgroup=tmp_path, interval=None) as m:
        with m.phase("unread"):
            time.sleep(0.06)
            stat.write_text("nonsense\n")
        time.sleep(0.06)
        stat.write_text("usage_usec 930000\n")
    assert m.reading.cpu_seconds == pytest.approx(0.03)
    assert any("1 time(s)" in text for text in m.reading.warnings)


@pytest.mark.parametrize("scope", ["galaxy", "", "PROCESS", "a\0b", "x" * 10_000])
def test_an_unknown_scope(scope: str) -> None:
    with pytest.raises(lithowatt.UnknownScopeError, match=r"process.*thread.*task") as caught:
        EnergyMeter(scope=scope)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"pid": os.getpid(), "scope": "thread"}, "scope"),
        ({"pid": os.getpid(), "scope": "task"}, "scope"),
        ({"cgroup": "/sys", "scope": "thread"}, "scope"),
        ({"pid": os.getpid(), "cgroup": "/sys"}, "pid and cgroup"),
    ],
)
def test_options_that_exclude_each_other(options: dict[str, Any], named: str) -> None:
    with pytest.raises(lithowatt.ConflictingOptionsError, match=named):
        EnergyMeter(**options)


@pytest.mark.parametrize("option", ["scope", "label", "root", "cgroup"])
def test_a_number_where_text_belongs(option: str) -> None:
    options: dict[str, Any] = {option: 3}
    with pytest.raises(TypeError, match=f"^{option} must be a .*, not 3$"):
        EnergyMeter(**options)


@pytest.mark.parametrize(
    ("option", "given"),
    [("children", None), ("children", "no"), ("enabled", "no"), ("root", b"/"), ("cgroup", b"/")],
)
def test_a_value_of_another_type_names_its_option(option: str, given: Any) -> None:
    options: dict[str, Any] = {option: given}
    with pytest.raises(TypeError, match=f"^{option} must be .*, not {given!r}$"):
        EnergyMeter(**options)


def test_a_label_of_another_type_is_refused_when_it_is_set() -> None:
    meter = EnergyMeter(label="mine")
    with pytest.raises(TypeError, match=r"^label must be a string .*, not 5$"):
        meter.label = 5  # type: ignore[assignment]
    assert meter.label == "mine"


def test_an_empty_path_is_shown_in_its_error() -> None:
    for make in (lambda: EnergyMeter(root=""), lambda: lithowatt.doctor("")):
        with pytest.raises(lithowatt.ConflictingOptionsError, match=r'^root must be .*, not ""$'):
            make()
    with pytest.raises(lithowatt.UnreadableFileError, match=r'^"" is no cgroup'):
        EnergyMeter(cgroup="")


def test_an_empty_root_in_the_environment_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITHOWATT_ROOT", "")
    assert lithowatt.doctor() == lithowatt.doctor("/")


def test_doctor_says_what_is_wrong_with_a_root(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a directory")
    with pytest.raises(lithowatt.UnreadableFileError, match="not a directory"):
        lithowatt.doctor(file)
    with pytest.raises(lithowatt.UnreadableFileError, match="No such file"):
        lithowatt.doctor(tmp_path / "none")


def test_an_option_that_does_not_exist() -> None:
    options: dict[str, Any] = {"colour": "green"}
    with pytest.raises(TypeError, match="colour"):
        EnergyMeter(**options)


def test_measure_refuses_bad_options_where_it_decorates() -> None:
    with pytest.raises(lithowatt.InvalidIntervalError):
        measure(interval=-1)(len)
    with pytest.raises(TypeError, match="colour"):
        measure(colour="green")(len)
    with pytest.raises(TypeError, match=r"decorates functions.*with EnergyMeter\(\)"):
        measure(3)  # type: ignore[call-overload]


def test_a_function_where_methods_belong() -> None:
    with pytest.raises(TypeError, match="methods"):
        EnergyMeter(lambda: None)  # type: ignore[arg-type]


# -- order of calls -----------------------------------------------------------------------------


def test_stop_without_start() -> None:
    with pytest.raises(lithowatt.MeterStateError, match=r"not running.*start\(\)"):
        EnergyMeter().stop()


def test_stop_twice_keeps_the_reading() -> None:
    m = metered()
    before = m.stats()
    with pytest.raises(lithowatt.MeterStateError, match="not running"):
        m.stop()
    assert m.stats() == before


def test_start_twice_keeps_the_window() -> None:
    with EnergyMeter() as m:
        with pytest.raises(lithowatt.MeterStateError, match=r"running already.*stop\(\)"):
            m.start()
        assert m.running
    assert m.duration > 0


@pytest.mark.parametrize("ask", ["joules", "watts", "reading", "duration"])
def test_a_reading_before_the_start(ask: str) -> None:
    with pytest.raises(lithowatt.MeterStateError, match=r"start\(\)"):
        getattr(EnergyMeter(), ask)


@pytest.mark.parametrize("ask", ["stats", "timeline"])
def test_a_result_before_the_start(ask: str) -> None:
    with pytest.raises(lithowatt.MeterStateError, match=r"start\(\)"):
        getattr(EnergyMeter(), ask)()


def test_a_phase_outside_of_a_window_is_nothing() -> None:
    m = EnergyMeter()
    with m.phase("read"):
        pass
    with m:
        pass
    with m.phase("read"):
        pass
    assert m.reading.phases == []


def test_a_phase_that_is_left_twice_or_never() -> None:
    with EnergyMeter() as m:
        left = m.phase("read")
        with left:
            pass
        left.__exit__(None, None, None)
        m.phase("write").__enter__()
    assert {p.name: p.entries for p in m.reading.phases} == {"read": 1, "write": 1}
    check(m)


def test_start_and_stop_from_many_threads() -> None:
    m = EnergyMeter(interval=0.001)
    odd: list[BaseException] = []

    def play() -> None:
        for _ in range(200):
            try:
                m.start()
                m.stop()
            except lithowatt.MeterStateError:
                pass
            except BaseException as error:
                odd.append(error)

    threads = [threading.Thread(target=play) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert odd == []
    if m.running:
        m.stop()
    check(m)


# -- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", None, 3, b"read", ["read"], True])
def test_a_phase_name_that_is_none(name: Any) -> None:
    with EnergyMeter() as m, pytest.raises(ValueError, match="phase name"):
        m.phase(name)
    assert m.reading.phases == []


HOSTILE = [
    "a\0b",
    "two\nlines\r\n",
    "\x1b[31mred",
    "🔋⚡\u202e",
    "x" * 10_000,
    "<script>alert('joules')</script>",
    "'; DROP TABLE energy; --",
    "{0} %s %(x)s",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_come_back_as_they_were(name: str) -> None:
    with EnergyMeter(label=name) as m, m.phase(name):
        pass
    assert m.label == name
    assert m.reading.label == name
    assert [p.name for p in m.reading.phases] == [name]
    check(m)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_reaches_the_stats(name: str) -> None:
    with EnergyMeter(label=name) as m, m.phase(name):
        pass
    with EnergyMeter() as plain:
        pass
    assert m.stats().keys() == plain.stats().keys()
    assert len(json.dumps(m.stats())) < 6 * 1024


def test_html_is_escaped() -> None:
    name = '<script>alert("1")</script>&\''
    with EnergyMeter(label=name) as m, m.phase(name):
        pass
    for html in (m.reading._repr_html_(), m._repr_html_()):
        assert "<script" not in html
        assert "&lt;script&gt;" in html


def test_a_name_in_a_terminal_is_one_line_without_escapes() -> None:
    with EnergyMeter(label="\x1b[31mred\nblue") as m:
        pass
    assert "\x1b" not in repr(m)
    assert "\n" not in repr(m)


def test_text_that_utf_8_cannot_hold_is_refused() -> None:
    with pytest.raises((TypeError, ValueError)):
        EnergyMeter(label="\ud800")
    with pytest.raises(TypeError, match="label must be a string without lone surrogates"):
        EnergyMeter().label = "\ud800"


def test_a_phase_named_as_a_file_that_is_no_utf_8_runs() -> None:
    ran = False
    with EnergyMeter() as m, m.phase(os.fsdecode(b"gr\xc3\xb6\xc3\x9fe-\xff.csv")):
        ran = True
    assert ran
    assert [p.name for p in m.reading.phases] == ["größe-\\udcff.csv"]
    check(m)


# -- counters -----------------------------------------------------------------------------------

GARBAGE = [
    b"",
    b"\n",
    b"twelve\n",
    b"-5\n",
    b"18446744073709551616\n",
    b"9" * 40 + b"\n",
    b"1e6\n",
    b"0x10\n",
    b"1 2\n",
    b"\xff\xfe\x00\x01\n",
    b"\0" * 32,
]


@pytest.mark.parametrize("content", GARBAGE)
def test_a_counter_that_is_garbage_from_the_start(tree: StaticTree, content: bytes) -> None:
    for zone in tree.zones:
        path = tree.zone_dir(zone.key) / "energy_uj"
        path.chmod(0o644)
        path.write_bytes(content)
    stats = check(metered(root=tree.root, interval=None))
    assert stats["worker_func_rapl_available"] is False
    assert stats["worker_func_rapl_energy_pkg"] is None
    assert stats["worker_func_rapl_energy_total"] is None
    assert "energy_uj" in stats["worker_func_rapl_source"]


@pytest.mark.parametrize("content", GARBAGE)
def test_a_counter_that_turns_to_garbage(tree: StaticTree, content: bytes) -> None:
    path = tree.zone_dir("package-0") / "energy_uj"
    path.chmod(0o644)
    with EnergyMeter(root=tree.root, interval=None) as m:
        tree.add("package-0", 1_000_000)
        tree.add("package-0/dram", 500_000)
        path.write_bytes(content)
    stats = check(m)
    assert stats["worker_func_rapl_energy_pkg"] is None
    assert stats["worker_func_rapl_energy_total"] is None
    assert any("package-0" in text for text in stats["worker_func_energy_warnings"])


@pytest.mark.parametrize("content", [*GARBAGE, b"0\n"])
def test_a_range_that_is_garbage(tree: StaticTree, content: bytes) -> None:
    for zone in tree.zones:
        (tree.zone_dir(zone.key) / "max_energy_range_uj").write_bytes(content)
    with EnergyMeter(root=tree.root, interval=None) as m:
        tree.add("package-0", 1_000_000)
    stats = check(m)
    # Without a range no wrap can be told from a reset: refused, or right; never invented.
    assert stats["worker_func_rapl_energy_pkg"] in (None, pytest.approx(1.0))


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"package-\n", b"package-99999999999\n", b"x" * 5000]
)
def test_a_zone_name_that_is_garbage(tree: StaticTree, content: bytes) -> None:
    for zone in tree.zones:
        (tree.zone_dir(zone.key) / "name").write_bytes(content)
    assert check(metered(root=tree.root))["worker_func_rapl_available"] is False


def test_a_counter_at_the_end_of_its_type(tree: StaticTree) -> None:
    path = tree.zone_dir("package-0") / "energy_uj"
    path.chmod(0o644)
    path.write_text(f"{2**64 - 1}\n")
    (tree.zone_dir("package-0") / "max_energy_range_uj").write_text(f"{2**64 - 1}\n")
    with EnergyMeter(root=tree.root, interval=None) as m:
        path.write_text("5\n")
    check(m)


def test_a_directory_where_a_counter_should_be(tree: StaticTree) -> None:
    path = tree.zone_dir("package-0") / "energy_uj"
    path.unlink()
    path.mkdir()
    stats = check(metered(root=tree.root))
    assert stats["worker_func_rapl_available"] is False


def test_a_tree_of_links_that_bite_their_tail(tmp_path: Path) -> None:
    links = tmp_path / "sys/class/powercap"
    links.mkdir(parents=True)
    (links / "intel-rapl:0").symlink_to("intel-rapl:0")
    (links / "intel-rapl:1").symlink_to(links)
    assert check(metered(root=tmp_path))["worker_func_rapl_available"] is False


@pytest.mark.parametrize("root", ["nothing/here", "a\0b", "file"])
def test_a_root_that_is_none(root: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    meter = metered(root=f"{tmp_path}/{root}")
    assert meter.joules is None
    assert str(meter.reading.reason).startswith(f"the root {tmp_path}")
    stats = check(meter)
    assert stats["worker_func_rapl_available"] is False
    assert stats["worker_func_psutil_available"] is False
    assert stats["worker_func_energy_method_used"] == "null, null, null, null"


# -- calibration --------------------------------------------------------------------------------


def calibration(**changes: Any) -> str:
    """The text of a calibration of this machine."""
    stored = {
        "schema": 1,
        "machine": _core.cpu_identity()["name"],
        "date": 1.7e9,
        "idle_watts": {"package-0": 11.0, "dram": 2.0},
    }
    return json.dumps({**stored, **changes})


HOSTILE_CALIBRATIONS = {
    "empty": "",
    "truncated": calibration()[:-20],
    "no object": "[1, 2]",
    "another schema": calibration(schema=2),
    "no schema": json.dumps({"machine": "cpu", "date": 1.0}),
    "NaN": calibration().replace("11.0", "NaN"),
    "infinite": calibration().replace("11.0", "1e999"),
    "negative": calibration().replace("11.0", "-11.0"),
    "text for a number": calibration(idle_watts={"package-0": "eleven"}),
    "no UTF-8": None,
    "deep": "[" * 100_000,
}


def write_hostile(path: Path, text: str | None) -> None:
    path.write_bytes(b"\xff\xfe{" if text is None else text.encode())


@pytest.mark.parametrize("kind", HOSTILE_CALIBRATIONS)
def test_a_hostile_calibration_is_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    write_hostile(path, HOSTILE_CALIBRATIONS[kind])
    with pytest.raises((lithowatt.MalformedValueError, lithowatt.UnreadableFileError)) as caught:
        _core.read_calibration(path)
    assert "calibration.json" in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("kind", HOSTILE_CALIBRATIONS)
def test_a_hostile_calibration_is_none_for_a_meter(
    kind: str, tmp_path: Path, tree: StaticTree
) -> None:
    # A process of its own: the calibration is read once in each.
    write_hostile(tmp_path / "calibration.json", HOSTILE_CALIBRATIONS[kind])
    idle = idle_source(tmp_path, tree.root)
    assert idle == "modelled"


def idle_source(state: Path, root: Path) -> str:
    """Where a fresh process with this state directory has its idle power from."""
    code = (
        "import sys; from lithowatt import EnergyMeter\n"
        "path = sys.argv[1] + '/sys/class/powercap/intel-rapl:0/energy_uj'\n"
        "with EnergyMeter(root=sys.argv[1], interval=None) as m:\n"
        "    sum(range(1_000_000))\n"
        "    open(path, 'w').write('9000000\\n')\n"
        "print(m.stats()['worker_func_energy_idle_source'])\n"
    )
    (root / "sys/class/powercap/intel-rapl:0/energy_uj").chmod(0o644)
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)],
        env={**os.environ, "LITHOWATT_STATE_DIR": str(state)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_a_calibration_of_this_machine_is_used(tmp_path: Path, tree: StaticTree) -> None:
    text = calibration(on=_core.machine_identity(tree.root))
    _core.write_calibration(text, tmp_path / "calibration.json")
    assert idle_source(tmp_path, tree.root) == "calibrated"


def test_a_calibration_of_another_machine_is_not_used(tmp_path: Path, tree: StaticTree) -> None:
    text = calibration(on=_core.machine_identity(tree.root), machine="Imaginary 9000")
    _core.write_calibration(text, tmp_path / "calibration.json")
    assert idle_source(tmp_path, tree.root) == "modelled"


def test_a_calibration_is_read_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "deep/er/calibration.json"
    _core.write_calibration(calibration(), path)
    assert _core.read_calibration(path)["idle_watts"] == {"package-0": 11.0, "dram": 2.0}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["calibration.json"]


@pytest.mark.parametrize(
    "kind", [k for k, text in HOSTILE_CALIBRATIONS.items() if text is not None]
)
def test_what_cannot_be_read_is_not_written(kind: str, tmp_path: Path) -> None:
    text = HOSTILE_CALIBRATIONS[kind]
    assert text is not None
    path = tmp_path / "calibration.json"
    path.write_text("as it was")
    with pytest.raises(lithowatt.MalformedValueError):
        _core.write_calibration(text, path)
    assert path.read_text() == "as it was"
    assert os.listdir(tmp_path) == ["calibration.json"]


@pytest.mark.slow
def test_a_calibration_is_never_seen_half_written(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    long = calibration(idle_watts={f"zone-{i}": 1.0 for i in range(5000)})
    _core.write_calibration(long, path)
    ready = threading.Event()

    def write() -> None:
        for _ in range(30):
            _core.write_calibration(long, path)
        ready.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not ready.is_set():
        assert len(_core.read_calibration(path)["idle_watts"]) == 5000
    writer.join()
    assert os.listdir(tmp_path) == ["calibration.json"]


def test_many_writers_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    failed: list[BaseException] = []

    def write(watts: float) -> None:
        try:
            for _ in range(10):
                _core.write_calibration(calibration(idle_watts={"package-0": watts}), path)
        except BaseException as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(float(i),)) for i in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failed == []
    assert _core.read_calibration(path)["idle_watts"]["package-0"] in range(4)
    assert os.listdir(tmp_path) == ["calibration.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(lithowatt.UnwritableFileError, match=r"cannot write .*; nothing was stored"):
        _core.write_calibration(calibration(), tmp_path / "file/calibration.json")
    target = tmp_path / "calibration.json"
    target.mkdir()
    with pytest.raises(lithowatt.UnreadableFileError, match=r"calibration\.json"):
        _core.write_calibration(calibration(), target)
    assert sorted(os.listdir(tmp_path)) == ["calibration.json", "file"]


# -- fuzz ---------------------------------------------------------------------------------------

REFUSED = (lithowatt.LithowattError, TypeError, ValueError)
"""What the constructor may raise. A panic is none of these: it derives from BaseException."""

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.lists(st.text(max_size=8), max_size=3),
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, database=None)
@given(
    options=st.fixed_dictionaries(
        {},
        optional={
            "methods": anything | st.sampled_from(["auto", "rapl", "tdp", "perf,psutil"]),
            "interval": anything | st.just(0.5),
            "pid": anything,
            "children": anything,
            "scope": anything | st.sampled_from(["process", "thread", "task"]),
            "cgroup": anything,
            "label": anything,
            "root": anything,
            "enabled": anything,
        },
    )
)
def test_any_options_make_a_meter_or_a_clear_refusal(options: dict[str, Any]) -> None:
    try:
        m = EnergyMeter(**options)
    except REFUSED as error:
        assert str(error)
        return
    with m:
        pass
    check(m)


numberish = st.one_of(
    st.binary(max_size=40),
    st.integers(-(2**70), 2**70).map(lambda n: str(n).encode()),
    st.floats().map(lambda x: str(x).encode()),
    st.sampled_from(GARBAGE),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, database=None)
@given(before=numberish, after=numberish, reach=numberish)
def test_any_counter_text_makes_a_number_or_none(
    before: bytes, after: bytes, reach: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with StaticTree(tmp_path_factory.mktemp("fuzz") / "root", mirror=False) as tree:
        directory = tree.zone_dir("package-0")
        counter = directory / "energy_uj"
        counter.chmod(0o644)
        counter.write_bytes(before)
        (directory / "max_energy_range_uj").write_bytes(reach)
        with EnergyMeter(root=tree.root, interval=None) as m:
            counter.write_bytes(after)
        joules = check(m)["worker_func_rapl_energy_pkg"]
    assert joules is None or joules > 0


proc_text = st.one_of(
    st.binary(max_size=200),
    st.lists(
        st.sampled_from(
            [
                "cpu ", "cpu0", "intr", "MemTotal:", "MemAvailable:", " kB\n", "\n", " ", ": ",
                "18446744073709551615", "-1", "0", "7", "99999999999999999999999", "nan", "inf",
                "0.5", "1e400", "lo:", "vda", "Inter-|\n", "processor\t: 0\n", "model name\t: ",
                "cpu MHz\t\t: ", "cpu cores\t: ", "physical id\t: ", "max ", "100000",
            ]
        ),
        max_size=30,
    ).map(lambda parts: "".join(parts).encode()),
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=80, deadline=None, database=None)
@given(
    first=st.lists(proc_text, min_size=7, max_size=7),
    then=st.lists(proc_text, min_size=7, max_size=7),
)
def test_any_proc_text_is_survived(
    first: list[bytes], then: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("fuzz")
    files = [
        root / "proc" / name
        for name in ("stat", "uptime", "meminfo", "loadavg", "diskstats", "net/dev", "cpuinfo")
    ]
    (root / "proc/net").mkdir(parents=True)
    online = root / "sys/devices/system/cpu/online"
    online.parent.mkdir(parents=True)
    online.write_bytes(first[0])
    for file, content in zip(files, first, strict=True):
        file.write_bytes(content)
    with EnergyMeter(root=root, interval=None) as m:
        for file, content in zip(files, then, strict=True):
            file.write_bytes(content)
    check(m)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, database=None)
@given(text=st.text(max_size=200) | st.just(calibration()))
def test_any_calibration_text_is_survived(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "calibration.json"
    path.write_text(text)
    try:
        stored = _core.read_calibration(path)
    except lithowatt.LithowattError as error:
        assert "calibration.json" in str(error)
    else:
        assert stored["schema"] == 1


@pytest.mark.parametrize("auto", ["auto", "AUTO", " auto ", ["auto"], ("auto",), "", []])
def test_auto_asks_the_environment_however_it_is_written(
    monkeypatch: pytest.MonkeyPatch, auto: Any
) -> None:
    monkeypatch.setenv("ENERGY_METHODS", "psutil")
    with EnergyMeter(auto) as meter:
        pass
    assert meter.reading.model is None
    # `all` does not ask, and other names are added to what the environment says.
    for more in ("all", ["auto", "tdp"], "auto,model"):
        with EnergyMeter(more) as meter:
            pass
        assert meter.reading.model is not None
    monkeypatch.delenv("ENERGY_METHODS")
    with EnergyMeter(auto) as meter:
        pass
    assert meter.reading.model is not None


def test_a_wrong_name_in_the_environment_is_asked_for_by_auto(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ENERGY_METHODS", "joulemeter")
    for auto in ("auto", ["auto"], "auto,tdp"):
        with pytest.raises(lithowatt.LithowattError, match="joulemeter"):
            EnergyMeter(auto)
    EnergyMeter("all")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["doctor", "--root=--"], "--"),
        (["run", "--root=--", "--interval=--", "--", "true"], "'--'"),
        (["agent", "--show", "--ring=--"], "--"),
        (["calibrate", "--seconds=--"], "'--'"),
    ],
)
def test_two_dashes_are_a_value_like_any_other(
    arguments: list[str], words: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lithowatt", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr and "list" not in done.stderr


def test_a_command_keeps_its_own_dashes(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "lithowatt",
        "run",
        "--output=--",
        "--",
        "echo",
        "--x=--",
        "--",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "--x=-- --\n")
    assert (tmp_path / "--").stat().st_size > 0


def test_each_counter_that_was_asked_for_says_why_it_is_not_there(tmp_path: Path) -> None:
    def reason(methods: list[str] | str) -> str:
        with EnergyMeter(methods, root=tmp_path, interval=None) as meter:
            pass
        return str(meter.reading.reason)

    (tmp_path / "proc").mkdir()
    both = reason(["rapl", "perf"])
    assert both.startswith("no counter (rapl: ") and "; perf: " in both, both
    assert both.endswith("the model was not asked for")
    only = reason("perf")
    assert "rapl" not in only and "perf: " not in only
