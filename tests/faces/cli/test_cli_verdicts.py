"""`gate`, `report`, `compare`: what reads results, in every format and with every exit code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest

from lorabench.cli.verdicts import combined


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([0, 0], 0),
        ([0, 4], 4),
        ([4, 1], 1),
        ([1, 4, 5], 5),
        ([5, 3, 1], 3),
        ([0, 7], 3),
        ([], 5),
    ],
)
def test_of_several_exit_codes_3_beats_5_beats_1_beats_4(codes: list[int], expected: int) -> None:
    assert combined(codes) == expected


@pytest.mark.parametrize("code", [0, 1, 3, 4, 5])
def test_gate_ends_with_the_code_of_the_run(shared: Any, with_results: Callable[..., Path], code: int) -> None:
    assert shared.call("gate", with_results(exit_code=code)).exit_code == code


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 0), (3, 3), (4, 4), (5, 5)])
def test_exit_zero_turns_1_into_0_and_nothing_else(
    shared: Any, with_results: Callable[..., Path], code: int, expected: int
) -> None:
    assert shared.call("gate", with_results(exit_code=code), "--exit-zero").exit_code == expected


def test_gate_reads_a_run_folder_or_its_results_file(shared: Any, passed: Path) -> None:
    by_folder, by_file = shared.call("gate", passed), shared.call("gate", passed / "results.json")

    assert by_folder.stdout == by_file.stdout
    assert "PASS" in by_folder.stdout


def test_gate_prints_json_and_nothing_else(shared: Any, failed: Path) -> None:
    done = shared.call("gate", failed, "--format", "json")

    verdict = json.loads(done.stdout)
    prompt = next(gate for gate in verdict["gates"] if gate["gate"] == "prompt")
    assert done.exit_code == verdict["exit_code"] == 1
    assert done.stderr == ""
    assert prompt["outcome"] == "FAIL"
    assert prompt["low"] < prompt["estimate"] < prompt["high"] < 0
    assert prompt["n_cases"] == 6


def test_gate_prints_a_markdown_summary(shared: Any, failed: Path) -> None:
    assert "### Gates" in shared.call("gate", failed, "--format", "markdown").stdout


def test_gate_prints_junit(shared: Any, failed: Path) -> None:
    root = Xml.fromstring(shared.call("gate", failed, "--format", "junit").stdout)

    assert root.find(".//testcase[@name='prompt']/failure") is not None


def test_annotations_point_into_the_suite_file(shared: Any, failed: Path) -> None:
    inside = shared.call("gate", failed, "--format", "github", "--suite-file", "pairs.lora.yaml").stdout
    outside = shared.call("gate", failed, "--format", "github").stdout

    assert "::error file=pairs.lora.yaml,line=1,title=" in inside
    assert "file=pairs.lora.yaml,line=12," in inside
    assert "results.json,line=1" in outside


def test_gate_without_results_ends_with_2(shared: Any, tmp_path: Path) -> None:
    done = shared.call("gate", tmp_path)

    assert done.exit_code == 2
    assert "Name a run folder or its results.json, or make it again with `lorabench run`" in done.stderr


def test_report_is_rendered_again_into_the_run_folder(shared: Any, rendered_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(rendered_run, copy)
    done = shared.call("report", copy)

    assert done.exit_code == 0, done.stderr
    assert done.stdout.strip() == str(copy / "report.html")
    assert "data:image/webp" in (copy / "report.html").read_text(encoding="utf-8")


def test_report_can_leave_training_pictures_out_and_make_pictures_smaller(
    shared: Any, rendered_run: Path, tmp_path: Path
) -> None:
    with_them, without = tmp_path / "with.html", tmp_path / "without.html"
    assert shared.call("report", rendered_run, "-o", with_them).exit_code == 0
    assert shared.call("report", rendered_run, "-o", without, "--no-training-images", "--max-edge", "16").exit_code == 0

    assert without.read_text(encoding="utf-8").count("data:image") < with_them.read_text(encoding="utf-8").count(
        "data:image"
    )


def test_reports_of_several_runs_go_into_a_folder(shared: Any, passed: Path, failed: Path, tmp_path: Path) -> None:
    done = shared.call("report", passed, failed, "-o", tmp_path / "pages")
    one_file = shared.call("report", passed, failed, "-o", tmp_path / "one.html")

    assert done.stdout.split() == [str(tmp_path / "pages" / f"{run.name}.html") for run in (passed, failed)]
    assert one_file.exit_code == 2
    assert "one report file must hold one run; found 2 runs" in one_file.stderr


def test_two_runs_beside_each_other(shared: Any, passed: Path, failed: Path) -> None:
    human = shared.call("compare", passed, failed)
    structured = json.loads(shared.call("compare", passed, failed, "--format", "json").stdout)
    markdown = shared.call("compare", passed, failed, "--format", "markdown").stdout

    prompt = next(gate for gate in structured["gates"] if gate["gate"] == "prompt")
    assert human.exit_code == 0
    assert "→" in human.stdout
    assert (prompt["before"], prompt["after"]) == ("PASS", "FAIL")
    assert prompt["change"] < 0
    assert markdown.startswith("## Two runs")
