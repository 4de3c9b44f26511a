"""Kinds of subject in a suite, and how much worse the worst of them has become than the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lorabench.metrics.reading import Missing
from lorabench.records.measurement import Metric
from lorabench.records.suite import AnatomyCheck, Case, Suite
from lorabench.statistics.intervals import ROUNDING, t_interval

Floats = NDArray[np.float64]

WORST_SUBJECT_SLICE: Final = Metric(
    name="worst_subject_slice",
    version=1,
    higher_is_better=True,
    unit="share",
    level="set",
    summary="how far the worst kind of subject has fallen below the control and below the rest",
)
SUBJECTS: Final = ("person", "animal", "landscape", "object", "abstract")
"""Tags that name what a prompt is about."""
LEAST_SLICE: Final = 5
"""Cases under which a slice is left out: its spread would be a guess."""


@dataclass(frozen=True, slots=True)
class SliceReading:
    """One slice against zero and against the rest.

    Attributes:
        name: Its subject.
        estimate: Mean difference of its cases, minus that of all other cases where those have fallen too.
        low: Lower end of the simultaneous interval.
        high: Upper end.
        p_harm: One-sided p-value of "it has not fallen", by itself.
        n_cases: Its cases.
    """

    name: str
    estimate: float
    low: float
    high: float
    p_harm: float
    n_cases: int


def slices_of(suite: Suite) -> dict[str, tuple[str, ...]]:
    """Cases by subject, in order of appearance.

    A case belongs to the first of its tags that is one of `SUBJECTS`. In a suite without any such tag, what a case
    tests stands for what it shows: its family, and in the family `anatomy` the figure that is checked.

    Returns:
        Subject to ids of cases; cases of a tagged suite that carry no such tag belong nowhere.
    """
    tagged = any(_subject_tag(case) for case in suite.cases)
    found: dict[str, list[str]] = {}
    for case in suite.cases:
        name = _subject_tag(case) if tagged else _stand_in(case)
        if name:
            found.setdefault(name, []).append(case.id)
    return {name: tuple(ids) for name, ids in found.items()}


def read_slices(
    slices: Mapping[str, Sequence[float]],
    *,
    confidence_level: float,
    headroom: Mapping[str, float] | None = None,
    same_pictures: bool = False,
) -> list[SliceReading] | Missing:
    """Read every slice with intervals that hold together.

    Each slice's interval has Sidak's level for as many slices as there are, so that looking for the worst costs no
    false alarms: the slices have no case in common. A slice's harm is counted from the control or from the mean of the
    other cases, whichever is lower; an adapter that loses everywhere alike is not uneven.

    Args:
        slices: Subject to the mean difference of each of its cases, candidate minus control, higher is better.
        confidence_level: Two-sided, of all intervals together, in (0, 1).
        headroom: Subject to the most that a case of it can gain: 1 less the control's score. It bounds what cases that
            agree in all else may hide; 1 where it is not given.
        same_pictures: Both arms are bit-equal pictures; their differences are zero, not merely unseen.

    Returns:
        The slices with at least five cases, worst first; or why there is no worst one.
    """
    kept = {name: np.asarray(values, dtype=np.float64) for name, values in slices.items() if len(values) >= LEAST_SLICE}
    if len(kept) < 2:
        sizes = ", ".join(f"{name} {len(values)}" for name, values in slices.items()) or "none"
        return Missing(
            f"uneven generalisation needs two kinds of subject with at least {LEAST_SLICE} cases each; found {sizes}. "
            f"Tag cases with {', '.join(SUBJECTS)}."
        )
    level = float(confidence_level ** (1.0 / len(kept)))
    readings = []
    for name, values in kept.items():
        rest = np.concatenate([other for theirs, other in kept.items() if theirs != name])
        support = None if same_pictures else (-1.0, (headroom or {}).get(name, 1.0))
        readings.append(_reading(name, values, rest, level=level, support=support))
    return sorted(readings, key=lambda reading: reading.estimate)


def together(p_values: Sequence[float]) -> float:
    """P-value of the smallest of independent p-values (Sidak).

    >>> round(together([0.01, 0.5]), 4)
    0.0199
    """
    return 1.0 - (1.0 - min(p_values)) ** len(p_values)


def _subject_tag(case: Case) -> str | None:
    return next((tag for tag in case.tags if tag in SUBJECTS), None)


def _stand_in(case: Case) -> str:
    if case.family != "anatomy":
        return case.family
    return next((check.label for check in case.checks if isinstance(check, AnatomyCheck)), case.family)


def _reading(
    name: str, values: Floats, rest: Floats, *, level: float, support: tuple[float, float] | None
) -> SliceReading:
    floor = min(0.0, float(rest.mean()))
    equal = bool(np.ptp(values) <= ROUNDING * max(1.0, float(np.abs(values).max())))
    if equal or floor == 0.0:
        clusters = np.arange(len(values))
        own = t_interval(values, clusters, confidence_level=level, support=support if equal else None)
        # Without spread there is no test against the others; only an interval that leaves them out shows a difference.
        p_harm = own.p_lower if floor == 0.0 or own.high < floor else 1.0
        return SliceReading(name, own.estimate - floor, own.low - floor, own.high - floor, p_harm, len(values))
    return _against_rest(name, values, rest, level=level)


def _against_rest(name: str, values: Floats, rest: Floats, *, level: float) -> SliceReading:
    """Welch's interval of the difference of two means."""
    from scipy.special import stdtr, stdtrit

    parts = [float(sample.var(ddof=1)) / len(sample) for sample in (values, rest)]
    error = math.sqrt(sum(parts))
    df = sum(parts) ** 2 / sum(part**2 / (len(sample) - 1) for part, sample in zip(parts, (values, rest), strict=True))
    estimate = float(values.mean() - rest.mean())
    half = float(stdtrit(df, 0.5 + level / 2)) * error
    p_harm = float(stdtr(df, estimate / error))
    return SliceReading(name, estimate, estimate - half, estimate + half, p_harm, len(values))
