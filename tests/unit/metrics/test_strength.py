"""Known curves along strength."""

from __future__ import annotations

import numpy as np
import pytest

from lorabench.metrics.reading import Missing
from lorabench.metrics.strength import (
    axis_problem,
    case_means,
    first_strength,
    half_gain_strength,
    isotonic_fit,
    low_strength_loss,
    mean_distances,
    style_positions,
    usable_window,
)

GRID = [0.0, 0.25, 0.5, 0.7, 1.0, 1.25, 1.5]


def test_positions_are_0_at_the_control_and_1_at_the_training_pictures() -> None:
    assert style_positions([0.8, 0.5, 0.2, 0.1], control=0.8, training=0.2).tolist() == pytest.approx(
        [0.0, 0.5, 1.0, 7 / 6]
    )


def test_style_distance_is_the_mean_so_that_a_copy_is_no_style() -> None:
    assert mean_distances([[0.0, 0.9, 0.9], [0.6, 0.6, 0.6]]).tolist() == pytest.approx([0.6, 0.6])


def test_even_growth_misses_three_tenths_at_seven_tenths() -> None:
    assert low_strength_loss([0.7, 0.0, 1.0], 0.0, 1.0).tolist() == pytest.approx([0.3, 1.0, 0.0])


def test_isotonic_fit_pools_what_falls() -> None:
    assert isotonic_fit([0.0, 0.5, 1.0, 1.5], [0.0, 0.8, 0.6, 0.9]) == pytest.approx([0.0, 0.7, 0.7, 0.9])


def test_isotonic_fit_refuses_strengths_out_of_order() -> None:
    with pytest.raises(ValueError, match=r"a fit needs one value per ascending strength; got 2 values .* Sort them\."):
        isotonic_fit([1.0, 0.5], [0.0, 1.0])


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        (lambda a: min(a, 1.0), 0.5),
        (lambda a: float(a >= 0.9), 0.85),
        (lambda a: min(a / 0.3, 1.0), 0.15),
    ],
    ids=["even", "threshold", "saturating"],
)
def test_half_of_the_gain_is_found_between_grid_points(curve: object, expected: float) -> None:
    values = [curve(a) for a in GRID[:5]]  # type: ignore[operator]

    assert half_gain_strength(GRID[:5], values, full=values[-1]) == pytest.approx(expected)


def test_no_gain_has_no_half() -> None:
    found = half_gain_strength([0.0, 1.0], [0.3, 0.3], full=0.3)

    assert isinstance(found, Missing)
    assert "the working strength has no more style than strength 0" in found.reason


def test_half_of_a_gain_that_the_curve_never_shows_is_missing() -> None:
    found = half_gain_strength([0.0, 1.0], [0.0, 0.1], full=0.9)

    assert isinstance(found, Missing)
    assert "half of the gain is not reached on the grid" in found.reason


def test_the_window_is_the_longest_run_of_usable_strengths_and_may_be_empty() -> None:
    assert usable_window(GRID[1:], [True, False, True, True, True, False]) == (0.7, 1.25)
    assert usable_window(GRID[1:], [False, False, False, True, False, False]) == (1.0, 1.0)
    assert usable_window(GRID[1:], [False] * 6) is None


def test_onset_is_the_first_strength_with_damage() -> None:
    assert first_strength([0.5, 1.0, 1.5], [False, True, False]) == 1.0
    assert first_strength([0.5, 1.0], [False, False]) is None


def test_an_axis_needs_training_pictures_that_are_nearer_to_one_another() -> None:
    apart = [0.80, 0.82, 0.81, 0.79]

    assert axis_problem(apart, [0.3, 0.32, 0.31]) is None
    problem = axis_problem(apart, [0.8, 0.83, 0.79])
    assert problem is not None
    assert "by more than 2 standard errors" in problem
    assert "needs 2 cases and 3 training pictures at least; found 1 and 3" in str(axis_problem([0.8], [0.3, 0.3, 0.3]))


def test_case_means_weigh_every_picture_of_a_resample() -> None:
    drawn = np.arange(12, dtype=float).reshape(1, 2, 3, 2)

    assert case_means(drawn).tolist() == [[5.0, 6.0]]
