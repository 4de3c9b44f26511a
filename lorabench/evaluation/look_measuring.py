"""Features → Measurements: what CLIP says of a picture's look beside the training pictures and held-out references."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.evaluation.encoding import Features
from lorabench.evaluation.measuring import Measured, Rulers
from lorabench.metrics.identity import IDENTITY_SIMILARITY
from lorabench.metrics.photo_look import PHOTO_PROBABILITY, TEXTS, photo_look_problem, photo_probability
from lorabench.metrics.reading import Missing
from lorabench.metrics.style_similarity import STYLE_SIMILARITY, csls_similarity, mean_cosine
from lorabench.records.images import Image
from lorabench.records.measurement import Metric, Unmeasured
from lorabench.records.plan import Arm

if TYPE_CHECKING:
    from lorabench.evaluation.training_look import Training

Floats = NDArray[np.float64]
NO_REFERENCES: Final = "no held-out pictures of what was trained are configured ([training_set] references)"


def measure_looks(
    images: Iterable[Image], features: Features, *, rulers: Rulers, training: Training | None, why_not: str
) -> Measured:
    """Read every picture's photo look, likeness to the training pictures and likeness to the references.

    Args:
        images: The pictures of all arms.
        features: What is known of them.
        rulers: What to measure with.
        training: The training pictures and references, if there are any.
        why_not: The reason if there are none.

    Returns:
        Numbers per picture; for each metric that cannot be read, the reason.
    """
    done = Measured()
    clip = rulers.judges.clip
    reason = rulers.judges.why_absent("clip") if clip is None else why_not
    if clip is None or training is None or training.looks is None:
        metrics = (PHOTO_PROBABILITY, STYLE_SIMILARITY, IDENTITY_SIMILARITY)
        done.unmeasured += [Unmeasured(metric=metric.name, reason=reason) for metric in metrics]
        return done
    images = list(images)
    vectors = np.stack([features.clip[image.sha256] for image in images]) if images else np.empty((0, 1), np.float32)
    _measure_photo_look(images, vectors, features, training.looks, logit_scale=clip.logit_scale, done=done)
    _measure_style(images, vectors, training.looks, done=done)
    if training.references is None:
        done.unmeasured.append(Unmeasured(metric=IDENTITY_SIMILARITY.name, reason=NO_REFERENCES))
    elif images:
        _add(IDENTITY_SIMILARITY, images, mean_cosine(vectors, training.references), done=done)
    return done


def photo_levels(features: Features, looks: NDArray[np.float32], *, logit_scale: float) -> Floats | None:
    """Photo probability of each training picture, (m,); None where the sentences were not encoded."""
    if not all(text in features.texts for text in TEXTS):
        return None
    texts = np.stack([features.texts[text] for text in TEXTS])
    return photo_probability(looks, texts, logit_scale=logit_scale)


def _measure_photo_look(
    images: Sequence[Image],
    vectors: NDArray[np.float32],
    features: Features,
    looks: NDArray[np.float32],
    *,
    logit_scale: float,
    done: Measured,
) -> None:
    trained = photo_levels(features, looks, logit_scale=logit_scale)
    if trained is None or not images:
        reason = "the sentences of the photo look were not encoded with this run's prompts."
        done.unmeasured.append(Unmeasured(metric=PHOTO_PROBABILITY.name, reason=reason))
        return
    texts = np.stack([features.texts[text] for text in TEXTS])
    values = photo_probability(vectors, texts, logit_scale=logit_scale)
    base = [value for image, value in zip(images, values, strict=True) if image.cell.arm is Arm.BASE]
    problem = photo_look_problem(base, trained)
    if isinstance(problem, Missing):
        done.unmeasured.append(Unmeasured(metric=PHOTO_PROBABILITY.name, reason=problem.reason))
        return
    _add(PHOTO_PROBABILITY, images, values, done=done)


def _measure_style(
    images: Sequence[Image], vectors: NDArray[np.float32], looks: NDArray[np.float32], *, done: Measured
) -> None:
    background = [index for index, image in enumerate(images) if not image.cell.arm.uses_adapter]
    if not background:
        reason = "style_similarity needs pictures of the base as background; found none. Add B0 or B1 to the arms."
        done.unmeasured.append(Unmeasured(metric=STYLE_SIMILARITY.name, reason=reason))
        return
    _add(STYLE_SIMILARITY, images, csls_similarity(vectors, looks, vectors[background]), done=done)


def _add(metric: Metric, images: Sequence[Image], values: Floats, *, done: Measured) -> None:
    for image, value in zip(images, values, strict=True):
        done.add(metric, image.cell, float(value))
