"""The power controller of a Raspberry Pi 5, whose rails the firmware measures.

The firmware answers ``pmic_read_adc`` with current and voltage of twelve rails, and with the
voltage alone of the 5 V input. What they take together is **not** what the board takes: the losses
of the controller itself, what hangs on USB, the fan, and whatever takes 5 V directly pass it by.
One board beside a USB meter was fitted by 1.145 times the sum and 0.59 W more
(github.com/jfikar/RPi5-power); that is not applied here.

The question goes through ``/dev/vcio`` as ``vcgencmd`` asks it (github.com/raspberrypi/utils,
vcgencmd/vcgencmd.c): a property of the mailbox with the tag 0x00030080, without another process.
The group ``video`` may do so.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from pathlib import Path

from lithowatt.reference._energy import Sensor, Unreadable
from lithowatt.reference._watch import Reference

__all__ = ["Pmic", "watts"]

DEVICE = "dev/vcio"

#: Tag of a command in words, in the mailbox's list of properties.
GET_GENCMD_RESULT = 0x00030080

#: Room for the command and the answer.
TEXT_BYTES = 1024

#: ``_IOWR(100, 0, char *)``: its size is that of a pointer.
IOCTL_MBOX_PROPERTY = 3 << 30 | struct.calcsize("P") << 16 | 100 << 8

RAIL = re.compile(r"^\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=([0-9.]+)[AV]\s*$", re.MULTILINE)

#: Rails without which this is not the whole answer.
LEAST_RAILS = 8

#: The shared error is an assumption, in the absence of a source.
SENSOR = Sensor(
    counts=False, update=1.0, delay=0.0, averaged=0.0, relative=0.05, step=0.0, gap=10.0
)


def watts(answer: str) -> float:
    """The sum of all rails that have both current and voltage, W.

    Raises:
        Unreadable: The answer is not one of a Raspberry Pi 5.

    Example:
        >>> rails = [f"R{n}_A current({n})=0.5A\\nR{n}_V volt({n})=2.0V" for n in range(8)]
        >>> watts("\\n".join(rails) + "\\nEXT5V_V volt(24)=5.1V")
        8.0
    """
    found: dict[str, dict[str, float]] = {}
    try:
        for rail, kind, value in RAIL.findall(answer):
            found.setdefault(rail, {})[kind] = float(value)
    except ValueError:
        raise Unreadable(f"pmic_read_adc: {answer[:60]!r} has no numbers") from None
    rails = [rail for rail in found.values() if len(rail) == 2]
    if len(rails) < LEAST_RAILS:
        told = " ".join(answer.split())[:80]
        raise Unreadable(
            f"pmic_read_adc shows {len(rails)} rails with current and voltage, and a Raspberry "
            f"Pi 5 has twelve: {told!r}"
        )
    return sum(rail["A"] * rail["V"] for rail in rails)


def asked(command: str) -> bytearray:
    """The message with a command, for the mailbox."""
    text = command.encode("ascii") + b"\0"
    head = struct.pack("=IIIIII", 28 + TEXT_BYTES, 0, GET_GENCMD_RESULT, TEXT_BYTES, 0, 0)
    return bytearray(head + text.ljust(TEXT_BYTES, b"\0") + struct.pack("=I", 0))


class Pmic(Reference):
    """The rails of a Raspberry Pi 5."""

    name = "pmic"
    covers = (
        "the rails of the board's power controller, without its own losses, USB devices, the fan "
        "and what takes 5 V directly"
    )
    sensor = SENSOR

    def __init__(self, root: str = "/") -> None:
        super().__init__()
        self._device = str(Path(root) / DEVICE)

    def read(self) -> float:
        """Power of the rails, W.

        Raises:
            Unreadable: There is no such device, or it does not answer as a Raspberry Pi 5 does.
        """
        return watts(ask(self._device, "pmic_read_adc"))


def ask(device: str, command: str) -> str:
    """The firmware's answer to a command.

    Raises:
        Unreadable: There is none.
    """
    message = asked(command)
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Unreadable(f"there is no {device}, which a Raspberry Pi has") from None
    except PermissionError:
        raise Unreadable(
            f"this user may not open {device}; the group video may: sudo usermod -aG video $USER"
        ) from None
    except OSError as error:
        raise Unreadable(f"{device}: {error.strerror}") from None
    try:
        # Larger than what Python copies: the kernel answers in place.
        fcntl.ioctl(descriptor, IOCTL_MBOX_PROPERTY, message, True)
    except OSError as error:
        raise Unreadable(f"{device}: {error.strerror}") from None
    finally:
        os.close(descriptor)
    fault = struct.unpack_from("=I", message, 20)[0]
    if fault:
        raise Unreadable(f"the firmware refuses {command} ({fault:#x})")
    return bytes(message[24 : 24 + TEXT_BYTES]).split(b"\0")[0].decode("ascii", "replace")
