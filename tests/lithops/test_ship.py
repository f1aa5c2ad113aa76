"""The meter that travels with a job, to workers whose interpreter has no lithowatt."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lithowatt
from lithowatt import _core
from lithowatt.lithops import _ship
from lithowatt.report import EnhancedEnergyLogger, MetricsCollector
from tests.support.lithops_environments import isolated, metered, plain, run_python
from tests.support.wheels import pack_wheel

pytestmark = [pytest.mark.lithops, pytest.mark.slow]

ENERGY = "worker_func_energy_"

#: The newest release, and the newest of those with the older worker.
RELEASES = ("3.8.0", "3.6.4")

#: A client that has lithowatt on its path, which no worker inherits.
CLIENT = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import lithops
from lithowatt.lithops import ship_meter

def burn(x):
    import sys, time
    end = time.process_time() + 0.2
    while time.process_time() < end: sum(range(1000))
    return [x * x, sys.modules["lithowatt"].__file__ if "lithowatt" in sys.modules else None]

def raises(x):
    burn(x)
    raise ValueError("boom")

def dies(x):
    os._exit(3)

class Adder:
    def __init__(self): self.more = 10
    def __call__(self, x): return [burn(x)[0] + self.more, None]

config = {"lithops": {"backend": "localhost", "storage": "localhost"},
          "localhost": {"version": int(sys.argv[4]), "worker_processes": 1,
                        "runtime": sys.argv[2]}}
executor = lithops.FunctionExecutor(config=config)

def run(function, data, **more):
    futures = executor.map(function, data, **more)
    results = executor.get_result(futures, throw_except=False)
    return [{"result": results[i] if results and i < len(results) else None,
             "error": bool(f.error), "stats": f.stats} for i, f in enumerate(futures)]

shipping = ship_meter()
seen = {"size": shipping.size, "shipped": run(burn, [1, 2])}
if sys.argv[3] == "all":
    seen |= {"raises": run(raises, [1]), "dies": run(dies, [1]), "object": run(Adder(), [3]),
             "modules": run(burn, [4], include_modules=["wave"]),
             "off": run(burn, [5], extra_env={"ENERGY_MONITORING_ENABLED": "false"})}
    shipping.stop()
    seen["stopped"] = run(raises, [6])
with open("seen.json", "w") as file:
    json.dump(seen, file, default=str)
"""


def run_client(
    directory: Path,
    client: Path,
    worker: Path,
    what: str = "all",
    package: Path | None = None,
    version: int = 1,
) -> dict[str, Any]:
    path = package or Path(lithowatt.__file__).parent.parent
    isolated(directory)
    arguments = ("-c", CLIENT, str(path), str(worker), what, str(version))
    done = run_python(client, *arguments, directory=directory)
    assert done.returncode == 0, done.stdout + done.stderr
    seen: dict[str, Any] = json.loads((directory / "seen.json").read_text())
    return seen


@pytest.fixture(scope="module", params=RELEASES)
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    python = plain(request.param)
    return run_client(tmp_path_factory.mktemp("ship"), python, python)


def test_calls_that_return_or_raise_carry_their_energy(seen):
    for name in ("shipped", "raises", "object", "modules"):
        for call in seen[name]:
            stats = call["stats"]
            assert 0 < stats[ENERGY + "low"] <= stats[ENERGY + "consumption"], name
            assert stats[ENERGY + "consumption"] <= stats[ENERGY + "high"]
            assert 0.15 < stats[ENERGY + "cpu_time"] < 0.5
            assert stats[ENERGY + "quality"] in ("measured", "attributed", "modelled")
    assert [call["error"] for call in seen["raises"]] == [True]


def test_results_are_the_function_s_and_the_meter_is_the_one_that_was_sent(seen):
    assert [call["result"][0] for call in seen["shipped"]] == [1, 4]
    assert seen["object"][0]["result"][0] == 19
    assert seen["modules"][0]["result"][0] == 16
    for call in seen["shipped"]:
        assert "/lithowatt-" in call["result"][1]


def test_what_is_unavailable_is_left_out_and_no_line_breaks_the_call(seen):
    stats = seen["shipped"][0]["stats"]

    assert not any(value in ("None", "") for key, value in stats.items() if ENERGY in key)
    assert not any("\n" in str(value) for value in stats.values())


def test_what_ends_silently_carries_nothing_and_what_is_off_neither(seen):
    for name in ("dies", "off", "stopped"):
        for call in seen[name]:
            assert not any(key.startswith(ENERGY) for key in call["stats"]), name
    assert seen["off"][0]["result"][0] == 25


def test_it_adds_two_and_a_half_megabytes_to_a_function_s_upload(seen):
    extension = Path(_core.__file__).stat().st_size
    if extension > 4_000_000:
        pytest.skip(f"a debug build: its extension alone has {extension} bytes")
    assert 400_000 < seen["size"] < 2_700_000


def test_workers_that_write_the_same_files_at_once_both_meter(tmp_path):
    """Version 2 starts an interpreter per call, and all of a job unpack into one folder."""
    python = plain("3.8.0")
    try:
        seen = run_client(tmp_path, python, python, "one", version=2)
    except subprocess.TimeoutExpired:
        pytest.skip("Lithops' localhost version 2 hung, as it does now and then under load")

    for call in seen["shipped"]:
        assert call["stats"][ENERGY + "consumption"] > 0


def test_a_worker_with_its_own_lithowatt_meters_by_that(tmp_path):
    home = tmp_path / "worker"
    worker = metered("3.8.0", home)
    seen = run_client(tmp_path / "job", plain("3.8.0"), worker)

    (first, _) = seen["shipped"]
    assert str(home) in first["result"][1]
    # Only a worker's own knows of the task, and of calls that die.
    assert first["stats"]["worker_task_energy_consumption"] > 0
    assert seen["dies"][0]["stats"][ENERGY + "consumption"] > 0


#: Where ELF's header has the machine, and one that is never the one that tests run on.
MACHINE, SPARC = slice(18, 20), 2


def test_a_meter_for_another_machine_leaves_calls_alone(tmp_path):
    package = tmp_path / "package"
    shutil.copytree(Path(lithowatt.__file__).parent, package / "lithowatt")
    extension = package / "lithowatt" / "_core.abi3.so"
    content = bytearray(extension.read_bytes())
    content[MACHINE] = SPARC.to_bytes(2, "little")
    extension.write_bytes(content)
    # The client itself needs none of the extension to make its jobs.
    python = plain("3.8.0")
    seen = run_client(tmp_path / "job", python, python, "one", package)

    assert [call["result"][0] for call in seen["shipped"]] == [1, 4]
    assert not any(key.startswith(ENERGY) for key in seen["shipped"][0]["stats"])


def test_a_wheel_is_sent_as_the_package_is(tmp_path):
    here, wheel = _ship._bundle(None), _ship._bundle(pack_wheel(tmp_path))

    assert here == wheel
    assert here[0] == f"lithowatt-{hashlib.sha256(here[1]).hexdigest()}.zip"


def unpacked(folder: Path) -> Path:
    with zipfile.ZipFile(io.BytesIO(_ship._bundle(None)[1])) as bundle:
        bundle.extractall(folder)
    return folder


HOLDS = """
import pickle, sys
sys.path.insert(0, sys.argv[1])
logger, collector = pickle.loads(open(sys.argv[2], "rb").read())
entry = logger.log_energy_execution("map", {"energy_consumption": 2.5})
collector.collect(entry)
import lithowatt
print(lithowatt.__file__, collector.summary()["total"]["joules"])
print(logger.generate_energy_report([entry])["execution_summary"]["joules"])
"""


def test_a_logger_and_a_collector_arrive_with_the_meter(tmp_path):
    sent = tmp_path / "sent"
    log = tmp_path / "energy.jsonl"
    sent.write_bytes(pickle.dumps((EnhancedEnergyLogger("k8s", path=log), MetricsCollector())))
    package = unpacked(tmp_path / "package")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", HOLDS, str(package), str(sent)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == [str(package / "lithowatt" / "__init__.py"), "2.5", "2.5"]
    (entry,) = map(json.loads, log.read_text().splitlines())
    assert entry["hardware_info"]["logical_cpus"] >= 1, done.stderr


def test_what_is_sent_imports_nothing_that_stays_behind(tmp_path):
    package = unpacked(tmp_path)
    missing = set()
    rooms = ("_support", "export", "lithops", "meter", "model", "report", "worker")
    files = [file for room in rooms for file in (package / "lithowatt" / room).rglob("*.py")]
    assert len(files) >= 40
    for file in files:
        if file.name == "stored_profiles.py":
            continue  # needs NumPy and what analyses profiles
        for node in ast.parse(file.read_text("utf-8")).body:
            if not isinstance(node, ast.ImportFrom) or not str(node.module).startswith("lithowatt"):
                continue
            place = package.joinpath(*str(node.module).split("."))
            there = place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()
            if not there and node.module != "lithowatt._core":
                missing.add((file.name, node.module))
    assert not missing
    assert not (package / "lithowatt" / "report" / "templates").exists()
    assert not (package / "lithowatt" / "report" / "_page.py").exists()


def test_what_is_no_function_passes_unchanged():
    proxy = _ship._Pickle(pickle, "lithowatt-0.zip", "")

    for value in ({"func": b"x"}, [1], {"func": "text", "module_data": {}}):
        assert pickle.loads(proxy.dumps(value, -1)) == value
    assert proxy.loads is pickle.loads


# --- from where it is loaded -------------------------------------------------------


def doubled(x):
    return 2 * x


LOAD = """
import os, pickle, resource, sys
sys.path[:0] = sys.argv[2:]
if "LIMIT" in os.environ:
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
function = pickle.loads(open(sys.argv[1], "rb").read())
module = sys.modules.get("lithowatt")
print(function(21), module.__file__ if module else None)
"""


class Worker:
    """An interpreter without lithowatt, in which what a job brings is loaded.

    It has the standard library and cloudpickle: not the packages of the interpreter that runs the
    tests, where lithowatt may be installed.
    """

    def __init__(self, home: Path) -> None:
        cloudpickle = pytest.importorskip("cloudpickle", reason="cloudpickle is not installed")
        self.packages = home / "packages"
        self.packages.mkdir()
        (self.packages / "cloudpickle").symlink_to(Path(cloudpickle.__file__).parent)
        self.name, self.content = _ship._bundle(None)
        self.home = home
        self.files = home / "files"
        self.files.mkdir()
        self.bundle = self.files / self.name
        self.bundle.write_bytes(self.content)
        self.temporary = home / "tmp"
        self.temporary.mkdir(mode=0o755)
        # By value, so that this module need not be there.
        function = cloudpickle_by_value(doubled)
        (home / "job").write_bytes(_ship._metered(function, self.name))

    def start(self, **environment: str) -> subprocess.Popen[str]:
        paths = [str(path) for path in (self.home / "job", self.files, self.packages)]
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LOAD, *paths],
            env={"TMPDIR": str(self.temporary), "PATH": os.environ["PATH"], **environment},
            cwd=self.home,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, **environment: str) -> Path | None:
        """Where the package came from that was loaded; the call is right in any case."""
        worker = self.start(**environment)
        said, _ = worker.communicate(timeout=60)
        result, origin = said.split()
        assert (worker.returncode, result) == (0, "42")
        return None if origin == "None" else Path(origin).parent.parent

    @property
    def own(self) -> Path:
        return self.temporary / f"lithowatt-{os.geteuid()}"

    @property
    def package(self) -> Path:
        return self.own / self.name.removesuffix(".zip")


def cloudpickle_by_value(function: Any) -> bytes:
    import cloudpickle

    module = sys.modules[function.__module__]
    cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(function)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    # Where a test's own folder cannot be used, the machine's are: as they were afterwards.
    name = f"lithowatt-{os.geteuid()}"
    others = [Path(place) / name for place in ("/tmp", "/var/tmp", "/dev/shm")]
    made = Worker(tmp_path)
    mine = [other / made.package.name for other in others]
    before = [path for path in (*others, *mine) if os.path.lexists(path)]
    yield made
    for path in (*mine, *others):
        if path not in before and path.is_dir():
            shutil.rmtree(path)


def test_the_worker_of_these_tests_has_no_lithowatt_of_its_own(worker):
    worker.bundle.unlink()
    assert worker.run() is None


def test_it_is_loaded_from_a_private_folder_that_stays(worker):
    assert worker.run() == worker.package
    assert stat.S_IMODE(worker.own.stat().st_mode) == 0o700
    assert os.listdir(worker.own) == [worker.package.name]
    worker.bundle.unlink()  # the next one needs it no more
    assert worker.run() == worker.package


def taken_by_a_link(worker: Worker) -> None:
    # To a folder of this user's own: its owner says nothing of who laid the link.
    elsewhere = worker.home / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    worker.own.symlink_to(elsewhere)


def taken_by_a_file(worker: Worker) -> None:
    worker.own.write_text("")


def open_to_others(worker: Worker) -> None:
    worker.own.mkdir()
    worker.own.chmod(0o770)


def of_another_user(worker: Worker) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs a folder of another user: root only")
    worker.own.mkdir(mode=0o700)
    os.chown(worker.own, 12345, 12345)


def below_what_others_may_rename(worker: Worker) -> None:
    worker.temporary.chmod(0o777)


@pytest.mark.parametrize(
    "prepare",
    [
        taken_by_a_link,
        taken_by_a_file,
        open_to_others,
        of_another_user,
        below_what_others_may_rename,
    ],
)
def test_a_folder_that_others_may_have_made_is_not_used(worker, prepare):
    prepare(worker)
    before = sorted(path.relative_to(worker.home) for path in worker.home.rglob("*"))
    origin = worker.run()
    assert origin is None or worker.home not in origin.parents
    assert sorted(path.relative_to(worker.home) for path in worker.home.rglob("*")) == before


def test_a_shared_folder_where_nobody_renames_others_is_used(worker):
    worker.temporary.chmod(0o1777)
    assert worker.run() == worker.package


def test_a_bundle_that_is_being_written_is_waited_for(worker):
    worker.bundle.write_bytes(worker.content[:100_000])
    started = worker.start()
    time.sleep(0.2)
    worker.bundle.write_bytes(worker.content)
    said, _ = started.communicate(timeout=60)
    assert said.split() == ["42", str(worker.package / "lithowatt" / "__init__.py")]


def test_a_damaged_bundle_leaves_nothing_behind(worker):
    worker.bundle.write_bytes(b"PK" + worker.content[2:-1] + b"?")
    assert worker.run() is None
    assert os.listdir(worker.own) == []


def test_a_full_disk_leaves_nothing_behind(worker):
    assert worker.run(LIMIT="1") is None
    assert os.listdir(worker.own) == []


def test_what_killed_workers_left_is_removed(worker):
    worker.own.mkdir(mode=0o700)
    for name, age in (("half-old", 3600), ("half-new", 0)):
        (worker.own / name / "lithowatt").mkdir(parents=True)
        os.utime(worker.own / name, (time.time() - age,) * 2)
    assert worker.run() == worker.package
    assert sorted(os.listdir(worker.own)) == ["half-new", worker.package.name]


def test_workers_that_start_at_once_all_load_it(worker):
    started = [worker.start() for _ in range(6)]
    said = {one.communicate(timeout=60)[0] for one in started}
    assert said == {f"42 {worker.package / 'lithowatt' / '__init__.py'}\n"}
    assert os.listdir(worker.own) == [worker.package.name]
