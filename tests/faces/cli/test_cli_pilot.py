"""`lorabench pilot`: what it measures, advises and refuses; on the synthetic backend and on the embedded model."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorabench.evaluation.demonstration import STYLE
from lorabench.records.config import Config
from lorabench.records.pilot import Pilot
from lorabench.storage.shipped import shipped_data

NOISY = "drop_second:0.4"
STATISTICS = ("--set", "statistics.n_resamples=100", "--set", "statistics.confidence_level=0.95")
SUITE = ("pairs.lora.yaml", "--set", "course.pool_size=6", "--set", "gates.prompt.margin=0.1", *STATISTICS)


def answer(project: Any, *arguments: str) -> dict[str, Any]:
    done = project.call("pilot", "-q", *SUITE, *arguments, "--format", "json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def of_metric(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in found["metrics"] if one["metric"] == name)


def test_paired_differences_of_an_adapter_are_measured_and_advised_on(shared: Any) -> None:
    found = answer(shared, "--base", NOISY, "--n-seeds", "6")
    one = of_metric(found, "prompt_following_score")

    assert (found["n_cases"], found["n_seeds"], found["suite_seeds"]) == (6, 6, 1)
    assert found["adapter"] == "adapter"
    assert one["control"]["mean"] == 1.0
    assert one["control"]["halves"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert one["difference"]["source"] == "adapter"
    assert one["difference"]["seed_sd"]["value"] > 0
    assert one["difference"]["rho"] is None  # the control does not vary at all
    advice = one["advice"]
    assert (advice["gate"], advice["margin"]) == ("prompt", 0.1)
    assert advice["smallest_margin"]["value"] > 0.1
    assert advice["suggested_margin"] >= advice["smallest_margin"]["value"]
    assert advice["cases_needed"]["value"] > 6
    assert "6 prompts x 1 seeds show a margin of" in advice["reasons"][0]
    assert advice["false_stops"]["low"] <= advice["false_stops"]["value"]
    assert Pilot.model_validate({key: value for key, value in found.items() if key != "gate_lines"}).suite == "pairs"


def test_a_base_alone_shows_what_noise_does_and_leaves_the_rest_open(shared: Any) -> None:
    found = answer(shared, "--lora", "", "--n-seeds", "4")
    one = of_metric(found, "smooth_zone_sigma")

    assert found["adapter"] is None
    assert one["difference"]["source"] == "base alone"
    assert one["difference"]["case_sd"] is None
    assert one["difference"]["rho"] is None
    within = one["control"]["within"]["value"]
    assert one["difference"]["seed_sd"]["value"] == pytest.approx(2**0.5 * within)
    assert one["difference"]["standard_error"]["value"] == pytest.approx((2 / 6) ** 0.5 * within)
    prompt = of_metric(found, "prompt_following_score")["advice"]
    assert "Without an adapter: common noise would narrow this" in prompt["reasons"][-1]


def test_what_could_not_be_measured_says_why(shared: Any) -> None:
    found = answer(shared, "--lora", "", "--n-seeds", "2")

    assert "no CLIP judge" in of_metric(found, "clip_text_similarity")["unmeasured"] or "clip" in (
        of_metric(found, "clip_text_similarity")["unmeasured"].lower()
    )
    assert (
        of_metric(found, "photo_bleed")["unmeasured"] == "one number per run, and only an adapter has one; give --lora."
    )


def test_pictures_of_the_pilot_are_found_by_runs_and_by_the_next_pilot(project: Any) -> None:
    first = answer(project, "--n-seeds", "3")
    again = answer(project, "--n-seeds", "3")
    project.run("--set", 'arms=["B1", "L1"]')
    (run,) = [one for one in project.run_folders() if one.name != first["run_id"]]
    made = json.loads((run / "results.json").read_text(encoding="utf-8"))["provenance"]

    assert (first["n_generated"], again["n_generated"], again["n_from_cache"]) == (36, 0, 36)
    assert made["n_generated"] == 0
    assert [one["control"] for one in again["metrics"]] == [one["control"] for one in first["metrics"]]


def test_text_holds_tables_reasons_and_settings_to_paste(shared: Any) -> None:
    done = shared.call("pilot", "-q", *SUITE, "--base", NOISY, "--n-seeds", "4")

    assert done.exit_code == 0, done.stderr
    assert "Pilot of pairs: 6 prompts x 4 seeds, adapter adapter" in done.stdout
    assert re.search(r"^prompt_following_score +6 x 4 +1 ", done.stdout, re.MULTILINE)
    assert "- prompt: 6 prompts x 1 seeds show a margin of" in done.stdout
    assert re.search(r"^- copy_rate: not measured\. ", done.stdout, re.MULTILINE) or "copy" not in done.stdout
    lines = done.stdout[done.stdout.index("# pilot of 6 prompts") :]
    assert Config.model_validate(tomllib.loads(lines)).gates["prompt"].margin > 0.1


def test_markdown_is_two_tables_and_settings(shared: Any) -> None:
    text = shared.call("pilot", "-q", *SUITE, "--n-seeds", "2", "--format", "markdown").stdout

    assert "| Metric | Cases | Mean |" in text
    assert "| Gate | Margin | Standard error |" in text
    assert "```toml\n# pilot of" in text


def test_power_takes_spreads_and_prompts_from_a_pilot(shared: Any, tmp_path: Path) -> None:
    file = tmp_path / "pilot.json"
    found = answer(shared, "--base", NOISY, "--n-seeds", "6", "--output", str(file))
    difference = of_metric(found, "prompt_following_score")["difference"]
    small = ("--runs", "10", "--checkpoints", "2", "--onset", "1", "--format", "json", "--pilot", file)

    design = json.loads(shared.call("power", *small).stdout)["design"]
    stated = json.loads(shared.call("power", *small, "--sd", "0.5", "--cases", "9").stdout)["design"]

    assert design["n_cases"] == 6
    assert design["seed_sd"] == pytest.approx(difference["seed_sd"]["value"])
    assert design["case_sd"] == pytest.approx(difference["case_sd"]["value"])
    assert design["margin"] == 0.32
    assert (stated["n_cases"], stated["seed_sd"]) == (9, 0.5)


def test_power_refuses_what_a_pilot_does_not_hold(shared: Any, tmp_path: Path) -> None:
    file = tmp_path / "pilot.json"
    answer(shared, "--base", NOISY, "--n-seeds", "6", "--output", str(file))
    other, broken = tmp_path / "other.json", tmp_path / "broken.json"
    other.write_text("{}", encoding="utf-8")
    broken.write_text("no", encoding="utf-8")

    unknown = shared.call("power", "--pilot", file, "--gate", "promt")
    missing = shared.call("power", "--pilot", file, "--gate", "anatomy")
    gone = shared.call("power", "--pilot", tmp_path / "gone.json")

    assert [one.exit_code for one in (unknown, missing, gone)] == [2, 2, 2]
    assert "has none above 0 for 'promt'. It has some for: prompt" in " ".join(unknown.stderr.split())
    assert "has none above 0 for 'anatomy'" in " ".join(missing.stderr.split())
    assert "a pilot must be a JSON file of schema version 1" in gone.stderr
    assert "not JSON" in shared.call("power", "--pilot", broken).stderr
    assert "suite: Field required" in shared.call("power", "--pilot", other).stderr
    assert "found 'promt'. Did you mean 'prompt'?" in shared.call("power", "--gate", "promt").stderr


def test_several_suites_are_refused(project: Any, suite_text: Callable[..., str]) -> None:
    folder = project.folder / "many"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / f"{name}.lora.yaml").write_text(suite_text(name=name), encoding="utf-8")

    done = project.call("pilot", "many")

    assert done.exit_code == 2
    assert "a pilot must be of one suite; found 2 files" in done.stderr


def test_one_seed_is_wrong_usage(shared: Any) -> None:
    assert shared.call("pilot", *SUITE, "--n-seeds", "1").exit_code == 2


@pytest.mark.slow
def test_pilot_on_the_embedded_model_with_a_healthy_adapter(project: Any) -> None:
    base, lora = shipped_data("fixtures/models/tiny-flux"), shipped_data("fixtures/adapters/healthy")
    generation = json.loads((base / "lorabench.json").read_text(encoding="utf-8"))["generation"]
    settings = [part for key, value in generation.items() for part in ("--set", f"generation.{key}={value}")]
    style = ("--trigger", STYLE.trigger, "--plain-style", STYLE.plain, "--neutral", STYLE.neutral)
    (project.folder / "none.toml").write_text("", encoding="utf-8")

    done = project.call(
        "pilot", "world/screen", "-q", "--config", "none.toml", "--base", base, "--lora", lora, *style, *settings,
        "--detector", "oracle", "--device", "cpu", "--limit", "4", "--n-seeds", "2", "--format", "json",
    )  # fmt: skip

    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["n_generated"] + found["n_from_cache"] == 16
    sigma = of_metric(found, "smooth_zone_sigma")
    assert sigma["control"]["within"]["value"] > 0
    assert -1 <= sigma["difference"]["rho"]["value"] <= 1
    assert sigma["difference"]["seed_sd"]["value"] > 0
    assert of_metric(found, "prompt_following_score")["advice"]["gate"] == "prompt"
