"""`report --layout`, `run --layout`, `compare --html`: in which form pages are written, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lorabench.cli import reporting


@pytest.fixture
def run(rendered_run: Path, tmp_path: Path) -> Path:
    """A run folder of one's own."""
    return Path(shutil.copytree(rendered_run, tmp_path / "run"))


def test_a_report_becomes_a_folder_on_request_and_a_file_again(shared: Any, run: Path) -> None:
    folder = shared.call("report", run, "--layout", "folder")
    assert folder.exit_code == 0, folder.stderr
    assert folder.stdout.strip() == str(run / "report" / "index.html")
    assert {entry.name for entry in (run / "report").iterdir()} == {"index.html", "assets"}
    assert not (run / "report.html").exists()
    assert json.loads(shared.call("gate", run, "--format", "json").stdout)["report"] == folder.stdout.strip()

    single = shared.call("report", run, "--layout", "single")
    assert single.stdout.strip() == str(run / "report.html")
    assert not (run / "report").exists()


def test_a_folder_holds_no_training_picture_and_no_larger_one_than_asked_for(
    shared: Any, run: Path, tmp_path: Path
) -> None:
    shared.call("report", run, "--layout", "folder", "-o", tmp_path / "with")
    done = shared.call(
        "report", run, "--layout", "folder", "-o", tmp_path / "without", "--no-training-images", "--max-edge", "16"
    )
    assert done.exit_code == 0, done.stderr
    page = Path(done.stdout.strip())
    assert page == tmp_path / "without" / json.loads((run / "results.json").read_text())["run_id"] / "index.html"
    n_pictures = [len(list((tmp_path / name).rglob("*.webp"))) for name in ("with", "without")]
    assert n_pictures[1] < n_pictures[0]
    assert 'width="16"' in page.read_text(encoding="utf-8")


def test_past_the_budget_auto_writes_a_folder_and_says_so(shared: Any, run: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("lorabench.report.html.write_html.__kwdefaults__", {**_defaults(), "budget": 10})
    done = shared.call("report", run)

    assert done.stdout.strip() == str(run / "report" / "index.html")
    assert "note: as one file the page would be past 25 MiB: it is the folder" in done.stderr


def test_whoever_names_a_file_gets_a_file_and_is_told_its_size(
    shared: Any, run: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(reporting, "BUDGET_BYTES", 10)
    done = shared.call("report", run, "-o", tmp_path / "page.html")

    assert done.stdout.strip() == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").is_file()
    assert "--layout folder keeps its pictures beside it" in done.stderr


def test_a_folder_under_the_name_of_a_file_is_refused(shared: Any, run: Path, tmp_path: Path) -> None:
    done = shared.call("report", run, "--layout", "folder", "-o", tmp_path / "page.html")

    assert done.exit_code == 2
    assert "with --layout folder the output must be a folder; found the file name" in done.stderr


def test_a_course_is_one_file(shared: Any, tmp_path: Path) -> None:
    (tmp_path / "course.json").write_text("{}")
    done = shared.call("report", tmp_path, "--layout", "folder")

    assert done.exit_code == 2
    assert "--layout folder must be asked for runs only" in done.stderr


def test_three_runs_are_printed_beside_each_other(shared: Any, passed: Path, failed: Path) -> None:
    human = shared.call("compare", passed, failed, passed)
    structured = json.loads(shared.call("compare", passed, failed, passed, "--format", "json").stdout)
    markdown = shared.call("compare", passed, failed, passed, "--format", "markdown").stdout

    prompt = next(gate for gate in structured["gates"] if gate["gate"] == "prompt")
    assert human.exit_code == 0
    assert [one["outcome"] for one in prompt["runs"]] == ["PASS", "FAIL", "PASS"]
    assert markdown.startswith("## 3 runs")


def test_runs_are_compared_on_a_page_in_either_form(shared: Any, passed: Path, failed: Path, tmp_path: Path) -> None:
    one = shared.call("compare", passed, failed, "--html", tmp_path / "page.html")
    folder = shared.call("compare", passed, failed, "--html", tmp_path / "pages", "--layout", "folder")

    assert one.exit_code == 0, one.stderr
    assert one.stdout.strip() == str(tmp_path / "page.html")
    assert "2 runs beside each other" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert folder.stdout.strip() == str(tmp_path / "pages" / "comparison" / "index.html")
    assert "data:image" not in Path(folder.stdout.strip()).read_text(encoding="utf-8")


def test_one_run_is_no_comparison(shared: Any, passed: Path) -> None:
    done = shared.call("compare", passed)

    assert done.exit_code == 2
    assert "a comparison needs 2 to 26 runs; found 1" in done.stderr


def _defaults() -> dict[str, Any]:
    from lorabench.report.html import write_html

    return dict(write_html.__kwdefaults__ or {})
