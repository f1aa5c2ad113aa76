"""DCMI's power reading over the kernel's IPMI device: bytes, and a controller that answers."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
from pathlib import Path
from typing import Any

import pytest

from lithowatt.reference import ipmi as module
from lithowatt.reference import open_references
from lithowatt.reference._energy import Unreadable
from lithowatt.reference.ipmi import RECEIVE_MSG_TRUNC, SEND_COMMAND, Ipmi, watts


def reading(now: int, state: int = 0x40) -> bytes:
    return b"\x00\xdc" + struct.pack("<HHHHIIB", now, 90, 410, 180, 1_700_000_000, 1000, state)


class Controller:
    """The kernel's device and the controller behind it."""

    def __init__(self, answers: list[bytes]) -> None:
        self.answers = answers
        self.asked: list[tuple[int, int, int, int, bytes]] = []
        self.waiting: list[tuple[int, bytes]] = []

    def ioctl(self, _descriptor: int, request: int, argument: Any) -> int:
        message = argument.msg
        if request == SEND_COMMAND:
            address = ctypes.string_at(argument.addr, argument.addr_len)
            kind, channel = struct.unpack_from("=ih", address)
            data = ctypes.string_at(message.data, message.data_len)
            self.asked.append((kind, channel, message.netfn, message.cmd, data))
            self.waiting.append((argument.msgid, self.answers.pop(0)))
            return 0
        assert request == RECEIVE_MSG_TRUNC
        number, answer = self.waiting.pop(0)
        argument.msgid = number
        ctypes.memmove(message.data, answer, min(len(answer), message.data_len))
        message.data_len = len(answer)
        return 0

    def select(self, readable: list[int], *_: object) -> tuple[list[int], list[int], list[int]]:
        return (readable if self.waiting else []), [], []


def machine(root: Path, monkeypatch: pytest.MonkeyPatch, answers: list[bytes]) -> Controller:
    (root / "dev").mkdir()
    (root / "dev/ipmi0").write_bytes(b"")
    controller = Controller(answers)
    monkeypatch.setattr(fcntl, "ioctl", controller.ioctl)
    monkeypatch.setattr(select, "select", controller.select)
    return controller


@pytest.mark.skipif(ctypes.sizeof(ctypes.c_void_p) != 8, reason="numbers of 64-bit machines")
def test_the_numbers_are_the_kernels() -> None:
    # As the macros of linux/ipmi.h come to on x86-64 and arm64.
    assert (SEND_COMMAND, RECEIVE_MSG_TRUNC) == (0x8028690D, 0xC030690B)


def test_one_command_is_sent_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = machine(tmp_path, monkeypatch, [reading(212), reading(215)])
    meter = open_references("ipmi", tmp_path)[0]
    assert [meter.read(), meter.read()] == [212.0, 215.0]
    assert controller.asked == [(0x0C, 0x0F, 0x2C, 0x02, b"\xdc\x01\x00\x00")] * 2


def test_an_answer_to_a_question_given_up_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = machine(tmp_path, monkeypatch, [reading(100)])
    controller.waiting.append((77, reading(999)))
    assert Ipmi(str(tmp_path)).read() == 100.0


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"\xc1", "it has no DCMI"),
        (b"\xc3", "completion code 0xc3"),
        (reading(212, state=0), "does not measure power now"),
        (reading(0), "shows 0 W"),
        (reading(212)[:9], "no power reading of DCMI"),
        (b"", "is empty"),
    ],
)
def test_a_refusal_is_a_reason(answer: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        watts(answer)


def test_silence_and_no_device_are_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unreadable, match=r"there is no .*/dev/ipmi0: load ipmi_devintf"):
        Ipmi(str(tmp_path)).read()
    controller = machine(tmp_path, monkeypatch, [b""])
    monkeypatch.setattr(controller, "waiting", _Deaf())
    with pytest.raises(Unreadable, match="did not answer within 2 s"):
        Ipmi(str(tmp_path)).read()


class _Deaf(list[Any]):
    def append(self, _: Any) -> None:
        """Nothing comes in."""


def test_files_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(tmp_path, monkeypatch, [b"\xc1"] * 3)
    before = len(os.listdir("/proc/self/fd"))
    meter = module.Ipmi(str(tmp_path))
    for _ in range(3):
        with pytest.raises(Unreadable):
            meter.read()
    assert len(os.listdir("/proc/self/fd")) == before
