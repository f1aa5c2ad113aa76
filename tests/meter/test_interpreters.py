"""Interpreters that are not the usual one: subinterpreters, and Pythons without a GIL."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import lithowatt
from lithowatt._support import own_extension

SUBINTERPRETERS = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

def created(own_gil):
    try:
        return interpreters.create("isolated" if own_gil else "legacy")
    except TypeError:  # before Python 3.13
        return interpreters.create(isolated=own_gil)

def run(code, own_gil):
    # Destroyed with the process: before Python 3.13, numpy does not survive it.
    interpreters.run_string(created(own_gil), code)
"""


def run(code: str, *options: str) -> str:
    """What a program prints, which must end well and leave stderr empty."""
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# -- subinterpreters -------------------------------------------------------------------------------


@pytest.mark.skipif(sys.version_info < (3, 12), reason="each with a GIL of its own from 3.12 on")
def test_a_subinterpreter_with_a_gil_of_its_own_gets_one_clear_import_error() -> None:
    inside = """
import lithowatt, lithowatt.lithops
for _ in range(2):
    try:
        lithowatt.EnergyMeter()
    except ImportError as error:
        print(error, flush=True)
"""
    code = f"""
run({inside!r}, True)
import lithowatt
with lithowatt.EnergyMeter() as meter:  # not disturbed by the one that was refused
    sum(range(100_000))
print(meter.joules > 0, flush=True)
"""
    said = run(SUBINTERPRETERS + code, "-W", "ignore::RuntimeWarning").splitlines()
    refusal = "module lithowatt._core does not support loading in subinterpreters"
    assert said == [refusal, refusal, "True"]


@pytest.mark.parametrize("main_first", [False, True])
def test_a_subinterpreter_that_shares_the_gil_is_metered(main_first: bool) -> None:
    inside = """
import lithowatt
with lithowatt.EnergyMeter() as meter:
    sum(range(100_000))
print(meter.joules > 0 and meter.reading.cpu_seconds > 0, flush=True)
"""
    code = f"""
if {main_first}:
    import lithowatt
    lithowatt.EnergyMeter()
run({inside!r}, False)
"""
    assert run(SUBINTERPRETERS + code, "-W", "ignore::RuntimeWarning") == "True\n"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="InterpreterPoolExecutor came with 3.14")
def test_a_pool_of_subinterpreters_is_part_of_its_process(tmp_path: Path) -> None:
    script = tmp_path / "pool.py"
    script.write_text(
        textwrap.dedent(
            """
            import time
            from concurrent.futures import InterpreterPoolExecutor

            def burn(cpu):
                end = time.thread_time() + cpu
                while time.thread_time() < end: pass
                return cpu

            if __name__ == "__main__":
                # Not above: each interpreter of the pool runs that, too.
                from lithowatt import EnergyMeter

                with EnergyMeter() as meter, InterpreterPoolExecutor(2) as pool:
                    assert list(pool.map(burn, [0.05, 0.1])) == [0.05, 0.1]
                assert meter.reading.cpu_seconds >= 0.15, meter.reading.cpu_seconds
                assert meter.joules > 0
            """
        )
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- Pythons without a GIL -------------------------------------------------------------------------

SHARED = f"{Path(lithowatt.__file__).parent}/_core.abi3.so"
REFUSAL = "this build of lithowatt is not for a free-threaded Python"


@pytest.mark.skipif("t" in sys.abiflags, reason="this Python has no GIL")
def test_a_free_threaded_python_does_not_load_the_shared_extension(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert own_extension(SHARED.removesuffix(".abi3.so")) == SHARED
    monkeypatch.setattr(sys, "abiflags", "t")
    (tmp_path / "_core.abi3.so").touch()
    with pytest.raises(ImportError, match=REFUSAL):
        own_extension(f"{tmp_path}/_core")
    # Its own build, which lies beside it or alone.
    (own,) = [tmp_path / f"_core{suffix}" for suffix in _suffixes() if "cpython" in suffix]
    own.touch()
    assert own_extension(f"{tmp_path}/_core") == str(own)


@pytest.mark.skipif("t" in sys.abiflags, reason="this Python has no GIL")
def test_what_a_free_threaded_python_is_told() -> None:
    code = """
        import sys
        sys.abiflags = "t"
        for _ in range(2):
            try:
                import lithowatt
            except ImportError as error:
                print(error)
    """
    first, second = run(code).splitlines()
    assert first == second
    assert first.startswith(REFUSAL)
    assert sys.version.split()[0] in first


def _suffixes() -> list[str]:
    from importlib.machinery import EXTENSION_SUFFIXES

    return EXTENSION_SUFFIXES
