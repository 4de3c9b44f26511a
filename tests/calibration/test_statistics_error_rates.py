"""Are decisions wrong as rarely as they say? Simulated, or enumerated where that is possible."""

import itertools
from math import comb

import numpy as np
import pytest

from lorabench.statistics.decisions import Decision, Gate, Outcome, combine, decide, decide_family
from lorabench.statistics.intervals import DifferenceInterval, t_interval
from lorabench.statistics.power import cases_needed
from lorabench.statistics.significance import sign_flip_test

LEVEL = 0.05
DESIGNS = [(10, 4), (15, 4)]
SEED_SD, CASE_SD, MARGIN = 0.03, 0.01, 0.01


def interval_of(pairs: np.ndarray) -> DifferenceInterval:
    cases = np.repeat(np.arange(len(pairs)), pairs.shape[1])
    return t_interval(pairs.ravel(), cases, confidence_level=1 - 2 * LEVEL)


def decisions(true_difference: float, design: tuple[int, int], *, margin: float, n_runs: int) -> list[Decision]:
    rng = np.random.default_rng(30)
    k, s = design
    found = []
    for _ in range(n_runs):
        pairs = true_difference + rng.normal(0, CASE_SD, (k, 1)) + rng.normal(0, SEED_SD, (k, s))
        found.append(decide(interval_of(pairs), margin=margin, higher_is_better=True))
    return found


def rate(found: list[Decision], outcome: Outcome) -> float:
    return float(np.mean([decision.outcome is outcome for decision in found]))


@pytest.mark.parametrize("design", DESIGNS)
def test_harmless_adapter_fails_at_most_at_the_level(design: tuple[int, int]) -> None:
    found = decisions(0.0, design, margin=MARGIN, n_runs=3000)

    assert rate(found, Outcome.FAIL) <= LEVEL
    assert np.mean([decision.p_harm <= LEVEL for decision in found]) == pytest.approx(LEVEL, abs=0.012)


@pytest.mark.parametrize("design", DESIGNS)
def test_level_is_used_up_where_the_margin_is_negligible(design: tuple[int, int]) -> None:
    found = decisions(0.0, design, margin=1e-9, n_runs=3000)

    assert rate(found, Outcome.FAIL) == pytest.approx(LEVEL, abs=0.012)


@pytest.mark.parametrize("design", DESIGNS)
def test_harm_at_the_margin_passes_at_the_level(design: tuple[int, int]) -> None:
    found = decisions(-MARGIN, design, margin=MARGIN, n_runs=3000)

    assert rate(found, Outcome.PASS) == pytest.approx(LEVEL, abs=0.012)


@pytest.mark.parametrize("design", DESIGNS)
def test_harm_at_the_margin_fails_less_often_than_not(design: tuple[int, int]) -> None:
    """There the adapter is worse, by just as much as is tolerated: the rule is indifferent by design."""
    found = decisions(-MARGIN, design, margin=MARGIN, n_runs=3000)

    assert 0.3 < rate(found, Outcome.FAIL) < 0.52


def test_margin_that_is_clearly_broken_fails_and_never_passes() -> None:
    found = decisions(-0.03, (15, 4), margin=MARGIN, n_runs=1000)

    assert rate(found, Outcome.FAIL) > 0.97
    assert rate(found, Outcome.PASS) == 0


def test_number_of_cases_asked_for_decides_as_often_as_promised() -> None:
    sd = float(np.hypot(CASE_SD, SEED_SD / 2))
    k = cases_needed(sd, MARGIN, significance_level=LEVEL, power=0.9)

    found = decisions(0.0, (k, 4), margin=MARGIN, n_runs=2000)

    assert rate(found, Outcome.PASS) == pytest.approx(0.9, abs=0.025)


@pytest.mark.parametrize("sd", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("confidence_level", [0.9, 0.95])
def test_number_of_cases_asked_for_by_a_bounded_metric_decides_as_often_as_promised(
    sd: float, confidence_level: float
) -> None:
    rng = np.random.default_rng(36)

    def draw(k: int) -> np.ndarray:
        return np.clip(rng.normal(0, sd, k), -1, 1)

    def decided(means: np.ndarray) -> Decision:
        interval = t_interval(means, range(means.size), confidence_level=confidence_level, support=(-1.0, 1.0))
        return decide(interval, margin=0.1, higher_is_better=True)

    pilot = draw(16)
    further = decided((pilot - pilot.mean()) / pilot.std(ddof=1) * sd).cases_needed
    assert further is not None

    passed = [decided(draw(16 + further)).outcome is Outcome.PASS for _ in range(300)]
    assert np.mean(passed) > 0.83
    fewer = [decided(draw(8 + further // 2)).outcome is Outcome.PASS for _ in range(300)]
    assert np.mean(fewer) < 0.6


def correlated_gates(rng: np.random.Generator, true_differences: tuple[float, ...], margin: float) -> dict[str, Gate]:
    common = rng.normal(0, 1, 12)
    own = rng.normal(0, 1, (len(true_differences), 12))
    return {
        str(i): Gate(interval_of((d + common + own[i])[:, np.newaxis]), margin, higher_is_better=True)
        for i, d in enumerate(true_differences)
    }


@pytest.fixture(scope="module")
def harmless_families() -> list[dict[str, Gate]]:
    rng = np.random.default_rng(31)
    return [correlated_gates(rng, (0, 0, 0, 0), 1e-9) for _ in range(3000)]


def test_harmless_adapter_fails_any_of_four_gates_at_most_at_the_level(
    harmless_families: list[dict[str, Gate]],
) -> None:
    any_fail = [
        any(d.outcome is Outcome.FAIL for d in decide_family(gates, significance_level=LEVEL).values())
        for gates in harmless_families
    ]

    assert 0.025 < np.mean(any_fail) <= LEVEL + 0.004


def test_without_holm_it_would_fail_more_often(harmless_families: list[dict[str, Gate]]) -> None:
    """The fault that the family prevents; if this rate were low, the test above could not fail."""
    any_fail = [
        any(
            decide(gate.interval, margin=gate.margin, higher_is_better=True).outcome is Outcome.FAIL
            for gate in gates.values()
        )
        for gates in harmless_families
    ]

    assert np.mean(any_fail) > 0.1


def test_one_harmed_gate_of_four_lets_the_whole_pass_at_most_at_the_level() -> None:
    """The others are so good that they always pass: the worst case for an intersection claim."""
    rng = np.random.default_rng(32)
    passed = []
    for _ in range(2000):
        gates = correlated_gates(rng, (-2.0, 9.0, 9.0, 9.0), 2.0)
        decided = decide_family(gates, significance_level=LEVEL).values()
        passed.append(combine([decision.outcome for decision in decided]) is Outcome.PASS)

    assert np.mean(passed) == pytest.approx(LEVEL, abs=0.015)


def false_pass_of_rare_harm(n_cases: int, margin: float, *, level: float, support: tuple[float, float] | None) -> float:
    """Probability, enumerated, that harm of just the margin passes when a harmed case is lost on all seeds."""
    total = 0.0
    for n_lost in range(1 + int(n_cases * margin)):
        lost = -(np.arange(n_cases) < n_lost).astype(float)
        interval = t_interval(lost, range(n_cases), confidence_level=1 - 2 * level, support=support)
        if decide(interval, margin=margin, higher_is_better=True).outcome is Outcome.PASS:
            total += comb(n_cases, n_lost) * margin**n_lost * (1 - margin) ** (n_cases - n_lost)
    return total


@pytest.mark.parametrize("level", [0.05, 0.025])
@pytest.mark.parametrize("margin", [0.02, 0.05, 0.1, 0.2])
def test_rare_harm_at_the_margin_passes_at_most_at_the_level(level: float, margin: float) -> None:
    found = [
        false_pass_of_rare_harm(n_cases, margin, level=level, support=(-1.0, 1.0)) for n_cases in range(10, 220, 12)
    ]

    assert max(found) <= level
    assert any(found)


def test_rare_harm_would_pass_far_more_often_without_support() -> None:
    assert false_pass_of_rare_harm(60, 0.05, level=LEVEL, support=None) > 0.15
    assert false_pass_of_rare_harm(12, 0.05, level=LEVEL, support=None) > 0.5  # "identical", though only unseen


@pytest.mark.parametrize("lost_and_gained", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("n_seeds", [1, 4])
def test_yes_or_no_metric_without_harm_fails_at_most_at_the_level(lost_and_gained: float, n_seeds: int) -> None:
    rng = np.random.default_rng(33)
    fails = 0
    for _ in range(800):
        draws = rng.random((12, n_seeds))
        pairs = (draws > 1 - lost_and_gained).astype(float) - (draws < lost_and_gained)
        cases = np.repeat(np.arange(12), n_seeds)
        interval = t_interval(pairs.ravel(), cases, confidence_level=0.9, support=(-1.0, 1.0))
        fails += decide(interval, margin=0.01, higher_is_better=True).outcome is Outcome.FAIL

    assert fails / 800 <= LEVEL + 0.015


def test_sign_flip_p_values_are_uniform_to_the_last_pattern() -> None:
    """Over all sign patterns of distinct sums, the one-sided p-values are 1/256, 2/256, ..., 1."""
    magnitudes = np.random.default_rng(34).gamma(2.0, 1.0, 8)

    p_values = [
        sign_flip_test(magnitudes * signs, alternative="less").p_value
        for signs in itertools.product((-1.0, 1.0), repeat=8)
    ]

    assert sorted(p_values) == [(i + 1) / 256 for i in range(256)]


@pytest.mark.parametrize("alternative", ["less", "greater", "two-sided"])
def test_sign_flip_with_ties_stays_at_or_below_every_level(alternative: str) -> None:
    magnitudes = np.array([0.25, 0.25, 0.25, 0.5, 0.5, 1.0, 0.0, 0.75])

    p_values = np.array(
        [
            sign_flip_test(magnitudes * signs, alternative=alternative).p_value
            for signs in itertools.product((-1.0, 1.0), repeat=8)
        ]
    )

    assert all(np.mean(p_values <= p) <= p + 1e-12 for p in p_values)


def test_drawn_sign_flips_keep_their_level() -> None:
    rng = np.random.default_rng(35)
    p_values = [
        sign_flip_test(rng.standard_normal(20), alternative="less", rng=rng, n_resamples=199).p_value
        for _ in range(2000)
    ]

    assert np.mean(np.array(p_values) <= LEVEL) == pytest.approx(LEVEL, abs=0.015)
