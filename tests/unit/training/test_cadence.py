"""When a training is looked at, with a clock that the test turns."""

from __future__ import annotations

from typing import Any

from lorabench.records.config import CourseConfig
from lorabench.training.cadence import Cadence, Look


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def trained(cadence: Cadence, clock: Clock, steps: range, *, each: float = 1.0) -> dict[int, Look]:
    """Every step that something is due at."""
    found = {}
    for step in steps:
        clock.seconds += each
        cadence.step(step)
        if (look := cadence.due(step)) is not Look.NOTHING:
            found[step] = look
    return found


def cadence_of(clock: Clock, **settings: Any) -> Cadence:
    return Cadence(CourseConfig(every_n_steps=100, **settings), clock=clock)


def test_screens_come_at_their_cadence_while_they_are_cheap() -> None:
    clock = Clock()
    cadence = cadence_of(clock, budget=0.1)

    assert trained(cadence, clock, range(1, 100)) == {}
    assert trained(cadence, clock, range(100, 101)) == {100: Look.SCREEN}
    cadence.screened(100, seconds=5.0)
    assert trained(cadence, clock, range(101, 201)) == {200: Look.SCREEN}


def test_an_expensive_screen_puts_the_next_one_off_until_its_time_is_within_the_budget() -> None:
    clock = Clock()
    cadence = cadence_of(clock, budget=0.1)
    trained(cadence, clock, range(1, 101))
    cadence.screened(100, seconds=40.0)

    assert cadence.next_screen == 500
    assert not cadence.affordable(499)
    assert cadence.affordable(500)
    assert cadence.share is not None
    assert 40 / cadence.training_seconds == cadence.share


def test_time_of_a_look_is_not_the_training_s() -> None:
    clock = Clock()
    cadence = cadence_of(clock)
    trained(cadence, clock, range(1, 101))
    clock.seconds += 40.0
    cadence.screened(100, seconds=40.0)
    trained(cadence, clock, range(101, 103))

    assert cadence.training_seconds == 99 + 1, "neither the first step nor the one after a look can be timed"


def test_signals_are_read_between_screens_and_their_time_counts() -> None:
    clock = Clock()
    cadence = cadence_of(clock, signals_every_n_steps=20, budget=0.1)
    assert trained(cadence, clock, range(1, 21)) == {20: Look.SIGNALS}
    cadence.read(20, seconds=0.5)
    assert trained(cadence, clock, range(21, 41)) == {40: Look.SIGNALS}
    cadence.read(40, seconds=4.0)
    assert trained(cadence, clock, range(41, 100)) == {}, "4 seconds are half a budget of 80 steps"
    assert trained(cadence, clock, range(100, 101)) == {100: Look.SCREEN}
    cadence.screened(100, seconds=10.0)

    assert cadence.next_screen == 100 + 145


def test_state_goes_on_where_it_was_and_takes_todays_cadence_for_what_follows() -> None:
    clock = Clock()
    first = cadence_of(clock)
    trained(first, clock, range(1, 101))
    first.screened(100, seconds=1.0)
    again = Cadence(CourseConfig(every_n_steps=30), clock=clock)
    again.load_state_dict(first.state_dict())

    assert again.next_screen == 200
    again.screened(200, seconds=1.0)
    assert again.next_screen == 230
