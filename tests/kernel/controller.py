"""A server's management controller for an emulated machine, with a power that is known.

qemu's device ``ipmi-bmc-extern`` hands each message of the machine's kernel on to a socket
(OpenIPMI's "VM" connection): number, network function and LUN, command, data, a checksum with which
all bytes add up to 0, and 0xA0. Bytes 0xA0, 0xA1 and 0xAA in it are written as 0xAA and the byte
with its bit 4 set; what ends with 0xA1 is about the connection itself. Answers have the same form.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from pathlib import Path

END, END_OF_COMMAND, ESCAPE, ESCAPED = 0xA0, 0xA1, 0xAA, 0x10

GET_DEVICE_ID = (0x06, 0x01)
GET_POWER_READING = (0x2C, 0x02)

# Of device 0x20, IPMI 2.0, made by nobody (IPMI 2.0, 20.1).
DEVICE_ID = bytes((0x20, 0x01, 0x01, 0x00, 0x02, 0x80, 0, 0, 0, 0, 0))

# What a kernel's driver asks of any controller, by answers that let it go on (IPMI 2.0, 22).
FURTHER = {
    (0x06, 0x2E): b"",  # set global enables
    (0x06, 0x2F): b"\x00",  # get them
    (0x06, 0x30): b"",  # clear message flags
    (0x06, 0x31): b"\x00",  # get them: nothing waits
}

UNKNOWN_COMMAND = 0xC1


CONNECT_SECONDS = 30.0


class Controller:
    """Answers on qemu's socket in the file system until it is closed.

    Attributes:
        asked: Network function, command and data of each message.
    """

    def __init__(self, path: Path, watts: int) -> None:
        self.asked: list[tuple[int, int, bytes]] = []
        self._watts = watts
        self._path = path
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it; what it was asked is complete then."""
        self._ending.set()
        self._thread.join(CONNECT_SECONDS)

    def _run(self) -> None:
        # A connection that is there before the machine is ends qemu 7.2 by a signal.
        connection = socket.socket(socket.AF_UNIX)
        until = time.monotonic() + CONNECT_SECONDS
        while connection.connect_ex(str(self._path)):
            if self._ending.wait(0.1) or time.monotonic() > until:
                return
        with connection, contextlib.suppress(ConnectionError):
            message = bytearray()
            escaped = False
            while received := connection.recv(4096):
                for byte in received:
                    if byte == END:
                        connection.sendall(self._answered(bytes(message)))
                        message.clear()
                    elif byte == END_OF_COMMAND:
                        message.clear()
                    elif byte == ESCAPE:
                        escaped = True
                    else:
                        message.append(byte & ~ESCAPED if escaped else byte)
                        escaped = False

    def _answered(self, message: bytes) -> bytes:
        if len(message) < 4 or sum(message) & 0xFF:
            return b""
        number, function, command = message[:3]
        key = (function >> 2, command)
        data = message[3:-1]
        self.asked.append((*key, data))
        if key == GET_DEVICE_ID:
            answer = b"\x00" + DEVICE_ID
        elif key == GET_POWER_READING and data == b"\xdc\x01\x00\x00":
            watts = self._watts
            numbers = struct.pack("<HHHHIIB", watts, watts, watts, watts, 0, 1000, 0x40)
            answer = b"\x00\xdc" + numbers
        elif key in FURTHER:
            answer = b"\x00" + FURTHER[key]
        else:
            answer = bytes((UNKNOWN_COMMAND,))
        body = bytes((number, function | 4, command)) + answer
        body += bytes((-sum(body) & 0xFF,))
        out = bytearray()
        for byte in body:
            if byte in (END, END_OF_COMMAND, ESCAPE):
                out += bytes((ESCAPE, byte | ESCAPED))
            else:
                out.append(byte)
        return bytes(out) + bytes((END,))
