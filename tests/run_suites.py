"""Runs every suite of the project, whatever the one before came to, and names each result.

The tests in Python run in two passes: side by side those that bear company, then one by one those
marked ``quiet``. If few tests failed, those run once more, alone: whatever else the machine did may
have disturbed them. The closing lines are one line per suite and the counts of all tests in Python;
one that needed the second attempt counts as passed, and the line of that pass tells how many did.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

PACKAGES = ("lithowatt", "lithops_patch")

FAST = "not (quiet or rig or lithops or cluster or images or kernel or slow)"

SIDE_BY_SIDE = "not (quiet or kernel)"

RUN_AGAIN = 12
"""So many failures at most get a second attempt: more are no accident of a busy machine."""

TESTS_FAILED = 1
"""pytest's exit code where it ran to its end and tests failed."""

NO_TESTS = 5
"""pytest's exit code where a selection leaves nothing to run."""

CUT = re.compile(r"^!+ (?:[\w.]+: )?stopping after \d+ failures !+$", re.M)
"""What pytest prints where ``-x`` or ``--maxfail`` ended it: the tests after that did not run."""

ESCAPES = re.compile(rb"\x1b\[[0-9;]*m")
COUNT = re.compile(r"(\d+) (failed|passed|skipped|xfailed|xpassed|errors?|warnings?)\b")
RUST = re.compile(r"^test result: .*?(\d+) passed; (\d+) failed; (\d+) ignored", re.M)
ORDER = ("failed", "passed", "skipped", "xfailed", "xpassed", "warnings", "errors")


@dataclass
class Result:
    """What a suite came to."""

    name: str
    code: int
    seconds: float
    counts: Counter[str] = field(default_factory=Counter)
    cut: bool = False

    def __str__(self) -> str:
        came_to = "passed" if self.code == 0 else f"FAILED (exit code {self.code})"
        if self.cut:
            came_to += ", ended early by -x or --maxfail"
        return f"{self.name:<24} {came_to}: {told(self.counts)} in {self.seconds:.0f} s"


def told(counts: Counter[str]) -> str:
    """``1 failed, 20 passed``, in pytest's order and grammar."""
    parts = []
    for word in ORDER:
        number = counts[word]
        if number:
            singular = number == 1 and word in ("errors", "warnings")
            parts.append(f"{number} {word[:-1] if singular else word}")
    return ", ".join(parts) or "no tests ran"


def run(command: list[str]) -> tuple[int, str]:
    """Runs a command whose output is shown as it comes; its exit code and its output."""
    print(f"\n== {shlex.join(command)}", flush=True)
    parts = []
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            assert process.stdout is not None
            while part := os.read(process.stdout.fileno(), 1 << 16):
                parts.append(part)
                sys.stdout.buffer.write(part)
                sys.stdout.buffer.flush()
    except OSError as error:
        print(f"{command[0]}: {error}", flush=True)
        return 127, ""
    return process.returncode, ESCAPES.sub(b"", b"".join(parts)).decode(errors="replace")


def rust() -> Result:
    """The tests of the core."""
    started = time.monotonic()
    # Without --no-fail-fast, the files after one that fails are not run.
    code, output = run(["cargo", "test", "--quiet", "--no-fail-fast"])
    counts: Counter[str] = Counter()
    for passed, failed, ignored in RUST.findall(output):
        counts.update(passed=int(passed), failed=int(failed), skipped=int(ignored))
    return Result("rust", code, time.monotonic() - started, counts)


def pytest(name: str, *arguments: str) -> Result:
    """One pass of pytest."""
    started = time.monotonic()
    color = ["--color=yes"] if sys.stdout.isatty() else []
    code, output = run([sys.executable, "-m", "pytest", *color, *arguments])
    counts: Counter[str] = Counter()
    closing = [line for line in output.splitlines() if re.search(r" in [\d.]+s\b", line)]
    for number, word in COUNT.findall(closing[-1] if closing else ""):
        counts[word if word.endswith("ed") or word.endswith("s") else f"{word}s"] += int(number)
    # Where each process crashes while it collects, there are no tests either.
    nothing_chosen = code == NO_TESTS and "crashed" not in output
    seconds = time.monotonic() - started
    return Result(name, 0 if nothing_chosen else code, seconds, counts, bool(CUT.search(output)))


def again(passes: list[Result], arguments: list[str]) -> Result | None:
    """Runs the few tests that failed once more, and sets the results of their passes right."""
    failed = sum((Counter(one.counts) for one in passes), Counter[str]())
    of_tests = failed["failed"] + failed["errors"]
    complete = all(one.code in (0, TESTS_FAILED) and not one.cut for one in passes)
    if not complete or not 0 < of_tests <= RUN_AGAIN:
        return None
    second = pytest("python, failed ones again", "--last-failed", *arguments)
    if second.code == 0:
        for one in passes:
            one.code = 0
            one.counts.update(passed=one.counts.pop("failed", 0) + one.counts.pop("errors", 0))
    return second


def main() -> int:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--fast", action="store_true", help="only Python, side by side, and nothing that is slow"
    )
    parser.add_argument("--without-rust", action="store_true", help="the tests in Python alone")
    parser.add_argument(
        "--without-doctests", action="store_true", help="where optional packages are missing"
    )
    # Half of the time a test waits: for a job, a container, the end of a window.
    twice = str(2 * len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--workers", default=twice, help="tests side by side (default: two for each CPU)"
    )
    parser.add_argument("pytest", nargs="*", help="more arguments for pytest, after --")
    asked = parser.parse_args()
    # Each process has a run of neighbours, which share their file's fixtures, and takes over from
    # another one when it is through.
    side_by_side = ["-n", asked.workers, "--dist", "worksteal"]

    results = [] if asked.fast or asked.without_rust else [rust()]
    if not asked.without_doctests:
        results.append(pytest("doctests", "--quiet", "--doctest-modules", "--pyargs", *PACKAGES))
    marked = FAST if asked.fast else SIDE_BY_SIDE
    first = ["--cache-clear", *side_by_side, "-m", marked]
    passes = [pytest("python, side by side", *first, *asked.pytest)]
    if not asked.fast:
        passes.append(pytest("python, one by one", "-m", "quiet", *asked.pytest))
    second = again(passes, asked.pytest)
    results += passes if second is None else [*passes, second]

    print("\n== what each suite came to", *results, sep="\n")
    counts = sum((one.counts for one in passes), Counter[str]())
    seconds = sum(one.seconds for one in passes)
    clock = f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"
    print(f" {told(counts)} in {seconds:.2f}s ({clock}) ".center(80, "="))
    if asked.pytest and not counts:
        print("what was asked for has no test", flush=True)
        return NO_TESTS
    return max((one.code for one in results), key=abs)


if __name__ == "__main__":
    raise SystemExit(main())
