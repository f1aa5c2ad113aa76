"""The page of environment variables and the table of settings name what the code reads."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from lithowatt._support.environment_variables import SETTINGS
from tests.support import TOP

NAMES = [name for group in SETTINGS.values() for name, _, _ in group]
OURS = re.compile(r"\b(?:LITHOWATT|ENERGY)_[A-Z][A-Z_]*[A-Z]\b")


def test_the_page_is_the_tables() -> None:
    made = [sys.executable, str(TOP / "tools" / "environment_reference.py")]
    done = subprocess.run(made, capture_output=True, text=True)
    assert done.returncode == 0, f"`make environment-reference` writes it:\n{done.stdout}"


def test_every_variable_that_the_code_names_is_in_the_table() -> None:
    read: dict[str, str] = {}
    for folder, pattern in [("python", "*.py"), ("src", "*.rs"), ("lithowatt.data", "*.py")]:
        for path in (TOP / folder).rglob(pattern):
            text = path.read_text("utf-8")
            # What stands in quotation marks: variables are asked for by name.
            for name in re.findall(r"[\"']((?:LITHOWATT|ENERGY)_[A-Z_]+)[\"']", text):
                if path.name != "environment_variables.py":
                    read[name] = str(path.relative_to(TOP))
    assert {name for name in NAMES if OURS.fullmatch(name)} == read.keys(), read


def test_doctor_names_a_misspelt_setting(monkeypatch) -> None:
    monkeypatch.setenv("LITHOWATT_PEU", "1.2")
    command = [sys.executable, "-m", "lithowatt", "doctor"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "LITHOWATT_PEU is set, and no setting has this name: LITHOWATT_PUE?" in told
    report = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout
    assert json.loads(report)["problems"] == [
        "LITHOWATT_PEU is set, and no setting has this name: LITHOWATT_PUE?"
    ]
