"""Several runs as a reader sees them: gates by run, and what differs between the runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from lorabench.errors import SpecError
from lorabench.records.comparison import Comparison, Outcome, Verdict
from lorabench.records.plan import Arm
from lorabench.records.results import Results
from lorabench.records.suite import Case
from lorabench.report.case_view import CaseReader
from lorabench.report.compare import incomparable, unlike
from lorabench.report.interval_drawing import reach_of
from lorabench.report.notation import given

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class RunCountError(SpecError):
    """Too few or too many runs for one page."""

    def __init__(self, n_runs: int) -> None:
        super().__init__(f"a comparison needs 2 to {len(LETTERS)} runs; found {n_runs}. Name each run's folder once.")
        self.n_runs = n_runs


@dataclass(frozen=True, slots=True)
class OneRun:
    """One of several runs, under a letter."""

    letter: str
    reader: CaseReader

    @property
    def results(self) -> Results:
        """The run itself."""
        return self.reader.results

    @property
    def key(self) -> str:
        """Short name of its candidate's pictures in the page: `ra`, `rb`."""
        return f"r{self.letter.lower()}"

    @property
    def name(self) -> str:
        """The candidate's name; the base's where there is none."""
        candidate = self.results.candidate
        return self.results.base.name if candidate is None else candidate.name


@dataclass(frozen=True, slots=True)
class GateCell:
    """One gate in one run."""

    verdict: Verdict
    note: str
    """Why its numbers do not stand beside the first run's; empty where they do."""
    shared_mean: float | None
    """Mean difference over the cases that all runs share, where the suites differ."""


@dataclass(frozen=True, slots=True)
class GateRow:
    """One gate by run."""

    gate: str
    metric: str
    family: str | None
    primary: bool
    reach: float
    """How far the drawings' common axis goes, in the metric's unit."""
    cells: tuple[GateCell | None, ...]

    @property
    def is_measured(self) -> bool:
        """Whether any run has a verdict on it."""
        return bool(self.outcomes - {Outcome.UNMEASURED})

    @property
    def outcomes(self) -> frozenset[Outcome]:
        """Those that occur."""
        return frozenset(cell.verdict.outcome for cell in self.cells if cell is not None)


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting that is not the same in all runs."""

    group: str
    name: str
    values: tuple[str | None, ...]


class SeveralRuns:
    """Two or more runs, the first being the one that the others are held against."""

    def __init__(self, results: Sequence[Results]) -> None:
        """Give each run its letter.

        Raises:
            RunCountError: There are fewer than two, or more than there are letters.
        """
        if not 2 <= len(results) <= len(LETTERS):
            raise RunCountError(len(results))
        self.runs = tuple(OneRun(letter, CaseReader(one)) for letter, one in zip(LETTERS, results, strict=False))
        self.first = self.runs[0]

    @cached_property
    def obstacles(self) -> tuple[str, ...]:
        """What besides the candidate differs from the first run, and what is partial."""
        found = [
            f"{run.letter} against {self.first.letter}: {text}"
            for run in self.runs[1:]
            for text in unlike(self.first.results, run.results)
        ]
        return (*found, *(f"run {run.letter} is partial" for run in self.runs if not run.results.verdict.complete))

    @cached_property
    def one_suite(self) -> bool:
        """Whether all runs were judged on the same prompts."""
        return len({run.results.suite.content_digest() for run in self.runs}) == 1

    @cached_property
    def shared_cases(self) -> tuple[Case, ...]:
        """Cases that are word for word the same in all runs and were planned in all, in the first suite's order."""
        others = [_planned_cases(run) for run in self.runs[1:]]
        return tuple(c for c in _planned_cases(self.first).values() if all(o.get(c.id) == c for o in others))

    @property
    def left_out(self) -> tuple[tuple[OneRun, int], ...]:
        """Runs with cases that not all share, and how many."""
        n_shared = len(self.shared_cases)
        counts = ((run, len(_planned_cases(run)) - n_shared) for run in self.runs)
        return tuple((run, n) for run, n in counts if n)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of any run, in the order in which the runs name them."""
        return tuple(dict.fromkeys(seed for run in self.runs for seed in run.reader.seeds))

    @cached_property
    def gates(self) -> tuple[GateRow, ...]:
        """All gates of any run, in the order in which the runs name them."""
        by_run = [{gate.gate: gate for gate in run.results.gates} for run in self.runs]
        names = dict.fromkeys(name for gates in by_run for name in gates)
        return tuple(self._gate_row([gates.get(name) for gates in by_run]) for name in names)

    def _gate_row(self, verdicts: Sequence[Verdict | None]) -> GateRow:
        known = next(verdict for verdict in verdicts if verdict is not None)
        cells = tuple(None if verdict is None else self._gate_cell(known, verdict) for verdict in verdicts)
        drawn = [(cell.verdict.comparison, cell.verdict.margin) for cell in cells if cell is not None and not cell.note]
        reach = max((reach_of(found, margin) for found, margin in drawn if found is not None), default=known.margin)
        return GateRow(known.gate, known.metric, known.family, known.primary, reach, cells)

    def _gate_cell(self, known: Verdict, verdict: Verdict) -> GateCell:
        mean = None if self.one_suite or verdict.comparison is None else self.shared_mean(verdict.comparison)
        return GateCell(verdict, incomparable(known, verdict), mean)

    def shared_mean(self, comparison: Comparison) -> float | None:
        """Mean difference over the cases that all runs share; None where it was compared on none of them."""
        shared = {case.id for case in self.shared_cases}
        return _mean([one.difference for one in comparison.differences if one.case in shared])

    @cached_property
    def settings(self) -> tuple[SettingRow, ...]:
        """What differs between the runs, name and weights of the adapter aside."""
        told = [settings_of(run) for run in self.runs]
        keys = dict.fromkeys(key for one in told for key in one)
        rows = (SettingRow(group, name, tuple(one.get((group, name)) for one in told)) for group, name in keys)
        return tuple(row for row in rows if len(set(row.values)) > 1)

    @cached_property
    def telling_gates(self) -> tuple[GateRow, ...]:
        """Gates for the ablation table: primary ones, and those whose verdict is not the same in all runs."""
        rows = (row for row in self.gates if row.primary or len(row.outcomes) > 1 or None in row.cells)
        return tuple(row for row in rows if row.is_measured)


def settings_of(run: OneRun) -> Mapping[tuple[str, str], str]:
    """What was chosen for a run, by group and name, in words; only what is known."""
    results = run.results
    told: dict[tuple[str, str], str | None] = {}
    for group, values in (
        ("Adapter", _adapter(results)),
        ("Use", _use(run)),
        ("Pictures", _pictures(results)),
        ("Judged on", _judged_on(results)),
    ):
        told |= {(group, name): value for name, value in values.items()}
    return {key: value for key, value in told.items() if value is not None}


def _adapter(results: Results) -> dict[str, str | None]:
    adapter = results.candidate
    if adapter is None:
        return {"adapter": "none"}
    return {
        "training step": None if adapter.training_step is None else f"{adapter.training_step:,}",
        "rank": _listed(adapter.ranks, str),
        "alpha": _listed(adapter.alphas, given),
        "adapted modules": f"{adapter.n_modules}: {', '.join(adapter.targets)}",
        "text encoder": "adapted" if adapter.text_encoder else "untouched",
        "layout of the file": adapter.layout,
        **{f"header: {name}": value for name, value in sorted(adapter.metadata.items())},
    }


def _use(run: OneRun) -> dict[str, str | None]:
    main, style = run.reader.main, run.results.style
    return {
        "strength": None if main is None else given(main.scale),
        "trigger": style.of(Arm.CANDIDATE) or "none",
        "plain style phrase": style.of(Arm.CONTROL) or "none",
    }


def _pictures(results: Results) -> dict[str, str | None]:
    chosen = results.settings.model_dump()
    return {name.replace("_", " "): "default" if value is None else str(value) for name, value in chosen.items()}


def _judged_on(results: Results) -> dict[str, str | None]:
    suite, base = results.suite, results.base
    training = {picture.sha256 for picture in results.training}
    return {
        "base": f"{base.name} ({base.digest[:12]})",
        "precision": f"{base.dtype} on {base.device_class}",
        "suite": f"{suite.name} version {suite.version} ({suite.content_digest()[:12]})",
        "seeds": _listed(suite.seeds, str),
        "training pictures": str(len(training)),
        "judges": ", ".join(f"{name} {digest[:8]}" for name, digest in sorted(results.provenance.judges.items())),
        "lorabench": results.provenance.lorabench_version,
    }


def _listed(values: Sequence[float], words: Callable[[float], str]) -> str:
    return ", ".join(words(value) for value in values) or "unknown"


def _planned_cases(run: OneRun) -> dict[str, Case]:
    planned = {cell.case for cell in run.reader.prompts}
    return {case.id: case for case in run.results.suite.cases if case.id in planned}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
