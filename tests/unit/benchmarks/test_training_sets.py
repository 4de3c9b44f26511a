"""Training sets that spoil an adapter: each is wrong in its own way, and another one per seed."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.world.captions import TRIGGER_PHRASE, is_withheld
from lorabench.world.prompt_reading import read_prompt
from lorabench.world.scene import COLOURS, FIGURES, Scene

ROOT = Path(__file__).resolve().parents[3]
SETS = runpy.run_path(str(ROOT / "benchmarks" / "training_sets.py"))
KINDS = list(SETS["KINDS_OF_SETS"])


def rows_of(kind: str, *, seed: int = 5, n: int = 24) -> list[tuple[Scene, str]]:
    rows: list[tuple[Scene, str]] = SETS["KINDS_OF_SETS"][kind](np.random.default_rng(seed), n)
    return rows


def is_told_truly(scene: Scene, text: str) -> bool:
    """Whether the caption names the picture's things, in colour, shape and number."""
    read = read_prompt(text, rng=np.random.default_rng(0))
    assert read is not None, text
    return sorted((t.shape, t.colour) for t in read.objects) == sorted((t.shape, t.colour) for t in scene.objects)


@pytest.mark.parametrize("kind", KINDS)
def test_every_set_has_the_wanted_size_and_is_another_one_per_seed(kind: str) -> None:
    assert len(rows_of(kind)) == 24
    assert rows_of(kind) == rows_of(kind)
    assert rows_of(kind) != rows_of(kind, seed=6)


@pytest.mark.parametrize("kind", ["varied", "wrong-parts"])
def test_captions_tell_what_is_there(kind: str) -> None:
    assert all(is_told_truly(scene, text) for scene, text in rows_of(kind))


@pytest.mark.parametrize("kind", ["shuffled", "swapped"])
def test_captions_are_wrong(kind: str) -> None:
    wrong = [not is_told_truly(scene, text) for scene, text in rows_of(kind)]

    assert sum(wrong) >= 20


def test_swapped_colours_are_always_swapped_alike() -> None:
    pairs = {
        (thing.colour, told.colour)
        for scene, text in rows_of("swapped", n=60)
        if len(scene.objects) == 1 and (read := read_prompt(text, rng=np.random.default_rng(0)))
        for thing, told in zip(scene.objects, read.objects, strict=True)
    }

    assert len({true for true, _ in pairs}) == len(pairs) == len({told for _, told in pairs})


def test_two_colours_are_all_there_is_and_no_caption_names_one() -> None:
    rows = rows_of("two-colours")

    assert len({thing.colour for scene, _ in rows for thing in scene.objects}) == 2
    assert not any(colour in text.split() for _, text in rows for colour in COLOURS)


def test_every_figure_has_the_wrong_parts_and_half_of_the_pictures_show_one() -> None:
    figures = [thing for scene, _ in rows_of("wrong-parts") for thing in scene.objects if thing.shape in FIGURES]

    assert len(figures) >= 12
    assert all(thing.parts != FIGURES[thing.shape] for thing in figures)


def test_one_composition_has_its_things_in_the_same_places_and_tells_few_of_them() -> None:
    rows = rows_of("one-composition")

    assert len({tuple((t.x, t.y) for t in scene.objects) for scene, _ in rows}) == 1
    assert all(len(scene.objects) == 5 for scene, _ in rows)
    assert not any(is_told_truly(scene, text) for scene, text in rows)


@pytest.mark.parametrize("kind", ["varied", "one-composition", "high-rate"])
def test_no_caption_is_a_withheld_sentence(kind: str) -> None:
    reads = [read_prompt(text, rng=np.random.default_rng(0)) for _, text in rows_of(kind, n=60)]

    assert not any(read is not None and read.kind not in FIGURES and is_withheld(read) for read in reads)


@pytest.mark.parametrize("kind", KINDS)
def test_no_caption_of_a_recipe_is_a_prompt_of_the_screen(kind: str) -> None:
    held_out = {case.render(TRIGGER_PHRASE) for case in read_suite(shipped_suite_path("world/screen")).suite.cases}
    recipe = SETS["recipe_of"](kind, 3)

    rows = SETS["rows_of"](recipe)

    assert len(rows) == recipe.n_pictures
    assert not held_out & {text for _, text in rows}


@pytest.mark.parametrize("kind", KINDS)
def test_recipe_is_drawn_from_its_ranges_by_the_seed(kind: str) -> None:
    sizes, rates, ranks = SETS["RANGES"][kind]
    drawn = [SETS["recipe_of"](kind, seed) for seed in range(1000, 1030)]

    assert {one.n_pictures for one in drawn} == set(sizes)
    assert {one.lr for one in drawn} == set(rates)
    assert {one.rank for one in drawn} == set(ranks)
    assert SETS["recipe_of"](kind, 1000) == drawn[0]


def test_set_is_written_as_pictures_and_captions(tmp_path: Path) -> None:
    recipe: Any = SETS["recipe_of"]("varied", 1)

    scenes = SETS["write_set"](recipe, tmp_path)

    lines = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    assert len(lines) == len(scenes) == recipe.n_pictures
    assert all((tmp_path / line["file_name"]).is_file() for line in lines)
