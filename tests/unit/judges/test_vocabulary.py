"""The list of things nobody asked for."""

import pytest

from lorabench.judges.vocabulary import Vocabulary, VocabularyError, read_vocabulary


def test_shipped_list_holds_three_hundred_things_in_singular_and_lower_case() -> None:
    nouns = read_vocabulary("nouns").nouns

    assert 300 <= len(nouns) <= 400
    assert all(noun == noun.lower().strip() for noun in nouns)
    assert {"chair", "window", "logo", "letters", "person"} <= set(nouns)


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("one wooden chair alone in a bare room", {"chair", "window", "door", "wall"}),
        ("two ponies in a field", {"horse"}),
        ("a poodle", {"dog"}),
        ("an animal asleep", {"dog", "cat", "fox"}),
        ("a lone sailing boat on a calm sea", {"boat", "sea", "ship", "sail"}),
        ("a T-shirt on a line", {"shirt"}),
    ],
)
def test_words_of_the_prompt_their_kinds_and_what_they_belong_to_are_asked_for(prompt: str, asked: set[str]) -> None:
    vocabulary = read_vocabulary("nouns")

    assert not asked & vocabulary.unasked(prompt)
    assert "helicopter" in vocabulary.unasked(prompt)


def test_part_of_a_word_does_not_ask_for_a_thing() -> None:
    vocabulary = Vocabulary("v", {"car": frozenset(), "cat": frozenset()})

    assert vocabulary.unasked("a carpet and a category") == {"car", "cat"}
    assert vocabulary.unasked("Cars, and cats!") == frozenset()


def test_file_of_ones_own(tmp_path) -> None:
    file = tmp_path / "things.txt"
    file.write_text("# mine\nLogo: Emblem\n\nchair\n", encoding="utf-8")

    vocabulary = read_vocabulary(str(file))

    assert vocabulary.nouns == ("chair", "logo")
    assert vocabulary.unasked("an emblem") == {"chair"}
    assert vocabulary.digest != read_vocabulary("nouns").digest


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("chair: a: b\n", "line 1 is 'chair: a: b'"),
        ("ok\n, chair\n", "line 2 is ', chair'"),
        ("# nothing\n", "it names nothing"),
        (None, "it cannot be read"),
    ],
)
def test_unreadable_lists_are_refused(tmp_path, content: str | None, problem: str) -> None:
    file = tmp_path / "things.txt"
    if content is not None:
        file.write_text(content, encoding="utf-8")

    with pytest.raises(VocabularyError, match=r"\[judges\] vocabulary must be 'nouns', empty, or a file") as refused:
        read_vocabulary(str(file))
    assert problem in str(refused.value)
