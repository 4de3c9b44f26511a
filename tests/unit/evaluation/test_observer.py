import pytest

from lorabench.evaluation.observer import Observer


def test_seconds_add_up_per_stage_also_when_it_fails() -> None:
    observer = Observer()

    with observer.stage("judging"):
        pass
    first = observer.seconds["judging"]
    with pytest.raises(KeyError), observer.stage("judging"):
        raise KeyError

    assert observer.seconds["judging"] > first >= 0.0
