"""What the page of a run shows around its cases: reasons, layers over pictures, and a sweep of the same candidate."""

import re
import shlex
from pathlib import Path

import pytest

from lorabench.records.sweep import Sweep
from lorabench.report.case_view import CaseReader
from lorabench.report.html import render_html
from lorabench.report.run_content import run_content, sweep_command

OLD_SWEEP = next(Path(__file__).with_name("old_results").glob("sweep-1-*.json"))


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return Sweep.model_validate_json(OLD_SWEEP.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def text(small_example) -> str:
    return render_html(small_example.results, picture=small_example.picture)


@pytest.fixture(scope="module")
def text_with_sweep(small_example, sweep) -> str:
    return render_html(small_example.results, picture=small_example.picture, sweep=sweep)


def test_each_picture_that_a_detector_saw_has_its_boxes(small_example, text) -> None:
    overlays = re.findall(r'<svg class="boxes".*?</svg>', text, flags=re.DOTALL)
    found = {one.cell: one.detections for one in small_example.results.detections}
    made = [found[image.cell] for image in small_example.results.images]

    assert len(overlays) == len(made)
    assert sum(overlay.count("<text") for overlay in overlays) == sum(max(1, len(one)) for one in made)
    assert 'id="show-boxes"' in text
    assert text.count('class="boxes-here"') == len(small_example.results.suite.cases)


def test_without_a_detector_nothing_offers_boxes(small_example) -> None:
    bare = small_example.results.model_copy(update={"detections": ()})

    text = render_html(bare, picture=small_example.picture)

    assert 'class="boxes"' not in text
    assert "show-boxes" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


def test_the_reasons_link_to_gates_and_cases(small_example) -> None:
    results = small_example.results
    gate = next(gate for gate in results.gates if gate.comparison is not None and gate.comparison.differences)
    verdict = results.verdict.model_copy(update={"reasons": (f"{gate.gate}: it is worse.",)})

    text = render_html(results.model_copy(update={"verdict": verdict}), picture=small_example.picture)
    top = text[text.index('<section class="reasons"') : text.index('<dl class="facts">')]

    assert f'href="#gate-{gate.gate}"' in top
    assert "it is worse." in top
    for case in re.findall(r'href="#case-([^"]+)"', top):
        assert f'id="case-{case}"' in text


def test_without_a_sweep_the_page_says_how_to_make_one(small_example, text) -> None:
    section = text[text.index('<section id="sweep"') : text.index('<section id="missing"')]

    assert "There is none of this candidate beside this run." in section
    assert f"<code>{sweep_command(small_example.results)}</code>".replace("'", "&#39;") in section


def test_the_command_for_a_sweep_survives_a_shell(small_example) -> None:
    nasty = "a 'quoted' $(phrase); rm"
    style = small_example.results.style.model_copy(update={"trigger": nasty})

    words = shlex.split(sweep_command(small_example.results.model_copy(update={"style": style})))

    assert words[:3] == ["lorabench", "sweep", "SUITE"]
    assert words[words.index("--trigger") + 1] == nasty
    assert "--neutral" not in words


def test_a_sweep_brings_its_strips_and_curves(sweep, text_with_sweep) -> None:
    for section in ("sweep", "strength", "guidance", "trigger"):
        there = section == "sweep" or getattr(sweep, section) is not None
        assert (f'<section id="{section}"' in text_with_sweep) is there
    assert sweep.verdict.headline in text_with_sweep
    assert 'class="chart"' in text_with_sweep
    ids = re.findall(r' id="([^"]+)"', text_with_sweep)
    assert len(ids) == len(set(ids))


def test_pictures_of_the_sweep_and_of_the_top_are_asked_for(small_example, sweep) -> None:
    reader = CaseReader(small_example.results)
    content = run_content(reader, reader.read_all(), picture=small_example.picture, sweep=sweep)

    assert {shot.sha256 for shot in sweep.shots} & set(content.shown)
    assert {look.candidate.image.sha256 for look in content.facts["looks"]} <= set(content.shown)
    assert content.styles == ("course", "sweep")


def test_maps_of_grain_stand_under_the_boxes_with_their_table(example) -> None:
    results = example.results
    turned = tuple(
        m.model_copy(update={"value": 9.0 - m.value}) if m.metric == "smooth_zone_sigma" else m
        for m in results.measurements
    )
    grainy = results.model_copy(update={"measurements": turned})

    text = render_html(grainy, picture=example.picture)
    canvases = [part for part in re.findall(r'<div class="canvas">.*?</div>', text, flags=re.DOTALL) if "heat" in part]

    assert 'id="show-heat"' in text
    assert canvases
    assert all(part.index('class="heat"') < part.index('class="boxes"') for part in canvases)
    assert all("Grain by tile: median" in part for part in canvases)
    assert text.count('<details class="tiles">') == sum("Candidate, seed" in part for part in canvases)
