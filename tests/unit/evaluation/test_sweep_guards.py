"""Guards of a sweep say in words why they are not read."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest

from lorabench.evaluation.gates import DEFAULT_GATES
from lorabench.evaluation.judge_set import JudgeSet
from lorabench.evaluation.sweep_guidance import GuidanceLooks, _haze
from lorabench.evaluation.sweep_trigger import SENTENCES
from lorabench.evaluation.sweeping import sweep
from lorabench.records.config import Config, GateConfig
from lorabench.records.detection import Detection
from lorabench.records.measurement import Unmeasured
from lorabench.records.suite import Suite
from lorabench.records.sweep import PanelConfig, Sweep
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite
from tests.stand_ins import dialled
from tests.stand_ins.dialled import Behaviour, DialledBackend

STRENGTHS = (0.0, 0.7, 1.0)


class Blind:
    """A detector that sees nothing."""

    name, weights_digest, reads_color = "blind", "none", True
    counts_parts = frozenset({"hand", "person"})
    thresholds = MappingProxyType({"presence": 0.5, "count": 0.5})

    def detect(self, pictures: Sequence[np.ndarray], *, labels: Sequence[str]) -> list[tuple[Detection, ...]]:
        del labels
        return [() for _ in pictures]


@pytest.fixture(scope="module")
def suite() -> Suite:
    return read_suite(shipped_suite_path("world/screen")).suite


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Pictures in which the oracle sees objects."""
    return dialled.project(tmp_path_factory.mktemp("guards"), size=128)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return dialled.project(tmp_path_factory.mktemp("small"))


def swept(config: Config, suite: Suite, judges: JudgeSet, **panel: object) -> Sweep:
    wanted = PanelConfig.model_validate({"n_seeds": 1, "strengths": STRENGTHS, "axes": ("strength",), **panel})
    return sweep(config, suite=suite, panel=wanted, backend=DialledBackend(Behaviour()), judges=judges)


def why_no_prompt(found: Sweep) -> set[str]:
    assert found.strength is not None
    return {guard.reason for point in found.strength.points for guard in point.guards if guard.guard == "prompt"}


def test_few_cases_cannot_tell_a_judge_from_luck_and_the_guard_says_what_to_do(seen: Config, suite: Suite) -> None:
    (reason,) = why_no_prompt(swept(seen, suite, dialled.judges(), n_cases=3))

    assert "too few cases to trust the judge: on the control's pictures oracle prefers a picture's own checks" in reason
    assert "of 3 cases, which could be luck (chance 50%). Add cases with --n-cases." in reason


def test_a_judge_that_sees_nothing_is_at_chance_however_many_cases_there_are(seen: Config, suite: Suite) -> None:
    judges = JudgeSet(lpips=dialled.PatchEncoder(), detector=Blind(), absent={"clip": "no CLIP"})

    (reason,) = why_no_prompt(swept(seen, suite, judges, n_cases=10))

    assert "judge at chance: on the control's pictures blind prefers a picture's own checks in 0% of" in reason
    assert "Add cases" not in reason


def test_where_no_artefact_gate_is_on_artefacts_along_strength_are_not_measured(small: Config, suite: Suite) -> None:
    off = {gate.name: GateConfig(enabled=False) for gate in DEFAULT_GATES if gate.kind == "artifact"}
    config = small.model_copy(update={"gates": off})

    found = swept(config, suite, dialled.judges(detector=False), n_cases=3, strengths=(0.0, 0.5, 1.0))

    (gate,) = (one for one in found.gates if one.gate == "artifact-at-any-strength")
    assert "no guard of this kind is on." in gate.reason


def test_without_figures_their_loss_at_low_guidance_is_not_measured(small: Config, suite: Suite) -> None:
    plain = suite.model_copy(update={"cases": tuple(case for case in suite.cases if case.family != "anatomy")})

    found = swept(small, plain, dialled.judges(detector=False), n_cases=3, axes=("guidance",), guidances=(1.0, 3.5))

    (gate,) = (one for one in found.gates if one.gate == "anatomy-guidance")
    assert "figures need two cases with figures in the suite, and a usual guidance above the lowest" in gate.reason


class NoValues:
    """A look at pictures of which nothing could be read."""

    aside = None

    def values(self, metric: str) -> dict[tuple[str, int], float]:
        del metric
        return {}


def test_haze_needs_contrast_at_every_guidance() -> None:
    run = SimpleNamespace(training=None)
    looks = GuidanceLooks(
        run=run,  # type: ignore[arg-type]
        dial="guidance_scale",
        usual=3.5,
        candidate={1.0: NoValues(), 3.5: NoValues()},  # type: ignore[dict-item]
        control={1.0: NoValues(), 3.5: NoValues()},  # type: ignore[dict-item]
        figures=None,
        resampling=SimpleNamespace(confidence_level=0.95),  # type: ignore[arg-type]
    )

    found = _haze(looks)

    assert isinstance(found, Unmeasured)
    assert found.reason == "rms_contrast has no value on any case at every guidance."


@pytest.mark.parametrize(
    ("behaviour", "reading", "words"),
    [
        (Behaviour(), "works", "The trigger works: with it the style is there, without it there is little of it."),
        (Behaviour(needs_trigger=False), "always on", "The style is always on: the trigger adds little."),
        (
            Behaviour(style=lambda strength: 0.02 * strength),
            "weak",
            "The adapter is weak: there is little of the style with the trigger or without it.",
        ),
    ],
)
def test_what_the_trigger_does_is_said_in_words(
    small: Config, suite: Suite, behaviour: Behaviour, reading: str, words: str
) -> None:
    panel = PanelConfig(axes=("trigger",), n_cases=8)
    judges = dialled.judges(detector=False)

    found = sweep(small, suite=suite, panel=panel, backend=DialledBackend(behaviour), judges=judges)

    assert found.trigger is not None
    assert found.trigger.reading == reading
    assert found.trigger.sentence.startswith(words)
    assert set(SENTENCES) == {"works", "leaks", "always on", "weak", "undecided"}
