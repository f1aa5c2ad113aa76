"""The node agent: what it publishes, who may read it, and what a meter makes of it."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lithowatt import EnergyMeter, _core
from lithowatt.agent import _server
from lithowatt.errors import AgentError
from rig import Rig, StaticTree
from tests.support.agent_tools import AgentProcess, blind_root, burning, shared_folder

pytestmark = pytest.mark.quiet


@pytest.fixture
def folder() -> Iterator[Path]:
    path = shared_folder()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def tree(folder: Path) -> StaticTree:
    return StaticTree(folder / "root", packages=2, domains=("package", "dram"))


def spin(seconds: float) -> int:
    end = time.monotonic() + seconds
    turns = 0
    while time.monotonic() < end:
        turns += 1
    return turns


def through_agent(method: str | None) -> bool:
    """Whether the counters are the agent's; the weight is the probes' where they are loaded."""
    return method in ("rapl+cputime via agent", "rapl+ebpf via agent")


def add_to_all(tree: StaticTree, microjoules: int) -> None:
    for zone in tree.zones:
        tree.add(zone.key, microjoules)


# -- the command ------------------------------------------------------------------------------


def test_a_ring_is_there_for_everybody_and_written_by_one(folder: Path, tree: StaticTree) -> None:
    ring = folder / "lithowatt" / "ring"
    with AgentProcess(tree.root, ring):
        assert stat.S_IMODE(ring.stat().st_mode) == 0o644
        assert stat.S_IMODE(ring.parent.stat().st_mode) == 0o755
        second = subprocess.run(
            [
                sys.executable,
                "-m",
                "lithowatt",
                "agent",
                "--root",
                str(tree.root),
                "--ring",
                str(ring),
                "--metrics",
                "off",
            ],
            capture_output=True,
            text=True,
        )
        assert second.returncode == 2
        assert "another one, pid" in second.stderr
        tree.add("package-0", 2_500_000)
        time.sleep(0.1)
        look = _core.Ring(ring, tree.root).look()
        assert look["joules"]["package-0"] == pytest.approx(3.5)
        assert look["joules"]["package-0/dram"] == pytest.approx(1.0)


def test_show_tells_what_the_ring_says(folder: Path, tree: StaticTree) -> None:
    ring = folder / "lithowatt" / "ring"
    command = [sys.executable, "-m", "lithowatt", "agent", "--show", "--ring", str(ring)]
    before = subprocess.run(command, capture_output=True, text=True)
    assert before.returncode == 2
    # Nothing was to run.
    assert before.stderr.startswith(f"lithowatt: no agent: there is no ring {ring}; expected ")
    assert "fix: " in before.stderr
    with AgentProcess(tree.root, ring, "--round", "0.1", "--node", "n1"):
        time.sleep(0.3)
        shown = subprocess.run(command, capture_output=True, text=True)
        assert shown.returncode == 0, shown.stderr
        assert "agent" in shown.stdout and "on n1" in shown.stdout
        assert "package-1/dram: 1 J" in shown.stdout
        told = json.loads(subprocess.check_output([*command, "--json"], text=True))
        assert told["header"]["period_ns"] == 10_000_000
        assert told["account"]["round"] >= 1
        word = told["account"]["idle_source"]
        assert word in ("learned", "calibrated", "configured", "modelled")
        assert f"J ({word})" in shown.stdout or f" ({word})\n" in shown.stdout


def test_show_says_that_there_are_no_containers(folder: Path, tree: StaticTree) -> None:
    ring = folder / "lithowatt" / "ring"
    command = [sys.executable, "-m", "lithowatt", "agent", "--show", "--ring", str(ring)]
    with AgentProcess(tree.root, ring, "--round", "0.1", "--no-containers"):
        deadline = time.monotonic() + 20
        while "since the ring began" not in (shown := subprocess.check_output(command, text=True)):
            assert time.monotonic() < deadline
    assert "no containers" in shown


def test_a_clean_stop_is_no_death(folder: Path, tree: StaticTree) -> None:
    blind = blind_root(folder)
    ring = blind / "run/lithowatt/ring"
    agent = AgentProcess(tree.root, ring)
    agent.start()
    held = _core.Ring(ring, blind)
    assert agent.end() == 0
    with pytest.raises(AgentError, match="the node agent was stopped"):
        held.look()
    command = [sys.executable, "-m", "lithowatt", "agent", "--show", "--ring", str(ring)]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert shown.returncode == 2
    assert shown.stderr.startswith(f"lithowatt: {ring}: the node agent was stopped")
    with EnergyMeter(root=blind) as meter:
        spin(0.01)
    assert "was stopped" in meter.stats()["worker_func_rapl_source"]


def test_a_second_agent_with_the_same_port_is_told_of_the_first(
    folder: Path, tree: StaticTree
) -> None:
    ring = folder / "lithowatt" / "ring"
    address = f"127.0.0.1:{free_port()}"
    with AgentProcess(tree.root, ring, "--metrics", address) as first:
        deadline = time.monotonic() + 30  # the ring is there a little before it is announced
        while not (said := first.said.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert f"http://{address}/metrics" in said
        command = [sys.executable, "-m", "lithowatt", "agent", "--root", str(tree.root)]
        second = subprocess.run(
            [*command, "--ring", str(ring), "--metrics", address], capture_output=True, text=True
        )
        assert second.returncode == 2
        assert first.process is not None
        assert f"another one, pid {first.process.pid}, writes" in second.stderr


@pytest.mark.parametrize("more", [(), ("--mirror", "http://127.0.0.1:9")])
def test_a_ring_that_is_a_directory_is_refused_without_a_trace(
    folder: Path, tree: StaticTree, more: tuple[str, ...]
) -> None:
    place = folder / "lithowatt" / "ring"
    place.mkdir(parents=True)
    command = [sys.executable, "-m", "lithowatt", "agent", "--root", str(tree.root)]
    done = subprocess.run(
        [*command, "--ring", str(place), "--metrics", "off", *more],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "is a directory" in done.stderr
    assert os.listdir(place.parent) == ["ring"]


def test_a_ring_on_a_disk_is_shown_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from lithowatt.agent import _run

    # In a folder that all may write to, anybody may have made the ring's folder before.
    memory = {"/dev/shm/lithowatt/ring", "/tmp/lithowatt/ring"}
    monkeypatch.setattr(_run, "_in_memory", lambda path: path in memory)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert "one that is mounted" in _run._place_in_memory()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/")
    memory.add("//lithowatt/ring")
    assert _run._place_in_memory() == "//lithowatt/ring"
    memory.add("/run/lithowatt/ring")
    assert _run._place_in_memory() == "/run/lithowatt/ring"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rate", "0"], "1 to 1000 samples"),
        (["--rate", "500"], "too fine"),
        (["--quantum-uj", "10"], "too fine"),
        (["--round", "nan"], "0.1 to 60"),
        (["--metrics", "nowhere"], "HOST:PORT"),
        (["--metrics", "127.0.0.1:99999"], "HOST:PORT"),
        (["--group", "no-such-group-here"], "no-such-group-here"),
        (["--group", "99999999999"], "--group '99999999999' does not exist"),
        (["--serve-ring"], "--metrics is 'off'"),
        (["--json"], "--show --json"),
        (["--mirror", "http://:9"], "--mirror 'http://:9'"),
        (["--mirror", "http://a b:9"], "http://HOST:PORT"),
        (["--mirror", "http://a:9", "--serve-ring"], "exclude each other"),
        (["--mirror", "http://a:9", "--mirror-period", "5"], "--mirror-period 5.0"),
        (["--method", "perf"], "no energy counter"),
        (["--guest", "vm=1", "--mirror", "http://a:9"], "exclude each other"),
        (["--guest-folder", "/x"], "--guest NAME=PID"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_made(
    folder: Path, tree: StaticTree, options: list[str], words: str
) -> None:
    ring = folder / "lithowatt" / "ring"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "lithowatt",
            "agent",
            "--root",
            str(tree.root),
            "--ring",
            str(ring),
            "--metrics",
            "off",
            *options,
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert not ring.exists()


@pytest.mark.parametrize("more", [(), ("--mirror", "http://127.0.0.1:9")])
def test_a_ring_that_cannot_be_made_is_said_with_a_place_that_can(
    folder: Path, tree: StaticTree, more: tuple[str, ...]
) -> None:
    place = folder / "none" / "lithowatt" / "ring"
    command = [sys.executable, "-m", "lithowatt", "agent", "--root", str(tree.root)]
    done = subprocess.run(
        [*command, "--ring", str(place), "--metrics", "off", *more],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert str(place.parent) in done.stderr and "cannot be made" in done.stderr
    assert "No such file" in done.stderr and "expected" in done.stderr
    assert "--ring" in done.stderr and "cannot read" not in done.stderr
    assert "--ring=/dev/shm" not in done.stderr


def test_a_second_mirror_is_told_of_the_first(folder: Path, tree: StaticTree) -> None:
    ring = folder / "lithowatt" / "ring"
    command = [sys.executable, "-m", "lithowatt", "agent", "--ring", str(ring)]
    command += ["--mirror", "http://127.0.0.1:9"]
    with (folder / "log").open("w") as log:
        first = subprocess.Popen(command, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while "is kept from" not in (folder / "log").read_text():
            assert time.monotonic() < deadline and first.poll() is None
            time.sleep(0.05)
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert second.returncode == 2
        assert f"another one, pid {first.pid}, writes {ring}" in second.stderr
    finally:
        first.terminate()
        first.wait()


def test_a_port_that_is_taken_is_named(folder: Path, tree: StaticTree) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RuntimeError, match=address):
            AgentProcess(tree.root, folder / "lithowatt" / "ring", "--metrics", address).start()


def test_a_finer_ring_is_for_its_group_only(folder: Path, tree: StaticTree) -> None:
    ring = folder / "lithowatt" / "ring"
    group = str(os.getegid())
    with AgentProcess(tree.root, ring, "--group", group, "--rate", "500", "--quantum-uj", "1"):
        assert stat.S_IMODE(ring.stat().st_mode) == 0o640
        tree.add("package-0", 7)
        time.sleep(0.1)
        look = _core.Ring(ring, tree.root).look()
        assert look["joules"]["package-0"] == pytest.approx(1.000007, abs=1e-9)


def test_an_agent_without_capabilities_reads_what_root_owns(folder: Path) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv")
    tree = StaticTree(folder / "root", mode=0o400)
    ring = folder / "lithowatt" / "ring"
    process = subprocess.Popen(
        [
            "setpriv",
            "--bounding-set=-all",
            "--inh-caps=-all",
            "--no-new-privs",
            sys.executable,
            "-c",
            "import sys; print([l for l in open('/proc/self/status') if 'CapEff' in l], flush=True)"
            "\nfrom lithowatt.cli import main; sys.exit(main(sys.argv[1:]))",
            "agent",
            "--root",
            str(tree.root),
            "--ring",
            str(ring),
            "--metrics",
            "off",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "0000000000000000" in process.stdout.readline()
        deadline = time.monotonic() + 20
        while not ring.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _core.Ring(ring, tree.root).look()["joules"]["package-0"] == 1.0
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


# -- metrics ----------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_metrics_are_openmetrics_and_add_up(folder: Path, tree: StaticTree) -> None:
    parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    port = free_port()
    options = ("--metrics", f"127.0.0.1:{port}", "--round", "0.2", "--node", 'n"1\\')
    with AgentProcess(tree.root, folder / "l" / "ring", *options):
        tree.add("package-0", 30_000_000)
        tree.add("package-1/dram", 5_000_000)
        time.sleep(0.6)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            text = answer.read().decode()
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", method="HEAD")
        with urllib.request.urlopen(asked, timeout=10) as answer:
            assert int(answer.headers["Content-Length"]) > 0
            assert answer.read() == b""
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/etc/passwd", timeout=10)
        # A client that says nothing keeps nobody waiting.
        with socket.create_connection(("127.0.0.1", port)):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10).close()
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    machine = families["lithowatt_machine_energy_joules"]
    assert (machine.type, machine.unit) == ("counter", "joules")
    package = {s.labels["zone"]: s.value for s in machine.samples if s.name.endswith("_total")}
    assert package["package-0"] == pytest.approx(31.0)
    assert machine.samples[0].labels["node"] == 'n"1\\'

    def total(name: str) -> float:
        samples = families[f"lithowatt_{name}_energy_joules"].samples
        return sum(s.value for s in samples if s.name.endswith("_total"))

    top = sum(
        s.value
        for s in families["lithowatt_container_energy_joules"].samples
        if s.name.endswith("_total") and not s.labels["pod_uid"]
    )
    parts = total("idle") + total("rest") + total("gone") + total("pod") + top
    assert total("node") == pytest.approx(35.0)
    assert parts == pytest.approx(total("node"), abs=1e-6)


@pytest.mark.slow
def test_a_container_s_start_is_a_number_of_its_own(folder: Path, tree: StaticTree) -> None:
    parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    container = f"{os.getpid():064x}"
    top = Path("/sys/fs/cgroup")
    own = top if (top / "cgroup.procs").exists() else top / "cpuacct"
    if not (own / "cgroup.procs").exists():
        pytest.skip("no cgroup file system at its usual place")
    group = own / f"libpod-{container}.scope"
    port = free_port()
    options = ("--metrics", f"127.0.0.1:{port}", "--round", "0.2")

    def shown() -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        families = parser.text_string_to_metric_families(text)
        samples = [sample for family in families for sample in family.samples]
        return {s.name: s.value for s in samples if s.labels.get("container_id") == container}

    with AgentProcess(tree.root, folder / "l" / "ring", *options):
        time.sleep(0.5)
        assert shown() == {}
        try:
            group.mkdir()
        except OSError as error:
            pytest.skip(f"no cgroup can be made here: {error}")
        work = [sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"]
        try:
            worker = subprocess.Popen(
                ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", *work]
            )
            for _ in range(6):
                tree.add("package-0", 3_000_000)
                time.sleep(0.2)
            assert worker.wait(60) == 0
            time.sleep(0.5)
            found = shown()
        finally:
            group.rmdir()
    joules = found["lithowatt_container_start_energy_joules"]
    assert joules == found["lithowatt_container_energy_joules_total"] > 0
    assert 1.0 < found["lithowatt_container_start_seconds"] < 10.0


# -- a meter without counters -----------------------------------------------------------------


def test_a_meter_finds_the_ring_by_itself(
    folder: Path, tree: StaticTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = blind_root(folder)
    with AgentProcess(tree.root, blind / "run/lithowatt/ring"):
        with EnergyMeter(root=blind) as meter:
            for _ in range(100):
                spin(0.005)
                add_to_all(tree, 25_000)
        reading = meter.reading
        assert through_agent(reading.method)
        # The last period is carried on, however late an agent on a busy machine is.
        assert reading.rapl.total == pytest.approx(10.0, rel=0.1)
        assert reading.rapl.source.endswith("via agent")
        assert reading.quality in ("measured", "attributed")
    with AgentProcess(tree.root, folder / "elsewhere" / "lithowatt" / "ring"):
        monkeypatch.setenv("LITHOWATT_RING", str(folder / "elsewhere" / "lithowatt" / "ring"))
        other = shutil.copytree(blind, folder / "again", symlinks=True)
        with EnergyMeter(root=other) as meter:
            spin(0.1)
            add_to_all(tree, 2_000_000)
            spin(0.1)
        assert through_agent(meter.reading.method)
        assert "via agent" in meter.stats()["worker_func_energy_method"]
        assert meter.stats()["worker_func_rapl_available"] is True


def test_counters_of_its_own_come_first(folder: Path, tree: StaticTree) -> None:
    with AgentProcess(tree.root, tree.root / "run/lithowatt/ring"):
        with EnergyMeter(root=tree.root) as meter:
            spin(0.02)
            add_to_all(tree, 2_000_000)
            spin(0.02)
        assert meter.reading.method in ("rapl+cputime", "rapl+ebpf")


def test_a_ring_that_is_dead_is_refused_with_the_reason(
    folder: Path, tree: StaticTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = blind_root(folder)
    ring = blind / "run/lithowatt/ring"
    agent = AgentProcess(tree.root, ring)
    agent.start()
    agent.kill()
    time.sleep(1.2)
    with EnergyMeter(root=blind) as meter:
        spin(0.05)
    assert meter.reading.quality == "modelled"
    assert "no sign of life" in meter.stats()["worker_func_rapl_source"]


@pytest.mark.slow
def test_a_counter_that_stands_still_is_no_zero_of_the_metrics(
    folder: Path, tree: StaticTree
) -> None:
    agent = _core.Agent(folder / "run/ring", root=tree.root)
    try:
        with tree.moving():
            time.sleep(0.3)
            moves = [zone["readable"] for zone in agent.snapshot()["zones"]]
        stands, end = [True], time.monotonic() + 20
        while any(stands) and time.monotonic() < end:
            time.sleep(0.5)
            stands = [zone["readable"] for zone in agent.snapshot()["zones"]]
    finally:
        agent.stop()
    assert all(moves) and not any(stands)


def test_doctor_tells_of_the_agent(folder: Path, tree: StaticTree) -> None:
    blind = blind_root(folder)
    with tree.moving(), AgentProcess(tree.root, blind / "run/lithowatt/ring"):
        found = {f["method"]: f for f in _core.doctor(blind)}["rapl"]
    assert found["available"] and "package-0" in found["gives"]
    assert "through the node agent" in found["reason"]


def test_own_energy_through_the_ring_is_the_truth(
    live: None, folder: Path, steady: Callable[[Callable[[], None]], None]
) -> None:
    @steady
    def check() -> None:
        with Rig(packages=1, idle_watts=20, gain=30, gamma=0.9) as rig:
            blind = blind_root(Path(tempfile_in(folder)))
            ring = blind / "run/lithowatt/ring"
            environment = {"LITHOWATT_IDLE_WATTS": "23"}
            with AgentProcess(rig.root, ring, **environment), burning(0.5):
                code = (
                    "import sys, time, json, os\n"
                    "from lithowatt import EnergyMeter\n"
                    "sys.stdin.readline()\n"
                    "t0 = time.monotonic_ns()\n"
                    "with EnergyMeter(root=sys.argv[1]) as m:\n"
                    "    e = time.monotonic() + 2\n"
                    "    while time.monotonic() < e: pass\n"
                    "t1 = time.monotonic_ns()\n"
                    "r = m.reading\n"
                    "print(json.dumps([t0, t1, r.marginal, r.machine, r.method,"
                    " r.headline.low, r.headline.high]), flush=True)\n"
                    "sys.stdin.readline()\n"
                )
                child = subprocess.Popen(
                    [sys.executable, "-c", code, str(blind)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**os.environ, **environment},
                )
                assert child.stdin is not None and child.stdout is not None
                rig.register(child.pid)
                child.stdin.write("\n")
                child.stdin.flush()
                told = json.loads(child.stdout.readline())
                t0, t1, marginal, machine, method, low, high = told
                truth = rig.energy(t0, t1)
                child.communicate("\n")
            assert through_agent(method)
            assert machine == pytest.approx(truth.machine, rel=0.02)
            own = truth.pids[child.pid]
            assert marginal == pytest.approx(own, rel=0.05)
            assert low <= own <= high


def tempfile_in(folder: Path) -> str:
    path = folder / f"t{time.monotonic_ns()}"
    path.mkdir()
    return str(path)


def test_a_mirror_keeps_a_ring_from_what_is_served(folder: Path, tree: StaticTree) -> None:
    """For pods that may not mount the node's folder: no network is in the function's way."""
    blind = blind_root(folder)
    port = free_port()
    address = f"127.0.0.1:{port}"
    agent = AgentProcess(
        tree.root, folder / "node" / "lithowatt" / "ring", "--metrics", address, "--serve-ring"
    )
    agent.start()
    own = blind / "run/lithowatt/ring"
    mirror = AgentProcess(blind, own, "--mirror", f"http://{address}", "--mirror-period", "0.05")
    try:
        mirror.start()
        header = _core.Ring(own, blind).header()
        assert header["period_ns"] == 50_000_000
        with EnergyMeter(root=blind) as meter:
            for _ in range(200):
                spin(0.005)
                add_to_all(tree, 25_000)
        assert through_agent(meter.reading.method), meter.reading.warnings
        assert meter.reading.rapl.total == pytest.approx(20.0, rel=0.15)
        # Another agent: the mirror follows, and what was shown stays.
        before = _core.Ring(own, blind).header()["generation"]
        agent.kill()
        agent.start()
        deadline = time.monotonic() + 20
        generation = before
        while generation == before:
            assert time.monotonic() < deadline
            time.sleep(0.1)
            # On a busy machine the first one is stale before the second is there.
            with contextlib.suppress(AgentError):
                generation = _core.Ring(own, blind).header()["generation"]
        # No agent: the mirror's ring is refused, and the mirror lives.
        agent.kill()
        time.sleep(1.3)
        with pytest.raises(AgentError, match="no sign of life"):
            _core.Ring(own, blind)
        assert mirror.process is not None and mirror.process.poll() is None
        assert mirror.end() == 0
    finally:
        for one in (mirror, agent):
            if one.process is not None and one.process.poll() is None:
                one.kill()


def test_a_mirror_says_each_state_once(folder: Path, tree: StaticTree) -> None:
    address = f"127.0.0.1:{free_port()}"
    node = folder / "node" / "lithowatt" / "ring"
    served = AgentProcess(tree.root, node, "--metrics", address, "--serve-ring")
    unserved = AgentProcess(tree.root, node, "--metrics", address)
    own = folder / "pod" / "lithowatt" / "ring"
    command = [sys.executable, "-m", "lithowatt", "agent", "--ring", str(own)]
    command += ["--mirror", f"http://{address}", "--mirror-period", "0.02"]
    own.parent.parent.mkdir()
    log = folder / "mirror.log"
    with log.open("w") as said:
        mirror = subprocess.Popen(command, stderr=said)

    def wait_for(text: str) -> None:
        deadline = time.monotonic() + 30
        while text not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    try:
        wait_for("not reached yet")
        unserved.start()
        wait_for("does that agent have --serve-ring?")
        unserved.end()
        served.start()
        wait_for("/ring reached")
        served.end()
        wait_for(" lost ")
        time.sleep(0.3)
        lines = log.read_text().splitlines()
        assert "is kept from" in lines[0]
        # Many questions were asked in each state.
        assert all(a != b for a, b in itertools.pairwise(lines))
        assert len(lines) <= 7
        mirror.terminate()
        assert mirror.wait(timeout=30) == 0
    finally:
        mirror.kill()
        mirror.wait()
        for agent in (served, unserved):
            if agent.process is not None and agent.process.poll() is None:
                agent.kill()


# -- the agent dies ---------------------------------------------------------------------------


def test_a_killed_agent_costs_no_joule(live: None, folder: Path) -> None:
    """kill -9 and another agent within the windows of meters under load."""
    blind = blind_root(folder)
    ring = blind / "run/lithowatt/ring"
    with Rig(packages=1, idle_watts=20, gain=30) as rig, contextlib.ExitStack() as stack:
        agent = AgentProcess(rig.root, ring)
        agent.start()
        stack.enter_context(burning())
        code = (
            "import sys, time, json\n"
            "from lithowatt import EnergyMeter\n"
            "t0 = time.monotonic_ns()\n"
            "with EnergyMeter(root=sys.argv[1], interval=0.05) as m:\n"
            "    print('on', flush=True)\n"
            "    sys.stdin.readline()\n"
            "t1 = time.monotonic_ns()\n"
            "r = m.reading\n"
            "print(json.dumps([t0, t1, r.machine, r.method, r.warnings]))\n"
        )
        readers = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(blind)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "on\n"
        for pause in (0.1, 1.5):
            time.sleep(0.5)
            agent.kill()
            time.sleep(pause)
            agent.start()
        time.sleep(0.7)
        for reader in readers:
            out, _ = reader.communicate("\n", timeout=30)
            assert reader.returncode == 0
            t0, t1, machine, method, warnings = json.loads(out)
            truth = rig.energy(t0, t1)
            assert through_agent(method), warnings
            assert machine == pytest.approx(truth.machine, rel=0.02)
        # The account went on, too.
        state = _core.Ring(ring, rig.root).groups()
        assert state is not None
        account, rows = state
        parts = account["idle_uj"] + account["rest_uj"] + account["gone_uj"]
        parts += sum(row["active_uj"] for row in rows if row["counted"])
        assert parts == account["machine_uj"]
        assert agent.end() == 0


def test_a_window_in_which_the_agent_died_says_so(folder: Path, tree: StaticTree) -> None:
    blind = blind_root(folder)
    agent = AgentProcess(tree.root, blind / "run/lithowatt/ring")
    agent.start()
    with EnergyMeter(root=blind) as meter:
        add_to_all(tree, 3_000_000)
        spin(0.1)
        agent.kill()
        spin(1.2)
    reading = meter.reading
    assert reading.quality == "modelled"
    assert any("no sign of life" in text for text in reading.warnings)
    assert reading.rapl.total is None


@pytest.mark.parametrize("end", [AgentProcess.end, AgentProcess.kill])
def test_run_tells_once_that_the_agent_ended_meanwhile(
    folder: Path, tree: StaticTree, end: Callable[[AgentProcess], object]
) -> None:
    blind = blind_root(folder)
    agent = AgentProcess(tree.root, blind / "run/lithowatt/ring")
    agent.start()
    # The command itself says that the window has begun.
    command = ["--root", str(blind), "--", "sh", "-c", "echo on; sleep 2.5"]
    with subprocess.Popen(
        [sys.executable, "-m", "lithowatt", "run", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None and run.stdout.readline() == "on\n"
        for _ in range(20):
            add_to_all(tree, 500_000)
            time.sleep(0.01)
        end(agent)
        told = " ".join(run.communicate(timeout=60)[1].split())
    why = "was stopped" if end is AgentProcess.end else "gave no sign of life"
    zones = "package-0, package-1, package-0/dram, package-1/dram"
    assert f"warning: {zones}: the node agent {why} within the window" in told
    assert told.count("warning: ") == told.count("warning: package-0, ")
    assert "The energy counter gave nothing for this window (package-0: " in told
    assert "No energy counter is read here" not in told


def test_a_ring_is_not_made_in_a_folder_of_others(folder: Path, tree: StaticTree) -> None:
    bad = folder / "open"
    bad.mkdir()
    bad.chmod(0o777)
    with pytest.raises(AgentError, match="written by others"):
        _core.Agent(bad / "ring", root=tree.root)


@pytest.mark.parametrize("more", [(), ("--mirror", "http://127.0.0.1:9")])
@pytest.mark.parametrize("by", ["--ring", "LITHOWATT_RING"])
@pytest.mark.parametrize("kind", ["config", "link", "dangling", "fifo", "device", "socket"])
def test_only_a_ring_is_replaced(
    folder: Path, tree: StaticTree, kind: str, by: str, more: tuple[str, ...]
) -> None:
    place = folder / "settings" / "x"
    place.parent.mkdir(mode=0o755)
    other = folder / "other"
    other.write_text("precious")
    listening = socket.socket(socket.AF_UNIX)
    if kind == "config":
        place.write_text("precious")
    elif kind == "link":
        place.symlink_to(other)
    elif kind == "dangling":
        place.symlink_to(folder / "nothing")
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "socket":
        listening.bind(str(place))
    else:
        # Of a name of our own: a test that fails must not take the machine's.
        try:
            os.mknod(place, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("device nodes are made by root only")
    before = (os.lstat(place).st_ino, os.lstat(place).st_mode)
    command = [sys.executable, "-m", "lithowatt", "agent", "--root", str(tree.root), *more]
    named = ["--ring", str(place)] if by == "--ring" else []
    done = subprocess.run(
        [*command, *named, "--metrics", "off"],
        env={**os.environ, "LITHOWATT_RING": str(place)} if not named else None,
        capture_output=True,
        text=True,
        timeout=60,
    )
    listening.close()
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert str(place) in done.stderr
    assert (os.lstat(place).st_ino, os.lstat(place).st_mode) == before
    assert os.listdir(place.parent) == ["x"], "no lock is left either"
    assert other.read_text() == "precious"
    if kind == "config":
        assert place.read_text() == "precious"


def test_an_empty_file_and_an_older_ring_are_replaced(folder: Path, tree: StaticTree) -> None:
    place = folder / "mine" / "ring"
    place.parent.mkdir(mode=0o755)
    for content in (b"", b"LITHOWAT of a layout that nobody knows"):
        place.write_bytes(content)
        agent = _core.Agent(place, root=tree.root, containers=False)
        agent.stop()
        assert place.read_bytes()[:8] == b"LITHOWAT"
        assert place.stat().st_size > 1000


def test_a_lock_that_is_something_else_is_left(folder: Path, tree: StaticTree) -> None:
    place = folder / "mine" / "ring"
    place.parent.mkdir(mode=0o755)
    lock = place.with_name("agent.lock")
    lock.write_text("another program's, which it needs")
    with pytest.raises(AgentError, match="something else"):
        _core.Agent(place, root=tree.root)
    assert lock.read_text() == "another program's, which it needs"
    assert not place.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the rings of two users: root only")
def test_a_ring_of_another_user_is_refused(
    folder: Path, tree: StaticTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As anybody can make it in a folder that all may write to.
    shared = folder / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    place = shared / "lithowatt" / "ring"
    agent = _core.Agent(place, root=tree.root, containers=False)
    try:
        monkeypatch.setenv("LITHOWATT_RING", str(place))
        blind = blind_root(folder)
        with EnergyMeter(root=blind, interval=None) as m:
            time.sleep(0.05)
        assert "did not move" in m.reading.rapl.source, "it is read"
        for path in (place, place.parent):
            os.chown(path, 12345, 12345)
        with EnergyMeter(root=blind_root(folder / "again"), interval=None) as m:
            time.sleep(0.05)
        assert not m.reading.rapl.available
        assert "belongs to user 12345" in m.reading.rapl.source
        with pytest.raises(AgentError, match="LITHOWATT_RING_OWNER=12345"):
            _core.Ring(place)
        monkeypatch.setenv("LITHOWATT_RING_OWNER", "12345")
        assert _core.Ring(place).header()
        monkeypatch.delenv("LITHOWATT_RING_OWNER")
        # Where only root can have made the folder, it is theirs because root gave it to them.
        shared.chmod(0o755)
        assert _core.Ring(place).header()
    finally:
        agent.stop()


# -- slow clients ------------------------------------------------------------------------------


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """A server of an agent that is alive, on a port of its own."""

    class Alive:
        alive = True

        def snapshot(self) -> dict[str, object]:
            return {}

    monkeypatch.setattr(_server, "QUICK_SECONDS", 0.05)
    server = _server.MetricsServer(("127.0.0.1", 0))
    server.serve(Alive())  # type: ignore[arg-type]
    yield "127.0.0.1", server.server_address[1]
    server.server_close()  # its thread waits for a request, and ends with the process


def healthy(address: tuple[str, int]) -> bool:
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        answer = b""
        while part := client.recv(4096):
            answer += part
    return b" 200 " in answer


def left(client: socket.socket) -> bool:
    """Whether the server has given this client up, within 20 s."""
    client.settimeout(20)
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "node-1.cluster.example:9477", "User-Agent": "Prometheus/3.5.0"}, 200),
        ({"Host": "pod.example", "User-Agent": "vm_promscrape"}, 200),
        ({"Host": "10.0.0.7:9477", "User-Agent": "Mozilla/5.0", "Accept-Language": "en"}, 200),
        ({"Host": "localhost:9477", "User-Agent": "Mozilla/5.0"}, 200),
        ({"Host": "localhost", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        # A name that was made to point here.
        ({"Host": "rebound.example:9477", "User-Agent": "Mozilla/5.0"}, 403),
        ({"Host": "rebound.example:9477", "Accept-Language": "en"}, 403),
        ({"Host": "rebound.example:9477", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Host": "localhost", "Origin": "https://other.example"}, 403),
        ({"Host": "localhost", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, 403),
    ],
)
def test_a_browser_reads_no_metrics_for_another_site(
    served: tuple[str, int], monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], status: int
) -> None:
    monkeypatch.setattr(_server, "openmetrics", lambda *_: "# EOF\n")
    for path, expected in (("/metrics", status), ("/healthz", 200)):
        connection = http.client.HTTPConnection(*served, timeout=10)
        connection.request("GET", path, headers=headers)
        assert connection.getresponse().status == expected
        connection.close()


def test_slow_clients_keep_nobody_from_an_answer(served: tuple[str, int]) -> None:
    slow = [socket.create_connection(served) for _ in range(3 * _server.MOST_REQUESTS)]
    for _ in range(5):
        for client in slow:
            with contextlib.suppress(OSError):  # some were left
                client.sendall(b"G")
        time.sleep(0.1)
        assert healthy(served)
    for client in slow:
        client.close()
    assert healthy(served)


def test_a_request_has_a_deadline_and_not_each_byte_of_it(
    served: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_server, "REQUEST_SECONDS", 0.5)
    ended = threading.Event()
    with socket.create_connection(served) as client:

        def drip() -> None:
            while not ended.wait(0.05):
                with contextlib.suppress(OSError):
                    client.sendall(b"G")

        dripping = threading.Thread(target=drip)
        dripping.start()
        assert left(client), "though it went on sending"
        ended.set()
        dripping.join()


def test_places_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "QUICK_SECONDS", 0.0)
    requests = _server._Requests()
    pairs = [socket.socketpair() for _ in range(3 * _server.MOST_REQUESTS)]
    entered = [requests.enter(ours) for ours, _ in pairs]
    # As many again as there are places, while those that were left have not ended.
    assert entered == [True] * (2 * _server.MOST_REQUESTS) + [False] * (_server.MOST_REQUESTS)
    assert pairs[0][1].recv(1) == b"", "the slowest was left first"
    requests.leave(pairs[0][0])
    assert requests.enter(pairs[-1][0])
    monkeypatch.setattr(_server, "QUICK_SECONDS", 3600.0)
    assert not requests.enter(pairs[-2][0]), "the quick ones are not left"
    for pair in pairs:
        for end in pair:
            end.close()
