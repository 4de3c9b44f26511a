"""The page of a sweep in a browser: a real sweep along strength, guidance and trigger, opened from the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Page

from lorabench.report.sweep_html import render_sweep
from lorabench.storage.sweep_files import read_sweep
from tests.stand_ins.page_checks import (
    WIDTHS,
    as_printed,
    boxes_that_touch,
    charts_without_words,
    violations,
    widest,
)

OLD = Path(__file__).parents[1] / "old_results"


def patches(sha256: str) -> NDArray[np.uint8]:
    """A picture per digest: four by four patches of its own colours, 32 px."""
    seed = int.from_bytes(hashlib.sha256(sha256.encode()).digest()[:8])
    colors = np.random.default_rng(seed).integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
    return np.kron(colors, np.ones((8, 8, 1), dtype=np.uint8))


@pytest.fixture(scope="module")
def sweep_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "sweep.html"
    path.write_text(render_sweep(read_sweep(sorted(OLD.glob("sweep-*.json"))[-1]), picture=patches), encoding="utf-8")
    return path


@pytest.fixture
def sweep_opened(opened: Callable[..., Page], sweep_page: Path) -> Callable[..., Page]:
    def open_page(**settings: Any) -> Page:
        return opened(path=sweep_page, **settings)

    return open_page


def test_it_opens_from_the_disk_with_all_its_pictures(sweep_opened: Callable[..., Page]) -> None:
    page = sweep_opened()

    page.evaluate("document.querySelectorAll('img').forEach(one => { one.loading = 'eager'; })")
    page.wait_for_function("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    for section in ("gates", "strength", "guidance", "trigger", "made"):
        assert page.locator(f"section#{section}").is_visible()
    assert page.locator(".film .px").count() > 20
    assert page.evaluate("performance.getEntriesByType('resource').filter(one => !one.name.startsWith('data:'))") == []
    assert page.locator("script").count() == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_only_what_may_scroll_is_wider_than_the_window(sweep_opened: Callable[..., Page], width: int) -> None:
    page = sweep_opened(viewport={"width": width, "height": 900})

    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert widest(page) <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDTHS[0], WIDTHS[-1]])
def test_it_is_accessible(sweep_opened: Callable[..., Page], scheme: str, width: int) -> None:
    page = sweep_opened(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)

    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert violations(page) == []


def test_every_chart_has_words_and_a_table(sweep_opened: Callable[..., Page]) -> None:
    page = sweep_opened()

    assert page.locator("svg.chart").count() > 6
    assert charts_without_words(page) == []
    for figure in page.locator("figure.plot").all():
        rows = figure.locator("tbody tr").count()
        assert rows == figure.locator("svg .notch").count()


@pytest.mark.parametrize("width", WIDTHS)
def test_plots_cards_and_names_of_levels_keep_apart(sweep_opened: Callable[..., Page], width: int) -> None:
    page = sweep_opened(viewport={"width": width, "height": 900})

    assert boxes_that_touch(page) == []
    names = """() => [...document.querySelectorAll('svg.chart')].flatMap(chart => {
        const boxes = [...chart.querySelectorAll('text.label')].map(one => one.getBoundingClientRect());
        return boxes.length > 1 && boxes[0].bottom > boxes[1].top + 1 && boxes[1].bottom > boxes[0].top + 1
            ? [chart.querySelector('title').textContent] : [];
    })"""
    assert page.evaluate(names) == []


def test_it_prints_in_the_width_of_a_sheet(sweep_opened: Callable[..., Page]) -> None:
    page = as_printed(sweep_opened(color_scheme="dark"))

    assert widest(page) <= page.viewport_size["width"]
    assert not page.locator("nav.contents").is_visible()
    assert page.locator(".plot").first.evaluate("one => getComputedStyle(one).breakInside") == "avoid"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
