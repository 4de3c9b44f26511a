"""The run as a reader sees it: gates, families, and everything that is missing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lorabench.records.comparison import Comparison, Outcome
from lorabench.records.measurement import Metric, SetMeasurement
from lorabench.records.plan import Arm, Cell
from lorabench.records.results import Results

Tone = Literal["worse", "better", "unclear"]
OUTCOME_ORDER = (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.UNMEASURED, Outcome.PASS)


@dataclass(frozen=True, slots=True)
class FamilyCell:
    """One family under one metric: a comparison with its interval, or a bare mean of case differences."""

    comparison: Comparison | None
    mean: float | None
    n_cases: int
    tone: Tone | None
    """What the interval says by itself; None where there is no interval."""


@dataclass(frozen=True, slots=True)
class FamilyTable:
    """Differences by family (rows, the pooled row last) and metric (columns)."""

    columns: tuple[Comparison, ...]
    """The pooled comparison of each metric, or one of its families where nothing was pooled."""
    rows: tuple[tuple[str | None, tuple[FamilyCell | None, ...]], ...]


@dataclass(frozen=True, slots=True)
class MissingRow:
    """One reason, with everything it keeps from having a number."""

    metric: str | None
    """None: there is no picture at all."""
    reason: str
    families: tuple[str, ...]
    cells: tuple[Cell, ...]


def tally(results: Results) -> tuple[tuple[Outcome, int], ...]:
    """Gates by outcome, gravest first; outcomes that do not occur are left out."""
    counts = Counter(gate.outcome for gate in results.gates)
    return tuple((outcome, counts[outcome]) for outcome in OUTCOME_ORDER if counts[outcome])


def tone(comparison: Comparison) -> Tone:
    """What an interval says about zero, turned so that better is better: a description, not a verdict."""
    _, low, high = comparison.oriented()
    if high < 0:
        return "worse"
    return "better" if low > 0 else "unclear"


def family_table(results: Results) -> FamilyTable:
    """Candidate minus control (or the other reference of a metric that has no control) by family."""
    chosen = [c for c in results.comparisons if c.candidate_arm is Arm.CANDIDATE and c.reference == _damage(results, c)]
    by_place = {(c.metric, c.family): c for c in chosen}
    metrics = tuple(dict.fromkeys(c.metric for c in chosen))
    columns = tuple(by_place.get((m, None)) or next(c for c in chosen if c.metric == m) for m in metrics)
    families: tuple[str | None, ...] = (*results.suite.families, None)
    members = {case.id: case.family for case in results.suite.cases}
    rows = tuple(
        (family, tuple(_family_cell(by_place, column, family, members=members) for column in columns))
        for family in families
    )
    return FamilyTable(columns, tuple((family, cells) for family, cells in rows if any(cells)))


def missing_rows(results: Results) -> tuple[MissingRow, ...]:
    """Every cell without a picture and every metric without a value, gathered by reason."""
    families: dict[tuple[str | None, str], dict[str, None]] = defaultdict(dict)
    cells: dict[tuple[str | None, str], list[Cell]] = defaultdict(list)
    for failed in results.failed:
        cells[None, failed.reason].append(failed.cell)
    for missing in results.unmeasured:
        key = (missing.metric, missing.reason)
        if missing.family is not None:
            families[key][missing.family] = None
        cells[key].extend([missing.cell] if missing.cell is not None else [])
    return tuple(
        MissingRow(metric, reason, tuple(families[metric, reason]), tuple(found))
        for (metric, reason), found in cells.items()
    )


def pictures_left_over(results: Results) -> tuple[Cell, ...]:
    """Planned cells that are neither made nor reported as failed."""
    known = {image.cell for image in results.images} | {failed.cell for failed in results.failed}
    return tuple(planned.cell for planned in results.plan if planned.cell not in known)


def set_table(results: Results) -> tuple[tuple[Metric | None, tuple[SetMeasurement, ...]], ...]:
    """Measurements on whole arms, by metric."""
    facts = {metric.name: metric for metric in results.metrics}
    by_metric: dict[str, list[SetMeasurement]] = defaultdict(list)
    for measurement in results.set_measurements:
        by_metric[measurement.metric].append(measurement)
    return tuple((facts.get(name), tuple(found)) for name, found in by_metric.items())


def _damage(results: Results, comparison: Comparison) -> str:
    """The reference against which damage in this metric is read: the control, where it was compared with it."""
    known = {c.reference for c in results.comparisons if c.metric == comparison.metric}
    return next((r for r in ("B1", "none", "training", "baseline", "B0") if r in known), comparison.reference)


def _family_cell(
    by_place: dict[tuple[str, str | None], Comparison],
    column: Comparison,
    family: str | None,
    *,
    members: Mapping[str, str],
) -> FamilyCell | None:
    found = by_place.get((column.metric, family))
    if found is not None:
        return FamilyCell(found, found.estimate, found.n_cases, tone(found))
    if family is None:
        return None
    inside = [d.difference for d in column.differences if members.get(d.case) == family]
    return FamilyCell(None, sum(inside) / len(inside), len(inside), None) if inside else None
