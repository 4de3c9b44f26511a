"""Faults put into pictures of the mini world on purpose: each moves its own metric, and the healthy twin passes."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from lorabench.metrics.broken import broken_reason
from lorabench.metrics.geneval import Rules
from lorabench.metrics.memorisation import CopyCalibration, calibrate_copies, read_copies, training_set
from lorabench.metrics.palette import palette_compliance, palette_embedding
from lorabench.metrics.prompt_following import Sensor, prompt_exact_score, prompt_following_score, score_checks
from lorabench.metrics.response import PromptResponse, collapse, distance_matrix
from lorabench.metrics.structure import composition_copies, composition_reach, structure_descriptor
from lorabench.metrics.texture import bleed_position, flat_fraction, smooth_zone_sigma
from lorabench.records.detection import Detection
from lorabench.records.suite import Case, ColorCheck, ObjectCheck, PaletteCheck, RelationCheck
from lorabench.world.drawing import Style, draw
from lorabench.world.scene import Kind, Scene, WorldObject, sample_scene

KINDS: tuple[Kind, ...] = ("single", "position", "pair", "and", "count")
Picture = np.ndarray


def scenes(n: int, *, seed: int, kinds: tuple[Kind, ...] = KINDS) -> list[Scene]:
    return [sample_scene(kinds[i % len(kinds)], rng=np.random.default_rng([seed, i])) for i in range(n)]


def pictures(of: list[Scene], style: Style = "flat") -> list[Picture]:
    return [draw(scene, style, seed=i) for i, scene in enumerate(of)]


def with_noise(picture: Picture, sigma: float, *, seed: int = 0) -> Picture:
    grain = np.random.default_rng(seed).normal(0, sigma, (*picture.shape[:2], 1))
    return np.clip(np.rint(picture * 0.8 + 20 + grain), 0, 255).astype(np.uint8)


def decoded(picture: Picture, *, seed: int) -> Picture:
    """As if a decoder had drawn it: slightly soft, slightly noisy."""
    soft = gaussian_filter(picture.astype(float), (0.5, 0.5, 0))
    return np.clip(np.rint(soft + np.random.default_rng(seed).normal(0, 1.5, soft.shape)), 0, 255).astype(np.uint8)


def pixels(of: list[Picture]) -> np.ndarray:
    """Blurred pixels: an embedding that needs no weights and is not mirror-invariant."""
    return np.stack([gaussian_filter(p.astype(np.float32), (2, 2, 0))[::4, ::4].ravel() / 255 for p in of])


@pytest.mark.parametrize("style", ["flat", "photo", "painting"])
def test_no_ordinary_picture_is_broken(style: Style) -> None:
    drawn = pictures(scenes(35, seed=0, kinds=(*KINDS, "hand", "person")), style)

    assert [broken_reason(p, size=(128, 128)) for p in drawn] == [None] * 35


def test_empty_page_is_broken() -> None:
    page = pictures(scenes(1, seed=0, kinds=("position",)))[0][:8, :8]

    assert "empty" in (broken_reason(np.tile(page[:1, :1], (128, 128, 1))) or "")


@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0])
def test_grain_put_into_flat_pictures_is_measured(sigma: float) -> None:
    for picture in pictures(scenes(5, seed=1)):
        assert smooth_zone_sigma(picture) < 0.05
        assert smooth_zone_sigma(with_noise(picture, sigma)) == pytest.approx(np.hypot(sigma, 0.29), rel=0.06)


def test_texture_position_of_clean_grainy_and_photographic_pictures() -> None:
    training, base = pictures(scenes(20, seed=2)), pictures(scenes(20, seed=3), "photo")
    clean = pictures(scenes(20, seed=4))

    for axis, measure in (("sigma", smooth_zone_sigma), ("flat_fraction", flat_fraction)):
        t, b, c = ([measure(p) for p in group] for group in (training, base, clean))
        grain = [measure(with_noise(p, 4.0, seed=i)) for i, p in enumerate(clean)]
        assert abs(bleed_position(c, t, b, axis=axis)) < 0.1  # type: ignore[arg-type]
        assert bleed_position(grain, t, b, axis=axis) > 0.6  # type: ignore[arg-type, operator]


def tinted(picture: Picture, share: float) -> Picture:
    """Every pixel's colour moved towards red of the same brightness."""
    grey = picture.mean(axis=2, keepdims=True)
    red = np.clip(grey * np.array([1.6, 0.7, 0.7]), 0, 255)
    return np.rint(picture * (1 - share) + red * share).astype(np.uint8)


def palette_response(of: list[Picture], cases: np.ndarray) -> PromptResponse:
    return PromptResponse(distance_matrix(np.stack([palette_embedding(p, chroma_only=True) for p in of])), cases)


def colour_cases() -> tuple[list[Scene], np.ndarray]:
    """Six colours, three seeds each: the same scene but for the colour."""
    names = ("red", "yellow", "green", "cyan", "blue", "purple")
    shapes = scenes(3, seed=5, kinds=("single",))
    made = [
        Scene("single", tuple(_recoloured(o, name) for o in scene.objects), scene.ground)
        for name in names
        for scene in shapes
    ]
    return made, np.repeat(np.arange(6), 3)


def _recoloured(thing: WorldObject, name: str) -> WorldObject:
    return replace(thing, colour=name)


def test_palette_forced_to_one_hue_collapses_and_no_longer_complies() -> None:
    of, cases = colour_cases()
    control, healthy = pictures(of, "photo"), pictures(of)
    forced = [tinted(p, 1.0) for p in healthy]
    reference = palette_response(control, cases)
    cool = PaletteCheck(hues=((230.0, 300.0),))

    assert collapse(palette_response(healthy, cases), reference) < 0.3  # type: ignore[operator]
    assert collapse(palette_response(forced, cases), reference) > 0.7  # type: ignore[operator]
    assert np.mean([palette_compliance(p, cool) for p in healthy[12:15]]) > 0.9
    assert np.mean([palette_compliance(p, cool) for p in forced[12:15]]) < 0.1


def test_copies_and_mirrored_copies_are_found_and_new_scenes_are_not() -> None:
    trained = pictures(scenes(40, seed=6))
    training = training_set(
        pixels([decoded(p, seed=i) for i, p in enumerate(trained)]),
        pixels([decoded(p[:, ::-1], seed=50 + i) for i, p in enumerate(trained)]),
    )
    calibration = calibrate_copies(training, pixels(pictures(scenes(60, seed=7), "photo")))
    assert isinstance(calibration, CopyCalibration)

    def rate(of: list[Picture]) -> float:
        seen = pixels([decoded(p, seed=100 + i) for i, p in enumerate(of)])
        return float(np.mean([bool(r.is_copy) for r in read_copies(seen, training, calibration)]))

    assert rate(trained) > 0.9
    assert rate([p[:, ::-1] for p in trained]) > 0.9
    assert rate(pictures(scenes(60, seed=8))) < 0.05


def test_compositions_locked_to_the_training_pictures_collapse() -> None:
    """All prompts give one centred object, as in the training set: no copy of any picture, and still memorised."""
    trained = pictures(scenes(16, seed=9, kinds=("single",)))
    asked = [scene for scene in scenes(20, seed=10, kinds=KINDS[1:]) for _ in range(3)]
    cases = np.repeat(np.arange(20), 3)
    control, healthy = pictures(asked, "photo"), pictures(asked)
    locked = pictures(scenes(60, seed=11, kinds=("single",)))
    training = np.stack([structure_descriptor(p) for p in trained])
    reach = composition_reach(training)
    assert isinstance(reach, float)

    def described(of: list[Picture]) -> np.ndarray:
        return np.stack([structure_descriptor(p) for p in of])

    def response(of: list[Picture]) -> PromptResponse:
        return PromptResponse(distance_matrix(described(of)), cases)

    def share(of: list[Picture]) -> float:
        return float(composition_copies(described(of), training, reach=reach).mean())

    assert abs(share(healthy) - share(control)) < 0.05
    assert share(locked) - share(control) > 0.5
    assert collapse(response(healthy), response(control)) < 0.1  # type: ignore[operator]
    assert collapse(response(locked), response(control)) > 0.8  # type: ignore[operator]


CASE = Case(
    id="red-left-of-blue",
    family="spatial",
    prompt="a red circle left of a blue square",
    checks=(
        ObjectCheck(label="circle"),
        ObjectCheck(label="square"),
        ColorCheck(label="circle", color="red"),
        ColorCheck(label="square", color="blue"),
        RelationCheck(subject="circle", relation="left of", object="square"),
    ),
)
SENSOR = Sensor(labels=frozenset({"circle", "square"}), reads_color=True, rules=Rules())
RIGHT = (
    Detection(label="circle", box=(10, 40, 40, 70), score=0.95, color="red"),
    Detection(label="square", box=(80, 40, 110, 70), score=0.95, color="blue"),
)


def passed(*found: Detection) -> list[bool | None]:
    return [score.passed for score in score_checks(CASE, found, sensor=SENSOR)]


def flipped(thing: Detection) -> Detection:
    left, top, right, bottom = thing.box
    return thing.model_copy(update={"box": (128 - right, top, 128 - left, bottom)})


def test_right_scene_passes_every_check() -> None:
    assert passed(*RIGHT) == [True] * 5


def test_swapped_colours_fail_the_colour_checks_only() -> None:
    swapped = (RIGHT[0].model_copy(update={"color": "blue"}), RIGHT[1].model_copy(update={"color": "red"}))

    assert passed(*swapped) == [True, True, False, False, True]


def test_flip_fails_the_relation_only() -> None:
    scores = score_checks(CASE, [flipped(thing) for thing in RIGHT], sensor=SENSOR)

    assert [score.passed for score in scores] == [True, True, True, True, False]
    assert prompt_following_score(scores) == pytest.approx(0.8)
    assert prompt_exact_score(scores) == 0.0


def test_dropped_subject_fails_what_concerns_it() -> None:
    assert passed(RIGHT[0]) == [True, False, True, False, False]
