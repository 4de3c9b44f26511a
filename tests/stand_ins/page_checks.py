"""What holds of every rendered page, asked of a browser."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

WIDTHS = (390, 900, 1440)
"""A telephone, half a screen, a whole one."""
SHEET = 718
"""A4 within its margins, in CSS pixels."""
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
_CHARTS = """() => [...document.querySelectorAll('svg.chart')].flatMap(chart => {
    const words = (name) => (chart.querySelector(`:scope > ${name}`)?.textContent ?? '').trim();
    const home = chart.closest('section');
    const named = chart.getAttribute('role') === 'img' && chart.getAttribute('aria-labelledby')
        .split(' ').every(id => document.getElementById(id));
    return words('title') && words('desc') && named && home.querySelector('table tbody tr')
        ? [] : [words('title') || chart.outerHTML.slice(0, 80)];
})"""
_TOUCHING = """() => {
    const told = (one) => one.id || one.className;
    const boxes = [...document.querySelectorAll('main .plot, main .strip, main section > .scroll')]
        .filter(one => one.checkVisibility())
        .map(one => ({one, box: one.getBoundingClientRect()}));
    const near = (a, b) => a.left < b.right + 5 && b.left < a.right + 5 && a.top < b.bottom + 5 && b.top < a.bottom + 5;
    return boxes.flatMap(({one, box}, n) => boxes.slice(n + 1)
        .filter(other => !one.contains(other.one) && near(box, other.box))
        .map(other => `${told(one)} touches ${told(other.one)}`));
}"""


def widest(page: Page) -> int:
    """How wide the page's content is, without what scrolls in a frame of its own."""
    return page.evaluate("document.documentElement.scrollWidth")


def violations(page: Page) -> list[str]:
    """What axe-core finds against WCAG 2.2 AA and good practice; the page must have been opened with `bypass_csp`."""
    found = Axe().run(page, options=RULES).response["violations"]
    return [f"{one['id']}: {node['target']} {node['failureSummary']}" for one in found for node in one["nodes"]]


def charts_without_words(page: Page) -> list[str]:
    """Charts without a title, a description or a table in their section."""
    return page.evaluate(_CHARTS)


def boxes_that_touch(page: Page) -> list[str]:
    """Plots, cards and tables with fewer than five pixels between them."""
    return page.evaluate(_TOUCHING)


def as_printed(page: Page) -> Page:
    """The page as it goes to a sheet of A4."""
    page.set_viewport_size({"width": SHEET, "height": 1000})
    page.emulate_media(media="print")
    return page
