"""What our rules say of courses that others recorded: PEFT's image-generation benchmark (needs LORABENCH_TEST_DATA).

Fifteen methods, one subject, FLUX.2 klein; every 100 steps the similarity (DINOv2) of generated pictures to two
validation pictures. No guard was measured, no standard error is given: `docs/courses-of-others.md` says what can be
learned from that and what cannot.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lorabench.records.config import CourseConfig
from lorabench.records.course import Decision, Evaluation, GuardReading, PolicyState
from lorabench.training.choosing import choose
from lorabench.training.loss_trend import Block, theil_sen
from lorabench.training.policy import alarms

FOLDER = "peft-image-gen"
SIGNAL = "subject_similarity"
DID_SOMETHING = 0.05
"""Drift at the end below which a run counts as having learned nothing; its course then shows no noise of learning."""
FALL_MARGIN = 0.10
DRAWS = 1000


@dataclass(frozen=True)
class RecordedCourse:
    """One result file."""

    name: str
    steps: tuple[int, ...]
    """Training steps with a validation value."""
    similarity: tuple[float, ...]
    losses: tuple[float, ...]
    """Mean training loss since the evaluation before."""
    last_step: int
    asked_steps: int
    test_similarity: float
    drift: float | None
    """At the end; None where the file says NaN."""
    n_validation: int
    n_test: int
    evaluation_share: float
    """Of the wall time."""


def read_courses(folder: Path) -> tuple[RecordedCourse, ...]:
    """All result files of a folder, by name.

    Raises:
        ValueError: No files, or one without validation values.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        msg = f"result files of PEFT's benchmark must lie in {folder.name}; found none."
        raise ValueError(msg)
    return tuple(_course(path) for path in paths)


def _course(path: Path) -> RecordedCourse:
    facts = json.loads(path.read_text(encoding="utf-8"))
    config, train = facts["run_info"]["train_config"], facts["train_info"]
    rows = [row for row in train["metrics"] if "valid dino_similarity" in row]
    if len(rows) < 2:
        msg = f"a course needs two validation values at least; {path.name} has {len(rows)}."
        raise ValueError(msg)
    end = next(row for row in train["metrics"] if "test dino_similarity" in row)
    return RecordedCourse(
        name=path.name.partition("--")[0],
        steps=tuple(row["step"] for row in rows),
        similarity=tuple(row["valid dino_similarity"] for row in rows),
        losses=tuple(row["train loss"] for row in rows),
        last_step=end["step"],
        asked_steps=config["max_steps"],
        test_similarity=end["test dino_similarity"],
        drift=end["drift"] if math.isfinite(end["drift"]) else None,
        n_validation=config["valid_size"],
        n_test=config["test_size"],
        evaluation_share=sum(row["eval time"] for row in rows) / facts["run_info"]["total_time"],
    )


def noise_of(courses: tuple[RecordedCourse, ...], *, without: str | None = None) -> float:
    """Standard error of one value, from how much courses zigzag: second differences have six times its variance.

    Args:
        courses: Those that learned nothing are left out.
        without: The course that the number will be used on.
    """
    bends = [
        a - 2 * b + c
        for course in courses
        if course.name != without and (course.drift is None or course.drift > DID_SOMETHING)
        for a, b, c in zip(course.similarity, course.similarity[1:], course.similarity[2:], strict=False)
    ]
    return 1.4826 * statistics.median(abs(bend) for bend in bends) / math.sqrt(6)


def evaluations_of(course: RecordedCourse, *, error: float) -> list[Evaluation]:
    """The course as our own records: a style and no guard."""
    return [
        Evaluation(
            training_step=step,
            signals={SIGNAL: value, f"{SIGNAL}_se": error},
            decision=Decision(sentence="Recorded by others.", training_step=step),
        )
        for step, value in zip(course.steps, course.similarity, strict=True)
    ]


def chosen_step(course: RecordedCourse, *, error: float) -> int:
    """What our choice takes where no guard is asked for."""
    choice = choose(evaluations_of(course, error=error), style_signal=SIGNAL, guards=())
    assert choice.training_step is not None
    return choice.training_step


def best_step(course: RecordedCourse) -> int:
    """The highest value, in hindsight."""
    return max(zip(course.similarity, [-step for step in course.steps], strict=True))[1] * -1


def by_neighbours(course: RecordedCourse, step: int) -> float:
    """A step's value from the evaluations beside it, so that picking it for its own noise does not flatter it."""
    place = course.steps.index(step)
    beside = [course.similarity[k] for k in (place - 1, place + 1) if 0 <= k < len(course.steps)]
    return statistics.fmean(beside)


def alarmed_steps(course: RecordedCourse, *, error: float) -> tuple[int, ...]:
    """Where a guard "similarity is not more than `FALL_MARGIN` below its best so far" would ask for a second look."""
    state, found = PolicyState(), []
    for place in range(1, len(course.steps)):
        harm = max(course.similarity[:place]) - course.similarity[place]
        spread = error * math.sqrt(2)
        reading = GuardReading(
            gate="fall",
            metric=SIGNAL,
            harm=harm,
            standard_error=spread,
            margin=FALL_MARGIN,
            n_cases=course.n_validation,
            low=harm - 2 * spread,
            high=harm + 2 * spread,
            p_beyond_margin=statistics.NormalDist().cdf((FALL_MARGIN - harm) / spread),
        )
        alarmed, state = alarms([reading], state, CourseConfig())
        if alarmed:
            found.append(course.steps[place])
    return tuple(found)


def loss_falls(course: RecordedCourse) -> bool:
    """Whether the recorded means of the training loss are shown to fall."""
    blocks = [Block(first=step - 99, last=step, n=100, level=loss)
              for step, loss in zip(course.steps, course.losses, strict=True)]  # fmt: skip
    return theil_sen(blocks).high < 0


def regrets(course: RecordedCourse, *, error: float, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Mean loss of true similarity against the truly best step, and mean step, by rule, where the truth is known.

    The truth is the course smoothed over three evaluations; values are drawn around it with the standard error.
    """
    values = np.array(course.similarity)
    padded = np.concatenate([values[:1], values, values[-1:]])
    truth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    drawn = truth + error * rng.standard_normal((DRAWS, len(truth)))
    top = drawn.argmax(axis=1)
    near = drawn >= drawn.max(axis=1, keepdims=True) - error
    places = {"last": np.full(DRAWS, len(truth) - 1), "highest": top, "one standard error": near.argmax(axis=1)}
    steps = np.array(course.steps)
    return {
        rule: (float(np.mean(truth.max() - truth[place])), float(np.mean(steps[place])))
        for rule, place in places.items()
    }


def main() -> None:
    data = os.environ.get("LORABENCH_TEST_DATA")
    if not data or not (Path(data) / FOLDER).is_dir():
        print(f"not measured: LORABENCH_TEST_DATA names no folder with {FOLDER}/")
        return
    courses = read_courses(Path(data) / FOLDER)
    error = noise_of(courses)
    print(f"{len(courses)} courses; standard error of one value, from their zigzag: {error:.3f}\n")
    _print_courses(courses)
    _print_summary(courses, error=error)
    _print_simulation(courses)


def _print_courses(courses: tuple[RecordedCourse, ...]) -> None:
    print(
        "| method | last | best in hindsight | ours | beside last | beside best | beside ours | alarms | loss falls |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for course in courses:
        error = noise_of(courses, without=course.name)
        steps = (course.steps[-1], best_step(course), chosen_step(course, error=error))
        own = [f"{course.similarity[course.steps.index(step)]:.3f} at {step}" for step in steps]
        beside = [f"{by_neighbours(course, step):.3f}" for step in steps]
        alarm = ", ".join(map(str, alarmed_steps(course, error=error))) or "none"
        falls = "yes" if loss_falls(course) else "not shown"
        print(f"| {course.name} | {' | '.join(own)} | {' | '.join(beside)} | {alarm} | {falls} |")


def _print_summary(courses: tuple[RecordedCourse, ...], *, error: float) -> None:
    learned = [course for course in courses if course.drift is None or course.drift > DID_SOMETHING]
    ours = {course.name: chosen_step(course, error=noise_of(courses, without=course.name)) for course in learned}
    print(f"\nof the {len(learned)} that learned something:")
    for name, step_of in (
        ("last", lambda course: course.steps[-1]),
        ("best in hindsight", best_step),
        ("ours", lambda course: ours[course.name]),
    ):
        own = [c.similarity[c.steps.index(step_of(c))] - c.similarity[-1] for c in learned]
        beside = [by_neighbours(c, step_of(c)) - by_neighbours(c, c.steps[-1]) for c in learned]
        median = statistics.median(step_of(c) for c in learned)
        print(
            f"  {name:18s} median step {median:.0f}; minus last, mean: own values {statistics.fmean(own):+.3f} "
            f"(standard error {_standard_error(own):.3f}), beside {statistics.fmean(beside):+.3f} "
            f"({_standard_error(beside):.3f})"
        )
    gains = [max(c.similarity) - c.similarity[-1] for c in learned]
    print(
        f"  best step is not the last in {sum(gain > 0 for gain in gains)}; median gain {statistics.median(gains):.3f}"
    )
    print(f"  seven values of one truth with that standard error: the highest is {1.352 * error:.3f} above it")
    shares = [c.evaluation_share for c in courses]
    print(f"  evaluation took {min(shares):.0%} to {max(shares):.0%} of the wall time")


def _print_simulation(courses: tuple[RecordedCourse, ...]) -> None:
    rng = np.random.default_rng(20250101)
    learned = [course for course in courses if course.drift is None or course.drift > DID_SOMETHING]
    found = [regrets(c, error=noise_of(courses, without=c.name), rng=rng) for c in learned]
    print(f"\nsmoothed courses as truth, {DRAWS} noisy redrawings each:")
    for rule in found[0]:
        regret, step = (statistics.fmean(one[rule][k] for one in found) for k in (0, 1))
        print(f"  {rule:18s} similarity lost {regret:.3f}, mean step {step:.0f}")


def _standard_error(values: list[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values))


if __name__ == "__main__":
    main()
