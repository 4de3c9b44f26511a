"""`audit` and `diagnose` as they are typed, and the section of the page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lorabench.errors import ExitCode

SAMPLES = Path(__file__).resolve().parents[2] / "data" / "diagnosis"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder of the adapter that knows two colours."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(SAMPLES / "palette.json", folder / "results.json")
    return folder


def audit_file(folder: Path, **facts: float) -> Path:
    path = folder / "audit.json"
    path.write_text(json.dumps({"schema_version": 1, "folder": "set", "pictures": [], "facts": facts}))
    return path


def test_diagnose_names_the_cause_with_its_evidence(project: Any, run: Path) -> None:
    done = project.call("diagnose", run)

    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("Most likely cause: captions without colours")
    assert "for: palette FAIL: colours asked for are not given." in done.stdout
    assert "do (work on the data): Name the colours of the main things in every caption" in " ".join(
        done.stdout.split()
    )
    assert "Most likely cause" in json.loads((run / "diagnosis.json").read_text())["headline"]


def test_an_audit_decides_between_two_causes(project: Any, run: Path, tmp_path: Path) -> None:
    named = audit_file(tmp_path, caption_color_share=1.0, hue_families=2.0)

    done = project.call("diagnose", run, "--audit", named, "--json", "--no-write")

    found = json.loads(done.stdout)
    assert found["causes"][0]["cause"] == "one-palette"
    assert found["sources"] == ["run", "adapter", "audit"]
    assert not (run / "diagnosis.json").exists()


def test_a_folder_is_audited_with_the_trigger_of_the_run(project: Any, run: Path, training_folder: Path) -> None:
    done = project.call("diagnose", run, "--dataset", training_folder, "--json")

    assert done.exit_code == 0, done.stderr
    facts = {one["name"]: one["value"] for one in json.loads(done.stdout)["facts"]}
    assert facts["audit.n_pictures"] == 2
    assert facts["audit.caption_trigger_share"] == 0.5


def test_the_data_are_given_once(project: Any, run: Path, tmp_path: Path) -> None:
    done = project.call("diagnose", run, "--audit", audit_file(tmp_path), "--dataset", tmp_path)

    assert done.exit_code == ExitCode.USAGE
    assert "the data must be given once; found both --audit and --dataset" in done.stderr


def test_an_audit_of_another_version_is_refused(project: Any, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    path.write_text('{"schema_version": 9}')

    done = project.call("diagnose", run, "--audit", path)

    assert done.exit_code == ExitCode.USAGE
    assert "an audit must be an audit.json of schema version 1" in done.stderr
    assert "schema version 9" in done.stderr


def test_the_file_of_the_adapter_is_examined(project: Any, run: Path) -> None:
    done = project.call("diagnose", run, "--lora", project.folder / "adapter.safetensors", "--json")

    assert done.exit_code == 0, done.stderr
    facts = {one["name"]: one["value"] for one in json.loads(done.stdout)["facts"]}
    assert facts["adapter.rank"] == 4
    assert facts["adapter.alpha_over_rank"] == 1.0
    assert facts["adapter.health"] in ("healthy", "partial", "exploding")


def test_a_table_of_ones_own_replaces_ours(project: Any, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("measures: {}\ncauses: []\n")

    done = project.call("diagnose", run, "--causes", path)

    assert done.exit_code == ExitCode.USAGE
    assert "a table of causes must be valid; found 1 wrong." in done.stderr
    assert f"{path}:2: causes:" in done.stderr


def test_the_page_shows_a_diagnosis_that_lies_beside_the_results(project: Any, run: Path) -> None:
    before = project.call("report", run)
    assert before.exit_code == 0, before.stderr
    assert "Likely causes" not in (run / "report.html").read_text()

    project.call("diagnose", run)
    project.call("report", run)

    page = (run / "report.html").read_text()
    assert "Likely causes" in page
    assert "1. captions without colours: likely" in page
    assert "Of other results." not in page


def test_the_page_says_when_a_diagnosis_is_of_other_results(project: Any, run: Path) -> None:
    project.call("diagnose", run)
    shutil.copy(SAMPLES / "overtrained.json", run / "results.json")

    project.call("report", run)

    assert "Of other results." in (run / "report.html").read_text()


def test_markdown_of_a_verdict_has_the_causes(project: Any, run: Path) -> None:
    assert "### Diagnosis" not in project.call("gate", run, "--format", "markdown").stdout

    project.call("diagnose", run)

    assert "1. **captions without colours** (likely" in project.call("gate", run, "--format", "markdown").stdout


def test_a_damaged_diagnosis_is_told(project: Any, run: Path) -> None:
    (run / "diagnosis.json").write_text("{}")

    done = project.call("report", run)

    assert done.exit_code == ExitCode.USAGE
    assert "a diagnosis must be a diagnosis.json of schema version 1" in done.stderr


def test_audit_prints_facts_and_writes_them(project: Any, training_folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "audit.json"

    done = project.call("audit", training_folder, "--trigger", "a zvq drawing of", "--size", "64", "-o", target)

    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("2 training pictures in ")
    assert "captions that hold the trigger" in done.stdout
    assert "b.png repeats a.png (pixels, by pixels)" in done.stdout
    assert json.loads(target.read_text())["facts"]["small_share"] == 1.0


def test_audit_prints_json_and_nothing_else(project: Any, training_folder: Path) -> None:
    done = project.call("audit", training_folder, "--json")

    found = json.loads(done.stdout)
    assert found["facts"]["n_pictures"] == 2
    assert found["trigger"] == "a zvq drawing of"


def test_audit_of_nothing_could_not_measure(project: Any, tmp_path: Path) -> None:
    done = project.call("audit", tmp_path / "nowhere")

    assert done.exit_code == ExitCode.NOT_MEASURED
    assert "the training folder must hold pictures" in done.stderr
