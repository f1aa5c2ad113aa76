"""The Pythons that the emulated Lambda takes, kept under the temporary directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

#: The runtime: nothing but what AWS' managed runtimes bring along.
RUNTIME = ("awslambdaric", "boto3", "pip")
#: The services.
SERVICES = ("moto[server]", "boto3")


def environment(name: str, *packages: str) -> Path:
    """The interpreter of an environment with these packages, built once."""
    uid = os.getuid() if hasattr(os, "getuid") else 0
    cache = Path(tempfile.gettempdir()) / f"lithowatt-test-environments-{uid}"
    home = cache / f"py{sys.version_info.major}.{sys.version_info.minor}-{name}"
    if not home.exists():
        cache.mkdir(mode=0o700, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=cache))
        venv.create(building, with_pip=False, symlinks=True)
        command = [sys.executable, "-m", "pip", "--python", str(building / "bin" / "python")]
        command += ["install", "--quiet", "--disable-pip-version-check", *packages]
        subprocess.run(command, check=True, timeout=600)
        building.chmod(0o755)
        try:
            building.rename(home)
        except OSError:  # another session was faster
            shutil.rmtree(building)
    return home / "bin" / "python"
