"""Which repetitions count: the bases `clean`, `all` and `same-input`, and refinements of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lithowatt.analysis.lint import EXCLUDING, NAMING
from lithowatt.errors import MalformedValueError

#: Basis to the rules of lint whose repetitions it leaves out.
BASES: dict[str, tuple[str, ...]] = {
    "clean": EXCLUDING,
    "all": (),
    "same-input": (*EXCLUDING, "input-changed"),
}


@dataclass(frozen=True)
class Basis:
    """Which rules of lint leave repetitions out.

    Attributes:
        name: One of `BASES`, or `custom`.
        rules: Names of the rules.

    Example:
        >>> Basis.of("clean", ["-copied-repetitions", "+queued-start"]).rules
        ('jittered-repetitions', 'foreign-hardware', 'empty-repetition', 'queued-start')
    """

    name: str
    rules: tuple[str, ...]

    @classmethod
    def of(cls, name: str = "clean", exclude: Sequence[str] = ()) -> Basis:
        """A basis, refined.

        Args:
            name: One of `BASES`.
            exclude: `+RULE` leaves out what this rule names as well, `-RULE` keeps it.

        Raises:
            MalformedValueError: For another name, and for a rule that names no repetitions.
        """
        if name not in BASES:
            raise MalformedValueError(f"basis {name!r:.80} is not one of {', '.join(BASES)}")
        rules = list(BASES[name])
        for one in exclude:
            sign, rule = one[:1], one[1:]
            if sign not in ("+", "-") or rule not in NAMING:
                raise MalformedValueError(
                    f"{one!r:.80} is not + or - and one of the rules that name repetitions: "
                    f"{', '.join(sorted(NAMING))}"
                )
            if sign == "+" and rule not in rules:
                rules.append(rule)
            elif sign == "-" and rule in rules:
                rules.remove(rule)
        changed = set(rules) != set(BASES[name])
        return cls("custom" if changed else name, tuple(rules))
