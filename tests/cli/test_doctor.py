"""``lithowatt doctor`` and ``calibrate`` tell a newcomer what to do, and only what can work."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from chips import Chips
from lithowatt import _core
from lithowatt._support.command import OURS, runnable
from lithowatt.cli import main
from lithowatt.cli.doctor import _idle_line, _lines, _said, verdict
from lithowatt.cli.run import _digits
from lithowatt.errors import UnavailableError
from lithowatt.model._calibrate import counter_fix, curve_line
from rig import StaticTree
from tests.source.test_hwmon import cards

SETUP = f'{OURS} setup --group "$(id -gn)"'


def finding(
    method: str, available: bool = False, reason: str | None = None, fix: str | None = None
) -> dict[str, Any]:
    gives = ["package-0"] if available else []
    return {
        "method": method,
        "available": available,
        "gives": gives,
        "reason": reason,
        "fix": fix,
    }


#: Counters of other machines.
ELSEWHERE = [finding("guest"), finding("hwmon"), finding("tdp")]

VIRTUAL = [
    finding("rapl", reason="absent; this is a virtual machine: only its host has the counter"),
    finding("perf", fix="sudo sysctl kernel.perf_event_paranoid=2"),
    *ELSEWHERE,
]
DENIED = [finding("rapl", reason="readable by root only", fix=SETUP), finding("perf"), *ELSEWHERE]
NO_DRIVER = [finding("rapl", fix="sudo modprobe intel_rapl_msr"), finding("perf"), *ELSEWHERE]
COUNTED = [
    finding("rapl", True),
    finding("perf", fix="sudo sysctl kernel.perf_event_paranoid=0"),
    *ELSEWHERE,
]
BY_PERF = [finding("rapl", fix=SETUP), finding("perf", True), *ELSEWHERE]


def test_the_verdict_is_one_sentence_and_names_the_way_out() -> None:
    assert verdict(COUNTED).startswith("You get measured joules by rapl (package-0).")
    assert "by perf (package-0)" in verdict(BY_PERF)
    assert verdict(DENIED).endswith(f"To measure them: {SETUP}")
    assert verdict(NO_DRIVER).endswith("To measure them: sudo modprobe intel_rapl_msr")
    assert "MODELLED" in verdict(VIRTUAL) and "only its host" in verdict(VIRTUAL)
    of_host = [finding("rapl"), finding("perf"), finding("guest", True), finding("hwmon")]
    assert "by guest (package-0)" in verdict(of_host)
    assert "by hwmon (package-0)" in verdict(
        [*of_host[:2], finding("guest"), finding("hwmon", True)]
    )


def test_a_platform_s_counter_alone_is_no_measured_joule(tmp_path: Path) -> None:
    chips = Chips(tmp_path)
    chips.add({"hwmon1/name": "power_meter"})
    chips.add({"hwmon1/device/power1_oem_info": "Module Power Socket 0"})
    chips.draw("hwmon1/device/power1_average", 300.0)
    found = {one["method"]: one for one in _core.doctor(tmp_path)}["hwmon"]
    assert found["available"] is False
    assert "it has no counter of packages" in found["reason"]


def test_methods_asked_for_one_by_one_say_what_they_say_among_all(tmp_path: Path) -> None:
    # Named, kernel probes would be loaded by a meter.
    cards(tmp_path)
    among = _core.doctor(tmp_path)
    assert [_core.doctor(tmp_path, [one["method"]])[0] for one in among] == among
    assert [one["method"] for one in among] == [
        *("rapl", "perf", "hwmon", "guest", "nvml", "ebpf", "psutil", "tdp")
    ]
    assert [one["method"] for one in _core.doctor(tmp_path, ["counters"])] == [
        *("rapl", "perf", "hwmon", "guest")
    ]


def test_a_guest_whose_counters_count_needs_no_host(tmp_path: Path) -> None:
    with StaticTree(tmp_path / "machine", mirror=False) as tree:
        (tree.root / "proc").mkdir()
        (tree.root / "proc/cpuinfo").write_text("processor: 0\nflags\t: fpu hypervisor\n")
        rapl, guest = _core.doctor(tree.root, ["rapl", "guest"], waits=False)
        assert rapl["available"] and not guest["available"]
        assert guest["fix"] is None and "share" not in guest["reason"]
        assert _core.doctor(tree.root, ["guest"], waits=False) == [guest]
        # Here they stand still, as in many guests.
        _, guest = _core.doctor(tree.root, ["rapl", "guest"])
        assert "virtiofs" in guest["fix"]


def test_only_who_waits_hears_that_a_counter_stands_still(tmp_path: Path) -> None:
    with StaticTree(tmp_path / "machine") as tree:
        began = time.monotonic()
        (quick,) = _core.doctor(tree.root, ["rapl"], waits=False)
        assert time.monotonic() - began < 0.5
        (slow,) = _core.doctor(tree.root, ["rapl"])
    assert quick["available"] and not slow["available"]
    assert "the counter stands still" in slow["reason"]


def test_which_command_makes_a_counter_readable() -> None:
    assert counter_fix(DENIED) == SETUP
    assert counter_fix(NO_DRIVER) == "sudo modprobe intel_rapl_msr"
    # There is one already, or the advice is about counters of the process.
    assert counter_fix(COUNTED) is counter_fix(BY_PERF) is counter_fix(VIRTUAL) is None


def test_calibrate_is_advised_in_the_form_that_can_work() -> None:
    nothing: dict[str, Any] = {"problem": None, "stored": None, "path": None}
    assert curve_line(nothing, None, COUNTED).endswith(": lithowatt calibrate")
    assert "calibrate" not in curve_line(nothing, None, VIRTUAL)
    told = curve_line(nothing, None, DENIED)
    assert told.endswith(" calibrate") and str(Path(sys.executable).parent) in told


def test_idle_power_is_advised_in_the_form_that_can_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LITHOWATT_IDLE_WATTS", raising=False)
    # The ladder is for RAPL and perf alone, and a guest has no power of its own at rest.
    for counted in ({"rapl"}, {"hwmon"}, {"hwmon", "guest"}):
        assert _idle_line({}, counted).endswith(": lithowatt calibrate --idle-only")
    assert "calibrate" not in _idle_line({}, {"guest"})
    assert "no counter" in _idle_line({}, ())


def test_a_curve_that_was_fitted_has_its_own_band() -> None:
    def told(model: str) -> str:
        given = [{**one, "gives": [model]} if one["method"] == "tdp" else one for one in VIRTUAL]
        return verdict(given)

    assert "a factor of 2 to 6 each way" in told("model:amd-epyc")
    assert "by the curve fitted to this machine" in told("model:calibrated-amd-epyc")


def test_what_perf_counts_of_a_process_is_no_answer_for_energy() -> None:
    events = ["task-clock", "cycles"]
    without = {**finding("perf", reason="no power PMU; cycles: none"), "gives": events}
    told = "of a process: task-clock, cycles"
    assert _said(without, False) == ["no power PMU", told, "cycles: none"]
    counted = {**finding("perf", True), "gives": ["energy-pkg", *events]}
    assert _said(counted, False) == ["energy-pkg", told]


def test_all_that_counts_stands_before_what_divides_it(tmp_path: Path) -> None:
    with StaticTree(tmp_path / "machine") as tree:
        lines = list(_lines(_core.doctor(tree.root), str(tree.root), False, 80))
    table = lines[lines.index("") + 1 :]
    groups = [line.split()[0] for line in table[1:] if line[:1].strip()][:5]
    assert groups == ["counter", "GPUs", "reference", "shares", "model"]


def test_the_verdict_comes_first_and_no_line_is_cut(tmp_path: Path) -> None:
    with StaticTree(tmp_path / "machine") as tree, tree.moving():
        done = subprocess.run(
            [sys.executable, "-m", "lithowatt", "doctor", "--root", tree.root],
            env={**os.environ, "COLUMNS": "80"},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("You get measured joules by rapl (package-0")
    for line in lines:
        # A path may be longer than a line, and a command is whole: neither is broken.
        longest = max(line.split() or [""], key=len)
        assert len(line) <= 80 or len(longest) > 50, line
    assert "https://" not in done.stdout


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("findings", [VIRTUAL, DENIED, NO_DRIVER, COUNTED, BY_PERF])
def test_no_line_is_wider_than_the_terminal(
    findings: list[dict[str, Any]], verbose: bool, width: int, tmp_path: Path
) -> None:
    probes = finding("ebpf", reason="absent", fix="sudo mount -t bpf bpf /sys/fs/bpf && sudo x")
    model = finding("tdp", True, reason="as a made processor; a data sheet: https://example.org")
    some = [*findings[:-1], probes, finding("psutil", True), model]
    (tmp_path / "proc").symlink_to("/proc")
    (tmp_path / "sys").mkdir()
    lines = list(_lines(some, str(tmp_path), verbose, width))
    told = "\n".join(lines)
    measured = any(one["available"] for one in findings)
    assert lines[0].startswith("You get measured" if measured else "You get MODELLED")
    # Where a number is from is for those who ask.
    assert ("https://example.org" in told) is verbose
    # Each command once, on one line.
    for one in some:
        for step in (one["fix"] or "").split(" && "):
            assert told.count(step) >= 1
    assert told.count(SETUP) == (SETUP in str([one["fix"] for one in some]))
    # What is said of a command follows that command.
    assert ("after each boot" in " ".join(told.split())) == (not measured and SETUP in told)
    for line in lines:
        command = "sudo" in line or "lithowatt" in line or "echo" in line
        assert len(line) <= width or command, line


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_probes_that_only_this_process_would_see_are_not_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: list[str],
) -> None:
    # As where there is no BPF file system: loading works, and nobody else can find the probes.
    monkeypatch.setattr(_core, "load_probes", lambda root: ["on-CPU time"])
    with StaticTree(tmp_path / "machine") as tree:
        bpf = tree.root / "sys" / "fs"
        if bpf.is_symlink():
            bpf.unlink()
        code = main(["doctor", "--load", *form, "--root", str(tree.root)])
        plain = main(["doctor", *form, "--root", str(tree.root)])
    said = capsys.readouterr()
    assert (code, plain) == (1, 0)
    assert "no kernel probes were loaded" in said.err and said.err.count("\n") == 1
    mount, _, load = said.err.partition(" && ")
    assert f"mount -t bpf bpf {tree.root}/sys/fs/bpf" in mount
    assert load.endswith("doctor --load\n") and str(Path(sys.executable).parent) in load


def test_a_user_is_told_both_commands_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(root: str | None) -> list[str]:
        raise UnavailableError(f"CAP_BPF is needed; fix: {OURS} doctor --load")

    monkeypatch.setattr(_core, "load_probes", denied)
    (tmp_path / "proc").symlink_to("/proc")
    (tmp_path / "sys").mkdir()
    assert main(["doctor", "--load", "--root", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.index("mount -t bpf") < said.index("doctor --load")


def test_a_command_in_an_error_is_found_by_sudo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with StaticTree(tmp_path / "machine") as tree:
        assert main(["agent", "--show", "--root", str(tree.root)]) == 2
    said = capsys.readouterr().err
    command = said.rpartition("fix: ")[2].split()
    assert command[0] == "sudo" and command[2:] == ["agent"] and os.access(command[1], os.X_OK)


def test_a_command_for_root_is_found_by_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    told = runnable(f"sudo mount x && {OURS} doctor --load")
    assert told.startswith("sudo mount x && sudo /") and told.endswith("doctor --load")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "sudo" not in runnable(f"sudo mount x && {OURS} doctor --load")


def test_the_json_has_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with StaticTree(tmp_path / "machine") as tree, tree.moving():
        assert main(["doctor", "--json", "--root", str(tree.root)]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"].startswith("You get measured")


@pytest.mark.parametrize(
    ("findings", "words"),
    [
        (VIRTUAL, ("there is no energy counter here: this is a virtual machine;",)),
        (DENIED, ("there is an energy counter", "calibrate", "setup --group", "--meter-file")),
        (NO_DRIVER, ("modprobe intel_rapl_msr", "--meter-file")),
    ],
)
def test_calibrate_says_why_it_cannot(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    findings: list[dict[str, Any]],
    words: tuple[str, ...],
) -> None:
    monkeypatch.setenv("LITHOWATT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(_core, "doctor", lambda root: findings)
    (tmp_path / "proc").symlink_to("/proc")
    (tmp_path / "sys").mkdir()
    command = ["calibrate", "--idle-only", "--seconds", "0.5", "--max-busy", "100"]
    assert main([*command, "--root", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "nothing was stored" in said
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("value", "width", "shown"),
    [
        (0.8741, 1.5, "0.87"),
        (12345.6, 9000.0, "12000"),
        (41.23, 1.0, "41.2"),
        (41.237, 0.1, "41.24"),
    ],
)
def test_no_more_digits_than_the_band_carries(value: float, width: float, shown: str) -> None:
    assert _digits(value, value, width) == shown


def test_the_report_of_a_run_fits_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words = ["word"] * 40
    assert main(["run", "--", sys.executable, "-S", "-c", "sum(range(10**6))", *words]) == 0
    told = capfd.readouterr().err
    assert " ".join(words) in " ".join(told.split()) and "machine" in told
    lines = told.splitlines()
    assert max(map(len, lines)) <= 80
    # One line says that there is no counter, and where to go on.
    if "modelled" in told:
        assert [line for line in lines if "lithowatt doctor" in line] == [lines[-1]]


def test_a_run_tells_of_gpus_and_sensors(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    cards(tmp_path, arc=False)
    waiting = ["--root", str(tmp_path), "--", "sleep", "2"]

    def told(*form: str) -> str:
        assert main(["run", *form, *waiting]) == 0
        both = capfd.readouterr()
        return both.out or both.err

    text = told()
    assert "in no number above" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80
    assert "\n   hwmon package " in text and "\n   gpu " in text
    found = json.loads(told("--json"))
    gpu = found["gpu"]
    assert gpu["low"] < 90.0 * found["seconds"] < gpu["high"]
    assert "03:00.0" in gpu["source"]
    # Nobody has it open.
    assert gpu["attributed"] == 0.0
    assert gpu["attributed_source"].startswith("attributed: ")
    assert found["machine"] == pytest.approx(17.0 * found["seconds"], rel=0.05)
    rows = list(csv.DictReader(io.StringIO(told("--csv"))))
    by = {(row["method"], row["domain"]): row for row in rows}
    assert float(by["gpu", "gpu"]["watts"]) == pytest.approx(90.0, rel=0.1)
    assert float(by["gpu", "function"]["joules"]) == 0.0
    assert by["gpu", "function"]["source"].startswith("attributed: ")


def test_a_run_without_gpus_says_why_there_are_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "proc").symlink_to("/proc")
    command = ["run", "--json", "--root", str(tmp_path), "--", "true"]
    assert main(command) == 0
    both = capfd.readouterr()
    found = json.loads(both.out or both.err)["gpu"]
    assert found["joules"] is None
    assert found["source"].startswith("unavailable: ")
    assert main(["run", "--root", str(tmp_path), "--", "true"]) == 0
    assert "gpu" not in capfd.readouterr().err
