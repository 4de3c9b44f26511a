"""Every metric by family: where the differences come from, and how large they are beside the margins."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lorabench.records.comparison import Comparison
from lorabench.records.measurement import Metric
from lorabench.records.plan import Arm
from lorabench.records.results import Results
from lorabench.report.case_view import CaseView
from lorabench.report.run_view import Tone, tone

REFERENCES: Final = ("B1", "none", "training", "baseline", "B0")
"""Against what damage is read, first what is preferred."""
LEVELS: Final = ((1.0, "deep"), (0.5, "mid"))
"""From this many margins on, this shade."""


@dataclass(frozen=True, slots=True)
class HeatCell:
    """One metric in one family."""

    mean: float
    """Candidate minus reference, raw sign, in the metric's unit."""
    n_cases: int
    comparison: Comparison | None
    """With its interval; None for a bare mean of case differences."""
    tone: Tone | None
    """What the interval says by itself; None where there is none."""
    harm: float | None
    """In margins, positive is worse; None where no gate holds a margin for the metric."""

    @property
    def shade(self) -> str:
        """`deep`, `mid`, `light` or nothing: how strongly the cell is tinted. Unclear ones are not."""
        if self.tone in (None, "unclear"):
            return ""
        return next((name for least, name in LEVELS if abs(self.harm or 0.0) >= least), "light")


@dataclass(frozen=True, slots=True)
class HeatRow:
    """One metric in every family, the pooled cell last."""

    metric: str
    unit: str
    higher_is_better: bool
    comparison: Comparison | None
    """One of the row's comparisons, which says what was compared; None for bare means, candidate minus control."""
    margin: float | None
    gate: str | None
    cells: tuple[HeatCell | None, ...]

    @property
    def worst(self) -> float:
        """Largest harm in margins of a cell whose interval leaves out zero; 0 where none is worse."""
        return max((cell.harm or 0.0 for cell in self.cells if cell is not None and cell.tone == "worse"), default=0.0)


@dataclass(frozen=True, slots=True)
class HeatTable:
    """Metrics (rows) by families (columns, all of them pooled last)."""

    families: tuple[str | None, ...]
    gated: tuple[HeatRow, ...]
    """Metrics with a gate, the worst first."""
    others: tuple[HeatRow, ...]


def heat_table(results: Results, cases: Iterable[CaseView]) -> HeatTable:
    """Candidate minus control (or the other reference of a metric that has no control), by metric and family.

    Cells with an interval come from the run's comparisons; where a metric has none, the plain mean over cases of
    candidate minus control stands there, and says so.

    Args:
        results: Of the run.
        cases: The cases that were planned.
    """
    views = tuple(cases)
    present = {view.case.family for view in views}
    families = (*(family for family in results.suite.families if family in present), None)
    margins = {gate.metric: (gate.margin, gate.gate) for gate in reversed(results.gates) if gate.family is None}
    by_metric = _comparisons(results)
    facts: dict[str, Metric | Comparison] = {name: compared[0] for name, compared in by_metric.items()}
    facts |= {metric.name: metric for metric in results.metrics}
    bare = _case_differences(views)
    rows = [
        _row(
            one,
            by_metric.get(name, ()),
            name=name,
            bare=bare.get(name, {}),
            gate=margins.get(name),
            places=_Places(families, {case.id: case.family for case in results.suite.cases}),
        )
        for name, one in facts.items()
    ]
    found = [row for row in rows if any(row.cells)]
    gated = sorted((row for row in found if row.gate is not None), key=lambda row: -row.worst)
    return HeatTable(families, tuple(gated), tuple(row for row in found if row.gate is None))


@dataclass(frozen=True, slots=True)
class _Places:
    """The columns, and the family of each case."""

    families: tuple[str | None, ...]
    family_of: Mapping[str, str]


def _case_differences(cases: Iterable[CaseView]) -> Mapping[str, dict[str, float]]:
    """Candidate minus control by metric and case, mean over pairs of seeds."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for view in cases:
        for row in view.metrics:
            if row.difference is not None:
                found[row.metric.name][view.case.id] = row.difference
    return found


def _comparisons(results: Results) -> Mapping[str, list[Comparison]]:
    """Of the candidate with the reference that damage is read against, by metric."""
    found: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in results.comparisons:
        if comparison.candidate_arm is Arm.CANDIDATE:
            found[comparison.metric].append(comparison)
    chosen = {}
    for name, comparisons in found.items():
        reference = min((one.reference for one in comparisons), key=REFERENCES.index)
        chosen[name] = [one for one in comparisons if one.reference == reference]
    return chosen


def _row(
    facts: Metric | Comparison,
    comparisons: Sequence[Comparison],
    *,
    name: str,
    bare: Mapping[str, float],
    gate: tuple[float, str] | None,
    places: _Places,
) -> HeatRow:
    margin, gate_name = (None, None) if gate is None else gate
    differences = {one.case: one.difference for k in comparisons for one in k.differences} or bare
    harm_unit = None if margin is None else (-margin if facts.higher_is_better else margin)
    by_family = {one.family: one for one in reversed(comparisons)}
    cells = []
    for family in places.families:
        inside = [value for case, value in differences.items() if family in (None, places.family_of.get(case))]
        cells.append(_cell(by_family.get(family), inside, harm_unit=harm_unit))
    first = comparisons[0] if comparisons else None
    return HeatRow(name, facts.unit, facts.higher_is_better, first, margin, gate_name, tuple(cells))


def _cell(found: Comparison | None, inside: Sequence[float], *, harm_unit: float | None) -> HeatCell | None:
    if found is None and not inside:
        return None
    mean = sum(inside) / len(inside) if found is None else found.estimate
    n_cases = len(inside) if found is None else found.n_cases
    harm = None if harm_unit is None else mean / harm_unit
    return HeatCell(mean, n_cases, found, None if found is None else tone(found), harm)
