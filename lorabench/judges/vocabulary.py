"""What a detector looks for that nobody asked for: a list of things, and the words of a prompt that ask for each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from lorabench.errors import SpecError

SHIPPED: Final = "nouns"
_LINE: Final = re.compile(r"^(?P<noun>[^:#,]+)(?::(?P<words>[^:#]*))?$")

_WORD: Final = re.compile(r"[\w'-]+")


class VocabularyError(SpecError):
    """A vocabulary that cannot be read."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(
            f"[judges] vocabulary must be '{SHIPPED}', empty, or a file with one `noun: word, word` a line; "
            f"{source}: {problem}."
        )
        self.source, self.problem = source, problem


@dataclass(frozen=True)
class Vocabulary:
    """Things to look for.

    Attributes:
        name: Where it comes from.
        words: Each thing to the other words of a prompt that ask for it: synonyms, kinds of it, what it is a kind of.
    """

    name: str
    words: Mapping[str, frozenset[str]]

    @property
    def nouns(self) -> tuple[str, ...]:
        """The things, sorted."""
        return tuple(sorted(self.words))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over things and words."""
        lines = (f"{noun}: {', '.join(sorted(self.words[noun]))}" for noun in self.nouns)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def unasked(self, prompt: str) -> frozenset[str]:
        """The things that no word of a prompt asks for, in singular or plural.

        >>> Vocabulary("example", {"dog": frozenset({"animal"}), "box": frozenset()}).unasked("two boxes")
        frozenset({'dog'})
        """
        padded = " ".join(["", *_WORD.findall(prompt.lower()), ""])
        return frozenset(
            noun for noun, words in self.words.items() if not any(_is_named(word, padded) for word in (noun, *words))
        )


def read_vocabulary(source: str) -> Vocabulary:
    """Read the shipped list of things, or a file like it.

    Args:
        source: `nouns`, or a path. A line is `noun: word, word`; what follows `#` at its start is a remark.

    Raises:
        VocabularyError: The file cannot be read, has a line of another form, or names nothing.
    """
    path = Path(__file__).with_name("nouns.txt") if source == SHIPPED else Path(source)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VocabularyError(source, f"it cannot be read ({error.__class__.__name__})") from error
    words: dict[str, frozenset[str]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.match(line.strip().lower())
        if found is None:
            raise VocabularyError(source, f"line {number} is {line.strip()!r}")
        others = (word.strip() for word in (found["words"] or "").split(","))
        words[found["noun"].strip()] = frozenset(word for word in others if word)
    if not words:
        raise VocabularyError(source, "it names nothing")
    return Vocabulary(source, words)


def _is_named(word: str, padded: str) -> bool:
    """Whether a word, or its regular plural, is in a text of lower-case words with a blank around each."""
    forms = [word, f"{word}s", f"{word}es"]
    if word.endswith("y"):
        forms.append(f"{word[:-1]}ies")
    return any(f" {form} " in padded for form in forms)
