"""Dockerfiles of Lithops runtimes with the meter inside."""

from __future__ import annotations

import re
from typing import NamedTuple

from lithowatt.errors import LithowattError

__all__ = ["BACKENDS", "PLATFORMS", "RuntimeOptionError", "dockerfile"]

#: Docker's names of the two architectures.
PLATFORMS = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}


#: How a wheel is had where pip finds none.
WITHOUT_INDEX = (
    "lithowatt is on no package index yet: `make wheel` in its sources, then "
    "`lithowatt lithops runtime --wheel FILE`."
)


class RuntimeOptionError(LithowattError, ValueError):
    """A backend, an architecture or a version that no runtime can be made for."""


class _Image(NamedTuple):
    about: str
    base: str
    packages: str
    files: str
    system: str = ""


_APT = "apt-get update && apt-get install -y --no-install-recommends"

#: localhost: Lithops brings its code, mounted; the image brings the packages.
#: k8s: the zip has /lithops/lithopsentry.py, and the master needs redis-server and flask.
#: aws_lambda: AWS' base image has the runtime client and starts it.
BACKENDS = {
    "localhost": _Image(
        about="the localhost backend with `localhost: {runtime: IMAGE}`",
        base="python:{python}-slim-bookworm",
        packages="lithops[aws]",
        files="",
    ),
    "k8s": _Image(
        about="the k8s backend; `lithops runtime build` puts lithops_k8s.zip next to it",
        base="python:{python}-slim-bookworm",
        system=f"""
RUN {_APT} redis-server \\
    && rm -rf /var/lib/apt/lists/*
""",
        packages="lithops[aws,kubernetes,redis] flask gevent",
        files="""
# Lithops' default pods run as this user.
RUN groupadd -g 1000 lithops && useradd -m -u 1000 -g 1000 lithops
ENV PYTHONUNBUFFERED=TRUE
WORKDIR /lithops
COPY lithops_k8s.zip .
RUN python -m zipfile -e lithops_k8s.zip . && rm lithops_k8s.zip \\
    && chown -R lithops:lithops /lithops
USER 1000:1000
""",
    ),
    "aws_lambda": _Image(
        about="the aws_lambda backend; `lithops runtime build` puts lithops_lambda.zip next to it",
        base="public.ecr.aws/lambda/python:{python}",
        packages="lithops[aws]",
        files="""
COPY lithops_lambda.zip .
RUN python -m zipfile -e lithops_lambda.zip . && rm lithops_lambda.zip
CMD ["entry_point.lambda_handler"]
""",
    ),
}


def dockerfile(
    backend: str,
    *,
    python: str = "3.11",
    lithops: str = "3.8.0",
    architecture: str = "x86_64",
    wheel: str | None = None,
) -> str:
    """The text of a Dockerfile for a runtime that meters.

    Args:
        backend: One of `BACKENDS`.
        python: The client's Python, such as `3.11`: Lithops wants the same in its workers.
        lithops: The client's Lithops.
        architecture: `x86_64` or `arm64`.
        wheel: File name of a wheel of lithowatt next to the Dockerfile; by default pip's,
            and a comment on how to have one.

    Raises:
        RuntimeOptionError: An unknown backend or architecture.

    Example:
        >>> print(dockerfile("localhost", python="3.12").splitlines()[-1])
        RUN python -m lithowatt.lithops status
    """
    from lithowatt._support.architectures import normalise_architecture

    image = BACKENDS.get(backend)
    if image is None:
        raise RuntimeOptionError(f"backend {backend!r:.80} is none of {', '.join(BACKENDS)}")
    try:
        platform = PLATFORMS[normalise_architecture(architecture)]
    except ValueError as error:
        raise RuntimeOptionError(str(error)) from None
    install, how = "RUN pip install --no-cache-dir", f"# {WITHOUT_INDEX}\n"
    requirement = "lithowatt"
    if wheel is not None:
        how, requirement = f"COPY {wheel} /opt/lithowatt/\n", f"/opt/lithowatt/{wheel}"
    first, *rest = image.packages.replace("]", f"]=={lithops}", 1).split(" ")
    lines = f"""\
# A Lithops runtime that meters, for {image.about}.
# {architecture}; Python and Lithops as in the client.
FROM --platform={platform} {image.base.format(python=python)}

{image.system}
{install} "{first}" \\
        {" ".join([*rest, "cloudpickle ps-mem psutil tblib", "'numpy>=1.22'"])}

# Last, so that another wheel leaves the layers above as they are.
{how}{install} {requirement}
{image.files}
# Fails the build where calls would not be metered.
RUN python -m lithowatt.lithops status
"""
    return re.sub("\n{3,}", "\n\n", lines)
