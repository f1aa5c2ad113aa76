"""Where little is allowed: everything still answers, and the metered function is left alone.

Each hardship is put on a fresh process by a launcher that takes it and then runs the interpreter.
What the process measured comes back through a pipe, as there may be no file system and no stdout.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rig import StaticTree

pytestmark = pytest.mark.slow

LAUNCHER = r'''
import ctypes, os, resource, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
NOBODY = 65534
CLONE_NEWNS = 0x20000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18


def must(result, what):
    if result != 0:
        code = ctypes.get_errno()
        sys.exit(f"launcher: {what}: {os.strerror(code)}")


def mount(source, target, kind, flags, data=None):
    encode = lambda text: None if text is None else os.fsencode(text)
    result = libc.mount(
        encode(source), encode(target), encode(kind), ctypes.c_ulong(flags), encode(data)
    )
    must(result, f"mount {target}")


def private():
    must(libc.unshare(CLONE_NEWNS), "unshare")
    mount(None, "/", None, MS_REC | MS_PRIVATE)


def reachable(paths):
    """Puts what only root may reach, such as an interpreter below /root, on a way for all."""
    for path in map(os.path.realpath, paths):
        parts = path.split("/")
        for depth in range(2, len(parts) + 1):
            above = "/".join(parts[:depth])
            if os.stat(above).st_mode & 0o001:
                continue
            kept = os.open(path, os.O_PATH)
            mount("none", above, "tmpfs", 0, "mode=755")
            os.makedirs(path)
            mount(f"/proc/self/fd/{kept}", path, None, MS_BIND | MS_REC)
            os.close(kept)
            break


def no_perf(code):
    """A seccomp filter that answers perf_event_open with ``code``."""
    number = {"x86_64": 298, "aarch64": 241}[os.uname().machine]
    program = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 0),  # load the number of the system call
            (0x15, 0, 1, number),  # is it perf_event_open?
            (0x06, 0, 0, 0x00050000 | code),  # SECCOMP_RET_ERRNO
            (0x06, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
        )
    )
    kept = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxP", 4, ctypes.addressof(kept))
    must(libc.prctl(38, 1, 0, 0, 0), "no_new_privs")
    must(libc.prctl(22, 2, header, 0, 0), "seccomp")


hardships = sys.argv[1].split(",")
command = sys.argv[2:]
nobody = "nobody" in hardships
if nobody or {"read-only", "no-proc", "no-powercap"} & set(hardships):
    private()
if nobody:
    reachable([sys.base_prefix, sys.prefix, *filter(os.path.isdir, sys.path)])
if "no-powercap" in hardships:
    mount("none", "/sys/class", "tmpfs", MS_RDONLY)
if "read-only" in hardships:
    with open("/proc/self/mountinfo") as lines:
        points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    for point in points:
        try:
            mount(None, point, None, MS_REMOUNT | MS_BIND | MS_RDONLY)
        except SystemExit:
            if point == "/":
                raise
if "no-proc" in hardships:
    mount("none", "/proc", "tmpfs", MS_RDONLY)
if nobody:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
if "no-threads" in hardships:
    # Of nobody's, there may be no process nor thread more than there are.
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
if "few-files" in hardships:
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
if "perf-eperm" in hardships:
    no_perf(1)
if "perf-enosys" in hardships:
    no_perf(38)
environment = dict(os.environ)
if "no-home" in hardships:
    environment = {"LC_ALL": "C.UTF-8"}
if "no-stdio" in hardships:
    os.close(0)
    os.close(1)
os.execve(command[0], command, environment)
'''

FUNCTION = r"""
import os, sys

def function(how):
    try:
        print("from the function")
    except OSError:
        pass
    total = sum(range(200_000))
    if how == "raise":
        raise KeyError("the function's own")
    if how == "exit":
        sys.exit(7)
    if how == "kill":
        os.kill(os.getpid(), 15)
    return total
"""

METERED = (
    FUNCTION
    + r"""
import json
how, out = sys.argv[1], int(sys.argv[2])
{before}
from lithowatt import EnergyMeter
meter = EnergyMeter({options})
try:
    with meter:
        with meter.phase("compute"):
            result = function(how)
finally:
    report = dict(stats=meter.stats(), text=repr(meter) + str(meter.reading),
                  samples=meter.reading.raw["samples"])
    os.write(out, json.dumps(report, allow_nan=False).encode())
{after}
sys.exit(0 if result == 19999900000 else 99)
"""
)

PLAIN = (
    FUNCTION
    + r"""
result = function(sys.argv[1])
sys.exit(0 if result == 19999900000 else 99)
"""
)

HARDSHIPS = [
    "nobody",
    "no-powercap",
    "read-only",
    "perf-eperm",
    "perf-enosys",
    "no-home",
    "no-proc",
    "no-stdio",
    "few-files",
    "nobody,no-threads",
    "nobody,no-powercap,read-only,perf-eperm",
    "nobody,no-powercap,read-only,perf-enosys,no-proc,no-home,no-stdio,few-files,no-threads",
]
NEED_ROOT = {"nobody", "no-powercap", "read-only", "no-proc"}
SECCOMP = {"perf-eperm", "perf-enosys"}


def skip_where_impossible(hardships: str) -> None:
    """Skips what this machine does not let a test do."""
    asked = set(hardships.split(","))
    if sys.platform != "linux":
        pytest.skip("namespaces and seccomp are Linux")
    if asked & NEED_ROOT and os.geteuid() != 0:
        pytest.skip("only root may become nobody or mount")
    if asked & SECCOMP and platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("the number of perf_event_open is not known for this architecture")
    if asked & NEED_ROOT:
        tried = launch(hardships, ["-S", "-c", ""])
        if tried.returncode != 0 and "launcher:" in tried.stderr:
            pytest.skip(f"no private mounts here: {tried.stderr.strip()}")


@dataclass
class Ended:
    """How a process ended, and what it wrote into its pipe."""

    returncode: int
    stdout: str
    stderr: str
    report: dict[str, Any] | None


def launch(hardships: str, arguments: list[str], **env: str) -> Ended:
    """Runs the interpreter under hardships. ``{pipe}`` in the arguments is the pipe's number."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as pipe:
        # A low number, as few-files allows 16 only.
        command = [sys.executable, "-S", "-c", LAUNCHER, hardships, sys.executable]
        process = subprocess.Popen(
            [*command, *(a.replace("{pipe}", str(writer)) for a in arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[writer],
            cwd="/",
            env={**os.environ, **env},
        )
        os.close(writer)
        stdout, stderr = process.communicate(timeout=60)
        written = pipe.read()
    report = json.loads(written) if written else None
    return Ended(process.returncode, stdout, stderr, report)


def metered(
    hardships: str, how: str = "return", options: str = "", before: str = "", after: str = ""
) -> Ended:
    """A metered function under hardships."""
    code = METERED.replace("{options}", options).replace("{before}", before)
    return launch(hardships, ["-c", code.replace("{after}", after), how, "{pipe}"])


def check(stats: dict[str, Any], keys: set[str]) -> None:
    """Every key is there, and what is not available says why."""
    assert set(stats) == keys
    for method in ("rapl", "perf", "ebpf", "psutil", "tdp"):
        source = stats[f"worker_func_{method}_source"]
        missing = source.startswith("unavailable: ") and len(source) > len("unavailable: ")
        assert stats[f"worker_func_{method}_available"] is not missing, source
    for key, value in stats.items():
        if "_energy_" in key and key.startswith(("worker_func_rapl", "worker_func_perf")):
            assert value is None or value > 0, key
    # No counter is left, but the model needs none.
    assert stats["worker_func_energy_consumption"] > 0
    assert stats["worker_func_energy_source"]


@pytest.fixture(scope="module")
def keys() -> set[str]:
    """The keys of a meter under no hardship."""
    ended = metered("none")
    assert ended.report is not None
    return set(ended.report["stats"])


@pytest.mark.parametrize("hardships", HARDSHIPS)
def test_everything_answers(hardships: str, keys: set[str]) -> None:
    skip_where_impossible(hardships)
    ended = metered(hardships)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == ("" if "no-stdio" in hardships else "from the function\n")
    assert ended.report is not None
    check(ended.report["stats"], keys)
    assert "energy" in ended.report["text"]


@pytest.mark.parametrize("hardships", HARDSHIPS)
@pytest.mark.parametrize("how", ["raise", "exit", "kill"])
def test_the_function_ends_as_it_would_alone(hardships: str, how: str) -> None:
    skip_where_impossible(hardships)
    alone = launch(hardships, ["-c", PLAIN, how])
    ended = metered(hardships, how)
    assert (ended.returncode, ended.stdout) == (alone.returncode, alone.stdout)
    assert ended.stderr.splitlines()[-1:] == alone.stderr.splitlines()[-1:]
    assert ended.returncode == {"raise": 1, "exit": 7, "kill": -15}[how]
    if how != "kill":
        assert ended.report is not None


# -- each hardship has its reason ---------------------------------------------------------------


def stats_of(ended: Ended) -> dict[str, Any]:
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.report is not None
    return {k.removeprefix("worker_func_"): v for k, v in ended.report["stats"].items()}


def test_no_powercap_is_absent_not_denied() -> None:
    skip_where_impossible("no-powercap")
    source = stats_of(metered("nobody,no-powercap"))["rapl_source"]
    assert "/sys/class/powercap does not exist" in source


def test_a_counter_for_root_only_is_denied_with_its_path() -> None:
    skip_where_impossible("nobody")
    # Below /tmp: pytest's own directories are root's alone.
    base = Path(tempfile.mkdtemp(prefix="lithowatt-"))
    try:
        base.chmod(0o755)
        with StaticTree(base / "root", mode=0o400) as tree:
            stats = stats_of(metered("nobody", options=f"root={str(tree.root)!r}"))
    finally:
        shutil.rmtree(base)
    assert stats["rapl_available"] is False
    assert "readable by root only" in stats["rapl_source"]
    assert "energy_uj" in stats["rapl_source"]
    assert stats["rapl_energy_pkg"] is None


@pytest.mark.parametrize("hardship", ["perf-eperm", "perf-enosys"])
def test_perf_that_is_refused_says_so(hardship: str) -> None:
    skip_where_impossible(hardship)
    stats = stats_of(metered(hardship, options="methods='auto'"))
    for key in ("perf_cycles", "perf_instructions", "perf_task_clock"):
        assert stats[key] is None
    assert stats["perf_hardware_source"].startswith("unavailable: ")


@pytest.mark.parametrize(
    ("hardship", "word"),
    [("perf-eperm", "seccomp|permi|refuse"), ("perf-enosys", "kernel|seccomp")],
)
def test_the_reason_for_refused_perf_when_it_is_asked_for(hardship: str, word: str) -> None:
    skip_where_impossible(hardship)
    import re

    reason = stats_of(metered(hardship, options="methods=['perf', 'tdp']"))["perf_hardware_source"]
    assert re.search(word, reason, re.I), reason


def test_without_proc_the_cpu_clock_still_works(keys: set[str]) -> None:
    skip_where_impossible("no-proc")
    stats = stats_of(metered("no-proc"))
    assert stats["psutil_available"] is False
    assert "/proc" in stats["psutil_source"]
    assert stats["psutil_cpu_percent"] is None
    assert stats["energy_cpu_time"] > 0


def test_an_empty_root_is_a_masked_proc(tmp_path: Path, keys: set[str]) -> None:
    ended = metered("none", options=f"root={str(tmp_path)!r}")
    stats = stats_of(ended)
    assert stats["psutil_available"] is False
    assert stats["psutil_source"].startswith("unavailable: ")
    assert ended.report is not None
    check(ended.report["stats"], keys)


def test_a_thread_that_cannot_be_made_is_said() -> None:
    skip_where_impossible("nobody,no-threads")
    ended = metered("nobody,no-threads", options="interval=0.001")
    stats = stats_of(ended)
    assert ended.report is not None
    assert ended.report["samples"] == 0
    assert any("thread" in text for text in stats["energy_warnings"])


NO_DESCRIPTOR = """
import resource
from lithowatt import EnergyMeter
# The interpreter opens files for its own imports: those come first.
with EnergyMeter(root="/nonexistent") as _first: pass
_first.stats(), repr(_first), str(_first.reading)
_spare = os.open("/dev/null", os.O_RDONLY); os.close(_spare)
resource.setrlimit(resource.RLIMIT_NOFILE, (_spare, _spare))
"""


def test_without_any_descriptor_to_spare(keys: set[str]) -> None:
    ended = metered("none", before=NO_DESCRIPTOR)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.report is not None
    assert set(ended.report["stats"]) == keys
    assert ended.report["stats"]["worker_func_energy_cpu_time"] > 0


def test_descriptors_closed_under_the_meter(keys: set[str]) -> None:
    # A daemon closes everything it did not open; the meter's files go with it.
    closing = "_function = function\ndef function(how):\n    os.closerange(3, out)\n"
    closing += "    os.closerange(out + 1, 4096)\n    return _function(how)\n"
    ended = metered("none", before=closing, options="interval=0.001")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.report is not None
    assert set(ended.report["stats"]) == keys


@pytest.mark.parametrize("number", [0, 1, 2])
def test_no_counter_sits_on_a_standard_stream(number: int) -> None:
    # With stdin, stdout or stderr closed the lowest free number is theirs: a file of the meter's
    # there would be taken for them by whatever opens or inherits them next.
    code = (
        "import os, sys\n"
        f"os.close({number})\n"
        "from lithowatt import EnergyMeter\n"
        "with EnergyMeter() as m: pass\n"
        "try:\n"
        f"    target = os.readlink('/proc/self/fd/{number}')\n"
        "except OSError:\n"
        "    target = ''\n"
        "os.write(int(sys.argv[1]), ('\"' + target + '\"').encode())\n"
    )
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as pipe:
        command = [sys.executable, "-c", code, str(writer)]
        process = subprocess.Popen(command, pass_fds=[writer], stdin=subprocess.DEVNULL)
        os.close(writer)
        assert process.wait() == 0
        assert json.loads(pipe.read()) == ""


# -- within this process ------------------------------------------------------------------------


def test_a_soft_limit_on_files_is_left_as_it_is() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    code = "from lithowatt import EnergyMeter\nwith EnergyMeter() as m: pass\n"
    code += "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(before)


@pytest.fixture
def nothing_written() -> Iterator[Path]:
    """A home that must stay empty."""
    with tempfile.TemporaryDirectory() as home:
        yield Path(home)
        assert list(Path(home).rglob("*")) == []


def test_metering_writes_no_file(nothing_written: Path) -> None:
    code = "from lithowatt import EnergyMeter\nwith EnergyMeter() as m: pass\nm.stats()"
    env = {"HOME": str(nothing_written), "TMPDIR": str(nothing_written)}
    subprocess.run(
        [sys.executable, "-B", "-c", code],
        env={**{k: v for k, v in os.environ.items() if k != "LITHOWATT_STATE_DIR"}, **env},
        cwd=nothing_written,
        check=True,
    )


# -- the command line ---------------------------------------------------------------------------

CLI = ["-m", "lithowatt"]


@pytest.mark.parametrize("hardships", HARDSHIPS)
def test_doctor_answers(hardships: str) -> None:
    skip_where_impossible(hardships)
    ended = launch(hardships, [*CLI, "doctor", "--json"])
    assert (ended.returncode, ended.stderr) == (0, "")
    if "no-stdio" not in hardships:
        text = json.dumps(json.loads(ended.stdout))
        for method in ("rapl", "perf", "ebpf", "psutil", "tdp"):
            assert method in text


@pytest.mark.parametrize("hardships", [h for h in HARDSHIPS if "no-threads" not in h])
@pytest.mark.parametrize("code", [0, 7])
def test_run_passes_the_exit_code_on(hardships: str, code: int) -> None:
    skip_where_impossible(hardships)
    ended = launch(hardships, [*CLI, "run", "--", "/bin/sh", "-c", f"echo out; exit {code}"])
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    if "no-stdio" not in hardships:
        assert "out\n" in ended.stdout
