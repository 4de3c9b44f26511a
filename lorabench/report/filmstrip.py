"""The same cases at each judged checkpoint, each picture beside the control's from the same noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lorabench.records.course import Course, Evaluation
from lorabench.records.results import Results
from lorabench.report.case_view import CaseReader, CaseView, PictureView
from lorabench.report.course_view import Mark, mark_of

N_WORST: Final = 4
N_SAMPLE: Final = 3
MAX_FRAMES: Final = 10
"""Checkpoints on the page; of more, the first, the last, the best and the alarmed ones stay, and others evenly."""


@dataclass(frozen=True, slots=True)
class StripFrame:
    """One case at one checkpoint."""

    training_step: int
    mark: Mark
    seed: int | None
    """None where the checkpoint's run has no such case."""
    candidate: PictureView | None
    control: PictureView | None


@dataclass(frozen=True, slots=True)
class Strip:
    """One case along the course."""

    case: str
    family: str
    prompt: str
    worst: bool
    """Among those with the largest harm."""
    sampled: bool
    """Part of the sample that no result has a say in."""
    harm: float
    """Largest harm at the newest checkpoint with pictures, in margins."""
    harm_metric: str | None
    frames: tuple[StripFrame, ...]


def film_steps(course: Course, *, available: Mapping[str, object], most: int = MAX_FRAMES) -> tuple[int, ...]:
    """Which checkpoints a filmstrip shows.

    Args:
        course: All evaluations.
        available: Ids of runs whose pictures may still exist.
        most: Largest number of checkpoints.

    Returns:
        Training steps, ascending.
    """
    judged = [one for one in course.evaluations if one.run_ids and one.run_ids[0] in available]
    if len(judged) <= most:
        return tuple(one.training_step for one in judged)
    steps = [one.training_step for one in judged]
    against = [one.training_step for one in judged if mark_of(one) in ("stop", "reject")]
    wanted = [steps[0], steps[-1], *([course.best] if course.best in steps else []), *against[:1], *against[-2:]]
    even = [steps[round(index * (len(steps) - 1) / (most - 1))] for index in range(most)]
    chosen: list[int] = list(dict.fromkeys((*wanted, *even)))[:most]
    return tuple(sorted(chosen))


def film_strips(course: Course, *, runs: Mapping[str, Results], steps: Sequence[int]) -> tuple[Strip, ...]:
    """Cases with the largest harm at the newest of the steps, then a sample that no result has a say in.

    Worst cases show the seed with most lost checks, sampled cases the first seed; both as `CaseReader` has them.

    Args:
        course: All evaluations.
        runs: Id to results.
        steps: Checkpoints to show.
    """
    shown = [one for one in course.evaluations if one.training_step in steps and _screen(one, runs) is not None]
    if not shown:
        return ()
    newest = _last_look(shown[-1], runs)
    readers = {one.run_ids[0]: CaseReader(runs[one.run_ids[0]]) for one in shown}
    ranked = sorted(CaseReader(newest).read_all(), key=lambda view: -view.harm)
    worst = [view for view in ranked if view.harm_metric is not None and view.harm > 0][:N_WORST]
    sample = _sample(newest)
    by_case = {view.case.id: view for view in ranked}
    others = [by_case[case] for case in sample if case in by_case and by_case[case] not in worst]
    rows = [*((view, True) for view in worst), *((view, False) for view in others)]
    return tuple(
        Strip(
            case=view.case.id,
            family=view.case.family,
            prompt=next((prompt for column, prompt in view.prompts if column.main), view.case.prompt),
            worst=is_worst,
            sampled=view.case.id in sample,
            harm=view.harm,
            harm_metric=view.harm_metric,
            frames=tuple(_frame(view, one, readers[one.run_ids[0]], worst=is_worst) for one in shown),
        )
        for view, is_worst in rows
    )


def shown_in(strips: Sequence[Strip]) -> list[str]:
    """SHA-256 of each picture, as often as it stands there."""
    frames = [frame for strip in strips for frame in strip.frames]
    views = [view for frame in frames for view in (frame.candidate, frame.control)]
    return [view.image.sha256 for view in views if view is not None and view.image is not None]


def _screen(evaluation: Evaluation, runs: Mapping[str, Results]) -> Results | None:
    return runs.get(evaluation.run_ids[0]) if evaluation.run_ids else None


def _last_look(evaluation: Evaluation, runs: Mapping[str, Results]) -> Results:
    return next(runs[name] for name in reversed(evaluation.run_ids) if name in runs)


def _sample(results: Results) -> list[str]:
    """Cases spread evenly over the suite."""
    cases = results.suite.cases
    count = min(N_SAMPLE, len(cases))
    return [cases[(2 * index + 1) * len(cases) // (2 * count)].id for index in range(count)]


def _frame(view: CaseView, evaluation: Evaluation, reader: CaseReader, *, worst: bool) -> StripFrame:
    case = next((one for one in reader.results.suite.cases if one.id == view.case.id), None)
    step, mark = evaluation.training_step, mark_of(evaluation)
    seeds = () if case is None else reader.read(case).seeds
    if not seeds:
        return StripFrame(step, mark, None, None, None)
    seed = seeds[0] if worst else next(one for one in seeds if one.seed == reader.seeds[0])
    by_column = {picture.column: picture for picture in seed.pictures}
    candidate = None if reader.main is None else by_column.get(reader.main)
    control = None if reader.control is None else by_column.get(reader.control)
    return StripFrame(step, mark, seed.seed, candidate, control)
