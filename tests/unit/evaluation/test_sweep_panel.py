"""Which cases a sweep takes, and which parameter it turns."""

from __future__ import annotations

from lorabench.evaluation.gates import SWEEP_GATE_NAMES, configured_gates
from lorabench.evaluation.sweep_gates import SWEEP_GATES, configured_sweep_gates
from lorabench.evaluation.sweep_panel import choose_cases, choose_figures, dial_of, strengths_of
from lorabench.records.config import GateConfig
from lorabench.records.plan import GenerationSettings
from lorabench.records.suite import Suite
from lorabench.records.sweep import PanelConfig
from lorabench.registry import METRICS
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite


def screen() -> Suite:
    return read_suite(shipped_suite_path("world/screen")).suite


def test_families_take_turns_in_the_suites_order() -> None:
    suite = screen()
    chosen = choose_cases(suite, 8)

    assert chosen == choose_cases(suite, 8)
    assert [case.family for case in chosen[: len(suite.families)]] == list(suite.families)[:8]
    assert len({case.id for case in chosen}) == 8
    assert len(choose_cases(suite, 10_000)) == len(suite.cases)


def test_figures_are_cases_with_anatomy_checks() -> None:
    assert all(case.family == "anatomy" for case in choose_figures(screen(), 3))
    assert len(choose_figures(screen(), 3)) == 3


def test_zero_and_the_working_strength_are_always_on_the_grid() -> None:
    panel = PanelConfig(strengths=(0.5, 1.0, 2.0))

    assert strengths_of(panel, 0.8) == (0.0, 0.5, 0.8, 1.0, 2.0)


def test_true_guidance_is_turned_where_the_settings_state_it() -> None:
    assert dial_of(PanelConfig(), GenerationSettings()) == "guidance_scale"
    assert dial_of(PanelConfig(), GenerationSettings(true_cfg_scale=2.0)) == "true_cfg_scale"
    assert dial_of(PanelConfig(dial="guidance_scale"), GenerationSettings(true_cfg_scale=2.0)) == "guidance_scale"


def test_every_gate_of_a_sweep_has_a_metric_and_is_known_to_a_run() -> None:
    assert tuple(gate.name for gate in SWEEP_GATES) == SWEEP_GATE_NAMES
    assert all(METRICS.load(gate.metric).higher_is_better is False for gate in SWEEP_GATES)
    assert configured_gates({"style-leak": GateConfig(enabled=False)})


def test_gates_take_margins_from_the_settings() -> None:
    changed = configured_sweep_gates(
        {"guidance": GateConfig(margin=0.3, required=True), "haze": GateConfig(enabled=False)}
    )
    by_name = {gate.name: gate for gate in changed}

    assert (by_name["guidance"].margin, by_name["guidance"].required) == (0.3, True)
    assert "haze" not in by_name
