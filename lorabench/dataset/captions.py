"""What captions say, and leave out: trigger, words, colours."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lorabench.dataset.color_words import color_classes

VAGUE: Final = 2
"""Words that say something, under which a caption is vague."""
_WORD: Final = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_GRAMMAR: Final = (
    "a an the and or of in on at to with without by for from is are was it its this that these those as into"
)
_GENERAL: Final = (
    "over there here very some any one picture image photo photograph drawing painting illustration artwork art style "
    "scene thing things something object objects subject showing shows shown depicting featuring "
    "masterpiece best quality high detailed highres absurdres"
)
_FILLERS: Final = frozenset(f"{_GRAMMAR} {_GENERAL}".split())
"""Words that say nothing of what is there."""


@dataclass(frozen=True, slots=True)
class CaptionReading:
    """One caption, taken apart.

    Attributes:
        words: Lower case, in order, the trigger left out.
        content: Those that say something.
        has_trigger: Whether the trigger stands there, or at least those of its words that say something; None where
            none is known.
        colors: For each colour word the classes it may stand for.
    """

    words: tuple[str, ...]
    content: tuple[str, ...]
    has_trigger: bool | None
    colors: tuple[frozenset[str], ...]

    @property
    def is_vague(self) -> bool:
        """Whether it says next to nothing."""
        return len(self.content) < VAGUE


def read_caption(text: str, *, trigger: str | None) -> CaptionReading:
    """Take a caption apart.

    >>> read_caption("A zvq drawing of a red circle", trigger="a zvq drawing of").words
    ('a', 'red', 'circle')

    Args:
        text: The caption.
        trigger: The phrase that calls the style; None where none is known.
    """
    words = _words(text)
    phrase = _words(trigger or "")
    telling = frozenset(word for word in phrase if word not in _FILLERS) or frozenset(phrase)
    rest = _without(words, phrase)
    if len(rest) == len(words):  # not as a phrase: its telling words may stand apart, or alone
        rest = tuple(word for word in words if word not in telling)
    has_trigger = telling <= frozenset(words) if phrase else None
    content = tuple(word for word in rest if word not in _FILLERS)
    return CaptionReading(rest, content, has_trigger, color_classes(frozenset(rest)))


def caption_facts(captions: Sequence[CaptionReading | None]) -> tuple[dict[str, float], dict[str, str]]:
    """Facts of all captions of a set.

    Args:
        captions: One per picture; None where there is none.

    Returns:
        Name to value, and name to the reason why there is no value.
    """
    found: dict[str, float] = {"caption_missing_share": sum(one is None for one in captions) / len(captions)}
    there = [one for one in captions if one is not None]
    if not there:
        why = "no picture has a caption."
        names = ("trigger_share", "words", "content_words", "vague_share", "identical_share", "color_share")
        return found, {f"caption_{name}": why for name in (*names, "vocabulary", "constant_words")}
    texts = Counter(one.words for one in there)
    found |= {
        "caption_words": float(np.median([len(one.words) for one in there])),
        "caption_content_words": float(np.median([len(one.content) for one in there])),
        "caption_vague_share": sum(one.is_vague for one in there) / len(there),
        "caption_identical_share": 1.0 - len(texts) / len(there),
        "caption_color_share": sum(bool(one.colors) for one in there) / len(there),
        "caption_vocabulary": float(len({word for one in there for word in one.content})),
        "caption_constant_words": float(len(constant_words(there))),
    }
    if there[0].has_trigger is None:
        return found, {"caption_trigger_share": "no trigger is named; give --trigger."}
    return found | {"caption_trigger_share": sum(bool(one.has_trigger) for one in there) / len(there)}, {}


def constant_words(captions: Sequence[CaptionReading]) -> tuple[str, ...]:
    """Words outside the trigger that stand in every caption, sorted; fewer than two captions have none."""
    if len(captions) < 2:
        return ()
    common = frozenset(captions[0].content).intersection(*(one.content for one in captions[1:]))
    return tuple(sorted(common))


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.casefold()))


def _without(words: tuple[str, ...], phrase: tuple[str, ...]) -> tuple[str, ...]:
    """The words without the first place where the phrase stands."""
    n = len(phrase)
    for start in range(len(words) - n + 1) if n else ():
        if words[start : start + n] == phrase:
            return words[:start] + words[start + n :]
    return words
