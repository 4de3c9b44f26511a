"""What an adapter has changed in a live network, read without a picture: answers to prompts, and to guidance.

Both ask the network with the adapter and without it, on noised latents that the base itself made. See
`docs/training-signals.md`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from lorabench.errors import MeasurementError
from lorabench.records.plan import GenerationSettings
from lorabench.records.record import digest_of
from lorabench.training.asking import (
    LOSS_RECIPE,
    Asking,
    ByLevel,
    Encoded,
    FloatArray,
    NoLiveAdapterError,
    Pipeline,
    Tensor,
    base_answer,
    finite_numbers,
    floats,
    live_layers,
    mean_squares,
    middle_levels,
    quiet,
    standard_error,
    switched_off,
)
from lorabench.training.objectives import NoiseDensity, denoiser_of

LOW, HIGH = 1.0, 5.0
"""Guidances between which a network's answer is read: what trainers feed, and above what samplers do."""
LEAST_ANSWER: Final = 1e-6
"""Change of the base's answer, in shares of the answer (mean squares), under which it does not hear guidance."""


class NoGuidanceInputError(MeasurementError):
    """An answer to guidance was asked of a network that is not told any."""

    def __init__(self, pipeline: str) -> None:
        super().__init__(
            f"an answer to guidance needs a network that takes guidance as an input; that of {pipeline} takes none. "
            f"Sweep the guidance of its pictures instead: lorabench sweep --axes guidance."
        )


class GuidanceUnheardError(MeasurementError):
    """The base says the same whatever guidance it is told."""

    def __init__(self, change: float) -> None:
        super().__init__(
            f"the base's answer must change with guidance; between {LOW:g} and {HIGH:g} it changes by {change:.2g} of "
            f"itself. Its guidance input is not trained, so an adapter cannot lose it."
        )
        self.change = change


def drift(
    pipeline: Pipeline,
    prompts: Sequence[str],
    *,
    settings: GenerationSettings | None = None,
    n_strata: int = 4,
    guidance_scale: float = 1.0,
    batch_size: int = 4,
    encoded: Encoded | None = None,
) -> float:
    """`drift_reading` as one number."""
    return drift_reading(
        pipeline,
        prompts,
        settings=settings,
        n_strata=n_strata,
        guidance_scale=guidance_scale,
        batch_size=batch_size,
        encoded=encoded,
    ).value


def drift_reading(
    pipeline: Pipeline,
    prompts: Sequence[str],
    *,
    settings: GenerationSettings | None = None,
    n_strata: int = 4,
    guidance_scale: float = 1.0,
    batch_size: int = 4,
    encoded: Encoded | None = None,
) -> ByLevel:
    """How far the adapter has moved the network on prompts that it should leave alone.

    E ||v_adapter - v_base||^2 / E ||v_base||^2 over prompts and levels, on noised latents that the base itself made
    in a few steps. Exactly 0 where the adapter does nothing, quadratic in small scales, 1 where the change is as
    large as the answer. The base's latents and answers are made once per `encoded`.

    Costs n_strata forwards per prompt, and the first time n_strata + 4 more.

    Args:
        pipeline: A live diffusers pipeline with its adapter switched on.
        prompts: Unrelated to the training set, without its trigger; `UNRELATED_PROMPTS` are such.
        settings: `height`, `width` and `max_sequence_length` are read.
        n_strata: Of the levels of noise.
        guidance_scale: For networks that take guidance as an input. A second reading at a high value shows whether
            guidance collapses.
        batch_size: Noised pictures per forward; keep it over a training.
        encoded: Memory to keep over a training; None makes the base's part again.

    Raises:
        NoLiveAdapterError: No adapter layer is switched on.
        MeasurementError: The base's objective is not known, or an answer is not finite.
        ValueError: No prompts.
    """
    _check(pipeline, prompts)
    settings, encoded = settings or GenerationSettings(), encoded or Encoded()
    asked = Asking(pipeline, guidance_scale=guidance_scale, batch_size=batch_size)
    moved, sizes, levels = [], [], middle_levels(NoiseDensity(), n_strata=n_strata, shift=1.0)
    with quiet(pipeline):
        for prompt in prompts:
            levels, noised, base = base_answer(asked, prompt, settings=settings, n_strata=n_strata, encoded=encoded)
            text = encoded.text(pipeline, prompt, settings=settings)
            live = asked.answers(noised, levels=levels, text=text).cpu()
            moved.append(finite_numbers(mean_squares(live - base), levels, what=f"the adapter on {prompt!r}"))
            sizes.append(finite_numbers(mean_squares(base), levels, what=f"the base on {prompt!r}"))
    value = float(np.sum(moved) / np.sum(sizes))
    residuals = (np.mean(moved, axis=1) - value * np.mean(sizes, axis=1)) / np.mean(sizes)
    return ByLevel(
        value=value,
        standard_error=standard_error(residuals),
        levels=levels,
        strata=floats(np.sum(moved, axis=0) / np.sum(sizes, axis=0)),
        n_forwards=asked.n_forwards,
    )


def takes_guidance(pipeline: Pipeline) -> bool:
    """Whether the network is told guidance as an input, as FLUX.1-dev's is."""
    return bool(getattr(denoiser_of(pipeline).config, "guidance_embeds", False))


def guidance_reading(
    pipeline: Pipeline,
    prompts: Sequence[str],
    *,
    settings: GenerationSettings | None = None,
    n_strata: int = 2,
    batch_size: int = 4,
    encoded: Encoded | None = None,
) -> ByLevel:
    """Share of the base's answer to guidance that the adapter has trained away.

    1 - sqrt(E ||v_adapter(5) - v_adapter(1)||^2 / E ||v_base(5) - v_base(1)||^2) over prompts and levels. 0: the
    network hears guidance as the base does; 1: not at all; below 0: more. The same question as `guidance_collapse`,
    which is read from pictures, at a thousandth of its cost.

    Costs 2 n_strata forwards per prompt, and the first time 2 n_strata + 4 more.

    Args:
        pipeline: A live diffusers pipeline with its adapter switched on, whose network takes guidance as an input.
        prompts: Any; those of the drift will do.
        settings: `height`, `width` and `max_sequence_length` are read.
        n_strata: Of the levels of noise.
        batch_size: Noised pictures per forward; keep it over a training.
        encoded: Memory to keep over a training; None makes the base's part again.

    Raises:
        NoLiveAdapterError: No adapter layer is switched on.
        NoGuidanceInputError: The network takes no guidance.
        GuidanceUnheardError: The base does not answer to guidance.
        MeasurementError: The base's objective is not known, or an answer is not finite.
        ValueError: No prompts.
    """
    _check(pipeline, prompts)
    if not takes_guidance(pipeline):
        raise NoGuidanceInputError(type(pipeline).__name__)
    settings, encoded = settings or GenerationSettings(), encoded or Encoded()
    asked = [Asking(pipeline, guidance_scale=guidance, batch_size=batch_size) for guidance in (LOW, HIGH)]
    mine, theirs, sizes, levels = [], [], [], middle_levels(NoiseDensity(), n_strata=n_strata, shift=1.0)
    with quiet(pipeline):
        for prompt in prompts:
            levels, noised, base_low = base_answer(
                asked[0], prompt, settings=settings, n_strata=n_strata, encoded=encoded
            )
            base_high = _base_at_high(asked[1], noised, prompt, levels=levels, settings=settings, encoded=encoded)
            text = encoded.text(pipeline, prompt, settings=settings)
            low, high = (one.answers(noised, levels=levels, text=text).cpu() for one in asked)
            mine.append(finite_numbers(mean_squares(high - low), levels, what=f"the adapter on {prompt!r}"))
            theirs.append(finite_numbers(mean_squares(base_high - base_low), levels, what=f"the base on {prompt!r}"))
            sizes.append(mean_squares(base_low))
    if (change := float(np.sum(theirs) / np.sum(sizes))) < LEAST_ANSWER:
        raise GuidanceUnheardError(change)
    return _lost(np.asarray(mine), np.asarray(theirs), levels=levels, n_forwards=sum(one.n_forwards for one in asked))


def _base_at_high(
    asked: Asking,
    noised: Tensor,
    prompt: str,
    *,
    levels: Sequence[float],
    settings: GenerationSettings,
    encoded: Encoded,
) -> Tensor:
    """The base's answer at high guidance to what it was asked at low guidance; made once."""
    size = [settings.height, settings.width, settings.max_sequence_length]
    key = digest_of(["guidance", LOSS_RECIPE, prompt, list(levels), size, asked.guidance_scale, asked.batch_size])
    if encoded.base_answer(key) is None:
        with switched_off(asked.pipe):
            text = encoded.text(asked.pipe, prompt, settings=settings)
            encoded.remember_base(key, noised, asked.answers(noised, levels=levels, text=text))
    known = encoded.base_answer(key)
    assert known is not None
    return known[1]


def _lost(mine: FloatArray, theirs: FloatArray, *, levels: Sequence[float], n_forwards: int) -> ByLevel:
    """From mean squares by prompt and stratum to what is lost; its error by the delta method."""
    share = float(mine.sum() / theirs.sum())
    error = standard_error((mine.mean(axis=1) - share * theirs.mean(axis=1)) / theirs.mean())
    return ByLevel(
        value=1.0 - math.sqrt(share),
        standard_error=None if error is None or share == 0.0 else error / (2.0 * math.sqrt(share)),
        levels=tuple(levels),
        strata=floats(1.0 - np.sqrt(mine.sum(axis=0) / theirs.sum(axis=0))),
        n_forwards=n_forwards,
    )


def _check(pipeline: Any, prompts: Sequence[str]) -> None:
    if not prompts:
        msg = "a drift needs prompts; got none. Pass UNRELATED_PROMPTS, or plain prompts of the suite."
        raise ValueError(msg)
    if not live_layers(pipeline):
        raise NoLiveAdapterError(type(pipeline).__name__)
