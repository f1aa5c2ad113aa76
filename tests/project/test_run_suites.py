"""What `make test` makes of a pass that did not run to its end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import run_suites


@pytest.mark.parametrize("options", [["-x"], ["--maxfail=1"], ["-x", "-n2"], ["-x", "--color=yes"]])
def test_a_pass_that_was_ended_early_gets_no_second_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    path = tmp_path / "test_one.py"
    path.write_text("def test_first(): assert False\ndef test_second(): assert False\n")
    one = run_suites.pytest("one", "-p", "no:cacheprovider", *options, str(path))
    assert one.code != 0
    assert "FAILED" in str(one) and "ended early by -x or --maxfail" in str(one)

    def second(*_: str) -> None:
        pytest.fail("the failed test alone ran again, and the one after it never")

    monkeypatch.setattr(run_suites, "pytest", second)
    assert run_suites.again([one], options) is None


def test_a_pass_that_ran_to_its_end_is_not_called_early(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    path = tmp_path / "test_one.py"
    path.write_text("def test_first(): assert False\ndef test_second(): pass\n")
    one = run_suites.pytest("one", "-p", "no:cacheprovider", "--maxfail=2", str(path))
    assert (one.code, one.cut) == (run_suites.TESTS_FAILED, False)
    assert one.counts == {"failed": 1, "passed": 1}


@pytest.mark.parametrize(("chosen", "code"), [("first", 0), ("gone", run_suites.NO_TESTS)])
def test_a_selection_without_a_test_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, code: int
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    path = tmp_path / "test_one.py"
    path.write_text("def test_first(): pass\n")
    options = ["--fast", "--without-doctests", "--workers", "1"]
    monkeypatch.setattr(sys, "argv", ["run_suites.py", *options, "--", str(path), "-k", chosen])
    assert run_suites.main() == code
