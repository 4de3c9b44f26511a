"""Which sensor finds which kind of copy: AUC on real photographs and illustrations, with real LPIPS and SSCD weights.

`python -m benchmarks.copy_detection --photographs DIR --illustrations DIR --cache DIR [--out F] [--descriptor MODEL]`;
the folders are those of `gather_real_pictures`. Two fifths of each folder play the training set; an edit of a training
picture is a copy, the others are control and unrelated pictures by turns. Each sensor's number is what the metric
reads: the neighbour ratio, the share of tiles of one training picture, the largest likeness of compositions.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.timing import best_seconds
from lorabench.judges.copy_descriptor import CopyDescriptor
from lorabench.judges.lpips_embedding import LpipsEncoder
from lorabench.metrics.descriptor_copies import (
    DescribedSet,
    calibrate_descriptors,
    described_set,
    picture_views,
    read_descriptors,
    training_views,
    view_similarities,
)
from lorabench.metrics.memorisation import (
    CopyCalibration,
    TrainingSet,
    calibrate_on_distances,
    neighbour_ratios,
    training_distances,
    training_set,
)
from lorabench.metrics.structure import structure_descriptor
from lorabench.metrics.tile_copies import GRID, TileCalibration, calibrate_tiles, read_tiles, tile_distances
from lorabench.storage.arrays import ArrayCache, array_key
from lorabench.storage.pictures import pixel_digest

Picture = NDArray[np.uint8]
Floats = NDArray[np.float64]
SIDE: Final = 256
SEED: Final = 7
N_RESAMPLES: Final = 2000
SENSORS: Final = ("lpips", "sscd", "tiles", "structure")
MOST: Final = 24
"""Pictures of each role."""
FIGURE: Final = (0.25, 0.75)
"""Where the pasted figure lies, in shares of each side: a quarter of the picture."""


def main() -> None:
    """Measure and print; write where a file is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--illustrations", type=Path, required=True)
    parser.add_argument("--descriptor", default="")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="Keeps embeddings; an interrupted run goes on.")
    given = parser.parse_args()
    lpips, sscd = LpipsEncoder("alex", device="cpu"), CopyDescriptor(given.descriptor)
    seen = Seen(lpips, sscd, ArrayCache(given.cache))
    found: dict[str, Any] = {
        "side": SIDE,
        "descriptor": {"name": given.descriptor or "sscd", "sha256": sscd.weights_digest},
        "lpips": lpips.weights_digest,
    }
    for kind in ("photographs", "illustrations"):
        found[kind] = measured(read(getattr(given, kind)), seen=seen)
        print(kind, json.dumps(found[kind], indent=1))
    found["seconds_per_picture"] = costs(lpips=lpips, sscd=sscd)
    print(json.dumps(found["seconds_per_picture"], indent=1))
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Seen:
    """What the networks make of pictures, each asked once."""

    lpips: LpipsEncoder
    sscd: CopyDescriptor
    arrays: ArrayCache

    def embedded(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """LPIPS embeddings, (n, d)."""
        return self._rows(pictures, self.lpips, lambda picture: self.lpips.embed([picture])[0], of="picture")

    def described(self, pictures: Sequence[Picture], views: Callable[[Picture], list[Picture]]) -> NDArray[np.float32]:
        """Copy descriptors of views, (n, v, d)."""
        return self._rows(pictures, self.sscd, lambda picture: self.sscd.embed(views(picture)), of=views.__name__)

    def _rows(
        self,
        pictures: Sequence[Picture],
        judge: LpipsEncoder | CopyDescriptor,
        make: Callable[[Picture], NDArray[np.float32]],
        *,
        of: str,
    ) -> NDArray[np.float32]:
        rows = []
        for picture in pictures:
            key = array_key(
                pixel_digest(picture), encoder=judge.name, weights_digest=judge.weights_digest, parameters={"of": of}
            )
            rows.append(self.arrays.rows([key], lambda _, shown=picture: make(shown)[None])[0])
        return np.stack(rows)


def read(folder: Path) -> list[Picture]:
    """The pictures of a folder at 256 pixels, in an order that mixes their packages."""
    paths = sorted(folder.glob("*.png"))
    pictures = [np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.LANCZOS)) for path in paths]
    return [pictures[index] for index in np.random.default_rng(SEED).permutation(len(pictures))]


def mirrored(picture: Picture, _: Picture) -> Picture:
    return np.ascontiguousarray(picture[:, ::-1])


def cropped(picture: Picture, _: Picture) -> Picture:
    """The upper left 60 % of each side, but not quite at the corner, enlarged to the whole."""
    side = round(0.6 * SIDE)
    cut = picture[12 : 12 + side, 20 : 20 + side]
    return np.asarray(Image.fromarray(cut).resize((SIDE, SIDE), Image.BICUBIC))


def recoloured(picture: Picture, _: Picture) -> Picture:
    """Hues turned by 120 degrees and contrast reduced by a fifth."""
    turned = picture[..., [1, 2, 0]].astype(np.float64)
    return np.clip(127.5 + 0.8 * (turned - 127.5), 0, 255).astype(np.uint8)


def overlaid(picture: Picture, other: Picture) -> Picture:
    """A quarter of the picture, in a corner, covered by another picture."""
    made = picture.copy()
    made[: SIDE // 2, SIDE // 2 :] = np.asarray(Image.fromarray(other).resize((SIDE // 2, SIDE // 2), Image.BICUBIC))
    return made


def compressed(picture: Picture, _: Picture) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=30)
    return np.asarray(Image.open(buffer).convert("RGB"))


def shifted(picture: Picture, _: Picture) -> Picture:
    """Moved by 12 pixels both ways; what is uncovered repeats the border."""
    return np.pad(picture, ((12, 0), (12, 0), (0, 0)), mode="edge")[:SIDE, :SIDE]


def figure(picture: Picture, other: Picture) -> Picture:
    """The middle half of each side, where it was, on another picture's ground."""
    made, (low, high) = other.copy(), (round(share * SIDE) for share in FIGURE)
    made[low:high, low:high] = picture[low:high, low:high]
    return made


EDITS: Mapping[str, Callable[[Picture, Picture], Picture]] = {
    "mirrored": mirrored,
    "cropped to 60 %": cropped,
    "recoloured": recoloured,
    "a quarter covered": overlaid,
    "JPEG quality 30": compressed,
    "shifted by 12 pixels": shifted,
    "figure on a new ground": figure,
}


def measured(pictures: Sequence[Picture], *, seen: Seen) -> dict[str, Any]:
    """AUC of each sensor for each edit, and what the calibrated rules call copies."""
    n_known = min(2 * len(pictures) // 5, MOST)
    known, fresh = pictures[:n_known], pictures[n_known:]
    controls, unrelated = fresh[::2][:MOST], fresh[1::2][:MOST]
    grounds = controls
    sensors = Sensors(known, controls, seen=seen)
    base = sensors.read(unrelated)
    report: dict[str, Any] = {"n_training": n_known, "n_unrelated": len(unrelated), "n_control": len(controls)}
    report["unrelated called copies"] = base["copies"]
    for name, edit in EDITS.items():
        copies = [edit(picture, grounds[index % len(grounds)]) for index, picture in enumerate(known)]
        suspicion = sensors.read(copies)
        report[name] = {
            "auc": {
                sensor: None if base[sensor] is None else auc(suspicion[sensor], base[sensor]) for sensor in SENSORS
            },
            "called copies": suspicion["copies"],
        }
    return report


class Sensors:
    """All sensors, calibrated on one training set and its control."""

    def __init__(self, known: Sequence[Picture], controls: Sequence[Picture], *, seen: Seen) -> None:
        self.seen = seen
        flipped = [np.ascontiguousarray(picture[:, ::-1]) for picture in known]
        self.training: TrainingSet = training_set(seen.embedded(known), seen.embedded(flipped))
        self.tiles = seen.lpips.tiles(GRID)
        self.described: DescribedSet = described_set(seen.described(known, training_views))
        self.structures = np.stack([structure_descriptor(picture) for picture in known]).astype(np.float64)
        vectors = seen.embedded(controls)
        whole = calibrate_on_distances(self.training, training_distances(vectors, self.training).distances)
        assert isinstance(whole, CopyCalibration), whole
        own = tile_distances(self.training.vectors, self.training, tiles=self.tiles)
        parts = calibrate_tiles(own, tile_distances(vectors, self.training, tiles=self.tiles))
        if not isinstance(parts, TileCalibration):
            print("tiles:", parts.reason)
        self.control_views = seen.described(controls, picture_views)
        self.control_cases = np.arange(len(controls))
        edited = calibrate_descriptors(self.described, self.control_views)
        assert isinstance(edited, CopyCalibration), edited
        self.whole, self.parts, self.edited = whole, parts, edited

    def read(self, pictures: Sequence[Picture]) -> dict[str, Any]:
        """Suspicion of each sensor for each picture (higher: more of a copy), and shares called copies."""
        vectors = self.seen.embedded(pictures)
        ratios = neighbour_ratios(
            training_distances(vectors, self.training).distances, n_neighbours=self.whole.n_neighbours
        )
        parts = []
        if isinstance(self.parts, TileCalibration):
            parts = read_tiles(tile_distances(vectors, self.training, tiles=self.tiles), self.training, self.parts)
        views = self.seen.described(pictures, picture_views)
        likeness = view_similarities(views, self.described.views)
        readings = read_descriptors(
            views,
            self.described,
            self.edited,
            cases=np.full(len(pictures), -1),
            control=self.control_views,
            control_cases=self.control_cases,
        )
        structures = np.stack([structure_descriptor(picture) for picture in pictures]).astype(np.float64)
        return {
            "lpips": -ratios,
            "sscd": -neighbour_ratios(2.0 - 2.0 * likeness, n_neighbours=self.edited.n_neighbours),
            "tiles": np.array([part.share for part in parts]) if parts else None,
            "structure": (structures @ self.structures.T).max(axis=1),
            "copies": {
                "copy": share(ratios < self.whole.threshold),
                "descriptor-copy": share(np.array([one.is_copy for one in readings])),
                "part-copy": share(np.array([one.is_part_copy for one in parts])) if parts else None,
            },
        }


def share(flags: NDArray[np.bool_]) -> float:
    return round(float(flags.mean()), 3)


def auc(positive: Floats, negative: Floats) -> list[float]:
    """Area under the ROC curve, ties half, with a 95 % bootstrap interval over pictures."""
    rng = np.random.default_rng(SEED)
    wins = (positive[:, None] > negative[None]) + 0.5 * (positive[:, None] == negative[None])  # (n, m)
    n, m = wins.shape
    again = [float(wins[np.ix_(rng.integers(n, size=n), rng.integers(m, size=m))].mean()) for _ in range(N_RESAMPLES)]
    low, high = np.quantile(again, [0.025, 0.975])
    return [round(float(value), 3) for value in (wins.mean(), low, high)]


def costs(*, lpips: LpipsEncoder, sscd: CopyDescriptor) -> dict[str, float]:
    """Seconds per picture of 512 pixels, one thread."""
    picture = np.random.default_rng(SEED).integers(0, 255, (512, 512, 3), dtype=np.uint8)
    vectors = np.random.default_rng(SEED).normal(size=(40, lpips.n_features)).astype(np.float32)
    known, tiles = training_set(vectors, vectors[::-1].copy()), lpips.tiles(GRID)
    chunk = vectors[:16] + np.float32(0.1)
    return {
        "LPIPS embedding": round(best_seconds(lambda: lpips.embed([picture])), 4),
        "distances of tiles to 40 training pictures": round(
            best_seconds(lambda: tile_distances(chunk, known, tiles=tiles)) / len(chunk), 4
        ),
        "SSCD, six views": round(best_seconds(lambda: sscd.embed(picture_views(picture))), 4),
        "structure": round(best_seconds(lambda: structure_descriptor(picture)), 4),
    }


if __name__ == "__main__":
    main()
