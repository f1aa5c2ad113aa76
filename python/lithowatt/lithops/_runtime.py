"""`lithowatt lithops runtime`: what a backend's workers need so that their calls are metered."""

from __future__ import annotations

import argparse
import base64
import hashlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lithowatt._support.files import MOST_SETTINGS, read_plain
from lithowatt.errors import LithowattError
from lithowatt.lithops._dockerfile import BACKENDS, WITHOUT_INDEX, dockerfile
from lithowatt.lithops._interpreter import is_this, localhost_workers
from lithowatt.lithops._layer import RUNTIMES, build_layer, check_wheel

__all__ = ["LAYER_NAME", "Attached", "RuntimeProblem", "attach_layer"]

LAYER_NAME = "lithowatt"

#: Seconds that AWS gets to change a function's configuration; it takes a few.
_PATIENCE = 120


class RuntimeProblem(LithowattError, RuntimeError):
    """A runtime that could not be prepared, and why."""


class Attached(list[str]):
    """Names of the functions that have the layer now.

    Attributes:
        layer: ARN of the layer's version.
    """

    def __init__(self, layer: str, functions: list[str]) -> None:
        super().__init__(functions)
        self.layer = layer


# -- AWS Lambda -------------------------------------------------------------------------------


def attach_layer(backend: Any, layer: str | Path) -> Attached:
    """Gives the default runtimes that Lithops has deployed on AWS Lambda the meter's layer.

    What they have is kept; another version of this layer is replaced. Lithops' own
    layer, with its packages, stays Lithops' business. A runtime that Lithops deploys
    anew starts without it.

    Args:
        backend: Lithops' `AWSLambdaBackend`.
        layer: A zip of `lithowatt.lithops.build_layer`.

    Raises:
        RuntimeProblem: AWS does not take a change to an end.
        OSError: The zip cannot be read.
        botocore.exceptions.ClientError: AWS refuses.
    """
    client = backend.lambda_client
    arn = _publish(client, Path(layer).read_bytes())
    prefix = arn.rpartition(":")[0]
    changed = []
    for runtime in backend.list_runtimes():
        name, memory, version = runtime[:3]
        if backend._is_container_runtime(name):
            continue
        function = backend._format_function_name(name, memory, version)
        found = client.get_function_configuration(FunctionName=function)
        layers = [one["Arn"] for one in found.get("Layers", [])]
        wanted = [one for one in layers if one.rpartition(":")[0] != prefix] + [arn]
        if layers != wanted:
            client.update_function_configuration(FunctionName=function, Layers=wanted)
            _wait_until_updated(client, function)
        changed.append(function)
    return Attached(arn, changed)


def _publish(client: Any, content: bytes) -> str:
    """The ARN of the layer's version with this content, published if it is not there."""
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    for version in client.list_layer_versions(LayerName=LAYER_NAME).get("LayerVersions", []):
        # AWS shows a version's digest only for one at a time.
        if digest in version.get("Description", ""):
            return str(version["LayerVersionArn"])
    answer = client.publish_layer_version(
        LayerName=LAYER_NAME,
        Description=f"lithowatt, sha256 {digest}",
        Content={"ZipFile": content},
        CompatibleRuntimes=list(RUNTIMES),
        LicenseInfo="Apache-2.0",
    )
    return str(answer["LayerVersionArn"])


def _wait_until_updated(client: Any, function: str) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        found = client.get_function_configuration(FunctionName=function)
        status = found.get("LastUpdateStatus", "Successful")
        if status == "Successful":
            return
        if status == "Failed" or time.monotonic() > end:
            reason = found.get("LastUpdateStatusReason", f"still {status} after {_PATIENCE} s")
            raise RuntimeProblem(f"the layer could not be attached to {function}: {reason}")
        time.sleep(1)


def _deployed_backend(config_file: str | None) -> Any:
    """Lithops' backend on AWS Lambda, with the configured runtime deployed."""
    try:
        from lithops.config import (
            default_config,
            extract_serverless_config,
            extract_storage_config,
        )
        from lithops.serverless import ServerlessHandler
        from lithops.storage import InternalStorage
    except ImportError as error:
        raise RuntimeProblem(f"Lithops is needed for --apply: {error}") from None
    config = default_config(
        config_file=config_file, config_overwrite={"lithops": {"backend": "aws_lambda"}}
    )
    storage = InternalStorage(extract_storage_config(config))
    handler = ServerlessHandler(extract_serverless_config(config), storage)
    info = handler.get_runtime_info()
    name, memory = info["runtime_name"], info["runtime_memory"]
    if handler.backend._is_container_runtime(name):
        raise RuntimeProblem(
            f"runtime {name!r} is a container image, which takes no layer: build it with the "
            "meter inside (lithowatt lithops runtime --backend aws_lambda --container)"
        )
    deployed = [tuple(runtime[:2]) for runtime in handler.list_runtimes(name)]
    if (name, memory) not in deployed:
        meta = handler.deploy_runtime(name, memory, info["runtime_timeout"])
        meta["runtime_timeout"] = info["runtime_timeout"]
        storage.put_runtime_meta(handler.backend.get_runtime_key(name, memory), meta)
    return handler.backend


def _lambda(arguments: argparse.Namespace) -> int:
    if arguments.container:
        return _image(arguments)
    if not arguments.apply:
        options = _options(arguments)
        print(
            f"""\
AWS Lambda, the default runtime: a layer with the meter, next to Lithops' own.

In one step, with the credentials and the configuration that Lithops uses:
  lithowatt lithops runtime --backend aws_lambda --apply{options}
It deploys the runtime where Lithops has not, publishes the layer {LAYER_NAME!r} and attaches it.
The role or user needs lambda:PublishLayerVersion, ListLayerVersions, GetLayerVersion,
GetFunctionConfiguration and UpdateFunctionConfiguration. Run it again after
`lithops runtime delete` or `lithops clean`.

By hand:
  lithowatt lithops layer lithowatt-layer.zip{_options(arguments, config=False)}
  aws lambda publish-layer-version --layer-name {LAYER_NAME} --zip-file fileb://lithowatt-layer.zip
  aws lambda update-function-configuration --function-name FUNCTION \\
      --layers LAYERS_IT_HAS LAYER_VERSION_ARN

{"" if arguments.wheel else WITHOUT_INDEX + chr(10)}
A container runtime instead, for arm64 too:
  lithowatt lithops runtime --backend aws_lambda --container
Nothing deployed at all: lithowatt.lithops.ship_meter() sends the meter with each job."""
        )
        return 0
    if arguments.architecture != "x86_64":
        raise RuntimeProblem(
            "Lithops deploys its default runtime for x86_64 only: arm64 takes --container"
        )
    with tempfile.TemporaryDirectory() as folder:
        layer = build_layer(
            Path(folder, "layer.zip"), arguments.wheel, architecture=arguments.architecture
        )
        attached = attach_layer(_deployed_backend(arguments.config), layer.path)
    print(f"layer {attached.layer}, {layer.size} bytes")
    for function in attached:
        print(f"attached to {function}")
    return 0


# -- localhost and container images -----------------------------------------------------------


def _localhost(arguments: argparse.Namespace) -> int:
    workers = localhost_workers(arguments.runtime, arguments.config)
    if arguments.container or workers.image:
        return _image(arguments)
    found = workers.path
    if found is None:
        raise RuntimeProblem(
            f"Lithops starts its workers with {workers.runtime!r} ({workers.source}), which is no "
            "program here; expected is a name on the PATH, or a path: localhost: {runtime: PATH}"
        )
    commands = [[found, "-m", "pip", "install", arguments.wheel or "lithowatt"]]
    if arguments.wheel:
        # pip leaves a version that is there as it is, and a wheel may be built anew under one.
        commands.append(
            [found, "-m", "pip", "install", "--force-reinstall", "--no-deps", arguments.wheel]
        )
    commands.append([found, "-m", "lithowatt.lithops", "status"])
    told = f"localhost: workers run {found} ({workers.runtime!r}: {workers.source})"
    other = "" if is_this(found) else f"; this command's own interpreter is {sys.executable}"
    if not arguments.apply:
        print(f"{told}{other}. lithowatt has to be installed for it:")
        for command in commands:
            print(f"  {shlex.join(command)}")
        if not arguments.wheel:
            print(WITHOUT_INDEX)
        return 0
    print(f"{told}{other}", file=sys.stderr)
    for command in commands:
        code = _run(command)
        if code:
            return code
    return 0


def _image(arguments: argparse.Namespace) -> int:
    """Prints a Dockerfile and how it is used, or builds it with Lithops."""
    backend = arguments.backend
    wheel = Path(arguments.wheel) if arguments.wheel else None
    if wheel is not None:
        check_wheel(wheel, arguments.architecture)
    text = dockerfile(
        backend,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        lithops=arguments.lithops or _lithops_version(),
        architecture=arguments.architecture,
        wheel=wheel.name if wheel else None,
    )
    image = arguments.runtime or "lithowatt-runtime"
    if backend == "localhost":
        build = ["docker", "build", "-t", image, "."]
    else:
        build = ["lithops", "runtime", "build", "-b", backend, "-f", "Dockerfile", image]
        if arguments.config:
            build[3:3] = ["-c", str(Path(arguments.config).resolve())]
    if not arguments.apply:
        print(text, end="")
        print(f"\n# Build: {shlex.join(build)}", end="")
        print(f" (with {wheel.name} in the same folder)" if wheel else "")
        print(f"# Then in the configuration: {backend}: {{runtime: {image}}}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "Dockerfile").write_text(text, encoding="utf-8")
        if wheel is not None:
            shutil.copy(wheel, folder)
        return _run(build, folder)


def _lithops_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lithops")
    except PackageNotFoundError:
        return "3.8.0"


def _run(command: list[str], folder: str | None = None) -> int:
    print(shlex.join(command), file=sys.stderr)
    try:
        return subprocess.run(command, cwd=folder).returncode  # noqa: S603 - as printed, no shell
    except OSError as error:
        raise RuntimeProblem(f"{command[0]}: {error.strerror}") from None


def _options(arguments: argparse.Namespace, config: bool = True) -> str:
    parts = []
    if arguments.wheel:
        parts += ["--wheel", arguments.wheel]
    if config and arguments.config:
        parts += ["--config", arguments.config]
    return "".join(f" {shlex.quote(part)}" for part in parts)


# -- command line -----------------------------------------------------------------------------


def add_cli(commands: Any) -> None:
    """Adds `runtime` to the commands below `lithowatt lithops`."""
    runtime = commands.add_parser(
        "runtime",
        help="what a backend's workers need to be metered; --apply does it",
        description="Prints what has to be done so that a backend's workers meter their calls, "
        "or does it.",
    )
    runtime.add_argument("--backend", required=True, choices=sorted(BACKENDS))
    runtime.add_argument("--apply", action="store_true", help="do it")
    runtime.add_argument("--config", help="Lithops' configuration (default: where Lithops looks)")
    runtime.add_argument(
        "--wheel", help="a wheel of lithowatt, as make wheel builds (default: from pip's index)"
    )
    runtime.add_argument("--container", action="store_true", help="a container image (k8s: always)")
    runtime.add_argument("--runtime", help="interpreter (localhost) or name of the image")
    runtime.add_argument("--architecture", default="x86_64", help="x86_64 or arm64 (%(default)s)")
    runtime.add_argument("--lithops", help="its version in the image (default: the one here)")
    runtime.set_defaults(func=_main)


def _check_files(arguments: argparse.Namespace) -> None:
    from lithowatt._support.architectures import normalise_architecture

    try:
        arguments.architecture = normalise_architecture(arguments.architecture)
    except ValueError as error:
        raise RuntimeProblem(str(error)) from None
    if arguments.config is not None:
        read_plain(arguments.config, MOST_SETTINGS)
    if arguments.wheel is not None:
        # An interpreter's pip knows its own architecture; an image's is looked at there.
        localhost = arguments.backend == "localhost"
        check_wheel(arguments.wheel, None if localhost else arguments.architecture)


def _main(arguments: argparse.Namespace) -> int:
    _check_files(arguments)
    if arguments.backend == "aws_lambda":
        return _lambda(arguments)
    if arguments.backend == "localhost":
        return _localhost(arguments)
    return _image(arguments)
