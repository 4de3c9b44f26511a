"""Is a graded score shown to be harmless as rarely as it should be, where a few cases lose much and the rest nothing?

Every number of losing cases is enumerated; nothing is drawn.
"""

from math import comb

import pytest

from lorabench.evaluation.comparing import compare
from lorabench.records.comparison import Comparison
from lorabench.records.measurement import Metric
from lorabench.records.plan import Arm

SCORE = Metric(name="prompt_following_score", version=1, higher_is_better=True, unit="share")
MARGIN = 0.1
# Share of cases that lose, and how much each of them loses: together the margin, or twice that, or half.
AT_THE_MARGIN = [(0.1, 1.0), (0.2, 0.5), (0.4, 0.25)]
OTHERS = [(0.2, 1.0), (0.4, 0.5), (0.05, 1.0), (0.1, 0.5)]
N_CASES = [5, 8, 15, 30, 60]


def intervals(n_cases: int, loss: float, *, same_pictures: bool = False) -> list[Comparison]:
    """With 0, 1, ... all of the cases losing."""
    found = []
    for n_losing in range(n_cases + 1):
        reference = {(f"case-{case}", 1): 1.0 for case in range(n_cases)}
        candidate = {key: 1.0 - loss * (case < n_losing) for case, key in enumerate(reference)}
        one = compare(
            SCORE,
            candidate,
            reference,
            candidate_arm=Arm.CANDIDATE,
            reference_name="B1",
            family=None,
            confidence_level=0.95,
            same_pictures=same_pictures and n_losing == 0,
        )
        assert isinstance(one, Comparison)
        found.append(one)
    return found


def likelihood(n_cases: int, share: float) -> list[float]:
    return [comb(n_cases, m) * share**m * (1 - share) ** (n_cases - m) for m in range(n_cases + 1)]


@pytest.mark.parametrize("n_cases", N_CASES)
@pytest.mark.parametrize(("share", "loss"), AT_THE_MARGIN)
def test_harm_at_the_margin_in_a_few_cases_is_rarely_called_harmless(n_cases: int, share: float, loss: float) -> None:
    passed = [one.low > -MARGIN for one in intervals(n_cases, loss)]

    assert sum(p for p, wrong in zip(likelihood(n_cases, share), passed, strict=True) if wrong) <= 0.06


@pytest.mark.parametrize("n_cases", N_CASES)
@pytest.mark.parametrize(("share", "loss"), AT_THE_MARGIN + OTHERS)
def test_interval_holds_the_harm_of_a_few_cases(n_cases: int, share: float, loss: float) -> None:
    held = [one.low <= -share * loss + 1e-12 and -share * loss - 1e-12 <= one.high for one in intervals(n_cases, loss)]

    assert sum(p for p, holds in zip(likelihood(n_cases, share), held, strict=True) if holds) >= 0.9


def test_without_a_bound_for_cases_that_are_all_equal_it_would_not() -> None:
    """The fault that is prevented: [0, 0] where no loss was seen; if this were rare, the tests above could not fail."""
    passed = [one.low > -MARGIN for one in intervals(8, 1.0, same_pictures=True)]

    assert sum(p for p, wrong in zip(likelihood(8, 0.1), passed, strict=True) if wrong) > 0.4
