"""Required suites: what was not selected, or not evaluated at all, is a failing item."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("selection", "missing"),
    [
        (("-k", "not gate"), "2 of tiny.lora.yaml are not: gate:broken, gate:foils"),
        (("tiny.lora.yaml::p1",), "4 of tiny.lora.yaml are not: p2, p3, gate:broken, gate:foils"),
        (("--deselect", "tiny.lora.yaml::p3"), "1 of tiny.lora.yaml are not: p3"),
        (("-k", "no-such-thing"), "5 of tiny.lora.yaml are not: p1, p2, p3, gate:broken, gate:foils"),
    ],
)
def test_incomplete_selection_fails_where_completeness_is_required(project, selection, missing):
    result = project.run("-v", "--lorabench-require-complete", *selection)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert project.outcomes(result)["complete"] == "FAILED"
    result.stdout.fnmatch_lines([f"*every item of a required suite must be selected; {missing}. Select them, *"])


def test_complete_selection_has_no_such_item(project):
    result = project.run("-v", "--lorabench-require-complete")

    assert result.ret == 0
    assert "complete" not in project.outcomes(result)


def test_incomplete_selection_is_fine_elsewhere(project):
    assert project.run("-k", "p1").ret == 0


@pytest.mark.parametrize("variable", ["CI", "GITHUB_ACTIONS", "LORABENCH_REQUIRE_COMPLETE"])
def test_environment_requires_completeness(project, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")

    assert project.run("-k", "p1").ret == 1
    assert project.run("-k", "p1", "--lorabench-allow-partial").ret == 0


def test_variable_can_turn_it_off_in_ci(project, monkeypatch):
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("LORABENCH_REQUIRE_COMPLETE", "0")

    assert project.run("-k", "p1").ret == 0


def test_forgotten_flag_is_not_green_where_completeness_is_required(project, monkeypatch):
    monkeypatch.setenv("LORABENCH_REQUIRE_COMPLETE", "1")

    result = project.run_off("-v")

    assert result.ret == 1
    assert project.outcomes(result) == {
        "p1": "SKIPPED",
        "p2": "SKIPPED",
        "p3": "SKIPPED",
        "gate:broken": "FAILED",
        "gate:foils": "FAILED",
    }
    result.stdout.fnmatch_lines(["a required suite must be evaluated; 0 of 3 prompts of tiny were. Give --lorabench."])


def test_ci_alone_does_not_fail_a_plain_run_of_a_project_with_suites(project, monkeypatch):
    monkeypatch.setenv("CI", "true")

    assert project.run_off().ret == 0


def test_required_suite_that_was_not_collected_fails(project):
    project.pytester.makeini("[pytest]\nlorabench_required_suites = tiny.lora.yaml other.lora.yaml\n")
    project.pytester.makepyfile(test_plain="def test_plain(): pass")

    result = project.run("-v", "--lorabench-require-complete", "test_plain.py")

    assert result.ret == 1
    failed = [line.split(" ")[0] for line in result.outlines if line.endswith("]") and "FAILED" in line]
    assert failed == ["tiny.lora.yaml::complete", "other.lora.yaml::complete"]
    result.stdout.fnmatch_lines(["*the whole file, which was not collected*"])


def test_limit_makes_a_run_incomplete(project):
    project.settings()
    text = (project.path / "lorabench.toml").read_text()
    (project.path / "lorabench.toml").write_text("limit = 1\n" + text)

    partial = project.run("-v")
    required = project.run("-v", "--lorabench-require-complete")

    assert set(project.outcomes(partial)) == {"p1", "gate:broken", "gate:foils"}
    assert project.outcomes(required)["complete"] == "FAILED"
    required.stdout.fnmatch_lines(["*a gate needs the whole suite; Incomplete (1 of 3 cases).*"])


def test_both_flags_at_once_are_a_usage_error(project):
    result = project.run("--lorabench-require-complete", "--lorabench-allow-partial")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--lorabench-require-complete and --lorabench-allow-partial exclude each other*"])
