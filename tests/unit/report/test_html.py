"""The page: safe with hostile texts, complete, and readable by everyone."""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lorabench.records.comparison import Outcome
from lorabench.records.results import Results
from lorabench.report import html as html_module
from lorabench.report.html import render_html, write_html

HOSTILE = "</script></style><img src=x onerror=alert(1)>\"'><svg onload=x>{{7*7}}"
VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source"}


class Page(HTMLParser):
    """Collects elements with their attributes, and checks that tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def of(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all texts in plain JSON."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    elif isinstance(value, str):
        yield path


def holder(data: Any, path: tuple[Any, ...]) -> tuple[Any, Any]:
    """The container of a leaf and its key there; names of union members that pydantic puts in are passed over."""
    for key in path[:-1]:
        if (isinstance(data, dict) and key in data) or isinstance(data, list):
            data = data[key]
    return data, path[-1]


def poison(results: Results) -> Results:
    """Put the hostile text behind every text that the schema lets be free."""
    clean, data = (results.model_dump(mode="json") for _ in range(2))
    for path in list(leaves(clean)):
        place, key = holder(data, path)
        place[key] += HOSTILE
    while True:
        try:
            return Results.model_validate(data)
        except ValidationError as refused:
            for error in refused.errors():
                place, key = holder(data, error["loc"])
                if not (isinstance(place, dict) and key not in place):
                    place[key] = holder(clean, error["loc"])[0][key]
                else:
                    place["type"] = holder(clean, error["loc"])[0]["type"]


@pytest.fixture(scope="module")
def text(example) -> str:
    return render_html(example.results, picture=example.picture)


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


@pytest.fixture(scope="module")
def poisoned(small_example) -> Results:
    data = poison(small_example.results).model_dump(mode="json")
    for place, key in (("provenance", "versions"), ("provenance", "judges"), ("candidate", "metadata")):
        data[place][key] = {HOSTILE: HOSTILE}
    data["provenance"]["timings"] = {HOSTILE: 1.0}
    data["palettes"] = {key: [HOSTILE, "#102030"] for key in data["palettes"]}
    return Results.model_validate(data)


def test_hostile_texts_add_no_element(small_example, poisoned) -> None:
    clean = Page(render_html(small_example.results, picture=small_example.picture))
    dirty = Page(render_html(poisoned, picture=small_example.picture))

    # other texts mark other words and name other rows, but these no text can add
    watched = {"script", "style", "img", "iframe", "object", "embed", "link", "base", "meta", "form"}
    before, after = (Counter(tag for tag, _ in page.elements if tag in watched) for page in (clean, dirty))
    assert after == before
    assert not [name for _, attributes in dirty.elements for name in attributes if name.startswith("on")]
    assert not dirty.open


def test_hostile_texts_are_still_shown(small_example, poisoned) -> None:
    words = "".join(Page(render_html(poisoned, picture=small_example.picture)).words)

    told = [poisoned.verdict.headline, poisoned.candidate.name, poisoned.run_id, poisoned.provenance.command]
    told += [*poisoned.verdict.reasons, *(gate.reason.removeprefix(f"{gate.gate}: ") for gate in poisoned.gates)]
    told += [*(failed.reason for failed in poisoned.failed), *(gap.reason for gap in poisoned.unmeasured)]
    told += [planned.prompt for planned in poisoned.plan]
    assert all(text.count(HOSTILE) for text in told)
    assert [text for text in told if text not in words] == []
    assert "49" not in re.findall(r"<svg onload=x>(\d+)", words)


def test_nothing_is_loaded_from_anywhere(page, text) -> None:
    assert not re.search(r"(?:src|href|action|data|poster|srcset)\s*=\s*[\"']?\s*(?:https?:)?//", text)
    assert "url(" not in text
    assert "@import" not in text
    for tag, attributes in page.elements:
        target = attributes.get("src") or attributes.get("href") or "#"
        assert target.startswith(("#", "data:image/webp;base64,")), (tag, target[:60])


def test_the_policy_names_exactly_the_pages_own_script_and_style(page, text) -> None:
    policy = next(m["content"] for m in page.of("meta") if m.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))

    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not [a for _, a in page.elements if "style" in a]


def test_every_picture_says_what_it_shows(page) -> None:
    pictures = page.of("img")
    drawings = [s for s in page.of("svg") if s.get("role") == "img"]

    assert pictures
    assert drawings
    assert all(len(picture["alt"]) > 10 for picture in pictures if "src" in picture)
    assert all(d.get("aria-label") or d.get("aria-labelledby") for d in drawings)
    assert all(s.get("aria-hidden") == "true" for s in page.of("svg") if s.get("role") != "img")


def test_labels_point_at_elements_that_exist(page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    wanted = [name for _, a in page.elements for name in a.get("aria-labelledby", "").split()]
    links = [a["href"][1:] for _, a in page.elements if a.get("href", "").startswith("#")]

    assert len(ids) == len(set(ids))
    assert set(wanted) <= set(ids)
    assert set(links) <= set(ids)


def test_table_heads_have_a_scope(page) -> None:
    heads = page.of("th")

    assert heads
    assert all(head.get("scope") in {"col", "row", "rowgroup"} for head in heads)


def test_headings_come_in_order(page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]

    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


def test_fields_have_labels_and_the_page_has_a_language(page) -> None:
    fields = [attributes for tag in ("input", "select", "textarea") for attributes in page.of(tag)]

    assert page.of("html")[0]["lang"] == "en"
    assert len(page.of("label")) == sum("aria-label" not in field for field in fields)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_verdict_has_its_word_and_its_mark(small_example, outcome: Outcome) -> None:
    results = small_example.results
    verdict = results.verdict.model_copy(update={"outcome": outcome})

    text = render_html(results.model_copy(update={"verdict": verdict}), picture=small_example.picture)
    banner = text[text.index('<div class="banner">') : text.index("</h1>")]

    assert f'<span class="word">{outcome.value}</span>' in banner
    assert f'href="#i-{outcome.value.lower()}"' in banner


def test_each_gate_shows_word_number_interval_and_reason(example, page, text) -> None:
    rows = re.findall(r'<tr role="row" id="gate-.*?</tr>', text, flags=re.DOTALL)

    assert len(rows) == len(example.results.gates)
    for gate, row in zip(example.results.gates, rows, strict=True):
        assert f"</svg>{gate.outcome.value}</span>" in row
        reason = gate.reason.removeprefix(f"{gate.gate}: ")
        assert reason.replace("'", "&#39;") in row
        assert ("<desc" in row) is (gate.comparison is not None)
        assert ("not measured" in row) is (gate.comparison is None)


def test_each_case_and_each_cell_is_on_the_page(example, page) -> None:
    ids = {a["id"] for a in page.of("article")}
    alts = [i["alt"] for i in page.of("img")] + [s["aria-label"] for s in page.of("svg") if s.get("class") == "px"]
    arms = [alt for alt in alts if alt.startswith(("Base", "Control", "Candidate"))]

    assert ids == {f"case-{case.id}" for case in example.results.suite.cases}
    assert len(arms) == len(example.results.images)


def test_nothing_missing_is_hidden(example, page) -> None:
    words = " ".join(page.words)

    for failed in example.results.failed:
        assert failed.reason in words
        assert failed.cell.key in words
    for missing in example.results.unmeasured:
        assert missing.reason in words
        assert missing.cell is None or missing.cell.key in words


def test_a_partial_run_says_so(small_example) -> None:
    results = small_example.results
    whole = results.model_copy(update={"verdict": results.verdict.model_copy(update={"complete": True})})

    assert "<b>Partial.</b>" in render_html(results, picture=small_example.picture)
    assert "<b>Partial.</b>" not in render_html(whole, picture=small_example.picture)


def test_identical_pictures_and_a_missing_candidate_are_told(small_example) -> None:
    results = small_example.results
    verdict = results.verdict.model_copy(update={"identical": True})
    bare = results.model_copy(update={"verdict": verdict, "candidate": None, "gates": (), "comparisons": ()})

    text = render_html(bare, picture=small_example.picture)

    assert "<b>Identical.</b>" in text
    assert "<b>No candidate.</b>" in text
    assert "No gate was evaluated." in text


def test_training_pictures_can_be_left_out(small_example) -> None:
    asked: set[str] = set()

    def picture(sha256: str) -> object:
        asked.add(sha256)
        return small_example.picture(sha256)

    text = render_html(small_example.results, picture=picture, training_images_included=False)

    shown = {image.sha256 for image in small_example.results.images}
    assert asked == shown
    assert "training pictures are left out of this page" in text
    assert "Nearest training picture, number" not in text
    assert "Nearest training</b> #4" in text


def test_a_picture_that_the_store_lost_is_told(small_example) -> None:
    text = render_html(small_example.results, picture=lambda _: None)

    assert "made, but no longer in the store" in text
    assert "data:image" not in text


def test_each_picture_is_embedded_once(example, text) -> None:
    embedded = re.findall(r"data:image/webp;base64,[A-Za-z0-9+/=]+", text)

    assert len(embedded) == len(set(embedded))


def test_the_trigger_is_marked_in_the_prompt(text, example) -> None:
    assert text.count(f"<mark>{example.results.style.trigger}</mark>") >= len(example.results.suite.cases)


def test_the_same_run_gives_the_same_page(small_example) -> None:
    once, twice = (render_html(small_example.results, picture=small_example.picture) for _ in range(2))

    assert once == twice


def test_tags_are_balanced(page) -> None:
    assert page.open == []


def test_provenance_gives_the_command(example, page) -> None:
    assert example.results.provenance.command in page.words


def test_writing_replaces_in_one_move_and_leaves_nothing_behind(small_example, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.html"
    path.parent.mkdir()
    path.write_text("old")

    assert write_html(small_example.results, path, picture=small_example.picture) == path

    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_failed_writing_keeps_the_earlier_page(small_example, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr(html_module.RunPage, "render", lambda *_: "broken \ud800")

    with pytest.raises(UnicodeEncodeError):
        write_html(small_example.results, path, picture=small_example.picture)

    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
