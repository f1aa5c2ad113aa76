"""What to type where a package is missing.

lithowatt is on no package index yet, so ``pip install lithowatt[...]`` would bring nothing, or
somebody else's package: what is missing is named itself, and lithowatt by the wheel that is built.
"""

from __future__ import annotations

import shlex
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OPTIONAL = {
    "altair": "altair>=5.4",
    "jinja2": "jinja2>=3.1",
    "matplotlib": "matplotlib>=3.7",
    "numpy": "numpy>=1.22",
    "opentelemetry-api": "opentelemetry-api>=1.30",
    "pandas": "pandas>=2",
    "prometheus-client": "prometheus-client>=0.20",
    "pyarrow": "pyarrow>=14",
    "rich": "rich>=13",
    "vl-convert-python": "vl-convert-python>=1.6",
}
"""Packages that parts of lithowatt need, as ``pyproject.toml`` asks for them (a test compares)."""

_PACKAGES = {
    "opentelemetry": "opentelemetry-api",
    "prometheus_client": "prometheus-client",
    "vl_convert": "vl-convert-python",
}
"""Modules that are not called as their package is."""


def pip_install(*packages: str) -> str:
    """The command that installs ``packages`` for this very interpreter.

    Example:
        >>> pip_install("pandas").endswith(" -m pip install 'pandas>=2'")
        True
    """
    wanted = (OPTIONAL.get(package, package) for package in packages)
    # Without one, as where Python is embedded, the name is left to the reader.
    python = shlex.quote(sys.executable or "python3")
    return " ".join([python, "-m", "pip", "install", *map(shlex.quote, wanted)])


def missing_package(error: ImportError) -> str | None:
    """What to say of a package that is not there; `None` where the error is about ours, or about
    one that is there and broken.

    Example:
        >>> missing_package(ModuleNotFoundError(name="pandas.io")).startswith("this needs pandas: ")
        True
        >>> missing_package(ModuleNotFoundError(name="lithowatt.x")) is None
        True
    """
    if "-m pip install " in str(error):  # somebody who knows more has said it
        return str(error)
    name = (error.name or "").partition(".")[0]
    package = _PACKAGES.get(name, name)
    if not isinstance(error, ModuleNotFoundError) or package not in (*OPTIONAL, "lithops"):
        return None
    return f"this needs {package}: {pip_install(package)}"


def arrow() -> Any:
    """pyarrow.

    Raises:
        ImportError: It is missing, with the command that installs it.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(f"this needs pyarrow: {pip_install('pyarrow')}") from error
    return pyarrow


def install_lithowatt() -> str:
    """How lithowatt itself gets into this interpreter.

    Example:
        >>> "make wheel" in install_lithowatt()
        True
    """
    python = shlex.quote(sys.executable or "python3")
    return (
        "lithowatt is on no package index yet: make wheel in its sources, then "
        f"{python} -m pip install dist/lithowatt-*.whl"
    )
