"""Maps of where grain sits."""

import io

import numpy as np
import pytest
from PIL import Image as PillowImage

from lorabench.metrics.texture import smooth_zone_sigma
from lorabench.records.comparison import Outcome
from lorabench.records.plan import Arm
from lorabench.report.case_view import CaseReader
from lorabench.report.texture_tiles import GRID, N_CASES, TileMap, grainiest, texture_maps, tile_sigmas, tile_webp


def noisy(*, sigma: float, size: int = 256, rows: slice = slice(None), columns: slice = slice(None)):
    rng = np.random.default_rng(4)
    picture = np.full((size, size, 3), 128.0)
    grain = rng.normal(0, sigma, (size, size))[rows, columns]
    picture[rows, columns] += grain[..., None]
    return np.clip(picture.round(), 0, 255).astype(np.uint8)


def test_grain_is_found_in_the_tile_where_it_lies() -> None:
    tiles = tile_sigmas(noisy(sigma=12.0, rows=slice(64, 96), columns=slice(160, 192)))

    assert tiles is not None
    assert np.unravel_index(tiles.argmax(), tiles.shape) == (2, 5)
    assert np.median(tiles) == 0.0
    assert tiles.max() == pytest.approx(12.0, rel=0.15)


def test_even_grain_is_read_in_every_tile_as_in_the_whole_picture() -> None:
    picture = noisy(sigma=6.0)
    tiles = tile_sigmas(picture)

    assert tiles is not None
    assert tiles.shape == (GRID, GRID)
    assert float(tiles.mean()) == pytest.approx(smooth_zone_sigma(picture), rel=0.05)


@pytest.mark.parametrize(("size", "grid"), [(128, 8), (100, 6), (32, 2)])
def test_small_pictures_have_fewer_tiles(size: int, grid: int) -> None:
    tiles = tile_sigmas(noisy(sigma=3.0, size=size))

    assert tiles is not None
    assert tiles.shape == (grid, grid)


def test_pictures_of_less_than_two_tiles_have_no_map() -> None:
    assert tile_sigmas(noisy(sigma=3.0, size=31)) is None


def test_the_map_gets_lighter_with_the_grain_up_to_the_top() -> None:
    content = tile_webp([[0.0, 0.5], [2.0, 9.0]], top=2.0)
    with PillowImage.open(io.BytesIO(content)) as image:
        lightness = np.asarray(image.convert("L"), dtype=int)

    assert lightness[0, 0] < lightness[0, 1] < lightness[1, 0] == lightness[1, 1]


def test_the_map_in_words_names_the_noisiest_tile() -> None:
    assert TileMap(((0.25, 0.25), (3.5, 0.25)), top=4.0).words == (
        "Grain by tile: median 0.250 grey levels, most 3.50 in row 2, column 1 of 2"
    )


@pytest.fixture
def grainy(example):
    """The example with the arms' grain exchanged: there the candidate has less than its control."""
    results = example.results
    swapped = [
        m.model_copy(update={"value": 9.0 - m.value}) if m.metric == "smooth_zone_sigma" else m
        for m in results.measurements
    ]
    return results.model_copy(update={"measurements": tuple(swapped)})


def test_cases_whose_grain_rose_most_are_read_in_candidate_and_control(example, grainy) -> None:
    reader = CaseReader(grainy)
    cases = reader.read_all()
    maps = texture_maps(reader, cases, picture=example.picture)
    arms = {key.partition("/")[0] for key in maps.by_cell}

    assert 0 < len(maps.cases) <= N_CASES
    assert arms == {Arm.CONTROL.value, Arm.CANDIDATE.value}
    assert {one.top for one in maps.by_cell.values()} == {maps.top}
    assert maps.top >= max(one.hottest for one in maps.by_cell.values())


def test_nothing_is_read_where_no_grain_rose(small_example) -> None:
    reader = CaseReader(small_example.results)

    maps = texture_maps(reader, reader.read_all(), picture=small_example.picture)

    assert (maps.by_cell, maps.cases) == ({}, frozenset())


def test_grain_that_nobody_sees_is_read_only_where_a_gate_on_texture_failed(example, grainy) -> None:
    faint = grainy.model_copy(
        update={"measurements": tuple(m.model_copy(update={"value": m.value / 100}) for m in grainy.measurements)}
    )
    gate = faint.gates[0].model_copy(update={"metric": "photo_bleed", "outcome": Outcome.FAIL})
    quiet = faint.model_copy(update={"gates": ()})
    failed = faint.model_copy(update={"gates": (gate,)})

    def read(results) -> int:
        reader = CaseReader(results)
        return len(texture_maps(reader, reader.read_all(), picture=example.picture).cases)

    assert read(quiet) == 0
    assert read(failed) > 0


def test_a_picture_that_is_gone_has_no_map(grainy) -> None:
    reader = CaseReader(grainy)

    assert texture_maps(reader, reader.read_all(), picture=lambda _: None).by_cell == {}


def test_the_order_is_the_rise_and_not_the_order_of_the_suite(grainy) -> None:
    reader = CaseReader(grainy)
    cases = reader.read_all()
    rises = {v.case.id: r.difference for v in cases for r in v.metrics if r.metric.name == "smooth_zone_sigma"}

    chosen = [view.case.id for view in grainiest(reversed(cases), column=reader.columns.index(reader.main))]

    assert chosen == sorted(chosen, key=lambda case: -rises[case])
