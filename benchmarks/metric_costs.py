"""What each metric costs: seconds per picture at 128 and 512 pixels, and seconds per run of the indices of whole arms.

`python -m benchmarks.metric_costs --pictures DIR [--out FILE] [--descriptor MODEL]`. Times are processor time of one
thread, the least of several readings, the mean over the pictures. Beside them stands how many times as long they take
as the reference, decoding a PNG of the same picture at the same size: the ratio carries from one machine to another far
better than the seconds do. Everything is measured in one run.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lorabench.evaluation.diversity_indices import diversity_of
from lorabench.evaluation.encoding import Features
from lorabench.evaluation.indices import Resampling, composition_collapse_of, palette_collapse_of
from lorabench.metrics.broken import broken_reason
from lorabench.metrics.color import dominant_colors
from lorabench.metrics.memorisation import neighbour_ratios, training_distances, training_set
from lorabench.metrics.palette import palette_compliance, palette_embedding
from lorabench.metrics.picture_metrics import PICTURE_METRICS
from lorabench.metrics.structure import structure_descriptor
from lorabench.metrics.texture import flat_fraction, smooth_zone_sigma
from lorabench.metrics.tile_copies import GRID, tile_distances
from lorabench.metrics.training_palette import palette_sketch
from lorabench.records.plan import Arm, Cell
from lorabench.records.suite import PaletteCheck

Picture = NDArray[np.uint8]
SIZES: Final = (128, 512)
SEED: Final = 11
REPEATS: Final = 3
N_CASES: Final = 62
N_SEEDS: Final = 2
"""Of the run that indices are computed for: as the suite `world/screen` has."""
N_TRAINING: Final = 40
REFERENCE: Final = "decoding a PNG"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--descriptor", default="", help="An SSCD model, as in [judges] copy_descriptor; off for none.")
    parser.add_argument("--networks", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    originals = chosen(given.pictures)
    judges = networks(given.descriptor) if given.networks else {}
    found: dict[str, Any] = {"reference": REFERENCE, "n_pictures": len(originals), "seconds per picture": {}}
    for size in SIZES:
        pictures = [np.asarray(one.resize((size, size), Image.Resampling.LANCZOS)) for one in originals]
        found["seconds per picture"][str(size)] = per_picture(pictures, judges=judges)
    found["seconds per run"] = {"n_pictures": 2 * N_CASES * N_SEEDS, **per_run()}
    found["ratios"] = {size: ratios(row) for size, row in found["seconds per picture"].items()}
    print(json.dumps(found, indent=1))
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def chosen(folder: Path, n: int = 6) -> list[Image.Image]:
    """Middle squares of pictures spread over a folder."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    if not paths:
        raise SystemExit(f"{folder} must hold pictures; it holds none. Name another folder.")
    spread = [paths[index] for index in np.unique(np.linspace(0, len(paths) - 1, n).astype(int))]
    return [_square(Image.open(path).convert("RGB")) for path in spread]


def _square(picture: Image.Image) -> Image.Image:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def readers() -> dict[str, Callable[[Picture], object]]:
    """Name to what is read of a picture without a network."""
    hues = PaletteCheck(type="palette", hues=((10.0, 85.0),))
    return {
        "broken_rate": broken_reason,
        **{one.metric.name: one.read for one in PICTURE_METRICS},
        "smooth_zone_sigma": smooth_zone_sigma,
        "flat_fraction": flat_fraction,
        "palette_compliance_score": lambda picture: palette_compliance(picture, hues),
        "palette embedding": palette_embedding,
        "palette sketch": palette_sketch,
        "structure descriptor": structure_descriptor,
        "dominant colours": dominant_colors,
    }


def networks(descriptor: str) -> dict[str, Callable[[Picture], object]]:
    """Name to what a network reads, of those whose weights are here; one thread each."""
    import torch

    from lorabench.errors import LorabenchError
    from lorabench.judges.copy_descriptor import CopyDescriptor
    from lorabench.judges.lpips_embedding import LpipsEncoder
    from lorabench.judges.oracle_detector import OracleDetector
    from lorabench.judges.text_reader import RapidTextReader
    from lorabench.metrics.descriptor_copies import picture_views

    torch.set_num_threads(1)
    made: dict[str, Callable[[Picture], object]] = {}

    def lpips() -> Callable[[Picture], object]:
        encoder = LpipsEncoder("alex", device="cpu")
        return lambda picture: encoder.embed([picture])

    def sscd() -> Callable[[Picture], object]:
        found = CopyDescriptor(descriptor)
        return lambda picture: found.embed(picture_views(picture))

    def reader() -> Callable[[Picture], object]:
        found = RapidTextReader()
        return lambda picture: found.read([picture])

    def oracle() -> Callable[[Picture], object]:
        found = OracleDetector()
        return lambda picture: found.detect([picture], labels=sorted(found.classes))

    wanted = {"LPIPS embedding": lpips, "text reader": reader, "oracle detector": oracle}
    if descriptor != "off":
        wanted["copy descriptor, six views"] = sscd
    for name, make in wanted.items():
        try:
            made[name] = make()
        except LorabenchError as error:
            print(f"{name}: left out, {error}")
    return made


def per_picture(pictures: Sequence[Picture], *, judges: dict[str, Callable[[Picture], object]]) -> dict[str, float]:
    """Name to seconds per picture, the reference first."""
    files = [_encoded(picture) for picture in pictures]
    found = {REFERENCE: float(np.mean([least(partial(_decoded, data), repeats=20) for data in files]))}
    for name, read in {**readers(), **judges}.items():
        repeats = 1 if name in judges and "views" in name else REPEATS
        read(pictures[0])  # what is loaded or compiled once is no cost of a picture
        found[name] = float(np.mean([least(partial(read, one), repeats=repeats) for one in pictures]))
    return {name: rounded(seconds) for name, seconds in found.items()}


def per_run() -> dict[str, float]:
    """Name to seconds for a run of candidate and control, with the resamples that a run draws."""
    rng = np.random.default_rng(SEED)
    resampling = Resampling(seed=SEED, n_resamples=2000, confidence_level=0.95)
    made = features(rng)
    lpips = rng.normal(size=(N_TRAINING + 8, 434_858)).astype(np.float32)
    known = training_set(lpips[:N_TRAINING], lpips[:N_TRAINING][::-1].copy())
    tiles = np.arange(lpips.shape[1]) % GRID**2
    some = lpips[N_TRAINING:]

    def neighbours() -> object:
        return neighbour_ratios(training_distances(some, known).distances, n_neighbours=10)

    n = 2 * N_CASES * N_SEEDS
    return {
        "seed_collapse, case_spread_ratio, eta_squared and vendi_ratio": rounded(
            least(lambda: diversity_of(made, scale=1.0, resampling=resampling), repeats=2)
        ),
        "composition_collapse": rounded(
            least(lambda: composition_collapse_of(made, scale=1.0, resampling=resampling), repeats=2)
        ),
        "palette_collapse": rounded(
            least(lambda: palette_collapse_of(made, scale=1.0, resampling=resampling), repeats=2)
        ),
        f"neighbour_ratio to {N_TRAINING} training pictures": rounded(least(neighbours, repeats=1) / len(some) * n),
        f"tile_copy_share to {N_TRAINING} training pictures": rounded(
            least(lambda: tile_distances(some, known, tiles=tiles), repeats=1) / len(some) * n
        ),
    }


def features(rng: np.random.Generator) -> Features:
    """Structure and palette of a run's pictures, of the real widths; their content does not matter to the time."""
    example = np.zeros((128, 128, 3), dtype=np.uint8)
    widths = {"structure": len(structure_descriptor(example)), "palette": len(palette_embedding(example))}
    made = Features()
    for arm in (Arm.CONTROL, Arm.CANDIDATE):
        for case in range(N_CASES):
            base = {kind: rng.normal(size=width) for kind, width in widths.items()}
            for seed in range(N_SEEDS):
                cell = Cell(arm=arm, case=f"case-{case:02d}", seed=seed, scale=float(arm.uses_adapter))
                digest = hashlib.sha256(repr(cell).encode()).hexdigest()
                made.digest_of[cell] = digest
                for kind, width in widths.items():
                    vector = base[kind] + 0.5 * rng.normal(size=width)
                    getattr(made, kind)[digest] = (vector / np.linalg.norm(vector)).astype(np.float32)
    return made


def ratios(row: dict[str, float]) -> dict[str, float]:
    """Times the reference."""
    return {name: float(f"{seconds / row[REFERENCE]:.2g}") for name, seconds in row.items() if name != REFERENCE}


def least(call: Callable[[], object], *, repeats: int) -> float:
    """Smallest processor time of this process over some calls, in seconds."""
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        call()
        best = min(best, time.process_time() - started)
    return best


def rounded(seconds: float) -> float:
    """Two significant digits."""
    return float(f"{seconds:.2g}")


def _encoded(picture: Picture) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def _decoded(data: bytes) -> Picture:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


if __name__ == "__main__":
    main()
