from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lorabench.records.config import CourseConfig
from lorabench.training import judges_memory
from lorabench.training.judges_memory import SPARE_BYTES, free_bytes, free_judges_where_short


class Judge:
    freed = 0

    def free_judges(self) -> None:
        self.freed += 1


def pipeline() -> Any:
    return SimpleNamespace(transformer=torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("setting", "left", "freed"),
    [
        ("auto", SPARE_BYTES, False),
        ("auto", SPARE_BYTES - 1, True),
        ("auto", None, False),
        ("always", None, True),
        ("never", 0, False),
    ],
)
def test_judges_make_room_where_memory_is_short_or_as_asked(
    setting: Any, left: int | None, freed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judges_memory, "free_bytes", lambda _device: left)
    judge: Any = Judge()

    assert free_judges_where_short(judge, pipeline(), CourseConfig(free_judges=setting)) is freed
    assert judge.freed == int(freed)


def test_a_cpu_has_no_memory_to_watch() -> None:
    assert free_bytes(torch.device("cpu")) is None
