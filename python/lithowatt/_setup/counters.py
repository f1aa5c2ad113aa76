"""The right to read powercap's counters: for a group, now and at each boot."""

from __future__ import annotations

import glob
import grp
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from lithowatt._setup.files import Planned, below, owners
from lithowatt._setup.trust import distrust
from lithowatt.errors import MalformedValueError, UnavailableError

RULE = "/etc/udev/rules.d/71-lithowatt.rules"
"""Read by udev whenever a zone of powercap appears: udev(7)."""

TMPFILES = "/etc/tmpfiles.d/lithowatt.conf"
"""Read once at each boot: tmpfiles.d(5). Where there is no udev; a driver that is loaded later, or
anew, makes files that root alone may read again."""

FILES = ("energy_uj", "max_energy_range_uj")
"""What a meter reads of a zone. Kernels since 2020 let root alone read the first."""

ZONES = "/sys/class/powercap/*/"

SIDE_CHANNEL = (
    "At this resolution energy counters can reveal secrets of other programs (PLATYPUS, "
    "CVE-2020-8694). Give them to users only who may know what others compute on this machine."
)


@dataclass(frozen=True)
class Group:
    """A group of users.

    Attributes:
        name: Its name.
        gid: Its number, which is what is written: names of a directory service are not known when
            the machine boots.
        members: Users that are listed as its members.
    """

    name: str
    gid: int
    members: tuple[str, ...]


def group_of(name: str, root: Path) -> Group:
    """The group of that name, on the machine whose ``/`` is ``root``.

    Raises:
        MalformedValueError: There is none, with the command that makes one.
    """
    if str(root) == "/":
        try:
            found = grp.getgrnam(name)
        except KeyError:
            raise _no_group(name, "on this machine") from None
        return Group(found.gr_name, found.gr_gid, tuple(found.gr_mem))
    file = below(root, "/etc/group")
    try:
        text = Path(file).read_text("utf-8", "replace")
    except OSError as error:
        raise MalformedValueError(f"{file} cannot be read: {error.strerror}") from error
    for line in text.splitlines():
        parts = line.split(":")
        if len(parts) >= 4 and parts[0] == name and parts[2].isdecimal():
            members = tuple(filter(None, parts[3].split(",")))
            return Group(name, int(parts[2]), members)
    raise _no_group(name, f"in {file}")


def _no_group(name: str, where: str) -> MalformedValueError:
    if re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", name):
        make = f"sudo groupadd --system {name} && sudo usermod --append --groups {name} USER"
        return MalformedValueError(f"there is no group {name!r} {where}; to make it: {make}")
    return MalformedValueError(f"there is no group {name!r} {where}")


def rights(group: Group, root: Path) -> Planned:
    """The file that gives a group the right at each boot.

    Raises:
        UnavailableError: There is neither udev nor systemd-tmpfiles.
    """
    told = (
        f"# Group {group.name} ({group.gid}) may read the energy counters.\n"
        "# Such readings can reveal what other programs compute (PLATYPUS, CVE-2020-8694).\n"
    )
    chgrp, chmod = (_program(name, root) for name in ("chgrp", "chmod"))
    if chgrp and chmod and _has(root, "udevadm"):
        files = " ".join(f"$sys$devpath/{name}" for name in FILES)
        rule = (
            'ACTION!="remove", SUBSYSTEM=="powercap", TEST=="energy_uj", '
            f'RUN+="{chgrp} {group.gid} {files}", RUN+="{chmod} g+r {files}"\n'
        )
        return Planned.of(RULE, told + rule)
    if _has(root, "systemd-tmpfiles"):
        modes = zip(FILES, ("0440", "0444"), strict=True)
        lines = [f"z {ZONES}{name} {mode} root {group.gid} -\n" for name, mode in modes]
        return Planned.of(TMPFILES, told + "".join(lines))
    files = " ".join(ZONES + name for name in FILES)
    raise UnavailableError(
        "neither udev nor systemd-tmpfiles is installed, which give rights at each boot; have your "
        f"system run this at its start: chgrp {group.gid} {files} && chmod g+r {files}"
    )


def group_in(content: str) -> int | None:
    """The number of the group that a file of `rights` names."""
    found = re.search(r"^# Group \S+ \((\d+)\)", content, re.MULTILINE)
    return int(found[1]) if found else None


def _program(name: str, root: Path) -> str | None:
    """Where a program of the system is that only root can change."""
    for folder in ("/usr/bin", "/bin"):
        path = f"{folder}/{name}"
        try:
            # A link to an absolute path would leave another root.
            if distrust(below(root, path), start=str(root), owners=owners(root)) is None:
                return path
        except OSError:
            continue
    return None


def _has(root: Path, program: str) -> bool:
    return any(
        os.path.lexists(below(root, f"{folder}/{program}"))
        for folder in ("/usr/bin", "/bin", "/usr/sbin", "/sbin")
    )


def there(root: Path) -> bool:
    """Whether there is a counter now."""
    return bool(_present(root, "energy_uj"))


def readable_by_all(root: Path) -> bool:
    """Whether everybody may read a counter now."""
    return any(os.stat(path).st_mode & stat.S_IROTH for path in _present(root, "energy_uj"))  # noqa: PTH116


def grant(root: Path, gid: int) -> list[str]:
    """Gives a group the right now.

    Returns:
        The files.

    Raises:
        UnavailableError: Somebody else than root could change a file, or it cannot be changed.
    """
    done = []
    for name in FILES:
        for path in _present(root, name):
            mode = _checked(path, root)
            _change(path, gid, mode | stat.S_IRGRP)
            done.append(path)
    return done


def revoke(root: Path, gid: int) -> list[str]:
    """Takes the right from a group, where it has it, as the kernel had it: files are root's.

    Raises:
        UnavailableError: As of `grant`.
    """
    done = []
    for name in FILES:
        for path in _present(root, name):
            if os.stat(path).st_gid == gid:  # noqa: PTH116
                mode = _checked(path, root)
                _change(path, 0, mode if mode & stat.S_IROTH else mode & ~stat.S_IRGRP)
                done.append(path)
    return done


def _present(root: Path, name: str) -> list[str]:
    return sorted(glob.glob(below(root, ZONES) + "/" + name))  # noqa: PTH207 - follows links


def _checked(path: str, root: Path) -> int:
    """The permissions of a counter's file."""
    why = distrust(path, start=str(root), owners=owners(root))
    if why:
        raise UnavailableError(f"the rights of {path} are left as they are: {why}")
    return stat.S_IMODE(os.stat(path).st_mode)  # noqa: PTH116


def _change(path: str, gid: int, mode: int) -> None:
    try:
        os.chown(path, -1, gid)
        os.chmod(path, mode)  # noqa: PTH101
    except OSError as error:
        raise UnavailableError(
            f"the rights of {path} cannot be changed: {error.strerror}; /sys is read-only in most "
            "containers: run this on the host"
        ) from error
