"""Copies and new scenes on real LPIPS distances: the figures that docs/metrics/copy_rate.md states."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from lorabench.metrics.memorisation import CopyCalibration, calibrate_copies, copy_sensitivity, training_set
from lorabench.world.drawing import draw
from lorabench.world.scene import Kind, Scene, sample_scene

pytestmark = [pytest.mark.weights, pytest.mark.slow]
KINDS: tuple[Kind, ...] = ("single", "position", "pair", "and", "count")


@pytest.fixture(scope="module")
def encoder():
    from lorabench.judges.lpips_embedding import LpipsEncoder
    from lorabench.judges.weights import fetch_lpips

    fetch_lpips("alex")
    return LpipsEncoder("alex", device="cpu", size=128)


def scenes(n: int, *, seed: int, kinds: tuple[Kind, ...] = KINDS) -> list[Scene]:
    return [sample_scene(kinds[i % len(kinds)], rng=np.random.default_rng([seed, i])) for i in range(n)]


def drawn(of: list[Scene], style: str = "flat") -> list[np.ndarray]:
    return [draw(scene, style, seed=i) for i, scene in enumerate(of)]


def decoded(of: list[np.ndarray], *, seed: int) -> list[np.ndarray]:
    """As if a decoder had drawn them: slightly soft, slightly noisy."""
    rng = np.random.default_rng(seed)
    soft = [gaussian_filter(picture.astype(float), (0.5, 0.5, 0)) for picture in of]
    return [np.clip(np.rint(p + rng.normal(0, 1.5, p.shape)), 0, 255).astype(np.uint8) for p in soft]


@pytest.mark.parametrize(("kinds", "n", "mirrored"), [(KINDS, 20, 0.9), (KINDS, 40, 0.9), (("single",), 16, 0.0)])
def test_copies_are_found_and_new_scenes_in_the_style_are_not(encoder, kinds, n: int, mirrored: float) -> None:
    trained = drawn(scenes(n, seed=3, kinds=kinds))
    flipped = [picture[:, ::-1].copy() for picture in trained]
    training = training_set(encoder.embed(decoded(trained, seed=1)), encoder.embed(decoded(flipped, seed=2)))
    calibration = calibrate_copies(training, encoder.embed(decoded(drawn(scenes(60, seed=1), "photo"), seed=3)))
    assert isinstance(calibration, CopyCalibration)

    def rate(of: list[np.ndarray], seed: int) -> float:
        return copy_sensitivity(encoder.embed(decoded(of, seed=seed)), training, calibration)

    assert rate(trained, 4) > 0.9
    assert rate(flipped, 5) >= mirrored
    assert rate(drawn(scenes(60, seed=1)), 6) <= 0.05
