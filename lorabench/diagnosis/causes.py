"""The table of causes: what speaks for each, what against, how to find out, what to do. Data in `causes.yaml`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Final

from pydantic import ConfigDict, Field, FiniteFloat, PositiveFloat, StringConstraints, ValidationError, model_validator

from lorabench.errors import SpecError
from lorabench.records.diagnosis import Effort, FactName, Fix
from lorabench.records.record import Identifier, Record
from lorabench.storage.validation import Problem, problems_of
from lorabench.storage.yaml_reading import YamlDocument, YamlProblem, decode, parse

FILE: Final = "causes.yaml"
EFFORTS: Final[tuple[Effort, ...]] = ("setting", "training", "data")

_Sentence = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class CausesFileError(SpecError):
    """The table of causes cannot be used; the message lists every problem with file, line and key."""

    def __init__(self, path: str, problems: tuple[Problem, ...]) -> None:
        self.path, self.problems = path, problems
        listed = "\n".join(f"  {path}:{one.line or 1}: {one.key}: {one.words}" for one in problems)
        super().__init__(f"a table of causes must be valid; found {len(problems)} wrong. Correct each:\n{listed}")


class Condition(Record):
    """A question to one fact, and what its answers weigh."""

    fact: FactName
    words: tuple[str, ...] = Field(default=(), alias="is")
    """Words, one of which the fact must be."""
    at_least: FiniteFloat | None = None
    at_most: FiniteFloat | None = None
    weight: PositiveFloat
    """Of a fact that meets the condition."""
    otherwise: Annotated[float, Field(ge=0.0)] = 0.0
    """Taken away where the fact is known and does not meet it."""

    model_config = ConfigDict(populate_by_name=True)

    @model_validator(mode="after")
    def _asks_something(self) -> Condition:
        if bool(self.words) == (self.at_least is not None or self.at_most is not None):
            msg = "a condition must ask for words (`is`) or for a range (`at_least`, `at_most`). Give one of them."
            raise ValueError(msg)
        return self

    def holds(self, value: float | str) -> bool:
        """Whether a fact of this value meets the condition."""
        if self.words:
            return value in self.words
        if isinstance(value, str):
            return False
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    @property
    def text(self) -> str:
        """As a reader says it: `audit.n_pictures at most 12`."""
        if self.words:
            return f"{self.fact} is {' or '.join(self.words)}"
        parts = [f"at least {self.at_least:g}"] if self.at_least is not None else []
        parts += [f"at most {self.at_most:g}"] if self.at_most is not None else []
        return f"{self.fact} {' and '.join(parts)}"


class Cause(Record):
    """One thing that can be wrong with a training, its data, its file or the way it is used."""

    id: Identifier
    name: _Sentence
    because: _Sentence
    prior: FiniteFloat = -1.0
    """Score before any fact: how much it takes to name this cause."""
    symptoms: Annotated[tuple[Condition, ...], Field(min_length=1)]
    """What is seen; a cause is named only where one of them holds."""
    evidence: tuple[Condition, ...] = ()
    """What makes it likelier: data, settings, how things came about."""
    against: tuple[Condition, ...] = ()
    """What speaks against it; weights are taken away."""
    covers: tuple[Identifier, ...] = ()
    """Causes whose findings are part of this one, and are not told a second time."""
    fixes: Annotated[tuple[Fix, ...], Field(min_length=1)]
    sources: Annotated[tuple[_Sentence, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _easiest_first(self) -> Cause:
        order = [EFFORTS.index(fix.effort) for fix in self.fixes]
        if order != sorted(order):
            msg = f"fixes must stand in the order {', '.join(EFFORTS)}; found another. Put the easiest first."
            raise ValueError(msg)
        return self

    @property
    def conditions(self) -> Iterator[Condition]:
        """All of them."""
        yield from (*self.symptoms, *self.evidence, *self.against)


class CauseTable(Record):
    """All causes, and how facts that are missing can be had."""

    measures: dict[str, _Sentence]
    """Name of a fact, or a pattern such as `audit.*`, to what has to be done to know it."""
    causes: Annotated[tuple[Cause, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _whole(self) -> CauseTable:
        ids = [cause.id for cause in self.causes]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            msg = f"ids of causes must be unique; found {', '.join(twice)} twice. Rename one."
            raise ValueError(msg)
        strangers = sorted({name for cause in self.causes for name in cause.covers} - set(ids))
        if strangers:
            msg = f"`covers` must name causes of the table; found {', '.join(strangers)}. Correct the name."
            raise ValueError(msg)
        untold = sorted({c.fact for cause in self.causes for c in cause.conditions if self._pattern(c.fact) is None})
        if untold:
            msg = f"`measures` must say how each fact is measured; found nothing for {', '.join(untold)}. Add it."
            raise ValueError(msg)
        return self

    def measure_of(self, fact: str) -> str:
        """What has to be done to know a fact."""
        pattern = self._pattern(fact)
        return "" if pattern is None else self.measures[pattern]

    def _pattern(self, fact: str) -> str | None:
        """The longest pattern that fits."""
        return max((one for one in self.measures if fnmatchcase(fact, one)), key=len, default=None)


@dataclass(frozen=True, slots=True)
class LoadedCauses:
    """The table, and the digest of the file it came from."""

    table: CauseTable
    digest: str


@cache
def shipped_causes() -> LoadedCauses:
    """The table that comes with lorabench."""
    raw = resources.files("lorabench.diagnosis").joinpath(FILE).read_bytes()
    return LoadedCauses(_parsed(raw, FILE), hashlib.sha256(raw).hexdigest())


def read_causes(path: Path) -> LoadedCauses:
    """Read a table of one's own.

    Args:
        path: A YAML file of the form of the shipped one.

    Raises:
        CausesFileError: It cannot be read, or something in it is wrong; all problems are listed.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        words = f"must be a file that can be read; {error.strerror or error}. Check the path."
        raise CausesFileError(str(path), (Problem((), words),)) from None
    return LoadedCauses(_parsed(raw, str(path)), hashlib.sha256(raw).hexdigest())


def _parsed(raw: bytes, name: str) -> CauseTable:
    try:
        document = parse(decode(raw))
    except YamlProblem as found:
        raise CausesFileError(name, (found.problem,)) from None
    if not isinstance(document.data, dict):
        words = f"must be a table with `measures` and `causes`; found a {type(document.data).__name__}. Write keys."
        raise CausesFileError(name, (Problem((), words, 1),))
    try:
        return CauseTable.model_validate(document.data)
    except ValidationError as error:
        raise CausesFileError(name, _located(error, document)) from None


def _located(error: ValidationError, document: YamlDocument) -> tuple[Problem, ...]:
    found = problems_of(error, CauseTable)
    return tuple(Problem(one.location, one.words, document.line_of(one.location)) for one in found)
