"""Hostile words in every text of a run: they are shown, and nothing of them runs, loads or breaks out."""

import json
from collections.abc import Callable, Iterator
from itertools import count, cycle
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from pydantic import ValidationError

from lorabench.records.results import Results
from lorabench.report.html import write_html
from lorabench.report.layout import Layout
from lorabench.report.several_html import write_several

PAYLOADS = (
    "<script>window.ran=1;alert(1)</script>",
    "</script><script>window.ran=1</script>",
    "</style><script>window.ran=1</script>",
    "</title></textarea></template></svg></dialog><img src=x onerror=window.ran=1>",
    "<img src=x onerror='window.ran=1'>",
    "<img src=http://127.0.0.1:9/leak>",
    "<svg/onload=window.ran=1>",
    "<iframe srcdoc='<script>parent.ran=1</script>'></iframe>",
    "<details open ontoggle=window.ran=1>",
    "<a href=javascript:window.ran=1>click</a>",
    "javascript:window.ran=1",
    '" autofocus onfocus=window.ran=1 x="',
    "' onmouseover=window.ran=1 '",
    "<!--",
    "--><script>window.ran=1</script>",
    "<![CDATA[ ]]><script>window.ran=1</script>",
    "]]>",
    "{{7*7}}{% raw %}{{ cycler.__init__ }}${window.ran=1}#{window.ran=1}",
    "\\u003cscript\\u003ewindow.ran=1\\u003c/script\\u003e",
    '\\"};window.ran=1;//',
    "}</style>*{background:url(http://127.0.0.1:9/leak)}@import 'http://127.0.0.1:9/leak'",
    "red;background:url(http://127.0.0.1:9/leak)",
    "<link rel=stylesheet href=http://127.0.0.1:9/leak><base href=http://127.0.0.1:9/>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/leak'>",
    "<form action=http://127.0.0.1:9/leak><input name=text id=facts><button id=viewer>",
    "\u202eevil\u202c \u2066x\u2069 \u200b\ufeff",
    "\u2028\u2029window.ran=1",
    "\x01\x07\x1b[31m\x7f",
    "W" * 600,
    "__proto__",
    "&lt;script&gt;&#60;script&#62;",
    "data:text/html,<script>window.ran=1</script>",
)
"""One by one or in turns, each of them would do harm somewhere if it were taken for more than words."""
CATCH = "window.ran = 0; document.addEventListener('DOMContentLoaded', () => { window.was = document.title; });"


def texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all texts in plain JSON."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from texts(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from texts(inner, (*path, index))
    elif isinstance(value, str):
        yield path


def at(data: Any, path: tuple[Any, ...]) -> tuple[Any, Any]:
    """Container of a text and its key; names of union members that pydantic puts in are passed over."""
    for key in path[:-1]:
        if (isinstance(data, dict) and key in data) or isinstance(data, list):
            data = data[key]
    return data, path[-1]


def poisoned(results: Results, words: Iterator[str]) -> Results:
    """Behind every text that the schema lets be free stands the next of the words; mappings get them as keys, too."""
    clean, data = (results.model_dump(mode="json") for _ in range(2))
    for path in list(texts(clean)):
        place, key = at(data, path)
        place[key] += next(words)
    for section, name in (("provenance", "versions"), ("provenance", "judges"), ("candidate", "metadata")):
        data[section][name] = {next(words) + str(n): next(words) for n in range(len(PAYLOADS))}
    data["provenance"]["timings"] = {next(words) + str(n): 1.0 for n in range(len(PAYLOADS))}
    data["palettes"] = {key: [next(words), "#102030"] for key in results.palettes}
    return accepted(data, clean)


def accepted(data: Any, clean: Any) -> Results:
    """The results with those texts given back that the schema refuses."""
    while True:
        try:
            return Results.model_validate(data)
        except ValidationError as refused:
            for error in refused.errors():
                place, key = at(data, error["loc"])
                key = "type" if isinstance(place, dict) and key not in place else key
                place[key] = at(clean, error["loc"])[0][key]


@pytest.fixture(scope="module")
def few(small_example) -> Results:
    """Two cases of the small example, which is enough for every kind of text."""
    results = small_example.results
    kept = {case.id for case in results.suite.cases[:2]}
    suite = results.suite.model_copy(update={"cases": results.suite.cases[:2]})
    parts = {
        name: tuple(one for one in getattr(results, name) if one.cell is None or one.cell.case in kept)
        for name in ("plan", "images", "failed", "measurements", "unmeasured", "neighbours", "checks", "detections")
    }
    return results.model_copy(update={"suite": suite, **parts})


def start_everything(page: Page) -> None:
    """All that copies texts from one place to another: filters, dialogs, seeds, comments, links."""
    expect(page.locator("html.alive")).to_have_count(1)
    page.fill("input[name=text]", "<img src=x onerror=window.ran=1>")
    page.click("button[type=reset]")
    page.evaluate("document.querySelectorAll('details').forEach(node => { node.open = true; })")
    page.locator("article.card .look").first.click()
    for key in "12345s]j":
        page.keyboard.press(key)
    page.keyboard.press("Escape")
    if page.locator("#blind").count():
        page.locator("article.card .decide textarea").first.fill(PAYLOADS[4])
        page.keyboard.press("Escape")
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("b")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Escape")
    page.evaluate("Promise.all(document.getAnimations().map(one => one.finished))")


def assert_unharmed(page: Page) -> None:
    assert page.evaluate("window.ran") == 0
    assert page.evaluate("document.querySelectorAll('script').length") == 2
    injected = "iframe, object, embed, base, link:not([href^='assets/']), [onerror], [onload], [onfocus], [ontoggle]"
    assert page.locator(injected).count() == 0
    assert page.evaluate("document.querySelectorAll('form').length") == 1
    assert page.evaluate("Object.prototype.ran") is None


@pytest.mark.parametrize("number", range(len(PAYLOADS)))
def test_one_payload_in_every_text_does_nothing(
    opened: Callable[..., Page], few: Results, small_example, tmp_path: Path, number: int
) -> None:
    results = poisoned(few, cycle([PAYLOADS[number]]))
    path = write_html(results, tmp_path / "r.html", picture=small_example.picture)
    page = opened(path=path, before=CATCH)
    expect(page.locator("html.alive")).to_have_count(1)
    assert_unharmed(page)


@pytest.mark.parametrize("layout", [Layout.SINGLE, Layout.FOLDER])
@pytest.mark.parametrize("begin", [0, 11])
def test_all_payloads_in_turn_do_nothing_in_either_form(
    opened: Callable[..., Page], few: Results, small_example, tmp_path: Path, layout: Layout, begin: int
) -> None:
    results = poisoned(few, (PAYLOADS[(begin + n) % len(PAYLOADS)] for n in count()))
    path = write_html(results, tmp_path / "r.html", picture=small_example.picture, layout=layout)
    page = opened(path=path, before=CATCH)
    start_everything(page)
    assert_unharmed(page)


@pytest.mark.parametrize("layout", [Layout.SINGLE, Layout.FOLDER])
def test_all_payloads_in_turn_do_nothing_on_a_page_of_several_runs(
    opened: Callable[..., Page], few: Results, small_example, tmp_path: Path, layout: Layout
) -> None:
    turns = [poisoned(few, (PAYLOADS[(7 * begin + n) % len(PAYLOADS)] for n in count())) for begin in range(2)]
    same_suite = [one.model_copy(update={"suite": turns[0].suite}) for one in turns]
    path = write_several(same_suite, tmp_path / "c.html", picture=small_example.picture, layout=layout)
    page = opened(path=path, before=CATCH)
    assert page.locator("article.card").count() == 2
    start_everything(page)
    assert_unharmed(page)


@pytest.mark.parametrize(
    "payload", [PAYLOADS[0], PAYLOADS[4], PAYLOADS[11], "%", "%E0%A4%A", "x~<img src=x onerror=window.ran=1>~b1~l1~5"]
)
def test_a_hostile_address_does_nothing(opened: Callable[..., Page], payload: str) -> None:
    names = ("text", "family", "flag", "metric", "seed", "order", "open", "__proto__")
    page = opened("#?" + "&".join(f"{name}={payload}" for name in names), before=CATCH)
    expect(page.locator("html.alive")).to_have_count(1)
    assert_unharmed(page)
    page.evaluate("address => { location.hash = address }", "#" + payload)
    assert_unharmed(page)


def test_hostile_decisions_in_the_browsers_store_are_words(opened: Callable[..., Page], small_example) -> None:
    case = small_example.results.suite.cases[0].id
    kept = {
        "comments": {case: PAYLOADS[3], "gone": PAYLOADS[0]},
        "decisions": {"gone": "accept"},
        "comment": PAYLOADS[0],
    }
    store = f"lorabench:{small_example.results.content_digest()}"
    page = opened(before=f"{CATCH}; localStorage.setItem({store!r}, {json.dumps(json.dumps(kept))})")
    expect(page.locator(f"#case-{case} .decide textarea")).to_have_value(PAYLOADS[3])
    assert_unharmed(page)


def test_hostile_words_are_still_readable(opened: Callable[..., Page], few: Results, small_example, tmp_path) -> None:
    results = poisoned(few, cycle([PAYLOADS[4]]))
    page = opened(path=write_html(results, tmp_path / "r.html", picture=small_example.picture), before=CATCH)
    assert PAYLOADS[4] in page.locator("h1").inner_text()
    assert PAYLOADS[4] in (page.locator("article.card .prompt").first.text_content() or "")


def test_no_word_makes_the_page_wider_than_the_window(
    opened: Callable[..., Page], few: Results, small_example, tmp_path: Path
) -> None:
    results = poisoned(few, cycle(["W" * 600]))
    one = write_html(results, tmp_path / "r.html", picture=small_example.picture)
    two = write_several([results, results], tmp_path / "c.html", picture=small_example.picture)
    for path in (one, two):
        page = opened(path=path, viewport={"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
