"""``lithowatt profile lint``: exit codes, text and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lithowatt.analysis.lint._rules import RULES
from lithowatt.cli import main
from tests.support.made_profiles import Kind, profile, write
from tests.support.planted_faults import append_copy

KIND = Kind(workers=(4, 8), clean=True, seed=1)


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return write(tmp_path / "clean", KIND)


@pytest.fixture
def doubtful(tmp_path: Path) -> Path:
    """With warnings only."""
    return write(tmp_path / "doubtful", Kind(workers=(4,), seed=2))


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """With an error."""
    made = profile(KIND)
    append_copy(made[KIND.keys[1]], 2)
    made[KIND.keys[0]]["cold_start"][0][0] = 40.0
    return write(tmp_path / "wrong", KIND, made=made)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    try:
        code = main(["profile", "lint", *map(str, arguments)])
    except SystemExit as ended:
        code = int(ended.code or 0)
    told = capsys.readouterr()
    return code, told.out, told.err


@pytest.mark.parametrize(
    ("fail_on", "codes"),
    [((), (0, 0, 1)), (("warning",), (0, 1, 1)), (("never",), (0, 0, 0)), (("error",), (0, 0, 1))],
)
def test_exit_codes(
    capsys: pytest.CaptureFixture[str],
    clean: Path,
    doubtful: Path,
    wrong: Path,
    fail_on: tuple[str, ...],
    codes: tuple[int, ...],
) -> None:
    options = [f"--fail-on={one}" for one in fail_on]
    for folder, code in zip((clean, doubtful, wrong), codes, strict=True):
        assert run(capsys, folder, *options)[0] == code
        assert run(capsys, folder, "--json", *options)[0] == code


def test_what_cannot_be_read_is_one_line_and_two(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "x.json").write_text("{")
    for path in (tmp_path / "absent", tmp_path / "x.json", tmp_path):
        code, out, err = run(capsys, path)
        assert (code, out) == (2, "")
        assert err.startswith("lithowatt: ")
        assert err.count("\n") == 1
    assert run(capsys)[0] == 2


def test_errors_first_by_rule_and_nothing_cut(
    capsys: pytest.CaptureFixture[str], wrong: Path
) -> None:
    code, out, err = run(capsys, wrong)
    assert (code, err) == (1, "")
    findings, advice, rest = (part.splitlines() for part in out.split("\n\n"))
    assert findings == [
        "error  copied-repetitions",
        "  pi_aws_1024Mb_x86/stage.json (1, 1024, 8): repetition 10 equals earlier ones:",
        "    10 of 2",
        "warning  queued-start",
        "  pi_aws_1024Mb_x86/stage.json (1, 1024, 4): 1 worker waited more than 30 s to",
        "    be started, up to 40 s, in repetition 0",
    ]
    assert advice[0] == "what to do"
    # Advice that takes several lines goes on below itself.
    named = [line.split()[0] for line in advice[1:] if line[2] != " "]
    assert named == ["copied-repetitions", "queued-start"]
    assert max(map(len, out.splitlines())) <= 80
    assert rest == [
        "1 error, 1 warning in 1 file: 2 configurations, 128 worker calls",
        "the basis clean leaves out 1 repetition",
        "lithowatt profile lint --explain RULE says more",
    ]


def test_nothing_to_say(capsys: pytest.CaptureFixture[str], clean: Path) -> None:
    (clean / "notes.json").write_text('{"a": 1}')
    code, out, _ = run(capsys, clean)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "no findings"
    assert "0 errors, 0 warnings in 1 file: 2 configurations, 120 worker calls" in lines
    assert any(line.startswith("skipped clean/notes.json: ") for line in lines)


def test_json_is_all_of_the_output(capsys: pytest.CaptureFixture[str], wrong: Path) -> None:
    code, out, err = run(capsys, wrong, "--json")
    assert (code, err) == (1, "")
    result = json.loads(out)
    assert list(result)[:8] == [
        "schema",
        "command",
        "version",
        "created",
        "inputs",
        "skipped",
        "settings",
        "warnings",
    ]
    assert [one["rule"] for one in result["findings"]] == ["copied-repetitions", "queued-start"]
    assert result["findings"][0]["repetitions"] == [10]


def test_some_rules(capsys: pytest.CaptureFixture[str], wrong: Path) -> None:
    code, out, _ = run(capsys, wrong, "--rules", "queued-start,few-repetitions", "--json")
    assert (code, [one["rule"] for one in json.loads(out)["findings"]]) == (0, ["queued-start"])
    code, out, _ = run(capsys, wrong, "--rules=-queued-start", "--json")
    assert [one["rule"] for one in json.loads(out)["findings"]] == ["copied-repetitions"]
    code, out, err = run(capsys, wrong, "--rules", "queued")
    assert (code, out) == (2, "")
    assert "there is no rule 'queued': did you mean queued-start" in err


def test_a_group_names_stages(capsys: pytest.CaptureFixture[str], wrong: Path) -> None:
    _, out, _ = run(capsys, wrong, "--json", "--group", r"(?P<stage>pi)_aws")
    assert {one["stage"] for one in json.loads(out)["findings"]} == {"pi"}
    assert run(capsys, wrong, "--group", "(")[0] == 2


def test_the_rules_are_listed_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--rules", "list")
    assert code == 0
    named = [line.split()[0] for line in out.splitlines()[1:] if line[0] != " "]
    assert named == [rule.name for rule in RULES]
    assert max(map(len, out.splitlines())) <= 80
    for rule in RULES:
        code, out, _ = run(capsys, "--explain", rule.name)
        assert code == 0
        assert out.startswith(f"{rule.name} ({rule.severity}")
        assert "What to do: " in out
        assert max(map(len, out.splitlines())) <= 80
    code, out, err = run(capsys, "--explain", "drift")
    assert (code, out) == (2, "")
    assert "did you mean" in err


def test_foreign_text_is_escaped(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    made = profile(KIND)
    made[KIND.keys[0]]["cpu_name"][0][0] = "\x1b[31mred"
    code, out, _ = run(capsys, write(tmp_path, KIND, made=made))
    assert code == 0
    assert r"\x1b[31mred: 1" in out
    assert "\x1b" not in out
