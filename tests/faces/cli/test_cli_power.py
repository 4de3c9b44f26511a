"""`lorabench power`: the simulator on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from lorabench.training.simulation import Noise

SMALL = ("--cases", "12", "--runs", "20", "--checkpoints", "6", "--onset", "3", "--gates", "1", "--config", "none.toml")
QUIET = ("--sd", "0.001", "--case-sd", "0", "--wobble", "0", "--margin", "0.1")


@pytest.fixture(autouse=True)
def _settings(shared: Any) -> None:
    """Settings that say nothing, so that the defaults hold."""
    (shared.folder / "none.toml").write_text("", encoding="utf-8")


def answer(project: Any, *arguments: str) -> dict[str, Any]:
    done = project.call("power", *SMALL, *arguments, "--format", "json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_table_says_what_is_detected_how_late_and_what_it_costs(shared: Any) -> None:
    done = shared.call("power", *SMALL, *QUIET, "--drops", "2", "--dips", "2")

    assert done.exit_code == 0
    assert done.stderr == ""
    assert "A screen: 12 prompts x 2 seeds = 24 pictures; a confirmation: 96. Guards: 1." in done.stdout
    assert "One confirmation shows a harm of 0.1 (1 times the margin) in 9 of 10 cases" in done.stdout
    assert "20 trainings of 6 checkpoints per line, seed 1." in done.stdout
    text = " ".join(done.stdout.split())
    assert re.search(r"2 margins at( checkpoint 3 only)? 0\.00 \(0\.00–16\.1\) – – 100\.0", text)
    assert re.search(
        r"2 margins from( checkpoint 3 on)? 0\.00 \(0\.00–16\.1\) 100\.0 (\(83\.9–100\.0\) )?1 / 1 –", text
    )
    assert "test against 0" in text


def test_lines_fit_where_stdout_is_no_terminal(shared: Any) -> None:
    lines = shared.call("power", *SMALL).stdout.splitlines()

    assert len(lines) > 20
    assert max(len(line) for line in lines) <= 120


def test_json_holds_design_rule_reach_and_every_rule_of_every_scenario(shared: Any) -> None:
    found = answer(shared, *QUIET, "--drops", "1.5,3", "--dips", "2")

    assert found["design"]["n_cases"] == 12
    assert found["design"]["onset"] == 3
    assert found["rule"]["confirmations"] == 2
    assert found["detectable_harm"]["confirmation"] == pytest.approx(0.1, abs=0.001)
    assert list(found["cases_needed"]) == ["1.5", "3"]
    assert [one["name"] for one in found["scenarios"]] == [
        "nothing is wrong",
        "half a margin throughout",
        "2 margins at checkpoint 3 only",
        "1.5 margins from checkpoint 3 on",
        "3 margins from checkpoint 3 on",
        "drift, 1 margin at checkpoint 3",
    ]
    course = found["scenarios"][3]["rules"][0]
    assert course["rule"] == "lorabench"
    assert course["right_stops"]["share"] == 1.0
    assert course["stops_by_delay"] == [0, 20, 0, 0]
    assert course["delay_half"] == 1
    assert found["scenarios"][0]["rules"][0]["right_stops"] is None


def test_markdown_is_two_tables(shared: Any) -> None:
    text = shared.call("power", *SMALL, "--drops", "2", "--dips", "2", "--format", "markdown").stdout
    rows = [line for line in text.splitlines() if line.startswith("|")]

    assert text.startswith("- A screen: 12 prompts")
    assert rows[0].split("|")[1:4] == [" What happens ", " Wrong stops, % ", " Right stops, % "]
    assert sum(row.startswith("| What happens |") for row in rows) == 2
    assert sum(row.startswith("| nothing is wrong |") for row in rows) == 2


def test_equal_seeds_print_equal_tables(shared: Any) -> None:
    first, again, other = (
        shared.call("power", *SMALL, "--seed", seed, "--drops", "1.5").stdout for seed in ("1", "1", "2")
    )

    assert first == again
    assert first.partition("What")[2] != other.partition("What")[2]


def test_rule_and_margin_are_those_of_the_settings(shared: Any) -> None:
    changed = ("--set", "course.confirmations=3", "--set", "gates.prompt.margin=0.4", "--set", "course.n_seeds=5")
    found = answer(shared, *changed)

    assert found["rule"]["confirmations"] == 3
    assert found["design"]["margin"] == 0.4
    assert found["design"]["n_seeds"] == 5
    assert found["design"]["seed_sd"] == pytest.approx(1.2)
    assert answer(shared, *changed, "--margin", "0.2", "--seeds", "3", "--sd", "0.5")["design"]["seed_sd"] == 0.5


@pytest.mark.parametrize("noise", Noise)
def test_every_shape_of_noise_can_be_asked_for(shared: Any, noise: Noise) -> None:
    found = answer(shared, "--noise", noise.value)

    assert found["design"]["noise"] == noise.value


def test_prompts_are_those_of_the_screening_suite(shared: Any) -> None:
    own = ("--cases", "12", "--runs", "10", "--checkpoints", "2", "--onset", "1", "--format", "json")
    arguments = [*own[2:], "--set", "course.suite=pairs.lora.yaml"]

    done = shared.call("power", *arguments)

    assert json.loads(done.stdout)["design"]["n_cases"] == 6


def test_suite_that_is_nowhere_is_refused(shared: Any) -> None:
    done = shared.call("power", "--runs", "10", "--set", "course.suite=world/scren")

    assert done.exit_code == 2
    assert "Did you mean 'world/screen'?" in done.stderr


def test_suite_of_one_prompt_is_refused(project: Any, suite_text: Callable[..., str]) -> None:
    (project.folder / "one.lora.yaml").write_text(suite_text(n_cases=1), encoding="utf-8")

    done = project.call("power", "--set", "course.suite=one.lora.yaml")

    assert done.exit_code == 2
    assert "the screening suite must hold at least 2 prompts; found 1 in one.lora.yaml" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--drops", "0.5,2"), "--drops must be harms in margins, at least 1, separated by commas; found '0.5,2'."),
        (("--drops", "much"), "--drops must be harms in margins, at least 1, separated by commas; found 'much'."),
        (("--dips", "0"), "--dips must be harms in margins, above 0, separated by commas; found '0'."),
        (("--dips", "inf"), "--dips must be harms in margins, above 0, separated by commas; found 'inf'."),
        (("--onset", "7"), "--onset must be one of the 6 checkpoints; found 7."),
    ],
)
def test_what_cannot_be_simulated_is_refused(shared: Any, arguments: tuple[str, str], words: str) -> None:
    done = shared.call("power", *SMALL, *arguments)

    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [("--sd", "0"), ("--cases", "1"), ("--runs", "1"), ("--margin", "0")])
def test_numbers_out_of_range_are_wrong_usage(shared: Any, arguments: tuple[str, str]) -> None:
    done = shared.call("power", *SMALL, *arguments)

    assert done.exit_code == 2
    assert "Usage: lorabench" in done.stderr
