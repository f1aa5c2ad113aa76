"""Does a calibrated machine know its watts where no counter is readable?"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lithowatt
from lithowatt import _core
from lithowatt.model import _calibrate
from lithowatt.reference.table import moment
from rig import Rig, StaticTree

pytestmark = pytest.mark.quiet

Steady = Callable[[Callable[[], None]], None]

COMMAND = [sys.executable, "-m", "lithowatt"]
CALIBRATE = [*COMMAND, "calibrate", "--max-busy", "100"]
CPUS = _core.cpu_identity()["logical_cpus"]

BLIND = """
import json, sys, time
import lithowatt
end = time.monotonic() + 1.5
with lithowatt.EnergyMeter() as meter:
    while time.monotonic() < end:
        sum(range(1000))
reading, stats = meter.reading, meter.stats()
model = lithowatt.PowerModel.for_machine()
print(json.dumps({
    "window": reading.raw["window_ns"],
    "machine": reading.machine,
    "quality": reading.quality,
    "method": stats["worker_func_energy_method"],
    "tdp_source": stats["worker_func_tdp_source"],
    "model": model.describe(),
    "assumptions": model.assumptions(),
}))
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The calibration of this test."""
    monkeypatch.setenv("LITHOWATT_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state/calibration.json"


def run(*command: str, on: Rig | None = None) -> subprocess.CompletedProcess[str]:
    start = subprocess.run if on is None else on.run
    return start(command, capture_output=True, text=True, check=False, timeout=100)


def calm() -> None:
    """Waits for a moment in which others leave room for a ladder; skips where none comes."""

    def stat() -> tuple[int, int]:
        numbers = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(numbers), numbers[3] + numbers[4]

    end = time.monotonic() + 60
    while time.monotonic() < end:
        (all_before, idle_before), _ = stat(), time.sleep(0.5)
        all_after, idle_after = stat()
        if idle_after - idle_before > 0.5 * (all_after - all_before):
            return
    pytest.skip("others keep this machine busy")


def blind(rig: Rig) -> dict[str, Any]:
    """A meter that can read no counter, and what the machine really used meanwhile."""
    done = run(sys.executable, "-c", BLIND, on=rig)
    assert (done.returncode, done.stderr) == (0, "")
    seen: dict[str, Any] = json.loads(done.stdout)
    seen["truth"] = rig.energy(*seen["window"]).machine
    assert seen["quality"] == "modelled"
    return seen


# -- the ladder ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("idle", "gain", "gamma"), [(20.0, 30.0, 0.8), (60.0, 15.0, 1.0)])
def test_a_calibrated_machine_is_right_without_its_counter(
    live: None, state: Path, steady: Steady, idle: float, gain: float, gamma: float
) -> None:
    looks = {"idle_watts": idle, "gain": gain, "gamma": gamma}
    with Rig(2, ("package", "core", "dram"), **looks) as rig:

        @steady
        def check() -> None:
            rig.fault("clear", "*")
            calm()
            done = run(*CALIBRATE, "--seconds", "0.8", on=rig)
            assert (done.returncode, done.stderr) == (0, ""), done.stdout
            rig.fault("eacces", "*")
            seen = blind(rig)
            assert seen["machine"] == pytest.approx(seen["truth"], rel=0.15)
            assert seen["method"] == seen["model"]
            assert seen["model"].startswith("model:calibrated-")
            day = time.strftime("%Y-%m-%d", time.gmtime())
            assert f"calibrated on {day} by rapl" in seen["tdp_source"]
            assert f"calibrated on {day} by rapl" in seen["assumptions"]["source"]
            assert seen["assumptions"]["shared_host"] is False
            assert 1.08 <= seen["assumptions"]["band"]["active"]

        stored = json.loads(state.read_text())
        assert stat.S_IMODE(state.stat().st_mode) == 0o600
        assert [p.name for p in state.parent.iterdir()] == ["calibration.json"]
        curve = stored["curve"]
        assert (curve["method"], curve["logical_cpus"]) == ("rapl", CPUS)
        assert curve["lithowatt"] == lithowatt.__version__
        assert len(curve["points"]) == 5
        assert curve["points"][0]["cpus"] == 0
        assert curve["points"][-1]["cpus"] == CPUS
        assert all(point["dram_watts"] > 0 for point in curve["points"])
        assert stored["idle_watts"]["package-0"] <= 1.05 * curve["points"][0]["watts"]
        assert curve["residual_percent"] < 10

        told = run(*COMMAND, "doctor", on=rig).stdout
        assert "power curve: calibrated on" in told
        assert "not used" not in told


def test_it_is_used_on_its_own_machine_only(
    live: None, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not in disguise: what is calibrated here is used here, where the processor is the host's.
    with Rig(vendor=None) as rig:
        done = run(*CALIBRATE, "--seconds", "0.5", "--levels", "3", "--force", on=rig)
        assert done.returncode == 0, done.stderr
    ask = "import lithowatt; print(lithowatt.PowerModel.for_machine().describe())"
    assert run(sys.executable, "-c", ask).stdout.startswith("model:calibrated-")

    def unused(why: str) -> None:
        assert "calibrated" not in run(sys.executable, "-c", ask).stdout
        told = " ".join(run(*COMMAND, "doctor").stdout.split())
        assert "power curve: calibrated on" in told
        assert f"not used: {why}" in told

    (tmp_path / "else").symlink_to("/")
    monkeypatch.setenv("LITHOWATT_ROOT", str(tmp_path / "else"))
    unused(f"{tmp_path / 'else'} is not this machine's root")
    monkeypatch.delenv("LITHOWATT_ROOT")
    stored = json.loads(state.read_text())
    for changed, why in (
        ({"machine": "Imaginary 9000"}, "it is of another processor, Imaginary 9000"),
        ({"curve": {**stored["curve"], "logical_cpus": CPUS + 1}}, "it is of a machine with"),
    ):
        state.write_text(json.dumps({**stored, **changed}))
        unused(why)


def test_idle_only_loads_nothing_and_keeps_the_curve(live: None, state: Path) -> None:
    with Rig() as rig:
        done = run(*CALIBRATE, "--seconds", "0.5", "--levels", "2", "--force", on=rig)
        assert done.returncode == 0, done.stderr
        curve = json.loads(state.read_text())["curve"]
        done = run(*CALIBRATE, "--idle-only", "--seconds", "0.5", on=rig)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(state.read_text())["curve"] == curve
        assert "package-0" in done.stdout
        state.unlink()
        run(*CALIBRATE, "--idle-only", "--seconds", "0.5", on=rig)
        assert "curve" not in json.loads(state.read_text())


def test_watts_that_do_not_follow_the_load_are_no_curve(live: None, state: Path) -> None:
    quick = [*CALIBRATE, "--seconds", "0.5", "--levels", "2"]
    with Rig(watts=50.0, perf=True) as rig:
        done = run(*quick, on=rig)
        assert done.returncode == 1
        # On a machine that others keep busy that comes first.
        assert re.search("do not follow the load|others keep it busy", done.stderr)
        assert "nothing was stored" in done.stderr
        assert not state.exists()
        # perf takes over where powercap is not there.
        rig.fault("vanish", "*")
        done = run(*quick, "--force", on=rig)
        assert done.returncode == 0, done.stderr
        assert "stored in spite of it: " in done.stdout
        assert json.loads(state.read_text())["curve"]["method"] == "perf"


# -- an external meter --------------------------------------------------------------------------


@contextmanager
def external_meter(rig: Rig, path: Path, offset: float) -> Iterator[None]:
    """Writes a file of the machine's watts, row by row, by a clock that is ``offset`` s behind."""
    ended = threading.Event()

    def write() -> None:
        last = time.monotonic_ns()
        with path.open("w") as file:
            file.write("timestamp,watts\n")
            while not ended.wait(0.1):
                now = time.monotonic_ns()
                watts = rig.energy(last, now).machine / ((now - last) * 1e-9)
                last = now
                moment = datetime.fromtimestamp(time.time() - offset, timezone.utc)
                # Half a line stands there for a moment.
                file.write(f"{moment.isoformat()},{watts:.1f}"[:-2])
                file.flush()
                file.seek(file.tell() - len(f"{moment.isoformat()},{watts:.1f}"[:-2]))
                file.write(f"{moment.isoformat()},{watts:.4f}\n")
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not path.exists() or not path.stat().st_size:
            time.sleep(0.01)
        yield
    finally:
        ended.set()
        writer.join()


def test_an_external_meter_stands_in_for_a_counter(
    live: None, state: Path, tmp_path: Path, steady: Steady
) -> None:
    with Rig(domains=("package", "dram"), idle_watts=20, gain=30, gamma=0.8) as rig:
        rig.fault("vanish", "*")

        @steady
        def check() -> None:
            path = tmp_path / "meter.csv"
            path.unlink(missing_ok=True)
            calm()
            meter = ("--force", "--meter-file", str(path), "--meter-offset", "3600")
            with external_meter(rig, path, 3600):
                done = run(*CALIBRATE, "--seconds", "0.8", *meter, on=rig)
            assert (done.returncode, done.stderr) == (0, ""), done.stdout
            assert "meter-file, of the whole machine: " in done.stdout
            seen = blind(rig)
            assert "external meter: wall power" in seen["tdp_source"]
            assert seen["machine"] == pytest.approx(seen["truth"], rel=0.15)

        stored = json.loads(state.read_text())
        assert stored["curve"]["method"] == "meter-file"
        assert stored["idle_watts"] == {}
        assert "wall power" in " ".join(run(*COMMAND, "doctor", on=rig).stdout.split())


def test_a_meter_that_looked_elsewhere(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_calibrate, "METER_PATIENCE_SECONDS", 0.0)
    path = tmp_path / "meter.csv"
    step = _calibrate._Step(0, 0.0, 0.0, 3.0, 1000.0, {}, {}, {}, {})
    path.write_text("timestamp,watts\n")
    with pytest.raises(_calibrate.CalibrationError, match=r"\(step: idle\); it has no rows"):
        _calibrate._meter_watts(path, 0.0, [step])
    path.write_text("timestamp,watts\n999.9,10\n1003.1,20\n")
    with pytest.raises(_calibrate.CalibrationError, match="--meter-offset shifts them"):
        _calibrate._meter_watts(path, 0.0, [step])
    assert _calibrate._meter_watts(path, 1.0, [step]) == [10.0]
    assert _calibrate._meter_watts(path, -1.0, [step]) == [20.0]
    path.write_text("timestamp,watts\n1000,10\n1001,20\n1003,60\n")
    assert _calibrate._meter_watts(path, 0.0, [step]) == [30.0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "must begin with the line timestamp,watts"),
        ("time;watts\n1;2\n", "must begin with the line timestamp,watts, not 'time;watts'"),
        ("timestamp,watts", "must begin with the line timestamp,watts"),
        ("timestamp,watts\n1,2,3\n", "line 2: 3 fields instead of timestamp,watts"),
        ("timestamp,watts\n1,2\n\nnoon,3\n", "line 4: 'noon' is neither ISO 8601 nor seconds"),
        ("timestamp,watts\nnan,2\n", "line 2: 'nan' is neither"),
        ("timestamp,watts\n1,many\n", "line 2: 'many' is no number of watts, 0 or more"),
        ("timestamp,watts\n1,-2\n", "line 2: '-2' is no number of watts"),
        ("timestamp,watts\n1,inf\n", "line 2: 'inf' is no number of watts"),
        ("timestamp,watts\n2,2\n1,2\n", "line 3: its time is before that of the line above"),
        (b"\xff\xfe\x00", "is no UTF-8 text"),
        (None, "No such file or directory"),
        ("timestamp,watts\n", "has no rows; expected a file to which a meter adds rows meanwhile"),
        ("timestamp,watts\n1,2", "has no rows; expected"),
        ("timestamp,watts\n1e300,2\n", "line 2: '1e300' is neither"),
    ],
)
def test_a_file_that_is_no_meters(
    text: str | bytes | None, told: str, state: Path, tmp_path: Path
) -> None:
    path = tmp_path / "meter.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    # Said before anything is loaded.
    begin = time.monotonic()
    done = run(*CALIBRATE, "--seconds", "60", "--meter-file", str(path))
    assert time.monotonic() - begin < 30
    assert done.returncode == 1
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert not state.exists()


def test_a_pipe_is_not_waited_for(state: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    done = run(*CALIBRATE, "--seconds", "60", "--meter-file", str(tmp_path / "pipe.csv"))
    assert (done.returncode, state.exists()) == (1, False)
    assert done.stderr == f"lithowatt: {tmp_path}/pipe.csv: not a plain file; nothing was stored\n"


def test_a_meter_of_another_time_ends_it_before_any_load(state: Path, tmp_path: Path) -> None:
    path = tmp_path / "meter.csv"
    now = time.time()
    path.write_text("timestamp,watts\n" + "".join(f"{now + s},9\n" for s in range(3600, 3610)))
    done = run(*CALIBRATE, "--force", "--seconds", "0.5", "--meter-file", str(path))
    assert done.returncode == 1
    assert "(step: idle); its rows are from" in done.stderr
    # The first step is told once it is known to be of use.
    assert done.stdout == ""
    assert not state.exists()


def test_a_reference_that_shows_nothing_ends_it_at_once(state: Path, tmp_path: Path) -> None:
    path = tmp_path / "plug.csv"
    path.write_text("timestamp,watts\n")
    done = run(*CALIBRATE, "--force", "--seconds", "60", "--reference", str(path))
    assert (done.returncode, done.stdout, state.exists()) == (1, "", False)
    assert "plug.csv shows no power of this machine now: " in done.stderr
    assert "without --reference a counter alone is used; nothing was stored" in done.stderr


def test_times_of_a_meter() -> None:
    seconds = 1_700_000_000.5
    for text in (
        "1700000000.5",
        "1.7000000005e9",
        "2023-11-14T22:13:20.500Z",
        "2023-11-14 22:13:20.500+00:00",
        "2023-11-14T23:13:20.500+01:00",
        datetime.fromtimestamp(seconds).isoformat(),
    ):
        assert moment(text, None) == seconds, text
    for text in ("1e300", "-1e17", "nan", "0001-01-01"):
        assert moment(text, None) is None, text


# -- what ends it -------------------------------------------------------------------------------


def workers_of(pid: int) -> list[int]:
    """Busy workers that this calibration started, or that it left behind."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if str(pid).encode() in command and _calibrate.WORKER.encode() in command:
            found.append(int(entry.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_an_interrupted_ladder_leaves_nothing(
    number: signal.Signals, state: Path, tmp_path: Path
) -> None:
    path = tmp_path / "meter.csv"
    now = time.time()
    path.write_text("timestamp,watts\n" + "".join(f"{now + s / 5},9\n" for s in range(500)))
    command = [
        *CALIBRATE,
        "--force",
        "--seconds",
        "0.5",
        "--levels",
        "3",
        "--meter-file",
        str(path),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as ladder:
        end = time.monotonic() + 30
        while not workers_of(ladder.pid):
            assert ladder.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        ladder.send_signal(number)
        _, errors = ladder.communicate(timeout=30)
    # A worker that nobody has noted yet sees that its parent is gone.
    while workers_of(ladder.pid) and time.monotonic() < end:
        time.sleep(0.05)
    if number != signal.SIGKILL:
        assert ladder.returncode == 128 + number
        assert errors == "lithowatt: interrupted; nothing was stored\n"
    assert workers_of(ladder.pid) == []
    assert not state.exists()


def test_a_busy_machine_is_not_at_rest(state: Path, tmp_path: Path) -> None:
    path = tmp_path / "meter.csv"
    path.write_text(f"timestamp,watts\n{time.time()},9\n")
    with _calibrate.busy(range(CPUS), 1.0):
        done = run(*COMMAND, "calibrate", "--force", "--seconds", "0.5", "--meter-file", str(path))
    assert done.returncode == 1
    assert "the machine was not at rest (busy: " in done.stderr
    assert "wanted: below 5 %); nothing was stored" in done.stderr
    assert not state.exists()


def test_one_busy_thread_of_a_server_is_no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    step = _calibrate._Step(0, 0.0, 0.02, 3.0, 1000.0, {}, {}, {}, {})
    monkeypatch.setattr(_calibrate, "_measure", lambda *_arguments, **_options: step)
    identity = {**_core.cpu_identity(None), "logical_cpus": 48}
    monkeypatch.setattr(_core, "cpu_identity", lambda root: identity)
    asked: Any = SimpleNamespace(root=None, max_busy=None)
    with pytest.raises(_calibrate.CalibrationError, match=r"busy: 2\.0 %, wanted: below 1\.0"):
        _calibrate._at_rest(1.0, asked, counter=False)
    identity["logical_cpus"] = 8
    assert _calibrate._at_rest(1.0, asked, counter=False) is step
    asked.max_busy, identity["logical_cpus"] = 3.0, 48
    assert _calibrate._at_rest(1.0, asked, counter=False) is step


@pytest.mark.skipif(not _core.cpu_identity(None)["hypervisor"], reason="this is no virtual machine")
def test_a_virtual_machine_is_not_fitted_to_its_host(state: Path, tmp_path: Path) -> None:
    path = tmp_path / "meter.csv"
    path.write_text(f"timestamp,watts\n{time.time()},9\n")
    done = run(*CALIBRATE, "--seconds", "60", "--meter-file", str(path))
    assert (done.returncode, done.stdout, state.exists()) == (1, "", False)
    assert "this is a virtual machine, and a meter shows its whole host" in done.stderr


@pytest.mark.skipif(CPUS < 2, reason="there is one CPU")
def test_all_cpus_are_needed(state: Path) -> None:
    limited = f"import os; os.sched_setaffinity(0, {{0}}); os.execv({COMMAND[0]!r}, {CALIBRATE!r})"
    done = run(sys.executable, "-c", limited)
    assert done.returncode == 1
    assert f"this process may use 1 of {CPUS} CPUs" in done.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--seconds", "0.1"], "--seconds must be from 0.5 to 3600, not 0.1"),
        (["--seconds", "nan"], "--seconds must be from 0.5 to 3600, not nan"),
        (["--levels", "1"], "--levels must be from 2 to 100, not 1"),
        (["--levels", "0"], "--levels must be from 2 to 100, not 0"),
        (["--max-busy", "0"], "--max-busy must be above 0 and at most 100 (%), not 0"),
        (["--max-busy", "nan"], "--max-busy must be above 0 and at most 100 (%), not nan"),
        (["--meter-offset", "1"], "--meter-offset shifts the times of --meter-file, which is miss"),
        (["--meter-file", "x", "--meter-offset", "inf"], "at most, not inf"),
        (["--idle-only", "--levels", "3"], "--levels is for the load ladder: drop --idle-only"),
        (["--idle-only", "--meter-file", "x"], "--meter-file is for the load ladder"),
        (["--root", "/tmp"], "for this machine, not for /tmp: use --idle-only"),
    ],
)
def test_bad_options(options: list[str], told: str, state: Path) -> None:
    done = run(*COMMAND, "calibrate", *options)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert not state.exists()


# -- what is stored -----------------------------------------------------------------------------


def stored_curve(**changes: Any) -> dict[str, Any]:
    curve = {
        "date": 1.7e9,
        "method": "rapl",
        "lithowatt": "0.1.0",
        "logical_cpus": CPUS,
        "idle_w": 20.0,
        "wake_w": 5.0,
        "core_w": 50.0,
        "cores_per_socket": 4.0,
        "low_clock": 1.0,
        "residual_percent": 2.0,
        "band": 1.1,
        "points": [],
    }
    return {
        "schema": 1,
        "machine": _core.cpu_identity()["name"],
        "date": 1.7e9,
        "curve": {**curve, **changes},
    }


def test_a_file_from_before_there_were_curves(state: Path) -> None:
    old = stored_curve()
    del old["curve"]
    old["idle_watts"] = {"package-0": 11.0}
    _core.write_calibration(json.dumps(old), state)
    assert "curve" not in _core.read_calibration(state)
    assert _core.read_calibration(state)["idle_watts"] == {"package-0": 11.0}
    told = " ".join(run(*COMMAND, "doctor").stdout.split())
    assert "power curve: the shipped one" in told
    assert "idle power: calibrated on 2023-11-14: package-0 11 W" in told


def test_what_was_measured_below_a_root_is_of_that_root_alone(tmp_path: Path, state: Path) -> None:
    def idle_of(root: Path) -> tuple[str, list[str]]:
        code = (
            "import json, sys, time; from lithowatt import EnergyMeter\n"
            "with EnergyMeter(root=sys.argv[1]) as meter: time.sleep(0.3)\n"
            "of = meter.reading\n"
            "print(json.dumps([of.flat()['energy_idle_source'], of.warnings]))"
        )
        done = run(sys.executable, "-c", code, str(root))
        source, warnings = json.loads(done.stdout)
        return source, warnings

    rest = ["--idle-only", "--seconds", "0.5", "--root"]
    with (
        StaticTree(tmp_path / "one") as one,
        StaticTree(tmp_path / "other") as other,
        one.moving(),
        other.moving(),
    ):
        done = run(*CALIBRATE, *rest, str(one.root))
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(state.read_text())["on"] == f"files at {one.root}"
        assert idle_of(one.root)[0] == "calibrated"
        source, warnings = idle_of(other.root)
        assert source == "modelled"
        [told] = [w for w in warnings if "lithowatt calibrate" in w]
        assert f"it is of another machine (files at {one.root})" in told
        told = " ".join(run(*COMMAND, "doctor", "--root", str(other.root)).stdout.split())
        assert "what is stored is not used: it is of another machine" in told
        # It is not lost for another root's either.
        done = run(*CALIBRATE, *rest, str(other.root))
        assert done.returncode == 1 and "set LITHOWATT_STATE_DIR" in done.stderr
        assert json.loads(state.read_text())["on"] == f"files at {one.root}"


@pytest.mark.parametrize(
    "changes",
    [
        {"idle_w": -1.0},
        {"core_w": float("nan")},
        {"wake_w": 1e300},
        {"band": 0.5},
        {"logical_cpus": 0},
        {"logical_cpus": 2.5},
        {"cores_per_socket": 0.0},
        {"low_clock": 0.0},
        {"full_mhz": -1.0},
        {"method": "guess"},
        {"points": [{"cpus": 1}]},
        {"memory": {"idle_w": 1.0, "active_w": -1.0, "gib": 1.0}},
    ],
    ids=str,
)
def test_a_hostile_curve_is_named_and_not_used(changes: dict[str, Any], state: Path) -> None:
    text = json.dumps(stored_curve(**changes))
    state.parent.mkdir()
    state.write_text(text)
    with pytest.raises(lithowatt.MalformedValueError, match=r"calibration\.json"):
        _core.read_calibration(state)
    assert not lithowatt.PowerModel.for_machine().describe().startswith("model:calibrated")


def test_a_stored_curve_is_the_machines() -> None:
    path = _core.calibration_path()
    assert path is not None
    _core.write_calibration(json.dumps(stored_curve()), path)
    try:
        model = lithowatt.PowerModel.for_machine()
    finally:
        Path(path).unlink()
    assert model.watts(0).value == pytest.approx(20.0)
    full = model.watts(100)
    assert full[:3] == pytest.approx((75.0, 75.0 / 1.1, 75.0 * 1.1))
    assert "calibrated on 2023-11-14 by rapl" in full.source
    assert model.vcpus_watts(CPUS, CPUS).value == pytest.approx(75.0)


@pytest.mark.parametrize("cpus", [1, 2, 3, 8, 192])
@pytest.mark.parametrize("levels", [2, 3, 5, 12])
def test_a_ladder_ends_at_full_load(levels: int, cpus: int) -> None:
    steps = _calibrate.plan(levels, cpus)
    loads = [count * duty for count, duty in steps]
    assert len(steps) == levels
    assert steps[0] == (0, 0.0)
    assert steps[-1] == (cpus, 1.0)
    assert loads == sorted(loads)
    assert len(set(steps)) == levels


def test_cores_are_filled_before_their_second_threads(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(["0-1", "0-1", "2,3", "2,3", "4", "nonsense"]):
        folder = tmp_path / f"cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    assert _calibrate.cores_first(range(7), tmp_path) == [0, 2, 4, 5, 6, 1, 3]


def test_no_worker_is_left_where_one_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_calibrate, "WORKER", "raise SystemExit(1)")
    with (
        pytest.raises(_calibrate.CalibrationError, match="ended before its time"),
        _calibrate.busy([0], 1.0),
    ):
        time.sleep(0.5)
    assert workers_of(os.getpid()) == []
