"""Held-out prompts stay held out: no prompt of a suite may be a caption of the training set."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lorabench.errors import SpecError
from lorabench.records.plan import StylePhrases
from lorabench.records.suite import Suite

NEAR_DUPLICATE: Final = 0.9
"""Jaccard similarity of word sets from which a prompt and a caption are called near duplicates."""


@dataclass(frozen=True)
class Overlap:
    """A prompt and the caption it is too close to.

    Attributes:
        case: Id of the case.
        line: Line of the case in its suite file, where known.
        training_file: Name of the training picture.
        caption: Its caption, as written.
        similarity: Shared words over all words of both, 0 to 1.
    """

    case: str
    line: int | None
    training_file: str
    caption: str
    similarity: float

    def __str__(self) -> str:
        """One line for a message."""
        line = f" (line {self.line})" if self.line is not None else ""
        return f"{self.case}{line} and the caption of {self.training_file}: {self.caption!r}"


class HeldOutError(SpecError):
    """Prompts of the suite were trained on."""

    def __init__(self, suite: str, overlaps: Sequence[Overlap]) -> None:
        listed = "\n".join(f"  {overlap}" for overlap in overlaps)
        super().__init__(
            f"prompts of suite {suite} must not be training captions; found {len(overlaps)}. Reword these cases, "
            f"or leave them out:\n{listed}"
        )
        self.overlaps = tuple(overlaps)


def check_held_out(
    suite: Suite,
    captions: Mapping[str, str],
    *,
    style: StylePhrases,
    line_of: Mapping[str, int] | None = None,
) -> tuple[Overlap, ...]:
    """Refuse a suite whose prompts equal training captions; return those that nearly do.

    Two sentences are equal if nothing but case, punctuation, white space and the style phrases tells them apart. A
    sentence of which nothing is left (a caption that is only the trigger) equals none. Near duplicates share at least
    nine tenths of their words in any order, which does not make them the same: "a cat left of a dog" and "a dog left
    of a cat" are near duplicates.

    Cases of family `memorisation` that are tagged as made from captions are exempt: they ask for what was trained on,
    and decide no gate.

    Args:
        suite: The prompts.
        captions: Training file name to caption.
        style: The phrases that are ignored on both sides.
        line_of: Case id to line, for the message.

    Returns:
        Near duplicates, in the order of the suite; the nearest caption of each case.

    Raises:
        HeldOutError: At least one prompt equals a caption.
    """
    phrases = _phrases(style)
    trained = [(name, caption, _words(caption, phrases)) for name, caption in captions.items()]
    trained = [entry for entry in trained if entry[2]]
    equal, near = [], []
    for case in suite.cases:
        if case.caption_kind is not None:
            continue
        words = _words(case.render(""), phrases)
        best = max(
            (Overlap(case.id, (line_of or {}).get(case.id), name, caption, _likeness(words, theirs))
             for name, caption, theirs in trained),
            key=lambda overlap: overlap.similarity,
            default=None,
        )  # fmt: skip
        same = next((entry for entry in trained if entry[2] == words), None)
        if same is not None:
            equal.append(Overlap(case.id, (line_of or {}).get(case.id), same[0], same[1], 1.0))
        elif best is not None and best.similarity >= NEAR_DUPLICATE:
            near.append(best)
    if equal:
        raise HeldOutError(suite.name, equal)
    return tuple(near)


def same_sentence(first: str, second: str, *, style: StylePhrases) -> bool:
    """Whether nothing but case, punctuation, white space and style phrases tells two sentences apart."""
    phrases = _phrases(style)
    return _words(first, phrases) == _words(second, phrases)


def word_set_similarity(first: str, second: str) -> float:
    """Shared words over all words of two sentences (Jaccard), 0 to 1; case and punctuation do not matter.

    >>> word_set_similarity("A cat left of a dog.", "a dog left of a cat")
    1.0
    """
    return _likeness(_words(first, ()), _words(second, ()))


def _likeness(first: tuple[str, ...], second: tuple[str, ...]) -> float:
    one, other = frozenset(first), frozenset(second)
    return len(one & other) / len(one | other) if one | other else 0.0


def _phrases(style: StylePhrases) -> tuple[tuple[str, ...], ...]:
    """The style phrases as words, longest first."""
    found = {_words(phrase, ()) for phrase in (style.trigger, style.plain, style.neutral)} - {()}
    return tuple(sorted(found, key=len, reverse=True))


def _words(sentence: str, phrases: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Words without case, punctuation and style phrases."""
    text = unicodedata.normalize("NFKC", sentence).casefold()
    text = "".join(" " if unicodedata.category(letter).startswith("P") else letter for letter in text)
    joined = f" {' '.join(text.split())} "
    for phrase in phrases:
        joined = re.sub(rf"(?<= ){re.escape(' '.join(phrase))}(?= )", " ", joined)
    return tuple(joined.split())
