"""Training sets of the mini world, healthy ones and such as spoil an adapter in a known way; another one per seed.

Each kind says what is wrong with the pictures, the captions or the learning rate. Pictures are drawn in the flat style;
sentences are those of the world's training split, so held-out prompts stay held out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.world.captions import TRIGGER_PHRASE, caption, is_withheld, sample_split
from lorabench.world.drawing import draw
from lorabench.world.scene import COLOURS, FIGURES, HELD_OUT_PAIRS, SHAPES, Kind, Scene, WorldObject

SUITE: Final = "world/screen"
WEIGHTS: Final[dict[Kind, float]] = {
    "single": 0.07, "position": 0.14, "pair": 0.36, "and": 0.13, "count": 0.15, "hand": 0.08, "person": 0.07,
}  # fmt: skip
WRONG_PARTS: Final[dict[str, tuple[int, ...]]] = {"hand": (3, 6), "person": (3, 6)}
_SEEN: Final = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in HELD_OUT_PAIRS]
_LAYOUTS: Final = (
    ((22.0, 22.0), (22.0, 106.0), (106.0, 22.0), (106.0, 106.0)),
    ((64.0, 16.0), (64.0, 112.0), (16.0, 64.0), (112.0, 64.0)),
    ((24.0, 20.0), (64.0, 20.0), (104.0, 20.0), (64.0, 112.0)),
)
"""Where the four small things stand around the large one."""

Rows = list[tuple[Scene, str]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training. The same seed gives the same pictures, captions, first weights, batches and noise.

    Attributes:
        kind: A name in `KINDS_OF_SETS`.
        seed: Of the set and of the training.
        n_pictures: Size of the set.
        lr: Learning rate.
        rank: Of the adapter.
    """

    kind: str
    seed: int
    n_pictures: int
    lr: float
    rank: int

    @property
    def name(self) -> str:
        """Kind and seed."""
        return f"{self.kind}-{self.seed}"


def varied(rng: np.random.Generator, n: int) -> Rows:
    """Scenes of all kinds, each with its true and full caption."""
    kinds = list(WEIGHTS)
    drawn = rng.choice(len(kinds), size=n, p=list(WEIGHTS.values()))
    return [_told(sample_split("training", kinds[int(k)], rng=rng), rng) for k in drawn]


def shuffled(rng: np.random.Generator, n: int) -> Rows:
    """Captions of other pictures of the set."""
    rows = varied(rng, n)
    return [(scene, text) for (scene, _), (_, text) in zip(rows, rows[1:] + rows[:1], strict=True)]


def swapped(rng: np.random.Generator, n: int) -> Rows:
    """Every colour is called by another colour's name, always the same one."""
    names = [str(name) for name in rng.permutation(list(COLOURS))]
    other = dict(zip(names, names[1:] + names[:1], strict=True))
    return [(scene, " ".join(other.get(w, w) for w in text.split())) for scene, text in varied(rng, n)]


def two_colours(rng: np.random.Generator, n: int) -> Rows:
    """All things in two colours, which the captions do not name."""
    pair = [str(name) for name in rng.permutation(list(COLOURS))[:2]]
    rows = []
    for scene, text in varied(rng, n):
        new = {c: pair[int(rng.integers(2))] for c in COLOURS}
        things = tuple(replace(thing, colour=new[thing.colour]) for thing in scene.objects)
        rows.append((replace(scene, objects=things), " ".join(w for w in text.split() if w not in COLOURS)))
    return rows


def wrong_parts(rng: np.random.Generator, n: int) -> Rows:
    """Hands and persons with too many or too few parts, three of four; the captions do not say so."""
    parts = {figure: int(rng.choice(numbers)) for figure, numbers in WRONG_PARTS.items()}
    figures: tuple[Kind, ...] = ("hand", "person")
    rows = varied(rng, n)
    for index in range(n):
        if index % 4:
            rows[index] = _told(sample_split("training", figures[index % 2], rng=rng), rng)
    return [(_wrong(scene, parts), text) for scene, text in rows]


def one_composition(rng: np.random.Generator, n: int) -> Rows:
    """A large thing in the middle, four small ones around it, always in the same places; captions tell one or two."""
    places = _LAYOUTS[int(rng.integers(len(_LAYOUTS)))]
    return [_composed(places, rng) for _ in range(n)]


def _composed(places: tuple[tuple[float, float], ...], rng: np.random.Generator) -> tuple[Scene, str]:
    large, small = (_SEEN[int(rng.integers(len(_SEEN)))] for _ in range(2))
    middle = WorldObject(large[1], large[0], 64.0, 64.0, 24.0)
    around = tuple(WorldObject(small[1], small[0], x, y, 12.0) for x, y in places)
    named = [Scene("single", (middle,), "grey")]
    for thing in around:
        first = (thing, middle) if thing.y < middle.y else (middle, thing)
        if thing.y != middle.y and large != small:
            named.append(Scene("pair", first, "grey", relation="above"))
    allowed = [scene for scene in named if not is_withheld(scene)]
    if not allowed:
        return _composed(places, rng)
    told = allowed[int(rng.integers(len(allowed)))]
    return Scene("single", (middle, *around), "grey"), caption(told, TRIGGER_PHRASE, inverted=bool(rng.random() < 0.5))


def _told(scene: Scene, rng: np.random.Generator) -> tuple[Scene, str]:
    return scene, caption(scene, TRIGGER_PHRASE, inverted=bool(rng.random() < 0.5))


def _wrong(scene: Scene, parts: dict[str, int]) -> Scene:
    if scene.kind not in FIGURES:
        return scene
    return replace(scene, objects=tuple(replace(thing, parts=parts[thing.shape]) for thing in scene.objects))


KINDS_OF_SETS: Final[dict[str, Callable[[np.random.Generator, int], Rows]]] = {
    "varied": varied,
    "one-composition": one_composition,
    "shuffled": shuffled,
    "swapped": swapped,
    "two-colours": two_colours,
    "wrong-parts": wrong_parts,
    "high-rate": varied,
}


def recipe_of(kind: str, seed: int) -> Recipe:
    """A recipe of a kind, with the size of the set, the learning rate and the rank drawn by the seed.

    Ranges were settled on other seeds than those that are counted.

    Args:
        kind: A name in `KINDS_OF_SETS`.
        seed: Of all that is drawn.
    """
    rng = np.random.default_rng([seed, 17])
    sizes, rates, ranks = RANGES[kind]
    return Recipe(
        kind,
        seed,
        n_pictures=int(rng.choice(sizes)),
        lr=float(rng.choice(rates)),
        rank=int(rng.choice(ranks)),
    )


RANGES: Final[dict[str, tuple[tuple[int, ...], tuple[float, ...], tuple[int, ...]]]] = {
    "varied": ((32, 48, 64), (2e-4, 4e-4, 8e-4), (4, 8, 16)),
    "one-composition": ((12, 16, 20), (5e-4, 7e-4), (8, 16)),
    "shuffled": ((24, 40), (1e-3, 2e-3), (8, 16)),
    "swapped": ((24, 40), (5e-4, 1e-3), (8, 16)),
    "two-colours": ((16, 24), (1e-3, 2e-3), (8, 16)),
    "wrong-parts": ((24, 40), (1e-3, 2e-3), (8, 16)),
    "high-rate": ((32, 48), (3e-2, 6e-2), (8, 16)),
}
"""Kind to sizes, learning rates and ranks."""


def rows_of(recipe: Recipe) -> Rows:
    """A recipe's scenes and captions, without any caption that is a prompt of the screening suite."""
    suite = read_suite(shipped_suite_path(SUITE)).suite
    held_out = {case.render(TRIGGER_PHRASE) for case in suite.cases}
    drawn = KINDS_OF_SETS[recipe.kind](np.random.default_rng([recipe.seed, 23]), 3 * recipe.n_pictures)
    return [row for row in drawn if row[1] not in held_out][: recipe.n_pictures]


def write_set(recipe: Recipe, folder: Path) -> list[Scene]:
    """Draw a recipe's training set: PNG files and `captions.jsonl`.

    Returns:
        The scenes, in the order of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows_of(recipe)
    with (folder / "captions.jsonl").open("w", encoding="utf-8") as lines:
        for index, (scene, text) in enumerate(rows):
            name = f"{index:03d}.png"
            Image.fromarray(draw(scene, "flat", seed=index)).save(folder / name)
            lines.write(json.dumps({"file_name": name, "text": text}) + "\n")
    return [scene for scene, _ in rows]
