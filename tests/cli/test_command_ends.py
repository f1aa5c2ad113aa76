"""Exit codes and last words of every command, whatever it writes to and whoever ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lithowatt._support.command import INTERRUPTED, Ending, guarded
from rig import StaticTree

pytestmark = pytest.mark.slow

UNBUFFERED = pytest.mark.parametrize("unbuffered", [False, True], ids=["buffered", "unbuffered"])
OUTPUT = pytest.mark.parametrize("output", ["full", "closed pipe"])


@contextlib.contextmanager
def _output(kind: str) -> Iterator[int]:
    """A descriptor that nothing can be written to."""
    if kind == "full":
        if not Path("/dev/full").exists():
            pytest.skip("there is no /dev/full")
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, descriptor = os.pipe()
        os.close(reader)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _environment(unbuffered: bool) -> dict[str, str]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1" if unbuffered else ""}
    environment.pop("ENERGY_MONITORING_ENABLED", None)
    return environment


COMMANDS = [
    ("lithowatt", "--help"),
    ("lithowatt", "--version"),
    ("lithowatt", "doctor"),
    ("lithowatt", "cost", "--duration", "1", "--memory", "1024", "--architecture", "arm64"),
    ("lithowatt", "lithops", "runtime", "--backend", "aws_lambda"),
    ("lithowatt.lithops", "status"),
    ("lithops_patch", "--help"),
]


@UNBUFFERED
@OUTPUT
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_output_that_cannot_be_written(
    command: tuple[str, ...], output: str, unbuffered: bool
) -> None:
    with _output(output) as descriptor:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            stdout=descriptor,
            stderr=subprocess.PIPE,
            env=_environment(unbuffered),
            text=True,
        )
    if output == "full" and command[1] in ("--help", "--version"):
        # argparse keeps to itself that it could not print; a buffer that stays full is seen.
        assert done.returncode in (0, 2) and done.stderr.count("\n") <= 1
        assert "Exception ignored" not in done.stderr
    elif output == "full":
        assert done.returncode == 2
        assert "could not be written: No space left on device\n" in done.stderr
        assert done.stderr.count("\n") == 1
    else:
        # Of `status`, 1 says that no call is metered.
        assert done.returncode in ((0, 1) if "status" in command else (0,))
        assert done.stderr == ""


@UNBUFFERED
@OUTPUT
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize("streams", [("stdout",), ("stderr",), ("stdout", "stderr")], ids="+".join)
def test_the_exit_code_of_run_is_the_commands(
    streams: tuple[str, ...], form: list[str], output: str, unbuffered: bool
) -> None:
    with _output(output) as descriptor:
        done = subprocess.run(
            [sys.executable, "-m", "lithowatt", "run", *form, "--", "sh", "-c", "exit 7"],
            stdout=descriptor if "stdout" in streams else subprocess.PIPE,
            stderr=descriptor if "stderr" in streams else subprocess.PIPE,
            env=_environment(unbuffered),
            text=True,
        )
    assert done.returncode == 7
    if done.stderr is not None:
        assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
        # Without --json or --csv standard error has the report itself.
        assert not form or "the report could not be written" in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize("form", ["", "--json"])
def test_the_exit_code_of_run_with_a_stream_that_was_never_open(closed: str, form: str) -> None:
    script = f'"$0" -m lithowatt run {form} -- sh -c "exit 7" {closed}'
    done = subprocess.run(["sh", "-c", script, sys.executable], capture_output=True, text=True)
    assert done.returncode == 7
    assert "Traceback" not in done.stderr


def test_an_interrupt_is_no_traceback() -> None:
    def run() -> int:
        raise KeyboardInterrupt

    assert guarded(run) == INTERRUPTED == 130


def test_an_error_of_a_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> int:
        Path("/nowhere/at/all").read_bytes()
        return 0

    assert guarded(run) == 2
    assert capsys.readouterr().err == (
        "lithowatt: [Errno 2] No such file or directory: '/nowhere/at/all'\n"
    )


# -- signals ----------------------------------------------------------------------------------


#: A signal that comes after a command has put everything in order ends it as it would any other.
ENDED = (0, -signal.SIGTERM)


def _send(process: subprocess.Popen[str], *pauses: float) -> None:
    """SIGTERM, then one more after each pause."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
        for pause in pauses:
            time.sleep(pause)
            process.send_signal(signal.SIGTERM)


def test_signals_within_signals_end_a_wait() -> None:
    # Each handler is interrupted by the next one. A handler that takes a lock stands still here.
    code = """
import os, signal
from lithowatt._support.command import Ending
with Ending() as ending:
    really, depth = ending._ask, 0
    def ask(number, frame):
        global depth
        depth += 1
        if depth < 20:
            os.kill(os.getpid(), signal.SIGTERM if depth % 2 else signal.SIGINT)
        really(number, frame)
    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    os.kill(os.getpid(), signal.SIGTERM)
    assert ending.wait(60) and ending.is_set() and depth == 20, depth
print("ended")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


@pytest.mark.parametrize("pause", [0.0, 0.0005])
@pytest.mark.parametrize("options", [[], ["--mirror", "http://127.0.0.1:9"]], ids=["", "mirror"])
def test_an_agent_ends_by_signals_close_together(
    tmp_path: Path, options: list[str], pause: float
) -> None:
    tree = StaticTree(tmp_path / "machine")
    command = [sys.executable, "-m", "lithowatt", "agent", *options, "--metrics", "off"]
    command += ["--root", str(tree.root), "--ring", str(tmp_path / "run" / "ring")]
    for _ in range(2):
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            try:
                assert process.stderr.readline().startswith("lithowatt agent: ")
                _send(process, pause, pause, pause)
                assert process.wait(20) in ENDED
            finally:
                process.kill()


@pytest.mark.parametrize("pauses", [(0.0,), (0.0005,), (0.0, 0.0, 0.0)])
def test_top_ends_by_signals_close_together(pauses: tuple[float, ...]) -> None:
    command = [sys.executable, "-m", "lithowatt", "top", "--json", "--interval", "0.2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            assert process.stdout.readline()
            _send(process, *pauses)
            process.stdout.read()
            assert process.wait(20) in ENDED
            assert process.stderr.read() == ""
        finally:
            process.kill()


def test_a_calibration_ends_by_signals_close_together(tmp_path: Path) -> None:
    tree = StaticTree(tmp_path / "machine")
    command = [sys.executable, "-c", "import sys, lithowatt.cli as c; print('on', flush=True); "]
    command[-1] += "sys.exit(c.main())"
    command += ["calibrate", "--idle-only", "--seconds", "60", "--root", str(tree.root)]
    environment = {**os.environ, "LITHOWATT_STATE_DIR": str(tmp_path / "state")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            assert process.stdout.readline() == "on\n"
            # Until its handlers are there.
            status = Path(f"/proc/{process.pid}/status")
            while not int(status.read_text().partition("SigCgt:")[2].split()[0], 16) & 1 << 14:
                time.sleep(0.01)
            _send(process, 0.0, 0.0)
            # A second signal after our handlers were taken away ends it, too.
            assert process.wait(20) in (128 + signal.SIGTERM, -signal.SIGTERM)
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()
    assert not (tmp_path / "state" / "calibration.json").exists()


@pytest.mark.parametrize("again", [[], [0.0], [0.005] * 40], ids=["once", "twice", "on and on"])
def test_run_passes_on_what_comes_at_once(again: list[float]) -> None:
    child = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    command = [sys.executable, "-m", "lithowatt", "run", "--", "sh", "-c", child]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            assert process.stdout.readline() == "ready\n"
            # Those after the first find the command ended, the report being written, or Python
            # being shut down.
            _send(process, *again)
            assert process.wait(20) == 5
            report = process.stderr.read()
            assert "Traceback" not in report and "exit code 5" in report
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["TERM", "HUP"])
def test_run_passes_on_what_comes_before_the_command_runs(name: str) -> None:
    code = f"""
import os, signal, subprocess, sys
from lithowatt import cli
from lithowatt.meter import _meter

start, popen = _meter.EnergyMeter.start, subprocess.Popen
def started(self):
    os.kill(os.getpid(), signal.SIG{name})
    return start(self)
def opened(command):
    os.kill(os.getpid(), signal.SIG{name})
    return popen(command)
_meter.EnergyMeter.start, subprocess.Popen = started, opened
sys.argv[1:] = ["run", "--", "sleep", "60"]
sys.exit(cli.main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.returncode == 128 + getattr(signal, f"SIG{name}"), done.stderr
    assert f"exit code {done.returncode}" in done.stderr


def test_run_gives_up_a_report_that_nobody_reads(tmp_path: Path) -> None:
    # The first signal comes too soon after the command's end to be meant for the report.
    code = """
import os, signal, sys, time
from lithowatt import cli
from lithowatt.cli import run

def report(*_):
    os.kill(os.getpid(), signal.SIGTERM)
    print("still here", flush=True)
    time.sleep(1.1)
    os.kill(os.getpid(), signal.SIGTERM)
    print("not given up")
run.report = report
sys.argv[1:] = ["run", "--", "sh", "-c", "exit 6"]
sys.exit(cli.main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (6, "still here\n"), done.stderr


def test_run_in_a_program_leaves_its_signals_as_they_were(
    capfd: pytest.CaptureFixture[str],
) -> None:
    from lithowatt import cli

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    assert cli.main(["run", "--", "sh", "-c", "exit 4"]) == 4
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize("ignored", ["INT", "HUP"])
def test_what_the_parent_ignores_the_command_ignores(ignored: str) -> None:
    command = (
        f'trap "" {ignored}; exec "$0" -m lithowatt run -- sh -c "kill -{ignored} \\$\\$; exit 4"'
    )
    done = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True, text=True)
    assert done.returncode == 4, done.stderr


def test_a_command_takes_interrupts_as_it_would_without_us() -> None:
    command = [sys.executable, "-m", "lithowatt", "run", "--", "sh", "-c", "kill -INT $$; exit 4"]
    # This test's own parent may ignore interrupts, which are inherited.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.returncode == 128 + signal.SIGINT


def test_a_wait_in_another_thread_has_no_signals() -> None:
    ended = []

    def wait() -> None:
        with Ending() as ending:
            ended.append(ending.wait(0.01))

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert ended == [False]


def test_the_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Ending() as ending:
        os.kill(os.getpid(), signal.SIGTERM)
        assert ending.wait(10)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_whoever_insists_is_heard() -> None:
    with Ending(insist=0.0), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("verb", ["lint", "findings"])
def test_a_verb_of_profile_is_pointed_to(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    from lithowatt.cli import main

    with pytest.raises(SystemExit) as ended:
        main([verb, "x"])
    assert ended.value.code == 2
    assert f"expected lithowatt profile {verb}" in capsys.readouterr().err


def test_a_list_of_keys_is_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    from lithowatt.cli import main

    assert main(["explain"]) == 0 and capsys.readouterr().out
