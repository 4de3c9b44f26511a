"""From the page to the baseline: what a reviewer downloads is what `baseline accept` takes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from lorabench.records.comparison import Outcome
from lorabench.report.html import write_html
from lorabench.storage.baselines import CI_VARIABLES


@pytest.fixture
def run(small_example, tmp_path: Path) -> Path:
    """A complete run that passed, with its page."""
    results = small_example.results
    verdict = results.verdict.model_copy(update={"outcome": Outcome.PASS, "exit_code": 0, "complete": True})
    whole = results.model_copy(update={"verdict": verdict, "failed": ()})
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "results.json").write_text(whole.model_dump_json(), encoding="utf-8")
    write_html(whole, folder / "report.html", picture=small_example.picture)
    return folder


def downloaded(page: Page, to: Path) -> Path:
    with page.expect_download() as told:
        page.locator("[data-part=download]").click()
    told.value.save_as(to)
    return to


def accept(run: Path, decisions: Path) -> subprocess.CompletedProcess[str]:
    command = ["-m", "lorabench", "baseline", "accept", "style", str(run), "--from", str(decisions)]
    options = ["--by", "ada", "--baselines-dir", str(run.parent / "baselines")]
    environment = {name: value for name, value in os.environ.items() if name not in CI_VARIABLES}
    return subprocess.run(
        [sys.executable, *command, *options], capture_output=True, text=True, check=False, env=environment
    )


def test_an_accepted_run_becomes_the_baseline_with_the_reviewers_words(
    opened: Callable[..., Page], run: Path, tmp_path: Path
) -> None:
    page = opened(path=run / "report.html")
    page.locator("article.card [data-decide=accept]").first.click()
    page.locator("[data-run=accept]").click()
    page.locator("#review textarea").fill("sharper lines, prompts as before")
    done = accept(run, downloaded(page, tmp_path / "decisions.json"))

    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "baselines/style/baseline.json").read_text(encoding="utf-8"))
    assert (kept["reason"], kept["accepted_by"]) == ("sharper lines, prompts as before", "ada")


def test_a_rejected_case_keeps_the_run_from_becoming_one(
    opened: Callable[..., Page], run: Path, tmp_path: Path
) -> None:
    page = opened(path=run / "report.html")
    page.locator("article.card [data-decide=reject]").first.click()
    page.locator("[data-run=accept]").click()
    done = accept(run, downloaded(page, tmp_path / "decisions.json"))

    assert done.returncode == 2
    assert "1 of its cases are rejected" in done.stderr
    assert not (tmp_path / "baselines").exists()


def test_decisions_on_other_pictures_are_refused(opened: Callable[..., Page], run: Path, tmp_path: Path) -> None:
    page = opened(path=run / "report.html")
    page.locator("[data-run=accept]").click()
    file = downloaded(page, tmp_path / "decisions.json")
    said = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(said | {"results_digest": "0" * 64}), encoding="utf-8")
    done = accept(run, file)

    assert done.returncode == 2
    assert "the numbers are others" in done.stderr


def test_an_acceptance_without_a_word_asks_for_one(opened: Callable[..., Page], run: Path, tmp_path: Path) -> None:
    page = opened(path=run / "report.html")
    page.locator("[data-run=accept]").click()
    done = accept(run, downloaded(page, tmp_path / "decisions.json"))

    assert done.returncode == 2
    assert "found neither --reason nor a comment on the run" in done.stderr
