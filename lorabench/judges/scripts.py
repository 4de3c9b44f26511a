"""Which script a piece of text is written in, by the Unicode names of its letters."""

from __future__ import annotations

import unicodedata
from collections import Counter
from typing import Final

UNKNOWN: Final = "unknown"
"""Stands for the script of what could not be read."""
_BY_NAME: Final = {
    "LATIN": "Latin",
    "FULLWIDTH": "Latin",
    "CYRILLIC": "Cyrillic",
    "GREEK": "Greek",
    "COPTIC": "Greek",
    "HEBREW": "Hebrew",
    "ARABIC": "Arabic",
    "DEVANAGARI": "Devanagari",
    "BENGALI": "Bengali",
    "TAMIL": "Tamil",
    "THAI": "Thai",
    "HANGUL": "Hangul",
    "HIRAGANA": "Kana",
    "KATAKANA": "Kana",
    "HALFWIDTH": "Kana",
    "KATAKANA-HIRAGANA": "Kana",
    "CJK": "Han",
    "IDEOGRAPHIC": "Han",
    "ARMENIAN": "Armenian",
    "GEORGIAN": "Georgian",
    "ETHIOPIC": "Ethiopic",
}
"""First word of a letter's Unicode name to its script."""


def script_of(text: str) -> str:
    """The script most of the letters belong to.

    >>> script_of("ХЛЕБ 24"), script_of("10-18")
    ('Cyrillic', 'unknown')

    Args:
        text: Any text; digits, blanks and marks do not count.

    Returns:
        Name of the script; text that holds Kana is Kana even where Han prevails, as Japanese is written in both.
        `unknown` where no letter is of a known script.
    """
    names = (unicodedata.name(letter, "").split(" ")[0] for letter in text if letter.isalpha())
    counts = Counter(_BY_NAME[name] for name in names if name in _BY_NAME)
    if not counts:
        return UNKNOWN
    best = counts.most_common(1)[0][0]
    return "Kana" if best == "Han" and counts["Kana"] else best
