"""What lithowatt costs and how right it is, next to its peers, on one simulated machine.

``python benches/python/compare.py [--quick] [--json FILE]``, with the interpreter that has
lithowatt. Peers are installed from PyPI into environments of their own (``--peers-dir``); one that
cannot be installed or run is reported with the reason. All of them, ours too, run where
``/sys/class/powercap`` is a tree of four zones: two sockets, package and DRAM.

- Times are taken on static files: a live tree answers more slowly than silicon does.
- Joules are compared on the live tree of ``tests/rig`` at a constant 50 W.

Every figure is a median over processes that take turns. The machine's noise is in them all.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
PROBE = HERE / "probe.py"
sys.path.insert(0, str(HERE.parents[1] / "tests" / "rig"))

import results  # noqa: E402

from rig import Rig, StaticTree  # noqa: E402

WATTS = 50.0
"""Of both packages, in the accuracy test."""
WINDOWS = (0.01, 0.1, 1.0)
"""s."""

OURS = ("lithowatt rapl", "lithowatt all")
PEERS: dict[str, tuple[str, ...]] = {
    "pyRAPL": ("pyRAPL",),
    "pyJoules": ("pyJoules",),
    "zeus": ("zeus",),
    "codecarbon task": ("codecarbon",),
    "codecarbon tracker": ("codecarbon",),
    "CodeGreen": ("codegreen",),
    # Only prereleases are published.
    "EMT": ("--pre", "emt"),
    "psutil loop": ("psutil",),
}
"""Name of a meter in probe.py: what to give pip."""

GOALS: dict[str, tuple[str, float, str]] = {
    "import": ("`import lithowatt` above bare Python", 10.0, "ms"),
    "pair_rapl": ("warm start + stop, four RAPL zones and the process CPU clock", 10.0, "µs"),
    "pair_all": ("warm start + stop, all methods that open here", 100.0, "µs"),
    "first_all": ("first start in a process, all methods", 2.0, "ms"),
    "sampler_10": ("sampler at 10 Hz, of a core", 0.05, "%"),
    "sampler_100": ("sampler at 100 Hz, of a core", 0.3, "%"),
    "sampler_1000": ("sampler at 1000 Hz, of a core", 2.5, "%"),
    "memory": ("added memory (PSS) after a window", 3.0, "MB"),
    "size": ("size of the extension", 1.5, "MB"),
}


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    rounds: int
    peer_rounds: int
    imports: int
    budget: float
    seconds: float
    repeats: tuple[int, ...]


FULL = Effort(5, 2, imports=30, budget=1.0, seconds=10.0, repeats=(30, 10, 3))
QUICK = Effort(2, 1, imports=8, budget=0.2, seconds=2.0, repeats=(5, 3, 1))


@dataclass
class Meter:
    """A meter under test."""

    name: str
    python: Path
    version: str = ""
    reason: str | None = None
    """Why it cannot be measured."""
    figures: dict[str, list[Any]] = field(default_factory=dict)

    def values(self, task: str, *keys: str) -> list[float]:
        """A figure of every answer to a task."""
        found = []
        for answer in self.figures.get(task, []):
            for key in keys:
                answer = answer[key]
            found.append(answer)
        return found

    def median(self, task: str, *keys: str) -> float | None:
        values = self.values(task, *keys)
        return median(values) if values else None


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# -- environments ----------------------------------------------------------------------------------


def interpreter(directory: Path) -> Path:
    return directory / "bin" / "python"


def installed(directory: Path, requirement: Sequence[str]) -> tuple[str, str | None]:
    """Makes an environment with one distribution: its version, and why that failed."""
    python = interpreter(directory)
    if not python.exists():
        say(f"making {directory.name} …")
        venv.create(directory, with_pip=True, clear=True)
    name = requirement[-1]
    asked = f"from importlib.metadata import version; print(version({name!r}))"
    found = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        say(f"installing {name} …")
        pip = [str(python), "-m", "pip", "install", "-q", *requirement]
        try:
            done = subprocess.run(pip, capture_output=True, text=True, timeout=900, check=False)
        except subprocess.TimeoutExpired:
            return "", f"pip install {name} took more than 15 minutes"
        if done.returncode != 0:
            return "", f"pip install {name}: {last_line(done.stderr)}"
        found = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False)
    return found.stdout.strip(), None


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "rror" in line] or lines
    return errors[-1][:160] if errors else "no message"


# -- machines --------------------------------------------------------------------------------------


@dataclass
class Machine:
    """Where the meters run: on static files and on the live tree."""

    on_static: Callable[[Sequence[str]], list[str]]
    on_live: dict[int, Callable[[Sequence[str]], list[str]]]
    """By number of sockets."""
    environment: dict[str, str]
    reason: str | None


@contextlib.contextmanager
def machine(scratch: Path) -> Iterator[Machine]:
    memory = Path("/dev/shm")
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(
            tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else scratch)
        )
        tree = stack.enter_context(
            StaticTree(Path(place) / "root", packages=2, domains=("package", "dram"))
        )
        environment = {**os.environ, "HOME": str(scratch), "TMPDIR": str(scratch)}
        reason = Rig.unavailable_reason()
        if reason is not None:
            # Ours takes the tree's place as an option; the others do not.
            environment["LITHOWATT_ROOT"] = str(tree.root)
            yield Machine(list, {}, environment, reason)
            return
        rigs = {
            sockets: stack.enter_context(
                Rig(packages=sockets, domains=("package", "dram"), watts=WATTS)
            )
            for sockets in (1, 2)
        }
        # The rig's private namespace, with the static tree in the place of the live one.
        script = 'for d in class devices/virtual; do mount --bind "$0/sys/$d/powercap" '
        script += '"/sys/$d/powercap" || exit 1; done; exec "$@"'

        def on_static(command: Sequence[str]) -> list[str]:
            return rigs[2].command(["sh", "-c", script, str(tree.root), *command])

        on_live: dict[int, Callable[[Sequence[str]], list[str]]] = {
            sockets: rig.command for sockets, rig in rigs.items()
        }
        yield Machine(on_static, on_live, environment, None)


def probe(
    meter: Meter,
    task: str,
    on: Callable[[Sequence[str]], list[str]],
    where: Machine,
    scratch: Path,
    **arguments: Any,
) -> None:
    """Runs a task and keeps its answer; a meter that fails is out, with the reason."""
    if meter.reason is not None:
        return
    options = [f"{key}={json.dumps(value)}" for key, value in arguments.items()]
    command = on([str(meter.python), str(PROBE), meter.name, task.rstrip("12"), *options])
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            cwd=scratch,
            env=where.environment,
        )
    except subprocess.TimeoutExpired:
        meter.reason = f"{task} did not end in 3 minutes"
        return
    if done.returncode != 0:
        meter.reason = f"{task}: {last_line(done.stderr)}"
        return
    meter.figures.setdefault(task, []).append(json.loads(done.stdout))


# -- measuring -------------------------------------------------------------------------------------


def import_times(
    meters: Sequence[Meter], bare: Path, rounds: int, where: Machine, scratch: Path
) -> list[float]:
    """Wall time of whole interpreters, ms: none imported (returned), and what each import adds."""
    modules = json.loads(
        subprocess.check_output(
            [
                sys.executable,
                "-c",
                f"import sys, json; sys.path.insert(0, {str(HERE)!r}); import probe;"
                "print(json.dumps({k: v[0] for k, v in probe.METERS.items()}))",
            ]
        )
    )
    nothing: list[float] = []

    def run(python: Path, code: str) -> float:
        begun = time.perf_counter()
        subprocess.run(
            [python, "-I", "-c", code],
            check=True,
            cwd=scratch,
            env=where.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return 1e3 * (time.perf_counter() - begun)

    for number in range(rounds + 1):
        baseline = run(bare, "pass")
        if number:
            nothing.append(baseline)
        for meter in meters:
            # Those that take a second are measured less often.
            if meter.reason is not None or (number > 5 and meter.name not in OURS):
                continue
            try:
                took = run(meter.python, f"import {modules[meter.name]}")
            except subprocess.CalledProcessError:
                meter.reason = f"import {modules[meter.name]} fails"
                continue
            if number:
                meter.figures.setdefault("import", []).append(took - baseline)
    return nothing


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    effort = QUICK if options.quick else FULL
    peers_dir: Path = options.peers_dir
    peers_dir.mkdir(parents=True, exist_ok=True)
    bare = peers_dir / "bare"
    if not interpreter(bare).exists():
        venv.create(bare, with_pip=False, clear=True)
    own = Path(sys.executable)
    version = importlib.util.find_spec("lithowatt") and subprocess.check_output(
        [own, "-c", "import lithowatt; print(lithowatt.__version__)"], text=True
    )
    if not version:
        raise SystemExit("lithowatt is not installed in this interpreter")
    ours = [Meter(name, own, version.strip()) for name in OURS]
    edges = Meter("lithowatt rapl, edges", own)
    sampling = [Meter("lithowatt 100 Hz", own), Meter("lithowatt 1000 Hz", own)]
    nothing = Meter("nothing", own)
    peers = []
    for name, requirement in PEERS.items():
        if options.only and name not in options.only:
            continue
        directory = peers_dir / requirement[-1]
        peer = Meter(name, interpreter(directory))
        peer.version, peer.reason = installed(directory, requirement)
        peers.append(peer)
    meters = [*ours, *peers]
    with machine(scratch) as where:
        if where.reason is not None:
            for peer in peers:
                peer.reason = peer.reason or f"no tree to show it: {where.reason}"

        def run(meter: Meter, task: str, **arguments: Any) -> None:
            probe(meter, task, where.on_static, where, scratch, **arguments)

        say("imports …")
        bare_ms = import_times(meters, interpreter(bare), effort.imports, where, scratch)
        for number in range(effort.rounds):
            say(f"round {number + 1} of {effort.rounds} …")
            # Peers are far from the goals: fewer rounds will do.
            for meter in [*ours, edges, *(peers if number < effort.peer_rounds else [])]:
                run(meter, "first")
                run(meter, "warm", budget=effort.budget)
                run(meter, "memory")
        say("first start of all methods, when nobody used perf for a while …")
        rested = Meter("lithowatt all", own)
        for _ in range(effort.rounds):
            # The kernel forgets the last counter of a task after a second.
            time.sleep(2.5)
            run(rested, "first")
        say("background …")
        for number in range(1 if options.quick else 2):
            for meter in [nothing, *ours, *sampling, *([] if number else peers)]:
                run(meter, "background", seconds=effort.seconds)
        say("accuracy …")
        for sockets, on_live in where.on_live.items():
            for meter in meters:
                for window, repeats in zip(WINDOWS, effort.repeats, strict=True):
                    probe(
                        meter,
                        f"accuracy{sockets}",
                        on_live,
                        where,
                        scratch,
                        window=window,
                        repeats=repeats,
                    )
    extension = importlib.util.find_spec("lithowatt._core")
    assert extension is not None and extension.origin is not None
    return {
        **results.head("compare"),
        "quick": options.quick,
        "bare_ms": bare_ms,
        "extension_mb": os.path.getsize(extension.origin) / 1e6,
        "meters": meters,
        "edges": edges,
        "sampling": sampling,
        "nothing": nothing,
        "rested": rested,
        "reason": where.reason,
    }


# -- tables ----------------------------------------------------------------------------------------


def figure(value: float | None, scale: float = 1.0) -> str:
    """Three significant digits, plainly written."""
    if value is None:
        return "–"
    value *= scale
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def spread(values: Sequence[float], scale: float = 1.0) -> str:
    """Lowest and highest."""
    if not values:
        return "–"
    return f"{figure(min(values), scale)} – {figure(max(values), scale)}"


def above(values: Sequence[float], baseline: float) -> list[float]:
    return [value - baseline for value in values]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def goals(found: dict[str, Any]) -> str:
    rapl, everything = found["meters"][:2]
    idle = found["nothing"].median("background", "percent") or 0.0
    measured: dict[str, tuple[list[float], float]] = {
        "import": (rapl.values("import"), 1.0),
        "pair_rapl": (rapl.values("warm", "pair"), 1e6),
        "pair_all": (everything.values("warm", "pair"), 1e6),
        "first_all": (everything.values("first", "first_start"), 1e3),
        "sampler_10": (above(rapl.values("background", "percent"), idle), 1.0),
        "memory": (everything.values("memory", "window", "pss"), 1.0),
        "size": ([found["extension_mb"]], 1.0),
    }
    for name, meter in zip(("sampler_100", "sampler_1000"), found["sampling"], strict=True):
        measured[name] = (above(meter.values("background", "percent"), idle), 1.0)
    rows = []
    for key, (what, goal, unit) in GOALS.items():
        values, scale = measured[key]
        if not values:
            rows.append([what, f"{goal:g} {unit}", "–", "–", "–", "not measured"])
            continue
        middle = median(values) * scale
        rows.append(
            [
                what,
                f"≤ {goal:g} {unit}",
                f"{figure(middle)} {unit}",
                spread(values, scale),
                f"{middle / goal:.2f}",
                "met" if middle <= goal else "missed",
            ]
        )
    return table(["cost", "goal", "median", "lowest – highest", "of the goal", ""], rows)


def details(found: dict[str, Any]) -> str:
    rapl, everything = found["meters"][:2]
    edges, rested = found["edges"], found["rested"]
    rows = []
    for what, meter in (
        ("rapl, no sampler", edges),
        ("rapl, 0.1 s sampler", rapl),
        ("all methods, 0.1 s sampler", everything),
    ):
        rows.append(
            [
                what,
                figure(meter.median("warm", "pair"), 1e6),
                figure(meter.median("warm", "pair_spaced"), 1e6),
                figure(meter.median("warm", "pair_and_result"), 1e6),
                figure(meter.median("first", "first_start"), 1e3),
                figure(meter.median("first", "cold"), 1e3),
            ]
        )
    rows.append(
        [
            "all methods, nobody used perf for 2.5 s",
            "–",
            "–",
            "–",
            figure(rested.median("first", "first_start"), 1e3),
            figure(rested.median("first", "cold"), 1e3),
        ]
    )
    times = table(
        [
            "lithowatt",
            "start + stop µs",
            "… 60 ms apart µs",
            "… and read µs",
            "first start ms",
            "… and making the meter ms",
        ],
        rows,
    )
    memory = []
    for what, stage in (
        ("after `import lithowatt`", "import"),
        ("after a window", "window"),
        ("after its reading", "result"),
    ):
        memory.append(
            [
                what,
                figure(everything.median("memory", stage, "rss")),
                figure(everything.median("memory", stage, "pss")),
            ]
        )
    return times + "\n\n" + table(["all methods", "RSS +MB", "PSS +MB"], memory)


def peers(found: dict[str, Any]) -> str:
    reference = found["meters"][0].median("warm", "pair")
    idle = found["nothing"].median("background", "percent") or 0.0
    rows = []
    for meter in found["meters"]:
        pair = meter.median("warm", "pair")
        ratio = "–" if not (pair and reference) else figure(pair / reference) + " ×"
        busy = meter.values("background", "percent")
        rows.append(
            [
                f"{meter.name} {meter.version}".strip(),
                figure(meter.median("import")),
                figure(meter.median("first", "cold"), 1e3),
                figure(pair, 1e6),
                ratio,
                figure(meter.median("warm", "pair_and_result"), 1e6),
                figure(median(busy) - idle) if busy else "–",
                figure(meter.median("memory", "result", "rss")),
            ]
        )
    head = [
        "meter",
        "import ms",
        "cold start ms",
        "start + stop µs",
        "ratio",
        "… and result µs",
        "background % of a core",
        "RSS +MB",
    ]
    return table(head, rows)


def errors(found: dict[str, Any], sockets: int) -> str:
    rows = []
    for meter in found["meters"]:
        answers = meter.figures.get(f"accuracy{sockets}", [])
        if not answers:
            continue
        cells = []
        for answer in answers:
            off = [
                (joules / (WATTS * seconds) - 1.0) * 100.0
                for seconds, joules in answer["windows"]
                if joules is not None
            ]
            none = len(answer["windows"]) - len(off)
            cells.append(
                (f"{median(off):+.1f} % ({min(off):+.1f} … {max(off):+.1f})" if off else "none")
                + (f", {none} none" if off and none else "")
            )
        cells += ["–"] * (len(WINDOWS) - len(cells))
        rows.append([meter.name, *cells])
    what = f"package joules against truth, sockets: {sockets}"
    head = [what, *(f"{1e3 * w:g} ms" for w in WINDOWS)]
    return table(head, rows)


def where(machine: dict[str, Any]) -> str:
    linux = ".".join(machine["kernel"].split(".")[:2])
    return (
        f"{machine['cpus']} CPUs, Linux {linux}, Python {machine['python']}, "
        f"load {machine['load'][0]:.1f}"
    )


def report(found: dict[str, Any]) -> str:
    bare = found["bare_ms"]
    parts = [
        f"{found['date'][:10]}, {where(found['machine'])}" + (", quick" if found["quick"] else ""),
        goals(found),
        details(found),
        f"Bare Python starts in {figure(median(bare))} ms ({spread(bare)}).",
        peers(found),
        *(
            [errors(found, 1), errors(found, 2)]
            if found["reason"] is None
            else [f"No accuracy: {found['reason']}."]
        ),
    ]
    failed = [m for m in [*found["meters"], found["edges"], *found["sampling"]] if m.reason]
    parts += [f"- {m.name}: not measured, or not further: {m.reason}" for m in failed]
    return "\n\n".join(parts)


QUANTITIES: tuple[tuple[str, tuple[str, ...], str, float], ...] = (
    ("import above bare Python", ("import",), "ms", 1.0),
    ("warm start + stop", ("warm", "pair"), "µs", 1e6),
    ("… 60 ms apart", ("warm", "pair_spaced"), "µs", 1e6),
    ("… and read", ("warm", "pair_and_result"), "µs", 1e6),
    ("first start", ("first", "first_start"), "ms", 1e3),
    ("cold start", ("first", "cold"), "ms", 1e3),
    ("background, of a core", ("background", "percent"), "%", 1.0),
    ("memory after a window, PSS", ("memory", "window", "pss"), "MB", 1.0),
    ("memory after its reading, RSS", ("memory", "result", "rss"), "MB", 1.0),
)


def figures(found: dict[str, Any]) -> list[results.Figure]:
    """All figures of all meters."""
    listed = [results.figure("bare Python", "ms", found["bare_ms"])]
    listed.append(results.Figure("size of the extension", "MB", found["extension_mb"]))
    meters = [*found["meters"], found["edges"], *found["sampling"], found["nothing"]]
    rested = found["rested"]
    named = [(meter.name, meter) for meter in meters]
    for name, meter in [*named, (f"{rested.name}, perf unused for 2.5 s", rested)]:
        for what, keys, unit, scale in QUANTITIES:
            values = [value * scale for value in meter.values(*keys)]
            if values:
                listed.append(results.figure(f"{name}: {what}", unit, values))
    return listed


def plain(value: Any) -> Any:
    """For JSON."""
    return str(value) if isinstance(value, Path) else vars(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints Markdown."""
    parser = argparse.ArgumentParser(
        prog="compare.py", description="What lithowatt costs, next to its peers."
    )
    parser.add_argument("--quick", action="store_true", help="a minute or two, and more noise")
    results.argument(parser)
    parser.add_argument(
        "--only", action="append", choices=sorted(PEERS), help="this peer only; may be repeated"
    )
    parser.add_argument(
        "--peers-dir",
        type=Path,
        default=Path(tempfile.gettempdir()) / "lithowatt-bench-peers",
        help="where the peers' environments are kept (default: %(default)s)",
    )
    options = parser.parse_args(argv)
    options.peers_dir = options.peers_dir.absolute()
    with tempfile.TemporaryDirectory(prefix="lithowatt-bench-") as scratch:
        found = measure(options, Path(scratch))
    print(report(found))
    if options.json is not None:
        keys = ("meters", "edges", "sampling", "nothing", "rested", "reason")
        details = json.loads(json.dumps({key: found[key] for key in keys}, default=plain))
        how = {"quick": options.quick}
        results.write(options.json, "compare", figures(found), how, details)
    return 0


if __name__ == "__main__":
    sys.exit(main())
