"""Files of every form that was ever written are read and rendered, for ever.

`old_results/` holds one real file per form, written by the code of the commit in its name:

| file | what is different in it |
| --- | --- |
| `results-1` | a verdict's further cases are called `pairs_needed`; checks of attributes |
| `results-2` | the same, with every list written out |
| `results-3` | `cases_needed` |
| `results-4` | gates in groups, the adapter's health and base |
| `course-1` | evaluations only |
| `course-2` | finalists judged again (`settlement`) |
| `course-3` | what a last look lacked (`unsettled`), step times |
| `sweep-1` | the first form |

A change of a format adds a file here; it never changes one.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from lorabench.errors import SpecError
from lorabench.records.course import Course
from lorabench.records.record import Record
from lorabench.records.results import Results
from lorabench.records.sweep import Sweep
from lorabench.report.compare import render_compare_markdown
from lorabench.report.course_html import CourseMaterial, render_course
from lorabench.report.github import render_github
from lorabench.report.html import render_html
from lorabench.report.junit import render_junit
from lorabench.report.markdown import render_markdown
from lorabench.report.sweep_html import render_sweep
from lorabench.report.sweep_text import markdown_sweep, render_terminal_sweep
from lorabench.report.table import rows_of, to_csv
from lorabench.report.terminal import terminal_text, to_text
from lorabench.storage.course_folder import read_course
from lorabench.storage.run_folder import read_results
from lorabench.storage.schemas import schemas
from lorabench.storage.sweep_files import read_sweep

OLD = Path(__file__).with_name("old_results")
RESULTS = sorted(OLD.glob("results-*.json"))
COURSES = sorted(OLD.glob("course-*.json"))
SWEEPS = sorted(OLD.glob("sweep-*.json"))
READERS = (
    ("results.json", read_results, "results must be a results.json"),
    ("course.json", read_course, "a course must be a course.json"),
    ("sweep.json", read_sweep, "a sweep must be a sweep.json"),
)


def no_picture(sha256: str) -> None:
    del sha256


def named(path: Path) -> str:
    return path.stem


def test_every_form_is_here() -> None:
    assert [path.name[:9] for path in RESULTS] == ["results-1", "results-2", "results-3", "results-4"]
    assert [path.name[:8] for path in COURSES] == ["course-1", "course-2", "course-3"]
    assert [path.name[:7] for path in SWEEPS] == ["sweep-1"]


def test_the_old_files_are_of_different_forms() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (*RESULTS, *COURSES)]
    marks = ('"pairs_needed"', '"cases_needed"', '"health"', '"settlement"', '"unsettled"', '"step_times"')
    seen = [tuple(mark in text for mark in marks) for text in texts]
    assert [found.index(True) if True in found else None for found in seen] == [0, 0, 1, 1, None, 3, 3]
    assert [any(found[2:]) for found in seen[:4]] == [False, False, False, True]
    assert [sum(found) for found in seen[4:]] == [0, 1, 3]


@pytest.mark.parametrize("path", RESULTS, ids=named)
def test_results_are_rendered_by_everything(path: Path) -> None:
    results = read_results(path)

    page = render_html(results, picture=no_picture)
    markdown, terminal = render_markdown(results), terminal_text(results)
    suites = Xml.fromstring(render_junit(results))
    annotations = render_github(results, suite_file="screen.lora.yaml")
    table = list(csv.DictReader(io.StringIO(to_csv(rows_of([results])))))

    assert results.verdict.headline in terminal.replace("\n", " ")
    for gate in results.gates:
        assert gate.gate in page
        assert gate.gate in markdown
        assert gate.gate in terminal
    for case in results.suite.cases:
        assert case.id in page
        assert any(row["case"] == case.id for row in table)
    assert len(suites.findall(".//failure[@type='regression']")) == sum(g.outcome == "FAIL" for g in results.gates)
    assert "::error" in annotations
    assert len(table) >= len(results.measurements)


@pytest.mark.parametrize("path", RESULTS, ids=named)
def test_results_are_compared_with_those_of_today(path: Path) -> None:
    today = read_results(RESULTS[-1])
    assert read_results(path).run_id in render_compare_markdown(read_results(path), today)


def test_what_the_first_files_called_pairs_needed_is_not_lost(tmp_path: Path) -> None:
    told = json.loads(RESULTS[0].read_text(encoding="utf-8"))
    assert all("cases_needed" not in gate for gate in told["gates"])
    told["gates"][0]["pairs_needed"] = 17
    (tmp_path / "results.json").write_text(json.dumps(told), encoding="utf-8")

    results = read_results(tmp_path)

    assert results.gates[0].cases_needed == 17
    assert '"cases_needed":17' in results.gates[0].model_dump_json()


@pytest.mark.parametrize("path", COURSES, ids=named)
def test_courses_are_drawn(path: Path) -> None:
    course = read_course(path)

    page = render_course(course, CourseMaterial(picture=no_picture, runs={}))

    for one in course.evaluations:
        assert f"{one.training_step:,}" in page
    assert page.count("<svg") > 1


def test_a_course_of_the_form_between_is_drawn(tmp_path: Path) -> None:
    """For some hours courses said what a last look lacked, and nothing of step times; no real one is kept."""
    told = json.loads(COURSES[-1].read_text(encoding="utf-8"))
    del told["step_times"]
    (tmp_path / "course.json").write_text(json.dumps(told), encoding="utf-8")

    assert "<svg" in render_course(read_course(tmp_path), CourseMaterial(picture=no_picture, runs={}))


@pytest.mark.parametrize("path", SWEEPS, ids=named)
def test_sweeps_are_rendered_by_everything(path: Path) -> None:
    sweep = read_sweep(path)

    page = render_sweep(sweep, picture=no_picture)
    markdown, terminal = markdown_sweep(sweep), to_text(render_terminal_sweep(sweep), width=140)

    for gate in sweep.gates:
        assert gate.gate in page
        assert gate.gate in markdown
        assert gate.gate in terminal


@pytest.mark.parametrize(("name", "read", "must"), READERS, ids=[name for name, _, _ in READERS])
def test_a_file_of_a_newer_form_is_refused_with_what_to_do(
    tmp_path: Path, name: str, read: Callable[[Path], Record], must: str
) -> None:
    source = {"results.json": RESULTS, "course.json": COURSES, "sweep.json": SWEEPS}[name][-1]
    newer = {**json.loads(source.read_text(encoding="utf-8")), "schema_version": 2}
    (tmp_path / name).write_text(json.dumps(newer), encoding="utf-8")

    with pytest.raises(SpecError) as caught:
        read(tmp_path)

    message = str(caught.value)
    assert message.startswith(f"{must} of schema version 1")
    assert f"{tmp_path / name}: schema version 2, written by a newer lorabench than this one. " in message


@pytest.mark.parametrize(
    ("kind", "paths"), [(Results, RESULTS), (Course, COURSES), (Sweep, SWEEPS)], ids=["results", "course", "sweep"]
)
def test_the_published_schema_takes_what_is_written_today(kind: type[Record], paths: list[Path]) -> None:
    from jsonschema import Draft202012Validator

    name = kind.__name__.lower()
    written = kind.model_validate_json(paths[-1].read_text(encoding="utf-8")).model_dump_json()
    Draft202012Validator(schemas()[name]).validate(json.loads(written))
