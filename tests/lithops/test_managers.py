"""Whose meter a Lithops handler has: lithowatt's, or one of the same name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from lithowatt.cli import lithops as lithops_cli
from lithowatt.lithops import _status
from lithowatt.lithops._managers import foreign_manager

HANDLER = "def run_task(task):\n    manager = EnergyManager(1)\n    manager.start()\n"
OWN_CLASS = "class EnergyManager:\n    pass\n"


def package(directory: Path, handler: str, **modules: str) -> Path:
    """A Lithops with this handler and these other modules of its worker."""
    worker = directory / "lithops" / "worker"
    worker.mkdir(parents=True)
    (directory / "lithops" / "version.py").write_text("__version__ = '3.6.1.dev0'\n")
    (worker / "handler.py").write_text(handler)
    for name, text in modules.items():
        (worker / f"{name}.py").write_text(text)
    return directory / "lithops"


@pytest.mark.parametrize(
    ("imports", "whose"),
    [
        ("from lithowatt import EnergyManager\n", None),
        ("from lithowatt import EnergyManager as Meter\n", None),
        ("from lithowatt.lithops._manager import EnergyManager\n", None),
        ("import lithowatt as meter\nEnergyManager = meter.EnergyManager\n", None),
        ("from lithops.worker.shim import EnergyManager\n", None),
        (
            "from lithops.worker.energymanager import EnergyManager\n",
            "lithops.worker.energymanager",
        ),
        ("from .energymanager import EnergyManager\n", "lithops.worker.energymanager"),
        ("from . import energymanager\nx = energymanager.EnergyManager\n", "energymanager"),
        ("from lithops.worker.chain import EnergyManager\n", "lithops.worker.energymanager"),
        ("from power import Monitor as EnergyManager\n", "power"),
        ("import power\nEnergyManager = power.EnergyManager\n", "power"),
        ("from lithops.worker.gone import EnergyManager\n", "lithops.worker.gone"),
        (OWN_CLASS, "lithops.worker.handler"),
    ],
)
def test_the_meter_of_a_handler_is_followed_to_its_home(imports, whose, tmp_path):
    handler = imports + HANDLER
    found = package(
        tmp_path,
        handler,
        energymanager=OWN_CLASS,
        shim="from lithowatt import EnergyManager\n",
        chain="from lithops.worker.energymanager import EnergyManager\n",
    )
    assert foreign_manager(ast.parse(handler), found) == whose


def test_modules_that_point_at_each_other_have_an_end(tmp_path):
    handler = "from lithops.worker.a import EnergyManager\n" + HANDLER
    found = package(
        tmp_path,
        handler,
        a="from lithops.worker.b import EnergyManager\n",
        b="from lithops.worker.a import EnergyManager\n",
    )
    assert foreign_manager(ast.parse(handler), found) in ("lithops.worker.a", "lithops.worker.b")


def test_status_does_not_take_another_meter_for_lithowatts(tmp_path, monkeypatch, capsys):
    handler = "from lithops.worker.energymanager import EnergyManager\n" + HANDLER
    found = package(tmp_path, handler, energymanager=OWN_CLASS)
    monkeypatch.setattr(_status, "_find_lithops", lambda: found)
    monkeypatch.delenv("ENERGY_MONITORING_ENABLED", raising=False)
    status = _status.status()
    assert not status.active
    assert status.layout == (
        "meters itself, not by lithowatt: it has the EnergyManager of "
        "lithops.worker.energymanager (line 1)"
    )
    assert "is that meter's" in (status.reason or "")
    assert "are not metered" in lithops_cli.render(status)
