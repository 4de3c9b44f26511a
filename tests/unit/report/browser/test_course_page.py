"""The page of a training in a browser: real courses, opened from the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from lorabench.report.course_html import CourseMaterial, render_course
from lorabench.report.course_view import Best, LossCourse, LossLevel
from lorabench.storage.course_folder import read_course
from tests.stand_ins.page_checks import (
    WIDTHS,
    as_printed,
    boxes_that_touch,
    charts_without_words,
    violations,
    widest,
)

OLD = Path(__file__).parents[1] / "old_results"
BEST = Best(20, "Step 20: 1 checkpoint is within all margins.", passing=(20,), equivalents=(20,), pareto=(20, 40))
LOSS = LossCourse((LossLevel(1, 16, 2.3), LossLevel(17, 32, 1.9), LossLevel(33, 48, 1.4)), "The loss is falling.")
EVENTS: list[dict[str, Any]] = [
    {"at": "2026-01-01T10:00:00.123+00:00", "kind": "opened", "equals_base": True},
    {"at": "2026-01-01T10:03:00.456+00:00", "kind": "loss", "training_step": 33, "finding": "spike", "says": "Up."},
]


@pytest.fixture(scope="module")
def course_page(small_example, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that was stopped, with pictures of every checkpoint."""
    course = read_course(sorted(OLD.glob("course-*.json"))[-1])
    runs = {name: small_example.results for one in course.evaluations for name in one.run_ids}
    material = CourseMaterial(picture=small_example.picture, runs=runs, events=EVENTS, best=BEST, loss=LOSS)
    path = tmp_path_factory.mktemp("course") / "course.html"
    path.write_text(render_course(course, material), encoding="utf-8")
    return path


@pytest.fixture
def course_opened(opened: Callable[..., Page], course_page: Path) -> Callable[..., Page]:
    def open_page(**settings: Any) -> Page:
        return opened(path=course_page, **settings)

    return open_page


def test_it_opens_from_the_disk_with_all_its_pictures(course_opened: Callable[..., Page]) -> None:
    page = course_opened()

    page.evaluate("document.querySelectorAll('img').forEach(one => { one.loading = 'eager'; })")
    page.wait_for_function("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    assert page.locator("h1 .word").inner_text().lower() == "stopped"
    assert page.locator(".film .px").count() > 8
    assert page.evaluate("performance.getEntriesByType('resource').filter(one => !one.name.startsWith('data:'))") == []
    assert page.locator("script").count() == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_only_what_may_scroll_is_wider_than_the_window(course_opened: Callable[..., Page], width: int) -> None:
    page = course_opened(viewport={"width": width, "height": 900})

    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert widest(page) <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDTHS[0], WIDTHS[-1]])
def test_it_is_accessible(course_opened: Callable[..., Page], scheme: str, width: int) -> None:
    page = course_opened(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)

    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert violations(page) == []


def test_every_chart_has_words_and_a_table(course_opened: Callable[..., Page]) -> None:
    page = course_opened()

    assert page.locator("svg.chart").count() > 6
    assert charts_without_words(page) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_plots_and_cards_keep_apart(course_opened: Callable[..., Page], width: int) -> None:
    page = course_opened(viewport={"width": width, "height": 900})

    assert boxes_that_touch(page) == []


def test_links_lead_to_what_they_name(course_opened: Callable[..., Page]) -> None:
    page = course_opened()

    page.locator("nav.contents a[href='#evaluations']").click()
    assert page.url.endswith("#evaluations")
    page.locator(".choice h2 a").click()
    assert page.locator(":target").evaluate("one => one.tagName") == "TR"


def test_it_prints_in_the_width_of_a_sheet(course_opened: Callable[..., Page]) -> None:
    page = as_printed(course_opened(color_scheme="dark"))

    assert widest(page) <= page.viewport_size["width"]
    assert not page.locator("nav.contents").is_visible()
    assert page.locator(".plot").first.evaluate("one => getComputedStyle(one).breakInside") == "avoid"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
