"""Several runs on one page: what a reviewer does with it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
Opened = Callable[..., Page]


def shown(page: Page) -> list[str]:
    return page.eval_on_selector_all("article.card:not([hidden])", "cards => cards.map(card => card.dataset.case)")


def test_the_largest_disagreement_stands_first_and_the_suites_order_is_one_choice_away(
    opened: Opened, several: Path, small_example
) -> None:
    page = opened(path=several)
    assert shown(page)[0] == "spatial-001"
    page.select_option("select[name=order]", "suite")
    assert shown(page) == [case.id for case in small_example.results.suite.cases]


def test_cases_are_found_by_differing_checks_and_by_a_metric_in_which_runs_lie_apart(
    opened: Opened, several: Path
) -> None:
    page = opened(path=several)
    page.keyboard.press("f")
    assert shown(page) == ["counting-001"]
    page.click("button[type=reset]")
    page.select_option("select[name=metric]", "prompt_following_score")
    assert shown(page) == ["spatial-001"]


def test_any_two_runs_meet_in_the_close_look(opened: Opened, several: Path) -> None:
    page = opened(path=several)
    page.locator("article.card .look").first.click()
    expect(page.locator("[data-part=left-name]")).to_have_text("A papercut-002000.safetensors")
    expect(page.locator("[data-part=right-name]")).to_have_text("B papercut-000900")
    page.select_option("#viewer [data-part=left]", label="Control")
    page.select_option("#viewer [data-part=right]", label="C papercut-002000.safetensors")
    page.keyboard.press("5")
    address = page.evaluate("location.hash")
    assert "rc" in address

    again = opened(address, path=several)
    expect(again.locator("[data-part=left-name]")).to_have_text("Control")
    expect(again.locator("[data-part=right-name]")).to_have_text("C papercut-002000.safetensors")
    expect(again.locator("#stage")).to_have_attribute("data-mode", "difference")


def test_nothing_is_decided_on_it(opened: Opened, several: Path) -> None:
    page = opened(path=several)
    for key in "jarub":
        page.keyboard.press(key)
    assert page.locator("[data-decide], #review, #blind").count() == 0
    page.keyboard.press("?")
    words = page.locator("#keys").inner_text().lower()
    assert "search" in words
    assert "accept" not in words
    assert "blindly" not in words


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_is_accessible_and_no_wider_than_the_window(
    opened: Opened, several: Path, scheme: str, width: int
) -> None:
    page = opened(path=several, color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
    found = Axe().run(page, options=RULES).response["violations"]
    assert [f"{one['id']}: {node['target']}" for one in found for node in one["nodes"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_the_page_is_complete(opened: Opened, several: Path, small_example) -> None:
    page = opened(path=several, java_script_enabled=False)
    assert page.locator("article.card").count() == len(small_example.results.suite.cases)
    assert not page.locator("form.filters").is_visible()
