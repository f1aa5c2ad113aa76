"""Notebooks, executed by nbclient with a real kernel of IPython."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import TOP

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

pytestmark = pytest.mark.slow

NOTEBOOK = TOP / "examples" / "joules.ipynb"


#: In a process of its own: nbclient leaves sockets to the interpreter's end. Sockets of the file
#: system, so that no port of this machine is needed.
EXECUTE = """
import sys
import nbclient, nbformat
from jupyter_client.manager import AsyncKernelManager

path, folder, errors = sys.argv[1:]
notebook = nbformat.read(path, as_version=4)
manager = AsyncKernelManager(kernel_name="python3", transport="ipc")
manager.connection_file = folder + "/kernel.json"
client = nbclient.NotebookClient(
    notebook,
    km=manager,
    timeout=300,
    allow_errors=errors == "errors",
    resources={"metadata": {"path": folder}},
)
client.execute()
nbformat.write(notebook, folder + "/executed.ipynb")
"""


def execute(notebook: Any, folder: Path, *, errors: bool = False) -> list[dict[str, Any]]:
    """Runs all of it; what each cell of code shows, an output a row with its cell's number."""
    path = folder / "given.ipynb"
    nbformat.write(notebook, path)
    allowed = "errors" if errors else "none"
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(path), str(folder), allowed],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    executed = nbformat.read(folder / "executed.ipynb", as_version=4)
    codes = [cell for cell in executed.cells if cell.cell_type == "code"]
    return [
        {**output, "cell": number} for number, cell in enumerate(codes) for output in cell.outputs
    ]


def _tables(outputs: list[dict[str, Any]]) -> list[str]:
    return [one["data"]["text/html"] for one in outputs if "text/html" in one.get("data", {})]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Lithops' workers are the `python` of the PATH, this one as in an activated environment.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return tmp_path


def test_a_notebook_of_magics_and_meters(folder: Path) -> None:
    v4 = nbformat.v4
    sources = [
        "%load_ext lithowatt",
        "%joules sum(range(1_000_000))",
        "%%joules -l '<b>mine'\nfor i in range(100_000):\n    last = i",
        "from lithowatt import EnergyMeter, measure\n"
        "with EnergyMeter(label='stretch') as meter, meter.phase('one'):\n"
        "    sum(range(1_000_000))\n"
        "meter",
        "meter.reading",
        "%%joules\n1 / 0",
        "last",
    ]
    notebook = v4.new_notebook(cells=[v4.new_code_cell(source) for source in sources])
    outputs = execute(notebook, folder, errors=True)
    assert [(one["cell"], one["output_type"]) for one in outputs] == [
        (1, "display_data"),
        (1, "execute_result"),
        (2, "display_data"),
        (3, "execute_result"),
        (4, "execute_result"),
        (5, "display_data"),
        (5, "error"),
        (6, "execute_result"),
    ]
    tables = _tables(outputs)
    assert len(tables) == 5 and all("<table>" in table and " J" in table for table in tables)
    assert "&lt;b&gt;mine" in tables[1] and "<b>" not in tables[1]
    assert "phase one" in tables[2] and tables[2] == tables[3]
    assert outputs[1]["data"]["text/plain"] == "499999500000"
    assert outputs[6]["ename"] == "ZeroDivisionError"
    assert outputs[7]["data"]["text/plain"] == "99999"


@pytest.mark.lithops
def test_the_notebook_of_the_examples(folder: Path) -> None:
    pytest.importorskip("lithops")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    outputs = execute(notebook, folder)
    assert not [one for one in outputs if one["output_type"] in ("error", "stream")]
    tables = _tables(outputs)
    assert len(tables) == 4
    assert "phase make" in tables[2] and "phase sum" in tables[2]
    assert tables[3].count("<tr>") == 1 + 3 and "sum of 3 of 3 calls" in tables[3]


def test_the_notebook_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in codes)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
