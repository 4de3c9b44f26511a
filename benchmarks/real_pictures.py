"""The pixel detectors on real photographs and real illustrations: what each tells apart, and what it costs.

`python -m benchmarks.real_pictures --photographs DIR --illustrations DIR [--out FILE]`. Each file of a folder is one
source; its middle square is read at 512 x 512 pixels. `gather_real_pictures` makes the two folders.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from lorabench.metrics.halo import HALO, halo_marks
from lorabench.metrics.picture_metric import PictureMetric
from lorabench.metrics.reading import Missing
from lorabench.metrics.saturation import SATURATION
from lorabench.metrics.sharpness import SHARPNESS
from lorabench.metrics.texture import FLAT_FRACTION, HOT_TILES, SMOOTH_ZONE_SIGMA, flat_fraction, smooth_zone_sigma

Picture = NDArray[np.uint8]
Floats = NDArray[np.float64]

SIDE: Final = 512
N_RESAMPLES: Final = 2000
SEED: Final = 20
DETECTORS: Final = (
    PictureMetric(SMOOTH_ZONE_SIGMA, smooth_zone_sigma),
    PictureMetric(FLAT_FRACTION, flat_fraction),
    HOT_TILES,
    *SHARPNESS,
    *HALO,
    *SATURATION,
)


def blur(picture: Picture, sigma: float = 1.2) -> Picture:
    """Gaussian blur."""
    return levels(gaussian_filter(picture.astype(np.float64), (sigma, sigma, 0), mode="nearest"))


def defocused_half(picture: Picture) -> Picture:
    """The right half out of focus by 4 pixels, with a soft border."""
    soft = gaussian_filter(picture.astype(np.float64), (4, 4, 0), mode="nearest")
    weight = 1 / (1 + np.exp(-(np.arange(picture.shape[1]) - picture.shape[1] / 2) / 8))
    return levels(picture * (1 - weight)[:, None] + soft * weight[:, None])


def jpeg(picture: Picture, quality: int) -> Picture:
    """Compressed with half the colour resolution, as is usual."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=2)
    return np.asarray(Image.open(buffer).convert("RGB"))


def resized(picture: Picture, factor: float = 0.8) -> Picture:
    """Reduced by Lanczos' filter."""
    side = round(picture.shape[0] * factor)
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS))


def grain(picture: Picture, rng: np.random.Generator, sigma: float = 1.5) -> Picture:
    """Film grain: correlated over neighbouring pixels, the same in all channels."""
    noise = gaussian_filter(rng.normal(size=picture.shape[:2]), 0.6)
    return levels(picture + (sigma * noise / noise.std())[..., None])


def tile_grain(picture: Picture, rng: np.random.Generator, sigma: float = 4.0) -> Picture:
    """Grain in one of sixteen tiles only, away from the border of the picture."""
    side = picture.shape[0] // 4
    rows, columns = slice(side, 2 * side), slice(2 * side, 3 * side)
    done = picture.copy()
    done[rows, columns] = grain(picture[rows, columns], rng, sigma)
    return done


def photo_texture(picture: Picture, photograph: Picture, share: float = 0.1) -> Picture:
    """A share of a photograph's fine structure on top."""
    fine = photograph - gaussian_filter(photograph.astype(np.float64), (4, 4, 0), mode="nearest")
    return levels(picture + share * fine)


def saturated(picture: Picture, factor: float = 1.4) -> Picture:
    """Every colour further from the grey of its luma."""
    grey = (picture @ np.array([0.299, 0.587, 0.114]))[..., None]
    return levels(grey + factor * (picture - grey))


def levels(values: Floats) -> Picture:
    """Rounded and clipped to 8 bits."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def decoded(picture: Picture, rng: np.random.Generator) -> Picture:
    """As an autoencoder returns it: 0.6 pixels softer, with correlated noise of half a grey level."""
    soft = gaussian_filter(picture.astype(np.float64), (0.6, 0.6, 0), mode="nearest")
    noise = gaussian_filter(rng.normal(size=picture.shape[:2]), 1.0)
    return levels(soft + (0.5 * noise / noise.std())[..., None])


Fault = Callable[[Picture, np.random.Generator, Picture], Picture]
FAULTS: Final[dict[str, tuple[Fault, tuple[str, ...]]]] = {
    "blur 1.2 px": (lambda p, _rng, _photo: blur(p), ("edge_sigma",)),
    "half out of focus": (lambda p, _rng, _photo: defocused_half(p), ("bokeh_share", "edge_sigma")),
    "JPEG 75": (lambda p, _rng, _photo: jpeg(p, 75), ("jpeg_halo", "chroma_halo", "luma_ring")),
    "JPEG 75, resized": (lambda p, _rng, _photo: resized(jpeg(p, 75)), ("jpeg_halo", "chroma_halo", "luma_ring")),
    "JPEG 50, resized": (lambda p, _rng, _photo: resized(jpeg(p, 50)), ("jpeg_halo", "chroma_halo", "luma_ring")),
    "resized only": (lambda p, _rng, _photo: resized(p), ()),
    "grain 1.5": (lambda p, rng, _photo: grain(p, rng), ("smooth_zone_sigma",)),
    "10 % photo texture": (
        lambda p, _rng, photo: photo_texture(p, photo),
        ("smooth_zone_sigma", "flat_fraction"),
    ),
    "grain 4 in one tile": (lambda p, rng, _photo: tile_grain(p, rng), ("tile_sigma",)),
    "saturation x 1.4": (lambda p, _rng, _photo: saturated(p), ("mean_chroma", "clipped_share")),
    "25 % photo texture": (
        lambda p, _rng, photo: photo_texture(p, photo, 0.25),
        ("smooth_zone_sigma", "flat_fraction"),
    ),
}
"""Name of each contamination to how it is put in, and the detectors whose work it is."""

SETS: Final = ("photographs", "illustrations", *FAULTS)
HALOS: Final = ("jpeg_halo", "chroma_halo", "luma_ring")
"""Read in one go, for they share most of their work."""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--illustrations", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    photographs, illustrations = read_folder(given.photographs), read_folder(given.illustrations)
    numbers = {name: numbers_of(name, photographs, illustrations) for name in SETS}
    found = summary(numbers, photographs, illustrations)
    text = json.dumps(found, indent=1) + "\n"
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")
    show(found)


def read_folder(folder: Path) -> dict[str, Picture]:
    """The middle squares of a folder's pictures, 512 x 512, by file name."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    if not paths:
        raise SystemExit(f"{folder} must hold pictures; it holds none. Name another folder.")
    return {path.stem: middle_square(Image.open(path).convert("RGB")) for path in paths}


def middle_square(picture: Image.Image) -> Picture:
    """The middle square at 512 x 512 pixels."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    cut = picture.crop((left, top, left + side, top + side))
    return np.asarray(cut.resize((SIDE, SIDE), Image.Resampling.LANCZOS) if side != SIDE else cut)


def numbers_of(name: str, photographs: dict[str, Picture], illustrations: dict[str, Picture]) -> dict[str, Floats]:
    """Detector to its numbers on one set: photographs, illustrations, or the latter with a fault."""
    photos, clean = list(photographs.values()), list(illustrations.values())
    if name not in FAULTS:
        return read(photos if name == "photographs" else clean, take=SETS.index(name))
    fault, _ = FAULTS[name]
    rngs = [np.random.default_rng([SEED, SETS.index(name), row]) for row in range(len(clean))]
    return read(
        [fault(p, rng, photos[row % len(photos)]) for row, (p, rng) in enumerate(zip(clean, rngs, strict=True))],
        take=SETS.index("illustrations"),
    )


def summary(
    numbers: dict[str, dict[str, Floats]], photographs: dict[str, Picture], illustrations: dict[str, Picture]
) -> dict[str, Any]:
    """What the numbers say, and what reading them costs."""
    clean = numbers["illustrations"]
    return {
        "sources": {"photographs": sorted(photographs), "illustrations": sorted(illustrations)},
        "size": SIDE,
        "n_resamples": N_RESAMPLES,
        "against the illustrations": {
            name: tell(numbers[name], clean, paired=name in FAULTS) for name in SETS if name != "illustrations"
        },
        "percentiles": {name: percentiles(numbers[name]) for name in ("photographs", "illustrations")},
        "milliseconds per picture": cost(list(illustrations.values())[::9]),
    }


def read(pictures: list[Picture], *, take: int) -> dict[str, Floats]:
    """Detector to its numbers on the pictures as an autoencoder returns them; NaN where there is none."""
    rows = []
    for row, picture in enumerate(pictures):
        seen = decoded(picture, np.random.default_rng([SEED, 99, take, row]))
        marks = halo_marks(seen)
        known = (
            {} if isinstance(marks, Missing) else dict(zip(HALOS, (marks.both, marks.chroma, marks.ring), strict=True))
        )
        rows.append(
            {name: known.get(name, math.nan) for name in HALOS}
            | {one.metric.name: number(one.read(seen)) for one in DETECTORS if one.metric.name not in HALOS}
        )
    return {one.metric.name: np.array([row[one.metric.name] for row in rows]) for one in DETECTORS}


def number(reading: float | Missing) -> float:
    """NaN for what is missing."""
    return math.nan if isinstance(reading, Missing) else reading


def tell(found: dict[str, Floats], clean: dict[str, Floats], *, paired: bool) -> dict[str, Any]:
    """How well each detector tells two sets apart."""
    return {
        one.metric.name: told_apart(
            found[one.metric.name], clean[one.metric.name], higher=one.metric.higher_is_better, paired=paired
        )
        for one in DETECTORS
    }


def told_apart(found: Floats, clean: Floats, *, higher: bool, paired: bool) -> dict[str, Any]:
    """AUC of the harmful direction with a 95 % interval over sources; for pairs also how often, and how far, it moved.

    Args:
        found: Numbers of the contaminated pictures, (n,).
        clean: Numbers of the clean ones, (m,); of the same sources in the same order, if paired.
        higher: Whether higher is better.
        paired: Whether sources are resampled together.
    """
    sign = -1.0 if higher else 1.0
    if paired:
        both = np.isfinite(found) & np.isfinite(clean)
        found, clean = found[both], clean[both]
    x, y = sign * found[np.isfinite(found)], sign * clean[np.isfinite(clean)]
    wins = (x[:, None] > y[None]) + 0.5 * (x[:, None] == y[None])  # (n, m)
    rng = np.random.default_rng(SEED)
    rows = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), size=N_RESAMPLES) / len(x)  # (r, n)
    columns = rows if paired else rng.multinomial(len(y), np.full(len(y), 1 / len(y)), size=N_RESAMPLES) / len(y)
    drawn = np.einsum("rn,nm,rm->r", rows, wins, columns, optimize=True)
    low, high = np.quantile(drawn, [0.025, 0.975])
    result = {"auc": rounded(wins.mean()), "low": rounded(low), "high": rounded(high), "n": [len(x), len(y)]}
    if paired:
        result |= {"worse": rounded(float((x > y).mean())), "median_shift": rounded(float(np.median(x - y)))}
    return result


def percentiles(numbers: dict[str, Floats]) -> dict[str, list[float]]:
    """5th, 50th and 95th percentile of each detector's numbers."""
    return {
        name: [rounded(float(q)) for q in np.nanquantile(values, [0.05, 0.5, 0.95])] for name, values in numbers.items()
    }


def cost(pictures: list[Picture]) -> dict[str, float]:
    """Milliseconds of processor time per picture of each detector, each on its own."""
    found = {}
    for one in DETECTORS:
        started = time.process_time()
        for picture in pictures:
            one.read(picture)
        found[one.metric.name] = round(1000 * (time.process_time() - started) / len(pictures), 1)
    return found


def rounded(value: float) -> float:
    """Four digits after the point."""
    return round(float(value), 4)


def show(found: dict[str, Any]) -> None:
    """A table: contaminations by detectors, AUC, and an asterisk where it is the detector's own."""
    names = [one.metric.name for one in DETECTORS]
    print("| against clean illustrations | " + " | ".join(names) + " |")
    print("| --- |" + " --- |" * len(names))
    for case, by_detector in found["against the illustrations"].items():
        own = FAULTS[case][1] if case in FAULTS else ()
        cells = [f"{by_detector[name]['auc']:.2f}{'*' if name in own else ''}" for name in names]
        print(f"| {case} | " + " | ".join(cells) + " |")
    print("| ms per picture | " + " | ".join(str(found["milliseconds per picture"][name]) for name in names) + " |")


if __name__ == "__main__":
    main()
