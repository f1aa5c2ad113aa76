"""What tests/lithops/test_compare_backends.py has run on each backend."""

import time
from pathlib import Path


def burn(seconds, id=0):
    """Uses that much CPU time, whatever the machine's load."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(1000))
    return seconds


def third_fails(folder):
    """Fails in its third call: each call leaves a file."""
    made = len(list(Path(folder).iterdir()))
    (Path(folder) / str(made)).write_text("")
    burn(0.05)
    if made == 2:
        raise ValueError("the third one")
    return 0


def raises():
    raise RuntimeError("never works")


def burn_then_sleep(folder):
    """Sleeps in its third call, which says its process."""
    import os

    made = len(list(Path(folder).glob("call-*")))
    Path(folder, f"call-{made}").write_text("")
    burn(0.05)
    if made == 2:
        Path(folder, "half").write_text(str(os.getpid()))
        Path(folder, "half").rename(Path(folder, "sleeping"))
        time.sleep(300)
