"""``lithowatt setup``: rights that survive a reboot, and nothing of others touched."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lithowatt._setup import counters, files, service, trust
from lithowatt.cli import main
from lithowatt.errors import MalformedValueError, UnavailableError
from rig import StaticTree

GID = 4711
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files to a group")


def machine(folder: Path, *programs: str, mode: int = 0o400) -> Path:
    """A system's tree with counters as kernels since 2020 have them, and a group."""
    tree = StaticTree(folder / "machine", mode=mode, mirror=False)
    for name in ("etc", "usr/bin"):
        (tree.root / name).mkdir(parents=True)
    (tree.root / "etc/group").write_text(f"root:x:0:\nenergy:x:{GID}:alice,bob\nother:x:4712:\n")
    for name in ("chgrp", "chmod", *programs):
        (tree.root / "usr/bin" / name).write_text("#!/bin/sh\n")
    for path in (tree.root, *tree.root.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    return tree.root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return machine(tmp_path, "udevadm", "systemd-tmpfiles")


def rights_of(root: Path) -> set[tuple[int, int]]:
    """Group and permissions of every counter."""
    found = [path.stat() for path in root.glob("sys/class/powercap/*/energy_uj")]
    assert found
    return {(one.st_gid, stat.S_IMODE(one.st_mode)) for one in found}


def run(root: Path, *options: str) -> int:
    return main(["setup", "--root", str(root), *options])


# -- what is written ------------------------------------------------------------------------------


@root_only
def test_a_group_may_read_the_counters_and_may_not_any_more(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, "--group", "energy", "--yes") == 0
    said = capsys.readouterr().out
    rule = root / counters.RULE[1:]
    # All of it is shown, with who gets the right and what that means.
    for line in rule.read_text().splitlines():
        assert line in said
    assert "alice, bob" in said and "CVE-2020-8694" in " ".join(said.split())
    assert stat.S_IMODE(rule.stat().st_mode) == 0o644
    assert rights_of(root) == {(GID, 0o440)}
    ranges = [path.stat() for path in root.glob("sys/class/powercap/*/max_energy_range_uj")]
    assert all(one.st_gid == GID and one.st_mode & 0o040 for one in ranges)
    assert run(root, "--undo", "--yes") == 0
    assert not rule.exists()
    assert rights_of(root) == {(0, 0o400)}
    assert run(root, "--undo", "--yes") == 0
    assert "nothing that setup wrote" in capsys.readouterr().out


def test_a_group_that_gives_nobody_the_right_is_told(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, "--group", "root", "--dry-run") == 2
    said = capsys.readouterr().err
    assert "group root (gid 0) is root's own" in said and "groupadd --system energy" in said
    assert run(root, "--group", "other", "--dry-run") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "no user is listed as its member" in said
    assert "usermod --append --groups other USER" in said
    assert run(root, "--group", "energy", "--dry-run") == 0
    assert "no user is listed" not in " ".join(capsys.readouterr().out.split())


def test_a_machine_without_counters_is_told_before_anything_is_done(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = "there is no counter of powercap now"
    assert run(root, "--group", "energy", "--dry-run") == 0
    assert note not in " ".join(capsys.readouterr().out.split())
    shutil.rmtree(root / "sys/class/powercap")
    assert run(root, "--group", "energy", "--dry-run") == 0
    assert note in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("options", [["--group", "energy"], ["--undo"]])
def test_a_dry_run_changes_nothing(
    root: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    if options == ["--undo"] and os.geteuid() == 0:
        assert run(root, "--group", "energy", "--yes") == 0
    before = {path: path.lstat() for path in root.rglob("*")}
    assert run(root, *options, "--dry-run") == 0
    after = {path: path.lstat() for path in root.rglob("*")}

    def kept(found: os.stat_result) -> tuple[int, ...]:
        return found.st_ino, found.st_mode, found.st_gid, found.st_mtime_ns, found.st_ctime_ns

    assert {path: kept(one) for path, one in before.items()} == {
        path: kept(one) for path, one in after.items()
    }
    assert "71-lithowatt.rules" in capsys.readouterr().out or os.geteuid() != 0


def test_without_somebody_to_ask_nothing_is_done(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert run(root, "--group", "energy") == 2
    assert "--yes" in capsys.readouterr().err
    assert not (root / counters.RULE[1:]).exists()


@root_only
def test_another_group_takes_the_place_of_the_first(root: Path) -> None:
    assert run(root, "--group", "energy", "--yes") == 0
    assert run(root, "--group", "other", "--yes") == 0
    assert rights_of(root) == {(4712, 0o440)}
    rule = (root / counters.RULE[1:]).read_text()
    assert "4712" in rule and str(GID) not in rule


@root_only
def test_counters_that_everybody_may_read_stay_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = machine(tmp_path, "udevadm", mode=0o444)
    assert run(root, "--group", "energy", "--yes") == 0
    assert "everybody may read" in capsys.readouterr().out
    assert rights_of(root) == {(GID, 0o444)}
    assert run(root, "--undo", "--yes") == 0
    assert rights_of(root) == {(0, 0o444)}


@root_only
def test_without_udev_the_line_of_tmpfiles_is_replaced_once_udev_is_there(tmp_path: Path) -> None:
    root = machine(tmp_path, "systemd-tmpfiles")
    line = root / counters.TMPFILES[1:]
    assert run(root, "--group", "energy", "--yes") == 0
    assert line.exists() and not (root / counters.RULE[1:]).exists()
    (root / "usr/bin/udevadm").write_text("")
    assert run(root, "--group", "energy", "--yes") == 0
    assert (root / counters.RULE[1:]).exists() and not line.exists()
    assert rights_of(root) == {(GID, 0o440)}


# -- what is refused ------------------------------------------------------------------------------


def test_a_group_that_does_not_exist_comes_with_the_command_that_makes_it(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, "--group", "nobodys", "--dry-run") == 2
    assert "groupadd --system nobodys && " in capsys.readouterr().err
    with pytest.raises(MalformedValueError, match="groupadd --system no-such-group"):
        counters.group_of("no-such-group", Path("/"))
    # No command is made of what is no name.
    with pytest.raises(MalformedValueError) as refused:
        counters.group_of("x; rm -r /", Path("/"))
    assert "groupadd" not in str(refused.value)


def test_neither_udev_nor_tmpfiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(machine(tmp_path), "--group", "energy", "--dry-run") == 2
    assert f"chgrp {GID} /sys/class/powercap" in capsys.readouterr().err


def as_it_was(file: Path) -> tuple[object, ...]:
    """All that a change would show in; to read it is none."""
    now = file.lstat()
    return (
        now.st_ino,
        now.st_mode,
        now.st_uid,
        now.st_gid,
        now.st_size,
        now.st_mtime_ns,
        now.st_ctime_ns,
    )


@pytest.mark.parametrize("what", ["other's", "changed", "link", "folder"])
def test_what_setup_did_not_write_is_left_alone(
    root: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = root / counters.RULE[1:]
    rule.parent.mkdir(parents=True)
    elsewhere = root / "elsewhere"
    text = files.Planned.of(counters.RULE, "# a rule\n").content
    if what == "other's":
        rule.write_text("# mine\n")
    elif what == "changed":
        rule.write_text(text + "# and mine\n")
    elif what == "link":
        elsewhere.write_text(text)
        rule.symlink_to(elsewhere)
    else:
        rule.mkdir()
    before = as_it_was(rule)
    assert run(root, "--group", "energy", "--yes") == 2
    assert "left alone" in capsys.readouterr().err
    assert run(root, "--undo", "--yes") == 0
    assert "leaves" in capsys.readouterr().out
    assert as_it_was(rule) == before
    assert all(mode == 0o400 for _, mode in rights_of(root))


@root_only
@pytest.mark.parametrize("what", ["everybody's", "a user's", "a group's", "a link"])
def test_no_folder_that_others_may_change_is_written_to(
    root: Path, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = root / "etc/udev"
    if what == "a link":
        (tmp_path / "udev").mkdir(mode=0o755)
        folder.symlink_to(tmp_path / "udev")
    else:
        folder.mkdir()
        if what == "everybody's":
            folder.chmod(0o1777)
        elif what == "a user's":
            os.chown(folder, 65534, 0)
        else:
            folder.chmod(0o775)
            os.chown(folder, 0, GID)
    assert run(root, "--group", "energy", "--yes") == 2
    said = capsys.readouterr().err
    assert "not safe to write" in said and "etc/udev" in said
    assert not (root / counters.RULE[1:]).exists()
    assert rights_of(root) == {(0, 0o400)}


@root_only
def test_a_counter_that_a_user_put_there_keeps_its_rights(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = root / "etc/shadow"
    secret.write_text("secret")
    secret.chmod(0o600)
    planted = root / "sys/class/powercap/zz"
    planted.mkdir()
    os.chown(planted, 65534, 65534)
    os.link(secret, planted / "energy_uj")
    assert run(root, "--group", "energy", "--yes") == 2
    assert "belongs to" in capsys.readouterr().err
    found = secret.stat()
    assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (0, 0o600)


def test_a_plain_user_is_told_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["setup", "--group", "energy", "--agent", "--yes"]) == 2
    said = capsys.readouterr().err
    assert "sudo " in said and "setup --group energy --agent" in said and "--dry-run" in said


@pytest.mark.parametrize("options", [[], ["--undo", "--group", "energy"]])
def test_what_does_not_go_together(
    root: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, *options, "--yes") == 2
    assert "--undo" in capsys.readouterr().err


def test_root_is_no_group_for_this(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "--group", "root", "--dry-run") == 2
    assert "root may read" in capsys.readouterr().err


# -- the real programs ----------------------------------------------------------------------------


@root_only
def test_systemd_tmpfiles_gives_the_right(tmp_path: Path) -> None:
    program = shutil.which("systemd-tmpfiles")
    if program is None:
        pytest.skip("systemd-tmpfiles is not installed")
    root = machine(tmp_path, "systemd-tmpfiles")
    group = counters.group_of("energy", root)
    files.write(root, counters.rights(group, root))
    assert rights_of(root) == {(0, 0o400)}
    done = subprocess.run(
        [program, f"--root={root}", "--create", Path(counters.TMPFILES).name],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert rights_of(root) == {(GID, 0o440)}


@root_only
def test_udev_runs_what_the_rule_says(tmp_path: Path) -> None:
    """udev reads the rule, for a device that every machine has in the place of a zone."""
    unshare = shutil.which("unshare")
    if shutil.which("udevadm") is None or unshare is None:
        pytest.skip("udevadm or unshare is not installed")
    device = Path("/sys/devices/virtual/mem/null")
    for needed in (device / "uevent", Path("/etc/udev/rules.d")):
        if not needed.exists():
            pytest.skip(f"there is no {needed}")
    root = machine(tmp_path, "udevadm")
    rule = counters.rights(counters.group_of("energy", root), root).content
    assert 'SUBSYSTEM=="powercap"' in rule and rule.count("energy_uj") == 3
    folder = tmp_path / "rules"
    folder.mkdir()
    swapped = rule.replace('"powercap"', '"mem"').replace("max_energy_range_uj", "dev")
    (folder / "71-lithowatt.rules").write_text(swapped.replace("energy_uj", "uevent"))
    # A tmpfs for what udevadm writes, and this rule alone.
    script = (
        "mount --bind $0 /etc/udev/rules.d && mount -t tmpfs none /run && "
        "exec udevadm test --action=add $1"
    )
    done = subprocess.run(
        [unshare, "--mount", "sh", "-c", script, str(folder), str(device)],
        capture_output=True,
        text=True,
    )
    told = done.stdout + done.stderr
    if "mount:" in told or "unshare:" in told:
        pytest.skip(f"no namespace of our own: {told.strip().splitlines()[-1]}")
    wrong = [
        line
        for line in told.splitlines()
        if "71-lithowatt" in line and ("nvalid" in line or "gnoring" in line)
    ]
    assert wrong == []
    assert f"/usr/bin/chgrp {GID} {device}/uevent {device}/dev" in told, told
    assert f"/usr/bin/chmod g+r {device}/uevent {device}/dev" in told
    # And for a device of another kind nothing.
    other = swapped.replace('"mem"', '"powercap"').replace("energy_uj", "uevent")
    (folder / "71-lithowatt.rules").write_text(other)
    done = subprocess.run(
        [unshare, "--mount", "sh", "-c", script, str(folder), str(device)],
        capture_output=True,
        text=True,
    )
    assert "chgrp" not in done.stdout + done.stderr


def test_udevadm_finds_no_fault_in_the_rule(tmp_path: Path) -> None:
    program = shutil.which("udevadm")
    if program is None:
        pytest.skip("udevadm is not installed")
    root = machine(tmp_path, "udevadm")
    rule = tmp_path / "71-lithowatt.rules"
    rule.write_text(counters.rights(counters.group_of("energy", root), root).content)
    done = subprocess.run([program, "verify", str(rule)], capture_output=True, text=True)
    if "Unknown command" in done.stderr:
        pytest.skip("udevadm verify came with systemd 254")
    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / service.NAME
    unit.write_text(files.Planned.of(service.UNIT, service.text_for("/bin/true")).content)
    done = subprocess.run(
        [program, "verify", "--recursive-errors=no", str(unit)], capture_output=True, text=True
    )
    ours = [line for line in done.stderr.splitlines() if service.NAME in line]
    assert ours == []
    # It says so where there is a fault.
    unit.write_text(unit.read_text().replace("ExecStart=/", "ExecStart=nowhere/"))
    done = subprocess.run(
        [program, "verify", "--recursive-errors=no", str(unit)], capture_output=True, text=True
    )
    assert service.NAME in done.stderr


@root_only
def test_the_service_is_enabled_and_disabled(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("systemctl", path="/usr/bin:/bin") is None:
        pytest.skip("systemctl is not installed")
    planned = files.Planned.of(service.UNIT, service.text_for("/opt/lithowatt/bin/python3"))
    monkeypatch.setattr(service, "unit", lambda: planned)
    (root / "usr/lib/systemd/system").mkdir(parents=True)
    (root / "usr/lib/systemd/system/multi-user.target").write_text("[Unit]\nDescription=x\n")
    assert run(root, "--agent", "--yes") == 0
    link = root / "etc/systemd/system/multi-user.target.wants" / service.NAME
    assert link.is_symlink() and os.readlink(link) == service.UNIT
    unit = root / service.UNIT[1:]
    assert "ExecStart=/opt/lithowatt/bin/python3 -I -m lithowatt agent --ring" in unit.read_text()
    # Counters are not given to anybody with it.
    assert rights_of(root) == {(0, 0o400)}
    assert run(root, "--undo", "--agent", "--yes") == 0
    assert not link.is_symlink() and not unit.exists()


# -- whom root may believe ------------------------------------------------------------------------


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A Python that is said to load from a folder of root's."""
    prefix = tmp_path / "python"
    (prefix / "lib").mkdir(parents=True)
    (prefix / "lib/module.py").write_text("")
    program = prefix / "python3"
    program.write_text("")
    # pytest's folder is in /tmp, which everybody may write to and the service does not see.
    monkeypatch.setattr(service, "_HIDDEN", ("/home",))
    original = trust.distrust

    def from_here(path: str, **options: object) -> str | None:
        return original(path, start=str(tmp_path), **options)  # type: ignore[arg-type]

    monkeypatch.setattr(service, "distrust", from_here)
    monkeypatch.setattr(trust, "distrust", from_here)
    monkeypatch.setattr(
        service, "_loaded_from", lambda _: [str(prefix), str(prefix), str(prefix / "lib")]
    )
    tmp_path.chmod(0o755)
    return str(program)


@root_only
def test_a_python_that_is_roots_alone_may_be_started(python: str) -> None:
    assert f"ExecStart={python} -I -m lithowatt agent" in service.unit(python).content


@root_only
@pytest.mark.parametrize("what", ["python3", "lib", "lib/module.py", "lib/link", "pyvenv.cfg"])
@pytest.mark.parametrize("how", ["owner", "mode"])
def test_a_python_that_a_user_can_change_is_not(
    python: str, what: str, how: str, tmp_path: Path
) -> None:
    path = tmp_path / "python" / what
    changed = path
    if what == "lib/link":
        changed = tmp_path / "theirs.py"
        changed.write_text("")
        path.symlink_to("../../theirs.py")
    elif what == "pyvenv.cfg":
        path.write_text("")
    if how == "owner":
        os.chown(changed, 65534, 65534)
    else:
        changed.chmod(0o757)
    with pytest.raises(UnavailableError, match="root must not start") as refused:
        service.unit(python)
    assert str(changed) in str(refused.value) and "/opt/lithowatt" in str(refused.value)


def test_a_python_that_the_service_cannot_see_is_not(
    python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_HIDDEN", (str(tmp_path),))
    with pytest.raises(UnavailableError, match=r"would not see .* setup --agent"):
        service.unit(python)


def test_a_python_without_lithowatt_of_its_own_is_not() -> None:
    bare = shutil.which("python3", path="/usr/bin:/bin")
    if bare is None:
        pytest.skip("there is no Python of the system")
    with pytest.raises(UnavailableError, match="No module named 'lithowatt'"):
        service.unit(bare)


@pytest.mark.parametrize("path", ["/opt/a b/python", "/opt/%n/python", '/opt/"x', "relative"])
def test_no_word_of_a_path_means_something_to_systemd(path: str) -> None:
    with pytest.raises(UnavailableError, match="cannot name the program"):
        service.unit(path)


def test_deploy_has_the_unit_that_is_shipped() -> None:
    from tests.support import TOP

    deployed = (TOP / "deploy" / "agent" / "systemd" / service.NAME).read_text()
    assert deployed == service.TEMPLATE.read_text()
