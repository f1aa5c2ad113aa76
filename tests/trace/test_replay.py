"""What was recorded is read again, bit for bit, by whoever reads it and wherever."""

from __future__ import annotations

import copy
import gzip
import json
import os
import pickle
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from lithowatt import EnergyMeter
from lithowatt.errors import (
    ConflictingOptionsError,
    LithowattError,
    MalformedValueError,
    UnreadableFileError,
)
from lithowatt.trace import Counter, Trace, of_counters
from lithowatt.trace._file import FORMAT, framed, packed
from rig import StaticTree

HERE = Path(__file__).parent
RIG = HERE.parent / "rig"

REPLAY = """
import json, sys
from lithowatt import EnergyMeter
with EnergyMeter(replay=sys.argv[1]) as meter:
    sum(range(1_000_000))
print(json.dumps({"raw": meter.reading.raw, "flat": meter.reading.flat()}))
"""


def recorded(folder: Path, scene: str, methods: str | None = None) -> dict[str, Any]:
    """The reading of a scene that is recorded to ``folder/trace``, by a process of its own."""
    command = [sys.executable, HERE / "recorder.py", folder / "root", folder / "trace", scene]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(RIG), *sys.path])}
    done = subprocess.run(
        [*command, *([methods] if methods else [])],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def replayed_elsewhere(trace: Path, folder: Path) -> dict[str, Any]:
    """The reading of a trace on what looks like another machine, with settings of its own."""
    other = StaticTree(folder / "other", packages=1, mirror=False)
    (other.root / "proc").mkdir()
    (other.root / "proc/cpuinfo").write_text("model name\t: Another CPU @ 9.00GHz\n")
    moved = folder / "elsewhere"
    moved.mkdir()
    (moved / "t").write_bytes(trace.read_bytes())
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "LITHOWATT_ROOT": str(other.root),
        "ENERGY_DEFINITION": "amortised",
        "ENERGY_METHODS": "psutil",
        "ENERGY_ESTIMATION_METHOD": "vcpu",
        "ENERGY_MONITORING_ENABLED": "false",
        "LITHOWATT_IDLE_WATTS": "1",
        "AWS_LAMBDA_FUNCTION_NAME": "f",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
    }
    done = subprocess.run(
        [sys.executable, "-c", REPLAY, "t"],
        check=True,
        capture_output=True,
        text=True,
        cwd=moved,
        env=environment,
    )
    read: dict[str, Any] = json.loads(done.stdout)
    return read


@pytest.mark.parametrize("scene", ["plain", "fast", "edges", "wrap", "vanish", "back", "children"])
def test_a_replay_is_what_was_read_then(scene: str, tmp_path: Path) -> None:
    live = recorded(tmp_path, scene)
    again = replayed_elsewhere(tmp_path / "trace", tmp_path)

    assert again["flat"] == live["flat"]
    assert again["raw"] == live["raw"]
    assert live["flat"]["rapl_available"], "the scene has counters"
    assert live["flat"]["energy_cpu_time"] > 0.2


def test_memory_traffic_is_in_the_trace(tmp_path: Path) -> None:
    live = recorded(tmp_path, "traffic")
    again = replayed_elsewhere(tmp_path / "trace", tmp_path)

    assert again == live
    assert any(" GB in " in note for note in live["raw"]["notes"]), live["raw"]["notes"]


def test_the_clock_that_the_model_goes_by_is_in_the_trace(tmp_path: Path) -> None:
    live = recorded(tmp_path, "clock", "model,psutil")
    again = replayed_elsewhere(tmp_path / "trace", tmp_path)

    assert again == live
    assert any("clock of the CPUs" in note for note in live["raw"]["notes"]), live["raw"]["notes"]


def test_a_machine_without_counters_is_replayed_too(tmp_path: Path) -> None:
    live = recorded(tmp_path, "model", "model,psutil")
    again = replayed_elsewhere(tmp_path / "trace", tmp_path)

    assert again == live
    assert live["flat"]["energy_quality"] == "modelled"


def test_what_is_sent_names_nobody(tmp_path: Path) -> None:
    recorded(tmp_path, "vanish", "rapl,perf,psutil,model")
    trace = Trace.read(tmp_path / "trace")
    content = (tmp_path / "trace").read_bytes()
    import zlib

    text = zlib.decompress(content, 31)
    assert str(tmp_path).encode() not in text
    assert b"/home/" not in text
    host = os.uname().nodename.encode()
    # A short name may be a part of any word.
    assert len(host) < 6 or host not in text
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", trace.about["recorded"])
    assert trace.about["counters"][0] == "rapl package-0"
    assert "command" not in trace.about


def test_other_rules(tmp_path: Path) -> None:
    recorded(tmp_path, "fast")
    trace = Trace.read(tmp_path / "trace")

    def reading(*methods: str, **options: Any) -> Any:
        with EnergyMeter(*methods, replay=trace, **options) as meter:
            pass
        return meter.reading

    plain = reading()
    assert plain.definition == "marginal" and plain.quality in ("attributed", "measured")
    amortised = reading(definition="amortised")
    assert amortised.joules == plain.amortised > plain.joules
    assert amortised.rapl.total == plain.rapl.total
    modelled = reading("model")
    assert modelled.quality == "modelled" and modelled.rapl.total is None
    assert not any("idle power" in warning for warning in modelled.warnings)
    unused = "the idle power that was set (45 W) is not used: no counter is read here"
    assert unused in reading("model", idle_watts=45.0).warnings
    assert reading("model", estimation="tdp_based").method.startswith("model:tdp_based")
    lower, higher = reading(idle_watts=0.5), reading(idle_watts=30)
    assert lower.idle_source == higher.idle_source == "configured"
    # At rest no more than was counted in each interval.
    assert 0 < lower.idle <= 0.5 * plain.duration * (1 + 1e-9)
    capped = "the idle power that was set (1000 W) is more than the least that was seen"
    assert any(warning.startswith(capped) for warning in reading(idle_watts=1000.0).warnings)
    assert not any("is more than the least" in warning for warning in lower.warnings)
    assert lower.idle < higher.idle
    assert higher.joules < lower.joules
    assert plain.machine == higher.machine


def test_parts_of_a_window_add_up(tmp_path: Path) -> None:
    recorded(tmp_path, "fast")
    trace = Trace.read(tmp_path / "trace")

    def package(start: float, end: float) -> tuple[float, tuple[int, int]]:
        with EnergyMeter(replay=trace, window=(start, end)) as meter:
            pass
        joules = meter.reading.rapl.package
        assert joules is not None
        return joules, meter.reading.window_ns

    with EnergyMeter(replay=trace) as meter:
        pass
    whole, begun = meter.reading.rapl.package, meter.reading.window_ns[0]
    # Half of it holds samples, however long the machine let the sampler wait.
    half = trace.seconds / 2
    first, (_, middle) = package(0, half)
    # The edges of parts are samples: what ends at one begins there.
    second, (again, _) = package((middle - begun) * 1e-9, trace.seconds)
    assert again == middle
    assert first + second == pytest.approx(whole, rel=1e-12)
    assert 0 < (middle - begun) * 1e-9 <= half


def test_a_part_without_samples_has_no_reading_and_says_why(tmp_path: Path) -> None:
    content = of_counters(
        [Counter("package-0", "package")], [(0, [1]), (10**9, [2])], cpu="x", cpus=1
    )
    with EnergyMeter(replay=Trace(content), window=(0.2, 0.3)) as meter:
        pass
    assert meter.reading.joules is None
    assert "two samples" in (meter.reading.reason or "")


def test_a_meter_of_a_trace_is_copied_and_pickled() -> None:
    content = of_counters(
        [Counter("package-0", "package")],
        [(n * 10**9, [n * 10_000_000]) for n in range(4)],
        cpu="x",
        cpus=1,
    )
    meter = EnergyMeter(replay=Trace(content), window=(1, 3))
    with meter:
        assert meter.running
    assert meter.reading.rapl.package == 20.0
    for other in (copy.copy(meter), pickle.loads(pickle.dumps(meter))):
        assert other.reading.rapl.package == 20.0
        with other:
            pass
        assert other.reading == meter.reading


@pytest.mark.parametrize(
    "options",
    [
        {"window": (0, 1)},
        {"idle_watts": 3.0},
        {"replay": "t", "pid": 1},
        {"replay": "t", "scope": "thread"},
        {"replay": "t", "root": "/"},
    ],
)
def test_options_that_exclude_each_other(options: dict[str, Any]) -> None:
    with pytest.raises(ConflictingOptionsError, match="replay"):
        EnergyMeter(**options)


@pytest.mark.parametrize("window", [(1, 1), (2, 1), (-1, 1), (0, float("inf")), "ab", (1,), 3])
def test_windows_that_cannot_be(window: Any) -> None:
    content = of_counters([], [(0, []), (1, [])], cpu="x", cpus=1)
    with pytest.raises(ValueError, match="two numbers of seconds"):
        EnergyMeter(replay=Trace(content), window=window)


# -- files ----------------------------------------------------------------------------------------


def small(rows: int = 5) -> bytes:
    return of_counters(
        [Counter("package-0", "package", modulus=1 << 32), Counter("dram", "dram")],
        [(n * 10**8, [n * 1_000_000, None if n == 2 else n * 100_000]) for n in range(rows)],
        cpu="x",
        cpus=2,
    )


def test_a_file_that_is_cut_or_changed_anywhere_is_refused() -> None:
    whole = small()
    assert Trace(whole).samples == 3
    for length in range(len(whole)):
        with pytest.raises(MalformedValueError, match="expected a trace of version 1"):
            Trace(whole[:length])
    for place in range(len(whole)):
        for bit in (1, 128):
            changed = bytearray(whole)
            changed[place] ^= bit
            try:
                Trace(bytes(changed))
            except MalformedValueError:
                continue
            # A flag, the time and the system in gzip's own header mean nothing here; neither do
            # the bits that fill up the last byte before its checksum.
            assert 3 <= place < 10 or place == len(whole) - 9


def test_files_that_are_none() -> None:
    for content in (b"", b"\x7fELF", b"{}", b"PK\x03\x04" * 9):
        with pytest.raises(MalformedValueError, match=r"no gzip file|ends too early"):
            Trace(content, name="f")
    header = {"format": FORMAT}
    for body, why in (
        ([b""], "rows end too early"),
        ([b"\x05\x00\x00\x00ab"], "rows end too early"),
        ([*framed([]), b"x"], "something follows"),
        (framed([]), "missing field"),
    ):
        with pytest.raises(MalformedValueError, match=why):
            Trace(b"".join(packed(header, "{}", body)))
    with pytest.raises(UnreadableFileError, match="No such file"):
        Trace.read("/nowhere/at/all")


@pytest.mark.slow
def test_a_bomb_is_refused_with_little_memory() -> None:
    bomb = b"".join(packed({}, "{}", [bytes(1 << 20)] * 257))
    assert len(bomb) < 1 << 20
    with pytest.raises(MalformedValueError, match="unpacks to more than"):
        Trace(bomb)


def test_more_columns_than_a_machine_has_are_refused() -> None:
    body = zlib.decompress(small(), 31)
    line, _, rows = body.partition(b"\n")
    header = json.loads(line)
    header["recording"]["columns"] += [""] * 10_000
    wide = b"".join((json.dumps(header).encode(), b"\n", rows))
    with pytest.raises(MalformedValueError, match="columns, more than"):
        Trace(gzip.compress(wide))


def test_rows_in_no_order_are_refused() -> None:
    with pytest.raises(MalformedValueError, match="no order"):
        Trace(of_counters([Counter("p", "package")], [(5, [1]), (3, [2])], cpu="x", cpus=1))


def test_a_later_version_is_named() -> None:
    with pytest.raises(MalformedValueError, match="of version 2"):
        Trace(b"".join(packed({"version": 2}, "{}", framed([]))))


@pytest.mark.slow
def test_an_hour_at_10_hz_of_eight_counters_is_below_two_megabytes() -> None:
    import random

    chance = random.Random(15)
    zones = [
        Counter(name, domain, package, 1e-6, 262_143_328_851)
        for package in range(2)
        for name, domain in (
            (f"package-{package}", "package"),
            ("core", "core"),
            ("uncore", "uncore"),
            ("dram", "dram"),
        )
    ]
    counts, rows, now = [0] * 8, [], 10**15
    for _ in range(36_000):
        now += 100_000_000 + int(chance.gauss(60_000, 30_000))
        counts = [
            count + int(chance.gauss(watts, watts / 8) * 1e5)
            for count, watts in zip(counts, [80, 60, 2, 12] * 2, strict=True)
        ]
        rows.append((now, [count % 262_143_328_851 for count in counts]))
    content = of_counters(zones, rows, cpu="x", cpus=64, sockets=2)
    assert len(content) < 2_000_000
    trace = Trace(content)
    with EnergyMeter(replay=trace) as meter:
        pass
    assert meter.reading.samples == 35_998
    assert meter.reading.rapl.package == pytest.approx(160 * 3600, rel=0.01)


# -- the command line -----------------------------------------------------------------------------


def command(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-m", "lithowatt", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        **options,
    )


def test_record_and_replay_print_the_same(tmp_path: Path) -> None:
    tree = StaticTree(tmp_path / "root")
    trace = tmp_path / "run.trace"
    program = "import time; time.sleep(0.3); raise SystemExit(3)"
    done = command(
        "record", "-o", trace, "--json", "--hz", 100, "--root", tree.root,
        "--", sys.executable, "-c", program,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert f"{trace}: {trace.stat().st_size} bytes" in done.stderr
    live = json.loads(done.stdout)
    again = command("replay", trace, "--json")
    assert again.returncode == 0, again.stderr
    read = json.loads(again.stdout)
    assert read.pop("command") == ["run.trace"] and live.pop("command")
    assert read == live and read["exit_code"] == 3
    part = json.loads(command("replay", trace, "--json", "--from", 0.1, "--to", 0.2).stdout)
    assert 0.05 < part["seconds"] <= 0.1
    assert "exit code 3" in command("replay", trace).stdout
    length = Trace.read(trace).seconds
    longer = command("replay", trace, "--to", 99)
    told = " ".join(longer.stdout.split())
    assert f"warning: the recording ends after {length:.4f} s, and this part with it" in told
    for whole in ((), ("--to", length), ("--from", 0)):
        assert "the recording ends" not in command("replay", trace, *whole).stdout
    told = " ".join(command("replay", trace, "--from", 0.1, "--to", 0.1001).stdout.split())
    assert told.count("the trace has no two looks at CPU times there") == 1
    refused: list[tuple[list[object], str]] = [
        (["--from", 99], f"--from is 99 s, and the recording is {length:.4g} s long: expected"),
        (["--from=-1"], "--from is -1 s, and the recording"),
        (["--from", "nan"], "--from is nan s, and the recording"),
        (["--from", 0.1, "--to", 0.05], f"--to is 0.05 s, and the recording is {length:.4g} s"),
        (["--to=-3"], "seconds above 0, where the part begins"),
    ]
    for options, words in refused:
        done = command("replay", trace, *options)
        assert done.returncode == 2 and words in done.stderr, done.stderr


def test_a_command_is_recorded_where_that_is_asked_for(tmp_path: Path) -> None:
    trace = tmp_path / "t"
    done = command("record", "-o", trace, "--with-command", "--methods", "model", "--", "true")
    assert done.returncode == 0, done.stderr
    assert Trace.read(trace).about["command"] == "true"
    told = command("replay", trace).stdout
    assert "\n   exit code 0" in told and "lithowatt doctor" not in told


@pytest.mark.parametrize("given", ["0", "1001", "x", "-1", "nan"])
def test_rates_that_cannot_be(given: str, tmp_path: Path) -> None:
    done = command("record", "-o", tmp_path / "t", f"--hz={given}", "--", "true")
    assert done.returncode == 2 and "1/3600 to 1000" in done.stderr


def test_what_cannot_be_written_or_read_is_said_before_anything_runs(tmp_path: Path) -> None:
    done = command("record", "-o", tmp_path / "no/t", "--", "touch", tmp_path / "ran")
    assert done.returncode == 2 and "no directory" in done.stderr
    assert not (tmp_path / "ran").exists()
    done = command("replay", tmp_path / "none")
    assert done.returncode == 2 and "No such file" in done.stderr
    assert "Traceback" not in done.stderr
    (tmp_path / "other").write_text("hello")
    done = command("replay", tmp_path / "other")
    assert done.returncode == 2 and "expected a trace" in done.stderr


def test_every_error_is_one_of_ours(tmp_path: Path) -> None:
    with pytest.raises(LithowattError):
        EnergyMeter(replay=tmp_path)
