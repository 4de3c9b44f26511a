"""A suite with prompts made from the training captions beside the novel ones: how far does memory reach?

A memorised picture comes back first for its own caption, word for word; then for the same thing said otherwise; last
for novel prompts. Only the novel prompts decide gates. The others are upper bounds and early warnings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lorabench.errors import SpecError
from lorabench.records.plan import StylePhrases
from lorabench.records.suite import STYLE_SLOT, Case, Suite
from lorabench.storage.heldout import same_sentence

CONVERSES: Final = (
    ("left of", "right of"),
    ("to the left of", "to the right of"),
    ("on the left of", "on the right of"),
    ("above", "below"),
    ("over", "under"),
    ("in front of", "behind"),
    ("next to", "next to"),
    ("beside", "beside"),
    ("near", "near"),
    ("and", "and"),
)
"""Words between two things, and those that say the same of the two in the other order."""
QUALITIES: Final = frozenset((
    "small", "large", "big", "tiny", "huge", "little", "tall", "short", "long", "wide", "narrow", "old", "young",
    "new", "beautiful", "pretty", "cute", "simple", "detailed", "bright", "dark", "light", "pale", "deep", "vivid",
    "soft", "warm", "cold", "round", "flat", "thin", "thick", "shiny", "quiet", "busy", "happy", "sad",
))  # fmt: skip
COLORS: Final = frozenset((
    "red", "orange", "yellow", "green", "blue", "purple", "violet", "pink", "brown", "black", "white", "grey",
    "gray", "cyan", "magenta", "teal", "golden", "silver", "beige", "turquoise",
))  # fmt: skip
_ARTICLE: Final = re.compile(r"\b(an?)(\s+)(\w)", re.IGNORECASE)


class NoCaptionsError(SpecError):
    """There is nothing to make prompts from."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"prompts from captions need captions; found {found}. Name the folder the adapter was trained on "
            "(--training-folder), with captions.jsonl or a text file beside each picture."
        )


@dataclass(frozen=True, slots=True)
class CaptionSuite:
    """A suite with prompts from captions.

    Attributes:
        suite: Novel cases first, as they were, then verbatim and paraphrased ones.
        n_verbatim: Cases that say a caption word for word.
        n_paraphrased: Cases that say one otherwise.
    """

    suite: Suite
    n_verbatim: int
    n_paraphrased: int


def caption_suite(captions: Mapping[str, str], *, beside: Suite, style: StylePhrases, n_captions: int) -> CaptionSuite:
    """Put prompts made from training captions beside a suite's novel ones.

    Args:
        captions: Training file name to caption.
        beside: The held-out suite; its cases and seeds stay as they are.
        style: Its trigger phrase becomes the slot `{style}`, so that the control is asked in plain words.
        n_captions: Captions that are used, evenly spread over the list; fewer where there are not as many.

    Returns:
        The suite. A caption that no rule can say otherwise has no paraphrase.

    Raises:
        NoCaptionsError: There are no captions.
        ValueError: `n_captions` under 1.
    """
    if n_captions < 1:
        msg = f"n_captions must be at least 1, got {n_captions}. Leave the suite as it is to use none."
        raise ValueError(msg)
    different = _different(list(captions.values()), style)
    if not different:
        raise NoCaptionsError("none" if not captions else "only style phrases")
    chosen = _spread(different, n_captions)
    verbatim = [_case("verbatim", number, _slotted(text, style)) for number, text in enumerate(chosen, 1)]
    others = [*different, *(case.render("") for case in beside.cases)]
    paraphrased = []
    for number, text in enumerate(chosen, 1):
        prompt = paraphrase(_slotted(text, style))
        if prompt is not None and not any(same_sentence(prompt, other, style=style) for other in others):
            paraphrased.append(_case("paraphrase", number, prompt))
            others.append(prompt)
    suite = Suite(
        name=f"{beside.name}-and-captions",
        version=beside.version,
        tier=beside.tier,
        description=f"{beside.name}, and prompts made from training captions that decide no gate.",
        licence=beside.licence,
        seeds=beside.seeds,
        cases=(*beside.cases, *verbatim, *paraphrased),
    )
    return CaptionSuite(suite, len(verbatim), len(paraphrased))


def paraphrase(prompt: str) -> str | None:
    """Say a prompt otherwise, by rules: things in the other order, else qualities left out, else colours.

    >>> paraphrase("{style} a red circle left of a small blue square")
    '{style} a blue square right of a red circle'
    >>> paraphrase("{style} an old house, a garden, evening light")
    '{style} evening light, a garden, a house'
    >>> paraphrase("{style} four red triangles")
    '{style} four triangles'

    Args:
        prompt: With or without the slot `{style}`, which stays where it is.

    Returns:
        The paraphrase; None where no rule changes the prompt.
    """
    start, middle, end = _around_slot(prompt)
    clauses = [clause.strip() for clause in middle.split(",") if clause.strip()]
    if not clauses:
        return None
    turned = list(reversed(clauses)) if len(clauses) > 1 else [_turned(clauses[0])]
    told = ", ".join(kept for clause in turned if (kept := _without(clause, QUALITIES)))
    if told.casefold() == ", ".join(clauses).casefold():
        told = ", ".join(kept for clause in turned if (kept := _without(clause, COLORS)))
    if not told or told.casefold() == ", ".join(clauses).casefold():
        return None
    return f"{start}{told}{end}"


def _around_slot(prompt: str) -> tuple[str, str, str]:
    """What is said, and the slot before or behind it."""
    head, slot, tail = prompt.partition(STYLE_SLOT)
    if not slot:
        return "", prompt.strip(" ."), ""
    if head.strip(" ,"):
        return "", f"{head} {tail}".strip(" ,."), f", {STYLE_SLOT}"
    comma = "," if tail.lstrip().startswith(",") else ""
    return f"{STYLE_SLOT}{comma} ", tail.strip(" ,."), ""


def _turned(clause: str) -> str:
    """Two things in the other order, with the words between them turned round; itself where there are not just two."""
    found = []
    for one, other in CONVERSES:
        for words, converse in {(one, other), (other, one)}:
            parts = re.split(rf"\s+{words}\s+", clause, flags=re.IGNORECASE)
            if len(parts) == 2 and all(parts):
                found.append((len(words), f"{parts[1]} {converse} {parts[0]}"))
    return max(found)[1] if found else clause


def _without(clause: str, words: frozenset[str]) -> str:
    """The clause without some adjectives, and with its articles mended; itself where nothing would be left.

    Its last word stays: there the same word is a noun (`evening light`).
    """
    *others, last = clause.split()
    kept = [*(word for word in others if word.strip(".;:").casefold() not in words), last]
    if len(kept) == len(clause.split()) or all(word.casefold() in ("a", "an", "the", "of") for word in kept):
        return clause
    return _ARTICLE.sub(_mended, " ".join(kept))


def _mended(found: re.Match[str]) -> str:
    article = "an" if found[3].casefold() in "aeiou" else "a"
    return f"{article.capitalize() if found[1][0].isupper() else article}{found[2]}{found[3]}"


def _slotted(caption: str, style: StylePhrases) -> str:
    """The caption with its trigger phrase turned into the slot, once."""
    trigger = style.trigger.strip()
    if not trigger:
        return caption.strip()
    return re.sub(re.escape(trigger), lambda _: STYLE_SLOT, caption.strip(), count=1, flags=re.IGNORECASE)


def _different(captions: Sequence[str], style: StylePhrases) -> list[str]:
    """Captions that say something beside the style, each once."""
    kept: list[str] = []
    for caption in captions:
        empty = same_sentence(caption, "", style=style)
        if not empty and not any(same_sentence(caption, other, style=style) for other in kept):
            kept.append(caption)
    return kept


def _spread(captions: Sequence[str], n: int) -> list[str]:
    """Up to n captions, evenly spread."""
    n = min(n, len(captions))
    return [captions[index * len(captions) // n] for index in range(n)]


def _case(kind: str, number: int, prompt: str) -> Case:
    return Case(id=f"captions-{kind}-{number:03d}", family="memorisation", prompt=prompt, tags=(kind,))
