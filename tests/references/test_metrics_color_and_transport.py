"""OKLab against published values; sliced Wasserstein distances against exact transport."""

import numpy as np
import pytest

from lorabench.metrics.color import chroma, hue, oklab, picture_oklab
from lorabench.metrics.palette import directions, sliced_embedding


@pytest.mark.parametrize(
    ("srgb", "lab"),
    [
        ((1, 0, 0), (0.6280, 0.2249, 0.1258)),
        ((1, 165 / 255, 0), (0.7927, 0.0566, 0.1614)),
        ((1, 1, 0), (0.9680, -0.0714, 0.1986)),
        ((0, 1, 0), (0.8664, -0.2339, 0.1795)),
        ((0, 1, 1), (0.9054, -0.1494, -0.0394)),
        ((0, 0, 1), (0.4520, -0.0325, -0.3115)),
        ((1, 0, 1), (0.7017, 0.2746, -0.1692)),
        ((1, 1, 1), (1.0, 0.0, 0.0)),
    ],
)
def test_oklab_of_primaries(srgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    assert oklab(srgb) == pytest.approx(lab, abs=1e-4)


def test_oklab_of_middle_grey_has_lightness_only() -> None:
    assert oklab([0.5, 0.5, 0.5]) == pytest.approx([0.5982, 0, 0], abs=1e-4)


def test_chroma_and_hue_of_red_and_blue() -> None:
    lab = oklab([[1, 0, 0], [0, 0, 1]])

    assert chroma(lab) == pytest.approx([0.2577, 0.3132], abs=1e-4)
    assert hue(lab) == pytest.approx([29.23, 264.05], abs=0.01)


def test_picture_and_colour_conversions_agree() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)

    assert picture_oklab(picture) == pytest.approx(oklab(picture / 255.0), abs=1e-12)


def test_oklab_agrees_with_scikit_image_in_order_of_lightness() -> None:
    color = pytest.importorskip("skimage.color")
    greys = np.repeat(np.linspace(0, 1, 20)[:, None], 3, axis=1)

    assert np.array_equal(np.argsort(oklab(greys)[:, 0]), np.argsort(color.rgb2lab(greys)[:, 0]))


def test_translation_by_t_is_t_over_the_root_of_three_away() -> None:
    points, t = np.random.default_rng(0).normal(size=(500, 3)), np.array([0.3, -0.1, 0.2])

    distance = np.linalg.norm(sliced_embedding(points) - sliced_embedding(points + t))

    assert distance == pytest.approx(np.linalg.norm(t) / np.sqrt(3), rel=1e-6)


def test_translation_of_chroma_alone_is_t_over_the_root_of_two_away() -> None:
    points, t = np.random.default_rng(0).normal(size=(500, 2)), np.array([0.3, -0.1])

    distance = np.linalg.norm(sliced_embedding(points) - sliced_embedding(points + t))

    assert distance == pytest.approx(np.linalg.norm(t) / np.sqrt(2), rel=1e-6)


def test_embedding_distance_is_the_mean_of_exact_transport_costs_along_the_directions() -> None:
    from scipy.stats import wasserstein_distance  # W1 of sorted values; W2 by hand below

    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(4096, 3)), rng.normal(0.5, 2.0, size=(4096, 3))
    rows = (np.random.default_rng(8191).random(4096) * 4096).astype(int)
    lines = directions(3)
    costs = [np.mean((np.sort(a[rows] @ u) - np.sort(b[rows] @ u)) ** 2) for u in lines]

    distance = np.linalg.norm(sliced_embedding(a) - sliced_embedding(b))

    assert distance == pytest.approx(np.sqrt(np.mean(costs)), rel=1e-10)
    first = wasserstein_distance(a[rows] @ lines[0], b[rows] @ lines[0])
    assert first <= np.sqrt(costs[0])


@pytest.mark.parametrize("d", [2, 3])
def test_directions_are_unit_vectors_without_preference(d: int) -> None:
    vectors = directions(d)

    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(vectors)))
    assert vectors.T @ vectors / len(vectors) == pytest.approx(np.eye(d) / d, abs=1e-9)
