"""A server's management controller, asked over IPMI for its power reading (DCMI).

One command, Get Power Reading of the Data Center Manageability Interface (DCMI 1.5, 6.6.1), through
the kernel's ``/dev/ipmi0`` (include/uapi/linux/ipmi.h). It changes nothing in the controller. The
device belongs to root.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
from pathlib import Path

from lithowatt.reference._energy import Sensor, Unreadable
from lithowatt.reference._watch import Reference

__all__ = ["Ipmi", "watts"]

DEVICES = ("dev/ipmi0", "dev/ipmi/0", "dev/ipmidev/0")

#: Address of the machine's own controller: its type and channel (linux/ipmi.h).
SYSTEM_INTERFACE, BMC_CHANNEL = 0x0C, 0x0F

#: Commands of other groups than IPMI's own, and DCMI among them (IPMI 2.0, 5.1; DCMI 1.5, 6.1).
GROUP_EXTENSION, DCMI = 0x2C, 0xDC

GET_POWER_READING = 0x02

#: Statistics of the whole system's power, mode 1, and two reserved bytes.
QUESTION = bytes((DCMI, 0x01, 0x00, 0x00))

ANSWER_SECONDS = 2.0

#: Bytes of an answer, its completion code included.
ANSWER_BYTES = 19

#: In its last byte: the controller measures.
ACTIVE = 0x40

REFUSALS = {
    0xC1: "it does not know the command: it has no DCMI",
    0xCB: "it has no power reading",
    0xD4: "this channel has not the right to it",
    0xD5: "it does not support it in its present state",
}

#: Whole watts. Controllers have a new value each second to each few; the shared error is an
#: assumption, for DCMI states none.
SENSOR = Sensor(
    counts=False, update=2.0, delay=1.0, averaged=0.0, relative=0.05, step=1.0, gap=30.0
)


class _Address(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int),
        ("channel", ctypes.c_short),
        ("lun", ctypes.c_ubyte),
    )


class _Message(ctypes.Structure):
    _fields_ = (
        ("netfn", ctypes.c_ubyte),
        ("cmd", ctypes.c_ubyte),
        ("data_len", ctypes.c_ushort),
        ("data", ctypes.c_void_p),
    )


class _Request(ctypes.Structure):
    _fields_ = (
        ("addr", ctypes.c_void_p),
        ("addr_len", ctypes.c_uint),
        ("msgid", ctypes.c_long),
        ("msg", _Message),
    )


class _Received(ctypes.Structure):
    _fields_ = (
        ("recv_type", ctypes.c_int),
        ("addr", ctypes.c_void_p),
        ("addr_len", ctypes.c_uint),
        ("msgid", ctypes.c_long),
        ("msg", _Message),
    )


#: ``_IOR('i', 13, struct ipmi_req)`` and ``_IOWR('i', 11, struct ipmi_recv)``.
SEND_COMMAND = 2 << 30 | ctypes.sizeof(_Request) << 16 | ord("i") << 8 | 13
RECEIVE_MSG_TRUNC = 3 << 30 | ctypes.sizeof(_Received) << 16 | ord("i") << 8 | 11


def watts(answer: bytes) -> float:
    """The power of the moment in an answer, which begins with its completion code, W.

    Raises:
        Unreadable: The controller refuses, or does not measure.

    Example:
        >>> numbers = struct.pack("<HHHHIIB", 212, 150, 300, 220, 0, 1000, 0x40)
        >>> watts(bytes([0, 0xDC]) + numbers)
        212.0
    """
    if not answer:
        raise Unreadable("the controller's answer is empty")
    if answer[0]:
        why = REFUSALS.get(answer[0], f"completion code {answer[0]:#04x}")
        raise Unreadable(f"the controller gives no power reading: {why}")
    if len(answer) < ANSWER_BYTES or answer[1] != DCMI:
        raise Unreadable(f"{answer[:ANSWER_BYTES].hex(' ')} is no power reading of DCMI")
    now, _least, _most, _mean, _stamp, _period, state = struct.unpack_from("<HHHHIIB", answer, 2)
    if not state & ACTIVE:
        raise Unreadable("the controller does not measure power now")
    if not now:
        raise Unreadable("the controller shows 0 W of a machine that runs")
    return float(now)


class Ipmi(Reference):
    """The power reading of the machine's own controller."""

    name = "ipmi"
    covers = "what the power supplies take or give, as the maker of the server chose; fans included"
    sensor = SENSOR

    def __init__(self, root: str = "/") -> None:
        super().__init__()
        self._devices = [str(Path(root) / device) for device in DEVICES]
        self._asked = 0

    def read(self) -> float:
        """Power, W.

        Raises:
            Unreadable: There is no controller, it may not be asked, or has no reading.
        """
        descriptor = self._opened()
        try:
            self._asked += 1
            return watts(answered(descriptor, self._asked))
        finally:
            os.close(descriptor)

    def _opened(self) -> int:
        for device in self._devices:
            try:
                return os.open(device, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            except PermissionError:
                raise Unreadable(f"this user may not open {device}, which root may") from None
            except OSError as error:
                raise Unreadable(f"{device}: {error.strerror}") from None
        raise Unreadable(
            f"there is no {self._devices[0]}: load ipmi_devintf and ipmi_si, if this machine has a "
            "management controller"
        )


def answered(descriptor: int, number: int) -> bytes:
    """The controller's answer to the question with this number.

    Raises:
        Unreadable: It does not come in time.
    """
    address = _Address(SYSTEM_INTERFACE, BMC_CHANNEL, 0)
    question = (ctypes.c_ubyte * len(QUESTION))(*QUESTION)
    request = _Request(
        ctypes.addressof(address),
        ctypes.sizeof(address),
        number,
        _Message(GROUP_EXTENSION, GET_POWER_READING, len(QUESTION), ctypes.addressof(question)),
    )
    room = (ctypes.c_ubyte * 64)()
    sender = (ctypes.c_ubyte * 64)()
    try:
        fcntl.ioctl(descriptor, SEND_COMMAND, request)
        while True:
            ready, _, _ = select.select([descriptor], [], [], ANSWER_SECONDS)
            if not ready:
                raise Unreadable(f"the controller did not answer within {ANSWER_SECONDS:g} s")
            received = _Received(
                0,
                ctypes.addressof(sender),
                len(sender),
                0,
                _Message(0, 0, len(room), ctypes.addressof(room)),
            )
            fcntl.ioctl(descriptor, RECEIVE_MSG_TRUNC, received)
            # Answers to questions that were given up may come first.
            if received.msgid == number:
                return bytes(room[: received.msg.data_len])
    except OSError as error:
        raise Unreadable(f"IPMI: {error.strerror}") from None
