"""The command line: `python -m lithops_patch check|apply|revert`."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence

from ._files import Refused
from ._patch import Change, State, apply, check, revert
from ._targets import LITHOPS, TARGETS, Target

_DESCRIPTION = """\
Patches a vendored copy in place, so that it meters its functions where lithowatt
is installed, and takes the patch out again, to the byte.
"""

_EPILOG = """\
Exit code: of check, 0 patched or metering by itself, 1 unpatched, 2 unknown; of apply
and revert, 0 done or nothing to do, 2 refused and nothing changed.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    target = TARGETS[options.target]
    try:
        if options.command == "check":
            return _check(target, options.path)
        work = apply if options.command == "apply" else revert
        changes = work(target, options.path, write=not options.diff)
    except Refused as error:
        for line in str(error).splitlines():
            print(f"lithops_patch: {line}", file=sys.stderr)
        return 2
    if options.diff:
        sys.stdout.flush()
        for change in changes:
            sys.stdout.buffer.write(_diff(change))
        sys.stdout.buffer.flush()
        return 0
    for change in changes:
        _say(options.command, target, change)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lithops_patch",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("check", "say which files are patched"),
        ("apply", "patch"),
        ("revert", "take the patch out"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "--target",
            choices=sorted(TARGETS),
            default=LITHOPS.package,
            help="what to patch (default: %(default)s)",
        )
        command.add_argument(
            "--path",
            metavar="DIR",
            help="the package, or the repository or site-packages that holds it "
            "(default: what this Python would import)",
        )
        if name != "check":
            command.add_argument(
                "--diff", action="store_true", help="print what would change, change nothing"
            )
    return parser


def _check(target: Target, path: str | None) -> int:
    states = set()
    for verdict in check(target, path):
        print(verdict)
        states.add(verdict.state)
    if State.UNKNOWN in states:
        return 2
    # What meters itself needs no patch in its other files.
    return 1 if State.UNPATCHED in states and State.OWN not in states else 0


def _say(command: str, target: Target, change: Change) -> None:
    if command == "apply":
        already = "" if change.changed else "already "
        print(f"{change.file}: {already}patched ({target.version})")
    else:
        print(
            f"{change.file}: {'reverted' if change.changed else 'not patched, nothing to revert'}"
        )


def _diff(change: Change) -> bytes:
    lines = difflib.diff_bytes(
        difflib.unified_diff,
        _lines(change.before),
        _lines(change.after),
        f"a/{change.path}".encode(errors="surrogateescape"),
        f"b/{change.path}".encode(errors="surrogateescape"),
    )
    return b"".join(
        line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n"
        for line in lines
    )


def _lines(data: bytes) -> list[bytes]:
    """Lines as `patch` and `git` count them: a CR belongs to its line."""
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _run() -> int:
    try:
        # One line and not a traceback for a pipe that was closed or a disk that is full. What is
        # patched may be on a machine without lithowatt.
        from lithowatt._support.command import guarded
    except ImportError:
        return main()
    return guarded(main)


if __name__ == "__main__":
    sys.exit(_run())
