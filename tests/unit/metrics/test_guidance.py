"""Known answers to guidance."""

from __future__ import annotations

import math

import pytest

from lorabench.metrics.guidance import (
    contrast_losses,
    guidance_collapse,
    log_slope,
    neighbour_response,
    response_problem,
    usual_guidance,
)
from lorabench.metrics.reading import Missing


def test_constant_pictures_have_collapsed_wholly() -> None:
    candidate = neighbour_response([[0.0, 0.0, 0.0]])

    assert guidance_collapse(candidate, 0.2).tolist() == [1.0]


def test_pictures_that_answer_as_the_base_does_have_not_collapsed() -> None:
    assert guidance_collapse(neighbour_response([[0.1, 0.3]]), 0.2).tolist() == pytest.approx([0.0])


def test_a_base_that_does_not_answer_gives_no_collapse() -> None:
    assert response_problem([0.1, 0.2], dial="guidance_scale") is None
    problem = response_problem([0.0, 0.0], dial="guidance_scale")
    assert problem is not None
    assert "the base must answer to guidance_scale; its pictures do not change with it" in problem


def test_half_the_contrast_is_a_loss_of_ln_2_and_a_pale_style_is_allowed() -> None:
    assert contrast_losses([0.1], [0.204], training=None)[0] == pytest.approx(math.log(2.0))
    assert contrast_losses([0.1], [0.204], training=0.1)[0] == pytest.approx(0.0)


def test_slope_is_per_factor_e() -> None:
    grid = [1.0, 2.0, 3.5, 5.0, 7.0]
    values = [[0.1 + 0.25 * math.log(value) for value in grid]]
    found = log_slope(grid, values)

    assert not isinstance(found, Missing)
    assert found[0] == pytest.approx(0.25)


def test_one_guidance_has_no_slope() -> None:
    found = log_slope([2.0], [[0.1]])

    assert isinstance(found, Missing)
    assert "a slope needs two guidances that differ" in found.reason


def test_usual_guidance_is_the_setting_or_next_to_3_5() -> None:
    assert usual_guidance([1.0, 2.0, 5.0], 2.5) == 2.5
    assert usual_guidance([1.0, 3.0, 7.0], None) == 3.0
