"""The batteries of a laptop, as the kernel shows them in ``/sys/class/power_supply``.

Only while they alone feed the machine is what they give the machine's power: with a charger at
work, even where it is too weak and a battery helps it, nothing is known of the whole.

Sources: the kernel's Documentation/ABI/testing/sysfs-class-power (µW, µA, µV, µWh, µAh; current is
negative while discharging). Drivers differ: ACPI's shows positive current before a change of May
2025 ("ACPI: battery: negate current when discharging"), and qualcomm-battmgr negative power
(powertop pull request 173), so the sign is not used and ``status`` is. ACPI's driver asks the
firmware at most once a second (``cache_time`` in drivers/acpi/battery.c).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lithowatt.reference._energy import Elsewhere, Sensor, Unreadable
from lithowatt.reference._watch import Reference, between_changes

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Battery"]

FOLDER = "sys/class/power_supply"

MICRO = 1e-6

JOULES_PER_MICROWATTHOUR = 3600e-6

#: Fuel gauges of TI renew their mean current every second (bq34z100 and bq27545 data sheets), and
#: embedded controllers of laptops pass it on as slowly as they like. This is an assumption until
#: the value was seen to change, s.
UPDATE_SECONDS = 15.0

#: An assumption, in the absence of a source for the error of a laptop's fuel gauge.
RELATIVE = 0.05

#: Without readings for so long, nothing is known of power, s.
GAP_SECONDS = 45.0

POWER = Sensor(
    counts=False,
    update=UPDATE_SECONDS,
    # From half an update, for a value of a moment, to a whole one, for a mean.
    delay=0.75 * UPDATE_SECONDS,
    averaged=0.0,
    relative=RELATIVE,
    step=0.0,
    gap=GAP_SECONDS,
)

#: Energy that is left goes down in steps of 10 mWh on most laptops, and more slowly than power.
ENERGY = POWER._replace(counts=True, step=36.0, delay=0.5 * UPDATE_SECONDS, gap=120.0)


class Battery(Reference):
    """All batteries of a machine together."""

    name = "battery"
    covers = (
        "what the batteries give: the whole machine with its screen, without a charger's losses"
    )

    def __init__(self, root: str = "/") -> None:
        super().__init__()
        self._folder = Path(root) / FOLDER
        self._full: float | None = None
        self.sensor = POWER

    def start(self) -> None:
        """Begins to read, power where the drivers show it, else the energy that is left."""
        self.sensor = POWER if shows_power(self._folder) else ENERGY
        super().start()

    def _update(self, readings: Sequence[tuple[float, float]]) -> float:
        # In steps of a milliwatt: a value that stays the same was not renewed.
        seen = between_changes(readings)
        return self.sensor.update if seen is None else max(seen, self.period)

    def read(self) -> float:
        """Power, W; where no driver shows it, what was taken from the batteries so far, J.

        Raises:
            Elsewhere: They do not feed the machine, or not alone.
            Unreadable: There are none, or they show nothing.
        """
        batteries = feeding(self._folder)
        if not self.sensor.counts:
            return sum(_watts(battery) for battery in batteries)
        left = sum(_joules_left(battery) for battery in batteries)
        if self._full is None:
            self._full = left
        return self._full - left


def supplies(folder: Path) -> tuple[list[Path], list[Path]]:
    """Batteries of the machine, and what else may feed it."""
    batteries, others = [], []
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        entries = []
    for entry in entries:
        kind = _text(entry / "type")
        # A mouse's or a headset's.
        if _text(entry / "scope") == "Device" or _text(entry / "present") == "0":
            continue
        if kind == "Battery":
            batteries.append(entry)
        elif kind:
            others.append(entry)
    return batteries, others


def feeding(folder: Path) -> list[Path]:
    """The batteries, where they alone feed the machine.

    Raises:
        Elsewhere: They do not.
        Unreadable: There are none.
    """
    batteries, others = supplies(folder)
    if not batteries:
        raise Unreadable(f"there is no battery in {folder}")
    for other in others:
        if (_text(other / "online") or "0") != "0":
            raise Elsewhere(
                f"{other.name} is connected, so the batteries do not feed the machine alone"
            )
    states = {battery.name: _text(battery / "status") or "Unknown" for battery in batteries}
    if "Discharging" not in states.values():
        told = ", ".join(f"{name}: {state}" for name, state in states.items())
        raise Elsewhere(f"no battery is discharging ({told})")
    for name, state in states.items():
        if state == "Charging":
            raise Elsewhere(f"{name} is charging, so what the others give is not the machine's")
    return batteries


def shows_power(folder: Path) -> bool:
    """Whether each battery shows power, or current and voltage."""
    batteries, _ = supplies(folder)
    return all(_power_of(battery) is not None for battery in batteries)


def _power_of(battery: Path) -> float | None:
    power = _number(battery / "power_now")
    if power:
        return abs(power) * MICRO
    current, voltage = _number(battery / "current_now"), _number(battery / "voltage_now")
    if current is not None and voltage is not None:
        return abs(current) * MICRO * voltage * MICRO
    return power


def _watts(battery: Path) -> float:
    watts = _power_of(battery)
    if watts is None:
        raise Unreadable(f"{battery.name} shows neither power_now nor current_now and voltage_now")
    if watts == 0 and _text(battery / "status") == "Discharging":
        # Firmware takes some seconds after a change to know.
        raise Unreadable(f"{battery.name} is discharging and shows 0 W")
    return watts


def _joules_left(battery: Path) -> float:
    energy = _number(battery / "energy_now")
    if energy is not None:
        return energy * JOULES_PER_MICROWATTHOUR
    charge = _number(battery / "charge_now")
    # Charge times the voltage of the moment would fall with the voltage, too; its nominal value
    # is the design voltage.
    voltage = _number(battery / "voltage_min_design") or _number(battery / "voltage_now")
    if charge is None or voltage is None:
        raise Unreadable(f"{battery.name} shows neither energy_now nor charge_now and its voltage")
    return charge * JOULES_PER_MICROWATTHOUR * voltage * MICRO


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    try:
        return int(_text(path) or "")
    except ValueError:
        return None
