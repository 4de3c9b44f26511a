"""A run as GitHub workflow annotations: the worst findings beside the suite's lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from lorabench.records.comparison import Outcome, Verdict
from lorabench.records.results import Results
from lorabench.report.case_view import CaseReader, CaseView
from lorabench.report.notation import counted, plain

Level = Literal["error", "warning", "notice"]
PER_LEVEL: Final = 10
"""GitHub shows that many of each level in a step and drops the rest without a word."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One line on one place of one file."""

    level: Level
    title: str
    message: str
    line: int = 1

    def command(self, file: str) -> str:
        """The workflow command that shows it."""
        place = f"file={escape_property(file)},line={self.line},title={escape_property(self.title)}"
        return f"::{self.level} {place}::{escape_message(self.message)}"


def render_github(results: Results, *, suite_file: str, lines: Mapping[str, int] | None = None) -> str:
    """Render a run as workflow commands, at most ten of each level.

    A failed gate is an error, and so is an unmeasured one that is required; an inconclusive one that is required is a
    warning. What a gate that no run needs could not decide is a notice.
    Golden cases that broke and pictures that could not be made are errors, copies and lost checks of single cases
    are warnings: only gates decide on those.

    Args:
        results: The run.
        suite_file: Path of the suite, from the root of the repository.
        lines: Case id to its line in that file, from 1. Cases without one point at line 1.

    Returns:
        One command per line; empty where there is nothing to say.
    """
    found = [*_of_gates(results.gates), *_of_cases(CaseReader(results).read_all(), lines or {})]
    kept = [one for level in ("error", "warning", "notice") for one in _limited(found, level)]
    return "".join(one.command(suite_file) + "\n" for one in kept)


def escape_message(text: str) -> str:
    r"""The text of a workflow command.

    >>> escape_message("100 %\n::error::x")
    '100 %25%0A::error::x'
    """
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """A property of a workflow command.

    >>> escape_property("a,b:c")
    'a%2Cb%3Ac'
    """
    return escape_message(text).replace(":", "%3A").replace(",", "%2C")


def _of_gates(gates: Iterable[Verdict]) -> list[Annotation]:
    found = []
    for gate in gates:
        level = _gate_level(gate)
        if level is not None:
            title = f"{gate.outcome.value}: gate {gate.gate}"
            found.append(Annotation(level, title, f"{gate.reason} ({gate.metric}, {gate.family or 'all families'})"))
    return found


def _gate_level(gate: Verdict) -> Level | None:
    if gate.outcome is Outcome.PASS:
        return None
    if gate.outcome is Outcome.FAIL or (gate.outcome is Outcome.UNMEASURED and gate.required):
        return "error"
    return "warning" if gate.required else "notice"


def _of_cases(cases: Iterable[CaseView], lines: Mapping[str, int]) -> list[Annotation]:
    found = []
    for view in cases:
        told = [flag for flag in view.flags if flag.kind not in ("unmeasured", "gained")]
        if told:
            level: Level = "error" if any(flag.kind in ("golden", "broken", "missing") for flag in told) else "warning"
            message = f"{'; '.join(flag.text for flag in told)}: {plain(view.case.render(''))}"
            found.append(Annotation(level, f"case {view.case.id}", message, lines.get(view.case.id, 1)))
    return found


def _limited(found: list[Annotation], level: str) -> list[Annotation]:
    of_level = [one for one in found if one.level == level]
    if len(of_level) <= PER_LEVEL:
        return of_level
    kept = of_level[: PER_LEVEL - 1]
    rest = counted(len(of_level) - len(kept), f"further {level}")
    return [*kept, Annotation(kept[0].level, "more", f"and {rest}; the report lists them all.")]
