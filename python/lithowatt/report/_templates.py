"""The templates of reports: Jinja's, in the folder `templates`."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from lithowatt._support.install import pip_install
from lithowatt._support.text import printable

if TYPE_CHECKING:
    import jinja2


def source(name: str) -> str:
    """The text of a file beside the templates."""
    return (resources.files("lithowatt.report") / "templates" / name).read_text("utf-8")


def environment(*, visible: bool) -> jinja2.Environment:
    """Jinja with our templates.

    Args:
        visible: Whether characters of values that nobody sees are shown. Only what is for
            `.html.j2` is escaped for HTML.

    Raises:
        ModuleNotFoundError: Jinja is not installed; the message says how to install it.
    """
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"a report needs jinja2: {pip_install('jinja2')}", name=error.name
        ) from None
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(source),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        finalize=_shown if visible else None,
        trim_blocks=True,
        keep_trailing_newline=True,
    )


def _shown(value: object) -> object:
    """A text of the data as a page shows it; markup of ours is left as it is."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
