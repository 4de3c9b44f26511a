"""What a trigger does: style with it, without it, and with a meaningless word in its place."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorabench.metrics.reading import Missing
from lorabench.records.measurement import Metric

Floats = NDArray[np.float64]
Reading = Literal["works", "leaks", "always on", "weak", "undecided"]

TRIGGER_SHORTFALL: Final = Metric(
    name="trigger_shortfall",
    version=1,
    higher_is_better=False,
    unit="position",
    level="set",
    summary="what the trigger's effect on the style lacks to the whole way from control to training pictures",
)
STYLE_LEAK: Final = Metric(
    name="style_leak",
    version=1,
    higher_is_better=False,
    unit="position",
    level="set",
    summary="style without the trigger, between control (0) and training pictures (1)",
)
LEAST_EFFECT: Final = 0.25
"""Positions that a trigger must move the style."""
MOST_LEAK: Final = 0.5
"""Position up to which style without the trigger is no leak."""
LEAST_STYLE: Final = 0.5
"""Position under which the style is not learned."""
LEAST_CHANGE: Final = 0.1
"""Distances between seeds under which two pictures show that a word was not read."""
_LETTERS: Final = "bcdfghjklmnpqrstvwxz"
_COMMON: Final = frozenset(
    {
        "a",
        "an",
        "and",
        "art",
        "artwork",
        "at",
        "background",
        "by",
        "cartoon",
        "color",
        "colored",
        "colour",
        "comic",
        "design",
        "detailed",
        "digital",
        "drawing",
        "drawn",
        "flat",
        "for",
        "hand",
        "illustrated",
        "illustration",
        "image",
        "in",
        "ink",
        "line",
        "lines",
        "minimal",
        "minimalist",
        "of",
        "oil",
        "on",
        "painted",
        "painting",
        "paper",
        "pastel",
        "pencil",
        "photo",
        "photograph",
        "photography",
        "picture",
        "portrait",
        "poster",
        "print",
        "render",
        "rendering",
        "scene",
        "simple",
        "sketch",
        "style",
        "styled",
        "the",
        "to",
        "vector",
        "watercolor",
        "watercolour",
        "with",
    }
)
"""Words of style phrases that are no one's trigger."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """A number with its interval."""

    value: float
    low: float
    high: float


def rare_words(phrase: str, *, known: Collection[str] = ()) -> tuple[str, ...]:
    """Words of a trigger phrase that no other phrase uses: the trigger's own.

    >>> rare_words("a zvq drawing of")
    ('zvq',)

    Args:
        phrase: The trigger phrase.
        known: Other phrases (plain, neutral), whose words are ordinary ones.

    Returns:
        The words, in order, as they are written. All words that are no common ones; where the phrase holds nothing
        but common words, those that the other phrases lack.
    """
    ordinary = {word for text in known for word in _words(text.lower())}
    own = [word for word in _words(phrase) if word.lower() not in ordinary]
    rare = [word for word in own if word.lower() not in _COMMON]
    return tuple(dict.fromkeys(rare or own))


def placebo_word(word: str, *, avoid: Collection[str] = ()) -> str:
    """A meaningless word of the same length, always the same one for the same word.

    >>> placebo_word("zvq") == placebo_word("zvq"), len(placebo_word("zvq"))
    (True, 3)

    Args:
        word: The word to replace.
        avoid: Words that it must not be.
    """
    rng = np.random.default_rng([*b"placebo", *word.lower().encode()])
    taken = {word.lower(), *(other.lower() for other in avoid)}
    while True:
        drawn = "".join(_LETTERS[index] for index in rng.integers(len(_LETTERS), size=len(word)))
        if drawn not in taken:
            return drawn.upper() if word.isupper() else drawn


def placebo_phrase(phrase: str, *, words: Collection[str]) -> str | Missing:
    """The trigger phrase with its own words replaced by meaningless ones.

    Args:
        phrase: The trigger phrase.
        words: Words of it to replace.

    Returns:
        The placebo phrase; or why there is none.
    """
    replaced = {word: placebo_word(word, avoid=_words(phrase)) for word in words if word in _words(phrase)}
    if not replaced:
        return Missing(
            f"a placebo needs a word of the trigger phrase to replace; {phrase!r} has none of its own. "
            "Name it with --trigger-word."
        )
    pattern = "|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in sorted(replaced, key=len, reverse=True))
    return re.sub(pattern, lambda found: replaced[found.group()], phrase)


def trigger_effect(with_trigger: ArrayLike, without: ArrayLike) -> Floats:
    """Style that the trigger adds, in positions.

    >>> float(trigger_effect(0.9, 0.2).round(3))
    0.7
    """
    return np.asarray(np.asarray(with_trigger, dtype=np.float64) - np.asarray(without, dtype=np.float64))


def picture_change(with_trigger: ArrayLike, between_seeds: ArrayLike) -> Floats:
    """How much the trigger changes a picture, in distances between pictures of two seeds.

    >>> float(picture_change(0.02, 0.4).round(3))
    0.05
    """
    return np.asarray(np.asarray(with_trigger, dtype=np.float64) / np.asarray(between_seeds, dtype=np.float64))


def read_trigger(effect: Bounds, *, candidate: Bounds, neutral: Bounds) -> Reading:
    """Say what a trigger does, where the intervals decide it.

    Args:
        effect: Style with the trigger less style without, in positions.
        candidate: Style with the trigger.
        neutral: Style without it.

    Returns:
        `works`: it moves the style, and without it there is little. `leaks`: it moves the style, and without it there
        is much already. `always on`: it moves nothing, and the style is there without it. `weak`: it moves nothing,
        and there is little style with it. `undecided`: the intervals allow several of these.
    """
    moves, still = effect.low > LEAST_EFFECT, effect.high < LEAST_EFFECT
    much, little = neutral.low > MOST_LEAK, neutral.high < MOST_LEAK
    if moves and little:
        return "works"
    if moves and much:
        return "leaks"
    if still and much:
        return "always on"
    if still and candidate.high < LEAST_STYLE:
        return "weak"
    return "undecided"


def _words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text)
