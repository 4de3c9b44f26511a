import pickle
from typing import Any

import numpy as np
import pytest

from lorabench.statistics.intervals import TooFewCasesError
from lorabench.statistics.pairing import NoPairsError
from lorabench.statistics.resampling import ConstantStatisticError, UndefinedStatisticError, two_stage_bootstrap


def grand_mean(data: list[np.ndarray]) -> float:
    return float(np.mean([case.mean() for case in data]))


def stacked_mean(data: np.ndarray) -> Any:
    return data.mean(axis=(1, 2))


def log_ratio(data: np.ndarray) -> Any:
    """Of the arms' totals; the last axis is (candidate, reference)."""
    totals = data.sum(axis=(1, 2))
    return np.log(totals[:, 0] / totals[:, 1])


def sample(k: int = 12, s: int = 4, *, shift: float = 0.0) -> list[np.ndarray]:
    rng = np.random.default_rng(8)
    return list(rng.normal(shift, 0.3, (k, 1)) + rng.normal(0, 0.3, (k, s)))


def test_vectorized_and_plain_statistics_give_the_same_interval_up_to_resampling() -> None:
    plain = two_stage_bootstrap(
        grand_mean, sample(), rng=np.random.default_rng(0), confidence_level=0.9, n_resamples=4000
    )
    stacked = two_stage_bootstrap(
        stacked_mean, sample(), rng=np.random.default_rng(1), confidence_level=0.9, n_resamples=4000, vectorized=True
    )

    assert plain.estimate == pytest.approx(stacked.estimate)
    assert (plain.low, plain.high) == pytest.approx((stacked.low, stacked.high), abs=0.02)
    assert (plain.n_clusters, plain.n_pairs, plain.method) == (12, 48, "two_stage_bootstrap")


@pytest.mark.parametrize("s", [1, 2, 4])
def test_vectorized_statistic_sees_the_very_resamples_of_a_plain_one(s: int) -> None:
    # 600 resamples: more than one chunk of them.
    seen: dict[bool, list[np.ndarray]] = {False: [], True: []}

    def plain(data: list[np.ndarray]) -> float:
        seen[False].append(np.stack(data))
        return grand_mean(data)

    def stacked(data: np.ndarray) -> Any:
        seen[True] += list(data)
        return stacked_mean(data)

    found = [
        two_stage_bootstrap(
            statistic,  # type: ignore[arg-type]
            sample(7, s),
            rng=np.random.default_rng(3),
            confidence_level=0.9,
            n_resamples=600,
            vectorized=vectorized,
        )
        for statistic, vectorized in ((plain, False), (stacked, True))
    ]

    assert sorted(case.tobytes() for case in seen[True]) == sorted(case.tobytes() for case in seen[False])
    assert (found[0].low, found[0].high) == pytest.approx((found[1].low, found[1].high), rel=1e-12)


def test_same_rng_gives_the_same_interval() -> None:
    first, second = (
        two_stage_bootstrap(
            stacked_mean, sample(), rng=np.random.default_rng(4), confidence_level=0.95, vectorized=True
        )
        for _ in range(2)
    )

    assert first == second


def test_unequal_numbers_of_seeds_are_welcome_without_vectorizing() -> None:
    data = [case[: 1 + i % 4] for i, case in enumerate(sample())]

    interval = two_stage_bootstrap(grand_mean, data, rng=np.random.default_rng(0), confidence_level=0.9)

    assert interval.low < interval.estimate < interval.high
    assert interval.n_pairs == sum(len(case) for case in data)


def test_log_ratio_of_two_arms_finds_its_value() -> None:
    rng = np.random.default_rng(6)
    reference = rng.gamma(20, 1, (20, 4))
    data = list(np.stack([0.5 * reference * rng.gamma(50, 1 / 50, (20, 4)), reference], axis=-1))

    interval = two_stage_bootstrap(log_ratio, data, rng=rng, confidence_level=0.95, vectorized=True)

    assert interval.low < np.log(0.5) < interval.high < 0
    assert interval.p_lower < 0.003
    assert interval.p_higher > 0.997


def test_p_value_meets_its_level_where_the_interval_touches_zero() -> None:
    def shifted(data: np.ndarray) -> Any:
        return stacked_mean(data) - first.high

    first = two_stage_bootstrap(
        stacked_mean, sample(), rng=np.random.default_rng(2), confidence_level=0.9, vectorized=True
    )
    second = two_stage_bootstrap(shifted, sample(), rng=np.random.default_rng(2), confidence_level=0.9, vectorized=True)

    assert second.high == pytest.approx(0.0, abs=1e-12)
    assert second.p_lower == pytest.approx(0.05, abs=0.003)


def test_copied_seeds_do_not_reach_below_the_spread_between_cases() -> None:
    """Seeds without noise of their own add nothing, however many."""
    values = np.random.default_rng(5).normal(size=10)
    once, many = (
        two_stage_bootstrap(
            stacked_mean,
            list(np.repeat(values[:, np.newaxis], s, axis=1)),
            rng=np.random.default_rng(0),
            confidence_level=0.95,
            vectorized=True,
            n_resamples=8000,
        )
        for s in (1, 16)
    )

    assert many.high - many.low == pytest.approx(once.high - once.low, rel=0.05)


def test_row_numbers_let_a_statistic_leave_twins_out() -> None:
    pictures = np.random.default_rng(0).normal(size=(6, 4, 3))

    def distance(rows: list[np.ndarray]) -> float:
        per_case = []
        for drawn in rows:
            case, seed = drawn.T
            apart = np.linalg.norm(pictures[case[:, None], seed[:, None]] - pictures[case, seed], axis=-1)
            others = (case[:, None] != case) | (seed[:, None] != seed)
            per_case.append(apart[others].mean() if others.any() else np.nan)
        return float(np.nanmean(per_case))

    rows = [np.stack([np.full(4, case), np.arange(4)], axis=1) for case in range(6)]
    interval = two_stage_bootstrap(distance, rows, rng=np.random.default_rng(0), confidence_level=0.9, n_resamples=300)

    assert interval.low < interval.estimate < interval.high


def test_index_that_is_zero_on_all_resamples_is_identical() -> None:
    interval = two_stage_bootstrap(
        stacked_mean, list(np.zeros((5, 2))), rng=np.random.default_rng(0), confidence_level=0.9, vectorized=True
    )

    assert (interval.low, interval.high, interval.method) == (0.0, 0.0, "identical")
    assert interval.p_lower > 0.9
    assert interval.p_higher > 0.9


def test_constant_index_has_no_interval() -> None:
    with pytest.raises(ConstantStatisticError, match=r"varies between resamples; all 2000 give 0.5. Use more cases"):
        two_stage_bootstrap(
            stacked_mean,
            list(np.full((5, 2), 0.5)),
            rng=np.random.default_rng(0),
            confidence_level=0.9,
            vectorized=True,
        )


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_index_that_can_be_infinite_is_refused() -> None:
    data = [np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]])]

    with pytest.raises(
        UndefinedStatisticError, match=r"finite on the data and on every resample; [0-9]+ of 2001"
    ) as raised:
        two_stage_bootstrap(log_ratio, data, rng=np.random.default_rng(0), confidence_level=0.9, vectorized=True)

    assert 400 < raised.value.n_undefined < 600  # the one case without denominator drawn twice: 1 in 4


def test_one_case_is_refused() -> None:
    with pytest.raises(TooFewCasesError, match=r"at least 2 cases.*found 1"):
        two_stage_bootstrap(grand_mean, [np.ones(4)], rng=np.random.default_rng(0), confidence_level=0.9)


def test_case_without_seeds_is_refused() -> None:
    with pytest.raises(NoPairsError, match="found none"):
        two_stage_bootstrap(grand_mean, [np.ones(4), np.ones(0)], rng=np.random.default_rng(0), confidence_level=0.9)


def test_vectorized_statistic_needs_a_full_table() -> None:
    with pytest.raises(ValueError, match=r"equally many seeds in every case; found \[2, 4\]. Pass vectorized=False"):
        two_stage_bootstrap(
            stacked_mean,
            [np.ones(4), np.ones(2)],
            rng=np.random.default_rng(0),
            confidence_level=0.9,
            vectorized=True,
        )


def test_a_handful_of_resamples_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n_resamples must be at least 100.*got 20. Use 2000"):
        two_stage_bootstrap(grand_mean, sample(), rng=np.random.default_rng(0), confidence_level=0.9, n_resamples=20)


@pytest.mark.parametrize("error", [ConstantStatisticError(0.5, 2000), UndefinedStatisticError(3, 2001)])
def test_errors_travel_between_processes(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
