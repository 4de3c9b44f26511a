import pytest

from lorabench.evaluation.gates import DEFAULT_GATES, UnknownGateError, configured_gates, has_cases_for
from lorabench.records.config import GateConfig
from lorabench.records.suite import Case
from lorabench.registry import METRICS


def test_gates_come_in_the_order_of_their_kinds() -> None:
    kinds = list(dict.fromkeys(gate.kind for gate in configured_gates({})))

    assert kinds == ["broken", "copy", "prompt", "anatomy", "style", "artifact", "content", "diversity"]


@pytest.mark.parametrize("gate", DEFAULT_GATES, ids=lambda gate: gate.name)
def test_every_gate_reads_a_registered_metric_with_a_positive_margin(gate) -> None:
    assert METRICS.load(gate.metric).name == gate.metric
    assert gate.margin > 0
    assert gate.against == "control"


def test_unknown_gate_gets_a_suggestion() -> None:
    with pytest.raises(UnknownGateError, match=r"\[gates\] must name existing gates; found 'promt'") as caught:
        configured_gates({"promt": GateConfig()})

    assert "Did you mean 'prompt'?" in str(caught.value)
    assert caught.value.name == "promt"
    assert caught.value.exit_code == 2


def test_gate_that_resembles_none_gets_the_list() -> None:
    with pytest.raises(UnknownGateError, match=r"Known: broken, copy, .*photo-bleed, foils, "):
        configured_gates({"zzz": GateConfig()})


def test_disabled_gate_is_gone() -> None:
    names = [gate.name for gate in configured_gates({"copy": GateConfig(enabled=False)})]

    assert "copy" not in names
    assert len(names) == len(configured_gates({})) - 1


def test_brand_palette_turns_the_palette_gate_round() -> None:
    usual, brand = ({gate.name for gate in configured_gates({}, brand=wanted)} for wanted in (False, True))

    assert usual - brand == {"palette-collapse"}
    assert brand - usual == {"brand"}
    assert usual | brand == {gate.name for gate in DEFAULT_GATES if gate.by_default}


def test_a_gate_that_is_off_by_default_is_decided_where_the_settings_name_it() -> None:
    assert "style-colours" not in {gate.name for gate in configured_gates({})}
    assert "style-colours" in {gate.name for gate in configured_gates({"style-colours": GateConfig()})}
    off = {"style-colours": GateConfig(enabled=False)}
    assert "style-colours" not in {gate.name for gate in configured_gates(off)}


def test_margin_and_requirement_are_changed_alone() -> None:
    gates = {gate.name: gate for gate in configured_gates({"prompt": GateConfig(margin=0.2, required=False)})}
    default = {gate.name: gate for gate in DEFAULT_GATES}

    assert (gates["prompt"].margin, gates["prompt"].required) == (0.2, False)
    assert gates["prompt"].metric == default["prompt"].metric
    assert gates["anatomy"] == default["anatomy"]


def test_gate_is_not_required_in_a_suite_without_cases_for_it(lab) -> None:
    gates = {gate.name: gate.required for gate in configured_gates({}, suite=lab.suite(*lab.cases[:2]))}

    assert gates["broken"]
    assert gates["copy"]
    assert gates["prompt"]
    assert not gates["anatomy"]
    assert not gates["palette"]
    assert not gates["palette-collapse"]


def test_gate_that_the_settings_require_stays_required_without_cases(lab) -> None:
    gates = configured_gates({"anatomy": GateConfig(required=True)}, suite=lab.suite(*lab.cases[:2]))

    assert next(gate for gate in gates if gate.name == "anatomy").required


def test_gates_know_the_suites_that_hold_cases_for_them(lab) -> None:
    bare = Case(id="long-1", family="long_description", prompt="a meadow")
    held = {
        gate.name: [has_cases_for(gate, lab.suite(*cases)) for cases in (lab.cases, lab.palette_cases(), (bare,))]
        for gate in DEFAULT_GATES
    }

    assert held["broken"] == held["copy"] == held["photo-bleed"] == [True, True, True]
    assert held["prompt"] == [True, False, False]
    assert held["anatomy"] == [True, False, False]
    assert held["palette"] == held["palette-collapse"] == [False, True, False]
    assert held["foils"] == [True, False, False]
