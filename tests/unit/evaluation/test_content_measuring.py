"""Content that cannot be measured says why."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import numpy as np

from lorabench.evaluation.content_measuring import measure_surplus
from lorabench.evaluation.encoding import Features
from lorabench.evaluation.judge_set import JudgeSet
from lorabench.evaluation.measuring import Rulers
from lorabench.records.detection import Detection
from lorabench.records.images import Image
from lorabench.records.plan import StylePhrases
from lorabench.records.suite import Case, NoExtraCheck, Suite

STYLE = StylePhrases(trigger="a zvq drawing of", plain="a flat illustration of", neutral="a photo of")


class Blind:
    """A detector of the open world that sees nothing."""

    name, weights_digest, reads_color = "blind", "none", True
    counts_parts: frozenset[str] = frozenset()
    thresholds = MappingProxyType({"presence": 0.5, "count": 0.5})

    def detect(self, pictures: Sequence[np.ndarray], *, labels: Sequence[str]) -> list[tuple[Detection, ...]]:
        del labels
        return [() for _ in pictures]


def no_picture(image: Image) -> None:
    raise AssertionError(image)


def reason(*cases: Case) -> str:
    suite = Suite(name="s", version=1, tier="screen", licence="CC0-1.0", seeds=(1,), cases=cases)
    judges = JudgeSet(detector=Blind())
    rulers = Rulers.of(suite, style=STYLE, judges=judges, labels=("cup",), read_picture=no_picture)  # type: ignore[arg-type]
    found, _ = measure_surplus([], Features(), rulers=rulers)
    return found.unmeasured[0].reason if found.unmeasured else ""


def test_surplus_needs_a_case_that_names_all_that_should_be_there() -> None:
    check = NoExtraCheck(allowed=("cup",))

    assert reason(Case(id="a", family="spatial", prompt="{style} a cup")) == "no case names all that should be there"
    assert reason(Case(id="b", family="sparse_scene", prompt="{style} a cup")) == ""
    assert reason(Case(id="c", family="spatial", prompt="{style} a cup", checks=(check,))) == ""
