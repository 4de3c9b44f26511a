"""Lettering and clutter on real pictures: false alarms, recall of planted words by script and size, AUC of clutter.

`python -m benchmarks.content_detection --illustrations DIR --photographs DIR --cutouts DIR --fonts DIR --out FILE`

The first two folders hold square pictures without lettering (`gather_real_pictures` makes them); pictures with real
lettering are named in `LETTERED`. `cutouts` holds PNGs with an alpha channel (Debian: tuxpaint-stamps-default), `fonts`
DejaVu and Noto fonts (Debian: fonts-dejavu-core, fonts-noto-core, fonts-noto-cjk). The rule's limits on area, score and
letters were set beforehand; that a line is twice as wide as high was chosen on 120 clip-arts of tuxpaint-stamps-default
before these pictures were read.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lorabench.judges.text_reader import RapidTextReader
from lorabench.metrics.clutter import ambient_density, clutter_of
from lorabench.metrics.lettering import edit_distance, lettering_of, plain

Picture = NDArray[np.uint8]
SIDE = 512
SIZE = (SIDE, SIDE)
SEED = 20251121
SIZES = (16, 24, 36, 60)
GROUNDS = ((235, 225, 205), (190, 215, 235), (250, 250, 250), (225, 190, 190), (120, 140, 120))
INKS = ((30, 20, 60), (200, 30, 30), (250, 250, 250))
FONTS = {
    "Latin": "DejaVuSans-Bold.ttf",
    "Cyrillic": "DejaVuSans-Bold.ttf",
    "Greek": "DejaVuSans-Bold.ttf",
    "Han": "NotoSansCJK-Bold.ttc",
    "Kana": "NotoSansCJK-Bold.ttc",
    "Hebrew": "NotoSansHebrew-Bold.ttf",
    "Arabic": "NotoSansArabic-Bold.ttf",
    "Devanagari": "NotoSansDevanagari-Bold.ttf",
}
WORDS = {
    "Latin": ("BAKERY", "Summer Sale", "OPEN"),
    "Cyrillic": ("МОЛОКО", "Доброе утро", "ХЛЕБ"),
    "Greek": ("ΚΑΛΗΜΕΡΑ", "Ελλάδα", "ΨΩΜΙ"),
    "Han": ("中国银行", "春天", "欢迎光临"),
    "Kana": ("いらっしゃい", "カメラ", "さくら"),
    "Hebrew": ("שלום", "ירושלים", "ברוך"),
    "Arabic": ("مرحبا", "السلام", "مدرسة"),
    "Devanagari": ("नमस्ते", "भारत", "विद्यालय"),
}
TEXTURES = ("flat", "slope", "grain", "paper", "clouds")
LETTERED = (
    "openclipart-svg--2_dead_frogs_lumen_desig_01",
    "openclipart-svg--cake_mateya_01",
    "openclipart-svg--ninja_tux_rory_mccann_01",
    "scikit-image--motorcycle_left",
)
"""Stems of pictures that show real lettering, found by looking at each that was flagged."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("illustrations", "photographs", "cutouts", "fonts"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument(
        "--only", nargs="*", default=(), help="Parts to measure anew; the others stay as FILE has them."
    )
    given = parser.parse_args(arguments)
    cutouts = [path for path in sorted(given.cutouts.rglob("*.png")) if "symbols" not in path.parts]
    cutouts = [cutouts[index] for index in np.random.default_rng(SEED).permutation(len(cutouts))]
    folders = {"illustrations": given.illustrations, "photographs": given.photographs}
    parts: dict[str, Callable[[], object]] = {
        **{
            f"words/{script}": partial(words, script, given.fonts, cutouts, n_scenes=given.scenes // 2)
            for script in WORDS
        },
        "words_at_128_pixels/Latin": partial(
            words, "Latin", given.fonts, cutouts, n_scenes=given.scenes // 2, side=128, sizes=(10, 14)
        ),
        **{f"false_alarms/{kind}": partial(false_alarms, folder) for kind, folder in folders.items()},
        "clutter": partial(clutter, cutouts, n_scenes=given.scenes),
        "density": partial(density, given.illustrations),
        "cost": partial(cost, given.illustrations),
    }
    for name in given.only or parts:
        found = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {}
        found[name] = parts[name]()
        given.out.write_text(json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
        print(name, json.dumps(found[name], ensure_ascii=False), flush=True)


def false_alarms(folder: Path) -> dict[str, object]:
    """Pictures without lettering in which something is taken for it, by the rule and without."""
    reader = RapidTextReader()
    paths = [path for path in sorted(folder.iterdir()) if path.stem not in LETTERED]
    raw, flagged = 0, []
    for path in paths:
        picture = read(path)
        seen = reader.read([picture])[0]
        kept = lettering_of(seen, size=picture.shape[:2])
        raw += bool(seen)
        if kept:
            flagged.append({"picture": path.name, "seen": [one.text for one in kept]})
    return {
        "n_pictures": len(paths),
        "with_any_box": raw,
        "flagged": len(flagged),
        "interval": wilson(len(flagged), len(paths)),
        "which": flagged,
    }


def words(
    script: str,
    fonts: Path,
    cutouts: Sequence[Path],
    *,
    n_scenes: int,
    side: int = SIDE,
    sizes: Sequence[int] = SIZES,
) -> dict[str, object]:
    """Share of planted words found by the rule, and read with at most a fifth of the letters wrong."""
    reader, rng = RapidTextReader(), np.random.default_rng([SEED, side])
    hits: dict[int, list[tuple[bool, bool, str]]] = {size: [] for size in sizes}
    for index in range(n_scenes):
        size, word = sizes[index % len(sizes)], WORDS[script][index % 3]
        picture, box = with_word(scene(cutouts[index], index, side=side), word, font_of(fonts, script, size), rng=rng)
        seen = lettering_of(reader.read([picture])[0], size=(side, side))
        there = [one for one in seen if overlaps(one.box, box)]
        legible = [one for one in there if edit_distance(plain(word), plain(one.text)) <= 0.2]
        hits[size].append((bool(there), bool(legible), there[0].script if there else "none"))
    return of_script(hits)


def of_script(hits: dict[int, list[tuple[bool, bool, str]]]) -> dict[str, object]:
    every = [one for ones in hits.values() for one in ones]
    return {
        "n": len(every),
        "found": sum(one[0] for one in every),
        "interval": wilson(sum(one[0] for one in every), len(every)),
        "read": sum(one[1] for one in every),
        "found_by_size": {size: f"{sum(one[0] for one in ones)}/{len(ones)}" for size, ones in hits.items()},
        "script_named": {name: sum(one[2] == name for one in every) for name in sorted({one[2] for one in every})},
    }


def clutter(cutouts: Sequence[Path], *, n_scenes: int) -> dict[str, object]:
    """One large cutout on an empty ground, without and with four to eight small ones around it."""
    rng = np.random.default_rng([SEED, 1])
    values: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for index in range(n_scenes):
        ground = TEXTURES[index % len(TEXTURES)]
        plain_scene = scene(cutouts[index], index)
        number = int(rng.integers(4, 9))
        others = [cutouts[(7 * index + k) % len(cutouts)] for k in range(1, number + 1)]
        full = with_others(plain_scene.copy(), others, rng=rng)
        pair = [textured(np.asarray(image), ground, seed=index) for image in (plain_scene, full)]
        one, other = (clutter_of(picture) for picture in pair)
        values[f"share/{ground}"].append((one.share, other.share))
        values["empty_space_clutter"].append((one.share, other.share))
        values["clutter_components"].append((one.n_components, other.n_components))
        densities = [ambient_density(picture) for picture in pair]
        values["ambient_density"].append((densities[0], densities[1]))
    return {
        name: {
            "auc": round(auc([b for _, b in pairs], [a for a, _ in pairs]), 3),
            "paired": round(float(np.mean([b > a for a, b in pairs])), 3),
            "without": round(float(np.mean([a for a, _ in pairs])), 4),
            "with": round(float(np.mean([b for _, b in pairs])), 4),
            "n_pairs": len(pairs),
        }
        for name, pairs in values.items()
    }


def density(folder: Path) -> dict[str, object]:
    """A quarter of a picture, enlarged, against the picture: less of everything, in the same style."""
    pairs = []
    for path in sorted(folder.iterdir()):
        image = Image.open(path).convert("RGB")
        side = min(image.size)
        four = Image.new("RGB", (SIDE, SIDE))
        for corner in ((0, 0), (1, 0), (0, 1), (1, 1)):
            four.paste(
                image.resize((SIDE // 2, SIDE // 2), Image.Resampling.LANCZOS), tuple(c * SIDE // 2 for c in corner)
            )
        whole = image.crop((0, 0, side, side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        pairs.append((ambient_density(np.asarray(whole)), ambient_density(np.asarray(four))))
    return {
        "auc_four_times_as_much": round(auc([b for _, b in pairs], [a for a, _ in pairs]), 3),
        "paired": round(float(np.mean([b > a for a, b in pairs])), 3),
        "mean_difference": round(float(np.mean([b - a for a, b in pairs])), 3),
        "n_pictures": len(pairs),
    }


def cost(folder: Path) -> dict[str, float]:
    """Processor seconds per picture of 512 pixels, one thread."""
    reader = RapidTextReader()
    pictures = [read(path) for path in sorted(folder.iterdir())[:8]]
    jobs = {"text_reader": lambda p: reader.read([p]), "clutter_of": clutter_of, "ambient_density": ambient_density}
    found = {}
    for name, job in jobs.items():
        job(pictures[0])
        start = time.process_time()
        for picture in pictures:
            job(picture)
        found[name] = round((time.process_time() - start) / len(pictures), 3)
    return found


def scene(path: Path, index: int, *, side: int = SIDE) -> Image.Image:
    """A cutout in the middle of an even ground."""
    image = Image.new("RGB", (side, side), GROUNDS[index % len(GROUNDS)])
    paste(image, path, centre=(side // 2, side // 2), extent=side * 0.6)
    return image


def with_others(image: Image.Image, paths: Sequence[Path], *, rng: np.random.Generator) -> Image.Image:
    """Small cutouts along the edge of a picture."""
    for place, path in zip(rng.permutation(12), paths, strict=False):
        along = SIDE * (0.1 + 0.8 * (place % 3) / 2)
        across = SIDE * (0.1 if place % 2 else 0.9)
        centre = (along, across) if place < 6 else (across, along)
        paste(image, path, centre=(int(centre[0]), int(centre[1])), extent=SIDE * float(rng.uniform(0.08, 0.16)))
    return image


def paste(image: Image.Image, path: Path, *, centre: tuple[int, int], extent: float) -> None:
    cutout = Image.open(path).convert("RGBA")
    scale = extent / max(cutout.size)
    cutout = cutout.resize((max(1, round(cutout.width * scale)), max(1, round(cutout.height * scale))))
    image.paste(cutout, (centre[0] - cutout.width // 2, centre[1] - cutout.height // 2), cutout)


def textured(picture: Picture, ground: str, *, seed: int) -> Picture:
    """Light that falls off, film grain, paper or clouds (blurred noise) over the whole picture."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    height, width = picture.shape[:2]
    noise = rng.normal(size=(height, width))
    layer = {
        "flat": np.zeros((height, width)),
        "slope": np.linspace(20.0, -40.0, height)[:, None] * np.ones((1, width)),
        "grain": 6.0 * noise,
        "paper": 3.0 * noise + 12.0 * gaussian_filter(noise, 1.5),
        "clouds": 4.0 * gaussian_filter(noise, 4.0) / gaussian_filter(noise, 4.0).std(),
    }[ground]
    return np.asarray((picture + layer[..., None]).clip(0, 255).round(), dtype=np.uint8)


def with_word(
    image: Image.Image, word: str, font: ImageFont.FreeTypeFont, *, rng: np.random.Generator
) -> tuple[Picture, tuple[float, float, float, float]]:
    """A word above or below the cutout, and where it stands."""
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = draw.textbbox((0, 0), word, font=font)
    room = max(4, int(image.width - (right - left) - 6))
    at = (int(rng.integers(3, room)), int(image.height * (0.02 if rng.random() < 0.5 else 0.83)))
    draw.text(at, word, font=font, fill=INKS[int(rng.integers(2))])
    return np.asarray(image), (at[0] + left, at[1] + top, at[0] + right, at[1] + bottom)


def font_of(folder: Path, script: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(next(folder.rglob(FONTS[script]))), size)


def overlaps(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return min(one[2], other[2]) > max(one[0], other[0]) and min(one[3], other[3]) > max(one[1], other[1])


def read(path: Path) -> Picture:
    return np.asarray(Image.open(path).convert("RGB").resize(SIZE, Image.Resampling.LANCZOS))


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Probability that a picture with the fault scores higher than one without; ties count half."""
    high, low = np.asarray(positive)[:, None], np.asarray(negative)[None]
    return float(((high > low) + 0.5 * (high == low)).mean())


def wilson(hits: int, n: int, z: float = 1.96) -> list[float]:
    """95 % interval of a share."""
    if not n:
        return [0.0, 1.0]
    centre, spread = hits + z**2 / 2, z * np.sqrt(hits * (n - hits) / n + z**2 / 4)
    return [round(float(value) / (n + z**2), 3) for value in (centre - spread, centre + spread)]


if __name__ == "__main__":
    main()
