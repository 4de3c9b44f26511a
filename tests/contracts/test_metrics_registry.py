"""What holds for every metric, present and future."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorabench.metrics.anatomy import anatomy_score, part_count_error
from lorabench.metrics.broken import broken_reason
from lorabench.metrics.clutter import ambient_density, clutter_of
from lorabench.metrics.descriptor_copies import calibrate_descriptors, described_set, read_descriptors
from lorabench.metrics.foils import foil_reading
from lorabench.metrics.geneval import Rules
from lorabench.metrics.halo import chroma_halo, jpeg_halo, luma_ring
from lorabench.metrics.invented import surplus
from lorabench.metrics.lettering import leak_of, lettering_of, lettering_share
from lorabench.metrics.memorisation import CopyCalibration, CopyReading, calibrate_copies, read_copies, training_set
from lorabench.metrics.palette import palette_compliance
from lorabench.metrics.photo_look import photo_probability
from lorabench.metrics.prompt_following import Sensor, prompt_exact_score, prompt_following_score, score_checks
from lorabench.metrics.saturation import clipped_share, mean_chroma, rms_contrast
from lorabench.metrics.sharpness import bokeh_share, edge_sigma
from lorabench.metrics.structure import composition_copies
from lorabench.metrics.style_similarity import csls_similarity, mean_cosine
from lorabench.metrics.text_similarity import paired_cosine
from lorabench.metrics.texture import flat_fraction, smooth_zone_sigma, tile_sigma
from lorabench.metrics.tile_copies import TileCalibration, calibrate_tiles, read_tiles, tile_distances
from lorabench.records.detection import Detection, Lettering
from lorabench.records.measurement import Metric
from lorabench.records.suite import AnatomyCheck, Case, ObjectCheck, PaletteCheck
from lorabench.registry import METRICS
from lorabench.world.drawing import draw
from lorabench.world.scene import sample_scene

PAGES = Path(__file__).parents[2] / "docs" / "metrics"
HEADINGS = ("What it measures", "What moves it", "What does not", "Range and direction", "Source")
HIGHER = ("_similarity", "_score", "_accuracy")
LOWER = ("_error", "_rate")

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(5, 64)).astype(np.float32)
UNIT = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
PICTURES = [RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8) for _ in range(5)]
DRAWN = [draw(sample_scene("pair", rng=np.random.default_rng(n)), "photo", seed=n) for n in (0, 1, 2, 3, 5)]
HANDS = [(Detection(label="hand", box=(0, 0, 9, 9), score=0.9, count=n),) for n in (5, 4, 6, 5, 3)]
LETTERINGS = [
    tuple(
        Lettering(text=text, score=0.9, likeness=0.9, box=(0, 8.0 * row, 20.0, 8.0 * row + 6), script="Latin")
        for row, text in enumerate(texts)
    )
    for texts in (("BAKERY",), (), ("A",), ("BAKERS", "MILK"), ("BREAD",))
]
PHOTO_TEXTS = np.concatenate([UNIT] * 4)[:16]
CASE = Case(
    id="c",
    family="anatomy",
    prompt="a hand",
    checks=(AnatomyCheck(label="hand", parts=5), ObjectCheck(label="hand", count=1)),
)
SENSOR = Sensor(labels=frozenset({"hand"}), reads_color=False, counts_parts=frozenset({"hand"}))
TRAINED = RNG.normal(size=(12, 64)).astype(np.float32)
TRAINING = training_set(TRAINED, TRAINED[:, ::-1].copy())
CALIBRATION = calibrate_copies(TRAINING, RNG.normal(size=(30, 64)).astype(np.float32))
DESCRIBED = np.stack([np.roll(UNIT, shift, axis=1)[n % 5] for n, shift in enumerate(range(17))])[:, None]
DESCRIBED = (DESCRIBED + 0.1 * RNG.normal(size=(17, 12, 64))).astype(np.float32)
DESCRIBED /= np.linalg.norm(DESCRIBED, axis=2, keepdims=True)
DESCRIBED_CONTROL = RNG.normal(size=(30, 6, 64)).astype(np.float32)
DESCRIBED_CONTROL /= np.linalg.norm(DESCRIBED_CONTROL, axis=2, keepdims=True)
TILED = RNG.normal(size=(54, 640)).astype(np.float32)

Values = list[float]


def each(measure: Callable[[Any], Any], items: Sequence[Any]) -> Callable[[list[int]], Values]:
    return lambda rows: [float(measure(items[row])) for row in rows]


def copied(field: str) -> Callable[[list[int]], Values]:
    assert isinstance(CALIBRATION, CopyCalibration)

    def measure(rows: list[int]) -> Values:
        readings: tuple[CopyReading, ...] = read_copies(VECTORS[rows], TRAINING, CALIBRATION)
        return [float(getattr(reading, field)) for reading in readings]

    return measure


def described(field: str) -> Callable[[list[int]], Values]:
    views, control, cases = DESCRIBED[:, :6], DESCRIBED_CONTROL, np.arange(30)
    calibration = calibrate_descriptors(described_set(DESCRIBED), control)
    assert isinstance(calibration, CopyCalibration)

    def measure(rows: list[int]) -> Values:
        of = np.asarray(rows) + 100
        training = described_set(DESCRIBED[5:])
        readings = read_descriptors(views[rows], training, calibration, cases=of, control=control, control_cases=cases)
        return [float(getattr(reading, field)) for reading in readings]

    return measure


def tiled(field: str) -> Callable[[list[int]], Values]:
    tiles = np.arange(640) % 16
    known = training_set(TILED[:12], TILED[12:24])
    own, control = (tile_distances(vectors, known, tiles=tiles) for vectors in (known.vectors, TILED[24:]))
    calibration = calibrate_tiles(own, control)
    assert isinstance(calibration, TileCalibration)

    def measure(rows: list[int]) -> Values:
        readings = read_tiles(tile_distances(TILED[rows] + TILED[24], known, tiles=tiles), known, calibration)
        return [float(getattr(reading, field)) for reading in readings]

    return measure


BATCHES: dict[str, Callable[[list[int]], Values]] = {
    "broken_rate": each(lambda p: broken_reason(p) is not None, PICTURES),
    "nearest_training_distance": copied("distance"),
    "neighbour_ratio": copied("ratio"),
    "copy_rate": copied("is_copy"),
    "descriptor_ratio": described("ratio"),
    "descriptor_copy_rate": described("is_copy"),
    "tile_copy_share": tiled("share"),
    "part_copy_rate": tiled("is_part_copy"),
    "largest_tile_distance": tiled("largest_distance"),
    "composition_copy_rate": lambda rows: composition_copies(UNIT[rows], UNIT[2:], reach=0.5).astype(float).tolist(),
    "prompt_following_score": each(lambda d: prompt_following_score(score_checks(CASE, d, sensor=SENSOR)), HANDS),
    "prompt_exact_score": each(lambda d: prompt_exact_score(score_checks(CASE, d, sensor=SENSOR)), HANDS),
    "clip_text_similarity": lambda rows: paired_cosine(UNIT[rows], UNIT[::-1][rows]).tolist(),
    "foil_accuracy_score": each(lambda v: foil_reading(v, UNIT[0], UNIT[1:3], logit_scale=10).accuracy, UNIT),
    "foil_win_rate": each(lambda v: foil_reading(v, UNIT[0], UNIT[1:3], logit_scale=10).win, UNIT),
    "anatomy_score": each(lambda d: anatomy_score(CASE, score_checks(CASE, d, sensor=SENSOR)), HANDS),
    "part_count_error": each(lambda d: part_count_error(CASE, d, sensor=SENSOR), HANDS),
    "palette_compliance_score": each(lambda p: palette_compliance(p, PaletteCheck(hues=((0, 90),))), PICTURES),
    "photo_probability": lambda rows: photo_probability(UNIT[rows], PHOTO_TEXTS, logit_scale=5.0).tolist(),
    "style_similarity": lambda rows: csls_similarity(UNIT[rows], UNIT[1:4], UNIT[3:]).tolist(),
    "identity_similarity": lambda rows: mean_cosine(UNIT[rows], UNIT[2:]).tolist(),
    "smooth_zone_sigma": each(smooth_zone_sigma, PICTURES),
    "flat_fraction": each(flat_fraction, PICTURES),
    "lettering_rate": each(lambda seen: bool(lettering_of(seen, size=(40, 40))), LETTERINGS),
    "lettering_share": each(lambda seen: lettering_share(seen, size=(40, 40)), LETTERINGS),
    "lettering_leak_rate": each(lambda seen: leak_of(seen, LETTERINGS[:2]) is not None, LETTERINGS),
    "surplus_objects": each(lambda d: surplus(CASE, d * 2, rules=Rules(), unasked=frozenset({"hand"})).value, HANDS),
    "empty_space_clutter": each(lambda p: clutter_of(p).share, PICTURES),
    "clutter_components": each(lambda p: clutter_of(p).n_components, PICTURES),
    "ambient_density": each(ambient_density, PICTURES),
    "tile_sigma": each(tile_sigma, PICTURES),
    "edge_sigma": each(edge_sigma, DRAWN),
    "bokeh_share": each(bokeh_share, DRAWN),
    "jpeg_halo": each(jpeg_halo, DRAWN),
    "chroma_halo": each(chroma_halo, DRAWN),
    "luma_ring": each(luma_ring, DRAWN),
    "mean_chroma": each(mean_chroma, PICTURES),
    "clipped_share": each(clipped_share, PICTURES),
    "rms_contrast": each(rms_contrast, PICTURES),
}
"""Each metric on single pictures: rows of the sample above to values."""


def metric(name: str) -> Metric:
    loaded = METRICS.load(name)
    assert isinstance(loaded, Metric)
    return loaded


@pytest.mark.parametrize("name", METRICS.names())
def test_name_leads_to_the_metric_of_that_name(name: str) -> None:
    assert metric(name).name == name
    assert metric(name).version >= 1
    assert metric(name).unit
    assert metric(name).summary


@pytest.mark.parametrize("name", METRICS.names())
def test_name_tells_the_direction(name: str) -> None:
    if name.endswith(HIGHER):
        assert metric(name).higher_is_better
    if name.endswith(LOWER) and not name.endswith("_win_rate"):
        assert not metric(name).higher_is_better


@pytest.mark.parametrize("name", METRICS.names())
def test_page_says_what_moves_it(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")

    assert text.startswith(f"# {name}\n")
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")][: len(HEADINGS)] == list(HEADINGS)
    direction = "higher is better" if metric(name).higher_is_better else "lower is better"
    assert direction in text.lower()
    assert f"version {metric(name).version}" in text.lower()


def test_every_metric_on_single_pictures_is_in_the_table_below() -> None:
    assert {name for name in METRICS.names() if metric(name).level == "cell"} == set(BATCHES)


@pytest.mark.parametrize("name", sorted(BATCHES))
def test_value_does_not_depend_on_batch_mates(name: str) -> None:
    together = BATCHES[name]([0, 1, 2, 3, 4])

    assert all(np.isfinite(together))
    assert BATCHES[name]([4, 2, 0]) == pytest.approx([together[4], together[2], together[0]], rel=1e-6)
    assert [BATCHES[name]([row])[0] for row in range(5)] == pytest.approx(together, rel=1e-6)


@pytest.mark.parametrize("name", sorted(BATCHES))
def test_value_does_not_change_when_measured_again(name: str) -> None:
    assert BATCHES[name]([0, 1, 2]) == BATCHES[name]([0, 1, 2])
