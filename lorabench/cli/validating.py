"""`validate`: everything about a suite that can be told without making a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabench.cli import output
from lorabench.cli.options import Assignments, Captions, ConfigFile, Suites, TrainingFolder, load_settings
from lorabench.cli.running import NoSuiteError
from lorabench.errors import ExitCode

if TYPE_CHECKING:
    from lorabench.records.plan import StylePhrases
    from lorabench.storage.heldout import Overlap


class ProblemFormat(StrEnum):
    """How problems are printed."""

    HUMAN = "human"
    JSON = "json"
    GITHUB = "github"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with, or strange about, a suite."""

    line: int | None
    key: str
    words: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A suite file and what was found."""

    path: str
    n_cases: int | None
    problems: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()


def validate(
    suites: Suites = None,
    *,
    training_folder: TrainingFolder = None,
    captions: Captions = None,
    config_file: ConfigFile = None,
    assignments: Assignments = None,
    style: Annotated[ProblemFormat, typer.Option("--format", help="How problems are printed.")] = ProblemFormat.HUMAN,
) -> None:
    """Check suites: schema, ids, foils, and that no prompt is a training caption. Exit code 2 where one is wrong."""
    stated = {"training_set.folder": training_folder, "training_set.captions": captions}
    config, _ = load_settings(stated, config_file=config_file, assignments=assignments)
    wanted = suites or [str(path) for path in config.suites]
    if not wanted:
        raise NoSuiteError
    trained = _captions(config.training_set.folder, config.training_set.captions)
    checked = [one for name in wanted for one in _checked(name, trained, style=config.style)]
    _show(checked, style, held_out=bool(trained))
    if any(one.problems for one in checked):
        raise typer.Exit(ExitCode.USAGE)


def _captions(folder: Path | None, captions: Path | None) -> Mapping[str, str]:
    """Caption by picture; without a folder, that of the captions file is meant."""
    from lorabench.storage.training_set import read_captions

    pictures = folder or (None if captions is None else captions.parent)
    return {} if pictures is None else read_captions(pictures, captions)


def _checked(name: str, trained: Mapping[str, str], *, style: StylePhrases) -> list[Checked]:
    from lorabench.storage.heldout import HeldOutError, check_held_out
    from lorabench.storage.suite_files import SuiteError, find_suites, read_suite

    try:
        paths = find_suites([name])
    except SuiteError as error:
        return [_refused(error.path, error)]
    checked = []
    for path in paths:
        try:
            loaded = read_suite(path)
            near = check_held_out(loaded.suite, trained, style=style, line_of=loaded.line_of)
        except SuiteError as error:
            checked.append(_refused(path, error))
        except HeldOutError as error:
            problems = tuple(_overlap(one, "is a training caption") for one in error.overlaps)
            checked.append(Checked(path.as_posix(), None, problems))
        else:
            warnings = tuple(_overlap(one, f"shares {one.similarity:.0%} of its words with a caption") for one in near)
            checked.append(Checked(path.as_posix(), len(loaded.suite.cases), (), warnings))
    return checked


def _refused(path: Path, error: Any) -> Checked:
    return Checked(path.as_posix(), None, tuple(Finding(one.line, one.key, one.words) for one in error.problems))


def _overlap(overlap: Overlap, what: str) -> Finding:
    return Finding(overlap.line, overlap.case, f"the prompt {what}: {overlap.caption!r} of {overlap.training_file}")


def _show(checked: Sequence[Checked], style: ProblemFormat, *, held_out: bool) -> None:
    if style is ProblemFormat.JSON:
        output.json_data([_as_json(one) for one in checked])
        return
    for one in checked:
        for level, findings in (("error", one.problems), ("warning", one.warnings)):
            for finding in findings:
                output.data(_line(one.path, level, finding, style))
        if style is ProblemFormat.HUMAN and not one.problems:
            how = "held out" if held_out else "captions not checked, no training folder is named"
            output.data(f"{one.path}: ok, {one.n_cases} cases, {how}")


def _line(path: str, level: str, finding: Finding, style: ProblemFormat) -> str:
    if style is ProblemFormat.GITHUB:
        from lorabench.report.github import escape_message, escape_property

        place = f"file={escape_property(path)},line={finding.line or 1},title={escape_property(finding.key)}"
        return f"::{level} {place}::{escape_message(finding.words)}"
    line = "" if finding.line is None else f":{finding.line}"
    return f"{path}{line}: {level}: {finding.key}: {finding.words}"


def _as_json(one: Checked) -> dict[str, Any]:
    problems, warnings = (
        [{"line": finding.line, "key": finding.key, "words": finding.words} for finding in findings]
        for findings in (one.problems, one.warnings)
    )
    return {
        "file": one.path,
        "ok": not one.problems,
        "n_cases": one.n_cases,
        "problems": problems,
        "warnings": warnings,
    }
