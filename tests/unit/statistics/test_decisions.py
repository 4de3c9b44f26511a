from dataclasses import replace

import numpy as np
import pytest

from lorabench.statistics.decisions import (
    GATE_ORDER,
    Decision,
    Gate,
    Outcome,
    combine,
    decide,
    decide_family,
    gatekeep,
    holm,
)
from lorabench.statistics.intervals import DifferenceInterval, t_interval

RARE = (-1.0, 1.0)


def interval_of(means: list[float], *, support: tuple[float, float] | None = None) -> DifferenceInterval:
    return t_interval(means, range(len(means)), confidence_level=0.9, support=support)


def around(estimate: float, *, n: int = 12, spread: float = 0.01) -> DifferenceInterval:
    """Case means with exactly this mean and this standard deviation."""
    shape = np.linspace(-1, 1, n)
    return interval_of(list(estimate + spread * shape / shape.std(ddof=1)))


def decision(outcome: Outcome) -> Decision:
    return Decision(outcome, p_harm=0.5, harm_level=0.05, identical=False, cases_needed=None, pairs_needed=None)


@pytest.mark.parametrize(
    ("estimate", "outcome"),
    [
        (0.10, Outcome.PASS),
        (0.00, Outcome.PASS),
        (-0.04, Outcome.PASS),
        (-0.048, Outcome.INCONCLUSIVE),  # better than the margin, not shown to be
        (-0.05 - 1e-9, Outcome.FAIL),
        (-0.10, Outcome.FAIL),
    ],
)
def test_precise_comparison_is_decided_by_the_margin(estimate: float, outcome: Outcome) -> None:
    assert decide(around(estimate), margin=0.05, higher_is_better=True).outcome is outcome


@pytest.mark.parametrize("estimate", [-0.2, -0.05, 0.0, 0.04])
def test_noisy_comparison_decides_nothing(estimate: float) -> None:
    verdict = decide(around(estimate, spread=1.0), margin=0.05, higher_is_better=True)

    assert verdict.outcome is Outcome.INCONCLUSIVE


def test_large_drop_that_is_not_significant_does_not_fail() -> None:
    assert decide(around(-0.2, spread=0.5), margin=0.05, higher_is_better=True).outcome is Outcome.INCONCLUSIVE


def test_significant_drop_within_the_margin_passes() -> None:
    verdict = decide(around(-0.02), margin=0.05, higher_is_better=True)

    assert verdict.outcome is Outcome.PASS
    assert verdict.p_harm < 0.001


@pytest.mark.parametrize("estimate", [-0.2, -0.045, 0.0, 0.3])
def test_direction_of_the_metric_only_mirrors_the_decision(estimate: float) -> None:
    means = list(np.r_[estimate - 0.02, estimate, estimate + 0.05])

    straight = decide(interval_of(means), margin=0.05, higher_is_better=True)
    mirrored = decide(interval_of([-mean for mean in means]), margin=0.05, higher_is_better=False)

    assert mirrored.outcome is straight.outcome
    assert mirrored.p_harm == pytest.approx(straight.p_harm)
    assert mirrored.cases_needed == straight.cases_needed


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_identical_arms_pass_and_say_so(higher_is_better: bool) -> None:
    verdict = decide(interval_of([0.0] * 5), margin=0.001, higher_is_better=higher_is_better)

    assert verdict.outcome is Outcome.PASS
    assert verdict.identical
    assert (verdict.p_harm, verdict.cases_needed) == (1.0, None)


def test_event_not_seen_in_few_cases_passes_no_small_margin() -> None:
    verdict = decide(interval_of([0.0] * 12, support=RARE), margin=0.05, higher_is_better=True)

    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert not verdict.identical
    assert verdict.cases_needed == 59 - 12  # the least n with 0.95^n < 0.05


def test_event_not_seen_in_as_many_cases_as_asked_for_passes() -> None:
    assert decide(interval_of([0.0] * 59, support=RARE), margin=0.05, higher_is_better=True).outcome is Outcome.PASS
    assert decide(interval_of([0.0] * 58, support=RARE), margin=0.05, higher_is_better=True).cases_needed == 1


def test_every_case_lost_fails() -> None:
    assert decide(interval_of([-1.0] * 5, support=RARE), margin=0.05, higher_is_better=True).outcome is Outcome.FAIL


def test_two_cases_lost_of_two_need_three_more() -> None:
    verdict = decide(interval_of([-1.0] * 2, support=RARE), margin=0.05, higher_is_better=True)

    assert (verdict.outcome, verdict.cases_needed) == (Outcome.INCONCLUSIVE, 3)  # 2^-5 < 0.05 < 2^-4


def test_inconclusive_says_how_many_cases_would_pass_it() -> None:
    # (1.644854 + 1.281552)^2 (0.1 / 0.04)^2 + 1.644854^2 / 2 = 54.9, so 55 cases, 43 further ones.
    verdict = decide(around(-0.01, spread=0.1), margin=0.05, higher_is_better=True)

    assert (verdict.outcome, verdict.cases_needed, verdict.pairs_needed) == (Outcome.INCONCLUSIVE, 43, 43)


def test_inconclusive_says_how_many_cases_would_fail_it() -> None:
    # (1.644854 + 1.281552)^2 (0.5 / 0.2)^2 + 1.644854^2 / 2 = 54.9.
    verdict = decide(around(-0.2, spread=0.5), margin=0.05, higher_is_better=True)

    assert (verdict.outcome, verdict.cases_needed) == (Outcome.INCONCLUSIVE, 43)


def test_further_pairs_follow_the_seeds_per_case() -> None:
    cases = np.repeat(np.arange(12), 4)
    shape = np.repeat(np.linspace(-1, 1, 12), 4)
    interval = t_interval(-0.01 + 0.2 * shape, cases, confidence_level=0.9)

    verdict = decide(interval, margin=0.05, higher_is_better=True)

    assert verdict.cases_needed is not None
    assert verdict.pairs_needed == 4 * verdict.cases_needed


def test_estimate_on_the_margin_is_decided_by_no_number_of_cases() -> None:
    interval = replace(around(-0.05, spread=0.1), estimate=-0.05)

    verdict = decide(interval, margin=0.05, higher_is_better=True)

    assert (verdict.outcome, verdict.cases_needed, verdict.pairs_needed) == (Outcome.INCONCLUSIVE, None, None)


def test_width_stands_for_a_spread_that_was_not_kept() -> None:
    kept = around(-0.01, spread=0.1)

    verdict = decide(replace(kept, spread=None), margin=0.05, higher_is_better=True)

    assert verdict == decide(kept, margin=0.05, higher_is_better=True)


@pytest.mark.parametrize("margin", [0.0, -0.1, float("nan")])
def test_margin_must_be_positive(margin: float) -> None:
    with pytest.raises(ValueError, match=r"margin must be positive, got .*State the largest harm tolerated"):
        decide(around(0.0), margin=margin, higher_is_better=True)


def test_harm_level_must_be_a_share() -> None:
    with pytest.raises(ValueError, match="harm_level must lie between 0 and 1, got 5"):
        decide(around(0.0), margin=0.1, higher_is_better=True, harm_level=5)


def test_holm_by_hand() -> None:
    steps = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}, 0.05)

    assert list(steps) == ["a", "b", "c", "d"]
    assert {name: step.rejected for name, step in steps.items()} == {"a": True, "b": False, "c": False, "d": True}
    assert [steps[name].p_adjusted for name in "dacb"] == pytest.approx([0.02, 0.03, 0.06, 0.06])
    assert [steps[name].level for name in "dacb"] == pytest.approx([0.05 / 4, 0.05 / 3, 0.05 / 2, 0.05 / 2])


def test_holm_rejects_nothing_behind_the_first_that_stays() -> None:
    """0.04 is below 0.05 / 1, yet it may not be rejected after 0.03 was not."""
    assert not any(step.rejected for step in holm({"a": 0.03, "b": 0.04}, 0.05).values())


def test_holm_rejects_exactly_where_the_level_is_met() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        p_values = {str(i): float(p) for i, p in enumerate(rng.random(4) ** 4)}
        for step in holm(p_values, 0.05).values():
            assert step.rejected == (step.p_value <= step.level) == (step.p_adjusted <= 0.05)


def test_holm_refuses_what_is_no_p_value() -> None:
    with pytest.raises(ValueError, match=r"p-values must lie between 0 and 1; got \{'b': nan\}. Leave unmeasured"):
        holm({"a": 0.1, "b": float("nan")}, 0.05)
    with pytest.raises(ValueError, match="significance_level must lie between 0 and 1"):
        holm({"a": 0.1}, 5)


def family(*estimates: float, spread: float = 0.1) -> dict[str, Gate]:
    return {
        f"gate{i}": Gate(around(estimate, spread=spread), margin=0.01, higher_is_better=True)
        for i, estimate in enumerate(estimates)
    }


def test_harm_that_is_significant_alone_may_not_be_in_a_family() -> None:
    # t = 0.06 sqrt(12) / 0.1 = 2.08, p = 0.031: above 0.05 / 2.
    alone = decide_family(family(-0.06), significance_level=0.05)
    beside_another = decide_family(family(-0.06, 0.0), significance_level=0.05)

    assert alone["gate0"].outcome is Outcome.FAIL
    assert beside_another["gate0"].outcome is Outcome.INCONCLUSIVE
    assert beside_another["gate0"].harm_level == 0.025
    assert beside_another["gate0"].p_harm == alone["gate0"].p_harm


def test_pass_of_a_gate_does_not_depend_on_its_family() -> None:
    alone = decide_family(family(0.0, spread=0.01), significance_level=0.05)
    beside_others = decide_family(family(0.0, -0.5, 0.1, 0.0, spread=0.01), significance_level=0.05)

    assert alone["gate0"].outcome is beside_others["gate0"].outcome is Outcome.PASS


def test_family_that_needs_more_cases_asks_for_holms_level() -> None:
    alone = decide_family(family(-0.04), significance_level=0.05)["gate0"]
    beside_others = decide_family(family(-0.04, 0.0, 0.0, 0.0), significance_level=0.05)["gate0"]

    assert alone.outcome is beside_others.outcome is Outcome.INCONCLUSIVE
    assert alone.cases_needed is not None
    assert beside_others.cases_needed is not None
    assert beside_others.cases_needed > alone.cases_needed


def test_family_of_five_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at most 4 gates, got 5: gate0, .*Make the others secondary"):
        decide_family(family(0, 0, 0, 0, 0), significance_level=0.05)


def test_gates_behind_a_failure_are_not_tested() -> None:
    decisions = {
        "style": decision(Outcome.FAIL),
        "copy": decision(Outcome.FAIL),
        "broken": decision(Outcome.PASS),
        "prompt": decision(Outcome.PASS),
    }

    kept = gatekeep(GATE_ORDER, decisions)

    assert list(kept.decisions) == ["broken", "copy"]
    assert kept.blocked_by == "copy"
    assert kept.not_tested == ("prompt", "style")


def test_gates_behind_an_inconclusive_one_are_tested() -> None:
    decisions = {"broken": decision(Outcome.INCONCLUSIVE), "prompt": decision(Outcome.FAIL)}

    kept = gatekeep(GATE_ORDER, decisions)

    assert list(kept.decisions) == ["broken", "prompt"]
    assert (kept.blocked_by, kept.not_tested) == ("prompt", ())


def test_without_failure_all_gates_count() -> None:
    kept = gatekeep(GATE_ORDER, {"anatomy": decision(Outcome.PASS)})

    assert (list(kept.decisions), kept.blocked_by, kept.not_tested) == (["anatomy"], None, ())


@pytest.mark.parametrize("order", [("broken", "copy"), ("palette", "copy", "palette")])
def test_order_must_name_every_gate_once(order: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"order must name every gate once; got order .* and gates palette"):
        gatekeep(order, {"palette": decision(Outcome.PASS)})


@pytest.mark.parametrize(
    ("outcomes", "whole"),
    [
        ("PASS PASS", "PASS"),
        ("PASS INCONCLUSIVE", "INCONCLUSIVE"),
        ("INCONCLUSIVE FAIL PASS", "FAIL"),
        ("", "INCONCLUSIVE"),
    ],
)
def test_whole_passes_only_if_every_gate_does(outcomes: str, whole: str) -> None:
    assert combine([Outcome(name) for name in outcomes.split()]) is Outcome(whole)
