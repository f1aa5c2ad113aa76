"""What tests share: where things lie, simulated machines, agents, clusters, releases of Lithops."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
"""The folder of the tests."""

TOP = TESTS.parent
"""The checkout."""

RIG = TESTS / "rig"
"""The simulated machine, for the ``PYTHONPATH`` of programs that tests start."""
