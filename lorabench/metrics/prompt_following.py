"""Is what the prompt asked for in the picture? A case's checks, scored on what a detector saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from lorabench.metrics.geneval import Rules, relations, survivors
from lorabench.metrics.lettering import WANTED_SIMILARITY, lettering_of, said, wanted_similarity
from lorabench.metrics.reading import Missing
from lorabench.records.detection import Detection, Lettering
from lorabench.records.measurement import Metric
from lorabench.records.suite import (
    AnatomyCheck,
    Case,
    Check,
    ColorCheck,
    CountCheck,
    ExcludeCheck,
    NoExtraCheck,
    ObjectCheck,
    PaletteCheck,
    QuestionCheck,
    RelationCheck,
    TextCheck,
)

PROMPT_FOLLOWING_SCORE: Final = Metric(
    name="prompt_following_score",
    version=1,
    higher_is_better=True,
    unit="share",
    summary="share of a case's checks that the picture passes",
)
PROMPT_EXACT_SCORE: Final = Metric(
    name="prompt_exact_score",
    version=1,
    higher_is_better=True,
    unit="share",
    summary="1 where the picture passes all checks of its case",
)


@dataclass(frozen=True, slots=True)
class Sensor:
    """What the detector can see, and which of its detections count.

    Attributes:
        labels: Classes it was asked to look for.
        reads_color: Whether its detections carry colours.
        counts_parts: Classes whose parts it counts.
        rules: Thresholds and limits.
    """

    labels: frozenset[str]
    reads_color: bool
    counts_parts: frozenset[str] = frozenset()
    rules: Rules = field(default_factory=Rules)

    def found(
        self, detections: Sequence[Detection], label: str, *, color: str | None = None, counting: bool = False
    ) -> list[Detection]:
        """Detections of the class (and colour) that count, best first."""
        threshold = self.rules.counting_threshold if counting else self.rules.threshold
        kept = survivors(detections, label, threshold=threshold, rules=self.rules)
        return kept if color is None else [detection for detection in kept if detection.color == color]


@dataclass(frozen=True, slots=True)
class Read:
    """What a text reader read in one picture.

    Attributes:
        lettering: All that looks like lettering.
        size: Height and width of the picture.
    """

    lettering: Sequence[Lettering]
    size: tuple[int, int]


NO_DETECTOR: Final = Sensor(labels=frozenset(), reads_color=False)
"""Sees nothing: for pictures that are read and not looked at."""


@dataclass(frozen=True, slots=True)
class CheckScore:
    """The outcome of one check on one picture.

    Attributes:
        index: Place of the check in its case.
        passed: None where it could not be scored.
        reason: What was found, or why it could not be scored.
    """

    index: int
    passed: bool | None
    reason: str


def score_checks(
    case: Case, detections: Sequence[Detection], *, sensor: Sensor, read: Read | None = None
) -> tuple[CheckScore, ...]:
    """Score a case's checks on one picture.

    What cannot be scored depends on the check and the detector only, not on the picture; so both arms of a pair are
    scored on the same checks. The one exception is a detector that leaves single parts uncounted.

    Args:
        case: The case.
        detections: What the detector saw in the picture.
        sensor: What the detector can see.
        read: What a text reader read, where there is one.

    Returns:
        One score per check, in order.
    """
    scores = []
    for index, check in enumerate(case.checks):
        if isinstance(check, TextCheck) and read is not None:
            scores.append(CheckScore(index, *_text_outcome(check, read)))
            continue
        if problem := _blind_to(check, sensor):
            scores.append(CheckScore(index, None, problem))
            continue
        passed, reason = _outcome(check, detections, sensor)
        scores.append(CheckScore(index, passed, reason))
    return tuple(scores)


def prompt_following_score(scores: Sequence[CheckScore]) -> float | Missing:
    """Share of the scored checks that passed, 0 to 1; or why there is none."""
    passed = [score.passed for score in scores if score.passed is not None]
    return sum(passed) / len(passed) if passed else _nothing_scored(scores)


def prompt_exact_score(scores: Sequence[CheckScore]) -> float | Missing:
    """1 if all scored checks passed, else 0; or why there is none."""
    passed = [score.passed for score in scores if score.passed is not None]
    return float(all(passed)) if passed else _nothing_scored(scores)


def relation_given_presence(case: Case, detections: Sequence[Detection], *, sensor: Sensor) -> float | Missing:
    """Share of the case's relations that hold, among those whose subject and object are both there.

    Tells misplaced objects from missing ones. It is read on fewer pictures the more objects are missing, so it is
    shown beside the score and is not a score of its own.

    Returns:
        Share, 0 to 1; or why there is none.
    """
    held = []
    for check in case.checks:
        if isinstance(check, RelationCheck) and _blind_to(check, sensor) is None:
            one, other = _related(check, detections, sensor)
            if one and other:
                held.append(check.relation in relations(one[0].box, other[0].box))
    if held:
        return sum(held) / len(held)
    return Missing(f"a relation needs both objects; case {case.id} shows no such pair here. Read the object checks.")


def _nothing_scored(scores: Sequence[CheckScore]) -> Missing:
    why = "; ".join(dict.fromkeys(score.reason for score in scores)) or "the case has no checks"
    return Missing(f"at least one check must be scored; found none ({why}). Add a check that the detector can read.")


def _blind_to(check: Check, sensor: Sensor) -> str | None:
    """Why this detector cannot score this check; None if it can."""
    match check:
        case ObjectCheck() | ExcludeCheck() | ColorCheck() | CountCheck():
            problem = _blind_to_objects(check, sensor)
        case RelationCheck():
            problem = _blind_to_relation(check, sensor)
        case AnatomyCheck():
            problem = _blind_to_anatomy(check, sensor)
        case NoExtraCheck():
            beyond = sensor.labels - set(check.allowed)
            problem = None if beyond else "the detector looks for no class beyond those allowed"
        case QuestionCheck():
            problem = "questions need a VQA judge, and none is set"
        case PaletteCheck():
            problem = "palettes are read by palette_compliance_score"
        case _:
            problem = "lettering needs a text reader, and none is set ([judges] ocr)"
    return problem


def _blind_to_objects(check: ObjectCheck | ExcludeCheck | ColorCheck | CountCheck, sensor: Sensor) -> str | None:
    color = None if isinstance(check, ExcludeCheck) else check.color
    if problem := _unseen(sensor, labels=(check.label,), colors=(color,)):
        return problem
    limit = sensor.rules.max_objects
    if isinstance(check, CountCheck) and check.count >= limit:
        return f"at most {limit} objects are kept per class, so {check.count} cannot be told from more"
    return None


def _blind_to_relation(check: RelationCheck, sensor: Sensor) -> str | None:
    colors = (check.subject_color, check.object_color)
    if problem := _unseen(sensor, labels=(check.subject, check.object), colors=colors):
        return problem
    if check.subject == check.object and (None in colors or colors[0] == colors[1]):
        return "subject and object of the relation cannot be told apart"
    return None


def _blind_to_anatomy(check: AnatomyCheck, sensor: Sensor) -> str | None:
    if problem := _unseen(sensor, labels=(check.label,), colors=()):
        return problem
    if check.parts is None:
        return "no number of parts is expected; read detectability instead"
    return None if check.label in sensor.counts_parts else f"the detector counts no parts of {check.label}"


def _unseen(sensor: Sensor, *, labels: tuple[str, ...], colors: tuple[str | None, ...]) -> str | None:
    for label in labels:
        if label not in sensor.labels:
            return f"the detector does not look for {label}"
    if any(colors) and not sensor.reads_color:
        return "the detector reads no colours"
    return None


def _outcome(check: Check, detections: Sequence[Detection], sensor: Sensor) -> tuple[bool | None, str]:
    match check:
        case ColorCheck():
            return _color_outcome(check, detections, sensor)
        case RelationCheck():
            return _relation_outcome(check, detections, sensor)
        case NoExtraCheck():
            labels = sorted(sensor.labels - set(check.allowed))
            extra = [label for label in labels if sensor.found(detections, label)]
            return not extra, f"found {', '.join(extra)} beside what is allowed" if extra else "nothing extra found"
        case AnatomyCheck():
            return _anatomy_outcome(check, detections, sensor)
        case ObjectCheck() | ExcludeCheck() | CountCheck():
            return _number_outcome(check, detections, sensor)
        case _:
            msg = f"a check must have a rule; {check.type} has none. Add one here, or a reason to `_blind_to`."
            raise TypeError(msg)


def _number_outcome(
    check: ObjectCheck | ExcludeCheck | CountCheck, detections: Sequence[Detection], sensor: Sensor
) -> tuple[bool, str]:
    color = None if isinstance(check, ExcludeCheck) else check.color
    counting = isinstance(check, CountCheck)
    n_found = len(sensor.found(detections, check.label, color=color, counting=counting))
    said = f"found {n_found} {_name(check.label, color)}, wanted"
    if isinstance(check, ObjectCheck):
        return n_found >= check.count, f"{said} {check.count}"
    if isinstance(check, ExcludeCheck):
        return n_found < check.count, f"{said} fewer than {check.count}"
    return n_found == check.count, f"{said} exactly {check.count}"


def _color_outcome(check: ColorCheck, detections: Sequence[Detection], sensor: Sensor) -> tuple[bool, str]:
    best = sensor.found(detections, check.label)[: check.count]
    if len(best) < check.count:
        return False, f"found {len(best)} {check.label}, wanted {check.count}"
    colors = [detection.color or "no colour" for detection in best]
    return all(color == check.color for color in colors), f"found {check.label} in {', '.join(colors)}"


def _relation_outcome(check: RelationCheck, detections: Sequence[Detection], sensor: Sensor) -> tuple[bool, str]:
    one, other = _related(check, detections, sensor)
    if not one:
        return False, f"found no {_name(check.subject, check.subject_color)}"
    if not other:
        return False, f"found no {_name(check.object, check.object_color)}"
    held = relations(one[0].box, other[0].box)
    return check.relation in held, f"found {', '.join(sorted(held)) or 'no relation'}, wanted {check.relation}"


def _related(
    check: RelationCheck, detections: Sequence[Detection], sensor: Sensor
) -> tuple[list[Detection], list[Detection]]:
    return (
        sensor.found(detections, check.subject, color=check.subject_color),
        sensor.found(detections, check.object, color=check.object_color),
    )


def _anatomy_outcome(check: AnatomyCheck, detections: Sequence[Detection], sensor: Sensor) -> tuple[bool | None, str]:
    best = sensor.found(detections, check.label)[: check.subjects]
    if len(best) < check.subjects:
        return False, f"found {len(best)} {check.label}, wanted {check.subjects}"
    counts = [detection.count for detection in best]
    if None in counts:
        return None, f"the detector counted no parts on a {check.label}"
    return all(n == check.parts for n in counts), f"found {', '.join(map(str, counts))} parts, wanted {check.parts}"


def _text_outcome(check: TextCheck, read: Read) -> tuple[bool, str]:
    """Nothing legible or illegible where none is wanted; else the text, with at most three letters in ten wrong."""
    if check.text is None:
        found = lettering_of(read.lettering, size=read.size)
        return not found, f"found {', '.join(said(one) for one in found)}" if found else "no lettering found"
    similarity, text = wanted_similarity(check.text, read.lettering)
    return similarity >= WANTED_SIMILARITY, f"read {text!r}, wanted {check.text!r} (similarity {similarity:.2f})"


def _name(label: str, color: str | None) -> str:
    return label if color is None else f"{color} {label}"
