"""The run as a reader sees it: gates, families, and everything that is missing."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Literal

from lorabench.records.comparison import Comparison, Outcome
from lorabench.records.measurement import Metric, SetMeasurement
from lorabench.records.plan import Cell
from lorabench.records.results import Results

Tone = Literal["worse", "better", "unclear"]
OUTCOME_ORDER = (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.UNMEASURED, Outcome.PASS)


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
