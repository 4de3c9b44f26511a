"""From numbers by case and seed to one number with an interval over cases, and to what a gate decides on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorabench.errors import MeasurementError
from lorabench.evaluation.comparing import from_interval
from lorabench.evaluation.indices import Resampling
from lorabench.metrics.reading import Missing
from lorabench.metrics.strength import case_means
from lorabench.records.comparison import Comparison
from lorabench.records.measurement import Metric, Unmeasured
from lorabench.records.plan import Arm
from lorabench.records.sweep import Estimated
from lorabench.statistics.intervals import DifferenceInterval
from lorabench.statistics.resampling import ConstantStatisticError, two_stage_bootstrap

Floats = NDArray[np.float64]
Key = tuple[str, int]
Table = tuple[Floats, ...]
"""One array (s, c) per case: seeds in rows, quantities in columns."""


def table(columns: Sequence[Mapping[Key, float]]) -> Table:
    """Line up quantities by case and seed; cells that lack one of them are left out.

    Args:
        columns: Each from (case, seed) to a value.
    """
    common = sorted(set.intersection(*(set(column) for column in columns))) if columns else []
    cases = dict.fromkeys(case for case, _ in common)
    return tuple(
        np.array([[column[key] for column in columns] for key in common if key[0] == case], dtype=np.float64)
        for case in cases
    )


def interval_of(
    data: Table,
    statistic: Callable[[Floats], Any],
    *,
    name: str,
    resampling: Resampling,
    limit: float = 0.0,
) -> DifferenceInterval | Missing:
    """Interval of a function of column means, by resampling cases and seeds.

    Args:
        data: One array (s, c) per case.
        statistic: From means (r, c) to (r,).
        name: Seeds the resampling.
        resampling: How.
        limit: The p-values are about this value instead of zero.

    Returns:
        The interval in the statistic's own unit; or why there is none.
    """
    lengths = {len(case) for case in data}
    if len(lengths) > 1:
        data = tuple(case[: min(lengths)] for case in data)

    def shifted(drawn: Any) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(statistic(case_means(drawn))) - limit

    try:
        found = two_stage_bootstrap(
            shifted,
            data,
            rng=resampling.rng(name),
            confidence_level=resampling.confidence_level,
            n_resamples=resampling.n_resamples,
            vectorized=True,
        )
    except ConstantStatisticError as error:
        found = _constant(error.value, len(data), n_pairs=sum(map(len, data)), resampling=resampling)
    except MeasurementError as error:
        return Missing(str(error))
    return replace(found, estimate=found.estimate + limit, low=found.low + limit, high=found.high + limit)


def _constant(value: float, n_cases: int, *, n_pairs: int, resampling: Resampling) -> DifferenceInterval:
    """All cases agree to the bit: resampling adds nothing, and the p-value is the sign-flip test's."""
    p = 0.5**n_cases
    return DifferenceInterval(
        estimate=value,
        low=value,
        high=value,
        n_clusters=n_cases,
        n_pairs=n_pairs,
        confidence_level=resampling.confidence_level,
        method="equal_cases",
        spread=0.0,
        p_lower=p if value < 0 else 1.0,
        p_higher=p if value > 0 else 1.0,
    )


def estimated(interval: DifferenceInterval | Missing) -> Estimated | None:
    """As a record; None where there is none."""
    if isinstance(interval, Missing):
        return None
    return Estimated(value=interval.estimate, low=interval.low, high=interval.high, n_cases=interval.n_clusters)


def turned(interval: DifferenceInterval, whole: float = 0.0) -> DifferenceInterval:
    """The interval of `whole` minus the number."""
    return replace(
        interval,
        estimate=whole - interval.estimate,
        low=whole - interval.high,
        high=whole - interval.low,
        p_lower=interval.p_higher,
        p_higher=interval.p_lower,
    )


def as_comparison(metric: Metric, interval: DifferenceInterval | Missing) -> Comparison | Unmeasured:
    """What a sweep's gate decides on: the number itself, zero being the best; or why there is none."""
    if isinstance(interval, Missing):
        return Unmeasured(metric=metric.name, reason=interval.reason)
    return from_interval(metric, interval, candidate_arm=Arm.CANDIDATE, reference_name="none")
