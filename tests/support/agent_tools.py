"""A node agent for tests, and roots of machines whose counters may not be read."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from lithowatt import _core
from lithowatt.errors import AgentError


def shared_folder() -> Path:
    """A folder in memory where there is one, as /run is; others may look into it."""
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="lithowatt-agent-", dir=base))
    folder.chmod(0o755)
    return folder


class AgentProcess:
    """``lithowatt agent`` in a process of its own, as a context manager.

    Attributes:
        ring: path of its ring.
    """

    def __init__(self, root: Path, ring: Path, *options: str, **environment: str) -> None:
        self.root = root
        self.ring = ring
        self.options = options
        self.environment = {**os.environ, **environment}
        self.process: subprocess.Popen[bytes] | None = None
        ring.parent.parent.mkdir(exist_ok=True)
        self.said = ring.parent.parent / "agent.log"

    def start(self) -> None:
        """Starts it and waits until its ring is there."""
        metrics = () if "--metrics" in self.options else ("--metrics", "off")
        command = [sys.executable, "-m", "lithowatt", "agent", "--root", str(self.root)]
        command += ["--ring", str(self.ring), *metrics, *self.options]
        with self.said.open("a") as said:
            self.process = subprocess.Popen(command, env=self.environment, stderr=said)
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(AgentError):
                header = _core.Ring(self.ring, self.root).header()
                if self._wrote(header):
                    return
            if self.process.poll() is not None:
                raise RuntimeError(self.said.read_text())
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError("the agent made no ring")
            time.sleep(0.02)

    def _wrote(self, header: dict[str, Any]) -> bool:
        """Whether this process made the ring: its lock says who."""
        assert self.process is not None
        if "--mirror" in self.options:
            return bool(header)
        lock = self.ring.with_name("agent.lock").read_text().strip()
        return bool(header) and lock == str(self.process.pid)

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        return code

    def cpu_seconds(self) -> float:
        """CPU time of all its threads so far, s."""
        assert self.process is not None
        tasks = Path(f"/proc/{self.process.pid}/task")
        return sum(
            int((task / "schedstat").read_text().split()[0]) * 1e-9 for task in tasks.iterdir()
        )

    def __enter__(self) -> AgentProcess:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.end()


def blind_root(path: Path) -> Path:
    """A root like this machine's, but without any energy counter: what a pod sees."""
    root = path / "blind"
    (root / "sys/class/powercap").mkdir(parents=True)
    (root / "sys/bus/event_source/devices").mkdir(parents=True)
    (root / "run").mkdir()
    for real, here in (
        ("/proc", "proc"),
        ("/sys/devices", "sys/devices"),
        ("/sys/fs", "sys/fs"),
        ("/sys/block", "sys/block"),
    ):
        (root / here).symlink_to(real)
    return root


@contextlib.contextmanager
def burning(share: float = 1.0) -> Iterator[subprocess.Popen[bytes]]:
    """A process that uses a CPU for ``share`` of the time."""
    code = (
        "import time, sys\n"
        "share = float(sys.argv[1])\n"
        "while True:\n"
        "    end = time.monotonic() + 0.02 * share\n"
        "    while time.monotonic() < end: pass\n"
        "    if share < 1: time.sleep(0.02 * (1 - share))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(share)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()
