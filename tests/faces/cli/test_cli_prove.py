"""`lorabench prove`: what it takes, what it prints, how it ends. The judging itself is stood in for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lorabench.cli import app
from lorabench.cli.proving import missed_goals
from lorabench.evaluation import proving
from lorabench.evaluation.proving import proof_of, read_row
from lorabench.records.proof import GateReading, ProofRow, ZooEntry

ENTRIES = [
    ZooEntry(name="soft", failure="blur", half="report", story="s", must=("blur",), may=("blur",)),
    ZooEntry(name="burnt", failure="saturation", half="fix", story="s", must=("saturation",), may=("saturation",)),
    ZooEntry(name="good", failure="healthy", half="report", story="s"),
]


def found(entry: ZooEntry, *gates: str) -> ProofRow:
    return read_row(entry, [GateReading(gate=name, outcome="FAIL", margin=0.1) for name in gates], key="k")


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    manifest = {"schema_version": 1, "adapters": [entry.model_dump(mode="json") for entry in ENTRIES]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


@pytest.fixture
def judging(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, tuple[str, ...]]], None]:
    def stand_in(failed: dict[str, tuple[str, ...]]) -> None:
        monkeypatch.setattr(
            proving.Bench, "row", lambda self, entry, *, fresh=False: found(entry, *failed.get(entry.name, ()))
        )

    return stand_in


def run(zoo: Path, *options: str) -> object:
    return CliRunner().invoke(app, ["prove", "--zoo", str(zoo), "-o", str(zoo / "out"), *options])


def test_all_caught_and_no_alarm_is_0(zoo: Path, judging: Callable[..., None]) -> None:
    judging({"soft": ("blur",), "burnt": ("saturation",)})

    done = run(zoo)

    assert done.exit_code == 0, done.output
    assert "report: recall 1 / 1 = 1.00" in done.output
    assert "No goal of the reporting half is missed." in done.output
    assert json.loads((zoo / "out" / "prove.json").read_text())["schema_version"] == 1


def test_a_miss_in_the_reporting_half_is_1_and_named(zoo: Path, judging: Callable[..., None]) -> None:
    judging({"burnt": ("saturation",)})

    done = run(zoo)

    assert done.exit_code == 1
    assert "soft: MISSED" in done.output
    assert "recall of blur 0.00 is under 0.75" in done.output


def test_a_miss_in_the_fixing_half_misses_no_goal(zoo: Path, judging: Callable[..., None]) -> None:
    judging({"soft": ("blur",)})

    assert run(zoo).exit_code == 0


def test_an_alarm_on_a_healthy_adapter_is_1(zoo: Path, judging: Callable[..., None]) -> None:
    judging({"soft": ("blur",), "good": ("copy",)})

    done = run(zoo)

    assert done.exit_code == 1
    assert "false alarm: copy" in done.output
    assert "false alarms on healthy adapters 1.00 are over 0.05" in done.output


def test_a_choice_is_kept_to(zoo: Path, judging: Callable[..., None]) -> None:
    judging({})

    assert "burnt" in run(zoo, "--half", "fix").output
    assert "burnt" not in run(zoo, "--only", "blur").output


def test_a_choice_of_nothing_is_a_users_error(zoo: Path, judging: Callable[..., None]) -> None:
    judging({})

    done = run(zoo, "--only", "fog")

    assert done.exit_code == 2
    assert "the choice leaves none called 'fog'" in done.output


def test_a_page_gets_its_tables(zoo: Path, judging: Callable[..., None]) -> None:
    judging({"soft": ("blur",)})
    page = zoo / "error-rates.md"
    page.write_text("# Error rates\n\nBy hand.\n")

    run(zoo, "--write-docs", str(page))

    assert page.read_text().startswith("# Error rates\n\nBy hand.\n")
    assert "### Reporting half" in page.read_text()


def test_goals_speak_of_the_reporting_half_alone() -> None:
    rows = [found(ENTRIES[0], "blur"), found(ENTRIES[1]), found(ENTRIES[2])]

    assert missed_goals(proof_of(ENTRIES, rows)) == []
