"""Monitoring back-ends of Lithops 3.8: our values never push an outcome out of its message."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.lithops_environments import layer, run_scenarios, site_packages, stacked

pytestmark = [pytest.mark.lithops, pytest.mark.slow]

#: A back-end of somebody's own: messages are files, and the client reads the storage.
BACKEND = """
import json, os, uuid
from lithops.monitoring.status import MessageCallStatus
from lithops.monitoring.backends.storage import StorageMonitor as MonitoringBackend

class CallStatus(MessageCallStatus):
    service_name = "folder"
    MAX_MESSAGE_SIZE = {limit}

    def _publish_to(self, target, payload):
        path = os.path.join(os.environ["MESSAGES"], uuid.uuid4().hex)
        with open(path, "w") as file:
            file.write(payload)

def load_config(config_data):
    config_data.setdefault("folder", {{}})
"""
SCENARIOS = ["success", "raises", "killed", "prints"]


def messages(
    directory: Path, limit: int | None, lithowatt: bool
) -> tuple[dict[str, Any], list[Any]]:
    """What the client saw, and the last message of each call."""
    python = stacked("3.8.0", directory / "env", lithowatt)
    lithops = site_packages(python) / "lithops"
    shutil.copytree(layer("3.8.0") / "lithops", lithops)
    folder = lithops / "monitoring" / "backends" / "folder"
    folder.mkdir()
    (folder / "__init__.py").write_text(BACKEND.format(limit=limit))
    (folder / "config.py").write_text("from . import load_config\n")
    (directory / "messages").mkdir()
    plan = {
        "scenarios": SCENARIOS,
        "localhost": {"version": 2},
        "lithops": {"monitoring": "folder"},
    }
    extra = {"MESSAGES": str(directory / "messages")}
    seen = run_scenarios(python, plan, directory / "run", **extra)
    sent = [json.loads(path.read_text()) for path in (directory / "messages").iterdir()]
    return seen, [message for message in sent if message["type"] == "__end__"]


@pytest.mark.parametrize("limit", [None, 7000, 3000])
def test_a_message_keeps_what_it_had_and_gets_what_fits(tmp_path: Path, limit: int | None) -> None:
    for name in ("plain", "metered"):
        (tmp_path / name).mkdir()
    plain, without = messages(tmp_path / "plain", limit, lithowatt=False)
    metered, sent = messages(tmp_path / "metered", limit, lithowatt=True)

    assert len(sent) == len(without) == len(SCENARIOS)
    for name in SCENARIOS:
        assert metered[name]["result"] == plain[name]["result"]
        assert metered[name]["error"] == plain[name]["error"]
        assert plain[name]["stats"].keys() <= metered[name]["stats"].keys()
        if limit is None:
            assert metered[name]["stats"]["worker_func_energy_consumption"] > 0
            assert metered[name]["stats"]["worker_task_energy_consumption"] > 0
    for message in sent:
        if limit is not None:
            assert len(json.dumps(message)) <= limit
    # Nothing of upstream's was left out that was not left out before.
    for key in ("logs", "result", "exc_info", "partial_status"):
        count = sum(key in message for message in without)
        assert sum(key in message for message in sent) == count, key
    if limit != 3000:
        assert all("worker_func_energy_consumption" in message for message in sent)
