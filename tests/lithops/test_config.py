"""Which keys of a configuration Lithops reads, as the installed release's source tells."""

from __future__ import annotations

import copy
import importlib
import json
import os
import re
import sys
import types
from pathlib import Path

import pytest

from tests.support import TOP

pytest.importorskip("lithops")
yaml = pytest.importorskip("yaml")

from lithowatt.cli import main  # noqa: E402
from lithowatt.lithops import check_config  # noqa: E402
from lithowatt.lithops._config import ConfigProblem, keys_read, read_yaml  # noqa: E402
from tests.support.lithops_environments import plain, site_packages  # noqa: E402

pytestmark = pytest.mark.slow

EXAMPLES = TOP / "examples" / "config"

AWS = """
lithops: {backend: aws_lambda, storage: aws_s3}
aws:
    region: us-east-1
    sso_start_url: https://example.awsapps.com/start/#
    sso_region: us-east-1
    account_id: 123456789012
    permission_set: lab-permission-set
aws_lambda:
    runtime: python3.10
    memory: 1024
    timeout: 900
    environment_variables:
        ENERGY_MONITORING_ENABLED: true
        ENERGY_COLLECTION_INTERVAL: 100
        ENERGY_METHODS: "tdp,estimation,psutil"
aws_s3: {storage_bucket: lithops-energy, region: us-east-1}
"""

KUBERNETES = """
lithops: {backend: k8s, storage: minio}
kubernetes:
    namespace: lithops
    docker_image: lithopscloud/lithops-k8s:latest
    service_account: lithops-sa
    privileged_containers: true
    host_network: true
    volume_mounts: [/sys/class/powercap:/sys/class/powercap:ro, /proc:/host/proc:ro]
minio: {storage_bucket: b, endpoint: http://m:9000, access_key_id: a, secret_access_key: s}
"""


@pytest.fixture
def without_sdks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lithops' configuration modules, without the clients that their packages import."""
    root = Path(importlib.import_module("lithops").__file__ or "").parent
    for parent in ("serverless/backends", "storage/backends"):
        for folder in (root / parent).iterdir():
            if not (folder / "config.py").is_file():
                continue
            package = types.ModuleType("lithops." + ".".join((*parent.split("/"), folder.name)))
            package.__path__ = [str(folder)]
            monkeypatch.setitem(sys.modules, package.__name__, package)


def where(findings) -> list[str]:
    return [finding.where for finding in findings]


def test_the_aws_configuration_is_named_key_by_key_and_put_right():
    findings, right = check_config(yaml.safe_load(AWS))

    assert where(findings) == [
        "aws.sso_start_url",
        "aws.sso_region",
        "aws.permission_set",
        "aws_lambda.memory",
        "aws_lambda.timeout",
        "aws_lambda.environment_variables",
        "aws_lambda.runtime",
        "aws_lambda.execution_role",
    ]
    assert right == {
        "lithops": {"backend": "aws_lambda", "storage": "aws_s3"},
        "aws": {"region": "us-east-1", "account_id": 123456789012},
        "aws_lambda": {
            "runtime_memory": 1024,
            "runtime_timeout": 900,
            "env_vars": [
                {"name": "ENERGY_MONITORING_ENABLED", "value": "true"},
                {"name": "ENERGY_COLLECTION_INTERVAL", "value": "100"},
                {"name": "ENERGY_METHODS", "value": "tdp,estimation,psutil"},
            ],
        },
        "aws_s3": {"storage_bucket": "lithops-energy", "region": "us-east-1"},
    }
    # What only its owner knows is all that is left.
    assert where(check_config(right)[0]) == ["aws_lambda.execution_role"]


def test_the_kubernetes_configuration_is_named_key_by_key_and_put_right():
    findings, right = check_config(yaml.safe_load(KUBERNETES))

    assert where(findings) == [
        "kubernetes",
        "k8s.docker_image",
        "k8s.service_account",
        "k8s.privileged_containers",
        "k8s.host_network",
        "k8s.volume_mounts",
    ]
    assert right["k8s"] == {
        "namespace": "lithops",
        "runtime": "lithopscloud/lithops-k8s:latest",
        "container_security_context": {"privileged": True, "runAsUser": 0},
    }
    assert list(right) == ["lithops", "k8s", "minio"]
    assert check_config(right)[0] == []


def test_the_release_decides_what_is_read():
    package = site_packages(plain("3.6.4")) / "lithops"
    findings, right = check_config(yaml.safe_load(KUBERNETES), package)
    advice = {finding.where: finding.advice for finding in findings}

    # The security context came with 3.7.
    assert "pod template" in advice["k8s.privileged_containers"]
    assert "container_security_context" not in right["k8s"]
    assert "runtime_memory" in keys_read("aws_lambda", package)


def test_what_lithops_overwrites_is_said():
    config = {
        "lithops": {"backend": "localhost", "storage": "localhost"},
        "localhost": {"runtime": "python3.10", "max_workers": 16, "worker_processes": 1},
    }
    findings, right = check_config(config)

    assert where(findings) == ["localhost.max_workers"]
    assert right["localhost"] == {"runtime": "python3.10", "worker_processes": 1}


def test_variables_in_another_form_become_lithops_list():
    base = {"lithops": {"backend": "aws_lambda", "storage": "aws_s3"}}
    section = {"execution_role": "r", "region": "x", "env_vars": {"A": True, "B": 1}}
    findings, right = check_config({**base, "aws_lambda": section})

    assert where(findings) == ["aws_lambda.env_vars"]
    wanted = [{"name": "A", "value": "true"}, {"name": "B", "value": "1"}]
    assert right["aws_lambda"]["env_vars"] == wanted
    # Both at once: what Lithops heeds already stays.
    both = {"env_vars": [{"name": "A", "value": "0"}], "environment_variables": {"A": 1, "C": 2}}
    right = check_config({**base, "aws_lambda": {"execution_role": "r", "region": "x", **both}})[1]
    assert right["aws_lambda"]["env_vars"] == [
        {"name": "A", "value": "0"},
        {"name": "C", "value": "2"},
    ]


def test_keys_that_the_backends_default_are_keys_that_are_read(without_sdks):
    """Upstream's own tables of defaults, imported, against what the source was read to say."""
    for backend, module in (
        ("aws_lambda", "lithops.serverless.backends.aws_lambda.config"),
        ("k8s", "lithops.serverless.backends.k8s.config"),
        ("localhost", "lithops.localhost.config"),
        ("aws_batch", "lithops.serverless.backends.aws_batch.config"),
    ):
        defaults = importlib.import_module(module).DEFAULT_CONFIG_KEYS
        assert set(defaults) <= keys_read(backend), backend
    constants = importlib.import_module("lithops.constants")
    assert set(constants.LITHOPS_DEFAULT_CONFIG_KEYS) <= keys_read("lithops")
    for backend in ("minio", "azure_storage", "ceph"):
        mandatory = importlib.import_module(f"lithops.storage.backends.{backend}.config")
        assert set(mandatory.REQ_PARAMS) <= keys_read(backend)


def test_a_key_that_is_nowhere_is_not_read():
    for section, key in (
        ("aws_lambda", "environment_variables"),
        ("aws_lambda", "timeout"),
        ("k8s", "privileged_containers"),
        ("k8s", "host_network"),
        ("k8s", "volume_mounts"),
        ("aws", "sso_start_url"),
        ("lithops", "energy"),
        ("minio", "bucket"),
    ):
        assert key not in keys_read(section), (section, key)
    assert keys_read("kubernetes") is None


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_example_has_only_keys_that_lithops_reads(file, capsys):
    assert main(["lithops", "check-config", str(file)]) == 0
    assert "reads every key" in capsys.readouterr().out


def test_the_examples_have_what_the_requirements_name():
    assert {file.stem for file in EXAMPLES.glob("*.yaml")} >= {
        "config_localhost",
        "config_minio",
        "config_kubernetes",
        "config_aws",
        "config_gcp_storage",
        "config_azure_storage",
    }
    variables = read_yaml(EXAMPLES / "config_aws.yaml")["aws_lambda"]["env_vars"]
    assert {one["name"] for one in variables} == {
        "ENERGY_MONITORING_ENABLED",
        "ENERGY_COLLECTION_INTERVAL",
        "ENERGY_METHODS",
        "ENERGY_ESTIMATION_METHOD",
    }


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.stem)
def test_lithops_takes_every_example(file, without_sdks):
    """Lithops' own loading of the configuration, which raises for what is mandatory."""
    config = importlib.import_module("lithops.config")
    written = read_yaml(file)
    loaded = config.default_config(config_data=copy.deepcopy(written))

    assert loaded["lithops"]["backend"] == written["lithops"]["backend"]
    storage = written["lithops"]["storage"]
    extracted = config.extract_storage_config(loaded)
    assert extracted["backend"] == storage
    for key, value in written.get(storage, {}).items():
        assert extracted[storage][key] == value


def test_the_command_names_writes_and_says_by_its_exit_code(tmp_path, capsys):
    source, target = tmp_path / "config.yaml", tmp_path / "right.yaml"
    source.write_text(AWS)

    assert main(["lithops", "check-config", str(source), "--write", str(target)]) == 1
    out = capsys.readouterr().out
    assert "aws_lambda.environment_variables: ignored by Lithops; env_vars" in out
    text = target.read_text()
    assert yaml.safe_load(text) == check_config(yaml.safe_load(AWS))[1]
    assert "# aws.sso_start_url" in text
    assert source.read_text() == AWS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "right.yaml"]
    assert main(["lithops", "check-config", str(source), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found[0].keys() == {"where", "what", "advice"}


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "is no YAML"), ("- 1\n- 2\n", "no mapping"), ("\x00", "is no YAML"), ("", "no map")],
)
def test_what_is_no_configuration_is_refused(tmp_path, capsys, text, message):
    file = tmp_path / "config.yaml"
    file.write_text(text)

    assert main(["lithops", "check-config", str(file)]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_pipe_is_not_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.yaml")
    pipe = str(tmp_path / "pipe.yaml")
    for command in (
        ["check-config", pipe],
        ["k8s-template", "--from", pipe],
        ["runtime", "--backend", "k8s", "--config", pipe],
    ):
        assert main(["lithops", *command]) == 2
        assert "not a plain file" in capsys.readouterr().err


def test_files_and_lithops_that_are_not_there(tmp_path, capsys, monkeypatch):
    assert main(["lithops", "check-config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
    with pytest.raises(ConfigProblem, match="mapping of sections"):
        check_config([])  # type: ignore[arg-type]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigProblem, match="not installed"):
        check_config({"lithops": {}})


def test_odd_sections_do_not_break_the_check():
    odd = {"lithops": None, "localhost": None, "aws": "x", "made_up": {"a": 1}, "minio": []}
    findings, right = check_config(odd)

    assert where(findings) == ["made_up"]
    assert "made_up" not in right


def test_a_backend_or_a_storage_that_lithops_has_not_is_said():
    findings, right = check_config({"lithops": {"backend": "bogus", "storage": "nope"}})

    assert where(findings) == ["lithops.backend", "lithops.storage"]
    assert "'bogus'" in findings[0].what and "aws_lambda" in findings[0].advice
    assert {"k8s", "localhost", "vm"} <= set(re.findall(r"\w+", findings[0].advice))
    assert {"minio", "localhost", "aws_s3"} <= set(re.findall(r"\w+", findings[1].advice))
    # What was meant is its owner's to say.
    assert right == {"lithops": {"backend": "bogus", "storage": "nope"}}


def test_every_backend_that_lithops_lists_is_one():
    constants = importlib.import_module("lithops.constants")
    names = [*constants.SERVERLESS_BACKENDS, *constants.STANDALONE_BACKENDS, "localhost"]
    for name in names:
        found = check_config({"lithops": {"backend": name, "storage": "localhost"}})[0]
        assert "lithops.backend" not in where(found), name


def test_kubernetes_as_the_backend_becomes_k8s_with_all_of_its_section(tmp_path, capsys):
    source, target = tmp_path / "config.yaml", tmp_path / "right.yaml"
    source.write_text(
        "lithops: {backend: kubernetes, storage: localhost}\n"
        "kubernetes: {image: me/image, memory: 512, timeout: 60}\n"
    )
    command = ["lithops", "check-config", str(source), "--write", str(target)]

    assert main(command) == 1
    out = capsys.readouterr().out
    assert "lithops.backend: Lithops has no backend 'kubernetes'; backend: k8s" in out
    assert read_yaml(target) == {
        "lithops": {"backend": "k8s", "storage": "localhost"},
        "k8s": {"runtime": "me/image", "runtime_memory": 512, "runtime_timeout": 60},
    }
    assert main(["lithops", "check-config", str(target)]) == 0


@pytest.mark.parametrize("first", ["k8s", "kubernetes"])
def test_a_kubernetes_section_is_merged_into_the_k8s_one_which_wins(first):
    sections = {
        "k8s": {"docker_image": "own", "namespace": "n"},
        "kubernetes": {"image": "other", "namespace": "m", "memory": 512},
    }
    order = sorted(sections, key=lambda name: name != first)
    config = {
        "lithops": {"backend": "k8s", "storage": "localhost"},
        **{name: sections[name] for name in order},
    }
    findings, right = check_config(config)

    assert "kubernetes" in where(findings)
    assert right["k8s"] == {"runtime": "own", "namespace": "n", "runtime_memory": 512}
    assert "kubernetes" not in right
    # An empty one takes all of it.
    right = check_config({**config, "k8s": None})[1]
    assert right["k8s"] == {"runtime": "other", "namespace": "m", "runtime_memory": 512}


def test_a_kubernetes_section_is_kept_for_a_backend_that_is_chosen_later():
    config = {
        "lithops": {"backend": "localhost", "storage": "localhost"},
        "kubernetes": {"image": "i"},
    }

    assert check_config(config)[1]["k8s"] == {"runtime": "i"}


def test_max_workers_of_localhost_are_its_worker_processes():
    base = {"lithops": {"backend": "localhost", "storage": "localhost"}}
    findings, right = check_config({**base, "localhost": {"max_workers": 4}})

    assert [(one.where, one.advice) for one in findings] == [
        ("localhost.max_workers", "worker_processes: 4")
    ]
    assert right["localhost"] == {"worker_processes": 4}
