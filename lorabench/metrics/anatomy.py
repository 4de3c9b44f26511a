"""Bodies: are the parts there in the right number, and is the body still recognised as one?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lorabench.metrics.prompt_following import CheckScore, Sensor, prompt_following_score
from lorabench.metrics.reading import Missing
from lorabench.records.detection import Detection
from lorabench.records.measurement import Metric
from lorabench.records.suite import AnatomyCheck, Case

PART_COUNT_ERROR: Final = Metric(
    name="part_count_error",
    version=1,
    higher_is_better=False,
    unit="parts",
    summary="missing or surplus fingers and limbs per figure asked for",
)

ANATOMY_SCORE: Final = Metric(
    name="anatomy_score",
    version=1,
    higher_is_better=True,
    unit="share",
    summary="share of a case's anatomy checks that the picture passes: every figure asked for has its parts",
)

LEAST_DETECTION_RATE: Final = 0.6
"""Share of pictures with the figure in which the detector must find it."""


def anatomy_score(case: Case, scores: Sequence[CheckScore]) -> float | Missing:
    """Share of a case's anatomy checks that passed, 0 to 1; or why there is none.

    Args:
        case: A case with anatomy checks.
        scores: Outcomes of all its checks.
    """
    chosen = [score for score in scores if isinstance(case.checks[score.index], AnatomyCheck)]
    return prompt_following_score(chosen)


def part_count_error(case: Case, detections: Sequence[Detection], *, sensor: Sensor) -> float | Missing:
    """Mean over the figures asked for of |parts - expected parts|.

    A figure that is not found shows none of its parts and counts with all of them. Leaving it out would let an
    adapter that destroys bodies look better than one that bends a finger, since only its best pictures would count.

    Args:
        case: A case with anatomy checks.
        detections: What the detector saw in the picture.
        sensor: What the detector can see.

    Returns:
        Parts per figure, at least 0; or why there is none.
    """
    errors: list[int] = []
    for check in case.checks:
        if not isinstance(check, AnatomyCheck) or check.parts is None:
            continue
        if check.label not in sensor.labels & sensor.counts_parts:
            return Missing(f"parts need a detector that counts them; this one counts none of {check.label}.")
        best = sensor.found(detections, check.label)[: check.subjects]
        counts = [detection.count for detection in best]
        if None in counts:
            return Missing(f"the detector must count the parts of each {check.label} it finds; it left one uncounted.")
        errors.extend(abs(n - check.parts) for n in counts if n is not None)
        errors.extend([check.parts] * (check.subjects - len(best)))
    if not errors:
        return Missing(f"parts need an anatomy check with a number of parts; case {case.id} has none.")
    return sum(errors) / len(errors)


def detectability(detections: Sequence[Detection], label: str, *, n_subjects: int) -> float:
    """How surely the figures asked for are recognised: mean score of the best ones, 0 for each that is missing.

    Falls smoothly as bodies distort, before any count is wrong.

    Args:
        detections: What the detector saw, below any threshold, too.
        label: Class of the figure.
        n_subjects: Figures asked for, at least 1.

    Returns:
        0 to 1.

    Raises:
        ValueError: No figure was asked for.
    """
    if n_subjects < 1:
        msg = f"detectability needs at least one figure; got {n_subjects}. Pass the number the prompt asks for."
        raise ValueError(msg)
    scores = sorted((d.score for d in detections if d.label == label), reverse=True)[:n_subjects]
    return sum(scores) / n_subjects


def instance_count_error(detections: Sequence[Detection], label: str, *, n_subjects: int, sensor: Sensor) -> int:
    """|figures found - figures asked for|."""
    return abs(len(sensor.found(detections, label)) - n_subjects)


def detector_problem(found: Sequence[bool], *, where: str) -> str | None:
    """Why the detector cannot judge bodies here; None if it can.

    Args:
        found: For each picture with the figure (training pictures, or the control's), whether it was found.
        where: Names these pictures in the message.

    Returns:
        A reason where there are no pictures, or where it finds the figure in fewer than 60 %.
    """
    if not found:
        return f"the detector must be tried on {where} with the figure; there are none. Add some."
    rate = sum(found) / len(found)
    if rate < LEAST_DETECTION_RATE:
        return (
            f"the detector must find the figure in {LEAST_DETECTION_RATE:.0%} of {where}; it does in {rate:.0%} of "
            f"{len(found)}. It is blind to this style: use another detector."
        )
    return None
