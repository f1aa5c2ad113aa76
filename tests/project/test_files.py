"""What replaces a file: whole, under a name nobody can have taken, and never a device."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lithowatt._support import files
from lithowatt._support.files import read_plain, replacement, write_atomically

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs files of two users: root only")


def test_content_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    write_atomically(file, "one")
    write_atomically(file, b"two\r\n")
    assert file.read_bytes() == b"two\r\n"
    assert os.listdir(tmp_path) == ["report.json"]


def test_permissions_are_kept_and_a_new_file_obeys_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_atomically(tmp_path / "new", "")
        write_atomically(tmp_path / "private", "", mode=0o600)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600
    (tmp_path / "new").chmod(0o604)
    write_atomically(tmp_path / "new", "more")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o604


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "profile"
    file.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacement(file) as descriptor:
        os.write(descriptor, b"half")
        raise KeyboardInterrupt
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["profile"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "profile"
    file.write_text("old")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "_write_all", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(file, "new")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["profile"]


def test_the_longest_name_there_is(tmp_path: Path) -> None:
    file = tmp_path / ("n" * 255)
    write_atomically(file, "fits")
    assert file.read_text() == "fits"


def test_temporary_names_cannot_be_foreseen(tmp_path: Path) -> None:
    names = set()
    for _ in range(8):
        with replacement(tmp_path / "out"):
            names.update(name for name in os.listdir(tmp_path) if name != "out")
    assert len(names) == 8
    assert not any(str(os.getpid()) in name for name in names)


def test_a_link_of_ones_own_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    real = tmp_path / "data" / "real"
    real.write_text("old")
    (tmp_path / "second").symlink_to("data/real")
    (tmp_path / "first").symlink_to(tmp_path / "second")
    write_atomically(tmp_path / "first", "new")
    assert real.read_text() == "new"
    assert (tmp_path / "first").is_symlink()
    assert (tmp_path / "second").is_symlink()


def test_a_link_to_itself_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        write_atomically(tmp_path / "loop", "")


@needs_root
@pytest.mark.parametrize("mode", [0o1777, 0o777])
def test_a_strangers_link_in_a_shared_folder_is_not_followed(tmp_path: Path, mode: int) -> None:
    ours = tmp_path / "ours"
    ours.write_text("precious")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    link = shared / "out.json"
    link.symlink_to(ours)
    os.lchown(link, 12345, 12345)
    with pytest.raises(PermissionError, match="link of another user"):
        write_atomically(link, "{}")
    assert ours.read_text() == "precious"
    # In a folder that only its owner writes to, that owner decides.
    shared.chmod(0o755)
    write_atomically(link, "{}")
    assert ours.read_text() == "{}"


@needs_root
def test_root_leaves_a_users_file_to_the_user(tmp_path: Path) -> None:
    file = tmp_path / "profile"
    file.write_text("old")
    os.chown(file, 12345, 12346)
    write_atomically(file, "new")
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 12346)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path, "")
    assert os.listdir(tmp_path) == []


def test_a_fifo_is_written_to_and_stays(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    write_atomically(fifo, "report")
    reader.join(10)
    assert got == [b"report"]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def run_with_output(output: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "lithowatt", "run", "--json", "-o", output, "--", "true"]
    return subprocess.run(command, capture_output=True, timeout=60, **options)  # type: ignore[call-overload,no-any-return]


def test_run_writes_to_a_device_and_does_not_replace_it() -> None:
    done = run_with_output("/dev/stdout")
    assert done.returncode == 0
    assert done.stdout.startswith(b"{")
    assert run_with_output("/dev/null").returncode == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_run_uses_no_name_that_could_be_laid_in_wait(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    # The shell's pid becomes lithowatt's, so that a name made of it is there before it starts.
    script = (
        'for n in ".out.json.$$" "out.json.$$" "out.json.tmp"; do ln -s target "$n"; done; '
        f"exec {sys.executable} -m lithowatt run --json -o out.json -- true"
    )
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0
    assert target.read_text() == "precious"
    assert not (tmp_path / "out.json").is_symlink()


@pytest.mark.parametrize("kind", ["fifo", "device", "long", "folder"])
def test_only_plain_files_of_a_known_size_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"x" * 101)
    with pytest.raises(OSError):
        read_plain(path, 100)


def test_a_file_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert read_plain(path, 100) == b"x" * 100
