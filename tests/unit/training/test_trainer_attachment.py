"""What all adapters share: with several processes only the leading one opens, stores and closes the course."""

from __future__ import annotations

import pytest

from lorabench.registry import TRAINERS
from lorabench.training.ranks import Ranks
from lorabench.training.trainers.attachment import Attachment
from tests.unit.training.noting_monitor import NotingMonitor


def test_process_that_does_not_judge_opens_stores_and_closes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ranks, "here", classmethod(lambda cls: Ranks(n=2, index=1)))
    monitor = NotingMonitor()
    attachment = Attachment(monitor)

    attachment.begin("optimiser", stored={"last_step": 3})
    attachment.finish()

    assert attachment.state() == {}
    assert monitor.heard == []
    assert monitor.optimizer == "optimiser"


def test_process_that_judges_opens_goes_on_stores_and_closes() -> None:
    monitor = NotingMonitor()
    attachment = Attachment(monitor, restart=True)

    attachment.begin("optimiser", stored={"last_step": 3})
    attachment.finish()

    assert attachment.state() == {"last_step": 0}
    assert monitor.heard == ["begin", "loaded step 3, restart True", "finish"]


@pytest.mark.parametrize("name", TRAINERS.names())
def test_every_registered_trainer_makes_a_callback_around_the_monitor(name: str) -> None:
    monitor = NotingMonitor()

    callback = TRAINERS.load(name)(monitor)

    assert callback.monitor is monitor
    assert not callback.restart
