import json
import subprocess
import sys
from pathlib import Path

import pytest

from lorabench.records.comparison import Outcome
from lorabench.records.plan import Arm, Cell, GenerationSettings, Plan, PlannedCell, StylePhrases
from lorabench.records.results import BaseInfo, Provenance, Results, RunVerdict
from lorabench.records.suite import Case, Suite
from lorabench.storage.run_folder import ResultsFileError, RunBusyError, RunFolder, read_results

SUITE = Suite(name="small", licence="CC0-1.0", seeds=(7,), cases=(Case(id="a", family="spatial", prompt="a dog"),))
SETTINGS = GenerationSettings()
CELLS = (PlannedCell(cell=Cell(arm=Arm.CONTROL, case="a", seed=7), prompt="a dog"),)


def results() -> Results:
    return Results(
        run_id="small-base-0",
        suite=SUITE,
        style=StylePhrases(),
        settings=SETTINGS,
        base=BaseInfo(name="tiny", family="flux", digest="0" * 64, dtype="float32", device_class="cpu"),
        candidate=None,
        plan=CELLS,
        images=(),
        metrics=(),
        measurements=(),
        verdict=RunVerdict(outcome=Outcome.UNMEASURED, headline="No verdict.", reasons=(), exit_code=3, complete=True),
        provenance=Provenance(
            lorabench_version="0",
            created_at="2026-01-01T00:00:00+00:00",
            versions={},
            judges={},
            hardware_class="cpu",
            timings={},
            n_generated=0,
            n_from_cache=0,
            command="",
        ),
    )


def test_folder_is_named_by_suite_candidate_and_digest(tmp_path: Path) -> None:
    folder = RunFolder.of(tmp_path, suite="world.screen", candidate="My Style (v2)", digest="0123456789abcdef")

    assert folder.run_id == "world.screen-my-style-v2-0123456789"
    assert folder.folder.parent == tmp_path
    assert folder.picture_path("ab") == folder.folder / "pictures" / "ab.png"


def test_long_names_are_cut_and_keep_their_digest(tmp_path: Path) -> None:
    folder = RunFolder.of(tmp_path, suite="s", candidate="x" * 300, digest="0123456789abcdef")

    assert len(folder.run_id) == 91
    assert folder.run_id.endswith("-0123456789")


def test_second_claim_is_refused_with_the_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")

    with folder.claimed(), pytest.raises(RunBusyError) as caught, RunFolder(tmp_path / "run").claimed():
        pass

    assert str(caught.value) == (
        f"one run folder must have one process; another one is at work in {tmp_path / 'run'}. Wait for it, or stop it."
    )
    assert caught.value.exit_code == 3


def test_claim_of_another_process_is_seen(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from lorabench.storage.run_folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).claimed():\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    folder = RunFolder(tmp_path / "run")
    command = [sys.executable, "-c", script, str(folder.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunBusyError), folder.claimed():
            pass
        other.communicate("")

    with folder.claimed():
        pass


def test_claim_ends_also_where_the_run_fails(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")

    with pytest.raises(KeyError), folder.claimed():
        raise KeyError

    with folder.claimed():
        pass


def test_results_and_plan_come_back_as_they_were_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    plan = Plan(suite_digest=SUITE.content_digest(), settings=SETTINGS, cells=CELLS)

    folder.write_plan(plan)
    folder.write_results(results())

    assert read_results(folder.folder) == results()
    assert read_results(folder.results_path) == results()
    assert Plan.model_validate_json(folder.plan_path.read_text(encoding="utf-8")) == plan


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "No such file or directory"),
        (results().model_dump_json().encode()[:-40], "not a JSON object ("),
        (b"[1, 2]", "not a JSON object ("),
        (b"\xff\xfe\x00", "not UTF-8 text (invalid start byte)"),
        (b'{"schema_version": 7}', "schema version 7"),
        (b"{}", "schema version None"),
        (b'{"schema_version": 1, "run_id": "a"}', "suite: Field required"),
    ],
    ids=["missing", "cut-short", "list", "binary", "other-version", "no-version", "incomplete"],
)
def test_unreadable_results_name_the_file_and_what_was_found(tmp_path: Path, content, found: str) -> None:
    path = tmp_path / "results.json"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ResultsFileError) as caught:
        read_results(path)

    message = str(caught.value)
    assert message.startswith(f"results must be a results.json of schema version 1; {path}: {found}")
    assert message.endswith("Name a run folder or its results.json, or make it again with `lorabench run`.")
    assert caught.value.exit_code == 2


def test_field_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({**json.loads(results().model_dump_json()), "mood": "good"}), encoding="utf-8")

    with pytest.raises(ResultsFileError, match="mood: Extra inputs are not permitted"):
        read_results(path)
