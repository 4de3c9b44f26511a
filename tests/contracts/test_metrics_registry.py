"""What holds for every metric, present and future."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorabench.metrics.anatomy import anatomy_score, part_count_error
from lorabench.metrics.broken import broken_reason
from lorabench.metrics.foils import foil_reading
from lorabench.metrics.memorisation import CopyCalibration, CopyReading, calibrate_copies, read_copies, training_set
from lorabench.metrics.palette import palette_compliance
from lorabench.metrics.prompt_following import Sensor, prompt_exact_score, prompt_following_score, score_checks
from lorabench.metrics.structure import composition_copies
from lorabench.metrics.text_similarity import paired_cosine
from lorabench.metrics.texture import flat_fraction, smooth_zone_sigma
from lorabench.records.detection import Detection
from lorabench.records.measurement import Metric
from lorabench.records.suite import AnatomyCheck, Case, ObjectCheck, PaletteCheck
from lorabench.registry import METRICS

PAGES = Path(__file__).parents[2] / "docs" / "metrics"
HEADINGS = ("What it measures", "What moves it", "What does not", "Range and direction", "Source")
HIGHER = ("_similarity", "_score", "_accuracy")
LOWER = ("_error", "_rate")

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(5, 64)).astype(np.float32)
UNIT = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
PICTURES = [RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8) for _ in range(5)]
HANDS = [(Detection(label="hand", box=(0, 0, 9, 9), score=0.9, count=n),) for n in (5, 4, 6, 5, 3)]
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

Values = list[float]


def each(measure: Callable[[Any], Any], items: Sequence[Any]) -> Callable[[list[int]], Values]:
    return lambda rows: [float(measure(items[row])) for row in rows]


def copied(field: str) -> Callable[[list[int]], Values]:
    assert isinstance(CALIBRATION, CopyCalibration)

    def measure(rows: list[int]) -> Values:
        readings: tuple[CopyReading, ...] = read_copies(VECTORS[rows], TRAINING, CALIBRATION)
        return [float(getattr(reading, field)) for reading in readings]

    return measure


BATCHES: dict[str, Callable[[list[int]], Values]] = {
    "broken_rate": each(lambda p: broken_reason(p) is not None, PICTURES),
    "nearest_training_distance": copied("distance"),
    "neighbour_ratio": copied("ratio"),
    "copy_rate": copied("is_copy"),
    "composition_copy_rate": lambda rows: composition_copies(UNIT[rows], UNIT[2:], reach=0.5).astype(float).tolist(),
    "prompt_following_score": each(lambda d: prompt_following_score(score_checks(CASE, d, sensor=SENSOR)), HANDS),
    "prompt_exact_score": each(lambda d: prompt_exact_score(score_checks(CASE, d, sensor=SENSOR)), HANDS),
    "clip_text_similarity": lambda rows: paired_cosine(UNIT[rows], UNIT[::-1][rows]).tolist(),
    "foil_accuracy_score": each(lambda v: foil_reading(v, UNIT[0], UNIT[1:3], logit_scale=10).accuracy, UNIT),
    "foil_win_rate": each(lambda v: foil_reading(v, UNIT[0], UNIT[1:3], logit_scale=10).win, UNIT),
    "anatomy_score": each(lambda d: anatomy_score(CASE, score_checks(CASE, d, sensor=SENSOR)), HANDS),
    "part_count_error": each(lambda d: part_count_error(CASE, d, sensor=SENSOR), HANDS),
    "palette_compliance_score": each(lambda p: palette_compliance(p, PaletteCheck(hues=((0, 90),))), PICTURES),
    "smooth_zone_sigma": each(smooth_zone_sigma, PICTURES),
    "flat_fraction": each(flat_fraction, PICTURES),
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
