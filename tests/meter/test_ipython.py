"""``%joules`` and ``%%joules`` in a real IPython."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import pytest

from lithowatt import EnergyMeter, Reading

pytest.importorskip("IPython")

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell


class Prompt:
    """An IPython that is typed into."""

    def __init__(self) -> None:
        self.shell: Any = InteractiveShell(history_length=0)
        self.shell.history_manager.enabled = False
        self.text = ""

    def run(self, code: str) -> Any:
        """Runs a cell; its value. What it raises is raised, and what it shows is in ``text``."""
        out = io.StringIO()
        with redirect_stdout(out):
            result = self.shell.run_cell(code)
        self.text = out.getvalue()
        result.raise_error()
        return result.result


@pytest.fixture
def prompt() -> Iterator[Prompt]:
    made = Prompt()
    made.run("%load_ext lithowatt")
    yield made
    made.shell.reset()


def test_a_line_shows_its_joules_and_gives_its_value(prompt: Prompt) -> None:
    assert prompt.run("%joules sum(range(100_000))") == 4999950000
    assert "<Reading: " in prompt.text and " J [" in prompt.text


def test_a_cell_runs_in_the_users_names(prompt: Prompt) -> None:
    prompt.run("start = 3")
    assert prompt.run("%%joules -l mine\ndouble = start * 2\ndouble + 1") == 7
    assert "<Reading 'mine': " in prompt.text
    assert prompt.run("double") == 6
    assert prompt.run("%%joules\nfor i in range(3):\n    last = i") is None
    assert prompt.run("last") == 2


def test_the_reading_instead_of_the_value(prompt: Prompt) -> None:
    reading = prompt.run("%joules -o -m model -d amortised sum(range(100_000))")
    assert isinstance(reading, Reading)
    assert reading.definition == "amortised" and (reading.method or "").startswith("model")
    assert reading.joules is not None and reading.joules > 0


def test_magics_and_quotes_within_are_left_as_they_are(prompt: Prompt) -> None:
    assert prompt.run("""%joules "a  b".replace("'", '"')""") == "a  b"
    assert prompt.run("%%joules\nfound = %who_ls int\nlen(found)") >= 0


def test_in_a_function_local_names_are_seen(prompt: Prompt) -> None:
    prompt.run("def f(n):\n    return get_ipython().run_line_magic('joules', 'n + 1')")
    assert prompt.run("f(4)") == 5


def test_a_meter_that_cannot_start_says_why(
    prompt: Prompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise OSError("no start")

    monkeypatch.setattr(EnergyMeter, "__enter__", broken)
    with pytest.raises(OSError, match="no start") as caught:
        prompt.run("%joules 1 + 1")
    assert caught.value.__context__ is None
    assert "<Reading" not in prompt.text


def test_what_the_code_raises_is_raised_and_its_joules_are_shown(prompt: Prompt) -> None:
    with pytest.raises(ZeroDivisionError):
        prompt.run("%%joules\nbefore = 1\n1 / 0")
    assert "<Reading: " in prompt.text
    # The line that failed is in the traceback, not a number of one that is nowhere.
    assert "1 / 0" in prompt.text
    assert prompt.run("before") == 1
    with pytest.raises(SyntaxError):
        prompt.run("%joules 1 +")
    assert "Reading" not in prompt.text


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("%joules", "takes a statement"),
        ("%%joules\n  \n", "a cell"),
        ("%%joules -l a 1 + 1\n2", "no code on its line"),
        ("%joules -m nothing 1", 'unknown method "nothing"'),
        ("%joules -x 1", "option -x not recognized"),
    ],
)
def test_what_is_no_use_of_it_is_told(prompt: Prompt, code: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        prompt.run(code)


def test_it_is_loaded_again_and_the_meter_is_one_as_any_other(prompt: Prompt) -> None:
    prompt.run("%reload_ext lithowatt")
    with EnergyMeter() as meter:
        reading = prompt.run("%joules -o sum(range(1_000_000))")
    assert 0 < reading.duration <= meter.reading.duration


def test_a_notebook_has_a_table(prompt: Prompt) -> None:
    prompt.run("reading = get_ipython().run_line_magic('joules', '-o -l mine sum(range(9))')")
    bundle, _ = prompt.shell.display_formatter.format(prompt.shell.user_ns["reading"])
    assert "<table>" in bundle["text/html"] and "mine" in bundle["text/html"]
