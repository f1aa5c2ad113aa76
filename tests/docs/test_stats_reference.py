"""``docs/reference/stats.md`` names every key of the stats once, with a unit that its value has."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lithowatt import EnergyMeter
from lithowatt.aws import _sandbox
from lithowatt.worker import task
from rig import StaticTree
from tests.support import TOP

DOCUMENT = TOP / "docs" / "reference" / "stats.md"
ROWS = re.findall(
    r"^\| `(worker_\w+)` \| ([^|]+) \| ([^|]+) \|$", DOCUMENT.read_text("utf-8"), re.M
)

#: What a value is, by its unit. Counts are whole numbers.
KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("J", "s", "W", "MiB", "%", "MHz", "°C"), (float, int)),
    **dict.fromkeys(("MB", "ms", "cycles", "instructions"), (int,)),
    "number": (int, float),
    "text": (str,),
    "boolean": (bool,),
    "list of texts": (list,),
    "dict": (dict,),
}


@pytest.fixture(scope="module")
def stats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a machine with counters, so that as many keys as possible have a value."""
    with StaticTree(tmp_path_factory.mktemp("machine") / "root") as tree:
        with EnergyMeter(root=tree.root, interval=None) as meter, meter.phase("compute"):
            tree.add("package-0", 5_000_000)
        return meter.stats()


def test_every_key_is_in_the_reference_and_nothing_else(stats: dict[str, Any]) -> None:
    documented = [key for key, _, _ in ROWS]
    assert sorted(documented) == sorted(set(documented)), "a key is there twice"
    real = {*stats, *task.KEYS, *_sandbox.call_values()}
    assert real - set(documented) == set(), "keys without a word in docs/reference/stats.md"
    assert set(documented) - real == set(), "words in docs/reference/stats.md without a key"


def test_each_value_is_of_its_unit(stats: dict[str, Any]) -> None:
    checked = 0
    for key, unit, meaning in ROWS:
        assert unit in KINDS, key
        assert meaning.strip(), key
        value = stats.get(key)
        if value is not None:
            assert isinstance(value, KINDS[unit]), (key, unit, value)
            assert isinstance(value, bool) == (unit == "boolean"), (key, unit, value)
            checked += 1
    assert checked > 40
