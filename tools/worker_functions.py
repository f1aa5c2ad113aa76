"""Writes linker/worker_functions.ld: the functions of the extension that a Lithops worker runs.

    make worker-functions
    python tools/worker_functions.py LIBRARY

LIBRARY is a release build with symbols, for which build.rs leaves the order alone. Three jobs run
on it under valgrind's callgrind, which names each function that was run: on both runners of
localhost, with RAPL's files and without any counter. It takes some minutes, needs valgrind, nm, and
an environment that has Lithops and lithowatt.

In the names, what changes from build to build (the hash of a crate and of a function) is a `*`.
So a name may stand for functions that were not run: other versions of the same generic one.
First come the functions that the forked process of a call runs, then those that each worker runs
before its first call, and in each part, last, the names that stand for several.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
ORDER = TOP / "linker" / "worker_functions.ld"

#: What the extension is called where Python imports it.
EXTENSION = "_core.abi3.so"

HEAD = """\
/* Functions that a Lithops worker runs, beside each other; see build.rs.
   Written by `make worker-functions`. */
"""

#: A job of three calls: the first one finds the machine out, others find it known.
JOB = """
import sys
import lithops

def work(x):
    return sum(range(x))

executor = lithops.FunctionExecutor(config={
    "lithops": {"backend": "localhost", "storage": "localhost", "data_cleaner": False},
    "localhost": {"runtime": "python", "version": int(sys.argv[1]), "worker_processes": 1},
})
futures = executor.map(work, [10, 20, 1_000_000])
executor.get_result(futures)
assert all(future.stats["worker_func_energy_consumption"] > 0 for future in futures)
"""

#: What a worker does before its first call.
WARM_UP = """
import lithops.worker.handler as handler
from lithowatt.lithops import _worker
assert _worker.patch(handler)
"""

#: What the forked process of a call asks of the meter.
CALL = ("prepare_for", "begin", "finish", "get_finished", "leave")

#: One package with a memory zone, as powercap has it.
ZONES = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "dram"}


def machine_with_rapl(root: Path) -> Path:
    """A tree whose counters can be read; all else is this machine's."""
    for zone, name in ZONES.items():
        here = root / "sys" / "class" / "powercap" / zone
        here.mkdir(parents=True)
        (here / "name").write_text(f"{name}\n")
        (here / "max_energy_range_uj").write_text("262143328850\n")
        (here / "energy_uj").write_text("1000000\n")
    (root / "sys" / "devices").symlink_to("/sys/devices")
    (root / "proc").symlink_to("/proc")
    return root


def functions_run(profile: str) -> Iterator[str]:
    """Symbols of the extension in what callgrind wrote for a process.

    Its names are written once, and are numbers from then on; the number of a file and of a function
    also may be given first where it is called: https://valgrind.org/docs/manual/cl-format.html.
    """
    names: dict[tuple[str, str], str] = {}
    inside = False
    line = re.compile(r"^(c?)(ob|fn)=\((\d+)\)(?: (.*))?$")
    for found in map(line.match, profile.splitlines()):
        if found is None:
            continue
        called, kind, number, name = found.groups()
        if name is not None:
            names[kind, number] = name
        if called:
            continue
        if kind == "ob":
            inside = names[kind, number].endswith(EXTENSION)
        elif inside:
            # The second and further runs of a recursive function are told apart by a number.
            yield re.sub(r"'\d+$", "", names[kind, number])


def pattern(symbol: str) -> str:
    """The symbol in any build: hashes of crates, of functions and of LLVM's modules are left open.

    >>> pattern("_ZN9lithowatt5clock12monotonic_ns17h0123456789abcdefE")
    '_ZN9lithowatt5clock12monotonic_ns17h*E'
    >>> pattern("_RNvNtNtCsjrHSEGnQ3l9_3std6thread7current")
    '_RNvNtNtCs*_3std6thread7current'
    """
    symbol = re.sub(r"17h[0-9a-f]{16}E", "17h*E", symbol)
    symbol = re.sub(r"Cs[0-9A-Za-z]+_", "Cs*_", symbol)
    return re.sub(r"\.llvm\.\d+", ".llvm.*", symbol)


def script(symbols: Iterable[str]) -> str:
    """A script that GNU ld and lld add to their own: these functions come first, in this order."""
    # Rust gives each function a section of its own, and those that it holds for rare another one.
    body = "\n".join(f"    *(.text.{name} .text.unlikely.{name})" for name in symbols)
    return f"{HEAD}SECTIONS\n{{\n  .text.worker :\n  {{\n{body}\n  }}\n}}\nINSERT BEFORE .text;\n"


def run_under_callgrind(
    program: list[str], packages: Path, root: Path | None, of: str, within: Iterable[str] = ()
) -> set[str]:
    """Symbols of the extension that ran in processes whose command has `of` in it.

    Args:
        program: Arguments of Python's `-c`.
        packages: Where lithowatt is.
        root: Of the machine that is metered, else this one.
        of: In the command.
        within: Methods of the meter; where there are any, what ran within them alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        env = {k: v for k, v in os.environ.items() if not k.startswith(("ENERGY_", "PYTHON"))}
        env |= {"PYTHONPATH": str(packages), "HOME": folder, "TMPDIR": folder}
        if root is not None:
            env["LITHOWATT_ROOT"] = str(root)
        command = ["valgrind", "--quiet", "--tool=callgrind", "--trace-children=yes"]
        command += ["--demangle=no", f"--callgrind-out-file={home}/profile.%p"]
        command += [f"--toggle-collect=*__pymethod_{method}__*" for method in within]
        command += [sys.executable, "-c", *program]
        quiet = subprocess.DEVNULL
        subprocess.run(command, check=True, env=env, cwd=home, stdout=quiet, stderr=quiet)  # noqa: S603
        symbols = set()
        for file in home.glob("profile.*"):
            profile = file.read_text(errors="replace")
            command_line = re.search("^cmd:(.*)", profile, re.MULTILINE)
            if command_line is not None and of in command_line[1]:
                symbols |= set(functions_run(profile))
    return symbols


def functions_of(library: Path) -> dict[str, str]:
    """Address by symbol of a library's functions."""
    command = ["nm", str(library)]
    listed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    # An address, `t` or `T` for code, and a name.
    found = re.findall(r"^([0-9a-f]+) [tT] (\S+)$", listed.stdout, re.MULTILINE)
    return {symbol: address for address, symbol in found}


def patterns_of(ran: Iterable[str], functions: dict[str, str]) -> set[str]:
    """Patterns of what ran, under each of its names: equal functions are one, named after any."""
    addresses = {functions[symbol] for symbol in ran if symbol in functions}
    return {pattern(symbol) for symbol, address in functions.items() if address in addresses}


def main(argv: list[str] | None = None) -> int:
    """Writes the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path, help="a release build with symbols")
    library: Path = parser.parse_args(argv).library
    missing = [program for program in ("valgrind", "nm") if shutil.which(program) is None]
    if missing:
        print(f"missing: {missing}; apt-get install valgrind binutils", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        packages = Path(folder) / "packages"
        left_out = shutil.ignore_patterns("__pycache__", "_core*.so")
        shutil.copytree(TOP / "python" / "lithowatt", packages / "lithowatt", ignore=left_out)
        shutil.copytree(TOP / "lithops_patch", packages / "lithops_patch", ignore=left_out)
        shutil.copy(library, packages / "lithowatt" / EXTENSION)
        rapl = machine_with_rapl(Path(folder) / "machine")
        first = run_under_callgrind([WARM_UP], packages, rapl, sys.executable)
        print(f"before the first call: {len(first)} functions", flush=True)
        called = set()
        for root in (None, rapl):
            called |= run_under_callgrind([JOB, "1"], packages, root, "localhost-runner", CALL)
        print(f"the process of a call: {len(called)} functions", flush=True)
        ran = first | called
        for runner, root in ((1, None), (1, rapl), (2, rapl)):
            found = run_under_callgrind([JOB, str(runner)], packages, root, "localhost-runner")
            ran |= found
            counters = "no counter" if root is None else "RAPL"
            print(f"a job, localhost v{runner}, {counters}: {len(found)} functions", flush=True)
    functions = functions_of(library)
    count = Counter(map(pattern, functions))
    parts = [patterns_of(some, functions) for some in (called, first, ran)]
    if not parts[0]:
        print(f"{library} has no symbols: it is to be built with strip=none", file=sys.stderr)
        return 1
    order: list[str] = []
    for part in parts:
        order += sorted(part.difference(order), key=lambda name: (count[name] > 1, name))
    ORDER.write_text(script(order), encoding="utf-8")
    print(f"{ORDER}: {len(order)} names for {sum(count[name] for name in order)} functions")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
