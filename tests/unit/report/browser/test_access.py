"""Nothing that axe-core can find stands in anybody's way: in light and dark, with every dialog open."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def violations(page: Page) -> list[str]:
    found = Axe().run(page, options=RULES).response["violations"]
    return [f"{one['id']}: {node['target']} {node['failureSummary']}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_accessible(opened: Callable[..., Page], scheme: str, width: int) -> None:
    page = opened(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
    assert violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("opening", ["look", "blind", "keys"])
def test_its_dialogs_are_accessible(opened: Callable[..., Page], scheme: str, opening: str) -> None:
    page = opened(color_scheme=scheme, bypass_csp=True)
    if opening == "look":
        page.locator("article.card:not([hidden]) .look").first.click()
    else:
        page.keyboard.press({"blind": "b", "keys": "?"}[opening])
    assert page.locator("dialog[open]").count() == 1
    assert violations(page) == []
