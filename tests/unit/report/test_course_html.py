"""The page of a course: what it shows is what the record says, it hides nothing, and no text on it can run."""

import base64
import hashlib
import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from lorabench.records.course import Action, Course, Decision, Evaluation, GuardReading, Reason, Settlement
from lorabench.report.course_html import CourseMaterial, render_course
from lorabench.report.course_view import Best, LossCourse, LossLevel
from lorabench.report.notation import margins, number, p_value, signed

HOSTILE = "</script></style><img src=x onerror=alert(1)>\"'><svg onload=x>{{7*7}}"
VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source"}


class Page(HTMLParser):
    """Elements with their attributes, rows of tables by caption, and whether tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.open: list[str] = []
        self._rows: list[list[str]] = []
        self._caption = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self._rows, self._caption = [], ""
        if tag == "tr":
            self._rows.append([])
        if tag in {"td", "th"}:
            self._rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if "caption" in self.open:
            self._caption += data
        if self._rows and self._rows[-1] and {"td", "th"} & set(self.open):
            self._rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def of(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag in tags]

    def with_class(self, name: str) -> list[dict[str, str]]:
        return [attributes for _, attributes in self.elements if name in attributes.get("class", "").split()]


def reading(gate: str, harm: float, *, half: float = 0.04, margin: float = 0.1) -> GuardReading:
    return GuardReading(
        gate=gate,
        metric={"prompt": "prompt_following_score", "copy": "copy_rate"}.get(gate, f"{gate}_score"),
        harm=harm,
        standard_error=half / 2,
        margin=margin,
        n_cases=21,
        low=harm - half,
        high=harm + half,
        p_beyond_margin=0.0123 if harm > margin else 0.8,
    )


def decision(training_step: int, action: Action, reason: Reason, gates: tuple[str, ...] = ()) -> Decision:
    sentence = f"At step {training_step} it is {reason.value}, says the rule."
    return Decision(action=action, reason=reason, sentence=sentence, training_step=training_step, gates=gates)


def healthy(training_step: int, harm: float = 0.01, **facts: Any) -> Evaluation:
    return Evaluation(
        **{
            "training_step": training_step,
            "kept": f"kept/{training_step}",
            "adapter_digest": "ab" * 32,
            "seeds": (3, 4),
            "screen": (reading("copy", 0.0), reading("prompt", harm)),
            "signals": {
                "prompt_following_score": 0.9 - harm,
                "style": 0.1 + training_step / 1000,
                "style_se": 0.011,
                "drift": training_step / 500,
                "drift_s1": 0.01,
                "drift_s2": 0.02,
                "drift_se": 0.003,
                "loss_held_out": 0.61,
                "loss_held_out_se": 0.02,
            },
            "run_ids": (f"run-{training_step}",),
            "seconds": 4.0,
            "decision": decision(training_step, Action.CONTINUE, Reason.HEALTHY),
        }
        | facts
    )


def suspect(training_step: int, action: Action, reason: Reason, harm: float, **facts: Any) -> Evaluation:
    against = ("prompt",) if action is not Action.CONTINUE else ()
    return healthy(
        training_step,
        harm,
        alarmed=("prompt",),
        confirmation_seeds=(10, 11, 12),
        confirmation=(reading("copy", 0.0), reading("prompt", harm * 1.1, half=0.02)),
        decision=decision(training_step, action, reason, against),
        **facts,
    )


FAILED = "OutOfMemoryError: the GPU was full"
NO_SENSOR = "no training pictures are configured"


@pytest.fixture(scope="module")
def course() -> Course:
    lost = healthy(
        60, screen=(), signals={}, run_ids=(), kept=None, unmeasured={"everything": FAILED}, seconds=0.0
    ).model_copy(update={"decision": decision(60, Action.CONTINUE, Reason.NOT_MEASURED)})
    half_blind = healthy(100, screen=(reading("prompt", 0.02),), unmeasured={"copy": NO_SENSOR})
    return Course(
        identity="f" * 64,
        evaluations=(
            healthy(20),
            healthy(40),
            lost,
            suspect(80, Action.CONTINUE, Reason.ALARM, 0.09),
            half_blind,
            suspect(120, Action.REJECT, Reason.CONFIRMED, 0.22),
            suspect(140, Action.STOP, Reason.PERSISTENT, 0.3, checkpoint="output/checkpoint-140"),
        ),
        best=40,
        settlement=Settlement(
            suite="finalists",
            held_back=True,
            evaluations=(healthy(40, 0.03), healthy(20)),
            best=40,
            sentence="Judged again, step 40 holds.",
        ),
    )


EVENTS: list[dict[str, Any]] = [
    {"at": "2026-01-01T10:00:00+00:00", "kind": "opened", "equals_base": True},
    {"at": "2026-01-01T10:01:00+00:00", "kind": "signals", "training_step": 30, "drift": 0.055},
    {"at": "2026-01-01T10:02:00+00:00", "kind": "evaluated", "training_step": 20, "seconds": 30.0},
    {"at": "2026-01-01T10:03:00+00:00", "kind": "loss", "training_step": 33, "finding": "spike", "says": "Up it went."},
    {"at": "2026-01-01T10:04:00+00:00", "kind": "loss", "training_step": 90, "finding": "divided", "says": "Torn."},
    {"at": "2026-01-01T10:05:00+00:00", "kind": "postponed", "training_step": 130},
    {"kind": "torn", "text": '{"at": "2026'},
]
BEST = Best(40, "Step 40: 2 checkpoints are within all margins.", passing=(20, 40), equivalents=(40,), pareto=(20, 40))
LOSS = LossCourse((LossLevel(1, 16, 0.5), LossLevel(17, 32, 0.4), LossLevel(33, 48, 0.3)), "The loss is falling.")


@pytest.fixture(scope="module")
def material(small_example, course: Course) -> CourseMaterial:
    there = {name: small_example.results for one in course.evaluations for name in one.run_ids if name != "run-20"}
    return CourseMaterial(
        picture=small_example.picture, runs=there, events=EVENTS, best=BEST, loss=LOSS, gone=("run-20",)
    )


@pytest.fixture(scope="module")
def text(course: Course, material: CourseMaterial) -> str:
    return render_course(course, material)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def bare(course: Course, small_example: Any) -> Page:
    return Page(render_course(course, CourseMaterial(picture=small_example.picture, runs={})))


# ------------------------------------------------------------------------------------------------- what it shows


def test_the_first_words_are_whether_it_was_stopped_and_why(page: Page, course: Course) -> None:
    top = page.text[: page.text.index("Guards")]

    assert "STOPPED At step 140, because of prompt (persistent)".lower() in top.lower()
    assert course.evaluations[-1].decision.sentence in top
    assert "7 checkpoints judged" in top


def test_the_best_checkpoint_stands_with_its_place_and_its_reason(page: Page, course: Course) -> None:
    assert "Best checkpoint: step 40" in page.text
    assert "kept in kept/40" in page.text
    assert BEST.sentence in page.text


def test_no_checkpoint_to_ship_names_the_guard_in_the_way(course: Course, material: CourseMaterial) -> None:
    none = course.model_copy(update={"best": None, "settlement": None})
    why = Best(None, "No checkpoint passes.", obstacle="copy", nearest_miss=20)
    facts = {name: getattr(material, name) for name in ("picture", "runs", "events")}

    shown = Page(render_course(none, CourseMaterial(**facts, best=why)))

    assert "No checkpoint to ship No checkpoint passes. In the way: copy, at the nearest miss, step 20" in shown.text
    assert {"href": "#guard-copy"} in shown.of("a")


@pytest.mark.parametrize("gate", ["copy", "prompt"])
def test_the_table_of_a_guard_holds_the_numbers_of_the_record(page: Page, course: Course, gate: str) -> None:
    head, *rows = page.tables[f"Readings of {gate}"]
    looks = [
        (one, look, found)
        for one in course.evaluations
        for look, readings in (("screen", one.screen), ("confirmation", one.confirmation))
        for found in readings
        if found.gate == gate
    ]

    measured = [row for row in rows if len(row) == len(head)]
    assert len(measured) == len(looks)
    for row, (one, look, found) in zip(measured, looks, strict=True):
        low, high = (margins(value / found.margin) for value in (found.low, found.high))
        seeds = one.seeds if look == "screen" else one.confirmation_seeds
        assert [cell.strip() for cell in row[:-1]] == [
            str(one.training_step),
            look,
            signed(found.harm),
            margins(found.harm / found.margin),
            f"{low} to {high}",
            number(found.standard_error),
            f"{found.margin:g}",
            p_value(found.p_beyond_margin),
            str(found.n_cases),
            str(len(seeds)),
        ]


def test_a_guard_without_a_number_says_why_in_table_and_drawing(page: Page) -> None:
    rows = page.tables["Readings of copy"]

    assert [row[0] for row in rows if len(row) == 2] == ["60", "100"]
    assert f"not measured: {FAILED}" in rows[-2][1]
    assert f"not measured: {NO_SENSOR}" in rows[-1][1]
    assert f"Step 100: not measured. {NO_SENSOR}" in page.text


def test_the_table_of_evaluations_holds_every_decision(page: Page, course: Course) -> None:
    _, *rows = page.tables["Every evaluation"]

    assert len(rows) == len(course.evaluations)
    for row, one in zip(rows, course.evaluations, strict=True):
        assert row[0] == str(one.training_step)
        assert f"{one.decision.action}, {one.decision.reason.replace('_', ' ')}" in row[1]
        assert row[2] == one.decision.sentence
        readings = {found.gate: found for found in (*one.screen, *one.confirmation)}
        for gate, cell in zip(("copy", "prompt"), row[3:5], strict=True):
            told = margins(readings[gate].harm / readings[gate].margin) if gate in readings else "not measured"
            assert cell.startswith(told)
        assert one.kept is None or one.kept in row[-1]
    assert "best" in rows[1][1]


def test_signals_stand_in_tables_with_their_errors(page: Page, course: Course) -> None:
    style = page.tables["Style at every checkpoint"]
    drift = page.tables["Losses and drift at every checkpoint"]

    assert style[0][1:] == ["20", "40", "80", "100", "120", "140"]
    assert style[1][1:] == [
        f"{number(one.signals['style'])}± {number(0.011)}" for one in course.evaluations if one.signals
    ]
    assert drift[0][1:] == ["20", "30", "40", "80", "100", "120", "140"]
    by_name = {row[0]: row[1:] for row in drift[1:]}
    assert set(by_name) == {"drift", "drift_s1", "drift_s2", "loss_held_out"}
    assert by_name["drift"][1] == number(0.055)
    assert by_name["loss_held_out"][0] == f"{number(0.61)}± {number(0.02)}"


def test_screens_and_confirmations_differ_in_shape_and_each_mark_has_words(page: Page, text: str) -> None:
    chart = text[text.index('id="guard-prompt"') : text.index("readings of prompt")]

    assert len(re.findall(r'class="reading screen', chart)) == 6
    assert len(re.findall(r'<circle class="dot"', chart)) == 6
    assert len(re.findall(r'class="reading confirmation', chart)) == 3
    assert len(re.findall(r'<path class="dot"', chart)) == 3
    assert chart.count('href="#i-warn"') == 3
    assert chart.count('href="#i-fail"') == 2
    assert ">best</text>" in chart
    assert ">stop</text>" in chart
    assert ">onset</text>" in chart
    assert "Beyond the margin from step 120 on." in chart


def test_every_chart_has_a_title_and_a_description(page: Page) -> None:
    charts = page.with_class("chart")
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}

    assert len(charts) >= 8
    assert all(set(chart["aria-labelledby"].split()) <= ids and chart["role"] == "img" for chart in charts)


def test_the_loss_and_what_was_seen_in_it_is_told(page: Page) -> None:
    rows = page.tables["Blocks of the training's own loss"]

    assert rows[1:] == [["1 to 16", "0.500"], ["17 to 32", "0.400"], ["33 to 48", "0.300"]]
    assert "The loss is falling." in page.text
    assert "step 33: Up it went." in page.text
    assert "The loss falls while pictures get worse. Torn." in page.text


def test_the_filmstrip_shows_candidate_and_control_of_each_checkpoint(page: Page) -> None:
    frames = page.with_class("frame")
    strips = page.with_class("strip")

    assert len(strips) >= 4
    assert len(frames) == len(strips) * 5  # the run of step 20 is gone, step 60 was not measured
    alts = [i["alt"] for i in page.of("img")] + [s["aria-label"] for s in page.of("svg") if s.get("class") == "px"]
    assert all(alt.startswith(("Candidate at step", "Control at step")) for alt in alts)
    assert len(alts) <= 2 * len(frames)


def test_training_pictures_are_not_even_asked_for(course: Course, material: CourseMaterial, small_example: Any) -> None:
    asked: set[str] = set()

    def picture(sha256: str) -> object:
        asked.add(sha256)
        return small_example.picture(sha256)

    render_course(course, CourseMaterial(picture=picture, runs=material.runs))  # type: ignore[arg-type]

    assert asked
    assert asked <= {image.sha256 for image in small_example.results.images}


def test_finalists_judged_again_are_told_from_the_screens(page: Page, course: Course) -> None:
    assert course.settlement is not None
    rows = page.tables["Finalists, judged again"]

    assert course.settlement.sentence in page.text
    assert margins(0.3) in rows[2]
    assert [row[0].split()[0] for row in rows[1:] if len(row) == 6] == ["40", "20"]


def test_what_has_no_number_is_listed_with_its_reason(page: Page) -> None:
    missing = page.text[page.text.index("What has no number") : page.text.index("evaluations took")]

    assert f"everything at step 60: {FAILED}" in missing
    assert f"copy at step 100: {NO_SENSOR}" in missing
    assert "checkpoint at step 130: it was written while the budget of evaluation time was spent" in missing
    assert "1 run of this course is no longer there" in missing
    assert "run-20" in missing


def test_cost_is_told_with_its_share(page: Page) -> None:
    assert "7 evaluations took 24 s, 3.4 s each, the longest 4.0 s at step 20." in page.text
    assert "That is 10 % of the 5 min 0 s that the event log spans" in page.text


def test_provenance_names_suite_base_and_versions(page: Page, small_example: Any) -> None:
    results = small_example.results
    tail = page.text[page.text.index("Provenance Course") :]

    assert results.suite.name in tail
    assert results.base.name in tail
    assert all(f"{name}{version}" in tail for name, version in results.provenance.versions.items())
    assert "untrained is the baseyes" in tail


# ------------------------------------------------------------------------------------------------- missing pieces


def test_a_course_alone_makes_a_page_that_says_what_is_not_there(course: Course, small_example: Any) -> None:
    shown = bare(course, small_example)

    for words in (
        "No pictures: the folders of the runs are gone",
        "The training's own loss was not recorded",
        "no run is there any more",
        "The event log does not say how long the training took",
        "No spike, divergence or other finding was recorded.",
    ):
        assert words in shown.text
    assert not shown.open


def test_an_empty_course_makes_a_page(small_example: Any) -> None:
    shown = bare(Course(identity="0" * 64), small_example)

    assert "NOTHING JUDGED" in shown.text
    assert "No guard has a reading." in shown.text
    assert "Style was not measured" in shown.text
    assert not shown.open


def test_a_course_whose_every_evaluation_failed_makes_a_page(course: Course, small_example: Any) -> None:
    shown = bare(course.model_copy(update={"evaluations": course.evaluations[2:3], "best": None}), small_example)

    assert "The newest checkpoint was not measured".lower() in shown.text.lower()
    assert f"everything at step 60: {FAILED}" in shown.text


def test_a_picture_that_the_store_lost_is_told(course: Course, material: CourseMaterial) -> None:
    facts = {name: getattr(material, name) for name in ("runs", "events")}

    text = render_course(course, CourseMaterial(picture=lambda _: None, **facts))

    assert "made, but no longer in the store" in text
    assert "data:image" not in text


def test_a_single_checkpoint_can_be_drawn(course: Course, small_example: Any) -> None:
    shown = bare(course.model_copy(update={"evaluations": course.evaluations[:1]}), small_example)

    assert "NaN" not in shown.text
    assert len(shown.with_class("chart")) >= 4


# --------------------------------------------------------------------------------------------------------- safety


def poisoned(course: Course) -> Course:
    """The hostile text in every text that the record lets be free."""
    evaluations = tuple(
        one.model_copy(
            update={
                "checkpoint": HOSTILE,
                "kept": HOSTILE,
                "adapter_digest": HOSTILE,
                "unmeasured": {HOSTILE: HOSTILE, **one.unmeasured},
                "signals": {**one.signals, HOSTILE: 1.0, f"loss_{HOSTILE}": 1.0, f"loss_{HOSTILE}_s1": 0.5},
                "run_ids": tuple(f"{name}{HOSTILE}" for name in one.run_ids),
                "decision": one.decision.model_copy(update={"sentence": HOSTILE}),
            }
        )
        for one in course.evaluations
    )
    assert course.settlement is not None
    settled = course.settlement.model_copy(update={"suite": HOSTILE, "sentence": HOSTILE, "evaluations": evaluations})
    return Course.model_validate(
        course.model_copy(
            update={"identity": HOSTILE, "evaluations": evaluations, "settlement": settled}
        ).model_dump(mode="json")
    )  # fmt: skip


@pytest.fixture(scope="module")
def dirty(course: Course, material: CourseMaterial, small_example: Any) -> Page:
    results = small_example.results
    style = results.style.model_copy(update={"trigger": HOSTILE, "plain": HOSTILE})
    provenance = results.provenance.model_copy(update={"versions": {HOSTILE: HOSTILE}, "hardware_class": HOSTILE})
    plan = tuple(one.model_copy(update={"prompt": HOSTILE}) for one in results.plan)
    base = results.base.model_copy(update={"name": HOSTILE})
    update = {"style": style, "provenance": provenance, "base": base, "plan": plan}
    runs = {f"{name}{HOSTILE}": results.model_copy(update=update) for name in material.runs}
    names = ("at", "kind", "finding", "says", "sentence", "reason", "text", "equals_base")
    kinds = ("loss", "signals", "evaluated", "opened", "postponed", "gone", HOSTILE)
    events = [{**dict.fromkeys(names, HOSTILE), "kind": kind, "training_step": 500 + n} for n, kind in enumerate(kinds)]
    events += [{"kind": "stopped", "action": "STOP", "training_step": 900, "reason": HOSTILE, "sentence": HOSTILE}]
    best = Best(40, HOSTILE, obstacle="copy", nearest_miss=20, passing=(20,), pareto=(20,))
    loss = LossCourse(LOSS.levels, HOSTILE)
    bad = CourseMaterial(small_example.picture, runs, events, best, loss, gone=(HOSTILE,))
    return Page(render_course(poisoned(course), bad))


def test_hostile_texts_add_no_element(page: Page, dirty: Page) -> None:
    watched = ("script", "style", "iframe", "object", "embed", "link", "base", "meta", "form")

    before, after = (Counter(tag for tag, _ in one.elements if tag in watched) for one in (page, dirty))
    assert before == after == Counter({"meta": 5, "style": 1})
    assert not [name for _, attributes in dirty.elements for name in attributes if name.startswith("on")]
    assert {image["src"][:16] for image in dirty.of("img")} <= {"data:image/webp;"}
    assert not dirty.open


def test_hostile_texts_are_still_shown_and_never_computed(dirty: Page) -> None:
    assert dirty.text.count(HOSTILE) > 40
    assert "<svg onload=x>49" not in dirty.text


def test_the_policy_forbids_all_but_the_pages_own_style(text: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    style = re.search(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    assert policy is not None
    assert style is not None

    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    told = policy[1].replace("&#39;", "'")
    assert told.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}';" in told
    assert "script-src" not in told
    assert "<script" not in text
    assert not re.search(r"<[^>]+\sstyle=", text)


def test_nothing_is_loaded_from_anywhere(text: str) -> None:
    assert not re.search(r"(?:src|href|action|data|poster|srcset)\s*=\s*[\"']?\s*(?:https?:)?//", text)
    assert "url(" not in text
    assert "@import" not in text


# --------------------------------------------------------------------------------------------------------- access


def test_ids_are_unique_and_every_reference_has_its_target(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    links = [a["href"][1:] for _, a in page.elements if a.get("href", "").startswith("#")]
    labels = [name for _, a in page.elements for name in a.get("aria-labelledby", "").split()]

    assert len(ids) == len(set(ids))
    assert set(links) <= set(ids)
    assert set(labels) <= set(ids)


def test_a_training_that_was_set_back_has_no_anchor_twice(course: Course, material: CourseMaterial) -> None:
    again = course.model_copy(update={"evaluations": (*course.evaluations, healthy(20), healthy(40, 0.05))})

    shown = Page(render_course(again, material))

    ids = [attributes["id"] for _, attributes in shown.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    rows = shown.tables["Every evaluation"][1:]
    assert [row[4][:5] for row in rows if row[0] == "40"] == [margins(0.1), margins(0.5)]


def test_headings_come_in_order_and_table_heads_have_a_scope(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]

    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert all(head.get("scope") in {"col", "row", "rowgroup"} for head in page.of("th"))


def test_whatever_scrolls_can_be_reached_by_keyboard_and_has_a_name(page: Page) -> None:
    regions = [*page.with_class("scroll"), *page.with_class("film")]

    assert len(regions) > 8
    assert all(one.get("tabindex") == "0" and one.get("role") == "region" for one in regions)
    assert all(one.get("aria-label") or one.get("aria-labelledby") for one in regions)


def test_the_same_course_gives_the_same_page(course: Course, material: CourseMaterial, text: str) -> None:
    assert render_course(course, material) == text
