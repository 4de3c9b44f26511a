"""One case as a reader sees it: its pictures by seed, checks by arm, differences, and what stands out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from lorabench.records.comparison import Comparison
from lorabench.records.images import Image
from lorabench.records.measurement import Metric, Neighbour, Unmeasured
from lorabench.records.plan import Arm, Cell
from lorabench.records.results import CheckOutcome, Results, TrainingPicture
from lorabench.records.suite import Case
from lorabench.report.detections_view import Overlay, overlay_of
from lorabench.report.notation import ARM_NAMES, check_words, counted, hex_colors

ARM_ORDER = (Arm.BASE, Arm.CONTROL, Arm.CANDIDATE, Arm.NEUTRAL)

FlagKind = Literal["copy", "golden", "broken", "lost", "missing", "unmeasured", "gained"]
FLAG_ORDER: tuple[FlagKind, ...] = ("copy", "golden", "broken", "lost", "missing", "unmeasured", "gained")


@dataclass(frozen=True, slots=True)
class Column:
    """One arm at one scale: a column of pictures."""

    arm: Arm
    scale: float
    name: str
    main: bool
    """The candidate at the scale that is judged (the one nearest to 1)."""

    @property
    def key(self) -> str:
        """`b0`, `b1`, `l1`, `l0`; further scales of the candidate as `l1x0.5`."""
        own = self.main or not self.arm.uses_adapter
        return self.arm.value.lower() + ("" if own else f"x{self.scale:g}")

    def cell(self, case: str, seed: int) -> Cell:
        """The cell of this column."""
        return Cell(arm=self.arm, case=case, seed=seed, scale=self.scale)


@dataclass(frozen=True, slots=True)
class Flag:
    """Something a reader should look at. It describes one case and decides nothing."""

    kind: FlagKind
    text: str


@dataclass(frozen=True, slots=True)
class PictureView:
    """One cell: its picture or the reason why there is none, and what was seen in it."""

    column: Column
    seed: int
    prompt: str | None
    image: Image | None
    missing: str | None
    palette: tuple[str, ...]
    passed: int
    scored: int
    overlay: Overlay | None = None
    """What was detected in it; None where no detector looked."""


@dataclass(frozen=True, slots=True)
class NeighbourView:
    """The training picture nearest to the candidate's picture."""

    neighbour: Neighbour
    training: TrainingPicture | None


@dataclass(frozen=True, slots=True)
class SeedView:
    """All arms at one seed."""

    seed: int
    pictures: tuple[PictureView, ...]
    neighbour: NeighbourView | None
    trouble: float


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One check of the case, by column and seed."""

    words: str
    outcomes: tuple[tuple[CheckOutcome | None, ...], ...]
    """By column, then by seed in the suite's order."""


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric's mean over the seeds of the case, by column, and candidate minus control over pairs."""

    metric: Metric
    means: tuple[float | None, ...]
    counts: tuple[int, ...]
    difference: float | None
    n_pairs: int


@dataclass(frozen=True, slots=True)
class CaseView:
    """Everything about one case."""

    case: Case
    prompts: tuple[tuple[Column, str], ...]
    seeds: tuple[SeedView, ...]
    """The most troubled seed first."""
    checks: tuple[CheckRow, ...]
    metrics: tuple[MetricRow, ...]
    unmeasured: tuple[Unmeasured, ...]
    flags: tuple[Flag, ...]
    harm: float
    """Largest harm among the gates' metrics in units of their margins; below zero where all got better."""
    harm_metric: str | None

    @property
    def needs_a_look(self) -> bool:
        """Whether something here is lost, copied, missing or a golden case that failed."""
        return any(flag.kind in ("copy", "golden", "broken", "missing", "lost") for flag in self.flags)

    @property
    def rank(self) -> tuple[int, float]:
        """Sorts cases from worst to best."""
        grave = {"copy": -100, "golden": -100, "broken": -100, "missing": -10, "lost": -1}
        return sum(grave.get(flag.kind, 0) for flag in self.flags), -self.harm


class CaseReader:
    """Looks up what the results say about a case. Built once per rendering."""

    def __init__(self, results: Results) -> None:
        """Index the results by cell."""
        self.results = results
        self.images = {image.cell: image for image in results.images}
        self.failed = {failed.cell: failed.reason for failed in results.failed}
        self.prompts = {planned.cell: planned.prompt for planned in results.plan}
        self.neighbours = {neighbour.cell: neighbour for neighbour in results.neighbours}
        self.training = {picture.index: picture for picture in results.training}
        self.checks = {(outcome.cell, outcome.check_index): outcome for outcome in results.checks}
        self.detections = {found.cell: found.detections for found in results.detections}
        self.values = {(m.metric, m.cell): m.value for m in results.measurements}

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Arms in the order base, control, candidate, neutral; the candidate once per scale."""
        scales: dict[Arm, set[float]] = defaultdict(set)
        for cell in self.prompts:
            scales[cell.arm].add(cell.scale)
        main = min(scales[Arm.CANDIDATE], key=lambda scale: (abs(scale - 1), scale), default=None)
        return tuple(
            Column(
                arm=arm,
                scale=scale,
                name=ARM_NAMES[arm] + (f" ×{scale:g}" if len(scales[arm]) > 1 else ""),
                main=arm is Arm.CANDIDATE and scale == main,
            )
            for arm in ARM_ORDER
            for scale in sorted(scales[arm])
        )

    @cached_property
    def main(self) -> Column | None:
        """The candidate's column that is judged; None where no candidate was planned."""
        return next((column for column in self.columns if column.main), None)

    @cached_property
    def control(self) -> Column | None:
        """The control's column; None where it was not planned."""
        return next((column for column in self.columns if column.arm is Arm.CONTROL), None)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Seeds in the order in which the plan names them."""
        return tuple(dict.fromkeys(cell.seed for cell in self.prompts))

    @cached_property
    def _unmeasured(self) -> Mapping[str, list[Unmeasured]]:
        by_case = defaultdict(list)
        for missing in self.results.unmeasured:
            if missing.cell is not None:
                by_case[missing.cell.case].append(missing)
        return by_case

    @cached_property
    def _gate_differences(self) -> list[tuple[Comparison, float, dict[str, float]]]:
        return [
            (gate.comparison, gate.margin, {d.case: d.difference for d in gate.comparison.differences})
            for gate in self.results.gates
            if gate.comparison is not None
        ]

    def values_in(self, metric: str, column: Column) -> list[float]:
        """All values of a metric in one column, mean over the seeds of each case."""
        found = (self._values_of(case, metric, column) for case in dict.fromkeys(cell.case for cell in self.prompts))
        return [sum(values.values()) / len(values) for values in found if values]

    def read(self, case: Case) -> CaseView:
        """All that is known about a case."""
        seeds = tuple(sorted((self._seed(case, seed) for seed in self.seeds), key=lambda view: -view.trouble))
        harm, metric = self._harm(case.id)
        return CaseView(
            case=case,
            prompts=self._prompts_of(case.id),
            seeds=seeds,
            checks=self._checks_of(case),
            metrics=tuple(row for m in self.results.metrics if (row := self._metric_row(case.id, m)) is not None),
            unmeasured=tuple(self._unmeasured.get(case.id, ())),
            flags=self._flags(case),
            harm=harm,
            harm_metric=metric,
        )

    def read_all(self) -> tuple[CaseView, ...]:
        """All planned cases, worst first; equal ones in the suite's order."""
        planned = {cell.case for cell in self.prompts}
        return tuple(sorted((self.read(c) for c in self.results.suite.cases if c.id in planned), key=lambda v: v.rank))

    def _prompts_of(self, case: str) -> tuple[tuple[Column, str], ...]:
        found = []
        for column in self.columns:
            prompts = (self.prompts.get(column.cell(case, seed)) for seed in self.seeds)
            prompt = next((text for text in prompts if text is not None), None)
            if prompt is not None:
                found.append((column, prompt))
        return tuple(found)

    def _seed(self, case: Case, seed: int) -> SeedView:
        pictures = tuple(self._picture(case, column, seed) for column in self.columns)
        return SeedView(seed, pictures, self._neighbour(case.id, seed), trouble=self._trouble(case, seed))

    def _picture(self, case: Case, column: Column, seed: int) -> PictureView:
        cell = column.cell(case.id, seed)
        image = self.images.get(cell)
        absent = "not planned" if cell not in self.prompts else "planned, but neither made nor reported as failed"
        scored = [o.passed for i in range(len(case.checks)) if (o := self.checks.get((cell, i))) is not None]
        return PictureView(
            column=column,
            seed=seed,
            prompt=self.prompts.get(cell),
            image=image,
            missing=None if image is not None else self.failed.get(cell, absent),
            palette=hex_colors(self.results.palettes.get(cell.key, ())),
            passed=scored.count(True),
            scored=len(scored) - scored.count(None),
            overlay=None if image is None else self._overlay(case, image),
        )

    def _overlay(self, case: Case, image: Image) -> Overlay | None:
        found = self.detections.get(image.cell)
        return None if found is None else overlay_of(image, found, checks=case.checks)

    def _neighbour(self, case: str, seed: int) -> NeighbourView | None:
        neighbour = self.neighbours.get(self.main.cell(case, seed)) if self.main else None
        if neighbour is None:
            return None
        return NeighbourView(neighbour, self.training.get(neighbour.training_index))

    def _checks_of(self, case: Case) -> tuple[CheckRow, ...]:
        return tuple(
            CheckRow(
                check_words(check),
                tuple(
                    tuple(self.checks.get((column.cell(case.id, seed), index)) for seed in self.seeds)
                    for column in self.columns
                ),
            )
            for index, check in enumerate(case.checks)
        )

    def _metric_row(self, case: str, metric: Metric) -> MetricRow | None:
        by_column = [self._values_of(case, metric.name, column) for column in self.columns]
        if not any(by_column):
            return None
        pairs = self._pairs(dict(zip(self.columns, by_column, strict=True)))
        return MetricRow(
            metric=metric,
            means=tuple(sum(values.values()) / len(values) if values else None for values in by_column),
            counts=tuple(len(values) for values in by_column),
            difference=sum(pairs) / len(pairs) if pairs else None,
            n_pairs=len(pairs),
        )

    def _values_of(self, case: str, metric: str, column: Column) -> dict[int, float]:
        keys = {seed: (metric, column.cell(case, seed)) for seed in self.seeds}
        return {seed: self.values[key] for seed, key in keys.items() if key in self.values}

    def _pairs(self, values: Mapping[Column, Mapping[int, float]]) -> list[float]:
        if self.main is None or self.control is None:
            return []
        candidate, control = values[self.main], values[self.control]
        return [candidate[seed] - control[seed] for seed in candidate if seed in control]

    def _harm(self, case: str) -> tuple[float, str | None]:
        worst: tuple[float, str | None] = (0.0, None)
        for comparison, margin, differences in self._gate_differences:
            if case in differences:
                raw = differences[case] / margin
                harm = -raw if comparison.higher_is_better else raw
                if worst[1] is None or harm > worst[0]:
                    worst = (harm, comparison.metric)
        return worst

    def _turned(self, case: Case, seed: int, *, control: bool, candidate: bool) -> int:
        """Number of checks with these outcomes in control and candidate at a seed."""
        if self.main is None or self.control is None:
            return 0
        before, after = self.control.cell(case.id, seed), self.main.cell(case.id, seed)
        return sum(
            1
            for index in range(len(case.checks))
            if (old := self.checks.get((before, index))) is not None
            and (new := self.checks.get((after, index))) is not None
            and old.passed is control
            and new.passed is candidate
        )

    def _trouble(self, case: Case, seed: int) -> float:
        neighbour = self._neighbour(case.id, seed)
        copied = neighbour is not None and neighbour.neighbour.is_copy is True
        missing = self.main is not None and self.main.cell(case.id, seed) in self.failed
        return 100.0 * copied + 50.0 * missing + self._turned(case, seed, control=True, candidate=False)

    def _flags(self, case: Case) -> tuple[Flag, ...]:
        found: list[Flag] = []
        lost = sum(self._turned(case, seed, control=True, candidate=False) for seed in self.seeds)
        gained = sum(self._turned(case, seed, control=False, candidate=True) for seed in self.seeds)
        missing = sum(column.cell(case.id, seed) in self.failed for column in self.columns for seed in self.seeds)
        unmeasured = len(self._unmeasured.get(case.id, ()))
        if copies := self._copied(case.id):
            found.append(Flag("copy", f"copies training picture {', '.join(copies)}"))
        if case.golden and (broken := self._golden_failures(case)):
            found.append(Flag("golden", f"golden case: {counted(broken, 'check')} failed"))
        if reasons := self._broken_pictures(case):
            found.append(Flag("broken", f"broken: {'; '.join(reasons)}"))
        if lost:
            found.append(Flag("lost", f"{counted(lost, 'check')} lost"))
        if missing:
            found.append(Flag("missing", f"{counted(missing, 'picture')} missing"))
        if unmeasured:
            found.append(Flag("unmeasured", f"{counted(unmeasured, 'value')} not measured"))
        if gained:
            found.append(Flag("gained", f"{counted(gained, 'check')} gained"))
        return tuple(found)

    def _copied(self, case: str) -> list[str]:
        views = [view for seed in self.seeds if (view := self._neighbour(case, seed)) is not None]
        indices = [view.neighbour.training_index for view in views if view.neighbour.is_copy]
        return [f"#{index}" for index in dict.fromkeys(indices)]

    def _broken_pictures(self, case: Case) -> list[str]:
        """Why pictures of the candidate are unusable, each reason once."""
        if self.main is None:
            return []
        cells = {self.main.cell(case.id, seed) for seed in self.seeds}
        reasons = (image.broken for image in self.results.images if image.cell in cells)
        return list(dict.fromkeys(reason for reason in reasons if reason is not None))

    def _golden_failures(self, case: Case) -> int:
        if self.main is None:
            return 0
        keys = [(self.main.cell(case.id, seed), index) for seed in self.seeds for index in range(len(case.checks))]
        return sum(1 for key in keys if (outcome := self.checks.get(key)) is not None and outcome.passed is False)
