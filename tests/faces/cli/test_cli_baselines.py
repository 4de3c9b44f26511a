"""`lorabench baseline`: numbers change only when a person accepts a complete run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorabench.storage.baselines import CI_VARIABLES


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "baselines"


def accepted(project: Any, store: Path, run: Path, name: str = "style-v1") -> None:
    done = project.call("baseline", "save", name, run, "--baselines-dir", store, "--by", "ada")
    assert done.exit_code == 0, done.stderr


def test_a_saved_baseline_is_listed_shown_and_sound(shared: Any, passed: Path, store: Path) -> None:
    accepted(shared, store, passed)

    (listed,) = json.loads(shared.call("baseline", "list", "--baselines-dir", store, "--json").stdout)
    shown = shared.call("baseline", "show", "style-v1@1", "--baselines-dir", store)
    sound = shared.call("baseline", "verify", "--baselines-dir", store)
    assert (listed["name"], listed["number"], listed["accepted_by"]) == ("style-v1", 1, "ada")
    assert "prompt_following_score" in shown.stdout
    assert sound.exit_code == 0
    assert "1 baselines, all sound" in sound.stdout


def test_save_refuses_a_taken_name_and_points_to_accept(shared: Any, passed: Path, store: Path) -> None:
    accepted(shared, store, passed)
    before = (store / "style-v1/baseline.json").read_bytes()
    done = shared.call("baseline", "save", "style-v1", passed, "--baselines-dir", store)

    assert done.exit_code == 2
    assert "'style-v1' exists" in done.stderr
    assert "lorabench baseline accept style-v1" in done.stderr
    assert (store / "style-v1/baseline.json").read_bytes() == before


def test_accept_numbers_acceptances_and_restore_brings_one_back(
    shared: Any, passed: Path, failed: Path, store: Path
) -> None:
    accepted(shared, store, passed)
    options = ("--baselines-dir", store)
    refused = shared.call("baseline", "accept", "style-v1", failed, "--reason", "new look", *options)
    done = shared.call("baseline", "accept", "style-v1", failed, "--reason", "new look", "--allow-failed", *options)
    restored = shared.call("baseline", "restore", "style-v1", "1", *options)
    absent = shared.call("baseline", "restore", "style-v1", "9", *options)

    assert refused.exit_code == 2
    assert "a gate of this run failed. Say --allow-failed" in refused.stderr
    assert "style-v1@2" in done.stdout
    assert "style-v1 is number 1 again" in restored.stdout
    assert absent.exit_code == 3
    assert "found none called 'style-v1@9'" in absent.stderr


def test_accept_needs_a_reason(shared: Any, passed: Path, store: Path) -> None:
    done = shared.call("baseline", "accept", "style-v1", passed, "--baselines-dir", store)

    assert done.exit_code == 2
    assert "--reason" in done.stderr


@pytest.mark.parametrize("variable", CI_VARIABLES)
def test_nothing_is_accepted_in_ci(shared: Any, passed: Path, store: Path, variable: str) -> None:
    done = shared.call("baseline", "save", "style-v1", passed, "--baselines-dir", store, env={variable: "true"})

    assert done.exit_code == 2
    assert f"{variable} is set, so this is CI. Accept on your own machine and commit." in done.stderr
    assert not store.exists()


def test_a_partial_run_is_not_accepted(shared: Any, store: Path) -> None:
    partial = shared.run("--limit", "5")
    done = shared.call("baseline", "save", "style-v1", partial, "--baselines-dir", store)

    assert done.exit_code == 2
    assert "this run is partial. Run the whole suite, without a limit." in done.stderr
    assert not store.exists()


@pytest.mark.parametrize("name", ["../outside", "..", "A", "style v1", "style@two", ""])
def test_names_that_no_baseline_can_have(shared: Any, passed: Path, store: Path, name: str) -> None:
    done = shared.call("baseline", "show", name, "--baselines-dir", store)

    assert done.exit_code == 2
    assert "a baseline's name must match" in done.stderr


def test_diff_tells_what_accepting_would_change(shared: Any, passed: Path, failed: Path, store: Path) -> None:
    accepted(shared, store, passed)
    done = shared.call("baseline", "diff", "style-v1", failed, "--baselines-dir", store, "--json")

    difference = json.loads(done.stdout)
    prompt = next(one for one in difference["metrics"] if one["metric"] == "prompt_following_score")
    assert difference["obstacles"] == []
    assert prompt["n_pairs"] == 6
    assert prompt["change"] == pytest.approx(prompt["run"] - prompt["baseline"])
    assert prompt["change"] < 0


def test_a_run_can_be_compared_with_the_baseline(shared: Any, passed: Path, store: Path) -> None:
    accepted(shared, store, passed)
    compared = (
        "run",
        "-q",
        "--no-report",
        "--baseline",
        "style-v1",
        "--set",
        f"baselines_dir={store}",
        "--format",
        "json",
    )
    done = shared.call(*compared)

    gates = {gate["gate"]: gate["outcome"] for gate in json.loads(done.stdout)["runs"][0]["gates"]}
    assert done.exit_code == 0
    assert gates["prompt-baseline"] == "PASS"


def test_a_baseline_of_another_suite_ends_with_3(shared: Any, passed: Path, store: Path, suite_text: Any) -> None:
    accepted(shared, store, passed)
    (shared.folder / "changed.lora.yaml").write_text(suite_text(n_cases=5), encoding="utf-8")
    done = shared.call(
        "run", "changed.lora.yaml", "-q", "--baseline", "style-v1", "--set", f"baselines_dir={store}", "--no-report"
    )

    assert done.exit_code == 3
    assert "style-v1 differs in suite" in done.stderr


def test_prune_asks_and_deletes_only_what_nobody_names(shared: Any, passed: Path, store: Path) -> None:
    accepted(shared, store, passed)
    stray = store / "blobs" / f"{'0' * 64}.png"
    stray.write_bytes(b"stray")
    unasked = shared.call("baseline", "prune", "--baselines-dir", store)
    done = shared.call("baseline", "prune", "--baselines-dir", store, "--yes")

    assert unasked.exit_code == 2
    assert "deleting must be confirmed; stdin is no terminal. Say --yes" in unasked.stderr
    assert "1 pictures deleted" in done.stdout
    assert not stray.exists()
    assert shared.call("baseline", "verify", "--baselines-dir", store).exit_code == 0


def test_verify_names_what_is_wrong_and_ends_with_3(shared: Any, passed: Path, store: Path) -> None:
    accepted(shared, store, passed)
    blob = next((store / "blobs").iterdir())
    blob.unlink()
    done = shared.call("baseline", "verify", "--baselines-dir", store)

    assert done.exit_code == 3
    assert f"style-v1: picture {blob.stem} is missing" in done.stdout
