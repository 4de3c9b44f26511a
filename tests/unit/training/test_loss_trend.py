"""The loss of a training in words: trend, spikes, divergence, NaN, and the loss that falls while pictures get worse."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from scipy.stats import theilslopes

from lorabench.records.course import Decision, Evaluation, GuardReading
from lorabench.training.loss_trend import (
    BLOCK_SIZE,
    EXPLODING_STEPS,
    MAX_BLOCKS,
    WINDOW,
    Block,
    Direction,
    FindingKind,
    LossTrend,
    divided,
    theil_sen,
)


def noise(rng: np.random.Generator, n: int, *, kind: str = "lognormal", spread: float = 0.4) -> np.ndarray:
    """Multiplicative noise with mean 1."""
    if kind == "lognormal":
        return np.exp(spread * rng.standard_normal(n) - spread**2 / 2)
    if kind == "gamma":
        return rng.gamma(2.0, 0.5, n)
    # Flow matching: the loss has the shape of a parabola in the level of noise, plus the picture's own scatter.
    return (0.5 + 6 * (rng.random(n) - 0.5) ** 2) * rng.gamma(20.0, 0.05, n)


def fed(losses: Iterable[float], *, norms: Sequence[float] | None = None, stride: int = 1) -> LossTrend:
    trend = LossTrend()
    for index, loss in enumerate(losses):
        trend.add(1 + stride * index, loss, grad_norm=None if norms is None else norms[index])
    return trend


def kinds(trend: LossTrend) -> list[FindingKind]:
    return [finding.kind for finding in trend.reading().findings]


# ------------------------------------------------------------------------------------------------------- trend


def test_falling_loss_is_seen_through_its_noise() -> None:
    rng = np.random.default_rng(1)
    reading = fed(np.linspace(1.0, 0.4, 2000) * noise(rng, 2000)).reading()

    assert reading.direction is Direction.FALLING
    assert reading.change_low <= math.log(0.4 / 0.7) * 0.9 <= reading.change_high
    assert reading.sentence.startswith("The loss is falling over steps 1009 to 2000 (-")


def test_rising_loss_is_seen() -> None:
    reading = fed(np.linspace(1.0, 1.6, 3000) * noise(np.random.default_rng(1), 3000)).reading()

    assert reading.direction is Direction.RISING
    assert "The loss is rising over steps" in reading.sentence


def test_flat_must_be_shown() -> None:
    rng = np.random.default_rng(2)

    short, long = fed(noise(rng, 400)).reading(), fed(noise(rng, 8000, spread=0.2)).reading()

    assert short.direction is Direction.UNKNOWN
    assert "The loss's noise hides its trend" in short.sentence
    assert long.direction is Direction.FLAT
    assert "The loss has flattened" in long.sentence
    assert "changed by less than 5%" in long.sentence


def test_a_loss_that_fell_and_then_stayed_has_flattened() -> None:
    curve = np.concatenate([np.linspace(1.0, 0.5, 1000), np.full(2000, 0.5)])

    assert fed(curve * noise(np.random.default_rng(3), 3000, spread=0.1)).reading().direction is Direction.FLAT


def test_too_few_losses_say_so() -> None:
    reading = fed([0.5] * 20).reading()

    assert (reading.direction, reading.change) == (Direction.UNKNOWN, None)
    assert reading.sentence == "Too few losses to see a trend (20 of 128)."
    assert LossTrend().reading().level is None


@pytest.mark.parametrize("kind", ["lognormal", "gamma", "flow"])
def test_a_steady_loss_is_called_falling_or_rising_no_more_often_than_stated(kind: str) -> None:
    rng = np.random.default_rng(4)
    found = [fed(noise(rng, 600, kind=kind)).reading().direction for _ in range(60)]

    # 5 % are meant; 8 of 60 is the 99 % point of the binomial distribution.
    assert sum(one in (Direction.FALLING, Direction.RISING) for one in found) <= 8


def test_slope_and_interval_are_those_of_scipy() -> None:
    rng = np.random.default_rng(5)
    levels = 1.0 - 0.01 * np.arange(30) + 0.05 * rng.standard_normal(30)
    blocks = [Block(first=10 * i, last=10 * i + 9, n=10, level=level) for i, level in enumerate(levels)]

    slope = theil_sen(blocks)
    expected = theilslopes(levels, [block.middle for block in blocks], alpha=0.95)

    assert slope.estimate == pytest.approx(expected.slope)
    assert slope.low == pytest.approx(expected.low_slope, abs=2e-5)
    assert slope.high == pytest.approx(expected.high_slope, abs=2e-5)


# ------------------------------------------------------------------------------------------------------ spikes


def test_one_huge_loss_is_a_spike_and_moves_nothing() -> None:
    rng = np.random.default_rng(6)
    losses = noise(rng, 200, spread=0.2)
    trend = fed(losses)

    found = trend.add(201, 50.0)

    assert [one.kind for one in found] == [FindingKind.SPIKE]
    assert found[0].sentence.startswith("The loss of step 201 is 50, ")
    assert "times the usual" in found[0].sentence
    assert trend.add(202, 1.0) == ()
    assert trend.reading().n_spikes == 1


def test_gradient_norms_have_spikes_of_their_own() -> None:
    trend = fed([1.0] * 50, norms=[0.3] * 50)

    assert [one.sentence for one in trend.add(51, 1.0, grad_norm=30.0)] == [
        "The gradient norm of step 51 is 30, 100.0 times the usual 0.3."
    ]


def test_a_quiet_loss_has_no_spikes_below_a_factor_of_two() -> None:
    trend = fed([1.0] * 100)

    assert trend.add(101, 1.9) == ()
    assert [one.kind for one in trend.add(102, 2.1)] == [FindingKind.SPIKE]


@pytest.mark.parametrize("kind", ["lognormal", "gamma", "flow"])
def test_healthy_noise_hardly_ever_looks_like_a_spike(kind: str) -> None:
    reading = fed(noise(np.random.default_rng(7), 4000, kind=kind, spread=0.8)).reading()

    assert reading.n_spikes <= 1
    assert reading.direction in (Direction.FLAT, Direction.UNKNOWN)


def test_losses_of_zero_and_below_are_taken() -> None:
    assert fed([0.0, -1.0] * 100).reading().findings == ()


# -------------------------------------------------------------------------------------------------- divergence


def test_a_loss_that_runs_away_is_a_divergence_after_eight_steps() -> None:
    trend = fed(noise(np.random.default_rng(8), 200, spread=0.2))
    found = [trend.add(201 + k, 40.0 * 1.1**k) for k in range(20)]

    first = next(k for k, one in enumerate(found) if FindingKind.DIVERGENCE in [f.kind for f in one])
    assert first == 7
    assert "diverges at step 208: the last 8 losses are all far above" in found[7][-1].sentence
    assert FindingKind.DIVERGENCE in kinds(trend)


def test_a_loss_above_where_it_began_is_a_divergence() -> None:
    rng = np.random.default_rng(9)
    trend = fed(np.concatenate([np.full(300, 0.5), np.linspace(0.5, 1.5, 300)]) * noise(rng, 600))

    assert FindingKind.DIVERGENCE in kinds(trend)
    assert re.search(r"its loss is 1\.\d+, above the 0\.\d+ it began with", trend.reading().sentence)
    assert "Lower the learning rate." in trend.reading().sentence


@pytest.mark.parametrize("kind", ["lognormal", "gamma", "flow"])
def test_steady_losses_hardly_ever_look_like_a_divergence(kind: str) -> None:
    rng = np.random.default_rng(10)
    found = [FindingKind.DIVERGENCE in kinds(fed(noise(rng, 400, kind=kind))) for _ in range(50)]

    assert sum(found) <= 1


def explosions(losses: Iterable[float], *, norms: Sequence[float] | None = None) -> list[tuple[int, str]]:
    """Step and sentence of every explosion that is said at once."""
    trend, found = LossTrend(), []
    for step, loss in enumerate(losses, start=1):
        told = trend.add(step, loss, grad_norm=None if norms is None else norms[step - 1])
        found += [(step, one.sentence) for one in told if one.kind is FindingKind.EXPLODING]
    return found


def test_a_loss_far_above_its_median_for_twenty_steps_explodes() -> None:
    rng = np.random.default_rng(3)
    quiet = 1.0 + 0.05 * rng.standard_normal(200)

    found = explosions([*quiet, *([1.9] * 40)])

    assert [step for step, _ in found] == [200 + EXPLODING_STEPS]
    assert "The loss explodes: for 20 steps up to step 220 it lay more than 10 median deviations" in found[0][1]


def test_nineteen_steps_above_the_median_are_no_explosion() -> None:
    rng = np.random.default_rng(3)
    quiet = 1.0 + 0.05 * rng.standard_normal(200)

    assert explosions([*quiet, *([1.9] * (EXPLODING_STEPS - 1)), *quiet]) == []


def test_a_gradient_norm_explodes_while_the_loss_stays() -> None:
    rng = np.random.default_rng(4)
    norms = [*np.abs(1.0 + 0.1 * rng.standard_normal(150)), *([6.0] * 30)]

    found = explosions(1.0 + 0.05 * rng.standard_normal(180), norms=norms)

    assert [step for step, _ in found] == [150 + EXPLODING_STEPS]
    assert found[0][1].startswith("The gradient norm explodes")


def test_a_loss_that_never_moved_needs_a_tenth_to_explode() -> None:
    assert explosions([*([1.0] * 100), *([1.09] * 40)]) == []
    assert len(explosions([*([1.0] * 100), *([1.11] * 40)])) == 1


@pytest.mark.parametrize("kind", ["lognormal", "gamma", "flow"])
def test_healthy_noise_never_explodes(kind: str) -> None:
    rng = np.random.default_rng(9)

    assert explosions(np.linspace(1.2, 0.8, 5000) * noise(rng, 5000, kind=kind)) == []


def test_an_explosion_is_counted_across_a_resumed_state() -> None:
    rng = np.random.default_rng(3)
    first = fed([*(1.0 + 0.05 * rng.standard_normal(200)), *([1.9] * 10)])

    second = LossTrend.from_state(json.loads(json.dumps(first.state_dict())))
    said = [one.kind for step in range(211, 225) for one in second.add(step, 1.9)]

    assert said.count(FindingKind.EXPLODING) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_said_at_once_and_remembered(value: float) -> None:
    trend = fed([1.0] * 10)

    found = trend.add(11, value)
    trend.add(12, 1.0, grad_norm=math.nan)

    assert [one.kind for one in found] == [FindingKind.NOT_FINITE]
    assert found[0].sentence.startswith(f"The loss of step 11 is {value}: weights trained on it are lost.")
    assert [one.training_step for one in trend.reading().findings] == [11]


# ----------------------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("cut", [1, 77, BLOCK_SIZE * MAX_BLOCKS - 1])
def test_a_resumed_course_is_the_same_as_an_uninterrupted_one(cut: int) -> None:
    losses = noise(np.random.default_rng(11), BLOCK_SIZE * MAX_BLOCKS + 50)
    whole, part = fed(losses), fed(losses[:cut])

    again = LossTrend.from_state(json.loads(json.dumps(part.state_dict())))
    for index in range(cut, len(losses)):
        again.add(1 + index, losses[index])

    assert again.state_dict() == whole.state_dict()
    assert again.reading() == whole.reading()


def test_training_that_was_set_back_forgets_what_came_after() -> None:
    losses = noise(np.random.default_rng(12), 300)
    trend = fed([*losses[:200], 500.0, math.nan])
    assert {FindingKind.SPIKE, FindingKind.NOT_FINITE} <= set(kinds(trend))

    for index in range(160, 300):
        trend.add(1 + index, losses[index])

    assert trend.reading() == fed(losses).reading()
    assert kinds(trend) == []


def test_state_stays_small() -> None:
    trend = fed(noise(np.random.default_rng(13), 6000))

    state = trend.state_dict()
    assert len(state["blocks"]) < MAX_BLOCKS
    assert len(state["recent"]) == WINDOW
    assert len(json.dumps(state)) < 40_000
    assert sum(block["n"] for block in state["blocks"]) + len(state["pending"]) == 6000


# ------------------------------------------------------------------------------------------------------ divided


def judged(step: int, harms: dict[str, float], *, error: float = 0.02, margin: float = 0.1) -> Evaluation:
    readings = tuple(
        GuardReading(gate=gate, metric="m", harm=harm, standard_error=error, margin=margin, n_cases=15,
                     low=harm - 2 * error, high=harm + 2 * error, p_beyond_margin=0.5)
        for gate, harm in harms.items()
    )  # fmt: skip
    decision = Decision(sentence="x.", training_step=step)
    return Evaluation(training_step=step, screen=readings, decision=decision)


FALLING = fed(np.linspace(1.0, 0.4, 200) * noise(np.random.default_rng(14), 200, spread=0.1), stride=10)
STEADY = fed(noise(np.random.default_rng(14), 200, spread=0.1), stride=10)


def test_loss_that_falls_while_prompts_are_lost_is_said_in_words() -> None:
    course = [judged(250 * k, {"prompt": 0.025 * k, "copy": 0.0}) for k in range(1, 9)]

    finding = divided(FALLING, course)

    assert finding is not None
    assert (finding.kind, finding.training_step) == (FindingKind.DIVIDED, 2000)
    assert finding.sentence.startswith("Between steps 250 and 2000 the loss fell from ")
    assert "while pictures got worse: prompt by 0.175 (margin 0.1)." in finding.sentence
    assert "copy" not in finding.sentence


@pytest.mark.parametrize(
    ("trend", "harms"),
    [
        (STEADY, [0.03 * k for k in range(8)]),
        (FALLING, [0.0] * 8),
        (FALLING, [0.3 - 0.03 * k for k in range(8)]),
        (FALLING, [0.005 * k for k in range(8)]),
        (FALLING, [0.0, 0.3]),
    ],
    ids=["loss steady", "nothing worse", "pictures get better", "less than half a margin", "two evaluations"],
)
def test_nothing_is_said_without_both(trend: LossTrend, harms: list[float]) -> None:
    assert divided(trend, [judged(250 * (k + 1), {"prompt": harm}) for k, harm in enumerate(harms)]) is None


def test_one_bad_checkpoint_is_not_getting_worse() -> None:
    harms = [0.0, 0.0, 0.0, 0.4, 0.0, 0.0, 0.0, 0.0]

    assert divided(FALLING, [judged(250 * (k + 1), {"prompt": harm}) for k, harm in enumerate(harms)]) is None


def test_harms_without_scatter_are_read_too() -> None:
    assert divided(FALLING, [judged(250 * k, {"prompt": 0.05 * k}, error=0.0) for k in range(1, 9)]) is not None
    assert divided(FALLING, [judged(250 * k, {"prompt": 0.05}, error=0.0) for k in range(1, 9)]) is None


def test_steady_pictures_are_called_worse_no_more_often_than_stated() -> None:
    rng = np.random.default_rng(15)
    names = ("prompt", "copy", "anatomy")
    said = 0
    for _ in range(150):
        harms = 0.06 * rng.standard_normal((8, 3))
        course = [
            judged(250 * (k + 1), dict(zip(names, map(float, row), strict=True)), error=0.06, margin=0.01)
            for k, row in enumerate(harms)
        ]
        said += divided(FALLING, course) is not None

    # 5 % over three guards by Holm; 14 of 150 is the 99 % point of the binomial distribution.
    assert said <= 14
