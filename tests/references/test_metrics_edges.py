"""Widths of edges against the truth: steps blurred by a known Gaussian."""

import math

import numpy as np
import pytest
from scipy.special import erf

from lorabench.metrics.edges import MOST_SIGMA, edge_sigmas, find_edges
from lorabench.metrics.sharpness import edge_sigma

SIZE = 256
Y, X = np.mgrid[:SIZE, :SIZE] + 0.5


def step(sigma: float, *, height: float = 100.0, turn: float = 0.0, offset: float = 0.2) -> np.ndarray:
    """A straight edge through the middle, exactly integrated; RGB, not rounded."""
    angle = math.radians(turn)
    distance = (X - SIZE / 2 - offset) * math.cos(angle) + (Y - SIZE / 2) * math.sin(angle)
    values = 128 + height / 2 * erf(distance / sigma / math.sqrt(2))
    return np.repeat(values[..., None], 3, axis=2)


@pytest.mark.parametrize(("sigma", "tolerance"), [(0.5, 0.25), (1.0, 0.1), (2.0, 0.03), (3.0, 0.01), (5.0, 0.01)])
def test_step_returns_the_sigma_it_was_blurred_by(sigma: float, tolerance: float) -> None:
    assert edge_sigma(step(sigma)) == pytest.approx(sigma, rel=tolerance)


@pytest.mark.parametrize("turn", [15.0, 45.0, 70.0, 90.0])
def test_width_does_not_depend_on_the_direction(turn: float) -> None:
    assert edge_sigma(step(2.0, turn=turn)) == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("height", [40.0, 80.0, 200.0])
def test_width_does_not_depend_on_the_height(height: float) -> None:
    assert edge_sigma(step(1.5, height=height)) == pytest.approx(edge_sigma(step(1.5)), rel=1e-6)


def test_rounding_to_eight_bits_moves_widths_by_a_few_hundredths() -> None:
    for sigma in (1.0, 2.0, 3.0):
        rounded = np.rint(step(sigma)).astype(np.uint8)
        assert edge_sigma(rounded) == pytest.approx(sigma, rel=0.1)


def test_every_row_has_its_edge_once() -> None:
    on_edge = find_edges(step(1.0)[..., 0]).on_edge

    assert on_edge[1:-1].sum(axis=1).tolist() == [1] * (SIZE - 2)
    assert np.nonzero(on_edge[5])[0].tolist() == [SIZE // 2 - 1] or np.nonzero(on_edge[5])[0].tolist() == [SIZE // 2]


def test_flat_and_gently_sloping_pictures_have_no_edges() -> None:
    assert edge_sigmas(np.full((64, 64, 3), 90.0)).size == 0
    assert edge_sigmas(np.repeat((X * 0.9)[..., None], 3, axis=2)).size == 0


def test_what_is_wider_than_can_be_told_is_capped() -> None:
    ramp = np.clip((X - 20) * 7.0, 0, 255)

    widths = edge_sigmas(np.repeat(ramp[..., None], 3, axis=2))

    assert widths.size > 0
    assert widths.max() <= MOST_SIGMA + 1e-9
