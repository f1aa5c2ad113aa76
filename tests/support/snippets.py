"""Runs the Python of a document as its reader would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run(program: str, folder: Path) -> str:
    """Runs a program in ``folder``, in an activated venv; what it printed."""
    script = folder / "program.py"
    script.write_text(program, "utf-8")
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "TMPDIR": str(folder),
    }
    done = subprocess.run(
        [sys.executable, str(script)], env=env, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
