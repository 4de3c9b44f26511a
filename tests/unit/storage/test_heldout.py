"""A prompt that was trained on must not be in a suite."""

from __future__ import annotations

import pytest

from lorabench.records.plan import StylePhrases
from lorabench.records.suite import Case, Suite
from lorabench.storage.heldout import HeldOutError, check_held_out, word_set_similarity

STYLE = StylePhrases(trigger="zvq style,", plain="a flat drawing of")


def suite_of(*prompts: str) -> Suite:
    cases = tuple(Case(id=f"c{n}", family="spatial", prompt=prompt) for n, prompt in enumerate(prompts))
    return Suite(name="mine", licence="CC0-1.0", seeds=(1,), cases=cases)


@pytest.mark.parametrize(
    "caption",
    [
        "a cat on a mat",
        "A CAT, on a mat!",
        "  a cat \n on a mat",
        "zvq style, a cat on a mat",
        "a cat on a mat, zvq style",
        "a flat drawing of a cat on a mat",
        "a “cat” on a mat…",
        "a ｃａｔ on a mat",
    ],
)
def test_equal_captions_are_refused_whatever_dresses_them(caption: str) -> None:
    suite = suite_of("{style} a dog", "{style} a cat on a mat")

    with pytest.raises(HeldOutError) as caught:
        check_held_out(suite, {"b.png": "a horse", "a.png": caption}, style=STYLE, line_of={"c1": 12})

    assert "prompts of suite mine must not be training captions; found 1" in str(caught.value)
    assert "c1 (line 12) and the caption of a.png" in str(caught.value)
    assert [overlap.training_file for overlap in caught.value.overlaps] == ["a.png"]


def test_other_sentences_pass_without_a_warning() -> None:
    assert check_held_out(suite_of("{style} a cat on a mat"), {"a.png": "a dog on a mat"}, style=STYLE) == ()


def test_near_duplicates_are_returned_not_refused() -> None:
    near = check_held_out(suite_of("a cat left of a dog"), {"a.png": "a dog left of a cat"}, style=STYLE)

    assert [(overlap.case, overlap.training_file, overlap.similarity) for overlap in near] == [("c0", "a.png", 1.0)]


def test_caption_of_nothing_but_the_trigger_matches_nothing() -> None:
    assert check_held_out(suite_of("{style}", "{style} a cat"), {"a.png": "zvq style"}, style=STYLE) == ()


def test_phrase_is_taken_out_as_whole_words_only() -> None:
    style = StylePhrases(trigger="art")

    assert check_held_out(suite_of("a party"), {"a.png": "a p y"}, style=style) == ()


def test_similarity_is_shared_over_all_words() -> None:
    assert word_set_similarity("a b c", "b c d") == pytest.approx(0.5)
    assert word_set_similarity("", "") == 0.0
