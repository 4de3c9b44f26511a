"""Traces of JPEG on its grid of 8 x 8 blocks, also where a picture was saved as something else afterwards.

Quantisation sets many coefficients of a block to zero; on any other grid they are not. Resizing takes the grid away, so
this serves originals and never generated pictures.

Reference:
    Z. Fan and R. L. de Queiroz, Identification of bitmap compression history, IEEE Transactions on Image Processing 12
    (2003) 230-235, for the idea of reading a compression back from a bitmap; the statistic here is our own.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.metrics.color import luma

Floats = NDArray[np.float64]

BLOCK: Final = 8
BLOCKY: Final = 0.15
"""Excess from which on a picture counts as compressed. Pictures that never were have up to 0.12 (small flat drawings);
quality 95 gives 0.04 to 0.35, quality 80 gives 0.17 and more."""
LEAST_BLOCKS: Final = 8
"""Blocks with content under which nothing can be said."""
MOST_EDGE: Final = 512
"""Pixels a side that are read, from the middle."""
_ZERO: Final = 0.6
"""A coefficient below this is zero but for rounding to whole grey levels."""
_EVEN: Final = 1.0
"""Standard deviation, in grey levels, under which a block has no content."""


def blockiness(picture: NDArray[Any]) -> float | None:
    """How much emptier blocks are on one 8 x 8 grid than on others.

    Of each of the 64 places a grid can have, the share of vanishing DCT coefficients in blocks with content is taken.

    Args:
        picture: RGB, (height, width, 3), 0 to 255, in its own size.

    Returns:
        Largest share minus the median of the 64: near 0 without compression, up to about 0.6. None where fewer than
        8 blocks have content.
    """
    values = _middle(luma(picture))
    if min(values.shape) < 2 * BLOCK:
        return None
    shares = [_empty_share(values[down:, right:]) for down in range(BLOCK) for right in range(BLOCK)]
    found = [share for share in shares if share is not None]
    if len(found) < len(shares):
        return None
    return float(max(found) - np.median(found))


def _middle(values: Floats) -> Floats:
    top, left = (max((edge - MOST_EDGE) // 2, 0) for edge in values.shape)
    return values[top : top + MOST_EDGE, left : left + MOST_EDGE]


def _empty_share(values: Floats) -> float | None:
    """Share of the 63 coefficients beside the mean that vanish, over blocks with content."""
    from scipy.fft import dctn

    rows, columns = values.shape[0] // BLOCK, values.shape[1] // BLOCK
    tiled = values[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    blocks = tiled.swapaxes(1, 2).reshape(-1, BLOCK, BLOCK)
    blocks = blocks[blocks.std(axis=(1, 2)) > _EVEN]
    if len(blocks) < LEAST_BLOCKS:
        return None
    vanishing = np.abs(dctn(blocks, axes=(1, 2), norm="ortho")) < _ZERO
    vanishing[:, 0, 0] = False
    return float(vanishing.sum() / (len(blocks) * (BLOCK**2 - 1)))
