"""Where the marks of an interval drawing lie."""

import pytest

from lorabench.records.comparison import Comparison
from lorabench.records.plan import Arm
from lorabench.report.interval_drawing import draw_interval


def comparison(estimate: float, low: float, high: float, *, higher_is_better: bool = True) -> Comparison:
    return Comparison(
        metric="m_score",
        metric_version=1,
        higher_is_better=higher_is_better,
        unit="",
        candidate_arm=Arm.CANDIDATE,
        reference="B1",
        family=None,
        estimate=estimate,
        low=low,
        high=high,
        confidence_level=0.95,
        p_harm=0.5,
        n_cases=8,
        n_pairs=16,
        method="t",
    )


def test_known_numbers_lie_at_known_places() -> None:
    drawing = draw_interval(comparison(-0.5, -1.0, 0.25), 0.1, width=236.0)

    # half width 118, 6 at the edge, 12 % room: 112 / (1.0 x 1.12) = 100 units per 1.0
    assert drawing.zero == 118.0
    assert drawing.low == 18.0
    assert drawing.estimate == 68.0
    assert drawing.high == 143.0
    assert drawing.margin == 108.0


def test_lower_is_better_is_turned_so_that_left_is_worse() -> None:
    up = draw_interval(comparison(-0.5, -1.0, 0.25), 0.1)
    down = draw_interval(comparison(0.5, -0.25, 1.0, higher_is_better=False), 0.1)

    assert up == down


@pytest.mark.parametrize("margin", [1e-6, 0.3, 50.0])
@pytest.mark.parametrize("ends", [(-3.0, -2.0), (0.0, 0.0), (1e-9, 2e-9), (-1e3, 4e5)])
def test_everything_stays_inside_the_drawing(ends: tuple[float, float], margin: float) -> None:
    low, high = ends
    drawing = draw_interval(comparison((low + high) / 2, low, high), margin, width=220.0)

    places = (drawing.low, drawing.estimate, drawing.high, drawing.margin, drawing.zero)
    assert all(0 <= place <= 220 for place in places)
    assert drawing.low <= drawing.estimate <= drawing.high
    assert drawing.margin <= drawing.zero == 110
