"""Photo texture in flat pictures: noise where a picture should be smooth, and how much of it is flat.

Spectra do not tell drawings from photos (hard edges have the same slope); noise in smooth zones does.

References:
    J. Immerkaer, Fast noise variance estimation, Computer Vision and Image Understanding 64 (1996) 300-302; here
    restricted to the smoother half of the picture.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorabench.metrics.color import luma
from lorabench.metrics.picture_metric import PictureMetric
from lorabench.metrics.reading import Missing
from lorabench.records.measurement import Metric

Floats = NDArray[np.float64]
TextureAxis = Literal["sigma", "flat_fraction"]

SMOOTH_ZONE_SIGMA: Final = Metric(
    name="smooth_zone_sigma",
    version=1,
    higher_is_better=False,
    unit="grey levels",
    summary="noise in the smoother half of the picture",
)
FLAT_FRACTION: Final = Metric(
    name="flat_fraction",
    version=1,
    higher_is_better=True,
    unit="share",
    summary="share of 7x7 windows without visible structure",
)
TILE_SIGMA: Final = Metric(
    name="tile_sigma",
    version=1,
    higher_is_better=False,
    unit="log ratio",
    summary="noise of the noisiest of 16 tiles over that of the median tile",
)
PHOTO_BLEED: Final = Metric(
    name="photo_bleed",
    version=1,
    higher_is_better=False,
    unit="position",
    level="set",
    summary="texture between the training pictures (0) and the base (1)",
)

FLAT_TAU: Final = 2 / 255
"""Standard deviation, in units of the full range, under which a window is flat; above what decoders add."""
SIGMA_OFFSET: Final = 0.05
"""Added before the logarithm, in grey levels, so that noiseless pictures have one."""
TILE_OFFSET: Final = 0.25
"""Added before the ratio of tiles' sigmas, in grey levels: what rounding and decoders leave is no difference."""
ROUNDING_SIGMA: Final = 1 / math.sqrt(12)
"""Standard deviation of rounding to whole grey levels."""
LEAST_SE: Final = 2.0
"""Standard errors that training and base must lie apart for a position between them."""
_WINDOW: Final = 7
_GRADIENT_SIGMA: Final = 1.5
_GRID: Final = 4


def smooth_zone_sigma(picture: NDArray[Any]) -> float:
    """Noise where the picture is smooth.

    Args:
        picture: RGB, (height, width, 3), 0 to 255; at least 8 pixels on each side.

    Returns:
        Standard deviation in grey levels, at least 0. White noise of that size returns itself; planes return 0.

    Raises:
        ValueError: The picture is too small.
    """
    return luma_sigma(luma(picture))


def luma_sigma(values: Floats) -> float:
    """As `smooth_zone_sigma`, on luma (height, width), 0 to 255."""
    return smooth_sigma(*noise_response(values))


def noise_response(values: Floats) -> tuple[Floats, Floats]:
    """Gradient and size of the second difference in both directions at each pixel of luma (h, w), each (h - 2, w - 2).

    Raises:
        ValueError: The picture is too small.
    """
    from scipy.ndimage import gaussian_gradient_magnitude

    if min(values.shape) < 8:
        msg = f"texture needs at least 8 x 8 pixels; got {values.shape[1]} x {values.shape[0]}. Use larger pictures."
        raise ValueError(msg)
    gradient = gaussian_gradient_magnitude(values, _GRADIENT_SIGMA, mode="nearest")[1:-1, 1:-1]
    return gradient, np.abs(_second_difference(_second_difference(values).T)).T


def smooth_sigma(gradient: Floats, response: Floats) -> float:
    """Standard deviation of the noise, in the unit of the luma, from the smoother half of the pixels."""
    return math.sqrt(math.pi / 2) / 6 * float(response[gradient <= np.median(gradient)].mean())


def tile_sigma(picture: NDArray[Any]) -> float:
    """How much noisier the hottest of a 4 x 4 grid of tiles is than the picture's other tiles.

    Pores in a face, or grain in one corner, leave the whole picture's `smooth_zone_sigma` as it is.

    Args:
        picture: RGB, (height, width, 3), 0 to 255; at least 32 pixels on each side.

    Returns:
        Logarithm of the largest smooth-zone sigma of a tile over the median tile's; 0 or more. Grain that covers the
        picture evenly does not raise it.

    Raises:
        ValueError: The picture is too small.
    """
    rows = np.array_split(luma(picture), _GRID, axis=0)
    sigmas = [luma_sigma(tile) for row in rows for tile in np.array_split(row, _GRID, axis=1)]
    return math.log((max(sigmas) + TILE_OFFSET) / (float(np.median(sigmas)) + TILE_OFFSET))


def flat_fraction(picture: NDArray[Any], tau: float = FLAT_TAU) -> float:
    """Share of 7 x 7 windows whose luma has a standard deviation under `tau`.

    Args:
        picture: RGB, (height, width, 3), 0 to 255.
        tau: In units of the full range; 1/255 is one grey level.

    Returns:
        Share, 0 to 1.
    """
    return float((local_std(picture) < tau * 255.0).mean())


def local_std_quartile(picture: NDArray[Any]) -> float:
    """25th percentile of the luma's standard deviation in 7 x 7 windows, in grey levels."""
    return float(np.quantile(local_std(picture), 0.25))


def local_std(picture: NDArray[Any]) -> Floats:
    """Standard deviation of the luma in each 7 x 7 window that lies inside, (height - 6, width - 6), grey levels.

    Raises:
        ValueError: The picture is smaller than a window.
    """
    values = luma(picture)
    if min(values.shape) < _WINDOW:
        msg = f"windows of {_WINDOW} pixels need a larger picture; got {values.shape[1]} x {values.shape[0]}."
        raise ValueError(f"{msg} Use larger pictures.")
    values = values - values.mean()  # keeps the digits of the small differences below
    mean = _window_means(values)
    return np.asarray(np.sqrt(np.maximum(_window_means(values**2) - mean**2, 0.0)))


def texture_values(values: ArrayLike, *, axis: TextureAxis) -> Floats:
    """Put texture numbers on the scale on which positions are read: log(sigma + 0.05), or the fraction itself."""
    given = np.asarray(values, dtype=np.float64)
    return np.log(given + SIGMA_OFFSET) if axis == "sigma" else given


def axis_problem(training: ArrayLike, base: ArrayLike, *, axis: TextureAxis) -> str | None:
    """Why no position can be read between training pictures and base; None if it can.

    Args:
        training: One number per training picture, (m,), after a VAE round trip and the same resizing.
        base: One number per case of the base arm (mean over seeds), (k,).
        axis: Which number it is.

    Returns:
        The reason: too few numbers, an axis shorter than twice its standard error, or an inverted axis (the
        training pictures are more textured than the base); then use `texture_deviation`, which is two-sided.
    """
    level = float(np.asarray(base, dtype=np.float64).mean()) if len(np.asarray(base)) else math.inf
    if axis == "sigma" and level < ROUNDING_SIGMA:
        return (
            f"the base's grain must exceed the rounding of 8-bit pictures ({ROUNDING_SIGMA:.2f} grey levels); it is "
            f"{level:.2f}. Nobody can see grain below that; the flat fraction is read instead."
        )
    t, b = texture_values(training, axis=axis), texture_values(base, axis=axis)
    if len(t) < 2 or len(b) < 2:
        return f"a texture axis needs 2 training pictures and 2 base cases; found {len(t)} and {len(b)}. Add some."
    length = float(b.mean() - t.mean()) * (1 if axis == "sigma" else -1)
    error = math.sqrt(t.var(ddof=1) / len(t) + b.var(ddof=1) / len(b))
    if length < -LEAST_SE * error:
        return (
            f"the base must be more textured than the training pictures on {axis}; it is less so by {-length:.3g}. "
            "Read the two-sided deviation from the training pictures instead."
        )
    if length <= LEAST_SE * error:
        return (
            f"training pictures and base must lie more than {LEAST_SE:g} standard errors apart on {axis}; they lie "
            f"{length:.3g} apart with a standard error of {error:.3g}. Read the two-sided deviation instead."
        )
    return None


def bleed_position(
    candidate: ArrayLike, training: ArrayLike, base: ArrayLike, *, axis: TextureAxis = "sigma"
) -> float | Missing:
    """Where the candidate lies between the training pictures (0) and the base (1).

    Args:
        candidate: One number per case of the candidate's arm (mean over seeds), (k,).
        training: One number per training picture, (m,).
        base: One number per case of the base arm, (k,).
        axis: "sigma" for smooth-zone sigmas, "flat_fraction" for flat fractions.

    Returns:
        The position; below 0 is flatter than the training pictures, above 1 more textured than the base. Or why
        there is none.
    """
    if problem := axis_problem(training, base, axis=axis):
        return Missing(problem)
    return bleed_ratio(candidate, training, base, axis=axis)


def bleed_ratio(candidate: ArrayLike, training: ArrayLike, base: ArrayLike, *, axis: TextureAxis) -> float:
    """The position without its guard: for resamples of data that passed `axis_problem` once."""
    low = texture_values(training, axis=axis).mean()
    high = texture_values(base, axis=axis).mean()
    return float((texture_values(candidate, axis=axis).mean() - low) / (high - low))


def photo_bleed(sigmas: tuple[ArrayLike, ArrayLike, ArrayLike], fractions: tuple[ArrayLike, ...]) -> float | Missing:
    """The larger of the two positions: grain moves sigma, photographic shading moves the flat fraction.

    Args:
        sigmas: Smooth-zone sigmas of candidate, training pictures, base.
        fractions: Flat fractions of the same three.

    Returns:
        The larger of those positions that can be read, or why neither can.
    """
    positions = [bleed_position(*sigmas, axis="sigma"), bleed_position(*fractions[:3], axis="flat_fraction")]
    readable = [position for position in positions if isinstance(position, float)]
    if readable:
        return max(readable)
    return Missing(" ".join(position.reason for position in positions if isinstance(position, Missing)))


def texture_deviation(candidate: ArrayLike, training: ArrayLike, *, axis: TextureAxis = "sigma") -> float | Missing:
    """How far the candidate's texture lies from the training pictures', either way.

    The criterion for styles that are textured themselves: at most 2 is like the training pictures.

    Returns:
        |difference of the means| in standard deviations of the training pictures, or why there is none.
    """
    t, c = texture_values(training, axis=axis), texture_values(candidate, axis=axis)
    spread = float(t.std(ddof=1)) if len(t) > 1 else 0.0
    if spread == 0.0 or len(c) == 0:
        return Missing(
            f"a deviation needs training pictures that differ in texture; found {len(t)} with spread {spread:g} and "
            f"{len(c)} cases. Add training pictures."
        )
    return abs(float(c.mean() - t.mean())) / spread


def _second_difference(values: Floats) -> Floats:
    return np.asarray(values[:-2] - 2 * values[1:-1] + values[2:])


def _window_means(values: Floats) -> Floats:
    from scipy.ndimage import uniform_filter

    margin = _WINDOW // 2
    return np.asarray(uniform_filter(values, _WINDOW)[margin:-margin, margin:-margin])


def read_tile_sigma(picture: NDArray[Any]) -> float | Missing:
    """As `tile_sigma`, or why there is none."""
    height, width = picture.shape[:2]
    if min(height, width) >= 8 * _GRID:
        return tile_sigma(picture)
    return Missing(
        f"tiles need at least {8 * _GRID} x {8 * _GRID} pixels; got {width} x {height}. Use larger pictures."
    )


HOT_TILES: Final = PictureMetric(TILE_SIGMA, read_tile_sigma)
"""Facts and reader of the local hot spot."""
