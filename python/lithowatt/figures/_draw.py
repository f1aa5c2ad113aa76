"""What all pictures share: where they are drawn, how foreign text gets into them, their files."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lithowatt._support.files import write_atomically
from lithowatt._support.install import pip_install
from lithowatt._support.text import format_number, printable, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Endings of files of pictures, and what such files begin with.
FORMATS = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<", ".pdf": b"%PDF-"}

#: Of a file that is there, so much is read to see whether it is a picture.
_HEAD = 4096


def require_matplotlib() -> None:
    """Sees that there is a matplotlib.

    Raises:
        ImportError: With the command that installs it.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(f"plot needs matplotlib: {pip_install('matplotlib')}") from error


def axes_or_new(ax: Any, width: float = 8.0, height: float = 4.5) -> Axes:
    """The axes that were given, or those of a new figure of pyplot's, which a notebook shows.

    The backend is the one that pyplot chooses: without a screen it draws all the same.

    Raises:
        ImportError: Where matplotlib is missing.
        TypeError: For what is no axes.
    """
    require_matplotlib()
    from matplotlib.axes import Axes

    if ax is None:
        from matplotlib import pyplot

        return pyplot.subplots(figsize=(width, height), layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be axes of matplotlib, or None for new ones, not {ax!r:.80}")
    return ax


def words(text: str, most: int = 60) -> str:
    """Foreign text as it is: not as a formula, which matplotlib takes for what dollars enclose."""
    return shortened(printable(text), most).replace("$", r"\$")


def joules(value: float, low: float | None = None, high: float | None = None) -> str:
    """Joules with their 95 % band.

    >>> joules(1.5, 1.0, 2.25), joules(3)
    ('1.5 J (1 to 2.25)', '3 J')
    """
    ends = (
        "" if low is None or high is None else f" ({format_number(low)} to {format_number(high)})"
    )
    return f"{format_number(value)} J{ends}"


def new_figure(width: float, height: float) -> Figure:
    """A figure that pyplot does not know: nobody has to close it."""
    require_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a picture in the form of its name's ending, whole or not at all.

    Raises:
        OSError: It cannot be written; what was there before still is.
    """
    import warnings

    form = Path(path).suffix.lower()[1:]
    content = io.BytesIO()
    with warnings.catch_warnings():
        # A font without some letter of a label draws a box for it.
        warnings.simplefilter("ignore")
        # Without the date: the same numbers give the same file.
        about = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form, {})
        figure.savefig(content, format=form, dpi=150, metadata=about)
    write_atomically(path, content.getvalue())


def no_picture(path: Path) -> str | None:
    """Why no picture may be written to ``path``, ``None`` where it may.

    What is there is replaced only if it is a picture of that form, or empty.
    """
    form = path.suffix.lower()
    if form not in FORMATS:
        return f"{path} has no ending of a picture; expected {', '.join(FORMATS)}"
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        return f"{path}: {error.strerror}"
    is_one = head.startswith(FORMATS[form]) and (form != ".svg" or b"<svg" in head)
    if head and not is_one:
        return f"{path} is there and no {form[1:].upper()} picture; expected another name"
    return None
