"""GPUs by NVML, against a library whose joules are known."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpus import Gpu, Gpus
from lithowatt import EnergyMeter
from meterer import Meterer

pytestmark = pytest.mark.skipif(
    Gpus.unavailable_reason() is not None, reason=str(Gpus.unavailable_reason())
)


def assert_within(seen: dict[str, Any], key: str, truth: float) -> None:
    """What a window has of a key holds the truth in its band."""
    assert seen[f"{key}_low"] <= truth <= seen[f"{key}_high"], (seen[key], truth)


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[Callable[..., tuple[Gpus, Meterer]]]:
    """Makes GPUs and a process beside them that meters itself."""
    made: list[Meterer] = []

    def make(**described: Any) -> tuple[Gpus, Meterer]:
        gpus = Gpus(tmp_path / "gpus", **described)
        made.append(Meterer(gpus.root, gpus.environment))
        return gpus, made[-1]

    yield make
    for meterer in made:
        meterer.close()


def test_a_function_beside_another_gets_its_part(
    beside: Callable[..., tuple[Gpus, Meterer]],
) -> None:
    gpus, meterer = beside()
    assert meterer.at_rest()["gpu_energy_attributed"] == 0.0
    now = time.monotonic_ns()
    gpus.use(meterer.pid, 40, begin=now)
    gpus.use(1, 20, begin=now)
    meterer.meter(1)
    seen = meterer.meter(5)
    window = seen["window_start"], seen["window_end"]
    assert seen["gpu_energy"] == pytest.approx(gpus.joules(*window), rel=0.03)
    own = gpus.joules_of(meterer.pid, *window)
    assert seen["gpu_energy_attributed"] == pytest.approx(own, rel=0.03)
    assert_within(seen, "gpu_energy", gpus.joules(*window))
    assert_within(seen, "gpu_energy_attributed", own)
    parts = seen["gpu_energy_attributed"] + seen["gpu_energy_unattributed"]
    assert parts == pytest.approx(seen["gpu_energy"])
    assert seen["gpu_source"] == "measured: gpu-0 Fake-0"
    # In no other energy.
    assert seen["energy_machine"] is None or seen["energy_machine"] != seen["gpu_energy"]
    assert seen["rapl_energy_total"] is None or seen["rapl_energy_total"] < seen["gpu_energy"] * 9


def test_power_is_integrated_where_there_is_no_counter(
    beside: Callable[..., tuple[Gpus, Meterer]],
) -> None:
    gpus, meterer = beside(gpus=[Gpu(counter=False)])
    gpus.use(meterer.pid, 80)
    time.sleep(0.5)
    seen = meterer.meter(4)
    window = seen["window_start"], seen["window_end"]
    assert_within(seen, "gpu_energy", gpus.joules(*window))
    assert "(power, integrated)" in seen["gpu_source"]
    # Power that is read now and then is known less well than a counter.
    assert seen["gpu_energy_high"] - seen["gpu_energy"] > 0.1 * seen["gpu_energy"]


def test_a_gpu_that_shows_no_watts_has_no_joules(
    beside: Callable[..., tuple[Gpus, Meterer]],
) -> None:
    _, meterer = beside(gpus=[Gpu(rest=0, slope=0, counter=False)])
    seen = meterer.meter(1)
    assert seen["gpu_energy"] is None
    assert "a power of 0 W" in seen["gpu_source"]


def test_several_gpus_are_added_and_shown_one_by_one(
    beside: Callable[..., tuple[Gpus, Meterer]],
) -> None:
    gpus, meterer = beside(gpus=[Gpu(0), Gpu(1, rest=20, slope=80, limit=100)])
    gpus.use(meterer.pid, 100, gpu=1)
    time.sleep(0.5)
    seen = meterer.meter(3)
    window = seen["window_start"], seen["window_end"]
    zones = {zone[2]: zone[3] for zone in seen["zones"] if zone[:2] == ["nvml", "gpu"]}
    assert set(zones) == {0, 1}
    for index, joules in zones.items():
        assert joules == pytest.approx(gpus.joules(*window, gpu=index), rel=0.2)
    assert_within(seen, "gpu_energy", gpus.joules(*window))
    assert seen["gpu_energy"] == pytest.approx(sum(zones.values()))
    # Rest was not seen, and was guessed of both from their limits.
    assert meterer.guesses(seen)
    assert_within(seen, "gpu_energy_attributed", gpus.joules_of(meterer.pid, *window))


def test_a_gpu_divided_by_mig_is_counted_once_and_not_shared(
    beside: Callable[..., tuple[Gpus, Meterer]],
) -> None:
    gpus, meterer = beside(gpus=[Gpu(mig=True)])
    gpus.use(meterer.pid, 50)
    time.sleep(0.5)
    seen = meterer.meter(2)
    window = seen["window_start"], seen["window_end"]
    assert_within(seen, "gpu_energy", gpus.joules(*window))
    assert seen["gpu_energy_attributed"] is None
    assert "MIG" in seen["gpu_attributed_source"]


def test_without_samples_of_processes_who_is_alone_has_all_of_it(
    beside: Callable[..., tuple[Gpus, Meterer]],
) -> None:
    gpus, meterer = beside(options={"samples": 0})
    meterer.at_rest()
    gpus.use(meterer.pid, 60)
    meterer.meter(1)
    alone = meterer.meter(4)
    own = gpus.joules_of(meterer.pid, alone["window_start"], alone["window_end"])
    assert alone["gpu_energy_attributed"] == pytest.approx(own, rel=0.06)
    gpus.use(1, 10)
    both = meterer.meter(1)
    assert both["gpu_energy"] is not None and both["gpu_energy_attributed"] is None
    assert "other processes" in both["gpu_attributed_source"]


@pytest.mark.parametrize(
    ("gpu", "options", "told"),
    [
        (Gpu(), {}, "a function's part is told "),
        (Gpu(mig=True), {}, "a function's part is not told: it is divided by MIG"),
        (Gpu(), {"samples": 0}, "a function's part is told only while no other process has it"),
    ],
)
def test_doctor_says_whether_a_function_s_part_is_told(
    tmp_path: Path, gpu: Gpu, options: dict[str, int], told: str
) -> None:
    gpus = Gpus(tmp_path / "gpus", gpus=[gpu], options=options)
    done = subprocess.run(
        [sys.executable, "-m", "lithowatt", "doctor", "--json", "--root", gpus.root],
        env=gpus.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    methods = json.loads(done.stdout)["methods"]
    (found,) = [method for method in methods if method["method"] == "nvml"]
    assert found["gives"] == ["gpu-0 Fake-0"]
    assert found["reason"].startswith(f"gpu-0 Fake-0: {told}")


def test_a_gpu_that_vanishes_is_counted_up_to_then(
    beside: Callable[..., tuple[Gpus, Meterer]],
) -> None:
    gpus, meterer = beside()
    meterer.meter(0.5)
    gpus.gpus = [Gpu(vanishes=time.monotonic_ns() + 3_000_000_000)]
    gpus.write()
    seen = meterer.meter(5)
    window = seen["window_start"], seen["window_end"]
    # What it used after the last look is not known.
    assert 0.0 < seen["gpu_energy"] < 1.05 * gpus.joules(*window)
    assert any("is counted up to" in text for text in seen["energy_warnings"])
    after = meterer.meter(0.5)
    assert after["gpu_energy"] is None and after["gpu_source"].startswith("unavailable: ")


def test_a_gpu_that_comes_is_counted_from_then(
    beside: Callable[..., tuple[Gpus, Meterer]],
) -> None:
    gpus, meterer = beside()
    meterer.meter(0.3)
    gpus.gpus.append(Gpu(1, appears=time.monotonic_ns() + 500_000_000))
    gpus.write()
    # They are looked for every 5 s.
    seen = meterer.meter(7)
    assert any("gpu-1" in text and "counted from then" in text for text in seen["energy_warnings"])
    assert "gpu-1 Fake-1" in seen["gpu_source"]


def test_a_counter_that_begins_again_loses_no_window(
    beside: Callable[..., tuple[Gpus, Meterer]],
) -> None:
    gpus, meterer = beside()
    gpus.use(meterer.pid, 50)
    meterer.meter(1)
    gpus.resets = [(0, time.monotonic_ns() + 2_000_000_000)]
    gpus.write()
    seen = meterer.meter(4)
    window = seen["window_start"], seen["window_end"]
    assert_within(seen, "gpu_energy", gpus.joules(*window))
    assert any("began again" in text for text in seen["energy_warnings"])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"init": 9}, "the driver is not loaded"),
        ({"init": 18}, "of different versions"),
        ({"init": 999}, "NVML's error 999"),
    ],
)
def test_a_library_that_fails_is_a_reason(
    beside: Callable[..., tuple[Gpus, Meterer]], options: dict[str, int], reason: str
) -> None:
    _, meterer = beside(options=options)
    seen = meterer.meter(0.5)
    assert seen["gpu_energy"] is None and seen["gpu_available"] is False
    assert reason in seen["gpu_source"]


def test_a_library_that_is_no_nvml_is_a_reason(tmp_path: Path) -> None:
    gpus = Gpus(tmp_path / "gpus")
    other = tmp_path / "other.c"
    other.write_text("int nothing(void) { return 0; }\n")
    library = str(gpus.folder / "lib" / "libnvidia-ml.so.1")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, str(other)], check=True)
    meterer = Meterer(gpus.root, gpus.environment)
    seen = meterer.meter(0.5)
    meterer.close()
    assert "lacks functions" in seen["gpu_source"]


def test_a_driver_without_its_library_comes_with_what_to_do(tmp_path: Path) -> None:
    gpus = Gpus(tmp_path / "gpus")
    (gpus.folder / "lib" / "libnvidia-ml.so.1").unlink()
    command = [sys.executable, "-m", "lithowatt", "doctor", "--json", "--root", str(gpus.root)]
    # Asked for the first time in a process, and where it is known already.
    done = subprocess.run(
        command, env=gpus.environment, capture_output=True, text=True, timeout=60, check=True
    )
    (found,) = [one for one in json.loads(done.stdout)["methods"] if one["method"] == "nvml"]
    assert not found["available"] and found["fix"] is None
    assert "install the driver's libraries" in found["reason"]
    assert "NVIDIA_DRIVER_CAPABILITIES=utility" in found["reason"]
    meterer = Meterer(gpus.root, gpus.environment)
    first, second = meterer.meter(0.3), meterer.meter(0.1)
    meterer.close()
    assert "install the driver's libraries" in first["gpu_source"]
    assert second["gpu_source"] == first["gpu_source"]


def test_calls_that_take_long_are_waited_for_by_nobody(
    beside: Callable[..., tuple[Gpus, Meterer]],
) -> None:
    gpus, meterer = beside(options={"slow_ms": 20_000})
    early = meterer.meter(0.2)
    assert early["gpu_energy"] is None
    assert early["gpu_source"] == "unavailable: NVML had not answered when the window ended"
    # And no call is made on the thread of the function.
    assert all(tid != meterer.pid for _, _, tid in gpus.log())


def test_a_forked_process_begins_anew(tmp_path: Path) -> None:
    gpus = Gpus(tmp_path / "gpus")
    code = """
import os, sys, time
from lithowatt import EnergyMeter
with EnergyMeter(root=sys.argv[1]) as parent:
    time.sleep(0.5)
    child = os.fork()
    if child == 0:
        with EnergyMeter(root=sys.argv[1]) as meter:
            time.sleep(1)
        os._exit(0 if meter.reading.gpu is not None else 1)
    _, status = os.waitpid(child, 0)
assert parent.reading.gpu is not None, parent.reading.gpu_source
sys.exit(os.waitstatus_to_exitcode(status))
"""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(gpus.root)], env=gpus.environment
    )
    assert ran.returncode == 0
    begun = [pid for what, pid, _ in gpus.log() if what == "init"]
    assert len(begun) == 2 and len(set(begun)) == 2
    # Each asks from one thread of its own.
    looks = {(pid, tid) for what, pid, tid in gpus.log() if what == "look"}
    assert {pid for pid, _ in looks} == set(begun) and len(looks) == 2


def test_a_child_s_use_is_the_function_s(beside: Callable[..., tuple[Gpus, Meterer]]) -> None:
    gpus, meterer = beside()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        gpus.use(stranger.pid, 30)
        gpus.use(meterer.child, 30)
        time.sleep(0.5)
        tree = meterer.meter(2)
        alone = meterer.meter(1, children=False)
        other = meterer.meter(2, pid=stranger.pid)
        stranger.kill()
    assert tree["gpu_energy_attributed"] > 0.0
    assert alone["gpu_energy_attributed"] == 0.0
    assert other["gpu_energy_attributed"] > 0.0


def test_a_thread_has_no_part_that_can_be_told(
    beside: Callable[..., tuple[Gpus, Meterer]],
) -> None:
    _, meterer = beside()
    seen = meterer.meter(1.5, scope="thread")
    assert seen["gpu_energy"] is not None and seen["gpu_energy_attributed"] is None
    assert "of processes, not of a thread" in seen["gpu_attributed_source"]


def test_windows_without_samples_or_without_nvml_ask_for_nothing(
    beside: Callable[..., tuple[Gpus, Meterer]],
) -> None:
    gpus, meterer = beside()
    edges = meterer.meter(0.3, interval=None)
    others = meterer.meter(0.3, methods=["rapl", "psutil"])
    assert "interval=None" in edges["gpu_source"]
    assert others["gpu_source"] == "unavailable: not asked for"
    assert gpus.log() == []


def test_without_a_driver_no_library_is_looked_for(tmp_path: Path) -> None:
    gpus = Gpus(tmp_path / "gpus")
    (gpus.root / "dev" / "nvidiactl").unlink()
    code = (
        "import sys, threading\n"
        "from lithowatt import EnergyMeter\n"
        "with EnergyMeter(root=sys.argv[1]) as meter: pass\n"
        "print(meter.reading.gpu_source, 'libnvidia' in open('/proc/self/maps').read())\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(gpus.root)],
        env=gpus.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "unavailable: no NVIDIA driver is loaded False\n"
    assert gpus.log() == []


def test_the_reading_has_both_as_estimates() -> None:
    with EnergyMeter() as meter:
        pass
    if meter.reading.gpu is None:
        assert meter.reading.gpu_source.startswith("unavailable: ")
        assert meter.reading.gpu_attributed is None


def test_the_script_for_a_machine_with_gpus_writes_what_they_show(tmp_path: Path) -> None:
    gpus = Gpus(tmp_path / "gpus")
    gpus.use(4711, 30)
    script = Path(__file__).parents[2] / "tools" / "record_nvml.py"
    written = tmp_path / "gpus.jsonl"
    ran = subprocess.run(
        [sys.executable, str(script), str(written), "1"],
        env=gpus.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    header, *looks = map(json.loads, written.read_text().splitlines())
    assert [gpu["name"] for gpu in header["gpus"]] == ["Fake-0"]
    assert header["gpus"][0]["limit_mw"] == 300_000
    assert looks[-1]["mj"] >= looks[0]["mj"] > 0
    named = [row for look in looks for row in look["processes"] if isinstance(row, dict)]
    # By a number of its own.
    # A number of that many digits may be a part of a time.
    assert {row["who"] for row in named} <= {1}
    assert re.search(r"\b4711\b", written.read_text()) is None
    assert "gpu 0 Fake-0: counter " in ran.stdout
