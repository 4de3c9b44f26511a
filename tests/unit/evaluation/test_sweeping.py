"""A sweep reads back the curves that a candidate was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabench.evaluation.sweeping import NoCandidateError, n_pictures, sweep, sweep_in_folder
from lorabench.records.comparison import Outcome, Verdict
from lorabench.records.config import CandidateConfig, Config, GateConfig, TrainingSetConfig
from lorabench.records.suite import Suite
from lorabench.records.sweep import Curve, PanelConfig, Side, Sweep
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite
from tests.stand_ins import dialled
from tests.stand_ins.dialled import Behaviour, DialledBackend

STRENGTH = PanelConfig(axes=("strength",), n_cases=8, n_seeds=1)
FEW = PanelConfig(axes=("strength",), n_seeds=1, n_cases=12, strengths=(0.0, 0.7, 1.0, 1.25))


@pytest.fixture(scope="module")
def suite() -> Suite:
    return read_suite(shipped_suite_path("world/screen")).suite


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Small pictures without a detector."""
    return dialled.project(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Pictures in which the oracle sees objects."""
    return dialled.project(tmp_path_factory.mktemp("seen"), size=128)


def swept(home: Config, suite: Suite, behaviour: Behaviour, panel: PanelConfig = STRENGTH) -> Sweep:
    judges = dialled.judges(detector=home.generation.height == 128)
    return sweep(home, suite=suite, panel=panel, backend=DialledBackend(behaviour), judges=judges)


def gate(found: Sweep, name: str) -> Verdict:
    return next(one for one in found.gates if one.gate == name)


def curve(found: Sweep, name: str, side: Side = Side.CANDIDATE) -> Curve:
    return next(one for one in found.curves if one.name == name and one.side is side)


def values(of: Curve) -> dict[float, float]:
    return {point.at: point.value for point in of.points}


def test_an_even_curve_is_read_back(home: Config, suite: Suite) -> None:
    found = swept(home, suite, Behaviour())
    at = values(curve(found, "style_position"))

    assert found.strength is not None
    assert at[0.0] == pytest.approx(0.0, abs=0.02)
    assert at[0.5] == pytest.approx(0.5, abs=0.05)
    assert at[1.0] == pytest.approx(1.0, abs=0.05)
    assert found.strength.low_share is not None
    assert found.strength.low_share.value == pytest.approx(0.7, abs=0.05)
    assert found.strength.half_gain_strength == pytest.approx(0.5, abs=0.05)
    assert found.strength.window == (0.7, 1.5)
    assert gate(found, "low-strength").outcome is Outcome.PASS
    assert gate(found, "strength-window").outcome is Outcome.PASS


def test_strength_zero_is_the_base_to_the_bit(home: Config, suite: Suite) -> None:
    found = swept(home, suite, Behaviour())
    zero = {(s.case, s.seed): s.sha256 for s in found.shots if s.side is Side.CANDIDATE and s.strength == 0}
    base = {(s.case, s.seed): s.sha256 for s in found.shots if s.side is Side.UNTOUCHED}

    assert found.strength is not None
    assert zero == base
    assert found.strength.zero_is_base is True


def test_style_that_is_there_at_full_strength_only_fails_low_strength(home: Config, suite: Suite) -> None:
    found = swept(home, suite, Behaviour(style=dialled.threshold(0.9)))

    assert found.strength is not None
    assert found.strength.low_share is not None
    assert found.strength.low_share.value == pytest.approx(0.0, abs=0.05)
    assert found.strength.half_gain_strength == pytest.approx(0.85, abs=0.02)
    assert found.strength.window == (1.0, 1.5)
    assert gate(found, "low-strength").outcome is Outcome.FAIL
    assert gate(found, "strength-window").outcome is Outcome.PASS


def test_style_that_saturates_early_is_usable_early(home: Config, suite: Suite) -> None:
    found = swept(home, suite, Behaviour(style=dialled.saturating(0.3)))

    assert found.strength is not None
    assert found.strength.half_gain_strength == pytest.approx(0.15, abs=0.02)
    assert found.strength.window == (0.25, 1.5)
    assert gate(found, "low-strength").outcome is Outcome.PASS


def test_damage_above_the_working_strength_is_over_cooked(seen: Config, suite: Suite) -> None:
    found = swept(seen, suite, Behaviour(breaks_from=1.2), FEW)
    prompt = curve(found, "prompt_following_score")

    assert found.strength is not None
    assert prompt.onset == 1.25
    assert found.strength.window == (0.7, 1.0)
    assert gate(found, "overcooked").outcome is Outcome.FAIL
    assert gate(found, "strength-window").outcome is Outcome.PASS


def test_a_candidate_that_is_broken_wherever_it_has_style_has_no_window(seen: Config, suite: Suite) -> None:
    found = swept(seen, suite, Behaviour(breaks_from=0.6), FEW)

    assert found.strength is not None
    assert found.tractability is not None
    assert found.strength.window is None
    assert gate(found, "strength-window").outcome is Outcome.FAIL
    assert found.tractability.no_usable_point
    assert found.tractability.obstacle == "prompt"
    assert found.tractability.sentence.startswith("No usable point: none of 3 checkpoints and strengths")
    assert found.verdict.exit_code == 1


def test_a_candidate_without_style_has_no_window_and_no_gain(home: Config, suite: Suite) -> None:
    found = swept(home, suite, Behaviour(style=lambda strength: 0.02 * strength))

    assert found.strength is not None
    assert found.tractability is not None
    assert found.strength.window is None
    assert gate(found, "strength-window").outcome is Outcome.FAIL
    assert found.tractability.obstacle == "style_position"
    assert "Most often in the way: too little of the style (6 of 6)." in found.tractability.sentence


def test_burnt_colours_at_the_lowest_strength_are_artefacts_at_any(home: Config, suite: Suite) -> None:
    found = swept(home, suite, Behaviour(burnt_from=0.1), STRENGTH.model_copy(update={"n_cases": 12}))

    assert gate(found, "artifact-at-any-strength").outcome is Outcome.FAIL
    assert gate(found, "artifact-at-any-strength").comparison is not None


def test_guidance_that_is_still_answered_passes(home: Config, suite: Suite) -> None:
    found = swept(home, suite, Behaviour(), PanelConfig(axes=("guidance",), n_cases=8, n_seeds=1))

    assert found.guidance is not None
    assert found.guidance.collapse is not None
    assert found.guidance.dial == "guidance_scale"
    assert found.guidance.collapse.value == pytest.approx(0.0, abs=0.02)
    assert gate(found, "guidance").outcome is Outcome.PASS
    assert gate(found, "haze").outcome is Outcome.PASS


def test_pictures_that_are_equal_at_every_guidance_have_collapsed_wholly(home: Config, suite: Suite) -> None:
    found = swept(home, suite, Behaviour(guidance_gain=0.0), PanelConfig(axes=("guidance",), n_cases=8, n_seeds=1))

    assert found.guidance is not None
    assert found.guidance.collapse is not None
    assert found.guidance.collapse.value == 1.0
    assert gate(found, "guidance").outcome is Outcome.FAIL


def test_pictures_without_contrast_at_every_guidance_are_hazy(home: Config, suite: Suite) -> None:
    found = swept(home, suite, Behaviour(grey_from=0.1), PanelConfig(axes=("guidance",), n_cases=8, n_seeds=1))

    assert gate(found, "haze").outcome is Outcome.FAIL


def test_figures_that_fall_apart_at_low_guidance_fail_their_gate(seen: Config, suite: Suite) -> None:
    panel = PanelConfig(axes=("guidance",), n_cases=2, n_seeds=1, guidances=(1.0, 3.5))
    bad = swept(seen, suite, Behaviour(limbs_at=1.5), panel)
    good = swept(seen, suite, Behaviour(), panel)

    assert gate(bad, "anatomy-guidance").outcome is Outcome.FAIL
    assert gate(good, "anatomy-guidance").outcome is not Outcome.FAIL


def test_a_base_without_guidance_input_measures_no_collapse(home: Config, suite: Suite) -> None:
    panel = PanelConfig(axes=("guidance",), n_cases=3, n_seeds=1, dial="true_cfg_scale", n_anatomy_cases=0)
    found = swept(home, suite, Behaviour(), panel)

    assert gate(found, "guidance").outcome is Outcome.UNMEASURED
    assert "the base must answer to true_cfg_scale" in gate(found, "guidance").reason


def test_a_trigger_that_works_does_what_its_placebo_does_not(home: Config, suite: Suite) -> None:
    found = swept(home, suite, Behaviour(), PanelConfig(axes=("trigger",), n_cases=8))

    assert found.trigger is not None
    assert found.trigger.effect is not None
    assert found.trigger.placebo_effect is not None
    assert found.trigger.effect.value == pytest.approx(1.0, abs=0.06)
    assert found.trigger.placebo_effect.value == pytest.approx(0.0, abs=0.01)
    assert found.trigger.reading == "works"
    assert gate(found, "trigger").outcome is Outcome.PASS
    assert gate(found, "style-leak").outcome is Outcome.PASS


def test_a_style_that_needs_no_trigger_is_always_on(home: Config, suite: Suite) -> None:
    found = swept(home, suite, Behaviour(needs_trigger=False), PanelConfig(axes=("trigger",), n_cases=8))

    assert found.trigger is not None
    assert found.trigger.reading == "always on"
    assert found.trigger.picture_change is not None
    assert found.trigger.picture_change.high < 0.1
    assert gate(found, "trigger").outcome is Outcome.FAIL
    assert gate(found, "style-leak").outcome is Outcome.FAIL


def test_an_adapter_without_style_is_weak(home: Config, suite: Suite) -> None:
    found = swept(
        home, suite, Behaviour(style=lambda strength: 0.02 * strength), PanelConfig(axes=("trigger",), n_cases=8)
    )

    assert found.trigger is not None
    assert found.trigger.reading == "weak"
    assert gate(found, "trigger").outcome is Outcome.FAIL
    assert gate(found, "style-leak").outcome is Outcome.PASS


def test_a_placebo_that_works_is_told(home: Config, suite: Suite) -> None:
    found = swept(home, suite, Behaviour(placebo_works=True), PanelConfig(axes=("trigger",), n_cases=8))

    assert found.trigger is not None
    assert "it is not the word that works" in found.trigger.sentence


def test_the_headline_names_what_is_not_decided(home: Config, suite: Suite) -> None:
    found = swept(home, suite, Behaviour(style=lambda strength: 0.25), PanelConfig(axes=("trigger",), n_cases=8))

    assert found.verdict.headline == "1 of 2 gates passed; not decided: trigger."
    assert found.verdict.exit_code == 0


def test_a_gate_can_be_turned_off(home: Config, suite: Suite) -> None:
    config = home.model_copy(update={"gates": {"style-leak": GateConfig(enabled=False)}})
    found = swept(config, suite, Behaviour(needs_trigger=False), PanelConfig(axes=("trigger",), n_cases=8))

    assert [one.gate for one in found.gates] == ["trigger"]


def test_without_training_pictures_style_is_not_measured(home: Config, suite: Suite) -> None:
    config = home.model_copy(update={"training_set": TrainingSetConfig()})
    found = swept(config, suite, Behaviour())

    assert found.strength is not None
    assert gate(found, "strength-window").outcome is Outcome.UNMEASURED
    assert "style needs training pictures to compare with" in gate(found, "strength-window").reason
    assert found.strength.window is None
    assert found.strength.zero_is_base is True


def test_a_second_sweep_draws_nothing_and_says_the_same(home: Config, suite: Suite) -> None:
    behaviour = Behaviour(style=dialled.saturating(0.5))
    first = sweep_in_folder(
        home, suite=suite, panel=STRENGTH, backend=DialledBackend(behaviour), judges=dialled.judges()
    )
    backend = DialledBackend(behaviour)
    again = sweep_in_folder(home, suite=suite, panel=STRENGTH, backend=backend, judges=dialled.judges())
    changing = {"provenance", "seconds"}

    assert backend.n_drawn == 0
    assert again.folder.folder == first.folder.folder
    assert again.sweep.model_dump(exclude=changing) == first.sweep.model_dump(exclude=changing)


def test_the_planned_number_of_pictures_is_the_number_made(home: Config, suite: Suite, tmp_path: Path) -> None:
    config = home.model_copy(update={"cache_dir": tmp_path})
    for panel in (PanelConfig(n_cases=3, n_seeds=1), STRENGTH, PanelConfig(axes=("trigger",), n_cases=2, n_seeds=1)):
        found = swept(config, suite, Behaviour(), panel)
        asked = len({(s.side, s.case, s.seed, s.strength, s.guidance) for s in found.shots})
        assert n_pictures(panel, suite=suite, config=config) >= asked


def test_a_sweep_without_adapter_is_refused(home: Config, suite: Suite) -> None:
    with pytest.raises(NoCandidateError, match=r"a sweep needs an adapter; none is named\. Give --lora"):
        sweep(home.model_copy(update={"candidate": CandidateConfig()}), suite=suite)
