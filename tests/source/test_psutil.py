"""The psutil keys against psutil itself, on the same window.

Counters that only go up are compared without a tolerance: psutil is read just outside and just
inside of the window, and the meter's value must lie between the two differences. A fake ``/proc``
whose text does not move by itself, read by both, gives exact comparisons.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from lithowatt import EnergyMeter, _core

pytestmark = pytest.mark.quiet

MIB = 1 << 20
TICK = 1 / os.sysconf("SC_CLK_TCK")
"""psutil's CPU times come in steps of this, s."""

KEYS = (
    "cpu_percent",
    "memory_percent",
    "memory_used_mb",
    "load_1m",
    "disk_io_read_mb",
    "disk_io_write_mb",
    "network_sent_mb",
    "network_recv_mb",
    "process_cpu_percent",
    "process_memory_mb",
    "process_memory_peak_mb",
    "cpu_freq_current",
    "cpu_temp_celsius",
)

Steady = Callable[[Callable[[], None]], None]


def values(meter: EnergyMeter) -> dict[str, Any]:
    """The psutil metrics of a meter by their short names."""
    stats = meter.stats()
    return {key: stats[f"worker_func_psutil_{key}"] for key in KEYS}


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


# -- the machine --------------------------------------------------------------------------------


def test_cpu_percent_of_the_machine(steady: Steady) -> None:
    @steady
    def check() -> None:
        psutil.cpu_percent(None)
        with EnergyMeter(methods="psutil") as m:
            spin(0.8)
        theirs = psutil.cpu_percent(None)
        ours = values(m)["cpu_percent"]
        # Two ticks at each edge of 80 per CPU, and psutil rounds to 0.1.
        assert ours == pytest.approx(theirs, abs=5.0)
        assert ours >= 100 / (os.cpu_count() or 1) - 10


def test_memory_of_the_machine(steady: Steady) -> None:
    @steady
    def check() -> None:
        with EnergyMeter(methods="psutil") as m:
            before = psutil.virtual_memory()
        after = psutil.virtual_memory()
        ours = values(m)
        # Others allocate and free meanwhile.
        slack = 64.0
        used = sorted((x.total - x.available) / MIB for x in (before, after))
        assert used[0] - slack <= ours["memory_used_mb"] <= used[1] + slack
        percents = sorted((before.percent, after.percent))
        point = 100 * slack * MIB / after.total + 0.1
        assert percents[0] - point <= ours["memory_percent"] <= percents[1] + point


def test_load(steady: Steady) -> None:
    @steady
    def check() -> None:
        before = psutil.getloadavg()[0]
        with EnergyMeter(methods="psutil") as m:
            pass
        after = psutil.getloadavg()[0]
        low, high = sorted((before, after))
        assert low - 0.01 <= values(m)["load_1m"] <= high + 0.01


def between(
    read: Callable[[], tuple[int, int]], work: Callable[[], object]
) -> tuple[EnergyMeter, list[tuple[float, float]]]:
    """A meter round ``work`` and, for each of two byte counters, the MiB it may show."""
    outside = read()
    with EnergyMeter(methods="psutil") as m:
        inside = read()
        work()
        inside_end = read()
    outside_end = read()
    return m, [
        ((inside_end[i] - inside[i]) / MIB, (outside_end[i] - outside[i]) / MIB) for i in (0, 1)
    ]


def test_disk_bytes(tmp_path: Path) -> None:
    def read() -> tuple[int, int]:
        io = psutil.disk_io_counters(nowrap=False)
        return (io.read_bytes, io.write_bytes) if io else (0, 0)

    def write() -> None:
        with open(tmp_path / "file", "wb") as file:
            file.write(os.urandom(4 * MIB))
            file.flush()
            os.fsync(file.fileno())

    if psutil.disk_io_counters() is None:
        pytest.skip("this machine shows no disks")
    m, ((least_read, most_read), (least_written, most_written)) = between(read, write)
    ours = values(m)
    assert least_read <= ours["disk_io_read_mb"] <= most_read
    assert least_written <= ours["disk_io_write_mb"] <= most_written
    if least_written > 0:  # not so on a tmpfs
        assert ours["disk_io_write_mb"] > 3.9


def loopback(megabytes: int) -> None:
    """Sends that much through a TCP connection to this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = socket.create_connection(server.getsockname())
        receiver, _ = server.accept()
        with sender, receiver:

            def send() -> None:
                sender.sendall(bytes(megabytes * MIB))
                sender.shutdown(socket.SHUT_WR)

            thread = threading.Thread(target=send)
            thread.start()
            while receiver.recv(MIB):
                pass
            thread.join()


def test_network_bytes() -> None:
    def read() -> tuple[int, int]:
        io = psutil.net_io_counters(nowrap=False)
        return io.bytes_sent, io.bytes_recv

    m, ((least_sent, most_sent), (least_received, most_received)) = between(
        read, lambda: loopback(8)
    )
    ours = values(m)
    assert 8.0 <= least_sent <= ours["network_sent_mb"] <= most_sent
    assert 8.0 <= least_received <= ours["network_recv_mb"] <= most_received


def test_frequency_where_the_kernel_shows_one() -> None:
    with EnergyMeter(methods="psutil") as m:
        pass
    ours = values(m)["cpu_freq_current"]
    if not Path("/sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq").exists():
        pytest.skip("this machine has no cpufreq")
    assert ours == pytest.approx(psutil.cpu_freq().current, rel=0.5)


# -- the process --------------------------------------------------------------------------------


def test_cpu_percent_of_the_process(steady: Steady) -> None:
    @steady
    def check() -> None:
        process = psutil.Process()
        process.cpu_percent(None)
        with EnergyMeter(methods="psutil") as m:
            spin(0.5)
            time.sleep(0.3)
        theirs = process.cpu_percent(None)
        # psutil counts whole ticks of user and of system time, at both edges.
        tolerance = 100 * 4 * TICK / m.duration
        assert values(m)["process_cpu_percent"] == pytest.approx(theirs, abs=tolerance)


def test_cpu_time_is_that_of_getrusage() -> None:
    def cpu() -> float:
        return time.process_time()

    outside = cpu()
    with EnergyMeter(methods="psutil") as m:
        # Of this thread: the meter's own, which is taken off, is in the process's.
        inside = time.thread_time()
        spin(0.1)
        inside = time.thread_time() - inside
    outside = cpu() - outside
    assert inside <= m.reading.cpu_seconds <= outside
    ours = values(m)["process_cpu_percent"]
    assert ours == pytest.approx(100 * m.reading.cpu_seconds / m.duration)


def test_threads_of_the_process_are_counted() -> None:
    outside = time.process_time()
    with EnergyMeter(methods="psutil") as m:
        threads = [threading.Thread(target=spin, args=(0.2,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    outside = time.process_time() - outside
    assert 0.9 * outside <= m.reading.cpu_seconds <= outside


BURN = (
    "import time\n"
    "while time.process_time() < {seconds}: pass\n"
    "print(time.process_time(), flush=True)\n"
)


def burn_in_a_child(seconds: float, times: int = 1) -> float:
    """CPU time that children used until they printed it, s. They are dead when this returns."""
    used = 0.0
    for _ in range(times):
        command = [sys.executable, "-S", "-c", BURN.format(seconds=seconds)]
        used += float(subprocess.run(command, capture_output=True, check=True).stdout)
    return used


def children_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system


def test_children_that_died_are_counted() -> None:
    outside = time.process_time() + children_seconds()
    with EnergyMeter(methods="psutil") as m:
        used = burn_in_a_child(0.3, times=2)
    outside = time.process_time() + children_seconds() - outside
    # os.times() comes in ticks.
    assert used <= m.reading.cpu_seconds <= outside + 2 * TICK
    assert values(m)["process_cpu_percent"] >= 100 * used / m.duration


def test_children_are_left_out_when_asked() -> None:
    with EnergyMeter(methods="psutil", children=False) as m:
        used = burn_in_a_child(0.3)
    assert m.reading.cpu_seconds < used / 2


def test_a_living_child_is_counted_and_its_memory_too() -> None:
    code = "b = bytearray(64 << 20); print('ready', flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        with EnergyMeter(methods="psutil") as m:
            pass
        theirs = sum(psutil.Process(pid).memory_info().rss for pid in (os.getpid(), child.pid))
    finally:
        child.communicate(b"\n")
    assert values(m)["process_memory_mb"] == pytest.approx(theirs / MIB, abs=2.0)


def test_another_process() -> None:
    code = BURN.format(seconds=0.3) + "input()"
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        process = psutil.Process(child.pid)
        begun = sum(process.cpu_times()[:2])
        with EnergyMeter(methods="psutil", pid=child.pid) as m:
            assert child.stdout is not None
            child.stdout.readline()
        theirs = sum(process.cpu_times()[:2]) - begun
        rss = process.memory_info().rss
    finally:
        child.communicate(b"\n")
    assert m.reading.cpu_seconds == pytest.approx(theirs, abs=4 * TICK)
    assert values(m)["process_memory_mb"] == pytest.approx(rss / MIB, abs=2.0)


def test_memory_of_the_process() -> None:
    process = psutil.Process()
    block = bytearray(32 * MIB)
    with EnergyMeter(methods="psutil") as m:
        inside = process.memory_info().rss
    outside = process.memory_info().rss
    del block
    ours = values(m)
    low, high = sorted((inside, outside))
    assert low / MIB - 2 <= ours["process_memory_mb"] <= high / MIB + 2
    assert ours["process_memory_peak_mb"] >= ours["process_memory_mb"]


PEAK = (
    "from lithowatt import EnergyMeter\n"
    "with EnergyMeter(methods='psutil'{more}) as m:\n"
    "    b = bytearray(50 << 20); del b\n"
    "r = m.reading.raw['system']\n"
    "print(r['process_memory_mb'], r['process_memory_peak_mb'])\n"
)


@pytest.mark.parametrize("more", ["", ", interval=None"])
@pytest.mark.parametrize("parent_mb", [0, 200])
def test_a_peak_that_is_freed_again_is_seen(more: str, parent_mb: int) -> None:
    # A process of its own that never used so much before; Linux hands the parent's peak down.
    parent = bytearray(parent_mb * MIB)
    done = subprocess.run(
        [sys.executable, "-c", PEAK.format(more=more)],
        capture_output=True,
        text=True,
        check=True,
    )
    del parent
    now, peak = map(float, done.stdout.split())
    # At the end of the window the meter may have a MiB of its own that it had not at the peak.
    assert now + 48 <= peak <= now + 60


def test_a_peak_before_the_window_is_not_in_it() -> None:
    code = "b = bytearray(80 << 20); del b\n" + PEAK.replace("50 << 20", "1 << 20").format(more="")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    now, peak = map(float, done.stdout.split())
    assert peak < now + 10


# -- nothing to see is None ---------------------------------------------------------------------


STAT = "cpu  {} 0 100 {} 7 1 2 3 0 0\ncpu0 100 0 100 1000 7 1 2 3 0 0\nbtime 1700000000\n"


@pytest.fixture
def still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A root whose /proc moves only when a test writes it; psutil reads it, too."""
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "sys").symlink_to("/sys")
    for name, text in {
        "stat": STAT.format(100, 1000),
        "uptime": "100.00 10.00\n",
        "loadavg": "1.25 0.50 0.10 1/100 1234\n",
        "meminfo": (
            "MemTotal: 1000000 kB\nMemFree: 100000 kB\nMemAvailable: 400000 kB\nBuffers: 5000 kB\n"
            "Cached: 300000 kB\nActive: 1 kB\nInactive: 1 kB\nShmem: 10 kB\nSReclaimable: 3 kB\n"
        ),
        "net/dev": network(1000, 2000),
        "diskstats": disks(100, 200),
    }.items():
        (tmp_path / "proc" / name).write_text(text)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "proc"))
    yield tmp_path


def network(received: int, sent: int) -> str:
    """A /proc/net/dev with loopback and one interface."""
    return (
        "Inter-|   Receive                            |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n"
        f"    lo: {received} 1 0 0 0 0 0 0 {received} 1 0 0 0 0 0 0\n"
        f"  eth0:{received} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0\n"
    )


def disks(read: int, written: int) -> str:
    """A /proc/diskstats of the disks that this machine has, and a partition of each."""
    lines = []
    for disk in sorted(os.listdir("/sys/block")):
        numbers = f"10 0 {read} 5 20 0 {written} 6 0 7 8"
        lines += [f" 254 0 {disk} {numbers}", f" 254 1 {disk}p1 {numbers}"]
    return "\n".join(lines) + "\n"


def test_cpu_percent_by_psutils_own_formula(still: Path) -> None:
    psutil.cpu_percent(None)
    with EnergyMeter(root=still) as m:
        (still / "proc/stat").write_text(STAT.format(137, 1063))
    assert values(m)["cpu_percent"] == pytest.approx(psutil.cpu_percent(None), abs=0.05)
    assert values(m)["cpu_percent"] == pytest.approx(37.0)


def test_iowait_is_idle_and_guest_is_not_counted_twice(still: Path) -> None:
    line = "cpu  {} {} {} {} {} {} {} {} {} {}\n"
    (still / "proc/stat").write_text(line.format(100, 10, 50, 500, 20, 3, 4, 5, 60, 6))
    psutil.cpu_percent(None)
    with EnergyMeter(root=still) as m:
        (still / "proc/stat").write_text(line.format(150, 20, 70, 560, 60, 6, 9, 12, 80, 11))
    assert values(m)["cpu_percent"] == pytest.approx(psutil.cpu_percent(None), abs=0.05)


def test_memory_load_disk_and_network_to_the_byte(still: Path) -> None:
    disk, net = psutil.disk_io_counters(nowrap=False), psutil.net_io_counters(nowrap=False)
    with EnergyMeter(root=still) as m:
        (still / "proc/net/dev").write_text(network(6_000_000, 9_000_000))
        (still / "proc/diskstats").write_text(disks(8_100, 16_200))
    ours = values(m)
    memory = psutil.virtual_memory()
    assert ours["memory_used_mb"] == (memory.total - memory.available) / MIB
    assert ours["memory_percent"] == pytest.approx(memory.percent, abs=0.05)
    assert ours["load_1m"] == 1.25
    disk_end, net_end = psutil.disk_io_counters(nowrap=False), psutil.net_io_counters(nowrap=False)
    assert ours["network_sent_mb"] == (net_end.bytes_sent - net.bytes_sent) / MIB
    assert ours["network_recv_mb"] == (net_end.bytes_recv - net.bytes_recv) / MIB
    if disk is None or disk_end is None:
        return
    assert ours["disk_io_read_mb"] == (disk_end.read_bytes - disk.read_bytes) / MIB
    assert ours["disk_io_write_mb"] == (disk_end.write_bytes - disk.write_bytes) / MIB


def test_a_window_without_a_tick_has_no_percentage(still: Path) -> None:
    with EnergyMeter(root=still) as m:
        pass
    stats = m.stats()
    assert stats["worker_func_psutil_cpu_percent"] is None
    assert stats["worker_func_psutil_available"] is True
    assert "cpu_percent" in stats["worker_func_psutil_source"], "no reason given"


def test_short_windows_are_none_or_what_a_tick_said() -> None:
    seen = []
    for _ in range(50):
        with EnergyMeter(methods="psutil") as m:
            spin(0.001)
        seen.append(values(m))
    # A tick comes every 1 to 10 ms on each CPU, so most of these windows saw none.
    assert None in [v["cpu_percent"] for v in seen]
    for v in seen:
        # The CPU clock has no ticks: it sees a busy millisecond as busy.
        assert v["process_cpu_percent"] > 0


def test_what_this_machine_does_not_have_is_none(still: Path) -> None:
    (still / "sys").unlink()
    (still / "sys").mkdir()
    for name in ("net/dev", "diskstats", "loadavg", "meminfo"):
        (still / "proc" / name).unlink()
    with EnergyMeter(root=still) as m:
        spin(0.02)
    missing = {key for key, value in values(m).items() if value is None}
    process = {"process_cpu_percent", "process_memory_mb", "process_memory_peak_mb"}
    assert missing == set(KEYS) - process


def test_no_disk_is_not_zero_bytes(still: Path) -> None:
    (still / "proc/diskstats").write_text("")
    with EnergyMeter(root=still) as m:
        pass
    assert values(m)["disk_io_read_mb"] is None
    assert values(m)["disk_io_write_mb"] is None


def test_a_fake_sensor_and_frequency_are_read(still: Path) -> None:
    (still / "sys").unlink()
    sensor = still / "sys/class/hwmon/hwmon0"
    policy = still / "sys/devices/system/cpu/cpufreq/policy0"
    for directory in (sensor, policy):
        directory.mkdir(parents=True)
    (sensor / "name").write_text("coretemp\n")
    (sensor / "temp1_input").write_text("61500\n")
    (policy / "scaling_cur_freq").write_text("2400000\n")
    with EnergyMeter(root=still) as m:
        pass
    assert values(m)["cpu_temp_celsius"] == 61.5
    assert values(m)["cpu_freq_current"] == 2400.0


@pytest.mark.parametrize("text", ["nan\n", "inf\n", "-999999\n", "", "hot\n", "9" * 30])
def test_a_sensor_that_talks_nonsense_is_none(still: Path, text: str) -> None:
    (still / "sys").unlink()
    policy = still / "sys/devices/system/cpu/cpufreq/policy0"
    policy.mkdir(parents=True)
    (policy / "scaling_cur_freq").write_text(text)
    (still / "proc/loadavg").write_text(text)
    cpufreq = still / "sys/devices/system/cpu/cpu0/cpufreq"
    sensor = still / "sys/class/hwmon/hwmon0"
    for directory in (cpufreq, sensor):
        directory.mkdir(parents=True)
    (sensor / "name").write_text("coretemp\n")
    (sensor / "temp1_input").write_text(text)
    for name in ("cpuinfo_max_freq", "scaling_max_freq", "base_frequency"):
        (cpufreq / name).write_text(text)
    (cpufreq / "scaling_governor").write_bytes(b"\0perf\x1b[m\n")
    with EnergyMeter(root=still) as m:
        pass
    assert values(m)["cpu_freq_current"] is None
    assert values(m)["cpu_temp_celsius"] is None
    identity = _core.cpu_identity(still)
    assert [identity[name] for name in ("max_mhz", "limit_mhz", "governor")] == [None] * 3
    assert values(m)["load_1m"] is None


def test_frequency_falls_back_to_cpuinfo_as_psutil_does(still: Path) -> None:
    (still / "sys").unlink()
    (still / "proc/cpuinfo").write_text(
        "processor : 0\ncpu MHz : 2000.0\n\nprocessor : 1\ncpu MHz : 3000.0\n\n"
    )
    with EnergyMeter(root=still) as m:
        pass
    assert values(m)["cpu_freq_current"] == pytest.approx(2500.0)


def test_counters_that_go_back_are_not_negative(still: Path) -> None:
    with EnergyMeter(root=still) as m:
        (still / "proc/net/dev").write_text(network(1, 2))
        (still / "proc/diskstats").write_text(disks(1, 2))
        (still / "proc/stat").write_text(STAT.format(1, 2))
    assert all(value is None or value >= 0 for value in values(m).values())
