"""Suites as people write them: `<name>.lora.yaml` in, a checked `Suite` out, or every problem with its line."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError

from lorabench.errors import SpecError
from lorabench.records.suite import STYLE_SLOT, Case, QuestionCheck, Suite, fill_style
from lorabench.storage.shipped import shipped_suite_names, shipped_suite_path
from lorabench.storage.validation import Location, Problem, problems_of, suggestion
from lorabench.storage.yaml_reading import YamlDocument, YamlProblem, decode, parse

SUFFIXES: Final = (".lora.yaml", ".lora.yml")
_SLOT = re.compile(r"\{([A-Za-z_]{3,20})\}")
_SLOT_LOOKALIKES: Final = frozenset({"stlye", "styel", "sytle", "syle", "styl", "styles", "trigger", "triggers"})


class SuiteError(SpecError):
    """A suite file cannot be used; the message lists every problem with file, line and key."""

    def __init__(self, path: Path, problems: Iterable[Problem]) -> None:
        self.path = path
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        listed = "\n".join(f"  {_place(path, problem)}: {problem.key}: {problem.words}" for problem in self.problems)
        super().__init__(f"{path} must be a valid suite; found {count}. Correct each:\n{listed}")


@dataclass(frozen=True)
class LoadedSuite:
    """A suite, and where it came from.

    Attributes:
        suite: The checked suite.
        path: The file.
        digest: Digest of the suite's content: comments and layout do not enter it.
        file_sha256: SHA-256 of the file's bytes.
        line_of: Case id to the 1-based line its case begins on.
    """

    suite: Suite
    path: Path
    digest: str
    file_sha256: str
    line_of: Mapping[str, int]


def is_suite_file(path: Path) -> bool:
    """Whether a file is a suite by its name."""
    return path.name.lower().endswith(SUFFIXES)


def read_suite(path: Path) -> LoadedSuite:
    """Read and check one suite file.

    Args:
        path: A `.lora.yaml` or `.lora.yml` file, UTF-8, at most 2 MiB.

    Returns:
        The suite with the lines of its cases.

    Raises:
        SuiteError: The file cannot be read, or something in it is wrong; all problems are listed.
    """
    if not is_suite_file(path):
        words = f"a suite's name must end in {' or '.join(SUFFIXES)}; found {path.name!r}. Rename the file."
        raise SuiteError(path, [Problem((), words)])
    try:
        raw = path.read_bytes()
    except OSError as error:
        words = f"must be a file that can be read; {error.strerror or error}. Check the path."
        raise SuiteError(path, [Problem((), words)]) from None
    try:
        document = parse(decode(raw))
    except YamlProblem as found:
        raise SuiteError(path, [found.problem]) from None
    suite = _checked(document, path)
    lines = {case.id: document.line_of(("cases", index)) for index, case in enumerate(suite.cases)}
    return LoadedSuite(
        suite=suite,
        path=path,
        digest=suite.content_digest(),
        file_sha256=hashlib.sha256(raw).hexdigest(),
        line_of=MappingProxyType(lines),
    )


def suite_text(suite: Suite, *, remark: str) -> str:
    """A suite as YAML that `read_suite` reads back as it was.

    Args:
        suite: The suite.
        remark: First line of the file, as a comment.
    """
    from ruamel.yaml import YAML

    content = suite.model_dump(mode="json", exclude_defaults=True)
    cases = content.pop("cases")
    for case, written in zip(suite.cases, cases, strict=True):
        if case.checks:
            written["checks"] = [
                {"type": check.type, **check.model_dump(mode="json", exclude_defaults=True)} for check in case.checks
            ]
    stream = io.StringIO()
    writer = YAML()
    writer.width = 4096
    writer.dump({"schema_version": suite.schema_version, **content, "cases": cases}, stream)
    return f"# {remark}\n{stream.getvalue()}"


def find_suites(names: Iterable[str | Path]) -> tuple[Path, ...]:
    """Find suite files by path, by folder (searched downwards, in sorted order) or by the name of a shipped suite.

    Args:
        names: Files, folders, or names such as `spatial` and `world/screen`. What exists on disk wins over a name.

    Returns:
        The files, each once, in the order asked for.

    Raises:
        SuiteError: A file or folder holds no suite, or a name is neither on disk nor shipped.
    """
    found: dict[Path, None] = {}
    for name in names:
        for path in _matches(Path(name)):
            found.setdefault(path)
    return tuple(found)


def _matches(path: Path) -> list[Path]:
    if path.is_dir():
        inside = sorted(entry for entry in path.rglob("*.lora.y*ml") if entry.is_file() and is_suite_file(entry))
        if not inside:
            words = f"a folder of suites must hold a file ending in {SUFFIXES[0]}; found none. Name another folder."
            raise SuiteError(path, [Problem((), words)])
        return inside
    if path.exists():
        return [path]
    known = shipped_suite_names()
    if path.as_posix() in known:
        return [shipped_suite_path(path.as_posix())]
    words = f"must be a file, a folder or a shipped suite; found none of them. {suggestion(path.as_posix(), known)}"
    raise SuiteError(path, [Problem((), words)])


def _checked(document: YamlDocument, path: Path) -> Suite:
    if not isinstance(document.data, dict):
        found = type(document.data).__name__
        words = f"must be a table with name, licence, seeds and cases; found a {found}. Write keys."
        raise SuiteError(path, [Problem((), words, 1)])
    problems = _repeated_ids(document)
    try:
        suite = Suite.model_validate(document.data)
    except ValidationError as error:
        told = bool(problems)
        problems += [
            _with_line(problem, document)
            for problem in problems_of(error, Suite)
            if not (told and problem.words.startswith("case ids must be unique"))
        ]
        raise SuiteError(path, problems) from None
    problems = [_with_line(problem, document) for problem in _contradictions(suite)]
    if problems:
        raise SuiteError(path, problems)
    return suite


def _repeated_ids(document: YamlDocument) -> list[Problem]:
    """Case ids that occur twice, with both lines."""
    first: dict[str, int] = {}
    problems = []
    cases: Any = document.data.get("cases")
    for index, case in enumerate(cases if isinstance(cases, list) else []):
        name = case.get("id") if isinstance(case, dict) else None
        if not isinstance(name, str):
            continue
        location: Location = ("cases", index, "id")
        line = document.line_of(location)
        if name in first:
            words = f"case ids must be unique; found {name!r} on lines {first[name]} and {line}. Rename one."
            problems.append(Problem(location, words, line))
        first.setdefault(name, line)
    return problems


def _contradictions(suite: Suite) -> Iterable[Problem]:
    """What the schema cannot say: misspelt slots, foils that do not differ, parents that are no earlier question."""
    for index, case in enumerate(suite.cases):
        where: Location = ("cases", index)
        yield from _slot_problems(case.prompt, (*where, "prompt"))
        for number, foil in enumerate(case.foils):
            at: Location = (*where, "foils", number, "prompt")
            yield from _slot_problems(foil.prompt, at)
            if _words(foil.prompt) == _words(case.prompt):
                yield Problem(at, "a foil must differ from its prompt; this one is equal to it. Change one thing.")
        yield from _parent_problems(case, where)


def _slot_problems(prompt: str, location: Location) -> Iterable[Problem]:
    for name in _SLOT.findall(prompt):
        if name != STYLE_SLOT.strip("{}") and name.lower() in _SLOT_LOOKALIKES | {"style"}:
            words = f"the slot for the style phrase must be {STYLE_SLOT}; found {{{name}}}. Write {STYLE_SLOT}."
            yield Problem(location, words)


def _parent_problems(case: Case, where: Location) -> Iterable[Problem]:
    for index, check in enumerate(case.checks):
        for parent in check.parents if isinstance(check, QuestionCheck) else ():
            if not 0 <= parent < index or not isinstance(case.checks[parent], QuestionCheck):
                words = (
                    f"parents must be indices of earlier question checks of the case; found {parent}. "
                    "Count the checks from 0."
                )
                yield Problem((*where, "checks", index, "parents"), words)


def _words(prompt: str) -> str:
    return fill_style(prompt, "").casefold()


def _with_line(problem: Problem, document: YamlDocument) -> Problem:
    return Problem(problem.location, problem.words, document.line_of(problem.location))


def _place(path: Path, problem: Problem) -> str:
    return f"{path}:{problem.line}" if problem.line is not None else str(path)
