"""Rails of a Raspberry Pi 5, and the question to its firmware."""

from __future__ import annotations

import errno
import fcntl
import struct
from pathlib import Path

import pytest

from lithowatt.reference import Reference, open_references
from lithowatt.reference._energy import Unreadable
from lithowatt.reference.pmic import GET_GENCMD_RESULT, IOCTL_MBOX_PROPERTY, watts

# The form of a public report of a board at rest; the numbers of rails are retyped.
CURRENTS = {
    "3V7_WL_SW": (0, 0.00195186),
    "3V3_SYS": (1, 0.12589500),
    "1V8_SYS": (2, 0.23129540),
    "DDR_VDD2": (3, 0.0),
    "DDR_VDDQ": (4, 0.0),
    "1V1_SYS": (5, 0.18835450),
    "0V8_SW": (6, 0.30644200),
    "VDD_CORE": (7, 0.82156000),
    "3V3_DAC": (17, 0.0),
    "3V3_ADC": (18, 0.0),
    "0V8_AON": (16, 0.00311355),
    "HDMI": (22, 0.00036630),
}
VOLTS = {
    "3V7_WL_SW": (8, 3.70720000),
    "3V3_SYS": (9, 3.30260900),
    "1V8_SYS": (10, 1.81294100),
    "DDR_VDD2": (11, 1.10732500),
    "DDR_VDDQ": (12, 0.60183090),
    "1V1_SYS": (13, 1.10622600),
    "0V8_SW": (14, 0.80146440),
    "VDD_CORE": (15, 0.81203820),
    "3V3_DAC": (20, 3.30952000),
    "3V3_ADC": (21, 3.31226800),
    "0V8_AON": (19, 0.79912020),
    "HDMI": (23, 5.12416000),
    "EXT5V": (24, 5.13756000),
    "BATT": (25, 0.0),
}
ANSWER = "\n".join(
    [f"{name + '_A':>12} current({n})={amps:.8f}A" for name, (n, amps) in CURRENTS.items()]
    + [f"{name + '_V':>12} volt({n})={volts:.8f}V" for name, (n, volts) in VOLTS.items()]
)
TRUTH = sum(amps * VOLTS[name][1] for name, (_, amps) in CURRENTS.items())


def opened(root: Path) -> Reference:
    (root / "dev").mkdir()
    (root / "dev/vcio").write_bytes(b"")
    return open_references("pmic", root)[0]


def answering(monkeypatch: pytest.MonkeyPatch, text: str, fault: int = 0) -> list[str]:
    """A firmware that answers; what it was asked is in the list."""
    asked: list[str] = []

    def ioctl(_descriptor: int, request: int, message: bytearray, mutate: bool) -> int:
        size, state, tag, room, _, _ = struct.unpack_from("=IIIIII", message)
        assert request == IOCTL_MBOX_PROPERTY
        assert (size, state, tag, room, mutate) == (len(message), 0, GET_GENCMD_RESULT, 1024, True)
        assert size == 1052
        assert message[-4:] == bytes(4)
        asked.append(bytes(message[24:-4]).rstrip(b"\0").decode())
        struct.pack_into("=I", message, 20, fault)
        message[24 : 24 + len(text) + 1] = text.encode() + b"\0"
        return 0

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    return asked


def test_the_rails_are_summed_and_the_input_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answering(monkeypatch, ANSWER)
    assert opened(tmp_path).read() == pytest.approx(TRUTH)
    assert asked == ["pmic_read_adc"]
    assert watts(ANSWER) == pytest.approx(1.9678, abs=0.0001)


@pytest.mark.parametrize(
    ("text", "fault", "why"),
    [
        ('error=1 error_msg="Command not registered"', 0, "shows 0 rails"),
        ("", 0x80000001, "the firmware refuses"),
        ("\n".join(ANSWER.splitlines()[:12]), 0, "shows 0 rails"),
    ],
)
def test_another_board_has_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, fault: int, why: str
) -> None:
    answering(monkeypatch, text, fault)
    with pytest.raises(Unreadable, match=why):
        opened(tmp_path).read()


def test_a_machine_without_it_has_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unreadable, match=r"there is no .*/dev/vcio"):
        open_references("pmic", tmp_path)[0].read()

    def ioctl(*_: object) -> int:
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    with pytest.raises(Unreadable, match="Inappropriate ioctl"):
        opened(tmp_path).read()
