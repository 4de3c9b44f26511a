"""`lorabench run`: from a suite to a verdict and an exit code."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorabench.generation.synthetic import SyntheticBackend
from lorabench.storage.run_folder import RunFolder, read_results


def test_a_healthy_candidate_passes_and_leaves_results_and_report(project: Any) -> None:
    done = project.call("run")

    assert done.exit_code == 0, done.stderr
    (folder,) = project.run_folders()
    assert "PASS" in done.stdout
    assert f"results: {folder / 'results.json'}" in done.stdout
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert read_results(folder).provenance.command == "lorabench run"
    assert "generating: 18 to do" in done.stderr


def test_a_candidate_that_drops_objects_fails_with_1(shared: Any) -> None:
    done = shared.call("run", "--base", "drop_second:0.4", "--no-report")

    assert done.exit_code == 1, done.stderr
    assert "prompts are followed less" in done.stdout
    assert "report:" not in done.stdout


def test_a_required_gate_without_its_judge_ends_with_3(shared: Any) -> None:
    done = shared.call(
        "run", "-q", "--no-report", "--set", "gates.copy.enabled=true", "--set", "gates.copy.required=true"
    )

    assert done.exit_code == 3
    assert "no training pictures are configured" in done.stdout


def test_an_unclear_difference_ends_with_4(shared: Any) -> None:
    done = shared.call("run", "-q", "--no-report", "--base", "drop_second:0.3")

    assert done.exit_code == 4, done.stdout
    assert "INCONCLUSIVE" in done.stdout


def test_part_of_a_suite_ends_with_5_even_if_it_failed(shared: Any) -> None:
    done = shared.call("run", "-q", "--no-report", "--base", "drop_second:0.4", "--limit", "5", "--format", "json")

    assert done.exit_code == 5, done.stdout
    (run,) = json.loads(done.stdout)["runs"]
    assert run["outcome"] == "FAIL"
    assert run["complete"] is False


def test_json_is_all_there_is_on_stdout_even_if_a_library_prints(shared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = SyntheticBackend._draw_batch

    def chatty(self: Any, batch: Any, *, settings: Any) -> Any:
        sys.stdout.write("loading weights ...\n")
        return draw(self, batch, settings=settings)

    monkeypatch.setattr(SyntheticBackend, "_draw_batch", chatty)
    done = shared.call("run", "--no-report", "--seeds", "5", "--format", "json")

    summary = json.loads(done.stdout)
    assert summary["exit_code"] == done.exit_code == 0
    assert {"broken", "prompt"} <= {gate["gate"] for gate in summary["runs"][0]["gates"]}
    assert "loading weights" in done.stderr


def test_quiet_says_nothing_on_stderr(shared: Any, passed: Path) -> None:
    assert shared.call("run", "-q", "--no-report").stderr == ""


def test_options_win_over_set_and_set_over_the_file(shared: Any, passed: Path) -> None:
    done = shared.call(
        "run",
        "-q",
        "--no-report",
        "--seeds",
        "1",
        "--set",
        "seeds=[1, 2, 3]",
        "--set",
        "style.plain=a flat illustration of",
    )

    assert done.exit_code == 0
    assert len(shared.run_folders()) >= 1


def test_several_suites_share_one_backend_and_one_exit_code(
    project: Any, suite_text: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.folder / "other.lora.yaml").write_text(suite_text(name="other", n_cases=5), encoding="utf-8")
    made: list[object] = []
    create = SyntheticBackend.__init__

    def counted(self: Any, *arguments: Any, **more: Any) -> None:
        made.append(self)
        create(self, *arguments, **more)

    monkeypatch.setattr(SyntheticBackend, "__init__", counted)
    done = project.call("run", "pairs.lora.yaml", "other.lora.yaml", "-q", "--report", "pages", "--format", "json")

    summary = json.loads(done.stdout)
    assert [run["suite"] for run in summary["runs"]] == ["pairs", "other"]
    assert len(made) == 1
    assert sorted(path.suffix for path in (project.folder / "pages").iterdir()) == [".html", ".html"]


def test_a_suite_that_cannot_be_measured_does_not_hide_the_others(project: Any, suite_text: Callable[..., str]) -> None:
    (project.folder / "other.lora.yaml").write_text(suite_text(name="other", n_cases=1), encoding="utf-8")
    project.run()
    done = project.call(
        "run", "other.lora.yaml", "pairs.lora.yaml", "-q", "--cache-only", "--seeds", "1", "--format", "json"
    )
    again = project.call("run", "pairs.lora.yaml", "-q", "--cache-only", "--seeds", "77", "--format", "json")

    assert json.loads(done.stdout)["runs"][-1]["suite"] == "pairs"
    assert again.exit_code == 3
    assert "a verdict needs pictures; none of 18 could be made. First reason: not in the cache" in again.stderr
    assert json.loads(again.stdout) == {
        "exit_code": 3,
        "runs": [],
        "errors": [{"suite": "pairs", "message": again.stderr.removeprefix("lorabench: ").strip()}],
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "nowhere.lora.yaml"], "must be a file, a folder or a shipped suite; found none of them"),
        (["run", "--set", "model.bse=x"], "unknown key 'bse'. Did you mean 'base'"),
        (["run", "--set", "limit"], "--set must be KEY=VALUE, such as --set generation.height=512; found 'limit'"),
        (["run", "--set", "seeds=[1,"], "the value is not TOML"),
        (["run", "--seeds", "one"], "--seeds must be whole numbers separated by commas; found 'one'"),
        (["run", "--base", "explode"], "list of faults"),
        (["run", "pairs.lora.yaml", "pairs2.lora.yaml", "--format", "junit"], "--format junit prints one document"),
        (["run", "pairs.lora.yaml", "pairs2.lora.yaml", "--report", "a.html"], "one report file must hold one run"),
        (["run", "--set", "suites=[]"], "a run needs a suite; none is named"),
        (["run", "--set", "model.backend=difusers"], "Did you mean 'diffusers'?"),
        (["run", "--set", "model.backend=diffusers"], "a run needs a base model; none is named"),
    ],
)
def test_a_wrong_command_ends_with_2_and_says_what_to_do(
    shared: Any, suite_text: Callable[..., str], arguments: list[str], words: str
) -> None:
    (shared.folder / "pairs2.lora.yaml").write_text(suite_text(name="pairs2"), encoding="utf-8")
    done = shared.call(*arguments)

    assert done.exit_code == 2, done.stdout
    assert words in done.stderr
    assert done.stdout == ""


def test_a_prompt_that_was_trained_on_ends_with_2(shared: Any, tmp_path: Path, training_folder: Path) -> None:
    done = shared.call("run", "--training-folder", training_folder)

    assert done.exit_code == 2
    assert "prompts of suite pairs must not be training captions" in done.stderr


def test_a_missing_baseline_ends_with_3_and_names_the_command(shared: Any) -> None:
    done = shared.call("run", "--baseline", "style-v1")

    assert done.exit_code == 3
    assert "lorabench baseline save style-v1 RUN" in done.stderr


def test_no_baseline_ignores_the_one_of_the_settings(shared: Any, passed: Path) -> None:
    done = shared.call("run", "-q", "--no-report", "--set", "baseline=style-v1", "--no-baseline")

    assert done.exit_code == 0, done.stderr


def test_a_full_disk_ends_with_3_and_keeps_what_is_finished(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write, writes = os.write, [0]

    def full(handle: int, data: Any) -> int:
        writes[0] += 1
        if writes[0] > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data)

    with monkeypatch.context() as patch:
        patch.setattr("lorabench.storage.atomic.os.write", full)
        done = project.call("run", "-q", "--no-report")
    kept = len(list((project.folder / "cache/pictures").glob("??/*.json")))
    again = project.call("run", "-q", "--no-report", "--format", "json")

    assert done.exit_code == 3
    assert "must fit on the disk; no space is left in" in done.stderr
    assert "what was finished before is kept" in done.stderr
    assert again.exit_code == 0
    (folder,) = project.run_folders()
    assert read_results(folder).provenance.n_from_cache == kept > 0


def test_a_second_process_on_the_same_run_folder_is_refused(shared: Any, passed: Path) -> None:
    with RunFolder(passed).claimed():
        done = shared.call("run", "-q", "--no-report")

    assert done.exit_code == 3
    assert "one run folder must have one process; another one is at work in" in done.stderr


def test_an_unforeseen_error_ends_with_3_not_1(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SyntheticBackend, "fingerprint", lambda self: {}["nothing"])
    short = project.call("run", "-q")
    long = project.call("--traceback", "run", "-q")
    by_variable = project.call("run", "-q", env={"LORABENCH_TRACEBACK": "1"})

    assert short.exit_code == long.exit_code == by_variable.exit_code == 3
    assert "lorabench: unexpected KeyError: 'nothing'" in short.stderr
    assert "LORABENCH_TRACEBACK=1 shows where" in short.stderr
    assert "Traceback" not in short.stderr
    assert "Traceback (most recent call last)" in long.stderr
    assert "Traceback (most recent call last)" in by_variable.stderr


def test_ctrl_c_ends_with_130(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Any, batch: Any, *, settings: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(SyntheticBackend, "_draw_batch", interrupted)
    done = project.call("run", "-q")

    assert done.exit_code == 130
    assert "interrupted; finished pictures are kept" in done.stderr


def test_the_systems_refusals_end_with_3_and_name_the_file(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "report.html")

    monkeypatch.setattr("lorabench.report.html.write_html", refused)
    done = project.call("run", "-q")

    assert done.exit_code == 3
    assert "the system refused: Permission denied (report.html)" in done.stderr
