"""Features → Measurements, the part about content nobody asked for: lettering, repeated lettering, surplus things."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabench.evaluation.measuring import Measured
from lorabench.metrics.clutter import EMPTY_SPACE_CLUTTER
from lorabench.metrics.invented import SURPLUS_OBJECTS, expected, names_everything, surplus
from lorabench.metrics.lettering import (
    LETTERING_LEAK_RATE,
    LETTERING_RATE,
    LETTERING_SHARE,
    MOST_FIRING,
    Leak,
    leak_of,
    leakable,
    lettering_of,
    lettering_share,
    said,
)
from lorabench.records.measurement import Metric, Unmeasured
from lorabench.records.plan import Arm, Cell
from lorabench.records.suite import Case, TextCheck

if TYPE_CHECKING:
    from lorabench.evaluation.encoding import Features
    from lorabench.evaluation.measuring import Rulers
    from lorabench.evaluation.training_look import Training
    from lorabench.records.detection import Lettering
    from lorabench.records.images import Image

ARMS = (Arm.CONTROL, Arm.CANDIDATE)
MOST_NAMED = 3
"""Examples a verdict names."""
Named = dict[Cell, str]
"""Cell to what was found on it, in words."""


@dataclass(frozen=True, slots=True)
class Content:
    """What is known of content nobody asked for.

    Attributes:
        parts: Numbers.
        seen: Metric to what the candidate's pictures show, in words; only where they show something.
    """

    parts: tuple[Measured, ...]
    seen: Mapping[str, str]


def measure_content(
    images: Iterable[Image], features: Features, *, rulers: Rulers, training: Training | None
) -> Content:
    """Measure lettering, repeated lettering and surplus things on the pictures of control and candidate.

    Args:
        images: The pictures of all arms.
        features: What is known of them.
        rulers: What to measure with.
        training: The training pictures, if there are any.
    """
    images = list(images)
    read = None if training is None else training.lettering
    names = () if training is None else training.pictures.names
    found = {
        LETTERING_RATE: measure_lettering(images, features, rulers=rulers),
        LETTERING_LEAK_RATE: measure_leaks(images, features, rulers=rulers, training=read, names=names),
        SURPLUS_OBJECTS: measure_surplus(images, features, rulers=rulers),
    }
    words = {metric.name: examples_in_words(named) for metric, (_, named) in found.items()}
    return Content(
        parts=tuple(measured for measured, _ in found.values()),
        seen={name: text for name, text in words.items() if text},
    )


def is_compared_on(metric: str, case: Case, *, rulers: Rulers) -> bool:
    """Whether a metric's comparison of the arms takes this case in: clutter only where emptiness is asked for.

    That is where all is named and it is one thing. A second thing is no clutter, yet lies in the space around the
    first: where the style outlines things it would fill more of it than in the control.
    """
    one_thing = names_everything(case, world=is_world(rulers)) and sum(expected(case).values()) <= 1
    return metric != EMPTY_SPACE_CLUTTER.name or one_thing


def is_world(rulers: Rulers) -> bool:
    """Whether the pictures are of a closed world, whose prompts name everything."""
    return rulers.judges.world_classes is not None


def asks_for_lettering(case: Case) -> bool:
    """Whether a check of the case states a text."""
    return any(isinstance(check, TextCheck) and check.text is not None for check in case.checks)


def measure_lettering(images: Iterable[Image], features: Features, *, rulers: Rulers) -> tuple[Measured, Named]:
    """Say which pictures of control and candidate show lettering that nobody asked for.

    Args:
        images: The pictures of all arms.
        features: What is known of them.
        rulers: What to measure with.

    Returns:
        Rate and share of every picture whose case states no text, and what was read. The rate is missing as a whole
        where the reader fires on more than a fifth of the control's pictures: it takes something in this style for
        lettering.
    """
    done, named = Measured(), Named()
    if rulers.judges.reader is None:
        return _absent(done, (LETTERING_RATE, LETTERING_SHARE), rulers), named
    judged = _judged(images, rulers)
    found = {image.cell: lettering_of(features.lettering[image.sha256], size=_size(image)) for image in judged}
    control = [bool(found[image.cell]) for image in judged if image.cell.arm is Arm.CONTROL]
    firing = sum(control) / len(control) if control else 0.0
    if not judged or firing > MOST_FIRING:
        done.unmeasured.append(Unmeasured(metric=LETTERING_RATE.name, reason=_why_unread(firing, n=len(control))))
    for image in judged:
        seen = features.lettering[image.sha256]
        done.add(LETTERING_SHARE, image.cell, lettering_share(seen, size=_size(image)))
        if firing <= MOST_FIRING:
            done.add(LETTERING_RATE, image.cell, float(bool(found[image.cell])))
        if found[image.cell]:
            named[image.cell] = ", ".join(said(one) for one in found[image.cell][:MOST_NAMED])
    return done, named


def measure_leaks(
    images: Iterable[Image],
    features: Features,
    *,
    rulers: Rulers,
    training: Sequence[Sequence[Lettering]] | None,
    names: Sequence[str],
) -> tuple[Measured, Named]:
    """Say which pictures of control and candidate repeat lettering of a training picture.

    Args:
        images: The pictures of all arms.
        features: What is known of them.
        rulers: What to measure with.
        training: What was read on each training picture, if there are any.
        names: Of the training pictures.

    Returns:
        The rate of every picture whose case states no text, and what leaked from where. Missing as a whole where no
        training picture has lettering that could be read.
    """
    done, named = Measured(), Named()
    if rulers.judges.reader is None:
        return _absent(done, (LETTERING_LEAK_RATE,), rulers), named
    if training is None:
        return _missing(done, "no training pictures are configured ([training_set] folder)"), named
    if not leakable(training):
        reason = f"nothing can leak: in none of the {len(training)} training pictures could a string be read."
        return _missing(done, reason), named
    for image in _judged(images, rulers):
        leak = leak_of(features.lettering[image.sha256], training)
        done.add(LETTERING_LEAK_RATE, image.cell, float(leak is not None))
        if leak is not None:
            named[image.cell] = _leak_in_words(leak, names)
    return done, named


def measure_surplus(images: Iterable[Image], features: Features, *, rulers: Rulers) -> tuple[Measured, Named]:
    """Count what pictures of control and candidate show beyond what their cases ask for.

    Args:
        images: The pictures of all arms.
        features: What is known of them.
        rulers: What to measure with.

    Returns:
        The surplus of every picture whose case names all that should be there, and its classes.
    """
    done, named = Measured(), Named()
    judges = rulers.judges
    if judges.detector is None or rulers.sensor is None:
        return _absent(done, (SURPLUS_OBJECTS,), rulers, judge="detector"), named
    world = is_world(rulers)
    cases = {case.id: case for case in rulers.suite.cases if names_everything(case, world=world)}
    unasked = {case.id: _unasked(case, rulers) for case in cases.values()}
    judged = [image for image in images if image.cell.arm in ARMS and image.cell.case in cases]
    if not cases or any(image.sha256 not in features.surroundings for image in judged):
        reason = "no case names all that should be there" if not cases else "no vocabulary is set ([judges] vocabulary)"
        done.unmeasured.append(Unmeasured(metric=SURPLUS_OBJECTS.name, reason=reason))
        return done, named
    for image in judged:
        found = surplus(
            cases[image.cell.case],
            features.surroundings[image.sha256],
            rules=rulers.sensor.rules,
            unasked=unasked[image.cell.case],
        )
        done.add(SURPLUS_OBJECTS, image.cell, found.value)
        if found.count:
            named[image.cell] = ", ".join(found.extra[:MOST_NAMED])
    return done, named


def examples_in_words(named: Named) -> str:
    """The first examples of the candidate's, in words; nothing without any.

    >>> examples_in_words({Cell(arm=Arm.CANDIDATE, case="a-1", seed=3): "a chair"})
    'Seen: a chair (a-1, seed 3).'
    """
    cells = sorted((cell for cell in named if cell.arm is Arm.CANDIDATE), key=lambda cell: (cell.case, cell.seed))
    shown = [f"{named[cell]} ({cell.case}, seed {cell.seed})" for cell in cells[:MOST_NAMED]]
    more = f" and {len(cells) - len(shown)} more" if len(cells) > len(shown) else ""
    return f"Seen: {'; '.join(shown)}{more}." if shown else ""


def _judged(images: Iterable[Image], rulers: Rulers) -> list[Image]:
    """Pictures of control and candidate whose cases state no text."""
    cases = {case.id for case in rulers.suite.cases if not asks_for_lettering(case)}
    return [image for image in images if image.cell.arm in ARMS and image.cell.case in cases]


def _unasked(case: Case, rulers: Rulers) -> frozenset[str]:
    """Classes that count as invented in the pictures of a case."""
    judges = rulers.judges
    if judges.world_classes is not None:
        return judges.world_classes
    if judges.vocabulary is None:
        return frozenset()
    prompt = case.render(rulers.style.neutral)
    return judges.vocabulary.unasked(prompt) - expected(case).keys()


def _absent(done: Measured, metrics: Sequence[Metric], rulers: Rulers, *, judge: str = "reader") -> Measured:
    reason = rulers.judges.why_absent(judge)
    done.unmeasured += [Unmeasured(metric=metric.name, reason=reason) for metric in metrics]
    return done


def _missing(done: Measured, reason: str) -> Measured:
    done.unmeasured.append(Unmeasured(metric=LETTERING_LEAK_RATE.name, reason=reason))
    return done


def _why_unread(firing: float, *, n: int) -> str:
    if not n:
        return "lettering is compared with the control's, on cases that state no text; there are no such pictures."
    return (
        f"the text reader finds lettering in {firing:.0%} of {n} pictures of the control, whose prompts ask for none "
        f"(at most {MOST_FIRING:.0%} may): it takes something in this style for lettering. Look at lettering_share."
    )


def _leak_in_words(leak: Leak, names: Sequence[str]) -> str:
    return f"{leak.text!r} ({leak.script}) as {leak.training_text!r} in {names[leak.training_index]}"


def _size(image: Image) -> tuple[int, int]:
    return image.height, image.width
