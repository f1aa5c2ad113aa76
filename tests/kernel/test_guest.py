"""A guest meters by the ring that its host's agent writes for it, mounted by 9p.

The host is this machine, with an energy counter of known power. The guest is an emulated machine.
It looks at the ring itself at both edges of each window, past every cache, so the host's joules of
the window are known to one sample (0.1 s) on either side, and the host's own log shows that these
samples are what was written.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.kernel import table
from tests.kernel.machines import Machine, Outcome, boot
from tests.kernel.test_kernel import folder as folder  # the fixture
from tests.support.agent_tools import AgentProcess, shared_folder
from tests.support.powercap_files import FakeMachine

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(1800)]

WATTS = 60.0
"""Of the host's package."""

SHARES = {
    f"9p, cache={cache}": [
        *("-t", "9p", "-o", f"ro,trans=virtio,version=9p2000.L,cache={cache}"),
        "lithowatt",
    ]
    for cache in ("none", "loose", "mmap")
} | {"virtio-fs, cache=auto": ["-t", "virtiofs", "-o", "ro", "lithowatt-fs"]}
"""How the guest mounts its host's folder. But with ``none`` its kernel keeps pages of the file."""

VIRTIOFSD = Path("/usr/lib/qemu/virtiofsd")
"""The daemon of virtio-fs that comes with qemu 5 to 7; later ones take other arguments."""

MEMORY_MB = 1024

SAMPLE_WORDS = 9


@dataclass
class Host:
    """A host of known power, its agent, and what that wrote for its guest."""

    place: Path
    totals: dict[int, int] = field(default_factory=dict)

    @contextmanager
    def beside(self, pid: int) -> Iterator[None]:
        """The agent runs for the guest whose process is ``pid``."""
        machine = FakeMachine(self.place / f"host-{pid}")
        self.totals.clear()
        ended = threading.Event()

        def count() -> None:
            began = time.monotonic()
            while not ended.wait(0.002):
                machine.set(
                    "intel-rapl:0", 1_000_000 + round((time.monotonic() - began) * WATTS * 1e6)
                )

        def follow() -> None:
            ring = self.place / "guests/vm/ring"
            while not ended.wait(0.02):
                if ring.exists():
                    self.totals.update(samples(ring.read_bytes()))

        threads = [threading.Thread(target=one, daemon=True) for one in (count, follow)]
        for thread in threads:
            thread.start()
        options = ("--guest", f"vm={pid}", "--guest-folder", str(self.place / "guests"))
        try:
            with AgentProcess(machine.root, self.place / f"agent-{pid}/ring", *options):
                yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()


def samples(ring: bytes) -> dict[int, int]:
    """Energy (µJ) of the samples of a guest's ring, by their numbers."""
    found = {}
    for at in range(8192, len(ring), SAMPLE_WORDS * 8):
        words = [int.from_bytes(ring[at + 8 * i : at + 8 * i + 8], "little") for i in range(9)]
        if words[0]:
            found[words[0]] = words[7]
    return found


@pytest.fixture(scope="session")
def guest(folder: Path) -> tuple[Host, Outcome]:
    """The host and what its guest found."""
    place = shared_folder()
    (place / "guests").mkdir()
    (place / "guests/vm").mkdir()
    host = Host(place)
    share = f"local,id=host,path={place / 'guests/vm'},security_model=none,readonly=on"
    devices = ["-fsdev", share, "-device", "virtio-9p-pci,fsdev=host,mount_tag=lithowatt"]
    names = [name for name in SHARES if VIRTIOFSD.exists() or "virtio-fs" not in name]
    with virtio_fs(place) as socket:
        if VIRTIOFSD.exists():
            memory = f"memory-backend-memfd,id=memory,size={MEMORY_MB}M,share=on"
            devices += ["-object", memory, "-numa", "node,memdev=memory"]
            devices += ["-chardev", f"socket,id=fs,path={socket}"]
            devices += ["-device", "vhost-user-fs-pci,chardev=fs,tag=lithowatt-fs"]
        steps = [{"name": name, "kind": "guest", "share": SHARES[name]} for name in names]
        machine = Machine(
            "guest",
            "Skylake-Client-v1,model=158,stepping=10",
            "2",
            [{"name": "guest", "powers": {}, "steps": steps}],
            memory_mb=MEMORY_MB,
            devices=tuple(devices),
            modules=("fs/netfs/netfs", "fs/9p/9p", "net/9p/9pnet", "net/9p/9pnet_virtio"),
        )
        return host, boot(machine, folder, host.beside)


@contextmanager
def virtio_fs(place: Path) -> Iterator[Path]:
    """The daemon of virtio-fs at a socket, again for each boot."""
    socket = place / "virtio-fs"
    ended = threading.Event()
    command = [VIRTIOFSD, f"--socket-path={socket}", "-o", f"source={place / 'guests/vm'}"]
    command += ["-o", "cache=auto", "-o", "sandbox=chroot", "-f"]

    def serve() -> None:
        while not ended.is_set():
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as daemon:
                while daemon.poll() is None and not ended.wait(0.1):
                    pass
                daemon.kill()

    thread = threading.Thread(target=serve, daemon=True)
    if VIRTIOFSD.exists():
        thread.start()
        while not socket.exists():
            time.sleep(0.05)
    try:
        yield socket
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()


@pytest.mark.parametrize("share", SHARES)
def test_a_guest_reads_its_part_of_its_hosts_energy(
    guest: tuple[Host, Outcome], share: str
) -> None:
    if "virtio-fs" in share and not VIRTIOFSD.exists():
        pytest.skip(f"there is no {VIRTIOFSD}")
    host, outcome = guest
    results = [one["found"] for one in outcome.results if one["step"]["name"] == share]
    found = results[0] if results else None
    assert found is not None, outcome.console[-4000:]
    assert "windows" in found, found
    held = []
    for window in found["windows"]:
        assert window["method"] == "guest+cputime", window
        (begin, begun, ending, ended) = (edge for edge in window["edges"])
        for number, _, uj in window["edges"]:
            assert host.totals[number] == uj
        # A sample is of up to 0.1 s before the moment, and the next one of 0.1 s after it.
        least = (host.totals[ending[0]] - host.totals[begun[0] + 1]) * 1e-6
        most = (host.totals[ended[0] + 1] - host.totals[begin[0]]) * 1e-6
        middle = (host.totals[ended[0]] - host.totals[begin[0]]) * 1e-6
        value, low, high = window["guest"]
        inside = low <= most and high >= least
        held.append(inside)
        table.add_guest(share, window, (least, middle, most), inside)
        assert value > 0
    assert sum(held) >= 0.9 * len(held), (sum(held), len(held))
    long = [one for one in found["windows"] if one["seconds"] == 2.0]
    read = sum(one["guest"][0] for one in long)
    really = sum(host.totals[one["edges"][3][0]] - host.totals[one["edges"][0][0]] for one in long)
    assert read == pytest.approx(really * 1e-6, rel=0.1)
    assert "above idle" in found["windows"][0]["notes"][0]


def test_a_guest_is_told_what_it_has(guest: tuple[Host, Outcome]) -> None:
    _, outcome = guest
    found = outcome.results[0]["found"]
    assert "measured joules by guest" in found["doctor"]["text"]
    assert found["stats"].startswith("measured: guest vm")
