"""``lithowatt agent``: one process per machine holds the counters, and everybody gets joules."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lithowatt import _core
from lithowatt._support.calls import DEFAULT_RING
from lithowatt._support.command import Ending
from lithowatt._support.text import format_number
from lithowatt.agent._references import Totals
from lithowatt.errors import AgentError
from lithowatt.reference import open_references

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from lithowatt.agent._page import PageServer
    from lithowatt.agent._server import MetricsServer
    from lithowatt.reference import Reference

METRICS_ADDRESS = "127.0.0.1:9477"
"""Where the metrics are by default."""

PAGE_ADDRESS = "127.0.0.1:9478"
"""Where the page is by default."""

IDLE_SOURCES: dict[int, str] = _core.IDLE_SOURCES
"""Names of the account's idle source (docs/how-to/agent.md); 0 before the first division."""

MOST_GROUP = 2**32 - 2
"""The highest number of a group; the one above means 'none' to chown(2)."""

WATCH_SECONDS = 2.0
"""The main thread looks this often whether the sampler lives."""

SETTLE_SECONDS = 0.5
"""An agent that ends waits so long at most for requests of its page that are being answered."""


def run(arguments: argparse.Namespace) -> int:
    """Runs the agent until it is asked to end; returns the exit code.

    Raises:
        AgentError: Where it cannot run.
    """
    path = arguments.ring or os.environ.get("LITHOWATT_RING") or None
    _check_together(arguments)
    if arguments.show:
        return _show(_core.Ring(path, arguments.root), arguments.json)
    if arguments.mirror:
        return _mirror(arguments, path or DEFAULT_RING)
    address = _address(arguments.metrics)
    group = _group(arguments.group)
    _refuse_second(path or DEFAULT_RING)
    # Before the ring is made: an agent that cannot do all it was asked to does nothing.
    server = None if address is None else _bound(address)
    page = _page(arguments)
    references = open_references(arguments.reference or [], arguments.root)
    # From the ring's first moment on, so that whoever ends it then leaves a closed ring, too.
    with Ending() as ended:
        return _serve(arguments, path or DEFAULT_RING, group, server, page, references, ended)


def _serve(
    arguments: argparse.Namespace,
    path: str,
    group: int | None,
    server: MetricsServer | None,
    page: PageServer | None,
    references: Sequence[Reference],
    ended: Ending,
) -> int:
    agent = _core.Agent(
        path,
        root=arguments.root,
        rate=arguments.rate,
        quantum_uj=arguments.quantum_uj,
        round=arguments.round,
        group=group,
        methods=arguments.methods,
        containers=not arguments.no_containers,
        node=arguments.node or os.environ.get("NODE_NAME", ""),
        guests=arguments.guest,
        guest_folder=arguments.guest_folder,
    )
    with contextlib.ExitStack() as last:
        # The page's socket is in the ring's folder, which is there now.
        last.callback(agent.stop)
        gpus = None
        if server is not None:
            from lithowatt.agent._beginnings import Beginnings
            from lithowatt.agent._gpus import Gpus

            beginnings = Beginnings.of(path, arguments.root)
            totals = None
            if references:
                totals = Totals(references)
                totals.start()
                last.callback(totals.stop)
            gpus = Gpus(arguments.root)
            last.callback(gpus.close)
            ring = path if arguments.serve_ring else None
            server.serve(agent, ring, beginnings, totals, gpus)
        if page is not None:
            last.callback(_live(agent, page, path, group, arguments))
        _announce(agent, path, arguments)
        while not ended.wait(WATCH_SECONDS):
            if not agent.alive:
                print("lithowatt agent: its sampler ended; please report it", file=sys.stderr)
                return 1
            if gpus is not None:
                gpus.settle()
    return 0


def _page(arguments: argparse.Namespace) -> PageServer | None:
    """The bound server of the page, where one is asked for.

    Raises:
        AgentError: Where it cannot be, or may not be, there.
    """
    if arguments.page is None:
        return None
    from lithowatt.agent._page import PageServer
    from lithowatt.agent._server import is_loopback

    host, port = _parsed(arguments.page, "--page", PAGE_ADDRESS)
    if not is_loopback(host):
        if not arguments.page_remote:
            raise AgentError(
                f"--page {arguments.page!r} can be reached from other machines, and the page has "
                "no password; expected an address of this machine alone, such as "
                f"{PAGE_ADDRESS}, or --page-remote with it"
            )
        print(
            f"lithowatt agent: warning: whoever reaches {arguments.page} sees the names of this "
            "machine's containers and functions, and their power: no password, no encryption",
            file=sys.stderr,
            flush=True,
        )
    try:
        return PageServer((host, port))
    except OSError as error:
        raise AgentError(
            f"the page cannot be served at {host}:{port} ({error.strerror}); expected --page with "
            "a free HOST:PORT"
        ) from None


def _live(
    agent: _core.Agent,
    page: PageServer,
    path: str,
    group: int | None,
    arguments: argparse.Namespace,
) -> Callable[[], None]:
    """Sets the page to work; what ends it."""
    from lithowatt._support.calls import beside
    from lithowatt.agent._calls import Calls
    from lithowatt.agent._live import Live, Power

    calls = Calls()
    calls.listen(beside(path), group)
    about = {
        "version": _core.__version__,
        "node": arguments.node or os.environ.get("NODE_NAME", ""),
        "started": time.time(),
        "round": arguments.round,
        "containers": not arguments.no_containers,
    }
    live = Live(about, calls, lambda: Power(path, arguments.root, agent.snapshot))
    page.serve(live)

    def end() -> None:
        calls.close()
        live.close()
        # Who has just come hears of the end, too.
        page.settle(SETTLE_SECONDS)

    return end


def _check_together(arguments: argparse.Namespace) -> None:
    if arguments.guest and arguments.mirror:
        raise AgentError(
            f"--guest {arguments.guest[0]!r} and --mirror {arguments.mirror!r} exclude each other, "
            "for a mirror holds no counters; expected one of them"
        )
    if arguments.guest_folder and not arguments.guest:
        raise AgentError("--guest-folder is for --guest; expected --guest NAME=PID with it")
    if arguments.page is not None and arguments.mirror:
        raise AgentError(
            f"--page and --mirror {arguments.mirror!r} exclude each other, for a mirror serves "
            "nothing; expected one of them"
        )
    if arguments.page_remote and arguments.page is None:
        raise AgentError("--page-remote is for --page; expected --page HOST:PORT with it")
    if arguments.json and not arguments.show:
        raise AgentError("--json is for --show only; expected --show --json")
    if arguments.serve_ring and arguments.mirror:
        raise AgentError(
            f"--serve-ring and --mirror {arguments.mirror!r} exclude each other, for a mirror "
            "serves nothing; expected one of them"
        )
    if arguments.reference and (arguments.metrics == "off" or arguments.mirror):
        raise AgentError(
            "--reference is shown among the metrics, of which there are none; expected --metrics "
            f"HOST:PORT such as {METRICS_ADDRESS}, and no --mirror"
        )
    if arguments.serve_ring and arguments.metrics == "off":
        raise AgentError(
            "--serve-ring needs an address, and --metrics is 'off'; expected --metrics "
            f"HOST:PORT such as {METRICS_ADDRESS}"
        )


def _mirror(arguments: argparse.Namespace, path: str) -> int:
    from lithowatt.agent._mirror import Mirror

    if not 0.01 <= arguments.mirror_period <= 1:
        raise AgentError(
            f"--mirror-period {arguments.mirror_period!r} is out of range; expected 0.01 to 1 s"
        )
    _refuse_second(path)
    try:
        with Ending() as ended:
            Mirror(arguments.mirror, path, arguments.mirror_period).run(ended)
    except OSError as error:
        what = f"{error.filename or path}: {error.strerror or error}"
        raise AgentError(
            f"the ring {path} cannot be made ({what}); "
            "expected --ring with a place where this user may make files, in a folder of its own"
        ) from None
    return 0


def _refuse_second(path: str) -> None:
    """Reports who writes the ring already, before that one's port is found taken.

    Raises:
        AgentError: Where another agent runs.
    """
    # Any other obstacle is reported by whoever takes the lock.
    with contextlib.suppress(OSError):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(Path(path).with_name("agent.lock"), flags)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 20, 0).decode(errors="replace").strip()
            who = f"another one, pid {holder}," if holder.isdecimal() else "another one"
            raise AgentError(f"{who} writes {path}; expected one agent for a ring") from None
        finally:
            os.close(lock)


def _bound(address: tuple[str, int]) -> MetricsServer:
    from lithowatt.agent._server import MetricsServer

    try:
        return MetricsServer(address)
    except OSError as error:
        raise AgentError(
            f"the metrics cannot be served at {address[0]}:{address[1]} ({error.strerror}); "
            "expected a free HOST:PORT, or --metrics off"
        ) from None


def _announce(agent: _core.Agent, path: str, arguments: argparse.Namespace) -> None:
    state = agent.snapshot()
    zones = ", ".join(f"{zone['method']}:{zone['name']}" for zone in state["zones"])
    went_on = "; goes on from an earlier ring" if state["adopted"] else ""
    off = arguments.metrics == "off"
    served = "; no metrics" if off else f"; http://{arguments.metrics}/metrics"
    if arguments.page is not None:
        served += f"; http://{arguments.page}/"
    print(
        f"lithowatt agent: {path}: {zones}; {arguments.rate:g} samples/s in steps of "
        f"{arguments.quantum_uj} µJ{served}{went_on}",
        file=sys.stderr,
        flush=True,
    )
    if not _in_memory(path):
        print(
            f"lithowatt agent: {path} is on a disk, which will be written to all the time: "
            f"put the ring on a tmpfs, such as {_place_in_memory()}, and give its readers the same "
            "path in LITHOWATT_RING",
            file=sys.stderr,
            flush=True,
        )


def _place_in_memory() -> str:
    """A path for the ring that is on no disk here."""
    # None in a folder in which anybody may have made this one before.
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    for place in (DEFAULT_RING, f"{own}/lithowatt/ring"):
        if Path(place).parent.parent.is_dir() and _in_memory(place):
            return place
    return "one that is mounted for it"


def _in_memory(path: str) -> bool:
    """Whether the file is on a tmpfs, by the longest mount point above it."""
    real = os.path.realpath(path)
    best, kind = "", "tmpfs"
    try:
        with Path("/proc/self/mounts").open(encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                _, point, type_, *_ = line.split(" ")
                inside = real == point or real.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(best):
                    best, kind = point, type_
    except OSError:
        return True
    return kind in ("tmpfs", "ramfs", "devtmpfs")


def _address(text: str) -> tuple[str, int] | None:
    return None if text == "off" else _parsed(text, "--metrics", f"{METRICS_ADDRESS}, or 'off'")


def _parsed(text: str, option: str, expected: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise AgentError(f"{option} {text!r} is no address; expected HOST:PORT such as {expected}")
    return host, int(port)


def _group(name: str | None) -> int | None:
    if name is None:
        return None
    if name.isdecimal() and int(name) <= MOST_GROUP:
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise AgentError(
            f"--group {name!r} does not exist; expected the name of a group of this machine "
            f"(getent group), or a number up to {MOST_GROUP}"
        ) from None


def read_ring(path: str | None = None, root: str | None = None) -> dict[str, Any]:
    """What a running agent's ring holds now.

    Returns:
        ``header`` (rate, resolution, zones), ``now`` (totals in J by zone, age of the newest
        sample in s), ``account`` (the machine's energy since the ring began, divided, in µJ, with
        ``idle_source`` as a word, None before the first division),
        ``groups`` (rows in µJ and ns) and ``own`` (rows of the groups this process is in).

    Raises:
        AgentError: Where there is no ring, or none that can be believed.
    """
    ring = _core.Ring(path, root)
    return _state(ring)


def _state(ring: _core.Ring) -> dict[str, Any]:
    account, groups = ring.groups() or (None, [])
    if account is not None:
        account["idle_source"] = IDLE_SOURCES.get(account["idle_source"])
    return {
        "header": ring.header(),
        "now": ring.look(),
        "account": account,
        "groups": groups,
        "own": ring.own_groups(),
    }


def _of_idle(key: str, account: Mapping[str, Any]) -> str:
    source = account["idle_source"]
    return f" ({source})" if key == "idle" and source else ""


def _show(ring: _core.Ring, as_json: bool) -> int:
    state = _state(ring)
    if as_json:
        print(json.dumps(state, indent=2))
        return 0
    header, now, account = state["header"], state["now"], state["account"]
    node = f" on {header['node']}" if header["node"] else ""
    print(
        f"agent {header['version']}{node}: {1e9 / header['period_ns']:g} samples/s in steps of "
        f"{header['quantum_uj']} µJ, newest {now['age'] * 1e3:.1f} ms old"
    )
    for name, joules in now["joules"].items():
        shown = "cannot be read" if joules is None else f"{format_number(joules)} J"
        print(f"  {name}: {shown}")
    if account is None or account["round"] == 0:
        return 0
    print("since the ring began, J:")
    for key in ("machine", "idle", "rest", "gone"):
        print(f"  {key}: {format_number(account[f'{key}_uj'] * 1e-6)}{_of_idle(key, account)}")
    if not state["groups"]:
        print("  no containers, no pods")
    own = {row["id"] for row in state["own"]}
    for row in sorted(state["groups"], key=lambda row: -row["active_uj"]):
        ours = " (this one)" if row["id"] in own else ""
        inside = "" if row["counted"] else " in a pod"
        print(
            f"  {row['kind']} {row['id']}{inside}: {format_number(row['active_uj'] * 1e-6)}{ours}"
        )
    return 0
