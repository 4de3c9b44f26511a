"""What a reviewer does on the page, in a real browser, from the disk."""

import json
from collections.abc import Callable
from itertools import pairwise

import pytest
from playwright.sync_api import Page, expect

from lorabench.records.plan import Arm

Opened = Callable[..., Page]


def shown(page: Page) -> list[str]:
    return page.eval_on_selector_all("article.card:not([hidden])", "cards => cards.map(card => card.dataset.case)")


def test_the_page_answers(opened: Opened, small_example) -> None:
    page = opened()
    expect(page.locator("html.alive")).to_have_count(1)
    assert len(shown(page)) == len(small_example.results.suite.cases)


def test_cases_are_filtered_by_family_flag_text_metric_and_seed(opened: Opened, small_example) -> None:
    page, cases = opened(), small_example.results.suite.cases
    family = cases[0].family
    page.select_option("select[name=family]", family)
    assert sorted(shown(page)) == sorted(case.id for case in cases if case.family == family)
    expect(page.locator("output[name=count]")).to_contain_text(f"of {len(cases)} cases")

    page.click("button[type=reset]")
    page.fill("input[name=text]", cases[-1].id)
    assert shown(page) == [cases[-1].id]

    page.click("button[type=reset]")
    page.select_option("select[name=flag]", "lost")
    lost = page.eval_on_selector_all(
        "article.card", "cards => cards.filter(c => c.dataset.flags.includes('lost')).map(c => c.dataset.case)"
    )
    assert sorted(shown(page)) == sorted(lost)

    page.click("button[type=reset]")
    page.select_option("select[name=metric]", "prompt_following_score")
    facts = json.loads(page.locator("#facts").text_content() or "")
    worse = [name for name, case in facts["cases"].items() if case["differences"].get("prompt_following_score", 0) < 0]
    assert sorted(shown(page)) == sorted(worse)

    page.click("button[type=reset]")
    seed = page.locator("select[name=seed] option").nth(1).text_content() or ""
    page.select_option("select[name=seed]", seed)
    assert set(page.eval_on_selector_all(".seed:not([hidden])", "rows => rows.map(r => r.dataset.seed)")) == {seed}


def test_no_case_left_is_said(opened: Opened) -> None:
    page = opened()
    page.fill("input[name=text]", "no such words anywhere")
    expect(page.locator("#none-shown")).to_be_visible()


def test_cases_are_sorted_by_the_difference_of_a_metric(opened: Opened) -> None:
    page = opened()
    page.select_option("select[name=metric]", "prompt_following_score")
    page.select_option("select[name=order]", "metric")
    facts = json.loads(page.locator("#facts").text_content() or "")
    differences = [facts["cases"][case]["differences"]["prompt_following_score"] for case in shown(page)]
    assert differences == sorted(differences)
    page.click("button[type=reset]")
    page.select_option("select[name=order]", "suite")
    assert shown(page) == list(facts["cases"]) or sorted(shown(page)) == sorted(facts["cases"])


def test_what_is_shown_comes_back_with_the_address(opened: Opened, small_example) -> None:
    first = opened()
    first.select_option("select[name=flag]", "lost")
    first.select_option("select[name=order]", "suite")
    address = first.evaluate("location.hash")
    assert address.startswith("#?")
    again = opened(address)
    assert shown(again) == shown(first)
    assert again.input_value("select[name=flag]") == "lost"


def test_a_link_to_a_hidden_case_shows_it(opened: Opened, small_example) -> None:
    page = opened()
    page.fill("input[name=text]", "no such words anywhere")
    case = small_example.results.suite.cases[0].id
    page.evaluate(f"location.hash = '#case-{case}'")
    expect(page.locator(f"#case-{case}")).to_be_visible()


@pytest.mark.parametrize(
    ("key", "mode"), [("1", "side"), ("2", "slider"), ("3", "onion"), ("4", "blink"), ("5", "difference")]
)
def test_each_way_of_comparing_is_one_key_away(opened: Opened, key: str, mode: str) -> None:
    page = opened()
    page.locator("article.card:not([hidden]) .look").first.click()
    page.keyboard.press(key)
    expect(page.locator("#stage")).to_have_attribute("data-mode", mode)
    expect(page.locator(f"#mode-{mode}")).to_have_attribute("aria-selected", "true")
    assert page.locator("#viewer img").evaluate_all("all => all.every(i => i.complete && i.naturalWidth > 0)")


def test_the_close_look_shows_control_and_candidate_and_any_two_arms(opened: Opened) -> None:
    page = opened()
    page.locator("article.card:not([hidden]) .look").first.click()
    expect(page.locator("[data-part=left-name]")).to_have_text("Control")
    expect(page.locator("[data-part=right-name]")).to_have_text("Candidate")
    page.select_option("#viewer [data-part=left]", "0")
    expect(page.locator("[data-part=left-name]")).to_have_text("Base")
    before = page.locator("#viewer [data-part=left-image]").get_attribute("src")
    page.keyboard.press("Escape")
    page.locator("article.card:not([hidden]) .look").first.click()
    page.keyboard.press("s")
    expect(page.locator("[data-part=left-name]")).to_have_text("Candidate")
    assert page.locator("#viewer [data-part=left-image]").get_attribute("src") != before


def test_zoom_goes_to_four_hundred_per_cent_and_both_sides_move_together(opened: Opened) -> None:
    page = opened()
    page.locator("article.card:not([hidden]) .look").first.click()
    for _ in range(12):
        page.keyboard.press("+")
    expect(page.locator("[data-part=zoom]")).to_have_text("400 %")
    page.locator("#stage").focus()
    page.keyboard.press("ArrowRight")
    moved = page.locator("#viewer img").evaluate_all("all => all.map(i => getComputedStyle(i).transform)")
    assert moved[0] == moved[1] != "none"
    page.keyboard.press("z")
    expect(page.locator("[data-part=zoom]")).to_have_text("100 %")


def test_blinking_is_slow_and_stops_where_motion_is_unwanted(opened: Opened) -> None:
    page = opened()
    page.locator("article.card:not([hidden]) .look").first.click()
    page.evaluate("""() => { window.turns = [];
        new MutationObserver(() => window.turns.push(performance.now()))
            .observe(document.getElementById('stage'), {attributeFilter: ['class']}); }""")
    page.keyboard.press("4")
    page.wait_for_timeout(1700)
    turns = page.evaluate("window.turns")
    assert len(turns) >= 2
    assert min(b - a for a, b in pairwise(turns)) > 1000 / 6, "two changes are one blink; at most 3 a second"

    still = opened(reduced_motion="reduce")
    still.locator("article.card:not([hidden]) .look").first.click()
    still.keyboard.press("4")
    still.wait_for_timeout(1200)
    expect(still.locator("#stage.second")).to_have_count(0)
    still.keyboard.press("b")
    expect(still.locator("#stage.second")).to_have_count(1)


def test_closing_gives_the_focus_back(opened: Opened) -> None:
    page = opened()
    button = page.locator("article.card:not([hidden]) .look").first
    button.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#viewer")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).not_to_be_visible()
    assert button.evaluate("node => node === document.activeElement")


def test_an_open_look_comes_back_with_the_address(opened: Opened) -> None:
    page = opened()
    page.locator("article.card:not([hidden]) .look").first.click()
    page.keyboard.press("5")
    again = opened(page.evaluate("location.hash"))
    expect(again.locator("#viewer")).to_be_visible()
    expect(again.locator("#stage")).to_have_attribute("data-mode", "difference")


def test_the_page_is_walked_and_decided_by_keyboard(opened: Opened) -> None:
    page = opened()
    first, second = shown(page)[:2]
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("a")
    expect(page.locator(f"#case-{second}")).to_have_attribute("data-decision", "accept")
    page.keyboard.press("k")
    page.keyboard.press("r")
    expect(page.locator(f"#case-{first}")).to_have_attribute("data-decision", "reject")
    page.keyboard.press("u")
    expect(page.locator(f"#case-{first}")).to_have_attribute("data-decision", "")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("ar")
    assert page.input_value("input[name=text]") == "ar", "letters are letters while somebody types"


def test_decisions_are_kept_and_downloaded(opened: Opened, small_example, tmp_path) -> None:
    page = opened()
    case = shown(page)[0]
    page.locator(f"#case-{case} [data-decide=reject]").click()
    page.locator(f"#case-{case} .decide textarea").fill("the dog is gone </script>")
    page.locator("[data-run=accept]").click()
    expect(page.locator("#review [data-part=counts]")).to_contain_text("1 rejected")
    with page.expect_download() as told:
        page.locator("[data-part=download]").click()
    told.value.save_as(tmp_path / "decisions.json")
    found = json.loads((tmp_path / "decisions.json").read_text(encoding="utf-8"))

    results = small_example.results
    assert (found["run_id"], found["results_digest"]) == (results.run_id, results.content_digest())
    assert found["decision"] == "accept"
    (one,) = found["cases"]
    assert (one["case"], one["decision"], one["comment"]) == (case, "reject", "the dog is gone </script>")
    candidate = {
        str(i.cell.seed): i.sha256 for i in results.images if i.cell.case == case and i.cell.arm is Arm.CANDIDATE
    }
    assert one["pictures"] == candidate

    page.reload()
    expect(page.locator(f"#case-{case}")).to_have_attribute("data-decision", "reject")


def test_blind_comparison_hides_the_arms_and_tests_the_result(opened: Opened, tmp_path) -> None:
    page = opened()
    page.click("#open-blind")
    box = page.locator("#blind")
    words = (box.text_content() or "").lower()
    assert "l1" not in words.split()
    sides = []
    for _ in range(6):
        sources = [box.locator(f"[data-part={side}-image]").get_attribute("src") for side in ("left", "right")]
        assert sources[0] != sources[1]
        sides.append(sources)
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    with page.expect_download() as told:
        page.locator("[data-part=download]").click()
    told.value.save_as(tmp_path / "decisions.json")
    preferences = json.loads((tmp_path / "decisions.json").read_text(encoding="utf-8"))["preferences"]
    assert [one["position"] for one in preferences] == list(range(6))
    assert all(one["preferred"] == "left" and one["arm"] == one["left"] for one in preferences)
    assert {one["left"] for one in preferences} | {one["right"] for one in preferences} == {"L1", "B1"}


def test_without_scripts_the_page_is_complete(opened: Opened, small_example) -> None:
    page = opened(java_script_enabled=False)
    assert page.locator("article.card").count() == len(small_example.results.suite.cases)
    assert not page.locator("form.filters").is_visible()
    assert not page.locator("#review").is_visible()
