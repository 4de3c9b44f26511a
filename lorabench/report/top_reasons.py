"""The top of a page: what got worse, why, and where to look first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lorabench.records.comparison import Outcome, Verdict
from lorabench.records.plan import Arm
from lorabench.records.results import Results
from lorabench.report.case_view import CaseView, PictureView

N_CASES: Final = 3
"""Cases named beside a reason."""
N_LOOKS: Final = 6
"""Pairs of pictures at the top."""


@dataclass(frozen=True, slots=True)
class WorstCase:
    """A case that moved a gate."""

    case: str
    difference: float
    """Candidate minus reference, raw sign, in the metric's unit."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One sentence of the verdict, with the gate that says so and the cases to look at."""

    text: str
    gate: Verdict | None
    """None where the sentence is no gate's."""
    cases: tuple[WorstCase, ...]
    """The most harmful first; none of them unharmed."""


@dataclass(frozen=True, slots=True)
class Look:
    """Control and candidate of a case at its most troubled seed."""

    view: CaseView
    seed: int
    control: PictureView
    candidate: PictureView


def reasons(results: Results) -> tuple[Reason, ...]:
    """The verdict's sentences. One that begins with a gate's name is that gate's."""
    gates = {gate.gate: gate for gate in results.gates}
    found = []
    for text in results.verdict.reasons:
        name, colon, rest = text.partition(": ")
        gate = gates.get(name) if colon else None
        found.append(Reason(text if gate is None else rest, gate, () if gate is None else worst_cases(gate)))
    return tuple(found)


def tightest(results: Results) -> tuple[Verdict, float] | None:
    """The passed gate that came nearest to its margin, and the harmful end of its interval in margins."""
    passed = [gate for gate in results.gates if gate.outcome is Outcome.PASS]
    ends = [(-gate.comparison.oriented()[1] / gate.margin, gate) for gate in passed if gate.comparison is not None]
    ends = [(end, gate) for end, gate in ends if end < 1]  # a gate without statistics may pass with a wide interval
    end, gate = max(ends, key=lambda pair: pair[0], default=(0.0, None))
    return None if gate is None else (gate, end)


def worst_cases(gate: Verdict, *, most: int = N_CASES) -> tuple[WorstCase, ...]:
    """Cases that speak against the candidate in a gate's metric, the most harmful first."""
    if gate.comparison is None:
        return ()
    sign = -1.0 if gate.comparison.higher_is_better else 1.0
    harmed = sorted((-sign * one.difference, one.case) for one in gate.comparison.differences)
    return tuple(WorstCase(case, -sign * value) for value, case in harmed[:most] if value < 0)


def looks(cases: Sequence[CaseView], *, named: Sequence[Reason]) -> tuple[Look, ...]:
    """Pairs of pictures that show what the verdict says.

    Args:
        cases: All cases, worst first.
        named: The reasons; their cases come first, by turns, then the worst cases overall that need a look.

    Returns:
        At most six; cases without both pictures are passed over.
    """
    turns = [reason.cases[place].case for place in range(N_CASES) for reason in named if place < len(reason.cases)]
    overall = [view.case.id for view in cases if view.needs_a_look]
    views = {view.case.id: view for view in cases}
    found = (_look(views[case]) for case in dict.fromkeys((*turns, *overall)) if case in views)
    return tuple(look for look in found if look is not None)[:N_LOOKS]


def _look(view: CaseView) -> Look | None:
    for seed in view.seeds:
        candidate = next((one for one in seed.pictures if one.column.main and one.image is not None), None)
        control = next((one for one in seed.pictures if one.column.arm is Arm.CONTROL and one.image is not None), None)
        if candidate is not None and control is not None:
            return Look(view, seed.seed, control, candidate)
    return None
