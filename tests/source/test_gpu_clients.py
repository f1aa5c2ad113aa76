"""Whose use of a card it was, by fdinfo: against clients and power that are known."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chips import Chips
from clients import Clients
from lithowatt import _core
from meterer import Meterer

POWER = "hwmon3/power1_average"
#: Power at rest, and above it with an engine that is always busy, W.
REST, SLOPE = 50.0, 250.0

Make = Callable[[], tuple[Chips, Clients, Meterer]]


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[Make]:
    """Makes a machine with a Radeon at rest and a process beside it that meters itself."""
    made: list[tuple[Clients, Meterer]] = []

    def make() -> tuple[Chips, Clients, Meterer]:
        chips = Chips(tmp_path)
        (tmp_path / "sys/bus/pci/drivers/amdgpu").mkdir(parents=True)
        chips.add(
            {
                "hwmon3/name": "amdgpu",
                "hwmon3/device/uevent": "PCI_ID=1002:744C\nPCI_SLOT_NAME=0000:03:00.0",
                "hwmon3/power1_cap": "300000000",
            }
        )
        for node in ("card1", "renderD128"):
            (chips.place / "hwmon3/device/drm" / node).mkdir(parents=True)
        chips.draw(POWER, REST)
        clients = Clients(tmp_path)
        clients.__enter__()
        made.append((clients, Meterer(tmp_path)))
        return chips, clients, made[-1][1]

    yield make
    for clients, meterer in made:
        meterer.close()
        clients.__exit__()


def assert_is(seen: dict[str, Any], truth: float, rel: float = 0.03) -> None:
    """The function's part is the truth, and its band holds it."""
    assert seen["gpu_energy_attributed"] == pytest.approx(truth, rel=rel)
    assert seen["gpu_energy_attributed_low"] <= truth <= seen["gpu_energy_attributed_high"]


def seconds(seen: dict[str, Any]) -> float:
    """How long a window was, s."""
    return float(seen["window_end"] - seen["window_start"]) * 1e-9


def test_a_function_beside_another_gets_its_part(beside: Make) -> None:
    chips, clients, meterer = beside()
    assert meterer.at_rest()["gpu_energy_attributed"] == 0.0
    # Its child has the same device open, too, and both have it open several times.
    clients.open(meterer.pid, meterer.child, percent=40, descriptors=(5, 6))
    clients.open(1, percent=20, descriptors=(7, 8, 9, 10))
    chips.draw(POWER, REST + 0.6 * SLOPE)
    meterer.meter(1)
    seen = meterer.meter(5)
    window = seen["window_start"], seen["window_end"]
    assert seen["gpu_energy"] == pytest.approx(chips.joules(POWER, *window), rel=0.03)
    assert_is(seen, 0.4 * SLOPE * seconds(seen))
    assert seen["gpu_attributed_source"] == (
        "attributed: by how busy processes kept the GPUs, above power at rest"
    )
    parts = seen["gpu_energy_attributed"] + seen["gpu_energy_unattributed"]
    assert parts == pytest.approx(seen["gpu_energy"])


def test_a_client_that_ends_has_what_it_used_until_then(beside: Make) -> None:
    chips, clients, meterer = beside()
    meterer.at_rest()
    clients.open(meterer.pid, percent=40)
    other = clients.open(1, percent=40)
    chips.draw(POWER, REST + 0.8 * SLOPE)
    meterer.meter(1)
    meterer.begin(6)
    with subprocess.Popen(["sleep", "3"]) as pause:
        pause.wait()
    clients.vanish(other)
    chips.draw(POWER, REST + 0.4 * SLOPE)
    seen = meterer.end()
    assert_is(seen, 0.4 * SLOPE * seconds(seen), rel=0.05)


def test_a_process_that_ends_within_its_window_keeps_its_part(beside: Make) -> None:
    chips, clients, meterer = beside()
    meterer.at_rest()
    with subprocess.Popen(["sleep", "60"]) as watched:
        own = clients.open(watched.pid, percent=60)
        chips.draw(POWER, REST + 0.6 * SLOPE)
        meterer.meter(1)
        meterer.begin(4, pid=watched.pid)
        with subprocess.Popen(["sleep", "2"]) as pause:
            pause.wait()
        clients.vanish(own)
        watched.kill()
    chips.draw(POWER, REST)
    seen = meterer.end()
    window = seen["window_start"], seen["window_end"]
    above = chips.joules(POWER, *window) - REST * seconds(seen)
    assert_is(seen, above, rel=0.06)


def test_a_driver_that_does_not_tell_is_a_reason(beside: Make) -> None:
    _, clients, meterer = beside()
    clients.open(meterer.pid, driver="silent")
    seen = meterer.meter(2)
    assert seen["gpu_energy"] is not None and seen["gpu_energy_attributed"] is None
    assert "amdgpu of this kernel does not tell how busy" in seen["gpu_attributed_source"]


def test_doctor_says_whether_a_function_s_part_is_told(beside: Make, tmp_path: Path) -> None:
    chips, clients, meterer = beside()

    def told() -> str:
        (found,) = _core.doctor(tmp_path, ["hwmon"], waits=False)
        return str(found["reason"])

    own = clients.open(meterer.pid, percent=40)
    assert "GPU amdgpu 0000:03:00.0: a function's part is told by /proc/PID/fdinfo" in told()
    # A process of which others are not told.
    shutil.rmtree(tmp_path / "proc/1")
    assert "only the most that it can be is told, as not all processes can be read" in told()
    chips.add({"hwmon3/device/gpu_busy_percent": "80"})
    assert "told by its own /proc/PID/fdinfo and gpu_busy_percent" in told()
    clients.vanish(own)
    clients.open(meterer.pid, driver="silent")
    assert "is not told: amdgpu of this kernel does not tell how busy processes" in told()


def test_a_device_that_is_shared_with_another_has_no_owner(beside: Make) -> None:
    chips, clients, meterer = beside()
    clients.open(meterer.pid, 1, percent=30)
    chips.draw(POWER, REST + 0.3 * SLOPE)
    seen = meterer.meter(2)
    assert seen["gpu_energy_attributed"] is None
    assert "share one open device" in seen["gpu_attributed_source"]


def test_queues_of_rocm_are_the_only_user_s_or_nobody_s(beside: Make, tmp_path: Path) -> None:
    chips, clients, meterer = beside()
    meterer.at_rest()
    kfd = tmp_path / "sys/class/kfd/kfd"

    def write(name: str, text: str) -> None:
        (kfd / name).parent.mkdir(parents=True, exist_ok=True)
        (kfd / name).write_text(text)

    write("topology/nodes/1/gpu_id", "51110\n")
    write("topology/nodes/1/properties", "location_id 768\ndomain 0\n")
    write(f"proc/{meterer.pid}/queues/0/gpuid", "51110")
    chips.add({"hwmon3/device/gpu_busy_percent": "80"})
    # What it has open beside that counts none of its work.
    clients.open(meterer.pid, percent=0)
    chips.draw(POWER, REST + 0.8 * SLOPE)
    meterer.meter(1)
    alone = meterer.meter(4)
    assert_is(alone, 0.8 * SLOPE * seconds(alone))
    write("proc/1/queues/0/gpuid", "51110")
    both = meterer.meter(1.5)
    assert both["gpu_energy"] is not None and both["gpu_energy_attributed"] is None
    assert "other processes have it open" in both["gpu_attributed_source"]


def test_a_card_that_works_for_nobody_is_nobody_s(beside: Make) -> None:
    chips, clients, meterer = beside()
    clients.open(meterer.pid, percent=0)
    chips.add({"hwmon3/device/gpu_busy_percent": "70"})
    chips.draw(POWER, REST + 0.7 * SLOPE)
    seen = meterer.meter(5)
    assert seen["gpu_energy_attributed"] is None
    assert "not told which processes keep it busy" in seen["gpu_attributed_source"]
