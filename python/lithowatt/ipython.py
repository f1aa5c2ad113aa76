"""``%joules`` and ``%%joules``: what a line or a cell used, in IPython and in Jupyter.

``%load_ext lithowatt`` brings them; ``%joules?`` says what they take. IPython is not imported by
anything else here.
"""

from __future__ import annotations

import ast
import contextlib
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, needs_local_scope

from lithowatt.errors import LithowattError, MeterStateError
from lithowatt.meter._meter import EnergyMeter

__all__ = ["EnergyMagics", "load_ipython_extension"]


@magics_class
class EnergyMagics(Magics):
    """The magics of the energy of code."""

    @needs_local_scope
    @line_cell_magic
    def joules(
        self, line: str = "", cell: str | None = None, local_ns: dict[str, Any] | None = None
    ) -> Any:
        """Runs a line or a cell once, shows the joules that it used, and gives its value.

        Usage, in line mode::

            %joules [-m METHODS] [-d DEFINITION] [-l LABEL] [-o] statement

        and in cell mode::

            %%joules [-m METHODS] [-d DEFINITION] [-l LABEL] [-o]
            code

        Options:

        -m METHODS: as of ``lithowatt.EnergyMeter``, such as ``rapl,model``; ``auto`` by default.

        -d DEFINITION: ``marginal`` (above idle) or ``amortised`` (with the share of idle).

        -l LABEL: a name of yours, which the reading shows.

        -o: gives the ``Reading`` instead of the value.

        What is shown is a line in a terminal and a table in a notebook. If the code raises, the
        joules until then are shown, and the exception is the code's.
        """
        options, statement = self.parse_options(line, "m:d:l:o", posix=False, strict=False)
        if cell is not None and statement:
            raise UsageError(
                f"%%joules takes options and no code on its line, not {statement!r:.80}"
            )
        code = statement if cell is None else cell
        if not code.strip():
            raise UsageError("%joules takes a statement, %%joules a cell")
        try:
            meter = EnergyMeter(
                methods=options.get("m", "auto"),
                definition=options.get("d"),
                label=options.get("l"),
            )
        except LithowattError as error:
            raise UsageError(str(error)) from error
        body, last = self._compiled(code)
        shell = self._shell()
        names, local = shell.user_ns, shell.user_ns if local_ns is None else local_ns
        value = None
        try:
            with meter:
                # What the user typed at this prompt, run as IPython itself runs it.
                exec(body, names, local)  # noqa: S102
                if last is not None:
                    value = eval(last, names, local)  # noqa: S307
        finally:
            # A meter that could not start has none, and the exception is that of its start.
            with contextlib.suppress(MeterStateError):
                reading = meter.reading
                shell.display_pub.publish(*shell.display_formatter.format(reading))
        return meter.reading if "o" in options else value

    def _shell(self) -> Any:
        shell: Any = self.shell
        if shell is None:
            raise UsageError("%joules needs a running IPython")
        return shell

    def _compiled(self, code: str) -> tuple[Any, Any]:
        """All but a last expression, and that; compiled so that a traceback shows the lines."""
        shell = self._shell()
        source = shell.transform_cell(code)
        name = shell.compile.cache(source, raw_code=code)
        tree = shell.transform_ast(shell.compile.ast_parse(source, filename=name))
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            expression = tree.body.pop()
            last = shell.compile(ast.Expression(expression.value), name, "eval")
        return shell.compile(tree, name, "exec"), last


def load_ipython_extension(shell: Any) -> None:
    """Registers the magics; IPython calls it for ``%load_ext lithowatt``."""
    shell.register_magics(EnergyMagics)
