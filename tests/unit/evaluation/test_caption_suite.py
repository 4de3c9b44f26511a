"""Suites with prompts from captions: verbatim, paraphrased, and exempt from nothing but the held-out check."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabench.evaluation.caption_suite import NoCaptionsError, caption_suite, paraphrase
from lorabench.records.plan import StylePhrases
from lorabench.records.suite import Case, Suite
from lorabench.storage.heldout import HeldOutError, check_held_out
from lorabench.storage.suite_files import read_suite, suite_text

STYLE = StylePhrases(trigger="zvq style", plain="a flat illustration", neutral="")
CAPTIONS = {
    "0.png": "zvq style, a red circle left of a small blue square",
    "1.png": "ZVQ style, an old house, a garden, evening light",
    "2.png": "a cat and a dog, zvq style",
    "3.png": "zvq style",
    "4.png": "zvq style, a red circle left of a small blue square.",
    "5.png": "a tree",
}
NOVEL = Suite(
    name="novel",
    licence="CC0-1.0",
    seeds=(1, 2),
    cases=(Case(id="boat", family="spatial", prompt="{style}, a boat under a bridge"),),
)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("{style} a red circle left of a small blue square", "{style} a blue square right of a red circle"),
        ("{style} a cup above a plate", "{style} a plate below a cup"),
        ("a cat and a dog, {style}", "a dog and a cat, {style}"),
        ("{style}, an old house, a garden", "{style}, a garden, a house"),
        ("{style} four red triangles", "{style} four triangles"),
        ("{style} an orange umbrella", "{style} an umbrella"),
        ("a tree", None),
        ("{style} red", None),
        ("{style}", None),
    ],
)
def test_paraphrases_follow_the_rules(prompt: str, expected: str | None) -> None:
    assert paraphrase(prompt) == expected


def test_captions_are_said_word_for_word_with_the_trigger_as_slot() -> None:
    made = caption_suite(CAPTIONS, beside=NOVEL, style=STYLE, n_captions=10)

    assert made.suite.description.endswith("and prompts made from training captions that decide no gate.")
    verbatim = [case.prompt for case in made.suite.cases if case.caption_kind == "verbatim"]
    assert verbatim == [
        "{style}, a red circle left of a small blue square",
        "{style}, an old house, a garden, evening light",
        "a cat and a dog, {style}",
        "a tree",
    ]
    assert (made.n_verbatim, made.n_paraphrased) == (4, 3)
    assert made.suite.cases[0] == NOVEL.cases[0]
    assert made.suite.seeds == NOVEL.seeds
    assert made.suite.novel_cases == {"boat"}
    assert {case.family for case in made.suite.cases[1:]} == {"memorisation"}


def test_captions_are_spread_over_the_list() -> None:
    many = {f"{n}.png": f"a thing number {n}" for n in range(100)}

    made = caption_suite(many, beside=NOVEL, style=STYLE, n_captions=4)

    assert [case.prompt for case in made.suite.cases[1:]] == [f"a thing number {n}" for n in (0, 25, 50, 75)]


def test_a_paraphrase_that_is_a_caption_or_a_prompt_is_left_out() -> None:
    captions = {"0.png": "a cat and a dog", "1.png": "a dog and a cat", "2.png": "a bridge over a boat"}

    made = caption_suite(captions, beside=NOVEL, style=STYLE, n_captions=3)

    assert (made.n_verbatim, made.n_paraphrased) == (3, 0)


def test_the_suite_is_read_back_as_it_was_made(tmp_path: Path) -> None:
    made = caption_suite(CAPTIONS, beside=NOVEL, style=STYLE, n_captions=10).suite
    path = tmp_path / "made.lora.yaml"

    path.write_text(suite_text(made, remark="made in a test"), encoding="utf-8")

    assert read_suite(path).suite == made
    assert path.read_text(encoding="utf-8").startswith("# made in a test\n")


def test_a_shipped_suite_with_checks_and_foils_is_read_back_as_it_was(tmp_path: Path) -> None:
    from lorabench.storage.shipped import shipped_suite_path

    screen = read_suite(shipped_suite_path("world/screen")).suite
    path = tmp_path / "screen.lora.yaml"

    path.write_text(suite_text(screen, remark="a copy"), encoding="utf-8")

    assert read_suite(path).suite == screen


def test_only_cases_from_captions_are_exempt_from_the_held_out_check() -> None:
    made = caption_suite(CAPTIONS, beside=NOVEL, style=STYLE, n_captions=10).suite
    assert check_held_out(made, CAPTIONS, style=STYLE) == ()

    for change in ({"family": "spatial"}, {"tags": ()}, {"tags": ("other",)}):
        cases = (made.cases[0], made.cases[1].model_copy(update=change))
        with pytest.raises(HeldOutError, match=r"must not be training captions; found 1"):
            check_held_out(made.model_copy(update={"cases": cases}), CAPTIONS, style=STYLE)


@pytest.mark.parametrize(("captions", "found"), [({}, "none"), ({"0.png": "zvq style"}, "only style phrases")])
def test_no_captions_is_said(captions: dict[str, str], found: str) -> None:
    with pytest.raises(NoCaptionsError, match=rf"prompts from captions need captions; found {found}\.") as caught:
        caption_suite(captions, beside=NOVEL, style=STYLE, n_captions=3)
    assert caught.value.exit_code == 2


def test_no_captions_asked_for_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="n_captions must be at least 1, got 0"):
        caption_suite(CAPTIONS, beside=NOVEL, style=STYLE, n_captions=0)
