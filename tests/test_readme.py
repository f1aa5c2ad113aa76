"""The README's Python runs as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=["python", "lithops", "flexecutor"])
def test_a_snippet_of_the_readme_runs(snippet: str, tmp_path: Path) -> None:
    if "lithops" in snippet:
        pytest.importorskip("lithops")
    script = tmp_path / "snippet.py"
    script.write_text(snippet, "utf-8")
    here = Path(sys.executable).parent
    env = {
        **os.environ,
        "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",  # an activated venv
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, str(script)], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    if "print(" not in snippet:
        return
    assert re.search(r"\d\.\d+", done.stdout), done.stdout
    assert "None" not in done.stdout.splitlines()[0]
