"""Processes that keep a GPU's engines busy, as fdinfo shows it: a /proc of plain files.

Processes are those that a test has, by their real numbers; what they have open is made up.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SECOND = 1_000_000_000
#: Between two changes of the files, s.
STEP = 0.01
SLOT = "0000:03:00.0"


@dataclass
class Client:
    """An open device: the processes that have it open, by which descriptors, and how busy it is."""

    number: int
    pids: tuple[int, ...]
    percent: float
    descriptors: tuple[int, ...]
    driver: str
    busy_ns: float = 0.0

    def text(self) -> str:
        """As amdgpu shows it; of one length, so that a reader always finds a whole number."""
        if self.driver == "silent":
            return "pos:\t0\nflags:\t02100002\nmnt_id:\t29\nino:\t612\n"
        return (
            f"pos:\t0\ndrm-driver:\t{self.driver}\ndrm-client-id:\t{self.number}\n"
            f"drm-pdev:\t{SLOT}\ndrm-memory-vram:\t2048 KiB\n"
            f"drm-engine-gfx:\t{round(self.busy_ns):<20} ns\n"
        )


class Clients:
    """A /proc below ``root`` with clients of the card at `SLOT`, which go on until it is left."""

    def __init__(self, root: Path) -> None:
        self.proc = root / "proc"
        if self.proc.is_symlink():
            self.proc.unlink()
        (self.proc / "1" / "fd").mkdir(parents=True)
        # Without `self`, by which a reader would find out whose /proc it is.
        for name in os.listdir("/proc"):
            if not name.isdigit() and name not in ("self", "thread-self"):
                (self.proc / name).symlink_to(f"/proc/{name}")
        self.clients: list[Client] = []
        self._lock = threading.Lock()
        self._stops = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def open(
        self,
        *pids: int,
        percent: float = 0.0,
        descriptors: tuple[int, ...] = (5,),
        driver: str = "amdgpu",
    ) -> Client:
        """Processes have a device open and keep it busy for ``percent`` of the time from now on."""
        number = 11 + len(self.clients)
        client = Client(number, pids, percent, descriptors, driver)
        with self._lock:
            self.clients.append(client)
            for pid in pids:
                for name in ("fd", "fdinfo"):
                    (self.proc / str(pid) / name).mkdir(parents=True, exist_ok=True)
            self._write(client)
            for pid in pids:
                for descriptor in descriptors:
                    link = self.proc / str(pid) / "fd" / str(descriptor)
                    link.symlink_to("/dev/dri/renderD128")
        return client

    def vanish(self, client: Client) -> None:
        """The processes of a client end."""
        with self._lock:
            self.clients.remove(client)
            for pid in client.pids:
                shutil.rmtree(self.proc / str(pid))

    def _write(self, client: Client) -> None:
        for pid in client.pids:
            for descriptor in client.descriptors:
                path = self.proc / str(pid) / "fdinfo" / str(descriptor)
                handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
                os.pwrite(handle, client.text().encode(), 0)
                os.close(handle)

    def _run(self) -> None:
        then = time.monotonic_ns()
        while not self._stops.wait(STEP):
            now = time.monotonic_ns()
            with self._lock:
                for client in self.clients:
                    client.busy_ns += client.percent / 100 * (now - then)
                    self._write(client)
            then = now

    def __enter__(self) -> Clients:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stops.set()
        self._thread.join()
