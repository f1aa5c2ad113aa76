"""``lithowatt setup``: rights and a service that are there after the next boot, too."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lithowatt._setup import counters, service
from lithowatt._setup.files import Found, Planned, below, check, look, remove, write
from lithowatt._support.command import OURS, complain, runnable
from lithowatt._support.text import counted, few, printable, terminal_width, wrapped
from lithowatt.errors import ConflictingOptionsError, LithowattError, UnavailableError

if TYPE_CHECKING:
    import argparse

FAILED = 2
"""Exit code where something is left to do that was asked for."""

PERF = (
    "perf's energy counters cannot be given to a group. They need CAP_PERFMON, or for everybody "
    "kernel.perf_event_paranoid=0 in a file of /etc/sysctl.d. They are the same joules as rapl's."
)


def add_cli(commands: Any) -> None:
    """Adds ``setup`` to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "setup",
        help="let a group read the energy counters, or run the agent, at each boot",
        description="Writes what gives a group the right to read the energy counters at each boot "
        "(a rule of udev, or a line of tmpfiles.d where there is no udev) and gives it now, too; "
        "or the node agent's service of systemd. Everything is shown before it is done. Run it as "
        "root, on the machine and not in a container. Exit code 0, or 2 where something was not "
        "done.",
    )
    add = parser.add_argument
    add("--group", metavar="NAME", help="users of this group may read the counters themselves")
    add(
        "--agent",
        action="store_true",
        help="start the node agent at each boot: it holds the counters and gives everybody the "
        "joules in coarser steps",
    )
    add("--dry-run", action="store_true", help="show what would be done, and do nothing")
    add("--yes", action="store_true", help="do not ask")
    add(
        "--undo",
        action="store_true",
        help="take back what setup wrote; with --agent the service only",
    )
    add("--root", metavar="DIR", help="the system below this directory, instead of this machine")
    parser.set_defaults(func=setup)


def setup(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    root = Path(os.path.abspath(arguments.root or "/"))  # noqa: PTH100 - resolves no link
    if not root.is_dir():
        raise UnavailableError(f"{root} is not a directory")
    if arguments.undo and arguments.group:
        raise ConflictingOptionsError("--undo takes back what is there; it takes no --group")
    if not (arguments.undo or arguments.group or arguments.agent):
        raise ConflictingOptionsError(
            "expected --group NAME (its users may read the counters), --agent (everybody gets "
            "coarser joules from a service), or --undo"
        )
    if str(root) == "/" and not arguments.dry_run:
        _refuse_here(arguments)
    steps = _Undo(root, arguments.agent) if arguments.undo else _Do(root, arguments)
    for line in steps.shown():
        print(line)
    if arguments.dry_run or not steps.anything:
        return 0
    if not arguments.yes and not _agreed():
        return FAILED
    return steps.run()


def _refuse_here(arguments: argparse.Namespace) -> None:
    """Raises UnavailableError where it cannot work."""
    if os.geteuid() != 0:
        words = ["--undo"] if arguments.undo else []
        words += ["--group", arguments.group] if arguments.group else []
        words += ["--agent"] if arguments.agent else []
        command = runnable(f"{OURS} setup {shlex.join(words)}")
        raise UnavailableError(f"only root may do that: {command} (--dry-run shows what it does)")
    from lithowatt.environment import detect_environment

    runtime = detect_environment("/").container_runtime
    if runtime is not None:
        raise UnavailableError(
            f"this is a container ({runtime}): the counters are its host's, so run this on the "
            "host (--dry-run shows what it does, --root DIR writes into another system's tree)"
        )


def _agreed() -> bool:
    """Whether the user wants it."""
    sys.stdout.flush()
    if sys.stdin is None or not sys.stdin.isatty():
        complain("nothing was done: there is nobody to ask; --yes does it without asking")
        return False
    try:
        answer = input("Do this? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() in ("y", "yes"):
        return True
    complain("nothing was done")
    return False


class _Do:
    """What ``--group`` and ``--agent`` do."""

    def __init__(self, root: Path, arguments: argparse.Namespace) -> None:
        """All that may be refused is refused here, before anything is done."""
        self.root = root
        self.group = counters.group_of(arguments.group, root) if arguments.group else None
        if self.group is not None and self.group.gid == 0:
            raise UnavailableError(
                f"group {arguments.group} (gid 0) is root's own, and root may read the counters "
                "anyway; expected a group of users, such as one made by: groupadd --system energy"
            )
        self.agent: bool = arguments.agent
        files = [counters.rights(self.group, root)] if self.group is not None else []
        if self.agent:
            files.append(service.unit())
        self.files: list[tuple[Planned, Found]] = [(one, check(root, one.path)) for one in files]
        self.commands = service.commands(root, True) if self.agent else []
        # The way that gives the right may be another one than before, or its group.
        self.old: list[Found] = []
        if self.group is not None:
            for path in (counters.RULE, counters.TMPFILES):
                found = look(root, path)
                if found.is_ours:
                    self.old.append(found)
        self.anything = True

    def shown(self) -> list[str]:
        """What it does, for people."""
        width = terminal_width()
        lines: list[str] = []
        for planned, found in self.files:
            here = below(self.root, planned.path)
            if found.content == planned.content:
                lines += [f"{here} is as it should be:"]
            else:
                verb = "writes" if found.content is None else "replaces its own"
                lines += [f"{verb} {here}:"]
            lines += [f"    {line}".rstrip() for line in planned.content.splitlines()] + [""]
        for found in self._replaced():
            lines += [f"removes its own {below(self.root, found.path)}", ""]
        if self.group is not None:
            lines += self._of_group(self.group, width)
        for command in self.commands:
            lines.append(f"runs {shlex.join(command)}")
        if self.agent:
            told = (
                "The agent's ring holds at most 100 samples a second in steps of 1 mJ, for "
                "everybody (docs/how-to/agent.md)."
            )
            lines += wrapped(told, width, "")
        return lines

    def _of_group(self, group: counters.Group, width: int) -> list[str]:
        """What the group gets, and what that means."""
        names = few([printable(name) for name in group.members], 8)
        users = f"{names}, and anybody" if names else "anybody"
        told = (
            f"Group {group.name} ({users} whose login group it is) may then read the counters, now "
            "and after each boot."
        )
        lines = wrapped(told, width, "")
        if not group.members:
            told = (
                "note: no user is listed as its member, so it may give nobody the right: "
                f"usermod --append --groups {group.name} USER"
            )
            lines += wrapped(told, width, "", "  ")
        lines += wrapped(counters.SIDE_CHANNEL, width, "")
        lines += wrapped(PERF, width, "")
        if not counters.there(self.root):
            told = "note: there is no counter of powercap now; lithowatt doctor says why"
            lines += wrapped(told, width, "", "  ")
        if counters.readable_by_all(self.root):
            told = "note: everybody may read the counters now, and setup takes no right away"
            lines += wrapped(told, width, "", "  ")
        other = look(self.root, counters.TMPFILES)
        if other.not_ours and "energy_uj" in (other.content or ""):
            told = (
                f"note: {below(self.root, counters.TMPFILES)}, which setup did not write, sets "
                "rights of the counters as well"
            )
            lines += wrapped(told, width, "", "  ")
        return [*lines, ""]

    def _replaced(self) -> list[Found]:
        """Files of ours that give the right in another way."""
        new = {planned.path for planned, _ in self.files}
        return [found for found in self.old if found.path not in new]

    def run(self) -> int:
        """Does it; the exit code."""
        for planned, found in self.files:
            if found.content != planned.content:
                write(self.root, planned)
        for found in self._replaced():
            check(self.root, found.path)
            remove(self.root, found.path)
        if self.group is not None:
            for found in self.old:
                before = counters.group_in(found.content or "")
                if before not in (None, 0, self.group.gid):
                    counters.revoke(self.root, before)
            done = counters.grant(self.root, self.group.gid)
            if done:
                print(f"done: group {self.group.name} may read {counted(len(done), 'file')} now")
                print("a user who was added to the group today logs in anew first")
            else:
                print("done")
        return _tell_systemd(self.commands)


class _Undo:
    """What ``--undo`` does."""

    def __init__(self, root: Path, only_agent: bool) -> None:
        """All that may be refused is refused here, before anything is done."""
        self.root = root
        paths = (service.UNIT,) if only_agent else (counters.RULE, counters.TMPFILES, service.UNIT)
        self.files: list[Found] = []
        self.others: list[Found] = []
        for path in paths:
            found = look(root, path)
            if found.is_ours:
                self.files.append(check(root, path))
            elif found.not_ours:
                self.others.append(found)
        self.anything = bool(self.files)

    def _has_unit(self) -> bool:
        return any(found.path == service.UNIT for found in self.files)

    def _groups(self) -> list[int]:
        found = [counters.group_in(one.content or "") for one in self.files]
        return sorted({gid for gid in found if gid})

    def shown(self) -> list[str]:
        """What it does, for people."""
        lines = []
        if self._has_unit():
            lines = [f"runs {shlex.join(one)}" for one in service.commands(self.root, False)]
        lines += [f"removes {below(self.root, found.path)}" for found in self.files]
        for gid in self._groups():
            lines.append(f"takes from group {gid} the right to read the counters")
        for found in self.others:
            lines.append(f"leaves {below(self.root, found.path)}: {found.not_ours}")
        return lines or ["there is nothing that setup wrote"]

    def run(self) -> int:
        """Does it; the exit code."""
        code = _tell_systemd(service.commands(self.root, False)) if self._has_unit() else 0
        for found in self.files:
            remove(self.root, found.path)
        for gid in self._groups():
            try:
                counters.revoke(self.root, gid)
            except LithowattError as error:
                complain(f"{error}; the next boot takes the right away")
                code = FAILED
        if self._has_unit() and str(self.root) == "/":
            service.run(["systemctl", "daemon-reload"])  # it forgets the unit
        print("done")
        return code


def _tell_systemd(commands: list[list[str]]) -> int:
    for command in commands:
        problem = service.run(command)
        if problem is not None:
            complain(f"{shlex.join(command)}: {problem}; run it yourself")
            return FAILED
    return 0
