"""Planted behaviours along strength, guidance and trigger fail their own gate of `lorabench sweep`, and no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lorabench.cli import app
from lorabench.registry import BACKENDS, JUDGES
from tests.stand_ins import dialled

PANEL = ("--n-cases", "8", "--n-seeds", "1", "--strengths", "0,0.25,0.7,1,1.25", "--guidances", "1,3.5,7")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted-sweep")
    dialled.project(folder)
    return folder


def swept(home: Path, planted: str, monkeypatch: pytest.MonkeyPatch, *more: str) -> Any:
    monkeypatch.setitem(BACKENDS._builtin, "dialled", "tests.stand_ins.dialled:configured")
    monkeypatch.setitem(JUDGES._builtin, "lpips", "tests.stand_ins.dialled:patches")
    monkeypatch.chdir(home)
    settings = {
        "model.backend": "dialled",
        "model.base": planted,
        "style.trigger": dialled.STYLE.trigger,
        "style.plain": dialled.STYLE.plain,
        "style.neutral": dialled.STYLE.neutral,
        "generation.height": "48",
        "generation.width": "48",
        "cache_dir": "cache",
        "runs_dir": "runs",
    }
    stated = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    files = ("--lora", "adapter.safetensors", "--training-folder", "training")
    return CliRunner().invoke(app, ["sweep", "world/screen", "-q", *files, *PANEL, *stated, *more])


def outcomes(done: Any) -> dict[str, str]:
    return {gate["gate"]: gate["outcome"] for gate in json.loads(done.stdout)["gates"]}


def test_a_healthy_candidate_passes_every_gate_that_can_be_measured(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = swept(home, "healthy", monkeypatch, "--format", "json", "--no-report")
    found = outcomes(done)

    assert done.exit_code == 0, done.stderr
    assert "FAIL" not in found.values()
    assert {name for name, outcome in found.items() if outcome == "PASS"} >= {
        "strength-window",
        "low-strength",
        "guidance",
        "haze",
        "trigger",
        "style-leak",
    }


@pytest.mark.parametrize(
    ("planted", "failing"),
    [
        ("at-full-only", {"low-strength"}),
        ("always-on", {"trigger", "style-leak"}),
        ("deaf", {"guidance"}),
    ],
)
def test_a_planted_behaviour_fails_its_own_gate(
    home: Path, monkeypatch: pytest.MonkeyPatch, planted: str, failing: set[str]
) -> None:
    done = swept(home, planted, monkeypatch, "--format", "json", "--no-report")

    assert done.exit_code == 1, done.stderr
    assert {name for name, outcome in outcomes(done).items() if outcome == "FAIL"} == failing


def test_file_page_and_report_are_written_and_rendered_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = swept(home, "healthy", monkeypatch)
    (page,) = home.glob("runs/sweep-*/sweep.html")
    first = page.read_text(encoding="utf-8")
    page.unlink()
    again = CliRunner().invoke(app, ["report", str(page.parent)])

    assert done.exit_code == 0, done.stderr
    assert str(Path("runs") / page.parent.name / "sweep.json") in done.stdout.replace("\n", "")
    assert again.exit_code == 0, again.stderr
    assert page.read_text(encoding="utf-8") == first


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--strengths", "0,much"), "--strengths must fit a sweep"),
        (("--axes", "colour"), "--axes must fit a sweep"),
        (("--dial", "cfg"), "--dial must fit a sweep"),
    ],
)
def test_grids_that_are_none_are_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    done = swept(home, "healthy", monkeypatch, *words)

    assert done.exit_code == 2
    assert message in done.stderr


def test_several_suites_are_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    both = str(Path(__file__).resolve().parents[2] / "suites" / "world")
    done = CliRunner().invoke(app, ["sweep", both, "--lora", "adapter.safetensors", "-q"])

    assert done.exit_code == 2
    assert "a sweep must be of one suite; found" in done.stderr
