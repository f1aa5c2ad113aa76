"""What a rule found in profiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or doubtful, in one file or one of its configurations.

    Attributes:
        rule: Name of the rule, e.g. `copied-repetitions`.
        severity: `error` or `warning`.
        file: The profile's name; of a rule about a folder that folder's.
        configuration: The key as the file spells it, `None` where it is about the file.
        column: The column, of a rule that is about columns.
        repetitions: The repetitions that it is about, from 0; empty where it is about no single
            ones.
        rows: Worker calls that it is about, a count.
        evidence: The numbers that the rule looked at.
        message: What was found, for a person.
        advice: What to do about it.
        excludes: Whether the basis `clean` leaves these repetitions out.
        stage: Of the profile; one file can hold several.
    """

    rule: str
    severity: Severity
    file: str
    configuration: str | None = None
    column: str | None = None
    repetitions: tuple[int, ...] = ()
    rows: int = 0
    evidence: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""
    advice: str = ""
    excludes: bool = False
    stage: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The finding as results print it."""
        return {
            "rule": self.rule,
            "severity": self.severity,
            "file": self.file,
            "stage": self.stage,
            "configuration": self.configuration,
            "column": self.column,
            "repetitions": list(self.repetitions),
            "rows": self.rows,
            "evidence": dict(self.evidence),
            "message": self.message,
            "advice": self.advice,
            "excludes": self.excludes,
        }
