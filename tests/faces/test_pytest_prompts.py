"""Items of prompts: what is collected, what is made, and what a failure says."""

from __future__ import annotations

import pytest


def test_one_item_per_prompt_and_per_gate(project):
    result = project.run("-v")

    assert result.ret == 0
    assert project.outcomes(result) == {
        "p1": "PASSED",
        "p2": "PASSED",
        "p3": "PASSED",
        "gate:broken": "PASSED",
        "gate:foils": "SKIPPED",
    }


def test_without_the_flag_every_item_is_skipped_with_one_reason_and_a_count(project):
    result = project.run_off("-rs")

    result.assert_outcomes(skipped=5)
    result.stdout.fnmatch_lines(["SKIPPED * lorabench is off: give --lorabench (or set lorabench = true)*"])
    result.stdout.fnmatch_lines(["lorabench: 0 of 3 prompts evaluated; give --lorabench to evaluate them"])
    assert not (project.path / "cache").exists()


def test_ini_key_turns_it_on(project):
    project.pytester.makeini("[pytest]\nlorabench = true\n")

    project.run_off().assert_outcomes(passed=4, skipped=1)


def test_collect_only_makes_no_picture(project):
    project.plant("black")

    result = project.run("--collect-only", "-q")

    assert "tiny.lora.yaml::p2" in result.outlines
    assert project.calls() == []
    assert not (project.path / ".lorabench").exists()


@pytest.mark.parametrize(
    "selection",
    [
        ("-k", "p2"),
        ("tiny.lora.yaml::p2",),
        ("-m", "lora_prompt(id='p2')"),
        ("--deselect", "tiny.lora.yaml::p1", "--deselect", "tiny.lora.yaml::p3", "-k", "not gate"),
    ],
)
def test_only_selected_prompts_are_made(project, selection):
    project.plant("black", "p1")

    result = project.run(*selection)

    result.assert_outcomes(passed=1, deselected=result.parseoutcomes().get("deselected", 0))
    assert project.calls() == [["p2"]]


@pytest.mark.parametrize(
    ("selection", "selected"),
    [
        (("-k", "cat-counting"), {"p2"}),
        (("-m", "lora_prompt(category='attribute_binding')"), {"p1", "p3", "q1"}),
        (("-m", "lora_prompt(golden=True)"), {"p3"}),
        (("-k", "golden and not gate"), {"p3"}),
        (("-k", "suite-other"), {"q1", "gate:broken", "gate:foils"}),
        (("-m", "lora_gate(metric='broken_rate')", "tiny.lora.yaml"), {"gate:broken"}),
    ],
)
def test_selection_by_marker_and_keyword(project, selection, selected):
    project.suite(n=3, seeds=(1,), golden=[3])
    project.suite("other.lora.yaml", name="other", n=1, seeds=(1,), prefix="q")

    result = project.run("--strict-markers", "--collect-only", "-q", *selection)

    assert {line.partition("::")[2] for line in result.outlines if "::" in line} == selected


def test_window_holds_selected_prompts_in_their_order(project):
    project.suite(n=6, seeds=(1,))
    project.plant("black", "p9")

    project.run("--lorabench-batch-size", "2", "-k", "not p2 and not gate")

    assert project.calls() == [["p1", "p3"], ["p4", "p5"], ["p6"]]


def test_stopping_at_the_first_failure_wastes_one_window_at_most(project):
    project.suite(n=6, seeds=(1,))
    project.plant("black", "p1")

    result = project.run("-x", "--lorabench-batch-size", "2")

    result.assert_outcomes(failed=1)
    assert project.calls() == [["p1", "p2"]]


def test_prompts_skipped_by_their_marker_are_left_out_of_windows(project):
    project.plant("black", "p9")
    with (project.path / "conftest.py").open("a") as file:
        file.write(
            "def pytest_collection_modifyitems(items):\n"
            "    for item in items:\n"
            "        if item.name == 'p2': item.add_marker(pytest.mark.skip(reason='later'))\n"
        )

    project.run("-k", "not gate")

    assert project.calls() == [["p1", "p3"]]


def test_picture_that_cannot_be_made_fails_its_own_prompt_only(project):
    project.plant("raise", "p2")

    result = project.run("-v", "-k", "not gate")

    assert project.outcomes(result) == {"p1": "PASSED", "p2": "FAILED", "p3": "PASSED"}
    result.stdout.fnmatch_lines(["*L1/p2/seed1/x1: no picture: RuntimeError: planted fault in L1/p2/seed1/x1"])


def test_crash_in_a_window_lands_on_its_own_prompt(project):
    project.plant("black", "p9")
    conftest = project.path / "conftest.py"
    conftest.write_text(
        conftest.read_text().replace(
            "        return super()",
            "        if any(planned.cell.case == 'p2' for planned in cells): raise KeyError('a defect')\n"
            "        return super()",
        )
    )

    result = project.run("-v", "-k", "not gate")

    assert project.outcomes(result) == {"p1": "PASSED", "p2": "FAILED", "p3": "PASSED"}
    assert "KeyError: 'a defect'" in result.stdout.str()


def test_broken_picture_of_the_candidate_fails_its_prompt_without_a_python_trace(project):
    project.plant("black", "p2")

    result = project.run("-k", "p2")

    result.assert_outcomes(failed=1, deselected=4)
    result.stdout.fnmatch_lines(
        [
            "prompt p2 (counting): {style} a blue square",
            "  seed 1: the candidate's picture is broken, the control's is not",
            "  metric * candidate * control * difference",
            "  broken_rate * 1.00 * 0 * +1.00",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    assert ".py:" not in result.stdout.str()


def test_everything_wrong_with_a_prompt_is_told_at_once(project):
    project.suite(n=1, seeds=(1, 2, 3))
    project.plant("black", "p1")

    result = project.run("-k", "p1")

    told = [line for line in result.outlines if "is broken, the control's is not" in line]
    assert [line.split(":")[0].strip() for line in told] == ["seed 1", "seed 2", "seed 3"]


def test_golden_prompt_fails_by_itself_where_another_one_does_not(project):
    project.settings(oracle=True)
    project.suite(n=2, seeds=(1,), golden=[1])
    project.plant("palette", "p1", "p2")
    (project.path / "tiny.lora.yaml").write_text(
        (project.path / "tiny.lora.yaml").read_text().replace("red", "cyan"), encoding="utf-8"
    )

    result = project.run("-v", "-k", "p1 or p2")

    assert project.outcomes(result) == {"p1": "FAILED", "p2": "PASSED"}
    result.stdout.fnmatch_lines(["  golden, seed 1: at least 1 cyan circle: failed: *"])


def test_golden_prompt_whose_check_could_not_be_scored_does_not_pass(project):
    project.suite(n=1, seeds=(1,), golden=[1])

    result = project.run("-k", "p1")

    result.assert_outcomes(failed=1, deselected=result.parseoutcomes()["deselected"])
    result.stdout.fnmatch_lines(["  golden, seed 1: at least 1 red circle: not measured: *"])


def test_failure_names_the_line_of_the_prompt(project):
    lines = (project.path / "tiny.lora.yaml").read_text().splitlines()

    items, _ = project.pytester.inline_genitems("-p", "lorabench.pytest_plugin")

    place = next(item.reportinfo() for item in items if item.name == "p2")
    assert lines[place[1]].strip() == "- id: p2"


def test_very_verbose_failures_show_settings_and_a_command(project):
    project.plant("black", "p2")

    result = project.run("-vv", "-k", "p2")

    result.stdout.fnmatch_lines(["  base -, adapter *adapter.safetensors at scale 1, {*"])
    result.stdout.fnmatch_lines(["  alone: pytest --lorabench 'tiny.lora.yaml::p2'"])


def test_several_adapters_have_items_of_their_own(project):
    (project.path / "v7").mkdir()
    (project.path / "adapter.safetensors").rename(project.path / "v7" / "pytorch_lora_weights.safetensors")
    adapter = "v7/pytorch_lora_weights.safetensors"

    result = project.run("-v", "-k", "p1 or broken", "--lorabench-lora", adapter, "--lorabench-lora", f"{adapter}:0.5")

    assert project.outcomes(result) == {
        "p1:v7": "PASSED",
        "p1:v7-x0.5": "PASSED",
        "gate:broken:v7": "PASSED",
        "gate:broken:v7-x0.5": "PASSED",
    }


def test_unreadable_adapter_fails_every_item_with_its_message(project):
    result = project.run("--lorabench-lora", "missing.safetensors")

    result.assert_outcomes(failed=5)
    assert "missing.safetensors" in result.stdout.str()
    assert "Traceback" not in result.stdout.str()


def test_cache_only_makes_nothing_and_fails_what_is_missing(project):
    project.run("-k", "p1 and not gate")
    project.plant("black", "p9")

    missing = project.run("-v", "--lorabench-cache-only", "-k", "not gate")

    assert project.calls() == []
    assert project.outcomes(missing)["p2"] == "FAILED"


def test_second_run_takes_pictures_from_the_cache(project):
    project.run()

    result = project.run()

    result.stdout.fnmatch_lines(["tiny: 3 of 3 prompts evaluated (3 selected); 0 pictures made, 9 from the cache, *"])


def test_no_cache_makes_every_picture_again_and_leaves_the_cache_alone(project):
    project.run()
    before = sorted((project.path / "cache").rglob("*"))

    result = project.run("--lorabench-no-cache")

    result.stdout.fnmatch_lines(["tiny: * 9 pictures made, 0 from the cache, *"])
    assert sorted((project.path / "cache").rglob("*")) == before


def test_seeds_of_the_command_line(project):
    result = project.run("--lorabench-seeds", "4,5", "-k", "p1 and not gate")

    result.stdout.fnmatch_lines(["tiny: * 6 pictures made, *"])
