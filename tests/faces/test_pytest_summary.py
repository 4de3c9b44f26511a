"""The block at the end of a session, and the files it writes."""

from __future__ import annotations

import json

from lorabench.pytest_plugin.runner import merge_records


def test_summary_shows_counts_gates_and_where_the_results_lie(project):
    project.plant("black", "p2")

    result = project.run("--lorabench-report", "out/report.html", "--lorabench-json", "out/results.json")

    result.stdout.fnmatch_lines(
        [
            "*- lorabench -*",
            "tiny: 3 of 3 prompts evaluated (3 selected); 9 pictures made, 0 from the cache, *",
            "  FAIL: *",
            "  gate * metric * candidate * reference * difference * interval * margin * cases * verdict",
            "  broken * broken_rate * FAIL",
            "  worst prompts: p2 (broken_rate +1.00)",
            "  results: *results.json",
            "report: *report.html",
            "json: *results.json",
            "To accept a run: lorabench baseline accept",
        ]
    )
    assert "<html" in (project.path / "out/report.html").read_text(encoding="utf-8")
    assert json.loads((project.path / "out/results.json").read_text())["suite"]["name"] == "tiny"
    assert "\x1b[" not in result.stdout.str()


def test_summary_is_short_under_q_and_absent_under_no_summary(project):
    quiet = project.run("-q")
    silent = project.run("--no-summary", "--lorabench-json", "results.json")

    assert "tiny: 3 of 3 prompts evaluated" in quiet.stdout.str()
    assert "broken_rate" not in quiet.stdout.str()
    assert "prompts evaluated" not in silent.stdout.str()
    assert (project.path / "results.json").exists()


def test_colour_only_where_the_terminal_is_asked_for_it(project):
    assert "\x1b[" in project.run("--color=yes").stdout.str()


def test_files_are_not_written_without_gates_and_the_summary_says_so(project):
    result = project.run("-k", "p1", "--lorabench-report", "report.html")

    result.stdout.fnmatch_lines(
        ["--lorabench-report: nothing written, since no gate ran. Select the gates of a suite."]
    )
    assert not (project.path / "report.html").exists()


def test_several_suites_have_files_of_their_own(project):
    project.suite("other.lora.yaml", name="other", n=2, seeds=(1,), prefix="q")

    project.run("--lorabench-json", "results.json")

    assert sorted(path.name for path in project.path.glob("results*.json")) == [
        "results-other.json",
        "results-tiny.json",
    ]


def test_environment_does_not_reach_report_or_results(project, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2-hunter2")

    result = project.run(
        "--lorabench-report", "report.html", "--lorabench-json", "results.json", "--junitxml=junit.xml"
    )

    written = [
        (project.path / name).read_text(encoding="utf-8") for name in ("report.html", "results.json", "junit.xml")
    ]
    assert all("hunter2" not in text for text in (*written, result.stdout.str()))


def test_record_of_the_process_that_evaluated_wins():
    idle = {"file": "a", "candidate": "", "evaluated": 0, "folder": None, "total": 3}
    busy = idle | {"evaluated": 3, "folder": "run"}

    assert merge_records([idle, busy, idle]) == [busy]
