"""A suite of held-out prompts: cases with typed checks and foils.

The `{style}` slot of a prompt takes the trigger phrase in the candidate's arm, the plain style phrase in the control
arm and the neutral phrase (usually nothing) in the neutral arms.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Final, Literal, Self

from pydantic import Field, PositiveInt, StringConstraints, model_validator

from lorabench.records.record import Identifier, Record

SUITE_SCHEMA_VERSION: Final = 1
STYLE_SLOT = "{style}"

Family = Literal[
    "spatial",
    "multi_subject",
    "attribute_binding",
    "anatomy",
    "counting",
    "long_description",
    "palette",
    "sparse_scene",
    "subject_diversity",
    "trigger",
    "memorisation",
]
"""What a case tests."""

Relation = Literal["left of", "right of", "above", "below"]
FoilKind = Literal["object", "color", "shape", "swap", "count", "relation", "attribute"]
"""In what a foil differs from its prompt; `attribute` is any other quality (size, material, pose, light)."""
Text = Annotated[str, StringConstraints(min_length=1, max_length=4000)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=80, to_lower=True, strip_whitespace=True)]
HexColor = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]
Degrees = Annotated[float, Field(ge=0.0, le=360.0)]


class ObjectCheck(Record):
    """At least `count` objects of the class (of the colour, if one is given) are there."""

    type: Literal["object"] = "object"
    label: Label
    color: Label | None = None
    count: PositiveInt = 1


class ExcludeCheck(Record):
    """Fewer than `count` objects of the class are there."""

    type: Literal["exclude"] = "exclude"
    label: Label
    count: PositiveInt = 1


class ColorCheck(Record):
    """Of the `count` best detections of the class, all have the colour."""

    type: Literal["color"] = "color"
    label: Label
    color: Label
    count: PositiveInt = 1


class RelationCheck(Record):
    """The subject stands in the relation to the object, by the centres and sizes of their boxes."""

    type: Literal["relation"] = "relation"
    subject: Label
    relation: Relation
    object: Label
    subject_color: Label | None = None
    object_color: Label | None = None
    rule: Literal["geneval"] = "geneval"


class CountCheck(Record):
    """Exactly `count` objects of the class (of the colour, if one is given) are there."""

    type: Literal["count"] = "count"
    label: Label
    count: PositiveInt
    color: Label | None = None


class QuestionCheck(Record):
    """A question to a VQA judge, with the expected answer; asked only if its parents were answered as expected."""

    type: Literal["question"] = "question"
    text: Text
    expect: Annotated[str, StringConstraints(min_length=1, to_lower=True)] = "yes"
    parents: tuple[int, ...] = ()
    """Indices of earlier question checks of the same case."""


class PaletteCheck(Record):
    """The colours asked for: hue ranges, one hue, no hue, or a list of colours. Exactly one of the fields is set."""

    type: Literal["palette"] = "palette"
    hues: tuple[tuple[Degrees, Degrees], ...] | None = None
    """OKLCh hue ranges in degrees; a range may wrap around 360 (`[340, 20]`)."""
    monochrome: Literal["grey", "single_hue"] | None = None
    colors: tuple[HexColor, ...] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in ("hues", "monochrome", "colors") if getattr(self, name) is not None]
        if len(given) != 1:
            msg = f"a palette check states exactly one of hues, monochrome, colors; found {given or 'none'}. Keep one."
            raise ValueError(msg)
        return self


class NoExtraCheck(Record):
    """No object of a class outside `allowed` is there."""

    type: Literal["no_extra"] = "no_extra"
    allowed: tuple[Label, ...]


class TextCheck(Record):
    """The lettering reads `text`; None means: no lettering at all."""

    type: Literal["text"] = "text"
    text: Text | None = None


class AnatomyCheck(Record):
    """Each of the `subjects` figures has `parts` parts (a hand five fingers, a person four limbs)."""

    type: Literal["anatomy"] = "anatomy"
    label: Label
    parts: PositiveInt | None = None
    """Expected parts; None where only detectability is read (real hands)."""
    subjects: PositiveInt = 1


Check = Annotated[
    ObjectCheck
    | ExcludeCheck
    | ColorCheck
    | RelationCheck
    | CountCheck
    | QuestionCheck
    | PaletteCheck
    | NoExtraCheck
    | TextCheck
    | AnatomyCheck,
    Field(discriminator="type"),
]


class Foil(Record):
    """A sentence that is false of a right picture and differs from the prompt in one thing."""

    kind: FoilKind
    prompt: Text


class Source(Record):
    """Where a suite or a case comes from."""

    name: Text
    licence: Text
    url: str | None = None
    sha256: str | None = None
    line: PositiveInt | None = None


FROM_CAPTIONS: Final = ("verbatim", "paraphrase")
"""Tags of `memorisation` cases whose prompt is a training caption, or says one otherwise."""


class Case(Record):
    """One prompt with what must be seen in its pictures."""

    id: Identifier
    family: Family
    prompt: Text
    checks: tuple[Check, ...] = ()
    foils: tuple[Foil, ...] = ()
    tags: tuple[Identifier, ...] = ()
    golden: bool = False
    """A golden case must hold by itself; no averaging."""
    source: Source | None = None

    @property
    def caption_kind(self) -> str | None:
        """`verbatim` or `paraphrase` where the prompt was made from a training caption; None for a novel prompt.

        Such cases are exempt from the held-out check and decide no gate.
        """
        if self.family != "memorisation":
            return None
        return next((tag for tag in FROM_CAPTIONS if tag in self.tags), None)

    def render(self, style: str) -> str:
        """The prompt with the style phrase in its slot."""
        return fill_style(self.prompt, style)


class Suite(Record):
    """Held-out prompts with common seeds."""

    schema_version: Literal[1] = SUITE_SCHEMA_VERSION
    name: Identifier
    version: PositiveInt = 1
    tier: Literal["screen", "full"] = "full"
    """A screen is judged pooled only; a full suite may gate each family."""
    description: str = ""
    licence: Text
    source: Source | None = None
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], Field(min_length=1)]
    cases: Annotated[tuple[Case, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        if repeated := _repeated(case.id for case in self.cases):
            msg = f"case ids must be unique; found {', '.join(repeated)} more than once. Rename one of each."
            raise ValueError(msg)
        if repeated := _repeated(str(seed) for seed in self.seeds):
            msg = f"seeds must be unique; found {', '.join(repeated)} more than once. Remove the repetition."
            raise ValueError(msg)
        return self

    @property
    def families(self) -> tuple[str, ...]:
        """Families in order of appearance."""
        return tuple(dict.fromkeys(case.family for case in self.cases))

    @property
    def novel_cases(self) -> frozenset[str]:
        """Ids of the cases that were not made from training captions: those that decide."""
        return frozenset(case.id for case in self.cases if case.caption_kind is None)


def fill_style(template: str, style: str) -> str:
    """Put the style phrase into the slot and mend the blanks and commas an empty phrase leaves behind."""
    text = template.replace(STYLE_SLOT, style.strip())
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s+,", ",", text)
    text = re.sub(r"(,\s*){2,}", ", ", text)
    return text.strip(" ,")


def _repeated(values: object) -> list[str]:
    return [value for value, n in Counter(values).items() if n > 1]  # type: ignore[call-overload]
