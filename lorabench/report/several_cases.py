"""The cases that several runs share: one control, one picture by run, and where the runs disagree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lorabench.records.images import Image
from lorabench.records.measurement import Metric
from lorabench.records.plan import Arm
from lorabench.records.results import CheckOutcome
from lorabench.records.suite import Case
from lorabench.report.case_view import CaseReader, Column, MetricRow
from lorabench.report.notation import ARM_NAMES, check_words, counted, hex_colors
from lorabench.report.several_view import OneRun, SeveralRuns


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a case at a seed, or the reason why there is none."""

    key: str
    """`b0`, `b1` of the first run, `b1b` of a run whose control is another picture, `ra`, `rb` for the candidates."""
    name: str
    candidate: bool
    prompt: str | None
    image: Image | None
    missing: str | None
    palette: tuple[str, ...]
    passed: int
    scored: int
    copied: bool


@dataclass(frozen=True, slots=True)
class SeedRow:
    """All pictures at one seed."""

    seed: int
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One check: outcomes at each seed, of the first run's control and of each candidate."""

    words: str
    outcomes: tuple[tuple[CheckOutcome | None, ...], ...]
    differs: bool
    """Whether two candidates differ at a seed."""


@dataclass(frozen=True, slots=True)
class ValueRow:
    """One metric: each candidate's mean over seeds, and its difference from its own control."""

    metric: Metric
    control: float | None
    means: tuple[float | None, ...]
    differences: tuple[float | None, ...]
    spread: float
    """Largest difference less smallest; 0 where fewer than two runs have one."""
    margin: float | None
    """Of a gate that reads this metric."""


@dataclass(frozen=True, slots=True)
class SharedCase:
    """One case in all runs."""

    case: Case
    place: int
    """In the first run's suite."""
    prompts: tuple[tuple[str, str], ...]
    """Who, and what was asked for."""
    seeds: tuple[SeedRow, ...]
    checks: tuple[CheckRow, ...]
    values: tuple[ValueRow, ...]
    flags: tuple[tuple[str, str], ...]
    """Kind and words."""

    @property
    def telling(self) -> tuple[ValueRow, ...]:
        """Gates' metrics in which the runs lie apart, widest first in margins."""
        judged = [row for row in self.values if row.margin is not None and row.spread > 0]
        return tuple(sorted(judged, key=lambda row: -row.spread / (row.margin or 1)))

    @property
    def widest(self) -> ValueRow | None:
        """The gate's metric in which the runs lie farthest apart, in margins."""
        return next(iter(self.telling), None)

    @property
    def disagreement(self) -> float:
        """How far the runs lie apart, in margins of the gate where they do most."""
        row = self.widest
        return 0.0 if row is None or row.margin is None else row.spread / row.margin


def shared_cases(several: SeveralRuns) -> tuple[SharedCase, ...]:
    """The shared cases, those where the runs disagree most first; equal ones in the suite's order."""
    order = {case.id: place for place, case in enumerate(several.first.results.suite.cases)}
    found = [_read(several.runs, case, place=order[case.id]) for case in several.shared_cases]
    return tuple(sorted(found, key=lambda one: -one.disagreement))


def shown_pictures(cases: Iterable[SharedCase]) -> list[str]:
    """SHA-256 of each picture on the page, as often as it stands there."""
    frames = (frame for case in cases for row in case.seeds for frame in row.frames)
    return [frame.image.sha256 for frame in frames if frame.image is not None]


def _read(runs: Sequence[OneRun], case: Case, *, place: int) -> SharedCase:
    all_seeds = tuple(dict.fromkeys(seed for run in runs for seed in run.reader.seeds))
    seeds = tuple(SeedRow(seed, _frames(runs, case, seed)) for seed in all_seeds)
    checks = tuple(_check_row(runs, case, index, seeds=all_seeds) for index in range(len(case.checks)))
    return SharedCase(
        case=case,
        place=place,
        prompts=_prompts(runs, case),
        seeds=seeds,
        checks=checks,
        values=_values(runs, case),
        flags=_flags(seeds, checks),
    )


def _frames(runs: Sequence[OneRun], case: Case, seed: int) -> tuple[Frame, ...]:
    candidates = (_frame(run, run.reader.main, case, seed=seed, key=run.key) for run in runs)
    return (
        *_references(runs, case, seed=seed, arm=Arm.BASE),
        *_references(runs, case, seed=seed, arm=Arm.CONTROL),
        *(frame for frame in candidates if frame is not None),
    )


def _references(runs: Sequence[OneRun], case: Case, *, seed: int, arm: Arm) -> tuple[Frame, ...]:
    """The arm's picture in the first run, and in each later run that has another one."""
    found: dict[str, Frame] = {}
    for run in runs:
        column = next((column for column in run.reader.columns if column.arm is arm), None)
        first = run is runs[0]
        key = arm.value.lower() + ("" if first else run.letter.lower())
        frame = _frame(run, column, case, seed=seed, key=key)
        if frame is not None and (first or frame.image is not None):
            found.setdefault("" if frame.image is None else frame.image.sha256, frame)
    return tuple(found.values())


def _frame(run: OneRun, column: Column | None, case: Case, *, seed: int, key: str) -> Frame | None:
    """One picture; None where nobody planned it."""
    if column is None or column.cell(case.id, seed) not in run.reader.prompts:
        return None
    reader, cell = run.reader, column.cell(case.id, seed)
    image, neighbour = reader.images.get(cell), reader.neighbours.get(cell)
    outcomes = [reader.checks.get((cell, index)) for index in range(len(case.checks))]
    scored = [one.passed for one in outcomes if one is not None and one.passed is not None]
    name = f"{run.letter} {run.name}" if column.main else ARM_NAMES[column.arm]
    return Frame(
        key=key,
        name=name if column.main or len(key) == len(column.arm.value) else f"{name} of {run.letter}",
        candidate=column.main,
        prompt=reader.prompts[cell],
        image=image,
        missing=None if image else reader.failed.get(cell, "planned, but neither made nor reported as failed"),
        palette=hex_colors(run.results.palettes.get(cell.key, ())),
        passed=scored.count(True),
        scored=len(scored),
        copied=neighbour is not None and neighbour.is_copy is True,
    )


def _prompts(runs: Sequence[OneRun], case: Case) -> tuple[tuple[str, str], ...]:
    """Each prompt once, the candidates' first, with those who were given it."""
    candidates = [(run.letter, _asked(run.reader, run.reader.main, case)) for run in runs]
    controls = [(run.letter, _asked(run.reader, run.reader.control, case)) for run in runs]
    return (*_by_prompt(candidates, "candidate"), *_by_prompt(controls, "control"))


def _by_prompt(asked: Iterable[tuple[str, str | None]], who: str) -> tuple[tuple[str, str], ...]:
    found: dict[str, list[str]] = {}
    for letter, prompt in asked:
        if prompt is not None:
            found.setdefault(prompt, []).append(letter)
    alone = len(found) == 1
    return tuple((who if alone else f"{who} of {', '.join(letters)}", text) for text, letters in found.items())


def _asked(reader: CaseReader, column: Column | None, case: Case) -> str | None:
    if column is None:
        return None
    asked = (reader.prompts.get(column.cell(case.id, seed)) for seed in reader.seeds)
    return next((prompt for prompt in asked if prompt is not None), None)


def _check_row(runs: Sequence[OneRun], case: Case, index: int, *, seeds: Sequence[int]) -> CheckRow:
    columns = [(runs[0], runs[0].reader.control), *((run, run.reader.main) for run in runs)]
    outcomes = tuple(
        tuple(None if at is None else run.reader.checks.get((at.cell(case.id, seed), index)) for seed in seeds)
        for run, at in columns
    )
    by_seed = ({one.passed for one in found if one is not None} - {None} for found in zip(*outcomes[1:], strict=True))
    return CheckRow(check_words(case.checks[index]), outcomes, differs=any(len(found) > 1 for found in by_seed))


def _values(runs: Sequence[OneRun], case: Case) -> tuple[ValueRow, ...]:
    rows = [{row.metric.name: row for row in run.reader.read(case).metrics} for run in runs]
    places = [(_place_of(run.reader, run.reader.main), _place_of(run.reader, run.reader.control)) for run in runs]
    margins = {gate.metric: gate.margin for run in reversed(runs) for gate in run.results.gates}
    found = []
    for name in dict.fromkeys(name for by_name in rows for name in by_name):
        own = [by_name.get(name) for by_name in rows]
        metric = next(row.metric for row in own if row is not None)
        differences = [None if row is None else row.difference for row in own]
        known = [value for value in differences if value is not None]
        found.append(
            ValueRow(
                metric=metric,
                control=_mean_at(own[0], places[0][1]),
                means=tuple(_mean_at(row, main) for row, (main, _) in zip(own, places, strict=True)),
                differences=tuple(differences),
                spread=max(known) - min(known) if len(known) > 1 else 0.0,
                margin=margins.get(name),
            )
        )
    return tuple(found)


def _place_of(reader: CaseReader, column: Column | None) -> int | None:
    return None if column is None else reader.columns.index(column)


def _mean_at(row: MetricRow | None, place: int | None) -> float | None:
    return None if row is None or place is None else row.means[place]


def _flags(seeds: Iterable[SeedRow], checks: Iterable[CheckRow]) -> tuple[tuple[str, str], ...]:
    frames = [frame for row in seeds for frame in row.frames]
    copies = dict.fromkeys(frame.name.split(" ", 1)[0] for frame in frames if frame.copied)
    n_missing = sum(frame.image is None for frame in frames)
    n_differing = sum(row.differs for row in checks)
    found = []
    if copies:
        found.append(("copy", f"copies training in {', '.join(copies)}"))
    if n_differing:
        found.append(("differ", f"{counted(n_differing, 'check')} differ" + ("s" if n_differing == 1 else "")))
    if n_missing:
        found.append(("missing", f"{counted(n_missing, 'picture')} missing"))
    return tuple(found)
