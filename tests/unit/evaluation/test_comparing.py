import pytest

from lorabench.evaluation.comparing import compare, values_of
from lorabench.records.comparison import Comparison
from lorabench.records.measurement import Measurement, Metric, Unmeasured
from lorabench.records.plan import Arm, Cell

SCORE = Metric(name="prompt_following_score", version=3, higher_is_better=True, unit="share")
RATE = Metric(name="broken_rate", version=1, higher_is_better=False, unit="share")


def compared(candidate, reference, *, metric=SCORE, **options) -> Comparison | Unmeasured:
    plain = {"candidate_arm": Arm.CANDIDATE, "reference_name": "B1", "family": None, "confidence_level": 0.95}
    return compare(metric, candidate, reference, **{**plain, **options})


def test_difference_is_candidate_minus_reference_by_case() -> None:
    found = compared({("a", 1): 0.5, ("a", 2): 0.5, ("b", 1): 0.9}, {("a", 1): 0.75, ("a", 2): 0.5, ("b", 1): 1.0})

    assert isinstance(found, Comparison)
    assert [(one.case, one.n_pairs) for one in found.differences] == [("a", 2), ("b", 1)]
    assert [one.difference for one in found.differences] == pytest.approx([-0.125, -0.1])
    assert found.estimate == pytest.approx(-0.1125)
    assert found.low < found.estimate < found.high
    assert (found.n_cases, found.n_pairs, found.metric_version) == (2, 3, 3)
    assert found.candidate_mean == pytest.approx(1.9 / 3)
    assert found.reference_mean == pytest.approx(2.25 / 3)


def test_harm_is_below_zero_where_higher_is_better_and_above_where_lower_is() -> None:
    low, high = {("a", 1): 0.1, ("b", 1): 0.2, ("c", 1): 0.15}, {("a", 1): 0.8, ("b", 1): 0.95, ("c", 1): 0.9}

    worse_score, better_score = compared(low, high), compared(high, low)
    better_rate, worse_rate = compared(low, high, metric=RATE), compared(high, low, metric=RATE)

    assert worse_score.p_harm < 0.05 < better_score.p_harm
    assert worse_rate.p_harm < 0.05 < better_rate.p_harm


def test_pairs_that_lack_one_side_are_left_out() -> None:
    found = compared({("a", 1): 0.5, ("b", 1): 0.75, ("c", 1): 0.0}, {("a", 1): 1.0, ("b", 1): 1.0, ("d", 1): 0.0})

    assert [one.case for one in found.differences] == ["a", "b"]


def test_nothing_to_compare_is_unmeasured_with_the_reason() -> None:
    nothing = compared({}, {("a", 1): 1.0})
    single = compared({("a", 1): 0.5, ("a", 2): 0.5}, {("a", 1): 1.0, ("a", 2): 1.0}, family="spatial")

    assert isinstance(nothing, Unmeasured)
    assert "at least one pair; found none" in nothing.reason
    assert isinstance(single, Unmeasured)
    assert single.family == "spatial"
    assert "2" in single.reason


def test_equal_values_of_a_rate_prove_nothing_unless_the_pictures_are_the_same() -> None:
    zeros = {(case, 1): 0.0 for case in "abcd"}

    unseen = compared(zeros, zeros, metric=RATE, support=(-1.0, 1.0))
    same = compared(zeros, zeros, metric=RATE, support=(-1.0, 1.0), same_pictures=True)

    assert not unseen.identical
    assert unseen.high > 0.3
    assert same.identical
    assert (same.low, same.high) == (0.0, 0.0)


@pytest.mark.parametrize(("n_cases", "width"), [(8, 0.369), (36, 0.097)])
def test_equal_scores_of_different_pictures_show_no_more_than_that_few_cases_can_be_harmed(
    n_cases: int, width: float
) -> None:
    halves = {(f"case-{case}", seed): 0.5 for case in range(n_cases) for seed in (1, 2)}

    unseen = compared(halves, halves)
    same = compared(halves, halves, same_pictures=True)

    assert (unseen.estimate, unseen.method) == (0.0, "equal_cases")
    assert (unseen.low, unseen.high) == pytest.approx((-width, width), abs=0.0005)
    assert (same.low, same.high) == (0.0, 0.0)


def test_values_of_takes_one_metric_of_one_arm() -> None:
    def number(metric: str, arm: Arm, seed: int) -> Measurement:
        return Measurement(cell=Cell(arm=arm, case="a", seed=seed), metric=metric, metric_version=1, value=float(seed))

    items = [
        number("broken_rate", Arm.CANDIDATE, 1),
        number("broken_rate", Arm.CONTROL, 2),
        number("copy_rate", Arm.CANDIDATE, 3),
    ]

    assert values_of(items, metric="broken_rate", arm=Arm.CANDIDATE) == {("a", 1): 1.0}
