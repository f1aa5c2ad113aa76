"""The agent's page: what it shows, who may read it, what it does when the agent is away."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpus import Gpu, Gpus
from lithowatt import _core
from lithowatt._support.calls import MOST_BYTES, beside, hand_in
from lithowatt.agent import _live
from lithowatt.agent._calls import MOST_CALLS, MOST_FUNCTIONS, Calls, Refused, _uid_of, parsed
from lithowatt.agent._live import Live, Power
from lithowatt.agent._page import PageServer
from lithowatt.cli import main, run
from rig import StaticTree
from tests.source.test_hwmon import cards
from tests.support.agent_tools import AgentProcess, shared_folder
from tests.support.browser import Browser, serious
from tests.support.meanwhile import meanwhile


@pytest.fixture
def folder() -> Iterator[Path]:
    path = shared_folder()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def tree(folder: Path) -> StaticTree:
    return StaticTree(folder / "root", packages=2, domains=("package", "dram"))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def moving(tree: StaticTree, unread: str | None = None) -> Iterator[None]:
    """Counters that go on: each zone by 30 W or so, but for one that shows no number."""
    for zone in tree.zones:
        if zone.key == unread:
            tree.show(zone.key, "x")

    def move() -> None:
        for zone in tree.zones:
            if zone.key != unread:
                tree.add(zone.key, 1_500_000)

    with meanwhile(move, 0.05):
        yield


class Page(AgentProcess):
    """An agent with a page."""

    def __init__(self, tree: StaticTree, folder: Path, *options: str, **environment: str) -> None:
        self.port = free_port()
        page = ("--page", f"127.0.0.1:{self.port}")
        super().__init__(tree.root, folder / "lithowatt" / "ring", *page, *options, **environment)

    def __enter__(self) -> Page:
        self.start()
        return self

    def start(self) -> None:
        """Until calls are taken, too."""
        Path(beside(self.ring)).unlink(missing_ok=True)
        super().start()
        end = time.monotonic() + 30
        while not Path(beside(self.ring)).exists() and time.monotonic() < end:
            time.sleep(0.02)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(self, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=given)
        return connection.getresponse()

    def events(self) -> Iterator[dict[str, Any]]:
        """What the page is sent."""
        answer = self.ask("/events")
        assert answer.status == 200
        assert answer.getheader("Content-Type") == "text/event-stream"
        for line in answer:
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


STATS: dict[str, Any] = {
    "energy_duration": 1.25,
    "energy_cpu_time": 1.0,
    "energy_consumption": 4.0,
    "energy_low": 3.0,
    "energy_high": 6.0,
    "energy_quality": "attributed",
    "energy_method": "rapl+cputime",
    "energy_definition": "marginal",
}


def message(**changes: Any) -> bytes:
    call = {
        "v": 1,
        "function": "f",
        "seconds": 1.25,
        "joules": 4.0,
        "low": 3.0,
        "high": 6.0,
        "quality": "attributed",
        "definition": "marginal",
    }
    return json.dumps({**call, **changes}).encode()


# -- what is sent ----------------------------------------------------------------------------


def test_the_parts_sum_to_the_machine(folder: Path, tree: StaticTree) -> None:
    with moving(tree), Page(tree, folder, "--node", "n1") as page:
        event = next(e for e in page.events() if e.get("machine"))
    parts = [event[name][0] for name in ("idle", "attributed", "ended", "unattributed")]
    assert sum(parts) == pytest.approx(event["machine"][0], rel=1e-9)
    for name in ("machine", "idle", "unattributed"):
        value, low, high = event[name]
        assert low <= value <= high, name
    assert event["machine"][0] > 0
    assert event["method"] == "rapl" and event["idle_source"] is not None
    assert event["agent"]["node"] == "n1"
    rows = {zone["name"]: zone for zone in event["zones"]}
    assert set(rows) == {zone.key for zone in tree.zones}
    for zone in rows.values():
        value, low, high = zone["watts"]
        assert low <= value <= high and value > 0


def test_sensors_have_bands_and_gpus_stand_beside(folder: Path) -> None:
    root = folder / "root"
    cards(root, arc=False)
    agent = _core.Agent(folder / "lithowatt" / "ring", root=root, round=0.1)
    power = Power(str(folder / "lithowatt" / "ring"), str(root), agent.snapshot)
    try:
        state = power.state()
        for _ in range(3):
            time.sleep(0.4)
            state = power.state()
    finally:
        power.close()
        agent.stop()
    assert state["method"] == "hwmon"
    value, low, high = state["machine"]
    assert low < 17.0 < high and value == pytest.approx(17.0, rel=0.1)
    gpus = [zone for zone in state["zones"] if zone["domain"] == "gpu"]
    radeon = next(zone["watts"] for zone in gpus if "03:00.0" in zone["name"])
    assert len(gpus) == 1
    assert radeon[0] == pytest.approx(90.0, rel=0.05) and radeon[1] < 90.0 < radeon[2]
    assert [zone["domain"] for zone in state["zones"] if zone not in gpus] == ["package"]


def test_nothing_is_zero_before_it_is_measured(folder: Path, tree: StaticTree) -> None:
    with Page(tree, folder, "--round", "60") as page:
        event = next(page.events())
    assert event["machine"] is None and "second round" in event["reason"]
    assert all(zone["watts"] is None and zone["reason"] for zone in event["zones"])


def test_a_counter_that_cannot_be_read_has_a_reason(folder: Path, tree: StaticTree) -> None:
    page = Page(tree, folder)
    with contextlib.ExitStack() as stack:
        with moving(tree):
            stack.enter_context(page)
            events = page.events()
            next(event for event in events if event.get("machine"))
        stack.enter_context(moving(tree, unread="package-1/dram"))
        for event in events:
            unread = [zone for zone in event["zones"] if zone["watts"] is None]
            if unread:
                break
    assert [zone["name"] for zone in unread] == ["package-1/dram"]
    assert unread[0]["reason"]


def test_a_counter_that_stands_still_is_no_zero(folder: Path, tree: StaticTree) -> None:
    page = Page(tree, folder)
    with contextlib.ExitStack() as stack:
        with moving(tree):
            stack.enter_context(page)
            events = page.events()
            next(event for event in events if event.get("machine"))
        for _ in range(10):
            zones = next(events)["zones"]
            if any(zone["watts"] is None for zone in zones):
                break
    still = [zone for zone in zones if zone["reason"] == "the counter stands still"]
    assert still and all(zone["watts"] is None for zone in still)


def test_a_stopped_sampler_is_told_as_stale(folder: Path, tree: StaticTree) -> None:
    ring = folder / "lithowatt" / "ring"
    agent = _core.Agent(ring, root=tree.root)
    power = Power(str(ring), str(tree.root), agent.snapshot)
    assert power.state()["sample"]["stale"] is None
    agent.stop()
    state = power.state()
    power.close()
    assert state["sample"]["age_s"] is None and "stopped" in state["sample"]["stale"]
    assert "machine" not in state


class _Ring:
    """Rounds as a test has them: (round, machine, idle, rest, gone in J, busy in s), rows."""

    def __init__(self, ring: Any) -> None:
        self.look = ring.look
        self.round: tuple[dict[str, Any], list[dict[str, Any]]] | None = None

    def groups(self) -> Any:
        return self.round

    def end(self, number: int, joules: tuple[float, ...], busy: float, **rows: Any) -> None:
        keys = ("machine_uj", "idle_uj", "rest_uj", "gone_uj")
        account = dict(zip(keys, (round(j * 1e6) for j in joules), strict=True))
        account |= {"round": number, "t_ns": number * 2_000_000_000, "idle_source": 1}
        account["busy_ns"] = round(busy * 1e9)
        made = [
            {
                "id": int(name[1:]),
                "kind": "container",
                "counted": counted,
                "active_uj": round(used * 1e6),
                "cpu_ns": round(cpu * 1e9),
                "since_ns": since,
            }
            for name, (counted, used, cpu, *rest) in rows.items()
            for since in rest or [1]
        ]
        self.round = account, made


def test_containers_get_their_parts_once(folder: Path, tree: StaticTree) -> None:
    ring = folder / "lithowatt" / "ring"
    agent = _core.Agent(ring, root=tree.root)
    named = {"id": 1, "cgroup": "/system.slice/docker-" + 64 * "a" + ".scope"}
    power = Power(str(ring), str(tree.root), lambda: {"groups": [named]})
    power._ring = rounds = _Ring(power._ring)  # type: ignore[assignment]
    try:
        rounds.end(
            1,
            (100, 40, 20, 0),
            10,
            c1=(True, 30, 5),
            c2=(True, 10, 2),
            c3=(False, 8, 1),
            c5=(False, 4, 1),
        )
        assert power.state()["machine"] is None
        # Above idle 20 J in 2 s: the first 8, one that ended 6, a new one 1, the rest 5.
        rounds.end(2, (130, 50, 25, 16), 14, c1=(True, 38, 7), c3=(False, 10, 1.5), c4=(True, 1, 3))
        state = power.state()
    finally:
        power.close()
        agent.stop()
    watts = {name: state[name][0] for name in ("machine", "idle", "attributed", "ended")}
    assert watts == pytest.approx({"machine": 15, "idle": 5, "attributed": 4.5, "ended": 3})
    assert state["unattributed"][0] == pytest.approx(2.5)
    assert state["idle_source"] == "learned"
    rows = {row["id"]: row for row in state["containers"]}
    assert {id_: row["watts"][0] for id_, row in rows.items()} == pytest.approx(
        {"1": 4, "3": 1, "4": 0.5}
    )
    assert {id_: row["cpus"] for id_, row in rows.items()} == {"1": 1.0, "3": 0.25, "4": 0.0}
    assert [rows[id_]["counted"] for id_ in "134"] == [True, False, True]
    assert rows["1"]["name"] == "docker aaaaaaaaaaaa" and rows["1"]["total"] == 38
    # Nobody knows for how long a round that is shown twice lasted.
    assert power._before is not None and power._before["round"] == 1


def test_a_number_that_is_used_again_is_another_group(folder: Path, tree: StaticTree) -> None:
    ring = folder / "lithowatt" / "ring"
    agent = _core.Agent(ring, root=tree.root)
    power = Power(str(ring), str(tree.root), lambda: {"groups": []})
    power._ring = rounds = _Ring(power._ring)  # type: ignore[assignment]
    try:
        rounds.end(1, (100, 40, 20, 0), 10, c1=(True, 30, 5, 1))
        power.state()
        # Above idle 20 J in 2 s: the first one 6 until it ended, its number's next owner 10.
        rounds.end(2, (130, 50, 24, 36), 14, c1=(True, 10, 2, 2))
        state = power.state()
    finally:
        power.close()
        agent.stop()
    (row,) = state["containers"]
    assert row["watts"][0] == pytest.approx(5) and row["cpus"] == 0.0
    assert state["ended"][0] == pytest.approx(3)
    assert state["attributed"][0] == pytest.approx(5)
    assert state["unattributed"][0] == pytest.approx(2)


# -- who may read it -------------------------------------------------------------------------


def test_its_policy_allows_nothing_from_elsewhere(folder: Path, tree: StaticTree) -> None:
    with Page(tree, folder) as page:
        for path in ("/", "/page.css", "/page.js", "/nothing"):
            answer = page.ask(path)
            policy = answer.getheader("Content-Security-Policy") or ""
            assert "default-src 'none'" in policy and "unsafe" not in policy
            assert answer.getheader("X-Content-Type-Options") == "nosniff"
            assert answer.getheader("Cache-Control") == "no-store"
            assert answer.getheader("Access-Control-Allow-Origin") is None
            assert answer.status == (404 if path == "/nothing" else 200)
            text = answer.read()
            assert b"https://" not in text and b"innerHTML" not in text
        assert page.ask("/", "HEAD").read() == b""
        assert page.ask("/../_page.py").status == 404


ASKED: list[tuple[dict[str, str], int]] = [
    ({"Host": "127.0.0.1:1"}, 200),
    ({"Host": "localhost:8080"}, 200),
    ({"Host": "[::1]:9"}, 200),
    ({"Host": "rebound.example:9478"}, 403),
    ({"Host": "127.0.0.1.rebound.example"}, 403),
    ({"Host": "localhost.rebound.example"}, 403),
    ({"Host": "10.0.0.7:9478"}, 403),
    ({"Host": "127.0.0.1:80:80"}, 403),
    ({"Host": "[::1"}, 403),
    ({"Host": ""}, 403),
    ({"Host": "localhost", "Origin": "http://localhost"}, 200),
    ({"Host": "localhost", "Origin": "http://other.example"}, 403),
    ({"Host": "localhost", "Origin": "null"}, 403),
    ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "cors"}, 403),
    ({"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors"}, 403),
    ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}, 200),
    ({"Sec_Fetch_Site": "same-origin"}, 200),
]


def test_other_sites_may_not_read_it(folder: Path, tree: StaticTree) -> None:
    with Page(tree, folder) as page:
        for headers, status in ASKED:
            assert page.ask("/", **headers).status == status, headers
            if status == 403:
                assert page.ask("/events", **headers).status == 403, headers


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--page", "0.0.0.0:9478"], "can be reached from other machines"),
        (["--page", "example.org:9478"], "or --page-remote with it"),
        (["--page", "nowhere"], "--page 'nowhere' is no address; expected HOST:PORT"),
        (["--page-remote"], "expected --page HOST:PORT"),
        (["--page", "--mirror", "http://a:9"], "exclude each other"),
    ],
)
def test_what_is_refused(options: list[str], words: str, folder: Path, tree: StaticTree) -> None:
    ring = folder / "lithowatt" / "ring"
    command = [sys.executable, "-m", "lithowatt", "agent", "--metrics", "off"]
    command += ["--root", str(tree.root), "--ring", str(ring), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and words in done.stderr and not ring.exists()


def test_a_port_that_is_taken_is_named(folder: Path, tree: StaticTree) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        page = Page(tree, folder)
        page.options = ("--page", f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(RuntimeError, match="the page cannot be served at 127"):
            page.start()


def test_for_others_only_when_that_is_said_with_a_warning(folder: Path, tree: StaticTree) -> None:
    page = Page(tree, folder)
    page.options = ("--page", f"0.0.0.0:{page.port}", "--page-remote")
    with page:
        assert page.ask("/", Host=f"192.0.2.7:{page.port}").status == 200
        assert page.ask("/", Host=f"{socket.gethostname()}:{page.port}").status == 200
        assert page.ask("/", Host="rebound.example").status == 403
    assert "warning: whoever reaches" in page.said.read_text()


# -- browsers that are slow, many or gone --------------------------------------------------------


class _State:
    """A `Power` that says what it is told to."""

    size = 10

    def __init__(self) -> None:
        self.looks = 0

    def state(self) -> dict[str, Any]:
        self.looks += 1
        return {"sample": {"age_s": 0.0, "stale": None}, "much": "x" * self.size}

    def close(self) -> None:
        pass


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(30)
    return ours, theirs


def test_who_does_not_read_is_left_and_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_live, "SECONDS", 0.01)
    monkeypatch.setattr(_live, "STALLED_SECONDS", 0.2)
    state = _State()
    state.size = 50_000
    live = Live({}, Calls(), lambda: state)  # type: ignore[arg-type, return-value]
    slow, slow_end = pair()
    quick, quick_end = pair()
    try:
        assert live.add(slow) and live.add(quick)
        # One reads, the other does not: its socket is full after some events.
        for _ in range(500):
            assert quick_end.recv(1 << 20)
            if slow.fileno() == -1:
                break
        else:
            pytest.fail("it was not left")
        assert quick.fileno() != -1 and quick_end.recv(1 << 20)
    finally:
        live.close()
        for one in (slow_end, quick_end):
            one.close()


def test_an_event_that_is_larger_than_the_sockets_buffer_arrives_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_live, "SECONDS", 0.01)
    state = _State()
    state.size = 500_000
    live = Live({}, Calls(), lambda: state)  # type: ignore[arg-type, return-value]
    ours, theirs = pair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    try:
        assert live.add(ours)
        received = b""
        while received.count(b"\n\n") < 3:
            part = theirs.recv(1 << 20)
            assert part, "it was left"
            received += part
        for event in received.split(b"\n\n")[:3]:
            assert len(json.loads(event.removeprefix(b"data: "))["much"]) == 500_000
    finally:
        live.close()
        theirs.close()


def test_an_event_has_letters_as_they_are_and_halves_of_them_as_json() -> None:
    event = _live._event({"name": "é\u2028\ud800"})
    assert "é".encode() in event and event.count(b"\n") == 2
    assert json.loads(event.removeprefix(b"data: ")) == {"name": "é\u2028\ud800"}


def test_who_comes_shortly_after_another_costs_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_live, "SECONDS", 3600.0)
    state = _State()
    live = Live({}, Calls(), lambda: state)  # type: ignore[arg-type, return-value]
    pairs = [pair() for _ in range(3)]
    try:
        events = []
        for ours, theirs in pairs:
            assert live.add(ours)
            events.append(theirs.recv(1 << 16))
        assert events == events[:1] * 3 and state.looks == 1
        # Those who have it are not sent it again.
        pairs[0][1].setblocking(False)
        with pytest.raises(BlockingIOError):
            pairs[0][1].recv(1)
        # Later on there is one at once.
        monkeypatch.setattr(_live, "SECONDS", 0.0)
        late = pair()
        pairs.append(late)
        assert live.add(late[0]) and late[1].recv(1 << 16) and state.looks > 1
    finally:
        live.close()
        for _, theirs in pairs:
            theirs.close()


def test_places_are_bounded_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_live, "SECONDS", 0.01)
    live = Live({}, Calls(), _State)  # type: ignore[arg-type]
    pairs = [pair() for _ in range(_live.MOST_STREAMS)]
    one_more = pair()
    try:
        assert all(live.add(ours) for ours, _ in pairs)
        assert live.full and not live.add(one_more[0])
        pairs[0][1].close()
        end = time.monotonic() + 30
        while pairs[0][0].fileno() != -1:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert live.add(one_more[0])
        assert b"data: " in one_more[1].recv(1 << 16)
    finally:
        live.close()
        for ours, theirs in (*pairs, one_more):
            ours.close()
            theirs.close()
    assert not live.add(pairs[0][0])


def test_who_comes_as_it_ends_is_told_so() -> None:
    live = Live({}, Calls(), _State)  # type: ignore[arg-type]
    live.close()
    ours, theirs = pair()
    with ours, theirs:
        assert not live.add(ours)
        assert theirs.recv(1 << 16) == b"event: ended\ndata: {}\n\n"


def test_an_end_waits_for_who_is_being_answered() -> None:
    page = PageServer(("127.0.0.1", free_port()))
    live = Live({}, Calls(), _State)  # type: ignore[arg-type]
    page.serve(live)
    with socket.create_connection(page.server_address[:2], timeout=30) as slow:
        slow.sendall(b"GET /events HTTP/1.1\r\n")
        end = time.monotonic() + 30
        while not page._requests.any() and time.monotonic() < end:
            time.sleep(0.001)
        live.close()
        began = time.monotonic()
        page.settle(0.1)
        assert 0.1 <= time.monotonic() - began < 1.0
        slow.sendall(f"Host: localhost:{page.server_port}\r\n\r\n".encode())
        page.settle(30.0)
        assert not page._requests.any()
        assert slow.makefile("rb").read().endswith(b"event: ended\ndata: {}\n\n")


def test_the_end_is_told(folder: Path, tree: StaticTree) -> None:
    page = Page(tree, folder)
    page.start()
    answer = page.ask("/events")
    assert answer.readline() == b"retry: 2000\n"
    assert page.end() == 0
    assert b"event: ended\n" in answer.read()
    assert not Path(beside(page.ring)).exists()


def test_what_goes_wrong_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise RuntimeError("no such thing")

    live = Live({}, Calls(), broken)
    ours, theirs = pair()
    try:
        assert live.add(ours)
        event = json.loads(theirs.recv(1 << 16).removeprefix(b"data: "))
        assert event["sample"]["stale"] == "RuntimeError: no such thing"
    finally:
        live.close()
        theirs.close()


# -- calls -----------------------------------------------------------------------------------


def test_a_call_comes_to_the_page(
    folder: Path, tree: StaticTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Page(tree, folder) as page:
        assert not hand_in("f", STATS)  # nobody asked for it
        monkeypatch.setenv("LITHOWATT_RING", str(page.ring))
        monkeypatch.setenv("LITHOWATT_CALLS", "on")
        assert hand_in("f", STATS)
        assert hand_in("f", {f"worker_func_{key}": value for key, value in STATS.items()})
        assert hand_in("g", {"energy_source": "unavailable: no counter"})
        event = next(e for e in page.events() if len(e["calls"]["calls"]) == 3)
    last, call, _ = event["calls"]["calls"]
    assert last["joules"] is None and last["reason"] == "no counter"
    assert call["joules"] == [4.0, 3.0, 6.0] and call["seconds"] == 1.25
    assert call["uid"] == os.geteuid()
    (of_f,) = (one for one in event["calls"]["functions"] if one["function"] == "f")
    assert (of_f["calls"], of_f["joules"], of_f["quality"]) == (2, [8.0, 6.0, 12.0], "attributed")
    # The agent's own numbers are what they were.
    assert "f" not in json.dumps(event["containers"])
    # Whoever is alone again waits for nobody.
    assert not hand_in("f", STATS)


def test_a_call_with_a_long_name_and_a_long_reason_is_sent_shorter(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(folder / "calls"))
        monkeypatch.setenv("LITHOWATT_CALLS", str(folder / "calls"))

        def sent(function: str, reason: str, **more: Any) -> tuple[str, str | None] | None:
            if not hand_in(function, {"energy_source": f"unavailable: {reason}", **more}):
                return None
            given = json.loads(receiver.recv(MOST_BYTES + 1))
            return given["function"], given["reason"]

        # Two bytes and three a character, none of them written as six.
        assert sent("ä" * 200, "€" * 300) == ("ä" * 120, "€" * 200)
        # Control characters are written as six bytes: without the reason they fit,
        assert sent("\0" * 120, "\0" * 200) == ("\0" * 120, None)
        # and beside a long method the first of them do.
        assert sent("\0" * 120, "r", energy_method="m" * 1500) == ("\0" * 40, None)
        assert sent("f", "r", energy_method="m" * 3000) is None
        assert sent("f\udcff", "r") == ("f\udcff", "r")


def test_a_command_comes_to_the_page(folder: Path, tree: StaticTree) -> None:
    with Page(tree, folder) as page:
        calls = {"LITHOWATT_CALLS": beside(page.ring)}
        script = folder / "job.py"
        script.write_text("pass")
        command = [
            sys.executable,
            "-m",
            "lithowatt",
            "run",
            "--",
            sys.executable,
            str(script),
            "-x",
        ]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **calls})
        event = next(e for e in page.events() if e["calls"]["calls"])
    name = event["calls"]["calls"][0]["function"]
    assert name == f"{Path(sys.executable).name} job.py"


def test_what_fails_for_the_page_leaves_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> bool:
        raise RuntimeError("no page")

    monkeypatch.setenv("LITHOWATT_CALLS", "/nowhere/calls")
    monkeypatch.setattr(run, "hand_in", broken)
    assert main(["run", "--methods", "model", "--", "sh", "-c", "exit 5"]) == 5
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.endswith("could not be shown on the agent's page: RuntimeError: no page")


def test_a_lithops_call_comes_to_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    from lithowatt._core import Channel
    from lithowatt._support import calls
    from lithowatt.worker import function_window

    sent: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(calls, "hand_in", lambda *given: sent.append(given))

    def work() -> int:
        return 7

    for asked in ("off", "on"):
        monkeypatch.setenv("LITHOWATT_CALLS", asked)
        window = function_window.FunctionWindow(Channel())
        assert window.metered(work)() == 7
        window.commit()
    ((name, values),) = sent
    assert name == "work" and values["worker_func_energy_duration"] > 0


def test_a_name_is_cut_and_cannot_be_obeyed() -> None:
    call = parsed(message(function="\x1b[31m\u202e" + "y" * 500), 0, 0.0)
    assert call.function.startswith("\\x1b[31m\\u202e") and len(call.function) <= 120
    assert parsed(message(function="\ud800"), 0, 0.0).function == "\\ud800"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no JSON",
        b"[1]",
        b"\xff\xfe",
        b"[" * 2000,
        b'{"v": 1}',
        message(v=2),
        message(function=""),
        message(function=7),
        message(function=None),
        message(joules=-1.0),
        message(joules=float("nan")),
        message(joules=1e300),
        message(joules="4"),
        message(joules=True),
        message(joules=10**400),
        message(low=5.0),
        message(high=3.5),
        message(low=None),
        message(joules=None),
        message(quality="certain"),
        message(quality=None),
        message(quality=["attributed"]),
        message(definition={}),
        message(method=3),
        message(seconds=-1),
        message(function="y" * MOST_BYTES),
    ],
)
def test_what_is_no_call_is_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        parsed(data, 0, 0.0)
    calls = Calls()
    calls.take(data, 0)
    state = calls.state(0.0)
    assert state["refused"] == 1 and not state["calls"] and not state["functions"]


def test_what_is_kept_is_bounded() -> None:
    calls = Calls()
    for number in range(MOST_FUNCTIONS + 10):
        calls.take(message(function=f"f{number}"), 1000)
    calls.take(message(function="f10"), 1000)
    calls.take(message(function="one more"), 1000)
    calls.take(message(), None)
    calls.take(message(), 0, cut=True)
    state = calls.state(time.time())
    assert len(state["calls"]) == MOST_CALLS and len(state["functions"]) == MOST_FUNCTIONS
    names = [one["function"] for one in state["functions"]]
    assert names[:2] == ["one more", "f10"] and "f11" not in names
    assert state["refused"] == 2


def test_users_and_definitions_are_not_mixed() -> None:
    calls = Calls()
    calls.take(message(), 1)
    calls.take(message(), 2)
    calls.take(message(definition="amortised"), 2)
    calls.take(message(quality="measured"), 1)
    calls.take(message(low=None, high=None), 1)
    calls.take(message(joules=None, low=None, high=None, quality=None), 1)
    found = {(f["uid"], f["definition"]): f for f in calls.state(0.0)["functions"]}
    assert set(found) == {(1, "marginal"), (2, "marginal"), (2, "amortised")}
    one = found[1, "marginal"]
    # A call without a band leaves the sum without one; the worst quality counts.
    assert (one["calls"], one["measured"], one["joules"]) == (4, 3, (12.0, None, None))
    assert one["quality"] == "attributed"


def test_a_user_of_a_high_number_is_that_user() -> None:
    sent = struct.pack("=iII", 7, 2**32 - 2, 100)
    assert _uid_of([(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, sent)]) == 2**32 - 2


def test_only_a_socket_of_its_own_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    path.write_text("mine")
    calls = Calls()
    calls.listen(str(path))
    assert "something else is there" in str(calls.reason) and path.read_text() == "mine"
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as old:
        old.bind(str(path))
    calls.listen(str(path))
    assert calls.reason is None
    assert path.stat().st_mode & 0o777 == 0o666
    calls.close()
    assert not path.exists()
    calls.listen(str(tmp_path / ("x" * 120) / "calls"))
    assert calls.reason is not None


def test_a_group_may_send_where_it_alone_reads(tmp_path: Path) -> None:
    calls = Calls()
    calls.listen(str(tmp_path / "calls"), os.getegid())
    assert (tmp_path / "calls").stat().st_mode & 0o777 == 0o660
    calls.close()


# -- in a browser ------------------------------------------------------------------------------


def texts(browser: Browser, selector: str) -> list[str]:
    script = "return Array.from(document.querySelectorAll(arguments[0]), e => e.textContent)"
    return list(browser.run(script, selector))


def text(browser: Browser, selector: str) -> str:
    return texts(browser, selector)[0]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page(
    browser: Browser,
    folder: Path,
    tree: StaticTree,
    monkeypatch: pytest.MonkeyPatch,
    width: int,
    scheme: str,
) -> None:
    with moving(tree), Page(tree, folder) as page:
        monkeypatch.setenv("LITHOWATT_CALLS", beside(page.ring))
        evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
        assert hand_in(evil, STATS) and hand_in("none", {"energy_source": "no meter"})
        browser.open(page.url, width=width, scheme=scheme)
        browser.wait(lambda: len(texts(browser, "#parts tbody th")) >= 3, "the machine's parts")
        assert text(browser, "#state") == "Live."
        assert " W (" in text(browser, "#machine")
        assert "measured by rapl" in text(browser, "#machine-note")
        assert texts(browser, "#parts tbody th")[0] == "idle"
        assert len(texts(browser, "#zones tbody tr")) == len(tree.zones)
        # A name is a text, whatever is in it.
        assert f"{evil} (user {os.geteuid()})" in texts(browser, "#functions tbody th")
        assert texts(browser, "main img, main script") == []
        assert any("not measured: no meter" in row for row in texts(browser, "#calls tbody tr"))
        assert "4.00 (3.00 to 6.00)" in texts(browser, "#functions tbody td")
        # Nothing is cut, nothing has to be scrolled sideways.
        assert browser.run("return document.documentElement.scrollWidth") <= width
        assert serious(browser.axe()) == []
        wanted = {page.url, *(page.url + name for name in ("page.css", "page.js", "events"))}
        assert {url for url in browser.requests() if url.startswith("http")} == wanted


@pytest.mark.skipif(Gpus.unavailable_reason() is not None, reason=str(Gpus.unavailable_reason()))
@pytest.mark.parametrize("width", [1280, 390])
def test_gpus_stand_beside_the_machine_in_a_browser(
    browser: Browser, folder: Path, tree: StaticTree, width: int
) -> None:
    seen = [Gpu(0), Gpu(1, rest=20, slope=80, limit=100, counter=False)]
    gpus = Gpus(folder / "gpus", gpus=seen)
    (tree.root / "dev").mkdir(exist_ok=True)
    (tree.root / "dev/nvidiactl").touch()
    path = gpus.environment

    def rows() -> dict[str, str]:
        shown = texts(browser, "#zones tbody tr")
        return {row[: row.index(")") + 1]: row for row in shown}

    with moving(tree), Page(tree, folder, "--round", "0.2", **path) as page:
        browser.open(page.url, width=width)
        of_gpus = [f"gpu-{gpu.index} {gpu.name} (nvml)" for gpu in seen]
        browser.wait(lambda: set(of_gpus) <= set(rows()), "two GPUs")
        browser.wait(lambda: all("; measured" in rows()[name] for name in of_gpus), "watts of both")
        for gpu, name in zip(seen, of_gpus, strict=True):
            row = rows()[name]
            assert "beside the machine, in none of its parts" in row
            watts = re.search(r"([\d.]+) \(", row.removeprefix(name))
            assert watts is not None and float(watts[1]) == pytest.approx(gpu.rest, rel=0.2), row
        # No part of the machine holds them.
        assert len(rows()) == len(tree.zones) + 2
        parts = texts(browser, "#parts tbody th")
        assert not any("gpu" in part.lower() for part in parts)
        assert browser.run("return document.documentElement.scrollWidth") <= width
        assert serious(browser.axe()) == []
        # A GPU that goes keeps its row, or loses it, but is no 0.
        gpus.gpus[1] = replace(seen[1], vanishes=time.monotonic_ns())
        gpus.write()
        browser.wait(lambda: "; measured" not in rows().get(of_gpus[1], ""), "one GPU less")
        assert "0 (" not in rows().get(of_gpus[1], "")
        assert "; measured" in rows()[of_gpus[0]]


def test_numbers_move_in_place_and_stop_with_a_key(
    browser: Browser, folder: Path, tree: StaticTree
) -> None:
    from selenium.webdriver.common.keys import Keys

    with moving(tree), Page(tree, folder, "--round", "0.2") as page:
        browser.open(page.url)
        browser.wait(lambda: len(texts(browser, "#parts tbody th")) >= 3)
        browser.run("document.querySelector('#parts tbody tr').mine = true")
        before = text(browser, "#machine")
        browser.wait(lambda: text(browser, "#machine") != before, "another number")
        assert browser.run("return document.querySelector('#parts tbody tr').mine") is True
        # The one control, by the keyboard alone.
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        assert browser.run("return document.activeElement.id") == "pause"
        browser.driver.switch_to.active_element.send_keys(Keys.SPACE)
        assert browser.run("return document.activeElement.getAttribute('aria-pressed')") == "true"
        assert text(browser, "#state").startswith("Paused")
        seen = {text(browser, "#machine") for _ in range(10) if not time.sleep(0.15)}
        assert len(seen) == 1


def test_it_tells_that_the_agent_was_away_and_comes_back(
    browser: Browser, folder: Path, tree: StaticTree
) -> None:
    with moving(tree):
        page = Page(tree, folder)
        page.start()
        browser.open(page.url)
        browser.wait(lambda: len(texts(browser, "#parts tbody th")) >= 3)
        # What is said aloud: once for each state.
        browser.run(
            "window.said = []; const state = document.getElementById('state');"
            "new MutationObserver(() => said.push(state.textContent)).observe(state,"
            " {childList: true, characterData: true, subtree: true})"
        )
        page.kill()
        browser.wait(lambda: "stale since" in text(browser, "#since"), "stale")
        assert text(browser, "#state") == "The agent is away; trying again."
        old = text(browser, "#machine")
        browser.wait(lambda: text(browser, "#since") >= "stale since 3 s", "some seconds")
        assert text(browser, "#machine") == old  # marked as stale, not as zero
        page.start()
        browser.wait(lambda: text(browser, "#state").startswith("Live again"), "the agent again")
        assert "was away for" in text(browser, "#state") and text(browser, "#since") == ""
        assert page.end() == 0
        browser.wait(lambda: "stopped" in text(browser, "#state"), "the end")
        said = browser.run("return said")
        assert len(said) == 3, said
    refused = [m for m in browser.severe() if "ERR_" not in m and "Failed to load" not in m]
    assert refused == []
    browser.forget()


def test_a_halted_agent_is_told(browser: Browser, folder: Path, tree: StaticTree) -> None:
    with moving(tree), Page(tree, folder) as page:
        browser.open(page.url)
        browser.wait(lambda: text(browser, "#state") == "Live.")
        assert page.process is not None
        page.process.send_signal(signal.SIGSTOP)
        try:
            browser.wait(lambda: "stale since" in text(browser, "#since"), "stale")
        finally:
            page.process.send_signal(signal.SIGCONT)
        browser.wait(lambda: text(browser, "#state").startswith("Live again"))
