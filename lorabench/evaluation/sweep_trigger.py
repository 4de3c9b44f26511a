"""Looks with trigger, without it and with a placebo → findings: what the trigger does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.evaluation.sweep_estimates import as_comparison, estimated, interval_of, table, turned
from lorabench.evaluation.sweep_panel import Key, Look, pair_distances
from lorabench.evaluation.sweep_style import StyleAxis
from lorabench.metrics.reading import Missing
from lorabench.metrics.strength import style_positions
from lorabench.metrics.trigger import (
    LEAST_CHANGE,
    LEAST_EFFECT,
    MOST_LEAK,
    STYLE_LEAK,
    TRIGGER_SHORTFALL,
    Bounds,
    picture_change,
    read_trigger,
    trigger_effect,
)
from lorabench.records.comparison import Comparison
from lorabench.records.measurement import Unmeasured
from lorabench.records.sweep import Estimated, TriggerFindings

if TYPE_CHECKING:
    from lorabench.evaluation.engine import Run
    from lorabench.evaluation.indices import Resampling
    from lorabench.statistics.intervals import DifferenceInterval

Floats = NDArray[np.float64]
SENTENCES: Final = {
    "works": "The trigger works: with it the style is there, without it there is little of it.",
    "leaks": "The trigger works, and the style leaks: much of it is there without the trigger too.",
    "always on": "The style is always on: the trigger adds little. Often acceptable; its notes should say so.",
    "weak": "The adapter is weak: there is little of the style with the trigger or without it.",
    "undecided": "What the trigger does is not decided; more cases would tell.",
}


@dataclass(frozen=True, slots=True)
class TriggerLooks:
    """Everything the trigger axis is read from."""

    run: Run
    candidate: Look
    neutral: Look
    placebo: Look | None
    placebo_phrase: str
    """Or why there is none."""
    axis: StyleAxis | Missing
    resampling: Resampling


@dataclass(frozen=True, slots=True)
class TriggerRead:
    """What the trigger axis gives."""

    findings: TriggerFindings
    found: Mapping[str, Comparison | Unmeasured]


def no_trigger(reason: str) -> TriggerRead:
    """What a sweep says of a candidate that has no trigger."""
    found = {
        "trigger": Unmeasured(metric=TRIGGER_SHORTFALL.name, reason=reason),
        "style-leak": Unmeasured(metric=STYLE_LEAK.name, reason=reason),
    }
    return TriggerRead(TriggerFindings(placebo="", sentence=reason), found)


def read_triggers(looks: TriggerLooks) -> TriggerRead:
    """Read the trigger axis.

    Args:
        looks: The pictures of candidate, neutral and placebo sides.
    """
    change = _picture_change(looks)
    axis = looks.axis
    if isinstance(axis, Missing):
        read = no_trigger(axis.reason)
        findings = read.findings.model_copy(update={"placebo": looks.placebo_phrase, "picture_change": change})
        return TriggerRead(findings, read.found)
    effect = _contrast(looks, looks.candidate, looks.neutral, limit=LEAST_EFFECT)
    leak = axis.position(looks.neutral, resampling=looks.resampling, limit=MOST_LEAK)
    candidate = axis.position(looks.candidate, resampling=looks.resampling)
    placebo = None if looks.placebo is None else _contrast(looks, looks.placebo, looks.neutral)
    findings = TriggerFindings(
        placebo=looks.placebo_phrase,
        candidate=estimated(candidate),
        neutral=estimated(leak),
        effect=estimated(effect),
        placebo_effect=None if placebo is None else estimated(placebo),
        picture_change=change,
    )
    shortfall = effect if isinstance(effect, Missing) else turned(effect, 1.0)
    found = {
        "trigger": as_comparison(TRIGGER_SHORTFALL, shortfall),
        "style-leak": as_comparison(STYLE_LEAK, leak),
    }
    return TriggerRead(_with_reading(findings), found)


def _with_reading(findings: TriggerFindings) -> TriggerFindings:
    effect, candidate, neutral = findings.effect, findings.candidate, findings.neutral
    if effect is None or candidate is None or neutral is None:
        return findings
    reading = read_trigger(_bounds(effect), candidate=_bounds(candidate), neutral=_bounds(neutral))
    sentences = [SENTENCES[reading]]
    placebo, change = findings.placebo_effect, findings.picture_change
    if placebo is not None and reading in ("works", "leaks") and placebo.low > effect.value / 2:
        sentences.append("A meaningless word in its place does more than half as much: it is not the word that works.")
    if change is not None and change.high < LEAST_CHANGE:
        sentences.append("Pictures with and without it are the same but for a tenth of what another seed changes.")
    return findings.model_copy(update={"reading": reading, "sentence": " ".join(sentences)})


def _bounds(one: Estimated) -> Bounds:
    return Bounds(one.value, one.low, one.high)


def _contrast(looks: TriggerLooks, one: Look, other: Look, *, limit: float = 0.0) -> DifferenceInterval | Missing:
    """Style of one look over that of another, in positions; p-values are about `limit`."""
    axis = looks.axis
    assert isinstance(axis, StyleAxis)
    training = axis.training
    data = table([axis.control, axis.ruler.distances(one), axis.ruler.distances(other)])

    def statistic(means: Floats) -> Floats:
        first, second = (style_positions(means[:, place], control=means[:, 0], training=training) for place in (1, 2))
        return trigger_effect(first, second)

    return interval_of(data, statistic, name=TRIGGER_SHORTFALL.name, resampling=looks.resampling, limit=limit)


def _picture_change(looks: TriggerLooks) -> Estimated | None:
    """Distance between pictures with and without trigger over that between seeds; None with one seed."""
    own, without = looks.candidate.image_of(), looks.neutral.image_of()
    keys = sorted(own.keys() & without.keys())
    by_case: dict[str, list[Key]] = {}
    for key in keys:
        by_case.setdefault(key[0], []).append(key)
    rows = [(key, same[(place + 1) % len(same)]) for same in by_case.values() for place, key in enumerate(same)]
    if not rows or any(key == other for key, other in rows):
        return None
    with_without, _ = pair_distances(looks.run, [(own[key], without[key]) for key, _ in rows])
    seeds, _ = pair_distances(looks.run, [(own[key], own[other]) for key, other in rows])
    columns = [dict(zip([key for key, _ in rows], values.tolist(), strict=True)) for values in (with_without, seeds)]
    found = interval_of(
        table(columns),
        lambda means: picture_change(means[:, 0], means[:, 1]),
        name="picture_change",
        resampling=looks.resampling,
    )
    return estimated(found)
