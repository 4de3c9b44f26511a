"""What is said while a run goes on."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from lorabench.cli.progress import SECONDS_BETWEEN_LINES, BarObserver, LineObserver, observing


def test_lines_come_at_the_start_and_every_quarter_of_a_minute() -> None:
    said: list[str] = []
    now = [0.0]
    observer = LineObserver(clock=lambda: now[0], say=said.append)
    with observer.stage("generating", 100):
        for _ in range(100):
            now[0] += 1.0
            observer.advanced("generating")

    assert said[0] == "generating: 100 to do"
    assert said[1] == "generating: 15 of 100 done"
    assert len(said) == 1 + 100 // SECONDS_BETWEEN_LINES


def test_a_stage_without_steps_says_nothing_and_notes_are_passed_on() -> None:
    said: list[str] = []
    observer = LineObserver(say=said.append)
    with observer.stage("judging"):
        observer.note("look here")

    assert said == ["look here"]
    assert "judging" in observer.seconds


def test_a_bar_goes_away_with_its_stage_also_when_it_fails() -> None:
    progress = Progress(console=Console(file=io.StringIO(), force_terminal=True))
    observer = BarObserver(progress)

    def fail() -> None:
        with observer.stage("generating", 3):
            observer.advanced("generating", 2)
            observer.note("[bold]not markup")
            assert progress.tasks[0].completed == 2
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert progress.tasks == []


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with observing(quiet=True) as observer, observer.stage("generating", 3):
        observer.advanced("generating")
        observer.note("nothing")

    assert capsys.readouterr() == ("", "")
