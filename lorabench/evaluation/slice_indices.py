"""The kind of subject that a candidate does worst, with the looking for the worst paid for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lorabench.evaluation.comparing import from_interval, values_of
from lorabench.metrics.reading import Missing
from lorabench.metrics.subject_slices import (
    LEAST_SLICE,
    WORST_SUBJECT_SLICE,
    SliceReading,
    read_slices,
    slices_of,
    together,
)
from lorabench.records.comparison import CaseDifference, Comparison
from lorabench.records.measurement import Measurement, Unmeasured
from lorabench.records.plan import Arm
from lorabench.records.suite import Suite
from lorabench.statistics.intervals import DifferenceInterval

SCORES: Final = ("prompt_following_score", "foil_accuracy_score")
"""What a slice is read with: the first of which it has enough cases. Parts of figures have a gate of their own."""


@dataclass(frozen=True, slots=True)
class _Slice:
    """Case to its mean difference and its pairs, and the most that one of the cases could have gained."""

    differences: Mapping[str, tuple[float, int]]
    headroom: float = 1.0


def worst_subject_slice_of(
    suite: Suite, measurements: Sequence[Measurement], *, confidence_level: float, same_pictures: bool = False
) -> Comparison | Unmeasured:
    """The worst slice's difference between candidate and control.

    Args:
        suite: Says which case shows what.
        measurements: Numbers on the pictures of both arms.
        confidence_level: Two-sided, of all slices together.
        same_pictures: Both arms are bit-equal pictures; their differences are zero, not merely unseen.

    Returns:
        A comparison whose family is the slice, with an interval for the worst of all slices, whichever it is; or why
        there is none.
    """
    novel = suite.novel_cases
    chosen = {
        name: _differences([case for case in ids if case in novel], measurements)
        for name, ids in slices_of(suite).items()
    }
    read = read_slices(
        {name: [difference for difference, _ in found.differences.values()] for name, found in chosen.items()},
        confidence_level=confidence_level,
        headroom={name: found.headroom for name, found in chosen.items()},
        same_pictures=same_pictures,
    )
    if isinstance(read, Missing):
        return Unmeasured(metric=WORST_SUBJECT_SLICE.name, reason=read.reason)
    worst = read[0]
    of_worst = chosen[worst.name].differences
    found = from_interval(
        WORST_SUBJECT_SLICE,
        _interval(read, n_pairs=sum(n for _, n in of_worst.values()), confidence_level=confidence_level),
        candidate_arm=Arm.CANDIDATE,
        reference_name="B1",
        family=worst.name,
    )
    return found.model_copy(
        update={
            "differences": tuple(
                CaseDifference(case=case, difference=difference, n_pairs=n)
                for case, (difference, n) in sorted(of_worst.items())
            )
        }
    )


def _differences(ids: Sequence[str], measurements: Sequence[Measurement]) -> _Slice:
    """Mean difference of each case of a slice, by the first score that enough of them have."""
    wanted = set(ids)
    here = [item for item in measurements if item.cell.case in wanted]
    for score in SCORES:
        candidate, control = (values_of(here, metric=score, arm=arm) for arm in (Arm.CANDIDATE, Arm.CONTROL))
        by_case: dict[str, list[tuple[float, float]]] = {}
        for key in sorted(candidate.keys() & control.keys()):
            by_case.setdefault(key[0], []).append((candidate[key], control[key]))
        if len(by_case) >= LEAST_SLICE:
            means = {case: np.mean(pairs, axis=0) for case, pairs in by_case.items()}
            return _Slice(
                {case: (float(means[case][0] - means[case][1]), len(pairs)) for case, pairs in by_case.items()},
                headroom=float(max(1.0 - control_mean for _, control_mean in means.values())),
            )
    return _Slice({})


def _interval(read: Sequence[SliceReading], *, n_pairs: int, confidence_level: float) -> DifferenceInterval:
    """The smallest of all ends: wherever each slice's truth lies in its interval, the worst one's lies in this."""
    worst = read[0]
    return DifferenceInterval(
        estimate=worst.estimate,
        low=min(reading.low for reading in read),
        high=min(reading.high for reading in read),
        n_clusters=worst.n_cases,
        n_pairs=n_pairs,
        confidence_level=confidence_level,
        method="simultaneous_t",
        p_lower=together([reading.p_harm for reading in read]),
        p_higher=1.0,
    )
