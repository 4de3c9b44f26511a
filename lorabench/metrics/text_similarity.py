"""How near a picture is to its prompt in a joint space of pictures and sentences.

References:
    J. Hessel et al., CLIPScore, EMNLP 2021, arXiv 2104.08718. Here the plain cosine, neither clipped nor scaled.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.records.measurement import Metric

CLIP_TEXT_SIMILARITY: Final = Metric(
    name="clip_text_similarity",
    version=1,
    higher_is_better=True,
    unit="cosine",
    summary="cosine of picture and prompt; moved by style, so shown and not gated",
)

_UNIT_TOLERANCE: Final = 1e-3


def paired_cosine(images: NDArray[Any], texts: NDArray[Any]) -> NDArray[np.float64]:
    """Cosine of each picture with its own sentence.

    >>> paired_cosine(np.eye(2), np.array([[1.0, 0.0], [1.0, 0.0]])).tolist()
    [1.0, 0.0]

    Args:
        images: Unit vectors of the pictures, (n, d).
        texts: Unit vectors of their sentences, (n, d).

    Returns:
        (n,), -1 to 1.

    Raises:
        ValueError: Shapes differ, or vectors are not of unit length.
    """
    if images.ndim != 2 or images.shape != texts.shape:
        msg = f"pictures and sentences must be paired (n, d); got {images.shape} and {texts.shape}. Repeat sentences."
        raise ValueError(msg)
    check_unit(images)
    check_unit(texts)
    return np.asarray(np.einsum("nd,nd->n", images.astype(np.float64), texts.astype(np.float64)))


def check_unit(vectors: NDArray[Any]) -> None:
    """Refuse vectors (n, d) that are not of unit length (or not finite).

    Raises:
        ValueError: A vector is longer or shorter than 1 by more than 0.001.
    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1)
    if not np.all(np.abs(lengths - 1.0) <= _UNIT_TOLERANCE):
        worst = lengths[np.argmax(np.abs(lengths - 1.0))] if np.all(np.isfinite(lengths)) else float("nan")
        msg = f"vectors must have unit length; found {worst:.4g}. Normalise them after encoding."
        raise ValueError(msg)
