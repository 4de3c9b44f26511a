"""Does a picture look like a photograph, to CLIP? Light, depth and skin, which grain and edges do not show.

References:
    A. Radford et al., Learning transferable visual models from natural language supervision, ICML 2021, arXiv
    2103.00020, section 3.1 (zero-shot classification with several sentences per class).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorabench.metrics.reading import Missing
from lorabench.metrics.text_similarity import check_unit
from lorabench.records.measurement import Metric

Floats = NDArray[np.float64]

PHOTO_PROBABILITY: Final = Metric(
    name="photo_probability",
    version=1,
    higher_is_better=False,
    unit="probability",
    summary="how surely CLIP calls the picture a photograph rather than an illustration",
)
PHOTO_TEXTS: Final = (
    "a photo",
    "a photograph taken with a camera",
    "a colour photo with natural light",
    "a portrait photo with blurred background",
    "a close-up photo showing fine detail",
    "a studio photo with soft shadows",
    "a snapshot taken outdoors",
    "a realistic photo with shallow depth of field",
)
ILLUSTRATION_TEXTS: Final = (
    "an illustration",
    "a drawing made by hand",
    "a flat vector illustration",
    "a cartoon with outlines",
    "a painting",
    "a print in few colours",
    "a picture from an illustrated book",
    "a stylised digital drawing",
)
TEXTS: Final = (*PHOTO_TEXTS, *ILLUSTRATION_TEXTS)
LEAST_AUC: Final = 0.95
"""How well training pictures and the base's photographs must be told apart for the probability to mean anything."""
LEAST_PICTURES: Final = 5


def photo_probability(pictures: NDArray[Any], texts: NDArray[Any], *, logit_scale: float) -> Floats:
    """Probability of "photograph" against "illustration".

    The logistic function of the logit scale times the difference of the mean cosines with both kinds of sentence.

    Args:
        pictures: Unit vectors, (n, d).
        texts: Unit vectors of `TEXTS`, in that order, (16, d).
        logit_scale: CLIP's factor on cosines, about 100.

    Returns:
        (n,), 0 to 1; 0.5 where both are equally near.

    Raises:
        ValueError: Vectors are not of unit length, or there are not 16 texts.
    """
    if len(texts) != len(TEXTS):
        msg = f"the photo look needs {len(TEXTS)} sentences; got {len(texts)}. Encode photo_look.TEXTS."
        raise ValueError(msg)
    check_unit(pictures)
    check_unit(texts)
    cosines = pictures.astype(np.float64) @ texts.astype(np.float64).T  # (n, 16)
    n = len(PHOTO_TEXTS)
    logits = logit_scale * (cosines[:, :n].mean(axis=1) - cosines[:, n:].mean(axis=1))
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -500.0, 500.0))))


def auc(high: ArrayLike, low: ArrayLike) -> float:
    """Probability that one of the first numbers is above one of the second; ties count half.

    >>> auc([2, 3], [1, 2])
    0.875
    """
    a, b = np.asarray(high, dtype=np.float64), np.asarray(low, dtype=np.float64)
    return float((a[:, None] > b[None, :]).mean() + 0.5 * (a[:, None] == b[None, :]).mean())


def photo_look_problem(base: ArrayLike, training: ArrayLike) -> Missing | None:
    """Why the photo look cannot be trusted here; None if it can.

    Args:
        base: Probabilities of the base's pictures with the neutral phrase, which should be photographs.
        training: Those of the training pictures, which should be illustrations.
    """
    n_base, n_training = np.size(np.asarray(base)), np.size(np.asarray(training))
    if min(n_base, n_training) < LEAST_PICTURES:
        return Missing(
            f"the photo look is tested on at least {LEAST_PICTURES} training pictures and pictures of the base (B0); "
            f"found {n_training} and {n_base}."
        )
    found = auc(base, training)
    if found >= LEAST_AUC:
        return None
    return Missing(
        f"CLIP must tell the base's photographs from the training pictures with an AUC of {LEAST_AUC:g}; found "
        f"{found:.2f}. Let the neutral phrase ask for a photograph; for a photographic style this gate means nothing."
    )
