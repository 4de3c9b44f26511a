"""Items of gates: they pull the whole suite, and say in words and in JUnit why they fail."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from lorabench.pytest_plugin.failures import gate_fault, gate_text, worst_cases
from lorabench.records.comparison import CaseDifference, Comparison, Outcome, Verdict
from lorabench.records.plan import Arm
from lorabench.storage.baselines import BaselineStore
from lorabench.storage.run_folder import read_results

BROKEN = "tiny.lora.yaml::gate:broken"


def junit_cases(path) -> dict[str, ElementTree.Element]:
    return {case.attrib["name"]: case for case in ElementTree.parse(path).iter("testcase")}


def properties(case: ElementTree.Element) -> dict[str, str]:
    return {entry.attrib["name"]: entry.attrib["value"] for entry in case.iter("property")}


def test_failed_gate_gives_exit_code_1_and_a_failure_in_junit(project):
    project.plant("black", "p2")

    result = project.run("--junitxml=junit.xml")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    cases = junit_cases(project.path / "junit.xml")
    assert {name for name, case in cases.items() if case.find("failure") is not None} == {"p2", "gate:broken"}
    assert "cases have broken pictures where their control has none" in cases["gate:broken"].find("failure").text


def test_junit_properties_are_few_and_plain(project):
    project.run("--junitxml=junit.xml")

    cases = junit_cases(project.path / "junit.xml")
    prompt, gate = properties(cases["p1"]), properties(cases["gate:broken"])
    assert prompt["lorabench.prompt_id"] == "p1"
    assert prompt["lorabench.verdict"] == "PASS"
    assert float(prompt["lorabench.metric.broken_rate"]) == 0
    assert gate == {"lorabench.verdict": "PASS", "lorabench.metric.broken_rate": "0.0"}


@pytest.mark.parametrize(
    "selection",
    [
        ("--deselect", "tiny.lora.yaml::p2"),
        ("-k", "gate"),
        (BROKEN,),
        ("-m", "lora_gate(metric='broken_rate')"),
        ("-k", "p1 or broken"),
    ],
)
def test_gate_pulls_the_whole_suite_whatever_was_selected(project, selection):
    project.plant("black", "p2")

    result = project.run("-v", *selection)

    assert result.ret == 1
    assert project.outcomes(result)["gate:broken"] == "FAILED"


def test_gate_does_not_depend_on_the_order_of_items(project):
    project.plant("black", "p2")
    with (project.path / "conftest.py").open("a") as file:
        file.write("def pytest_collection_modifyitems(items):\n    items.reverse()\n")

    result = project.run("-v")

    found = project.outcomes(result)
    assert next(iter(found)) == "gate:foils"
    assert (found["gate:broken"], found["p2"], found["p1"]) == ("FAILED", "FAILED", "PASSED")


def test_failed_first_and_last_failed_remember_the_gate(project):
    project.plant("black", "p2")
    project.run_remembering()

    first = project.run_remembering("-v", "--ff")
    again = project.run_remembering("-v", "--lf")
    gate_alone = project.run_remembering("-v", "--lf", "--deselect", "tiny.lora.yaml::p2")

    assert list(project.outcomes(first))[:2] == ["p2", "gate:broken"]
    assert project.outcomes(again) == {"p2": "FAILED", "gate:broken": "FAILED"}
    assert project.outcomes(gate_alone) == {"gate:broken": "FAILED"}


def test_no_gate_passes_while_a_picture_is_missing(project):
    project.plant("raise", "p2")

    result = project.run("-v", "-k", "broken")

    assert project.outcomes(result) == {"gate:broken": "FAILED"}
    result.stdout.fnmatch_lines(["a gate needs every picture of its suite; 1 could not be made:"])


def test_required_gate_that_cannot_be_measured_fails(project):
    project.settings(more="foils.required = true\n")

    result = project.run("-v", "-k", "foils")

    assert project.outcomes(result) == {"gate:foils": "FAILED"}
    result.stdout.fnmatch_lines(["gate foils of tiny: not measured"])


def test_gate_that_cannot_be_measured_and_is_not_required_is_skipped_not_passed(project):
    result = project.run("-v", "-rs", "-k", "foils")

    assert project.outcomes(result) == {"gate:foils": "SKIPPED"}
    result.stdout.fnmatch_lines(["SKIPPED*not measured and not required: *"])


def test_golden_gate_sees_a_golden_prompt_that_was_not_selected(project):
    project.suite(n=2, seeds=(1,), golden=[1])

    result = project.run("-v", "--deselect", "tiny.lora.yaml::p1")

    assert result.ret == 1
    assert project.outcomes(result)["gate:golden"] == "FAILED"
    result.stdout.fnmatch_lines(["1 of 1 golden prompts of tiny do not hold:", "  p1: golden, seed 1: *not measured*"])


def test_undecided_gate_fails_unless_it_is_said_to_pass(project):
    project.suite(n=6, seeds=(1,))
    project.settings(oracle=True)
    project.plant("palette", "p3")

    failing = project.run("-v", "-k", "gate:prompt")
    passing = project.run("-v", "-k", "gate:prompt", "--lorabench-inconclusive=pass")

    failing.stdout.fnmatch_lines(["gate prompt of tiny: INCONCLUSIVE", "  prompt: not decided; *"])
    failing.stdout.fnmatch_lines(["  Add cases to the suite, or state --lorabench-inconclusive=pass."])
    assert (failing.ret, passing.ret) == (1, 0)


def test_prompt_gate_names_the_worst_cases(project):
    project.suite(n=6, seeds=(1,))
    project.settings(oracle=True)
    project.plant("palette", "p2", "p3", "p4", "p5", "p6")

    result = project.run("-k", "gate:prompt")

    result.stdout.fnmatch_lines(["gate prompt of tiny: FAIL", "  worst cases: *p*"])


def test_baseline_that_does_not_exist_fails_in_ci_and_warns_elsewhere(project, monkeypatch):
    warned = project.run("--lorabench-baseline", "accepted")
    monkeypatch.setenv("CI", "true")
    failed = project.run("--lorabench-baseline", "accepted", "--lorabench-allow-partial", "-k", "broken")

    assert warned.ret == 0
    warned.stdout.fnmatch_lines(["*no baseline 'accepted' in *: gates compare with the base only.*"])
    assert failed.ret == 1
    failed.stdout.fnmatch_lines(["*the baseline must exist; found none called 'accepted'.*"])


def test_baseline_gate_compares_with_the_accepted_run(project):
    project.run("--lorabench-json", "accepted.json")
    BaselineStore(project.path / "lorabench-baselines").accept(
        read_results(project.path / "accepted.json"),
        name="accepted",
        reason="a test",
        accepted_by="a test",
        picture=lambda sha256: None,
        environ={},
    )
    same = project.run("-v", "--lorabench-baseline", "accepted", "-k", "baseline")
    project.plant("black", "p2")
    worse = project.run("-v", "--lorabench-baseline", "accepted", "-k", "baseline")

    assert project.outcomes(same) == {"gate:baseline": "PASSED"}
    assert project.outcomes(worse) == {"gate:baseline": "FAILED"}
    worse.stdout.fnmatch_lines(["gate broken-baseline of tiny: FAIL"])


def test_ini_key_decides_what_a_missing_baseline_does(project):
    project.pytester.makeini("[pytest]\nlorabench_on_missing_baseline = fail\n")

    assert project.run("--lorabench-baseline", "accepted", "-k", "broken").ret == 1


def test_no_flag_updates_a_baseline(project):
    result = project.run("--lorabench-update=all")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert not (project.path / "lorabench-baselines").exists()


def verdict(outcome: Outcome, *, required: bool = True) -> Verdict:
    differences = tuple(CaseDifference(case=f"p{n}", difference=-0.1 * n, n_pairs=2) for n in range(-1, 8))
    comparison = Comparison(
        metric="prompt_following_score",
        metric_version=1,
        higher_is_better=True,
        unit="share",
        candidate_arm=Arm.CANDIDATE,
        reference="B1",
        family=None,
        estimate=-0.3,
        low=-0.4,
        high=-0.2,
        confidence_level=0.95,
        p_harm=0.01,
        n_cases=9,
        n_pairs=18,
        method="t",
        differences=differences,
    )
    return Verdict(
        gate="prompt",
        metric="prompt_following_score",
        family=None,
        outcome=outcome,
        reason="prompt: a reason with \x1b[31mescape codes",
        margin=0.1,
        primary=True,
        required=required,
        comparison=comparison,
    )


@pytest.mark.parametrize(
    ("outcome", "required", "fails", "fault"),
    [
        (Outcome.PASS, True, True, None),
        (Outcome.FAIL, False, False, "FAIL"),
        (Outcome.INCONCLUSIVE, True, True, "INCONCLUSIVE"),
        (Outcome.INCONCLUSIVE, True, False, None),
        (Outcome.UNMEASURED, True, False, "not measured"),
        (Outcome.UNMEASURED, False, True, None),
    ],
)
def test_fault_of_each_outcome(outcome, required, fails, fault):
    assert gate_fault(verdict(outcome, required=required), inconclusive_fails=fails) == fault


def test_worst_cases_are_the_five_most_harmed():
    assert [case for case, _ in worst_cases(verdict(Outcome.FAIL).comparison)] == ["p7", "p6", "p5", "p4", "p3"]


def test_text_of_a_gate_holds_no_escape_codes():
    assert "\x1b" not in gate_text(verdict(Outcome.FAIL), fault="FAIL", suite="tiny")
