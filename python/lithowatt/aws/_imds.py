"""EC2's instance metadata service, version 2: asked once per boot, for at most 50 ms.

The service answers in about a millisecond where there is one. Where there is none the packets go
nowhere, so what costs is the time that one is willing to wait.
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from lithowatt import _core
from lithowatt._support.files import read_plain, write_atomically

__all__ = ["IMDS_ADDRESS", "IMDS_BUDGET", "InstanceMetadata", "instance_metadata"]

#: The service, docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html.
IMDS_ADDRESS = ("169.254.169.254", 80)

#: Seconds for all of it: two connections and two answers.
IMDS_BUDGET = 0.05

#: The longest answer that is read, bytes; the document has about 500.
_LONGEST = 16384

_TOKEN_PATH = "/latest/api/token"  # noqa: S105 - a path, no secret
_DOCUMENT_PATH = "/latest/dynamic/instance-identity/document"

#: Version of the stored layout.
_SCHEMA = 1

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class InstanceMetadata(NamedTuple):
    """What the service answered about this instance.

    Attributes:
        instance_type: As ``m5.large``; ``None`` where it was not asked or did not answer.
        region: As ``eu-west-1``.
        architecture: As the service calls it: ``x86_64`` or ``arm64``.
        source: ``imds``, ``imds, earlier in this boot``, or why there is nothing.
    """

    instance_type: str | None
    region: str | None
    architecture: str | None
    source: str


class _Refused(Exception):
    """The service is not there, not in time, or not to be understood."""


_known: dict[tuple[str, int], InstanceMetadata] = {}


def instance_metadata(*, ask: bool = True) -> InstanceMetadata:
    """The service's answer, or its answer from earlier in this boot.

    Args:
        ask: Ask it if nothing is stored; else only what is stored is returned.

    Returns:
        Always an object: ``source`` gives the reason where it is empty. Nothing is raised.
    """
    known = _known.get(IMDS_ADDRESS) or _stored()
    if known is not None:
        _known[IMDS_ADDRESS] = known
        return known
    if not ask:
        return _nothing("the metadata service was not asked")
    if _core.in_lambda():
        return _nothing("Lambda has no metadata service")
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return _nothing("AWS_EC2_METADATA_DISABLED is set")
    try:
        found = _ask(IMDS_ADDRESS, time.monotonic() + IMDS_BUDGET)
    except _Refused as error:
        return _nothing(f"the metadata service {error}")
    _known[IMDS_ADDRESS] = found
    _store(found)
    return found


def _nothing(why: str) -> InstanceMetadata:
    return InstanceMetadata(None, None, None, why)


def _ask(address: tuple[str, int], deadline: float) -> InstanceMetadata:
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = _request(address, deadline, "PUT", _TOKEN_PATH, lifetime)
    # What is sent back as a header must fit on its line.
    if not token or not token.isascii() or not token.decode("ascii").isprintable():
        raise _Refused("gave no token")
    headers = {"X-aws-ec2-metadata-token": token.decode("ascii")}
    body = _request(address, deadline, "GET", _DOCUMENT_PATH, headers)
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    found = _understood(document, "instanceType", "region", "architecture", "imds")
    if found is None:
        raise _Refused("gave no instance identity document")
    return found


def _understood(
    document: Any, kind: str, region: str, architecture: str, source: str
) -> InstanceMetadata | None:
    """The three values if the first is there and all that are there are plain words."""
    if not isinstance(document, dict):
        return None
    words = [document.get(name) for name in (kind, region, architecture)]
    if words[0] is None or not all(word is None or _plain(word) for word in words):
        return None
    return InstanceMetadata(words[0], words[1], words[2], source)


def _plain(word: Any) -> bool:
    return isinstance(word, str) and 0 < len(word) <= 64 and word.isascii() and word.isprintable()


def _request(
    address: tuple[str, int], deadline: float, method: str, path: str, headers: dict[str, str]
) -> bytes:
    """One HTTP request, on plain sockets: a timeout of ``http.client`` holds for each packet
    alone, and a proxy from the environment must not see the token."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address[0]}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if method == "PUT":
        lines.append("Content-Length: 0")
    try:
        with socket.create_connection(address, timeout=_left(deadline)) as connection:
            connection.settimeout(_left(deadline))
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
            answer = b""
            while len(answer) < _LONGEST and not _complete(answer):
                connection.settimeout(_left(deadline))
                part = connection.recv(_LONGEST)
                if not part:
                    break
                answer += part
    except TimeoutError:
        raise _Refused(f"did not answer within {IMDS_BUDGET * 1000:.0f} ms") from None
    except OSError as error:
        raise _Refused(f"cannot be reached: {error.strerror or error}") from None
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.partition(b"\r\n")[0].split()
    if len(status) < 2 or not status[0].startswith(b"HTTP/"):
        raise _Refused("does not speak HTTP")
    if status[1] != b"200":
        raise _Refused(f"refused {path}: status {status[1][:16].decode('ascii', 'replace')}")
    length = _length(head)
    return body if length is None else body[:length]


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _complete(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = _length(head) if end else None
    return length is not None and len(body) >= length


def _length(head: bytes) -> int | None:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value[:20])
    return None


# -- stored per boot ---------------------------------------------------------------------------


def _file() -> Path | None:
    calibration = _core.calibration_path()
    return None if calibration is None else Path(calibration).with_name("instance.json")


def _boot_id() -> str | None:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def _stored() -> InstanceMetadata | None:
    path, boot_id = _file(), _boot_id()
    if path is None or boot_id is None:
        return None
    try:
        stored = json.loads(read_plain(path, _LONGEST))
    except (OSError, ValueError):
        return None
    if not isinstance(stored, dict) or stored.get("schema") != _SCHEMA:
        return None
    # Another boot may be another instance: images are copied with their files.
    if stored.get("boot_id") != boot_id or stored.get("address") != list(IMDS_ADDRESS):
        return None
    source = "imds, earlier in this boot"
    return _understood(stored, "instance_type", "region", "architecture", source)


def _store(found: InstanceMetadata) -> None:
    """Keeps it for other processes of this boot; where that cannot be, they ask again."""
    path, boot_id = _file(), _boot_id()
    if path is None or boot_id is None:
        return
    stored = {
        "schema": _SCHEMA,
        "boot_id": boot_id,
        "address": list(IMDS_ADDRESS),
        "instance_type": found.instance_type,
        "region": found.region,
        "architecture": found.architecture,
    }
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, json.dumps(stored), mode=0o600, sync=False)
