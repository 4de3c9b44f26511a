"""A sweep as page, terminal block and Markdown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lorabench.cli.verdicts import pictures_of
from lorabench.evaluation.sweeping import Swept, sweep_in_folder
from lorabench.records.sweep import PanelConfig
from lorabench.report.sweep_html import render_sweep
from lorabench.report.sweep_text import markdown_sweep, render_terminal_sweep
from lorabench.report.sweep_view import guidance_strips, strength_charts, strength_strips, trigger_strips
from lorabench.report.terminal import to_text
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.storage.sweep_files import SweepFileError, read_sweep
from tests.stand_ins import dialled

PANEL = PanelConfig(n_cases=3, n_seeds=1, strengths=(0.0, 0.25, 0.7, 1.0), guidances=(1.0, 3.5), n_anatomy_cases=0)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    suite = read_suite(shipped_suite_path("world/screen")).suite
    home = dialled.project(tmp_path_factory.mktemp("page"))
    backend = dialled.DialledBackend(dialled.Behaviour(style=dialled.threshold(0.9)))
    return sweep_in_folder(home, suite=suite, panel=PANEL, backend=backend, judges=dialled.judges(detector=False))


def test_the_file_is_read_back_whole(swept: Swept) -> None:
    assert read_sweep(swept.folder.folder) == swept.sweep
    assert all(swept.folder.picture_path(shot.sha256).is_file() for shot in swept.sweep.shots)


def test_a_file_that_is_no_sweep_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text('{"schema_version": 9}', encoding="utf-8")

    with pytest.raises(SweepFileError, match=r"a sweep must be a sweep\.json of schema version 1, .*schema version 9"):
        read_sweep(tmp_path)


def test_the_page_shows_every_strength_guidance_and_side(swept: Swept) -> None:
    page = render_sweep(swept.sweep, picture=pictures_of(swept.folder.folder))

    assert "default-src &#39;none&#39;" in page
    assert "<script" not in page
    assert not re.search(r'(src|href)="https?:', page)
    for section in ("gates", "strength", "guidance", "trigger", "made"):
        assert f'id="{section}"' in page
    assert page.count("it could not be made") == 0
    assert "usable window" in page


def test_strips_hold_the_control_and_all_strengths_in_order(swept: Swept) -> None:
    (row,) = strength_strips(swept.sweep)[0].rows

    assert [frame.label for frame in row.frames] == ["control", "0", "0.25", "0.7", "1"]
    assert all(frame.sha256 is not None for frame in row.frames)
    assert [len(strip.rows) for strip in guidance_strips(swept.sweep)] == [2, 2, 2]
    assert [frame.label for frame in trigger_strips(swept.sweep)[0].rows[0].frames] == [
        "trigger",
        "placebo",
        "none",
        "control",
    ]


def test_the_styles_chart_comes_first_with_its_fit_and_window(swept: Swept) -> None:
    chart = strength_charts(swept.sweep)[0]

    assert chart.name == "style_position"
    assert [trace.kind for trace in chart.traces] == ["main", "fitted"]
    assert [level.words for level in chart.levels] == ["control", "training"]
    assert chart.window is not None
    assert len(chart.traces[0].marks) == 4


def test_behind_each_chart_stands_a_table_with_every_value(swept: Swept) -> None:
    chart = strength_charts(swept.sweep)[0]
    curve = next(curve for curve in swept.sweep.curves if curve.name == chart.name and curve.axis == "strength")

    assert chart.table.heads == ("candidate", "control level", "training level")
    assert [at for at, _ in chart.table.rows] == [f"{point.at:g}" for point in curve.points]
    assert [cells[0] for _, cells in chart.table.rows] == [mark.words for mark in chart.traces[0].marks]
    page = render_sweep(swept.sweep, picture=pictures_of(swept.folder.folder))
    assert page.count('<figure class="plot"') == len(re.findall(r"<summary>\d+ values? of", page))


def test_names_of_levels_that_lie_close_do_not_cover_each_other(swept: Swept) -> None:
    sweep = swept.sweep
    close = tuple(
        curve.model_copy(update={"training": curve.control}) if curve.control is not None else curve
        for curve in sweep.curves
    )

    for chart in strength_charts(sweep.model_copy(update={"curves": close})):
        if len(chart.levels) == 2:
            first, second = chart.levels
            assert abs(first.text_y - second.text_y) >= 10
            assert {first.words, second.words} == {"control", "training"}


def test_a_picture_that_is_gone_is_said_to_be(swept: Swept) -> None:
    page = render_sweep(swept.sweep, picture=lambda sha256: None)

    assert "made, but no longer in the store" in page


def test_terminal_and_markdown_say_the_same_of_every_gate(swept: Swept) -> None:
    text = to_text(render_terminal_sweep(swept.sweep), width=140)
    page = markdown_sweep(swept.sweep)

    for gate in swept.sweep.gates:
        assert gate.gate in text
        assert gate.gate in page
    assert "Usable at strength 1 only." in text
    assert "Usable at strength 1 only." in page
    assert "At strength 0 every picture is the base's to the bit." in text
