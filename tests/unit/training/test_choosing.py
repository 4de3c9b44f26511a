"""The choice of the best checkpoint: harmless first, then style, then the earliest among equals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lorabench.records.course import Action, Decision, Evaluation, GuardReading, Reason
from lorabench.training.choosing import Choice, choose, pareto_probabilities, readings_of, settle


def guard(gate: str, harm: float, *, error: float = 0.01, margin: float = 0.1) -> GuardReading:
    return GuardReading(
        gate=gate,
        metric=f"{gate}_score",
        harm=harm,
        standard_error=error,
        margin=margin,
        n_cases=15,
        low=harm - 2 * error,
        high=harm + 2 * error,
        p_beyond_margin=0.5,
    )


def judged(
    step: int,
    style: float | None = 0.5,
    *,
    error: float | None = 0.05,
    prompt: float | None = 0.0,
    action: Action = Action.CONTINUE,
    **more: Any,
) -> Evaluation:
    signals = {name: value for name, value in {"style": style, "style_se": error}.items() if value is not None}
    reason = Reason.HEALTHY if action is Action.CONTINUE else Reason.CONFIRMED
    decision = more.pop("decision", Decision(action=action, reason=reason, sentence="judged.", training_step=step))
    more.setdefault("screen", () if prompt is None else (guard("prompt", prompt),))
    return Evaluation(training_step=step, signals=signals, decision=decision, **more)


def chosen(*evaluations: Evaluation, **more: Any) -> Choice:
    return choose(evaluations, style_signal="style", **more)


# ---------------------------------------------------------------------------------------------- the rule


def test_earliest_within_one_standard_error_of_the_highest_style() -> None:
    choice = chosen(judged(100, 0.30), judged(200, 0.56), judged(300, 0.55), judged(400, 0.60), judged(500, 0.50))

    assert choice.training_step == 200
    assert choice.equivalents == (200, 300, 400)
    assert choice.sentence == (
        "Step 200: 5 checkpoints are within all margins; step 400 has the highest style, and step 200 is the earliest "
        "within one standard error of it."
    )


def test_standard_error_is_that_of_the_highest() -> None:
    assert chosen(judged(100, 0.5, error=9.0), judged(200, 0.6, error=0.05)).training_step == 200
    assert chosen(judged(100, 0.5, error=0.0), judged(200, 0.6, error=0.1)).training_step == 100


def test_without_a_standard_error_of_tolerance_the_highest_wins() -> None:
    choice = chosen(judged(100, 0.59), judged(200, 0.60), n_standard_errors=0.0)

    assert choice.training_step == 200
    assert choice.sentence.endswith("it has the highest style and none before it comes within one standard error.")


def test_of_equal_styles_the_earliest_wins_whatever_the_order_given() -> None:
    course = [judged(step, 0.5, error=0.0) for step in (300, 100, 200)]

    assert choose(course, style_signal="style").training_step == 100
    assert choose(course[::-1], style_signal="style") == choose(course, style_signal="style")


def test_a_signal_that_is_better_low() -> None:
    course = [judged(100, 0.9), judged(200, 0.2), judged(300, 0.5)]

    assert choose(course, style_signal="style", higher_is_better=False).training_step == 200


def test_high_style_does_not_buy_harm() -> None:
    choice = chosen(judged(100, 0.3), judged(200, 0.9, prompt=0.095))

    assert (choice.training_step, choice.passing) == (100, (100,))


def test_upper_end_decides_not_the_estimate() -> None:
    within, over = guard("prompt", 0.07), guard("prompt", 0.07, error=0.02)

    assert chosen(judged(100, screen=(within,))).training_step == 100
    assert chosen(judged(100, screen=(over,))).training_step is None


def test_upper_end_on_the_margin_passes() -> None:
    reading = GuardReading(gate="prompt", metric="m", harm=0.0, standard_error=0.05, margin=0.1, n_cases=9,
                           low=-0.1, high=0.1, p_beyond_margin=0.9)  # fmt: skip

    assert chosen(judged(100, screen=(reading,))).training_step == 100


@pytest.mark.parametrize("action", [Action.REJECT, Action.STOP])
def test_a_rejected_checkpoint_is_never_chosen(action: Action) -> None:
    assert chosen(judged(100, 0.3), judged(200, 0.9, action=action)).training_step == 100


def test_confirmation_counts_instead_of_the_screen() -> None:
    cleared = judged(200, 0.9, prompt=0.2, confirmation=(guard("prompt", 0.01),))
    caught = judged(300, 0.9, prompt=0.0, confirmation=(guard("prompt", 0.2),))

    assert chosen(judged(100, 0.1), cleared, caught).training_step == 200
    assert readings_of(caught)["prompt"].harm == 0.2


def test_step_0_is_the_base_and_never_chosen() -> None:
    assert chosen(judged(0, 0.9), judged(100, 0.1)).training_step == 100
    assert chosen(judged(0, 0.9)).sentence == "No checkpoint was evaluated yet."


def test_a_repeated_step_counts_once_with_its_last_evaluation() -> None:
    assert chosen(judged(100, 0.9), judged(100, 0.9, prompt=0.5), judged(200, 0.1)).passing == (200,)


# --------------------------------------------------------------------------------------- no checkpoint passes


def test_no_checkpoint_passes_names_the_guard_of_the_nearest_miss() -> None:
    choice = chosen(
        judged(100, screen=(guard("prompt", 0.01), guard("copy", 0.30))),
        judged(200, screen=(guard("prompt", 0.09), guard("copy", 0.00))),
        judged(300, 0.9, action=Action.REJECT),
    )

    assert (choice.training_step, choice.nearest_miss, choice.obstacle) == (None, 200, "prompt")
    assert choice.excess == pytest.approx(0.01)
    assert choice.sentence == (
        "No checkpoint passes (3 judged). The nearest is step 200: prompt is not shown to be within its margin (harm "
        "+0.09, interval +0.07 to +0.11, margin 0.1); more prompts or seeds would tell."
    )


def test_misses_are_compared_in_margins_not_in_units() -> None:
    choice = chosen(
        judged(100, screen=(guard("anatomy", 0.5, margin=0.3, error=0.0),)),
        judged(200, screen=(guard("anatomy", 0.0, margin=0.3, error=0.0), guard("prompt", 0.19, error=0.0))),
        judged(300, screen=(guard("anatomy", 0.0, margin=0.3), guard("prompt", 0.5))),
    )

    # 0.2 over a margin of 0.3 is nearer than 0.09 over one of 0.1; step 100 has no prompt reading, so it is not near.
    assert (choice.nearest_miss, choice.obstacle) == (200, "prompt")


@pytest.mark.parametrize(
    ("harm", "words"), [(0.11, "prompt is probably beyond its margin"), (0.3, "prompt is beyond its margin")]
)
def test_the_sentence_says_how_sure_the_harm_is(harm: float, words: str) -> None:
    assert words in chosen(judged(100, prompt=harm)).sentence


def test_only_rejected_checkpoints() -> None:
    decision = Decision(
        action=Action.STOP, reason=Reason.PERSISTENT, sentence="x.", training_step=100, gates=("copy", "prompt")
    )
    choice = chosen(judged(100, screen=(guard("copy", 0.3), guard("prompt", 0.5)), decision=decision))

    assert choice.obstacle == "copy"
    assert choice.excess == pytest.approx(0.22)
    assert "step 100: it was rejected (persistent)" in choice.sentence


def test_a_guard_that_was_not_measured_does_not_pass() -> None:
    blind = judged(200, 0.9, unmeasured={"copy": "the judge crashed"})
    choice = chosen(judged(100, 0.1, screen=(guard("prompt", 0.0), guard("copy", 0.0))), blind)

    assert choice.passing == (100,)
    alone = chosen(blind, guards=("prompt", "copy"))
    assert (alone.obstacle, alone.excess) == ("copy", None)
    assert "copy was not measured (the judge crashed)" in alone.sentence


def test_an_evaluation_that_failed_does_not_pass() -> None:
    decision = Decision(reason=Reason.NOT_MEASURED, sentence="Out of memory.", training_step=200)
    failed = judged(200, None, error=None, prompt=None, decision=decision)

    assert chosen(judged(100, 0.1), failed).passing == (100,)
    choice = chosen(failed)
    assert (choice.training_step, choice.obstacle) == (None, None)
    assert choice.sentence.endswith("The nearest is step 200: no guard was measured (Out of memory.).")


def test_no_guards_at_all_must_be_asked_for() -> None:
    course = [judged(100, 0.5, prompt=None), judged(200, 0.9, prompt=None)]

    assert choose(course, style_signal="style").training_step is None
    assert choose(course, style_signal="style", guards=()).training_step == 200


@pytest.mark.parametrize(("style", "error"), [(None, 0.1), (0.9, None)])
def test_style_needs_a_number_and_its_standard_error(style: float | None, error: float | None) -> None:
    choice = chosen(judged(100, style, error=error))

    assert (choice.training_step, choice.passing) == (100, (100,))
    assert "How much style each has taken on is not known, since style is not measured" in choice.sentence
    assert chosen(judged(100, style, error=error), judged(200, 0.1)).training_step == 200


def test_without_style_the_latest_that_passes_is_chosen() -> None:
    choice = chosen(*(judged(step, None) for step in (100, 200, 300, 400)), judged(500, None, prompt=0.5))

    assert (choice.training_step, choice.finalists) == (400, (400, 300, 200))
    assert choice.sentence.startswith("Step 400: 4 checkpoints are within all margins, and it is the latest of them.")


def test_checkpoints_that_a_small_screen_does_not_speak_against_are_finalists() -> None:
    wide = guard("prompt", 0.02, error=0.2)
    course = [
        judged(100, 0.3, screen=(wide,)),
        judged(200, 0.5, screen=(wide,)),
        judged(300, 0.9, screen=(guard("prompt", 0.15, error=0.2),)),
        judged(400, 0.9, screen=(wide,), action=Action.REJECT),
    ]

    choice = chosen(*course)

    assert (choice.training_step, choice.finalists) == (None, (200, 100))
    assert "not shown to be within its margin" in choice.sentence


def test_negative_tolerance_is_refused() -> None:
    with pytest.raises(ValueError, match="n_standard_errors must not be negative, got -1"):
        chosen(judged(100), n_standard_errors=-1.0)


# ------------------------------------------------------------------------------------------------- finalists


def test_finalists_are_the_chosen_one_and_the_highest() -> None:
    course = [judged(100, 0.56), judged(200, 0.57), judged(300, 0.60), judged(400, 0.58), judged(500, 0.1)]

    assert choose(course, style_signal="style").finalists == (100, 300, 400)
    assert chosen(judged(100)).finalists == (100,)


def test_settling_uses_fresh_numbers_only() -> None:
    course = [judged(100, 0.56, seeds=(1, 2)), judged(200, 0.60, seeds=(3, 4), confirmation_seeds=(5,))]
    choice = choose(course, style_signal="style")
    again = [judged(100, 0.20, seeds=(6, 7)), judged(200, 0.60, seeds=(6, 7))]

    assert choice.training_step == 100
    assert settle(choice, again, evaluations=course, style_signal="style").training_step == 200


def test_settling_may_find_that_no_finalist_passes() -> None:
    course = [judged(100, 0.5, seeds=(1,))]
    choice = choose(course, style_signal="style")

    final = settle(choice, [judged(100, 0.5, prompt=0.3, seeds=(2,))], evaluations=course, style_signal="style")

    assert (final.training_step, final.obstacle) == (None, "prompt")


def test_settling_on_used_seeds_or_without_a_finalist_is_refused() -> None:
    course = [judged(100, 0.56, seeds=(1, 2)), judged(200, 0.60, seeds=(3,), confirmation_seeds=(5,))]
    choice = choose(course, style_signal="style")

    with pytest.raises(ValueError, match=r"must be re-estimated on unused seeds; \[5\] were used to find them"):
        settle(choice, [judged(100, seeds=(5,)), judged(200, seeds=(6,))], evaluations=course, style_signal="style")
    with pytest.raises(ValueError, match=r"every finalist needs one re-estimate; finalists are \[100, 200\]"):
        settle(choice, [judged(100, seeds=(6,))], evaluations=course, style_signal="style")


# ---------------------------------------------------------------------------------------------- Pareto set


def test_pareto_set_holds_what_no_other_beats_in_both() -> None:
    choice = chosen(
        judged(100, 0.2, prompt=0.00),
        judged(200, 0.5, prompt=0.03),
        judged(300, 0.4, prompt=0.05),
        judged(400, 0.9, prompt=0.50),
        judged(500, None, prompt=-0.5),
    )

    assert choice.pareto == (100, 200, 400)


def test_equal_points_are_both_in_the_pareto_set() -> None:
    assert chosen(judged(100, 0.5), judged(200, 0.5)).pareto == (100, 200)


def test_pareto_probability_of_equal_points_and_of_a_clear_loser() -> None:
    course = [
        judged(100, 0.5, error=0.1, screen=(guard("prompt", 0.0, error=0.1),)),
        judged(200, 0.5, error=0.1, screen=(guard("prompt", 0.0, error=0.1),)),
        judged(300, -9.0, error=0.1, screen=(guard("prompt", 9.0, error=0.1),)),
    ]

    found = pareto_probabilities(course, style_signal="style", rng=np.random.default_rng(3), n_draws=4000)

    # Of two exchangeable points each is beaten in both with probability 1/4.
    assert found == {100: pytest.approx(0.75, abs=0.03), 200: pytest.approx(0.75, abs=0.03), 300: 0.0}
    assert pareto_probabilities([], style_signal="style", rng=np.random.default_rng(3)) == {}
