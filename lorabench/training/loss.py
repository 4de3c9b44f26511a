"""The loss of a live network on fixed noise: a cheap signal that costs no picture.

The loss that a training loop prints is noisy because picture, level and noise are drawn anew at each step. Here they
are fixed: strata of equal share in the levels of noise, noise decided by picture and stratum, each noise used with
both signs. See `docs/training-signals.md`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt

from lorabench.errors import MeasurementError
from lorabench.generation.protocol import Picture
from lorabench.records.plan import GenerationSettings
from lorabench.records.record import Record, UnitFloat, digest_of
from lorabench.training.asking import (
    LOSS_RECIPE,
    Asking,
    ByLevel,
    Encoded,
    Pipeline,
    Tensor,
    finite_numbers,
    floats,
    middle_levels,
    noise_of,
    picture_digest,
    quiet,
    standard_error,
)
from lorabench.training.objectives import NoiseDensity


class OtherLossError(MeasurementError):
    """Two readings that nothing but the weights should tell apart, and more does."""

    def __init__(self) -> None:
        super().__init__(
            "two loss readings can be compared only on the same pictures, captions, levels and noise; these two have "
            "different identities. Take the reading at step 0 again."
        )


class LossReading(Record):
    """The loss on fixed noise: one number per picture and level, mean over both signs of the noise."""

    identity: str
    """Digest of pictures, captions, levels and recipe: readings with another identity cannot be compared."""
    levels: tuple[UnitFloat, ...]
    """Noise level in the middle of each stratum, low to high; 0 is clean. The first picture's, where sizes differ."""
    values: tuple[tuple[NonNegativeFloat, ...], ...]
    """Mean squared error by picture (outer) and stratum (inner)."""
    n_forwards: NonNegativeInt
    """Noised pictures that went through the network."""

    @property
    def strata(self) -> tuple[float, ...]:
        """Mean over pictures, by stratum."""
        return floats(np.mean(self.values, axis=0))

    @property
    def pictures(self) -> tuple[float, ...]:
        """Mean over strata, by picture."""
        return floats(np.mean(self.values, axis=1))

    @property
    def mean(self) -> float:
        """Mean over everything."""
        return float(np.mean(self.values))


def denoising_loss(
    pipeline: Pipeline,
    pictures: Sequence[Picture],
    captions: Sequence[str],
    *,
    n_strata: int = 8,
    density: NoiseDensity | None = None,
    settings: GenerationSettings | None = None,
    guidance_scale: float = 1.0,
    batch_size: int = 4,
    encoded: Encoded | None = None,
) -> LossReading:
    """The loss of the live network on fixed pictures, levels and noise.

    Each stratum is read at its middle: the level below which lies a share of (k - 1/2) / n_strata of the density.
    Costs 2 * n_strata forwards per picture. Nothing of a picture's value depends on the other pictures.

    Args:
        pipeline: A live diffusers pipeline, adapter switched as it shall be read.
        pictures: (h, w, 3) uint8, of a size that the base takes; sizes may differ.
        captions: One per picture, used as they are: no dropout, no shuffling.
        n_strata: Of the levels of noise.
        density: How training draws levels; None draws evenly, shifted as the base's scheduler does.
        settings: Only `max_sequence_length` is read.
        guidance_scale: For networks that take guidance as an input; 1 is what trainers feed.
        batch_size: Noised pictures per forward; keep it over a training, for results may differ in the last bits.
        encoded: Memory to keep over a training; None encodes everything again.

    Raises:
        MeasurementError: The base's objective is not known, an encoder is gone, or a loss is not finite.
        ValueError: No pictures, or not one caption per picture.
    """
    if not pictures or len(pictures) != len(captions):
        msg = f"a loss needs pictures with one caption each; got {len(pictures)} pictures, {len(captions)} captions."
        raise ValueError(msg)
    settings, encoded, density = settings or GenerationSettings(), encoded or Encoded(), density or NoiseDensity()
    asked = Asking(pipeline, guidance_scale=guidance_scale, batch_size=batch_size)
    rows, all_levels = [], []
    with quiet(pipeline):
        for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
            latents = encoded.latents(pipeline, picture)
            levels = middle_levels(density, n_strata=n_strata, shift=asked.objective.shift(pipeline, latents))
            all_levels.append(levels)
            noise = _antithetic(latents, key=picture_digest(picture), n_strata=n_strata)
            errors = asked.squared_errors(
                latents, noise, levels=levels * 2, text=encoded.text(pipeline, caption, settings=settings)
            )
            rows.append(finite_numbers(errors.reshape(2, n_strata).mean(axis=0), levels, what=f"picture {index}"))
    facts = [LOSS_RECIPE, density.model_dump(mode="json"), n_strata, guidance_scale, settings.max_sequence_length]
    identity = digest_of([*facts, [picture_digest(picture) for picture in pictures], list(captions)])
    return LossReading(identity=identity, levels=all_levels[0], values=tuple(rows), n_forwards=asked.n_forwards)


def relative_loss(now: LossReading, first: LossReading) -> ByLevel:
    """The loss as a share of that at step 0, whole and by level.

    The whole is the ratio of means, not the mean of ratios; read the strata apart, for they follow different things
    (high levels composition, low ones texture).

    Raises:
        OtherLossError: The readings are not of the same pictures, captions, levels and noise.
    """
    _check_same(now, first)
    ratio = now.mean / first.mean
    residuals = np.subtract(now.pictures, np.multiply(ratio, first.pictures)) / first.mean
    return ByLevel(
        value=ratio,
        standard_error=standard_error(residuals),
        levels=now.levels,
        strata=floats(np.divide(now.strata, first.strata)),
        n_forwards=now.n_forwards,
    )


def loss_gap(
    held_out: LossReading, training: LossReading, *, held_out_first: LossReading, training_first: LossReading
) -> ByLevel:
    """How much more the loss fell on training pictures than on held-out ones, as a share of the latter's at step 0.

    ((L_held_out - L_training) now - the same at step 0) / L_held_out at step 0. Zero at step 0, whatever pictures
    were held out; positive where the adapter fits its own pictures better than others of the same kind. At high
    levels of noise that is memory of compositions.

    Args:
        held_out: On pictures that are never trained on.
        training: On an equal number of training pictures.
        held_out_first: `held_out` at step 0.
        training_first: `training` at step 0.

    Raises:
        OtherLossError: A reading and its first one do not belong together.
        ValueError: Unequal numbers of pictures.
    """
    _check_same(held_out, held_out_first)
    _check_same(training, training_first)
    if len(held_out.values) != len(training.values):
        msg = f"a gap needs as many training as held-out pictures; got {len(training.values)}, {len(held_out.values)}."
        raise ValueError(msg)
    changes = [
        np.subtract(now.values, first.values) for now, first in ((held_out, held_out_first), (training, training_first))
    ]
    strata = changes[0].mean(axis=0) - changes[1].mean(axis=0)
    errors = [standard_error(change.mean(axis=1) / held_out_first.mean) for change in changes]
    known = [error for error in errors if error is not None]
    return ByLevel(
        value=float(strata.mean() / held_out_first.mean),
        standard_error=math.hypot(*known) if len(known) == len(errors) else None,
        levels=held_out.levels,
        strata=floats(strata / np.asarray(held_out_first.strata)),
        n_forwards=held_out.n_forwards + training.n_forwards,
    )


def chosen_pictures(pictures: Sequence[Picture], count: int) -> tuple[int, ...]:
    """Which training pictures stand against `count` held-out ones: those with the smallest digests, in any order given.

    Raises:
        ValueError: Fewer pictures than asked for.
    """
    if count > len(pictures):
        msg = f"a gap needs {count} training pictures; there are {len(pictures)}. Hold fewer out."
        raise ValueError(msg)
    return tuple(sorted(range(len(pictures)), key=lambda index: picture_digest(pictures[index]))[:count])


def _antithetic(latents: Tensor, *, key: str, n_strata: int) -> Tensor:
    """The noise of all strata, then the same with the other sign."""
    import torch

    noise = noise_of(latents, key=key, n_strata=n_strata)
    return torch.cat([noise, -noise])


def _check_same(now: LossReading, first: LossReading) -> None:
    if now.identity != first.identity:
        raise OtherLossError
