"""An S3 server of moto."""

from __future__ import annotations

import re
import subprocess
import threading

import pytest

from tests.support.lambda_runtime.environments import SERVICES, environment


@pytest.fixture(scope="module")
def s3():
    """Address of a local server that speaks S3."""
    python = environment("lambda-services", *SERVICES)
    command = [str(python), "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert server.stdout is not None
    try:
        address = next(
            found[0]
            for line in server.stdout
            if (found := re.search(r"http://127\.0\.0\.1:\d+", line))
        )
        # Its log must not fill the pipe.
        drain = threading.Thread(target=server.stdout.read, daemon=True)
        drain.start()
        yield address
    finally:
        server.kill()
        server.wait()
        drain.join()
        server.stdout.close()
