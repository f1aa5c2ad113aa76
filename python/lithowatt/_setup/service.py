"""The node agent as a service of systemd."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from lithowatt._setup.files import Planned, plain_path
from lithowatt._setup.trust import distrust, distrust_all
from lithowatt.errors import UnavailableError

NAME = "lithowatt-agent.service"
UNIT = f"/etc/systemd/system/{NAME}"

TEMPLATE = Path(__file__).with_name(NAME)
"""The unit as it is shipped: sandboxed, its ring in ``/run/lithowatt``."""

#: What the unit's ProtectHome and PrivateTmp hide from the service.
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108

#: Says what a Python loads from when nothing of the caller is believed.
_ASK = "import json, sys, lithowatt; print(json.dumps([sys.prefix, sys.base_prefix, *sys.path]))"

ELSEWHERE = (
    "install lithowatt where root alone may write, as in: "
    "sudo python3 -m venv /opt/lithowatt && sudo /opt/lithowatt/bin/pip install WHEEL && "
    "sudo /opt/lithowatt/bin/lithowatt setup --agent"
)


def unit(python: str | None = None) -> Planned:
    """The unit, for the Python that runs this.

    Raises:
        UnavailableError: Root cannot start it safely: somebody else could change that Python or a
            module of it; or the service could not see it.
    """
    python = python or sys.executable
    if not python or not plain_path(python):
        raise UnavailableError(f"a service cannot name the program {python!r}; {ELSEWHERE}")
    loads = _loaded_from(python)
    for path in (python, *loads):
        for each in {path, os.path.realpath(path)}:
            if any(each == hidden or each.startswith(hidden + "/") for hidden in _HIDDEN):
                raise UnavailableError(
                    f"the service would not see {each}, for home and temporary folders are hidden "
                    f"from it; {ELSEWHERE}"
                )
    why = distrust(python) or distrust_all(loads[2:])
    for prefix in loads[:2]:
        why = why or distrust(prefix)
    config = os.path.join(loads[0], "pyvenv.cfg")  # noqa: PTH118
    if why is None and os.path.lexists(config):
        why = distrust(config)
    if why:
        raise UnavailableError(f"root must not start {python} at each boot: {why}; {ELSEWHERE}")
    return Planned.of(UNIT, text_for(python))


def text_for(python: str) -> str:
    """The shipped unit, with this Python; the comments before its first section are of a copy."""
    lines = TEMPLATE.read_text("utf-8").splitlines(keepends=True)
    lines = lines[lines.index("[Unit]\n") :]
    start = next(at for at, line in enumerate(lines) if line.startswith("ExecStart="))
    options = lines[start].split(" ", 1)[1]
    lines[start] = f"ExecStart={python} -I -m lithowatt {options}"
    return "".join(lines)


def _loaded_from(python: str) -> list[str]:
    """The two prefixes of a Python, and where it looks for modules."""
    command = [python, "-I", "-c", _ASK]
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=60, check=True, cwd="/"
        )
        found: list[str] = json.loads(done.stdout)
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["it failed"])[-1]
        raise UnavailableError(
            f"{python} -I -m lithowatt cannot be started: {last}; {ELSEWHERE}"
        ) from error
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise UnavailableError(f"{python} cannot be started: {error}; {ELSEWHERE}") from error
    return found


def commands(root: Path, begin: bool) -> list[list[str]]:
    """What systemd has to be told once the unit is there, or before it goes."""
    if str(root) != "/" or not Path("/run/systemd/system").is_dir():
        # It does not run here: the link alone that starts the service at the next boot.
        return [["systemctl", f"--root={root}", "enable" if begin else "disable", NAME]]
    if begin:
        return [
            ["systemctl", "daemon-reload"],
            ["systemctl", "enable", NAME],
            ["systemctl", "restart", NAME],
        ]
    return [["systemctl", "disable", "--now", NAME]]


def run(command: list[str]) -> str | None:
    """Runs a command; what went wrong, ``None`` where nothing did."""
    program = shutil.which(command[0], path="/usr/bin:/bin:/usr/sbin:/sbin")
    if program is None:
        return "there is no systemctl"
    try:
        done = subprocess.run(  # noqa: S603
            [program, *command[1:]], capture_output=True, text=True, timeout=120, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
