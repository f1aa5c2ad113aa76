"""Profiles made of profiles: merged, split, filtered, upgraded, with their sidecars."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lithowatt.cli import main
from lithowatt.errors import UnwritableFileError
from lithowatt.profiles import append_repetition, read_profile, read_sidecar
from lithowatt.profiles._columns import FunctionTimes
from lithowatt.profiles._edit import merged
from lithowatt.profiles._runs import read_profiles
from tests.support import TOP
from tests.support.made_profiles import EPYC, XEON, Kind, profile, write


def run(*words: object) -> int:
    return main(["profile", *map(str, words)])


KIND = Kind(workers=(2, 4), repetitions=6, clean=True)


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Two profiles of one stage, with sidecars."""
    found = []
    for seed in (1, 2):
        folder = write(tmp_path / f"part{seed}", replace(KIND, seed=seed))
        found.append(folder / KIND.name)
    return found


def test_a_merge_has_the_repetitions_and_records_of_all(tmp_path: Path, two: list[Path]) -> None:
    out = tmp_path / "merged" / "stage.json"
    assert run("merge", *two, "-o", out) == 0
    first, second, merged = (read_profile(path) for path in (*two, out))
    assert list(merged) == list(first)
    for key, metrics in merged.items():
        assert list(metrics) == list(first[key])
        for name, column in metrics.items():
            assert column == first[key][name] + second[key][name]
    records = read_sidecar(out)["configurations"]
    for key in records:
        times = [one["time"] for path in two for one in read_sidecar(path)["configurations"][key]]
        assert [one["time"] for one in records[key]] == times
    # The records are known by their repetitions: one more is appended behind them.
    key = next(iter(merged))
    append_repetition(out, key, [FunctionTimes(read=0.1, compute=0.2, write=0.3, cold_start=1.0)])
    grown = read_sidecar(out)["configurations"][key.key]
    assert [one["time"] for one in grown[:-1]] == [one["time"] for one in records[key.key]]


def test_what_the_page_merges_is_of_one_workload(
    tmp_path: Path, two: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (TOP / "docs" / "how-to" / "profiles.md").read_text("utf-8")
    [command] = re.findall(r"^lithowatt (profile merge .*)$", page, re.MULTILINE)
    words = shlex.split(command)
    monkeypatch.chdir(tmp_path)
    for path, named in zip(two, words[2:4], strict=True):
        Path(named).parent.mkdir(parents=True)
        shutil.copy(path, named)
    assert main(words) == 0


def test_copies_are_refused_by_name(
    tmp_path: Path, two: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy" / KIND.name
    copy.parent.mkdir(parents=True)
    content = json.loads(two[0].read_text())
    for metrics in content.values():
        for name, column in metrics.items():
            metrics[name] = column[2:3]
    copy.write_text(json.dumps(content))
    out = tmp_path / "stage.json"
    assert run("merge", two[0], copy, "-o", out) == 1
    said = capsys.readouterr().err
    assert "copied-repetitions 2" in said and "--keep-duplicates" in said
    assert KIND.keys[0] in said and not out.exists()
    assert run("merge", two[0], copy, "-o", out, "--keep-duplicates") == 0
    assert len(next(iter(read_profile(out).values()))["read"]) == 7
    # The same file twice is one file.
    assert run("merge", two[0], two[0], "-o", out) == 0
    assert read_profile(out) == read_profile(two[0])


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (replace(KIND, workload="video", seed=5), "of workload pi"),
        (replace(KIND, stage="other", seed=5), "of stage"),
        (replace(KIND, architecture="arm64", seed=5), "on arm64 in"),
    ],
)
def test_what_is_not_alike_is_not_merged(
    tmp_path: Path,
    two: list[Path],
    capsys: pytest.CaptureFixture[str],
    other: Kind,
    says: str,
) -> None:
    path = write(tmp_path / "other", other) / other.name
    out = tmp_path / "stage.json"
    assert run("merge", two[0], path, "-o", out) == 2
    assert says in capsys.readouterr().err and not out.exists()
    assert run("merge", two[0], path, "-o", out, "--mixed") == 0
    assert sum(len(metrics["read"]) for metrics in read_profile(out).values()) == 24


def test_a_sidecar_of_another_profile_does_not_stay(tmp_path: Path, two: list[Path]) -> None:
    plain = Kind(workers=(8,), repetitions=2, seed=9)
    path = write(tmp_path / "plain", plain) / plain.name
    out = tmp_path / "stage.json"
    assert run("merge", two[0], "-o", out) == 0 and (tmp_path / "stage.json.energy").exists()
    assert run("merge", path, "-o", out) == 0 and not (tmp_path / "stage.json.energy").exists()


def test_failures_are_kept(tmp_path: Path, two: list[Path]) -> None:
    for path in two:
        sidecar = path.with_name(path.name + ".energy")
        content = json.loads(sidecar.read_text())
        content["failures"] = [{"stage": "stage", "error": path.parent.parent.name, "calls": 1}]
        sidecar.write_text(json.dumps(content))
    assert run("merge", *two, "-o", tmp_path / "m.json") == 0
    assert [one["error"] for one in read_sidecar(tmp_path / "m.json")["failures"]] == [
        "part1",
        "part2",
    ]


def test_a_split_is_told_apart_by_its_folders(tmp_path: Path) -> None:
    kinds = [
        replace(KIND, memory_mb=memory, architecture=architecture, seed=number)
        for number, (memory, architecture) in enumerate([(512, "arm64"), (1024, "x86_64")])
    ]
    folder = write(tmp_path / "p", *kinds)
    both = ["--by", "memory", "--by", "architecture"]
    assert run("split", folder, "-o", tmp_path / "s", *both) == 0
    names = sorted(
        one.relative_to(tmp_path / "s").as_posix() for one in tmp_path.rglob("s/**/*.json")
    )
    assert names == ["pi_1024Mb_x86_64/stage.json", "pi_512Mb_arm64/stage.json"]
    split = read_profiles([tmp_path / "s"])
    assert [(file.workload, file.label.memory_mb) for file in split.files] == [
        ("pi", 1024),
        ("pi", 512),
    ]
    assert read_profile(tmp_path / "s" / names[0]) == read_profile(folder / kinds[1].name)
    # Without them, all of a workload's stage is one.
    assert run("split", folder, "-o", tmp_path / "t") == 0
    assert len(read_profile(tmp_path / "t" / "pi" / "stage.json")) == 4


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A folder with a profile of each architecture, whose keys are the same."""
    return write(tmp_path / "both", KIND, replace(KIND, architecture="arm64", seed=3))


def mixture(tmp_path: Path, both: Path) -> Path:
    """The two as one profile."""
    path = tmp_path / "mix" / "pi" / "stage.json"
    assert run("merge", both, "-o", path, "--mixed") == 0
    return path


def test_a_split_pools_no_architectures(
    tmp_path: Path, both: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s"
    assert run("split", both, "-o", out) == 2
    said = capsys.readouterr().err
    assert run("merge", both, "-o", tmp_path / "m.json") == 2
    assert capsys.readouterr().err == said and "on arm64 in" in said
    # Nor does it pass on what is pooled already; a merge does not either.
    mixed = mixture(tmp_path, both)
    capsys.readouterr()
    assert run("split", mixed, "-o", out) == 2
    said = capsys.readouterr().err
    assert "ran on arm64 and on x86_64 in pi/stage.json" in said
    assert run("merge", mixed, "-o", tmp_path / "m.json") == 2
    assert capsys.readouterr().err == said
    assert not out.exists() and not (tmp_path / "m.json").exists()


def test_a_split_by_architecture_tells_a_mixture_apart(tmp_path: Path, both: Path) -> None:
    mixed = mixture(tmp_path, both)
    assert run("split", mixed, "-o", tmp_path / "s", "--by", "architecture") == 0
    for short, name in (("x86", "x86_64"), ("arm", "arm64")):
        alone, split = both / f"pi_aws_1024Mb_{short}", tmp_path / "s" / f"pi_{name}"
        assert read_profile(split / "stage.json") == read_profile(alone / "stage.json")
        for records in read_sidecar(split / "stage.json")["configurations"].values():
            assert [one["hardware"][0]["cpu_architecture"] for one in records] == [name] * 6


def test_a_repetition_on_two_architectures_cannot_be_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = profile(KIND)
    made[KIND.keys[1]]["cpu_architecture"][3][2] = "aarch64"
    folder = write(tmp_path / "p", KIND, made=made)
    out = tmp_path / "s"
    assert run("split", folder, "-o", out, "--by", "architecture") == 2
    said = capsys.readouterr().err
    assert f"repetition 3 of configuration {KIND.keys[1]}" in said and "filter" in said
    assert not out.exists()
    # A stray call of many is let through where nothing is told apart by it.
    assert run("split", folder, "-o", out) == 0


def test_a_filter_keeps_whole_repetitions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = Kind(workers=(2, 4), repetitions=12, mix={XEON: 0.5, EPYC: 0.5}, seed=4)
    folder = write(tmp_path / "p", kind)
    whole = read_profile(folder / kind.name)

    def kept(*options: str) -> Any:
        shutil.rmtree(tmp_path / "f", ignore_errors=True)
        if run("filter", folder, "-o", tmp_path / "f", *options) != 0:
            return None
        return read_profile(tmp_path / "f" / kind.name)

    assert kept() == whole
    assert list(kept("--workers", "3-9")) == [list(whole)[1]]
    assert kept("--memory", "1024", "--architecture", "amd64") == whole
    assert kept("--memory", "512") is None and kept("--architecture", "arm64") is None
    assert "nothing was written" in capsys.readouterr().err
    epyc = kept("--cpu-name", "epyc")
    for key, metrics in epyc.items():
        wanted = [at for at, names in enumerate(whole[key]["cpu_name"]) if set(names) == {EPYC}]
        for name, column in metrics.items():
            assert column == [whole[key][name][at] for at in wanted]
    assert kept("--architecture", "mips") is None
    assert "x86_64 or arm64" in capsys.readouterr().err


def test_a_filter_by_basis_leaves_out_copies_and_what_is_not_usable(tmp_path: Path) -> None:
    kind = Kind(workers=(4,), repetitions=6)
    made = profile(kind)
    (metrics,) = made.values()
    for column in metrics.values():
        column.append(list(column[0]))
    metrics["read"][3][1] = None
    folder = write(tmp_path / "p", kind, made=made)
    assert run("filter", folder, "-o", tmp_path / "f", "--basis", "clean") == 0
    (kept,) = read_profile(tmp_path / "f" / kind.name).values()
    assert kept["compute"] == [metrics["compute"][at] for at in (0, 1, 2, 4, 5)]


def test_other_schemas_become_ours(tmp_path: Path) -> None:
    nested = {
        "train": {
            "(cpu 1, mem 1024, worker 3)": {
                "read": [[1.5, 2, 3.0], [4.0, None, float("nan")]],
                "cpu_cores_logical": [[4], [4]],
                "cpu_name": [["x"], ["y"]],
            }
        },
        "merge": {"(cpu 1, mem 512, worker 1)": {"read": [[1]]}},
    }
    (tmp_path / "dag").mkdir()
    (tmp_path / "dag" / "all.json").write_text(json.dumps(nested, indent=4))
    assert run("upgrade", tmp_path / "dag" / "all.json", "-o", tmp_path / "new") == 0
    assert json.loads((tmp_path / "new" / "dag" / "train.json").read_text()) == {
        "(1, 1024, 3)": {
            "read": [[1.5, 2.0, 3.0], [4.0, None, None]],
            "cpu_cores_logical": [[4, 4, 4], [4, 4, 4]],
            "cpu_name": [["x", "x", "x"], ["y", "y", "y"]],
        }
    }
    assert json.loads((tmp_path / "new" / "dag" / "merge.json").read_text()) == {
        "(1, 512, 1)": {"read": [[1]]}
    }


# --- what is there already -------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(one): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def same(path: Path) -> Path:
    return path


def linked(path: Path) -> Path:
    link = path.parent.parent / "link.json"
    link.symlink_to(path)
    return link


def hard_linked(path: Path) -> Path:
    link = path.parent.parent / "hard.json"
    link.hardlink_to(path)
    return link


@pytest.mark.parametrize("verb", ["filter", "split", "upgrade"])
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_no_profile_of_a_folder_replaces_an_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, force: list[str]
) -> None:
    folder = write(tmp_path / "v", KIND)
    if verb == "split":  # it names the folder by the workload alone
        (folder / KIND.folder).rename(folder / "pi")
    before = contents(folder)
    assert run(verb, folder, "-o", folder, *force) == 2
    said = capsys.readouterr()
    assert "is the input" in said.err and "nothing was written" in said.err and not said.out
    assert contents(folder) == before


@pytest.mark.parametrize("link", [linked, hard_linked])
def test_an_input_is_known_below_a_folder_of_links(tmp_path: Path, link: Any) -> None:
    folder = write(tmp_path / "v", KIND)
    out = tmp_path / "out" / KIND.name
    out.parent.mkdir(parents=True)
    link(folder / KIND.name).rename(out)
    before = contents(tmp_path)
    assert run("filter", folder, "-o", tmp_path / "out", "--workers", "4", "--force") == 2
    assert contents(tmp_path) == before


@pytest.mark.parametrize("link", [same, linked, hard_linked])
def test_a_merge_replaces_no_input(
    two: list[Path], capsys: pytest.CaptureFixture[str], link: Any
) -> None:
    top = two[0].parents[2]
    out = link(two[1])
    before = contents(top)
    assert run("merge", *two, "-o", out) == 2  # files
    assert run("merge", *(path.parent for path in two), "-o", out) == 2  # and folders of them
    assert capsys.readouterr().err.count(f"the output {out} is the input") == 2
    assert contents(top) == before


def test_a_sidecar_of_an_input_is_not_replaced(
    tmp_path: Path, two: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    sidecar = two[0].with_name(two[0].name + ".energy")
    before = contents(tmp_path)
    assert run("merge", *two, "-o", sidecar) == 2
    assert f"is the sidecar of the input {two[0]}" in capsys.readouterr().err
    # Nor by the sidecar that is written beside the output.
    (tmp_path / "m.json.energy").hardlink_to(sidecar)
    assert run("merge", *two, "-o", tmp_path / "m.json") == 2
    (tmp_path / "m.json.energy").unlink()
    assert contents(tmp_path) == before


def test_nothing_is_read_where_a_given_file_is_the_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    assert run("merge", broken, "-o", broken) == 2
    assert "is the input" in capsys.readouterr().err


def test_a_profile_in_memory_is_not_written_over_what_it_is_of(two: list[Path]) -> None:
    before = two[0].read_bytes()
    with pytest.raises(UnwritableFileError, match="is the input"):
        merged(read_profiles(two)).write(two[0])
    assert two[0].read_bytes() == before


@pytest.mark.parametrize("there", [KIND.name, KIND.name + ".energy"])
def test_a_file_of_a_folder_is_replaced_only_with_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], there: str
) -> None:
    folder = write(tmp_path / "v", KIND)
    old = tmp_path / "out" / there
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    assert run("filter", folder, "-o", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert f"{old} would be replaced" in said and "--force" in said
    assert contents(tmp_path / "out") == {str(old): b"{}"}
    assert run("filter", folder, "-o", tmp_path / "out", "--force") == 0
    assert read_profile(tmp_path / "out" / KIND.name) == read_profile(folder / KIND.name)
    assert read_sidecar(tmp_path / "out" / KIND.name)["configurations"]


def test_a_name_in_a_file_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    source = tmp_path / "dag" / "all.json"
    source.parent.mkdir()
    source.write_text(json.dumps({"../../../out": {"(1, 512, 1)": {"read": [[1.0]]}}}))
    assert run("upgrade", source, "-o", tmp_path / "a" / "b") == 2
    assert contents(tmp_path) == {str(source): source.read_bytes()}


def test_the_reason_that_stands_first_is_told(
    tmp_path: Path, two: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "video_aws_1024Mb_x86" / KIND.name.rpartition("/")[2]
    other.parent.mkdir()
    shutil.copy(two[0], other)  # copies, of another workload
    out = tmp_path / "stage.json"
    assert run("merge", two[0], other, "-o", out) == 2
    said = capsys.readouterr().err
    assert "of workload" in said and "--keep-duplicates" not in said
    assert run("merge", two[0], other, "-o", out, "--mixed") == 1
    assert "--keep-duplicates merges them all the same" in capsys.readouterr().err
    assert run("merge", two[0], other, "-o", out, "--mixed", "--keep-duplicates") == 0


@pytest.mark.parametrize("verb", ["merge", "split", "filter", "upgrade"])
def test_of_nothing_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    empty = tmp_path / "e" / "stage.json"
    empty.parent.mkdir()
    empty.write_text("{}")
    assert run(verb, empty, "-o", tmp_path / "out") == 1
    assert "nothing was written" in capsys.readouterr().err and not (tmp_path / "out").exists()
