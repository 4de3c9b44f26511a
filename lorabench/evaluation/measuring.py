"""Features → Measurements: one number per picture and metric, or why there is none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lorabench.evaluation.encoding import Features
from lorabench.evaluation.judge_set import JudgeSet
from lorabench.metrics.anatomy import ANATOMY_SCORE, PART_COUNT_ERROR, anatomy_score, part_count_error
from lorabench.metrics.broken import BROKEN_RATE, same_for_other_seed
from lorabench.metrics.descriptor_copies import DESCRIPTOR_COPY_RATE, DESCRIPTOR_RATIO
from lorabench.metrics.foils import FOIL_ACCURACY_SCORE, FOIL_WIN_RATE, Trial, foil_reading, judge_self_test
from lorabench.metrics.geneval import Rules
from lorabench.metrics.identity import IDENTITY_SIMILARITY
from lorabench.metrics.invented import SURPLUS_OBJECTS
from lorabench.metrics.lettering import LETTERING_LEAK_RATE, LETTERING_RATE, LETTERING_SHARE
from lorabench.metrics.memorisation import (
    COPY_RATE,
    NEAREST_TRAINING_DISTANCE,
    NEIGHBOUR_RATIO,
    TrainingDistances,
    TrainingSet,
    calibrate_on_distances,
    read_distances,
)
from lorabench.metrics.palette import PALETTE_COMPLIANCE_SCORE, palette_compliance
from lorabench.metrics.photo_look import PHOTO_PROBABILITY
from lorabench.metrics.picture_metrics import PICTURE_METRICS
from lorabench.metrics.prompt_following import (
    NO_DETECTOR,
    PROMPT_EXACT_SCORE,
    PROMPT_FOLLOWING_SCORE,
    CheckScore,
    Read,
    Sensor,
    prompt_exact_score,
    prompt_following_score,
    score_checks,
)
from lorabench.metrics.reading import Missing
from lorabench.metrics.structure import COMPOSITION_COPY_RATE, composition_copies, composition_reach
from lorabench.metrics.style_similarity import STYLE_SIMILARITY
from lorabench.metrics.text_similarity import CLIP_TEXT_SIMILARITY, paired_cosine
from lorabench.metrics.texture import FLAT_FRACTION, SMOOTH_ZONE_SIGMA
from lorabench.metrics.tile_copies import LARGEST_TILE_DISTANCE, PART_COPY_RATE, TILE_COPY_SHARE
from lorabench.records.images import Image
from lorabench.records.measurement import Measurement, Metric, Neighbour, SelfTest, Unmeasured
from lorabench.records.plan import Arm, Cell, StylePhrases
from lorabench.records.results import CheckOutcome
from lorabench.records.suite import AnatomyCheck, Case, PaletteCheck, Suite, TextCheck, fill_style

CELL_METRICS: tuple[Metric, ...] = (
    BROKEN_RATE,
    PROMPT_FOLLOWING_SCORE,
    PROMPT_EXACT_SCORE,
    ANATOMY_SCORE,
    PART_COUNT_ERROR,
    PALETTE_COMPLIANCE_SCORE,
    SMOOTH_ZONE_SIGMA,
    FLAT_FRACTION,
    CLIP_TEXT_SIMILARITY,
    FOIL_ACCURACY_SCORE,
    FOIL_WIN_RATE,
    NEAREST_TRAINING_DISTANCE,
    NEIGHBOUR_RATIO,
    COPY_RATE,
    DESCRIPTOR_RATIO,
    DESCRIPTOR_COPY_RATE,
    TILE_COPY_SHARE,
    PART_COPY_RATE,
    LARGEST_TILE_DISTANCE,
    COMPOSITION_COPY_RATE,
    PHOTO_PROBABILITY,
    STYLE_SIMILARITY,
    IDENTITY_SIMILARITY,
    LETTERING_RATE,
    LETTERING_SHARE,
    LETTERING_LEAK_RATE,
    SURPLUS_OBJECTS,
    *(one.metric for one in PICTURE_METRICS),
)
"""Metrics with one number per picture, in the order of reports."""


@dataclass(slots=True)
class Measured:
    """What measuring a number of pictures gives."""

    measurements: list[Measurement] = field(default_factory=list)
    unmeasured: list[Unmeasured] = field(default_factory=list)
    checks: list[CheckOutcome] = field(default_factory=list)

    def add(self, metric: Metric, cell: Cell, value: float | Missing) -> None:
        """Note a number, or why there is none."""
        if isinstance(value, Missing):
            self.unmeasured.append(Unmeasured(metric=metric.name, cell=cell, reason=value.reason))
        else:
            self.measurements.append(
                Measurement(cell=cell, metric=metric.name, metric_version=metric.version, value=value)
            )


@dataclass(frozen=True, slots=True)
class Rulers:
    """What pictures are measured with: the suite's cases, the judges, what the detector can see."""

    suite: Suite
    style: StylePhrases
    judges: JudgeSet
    sensor: Sensor | None
    read_picture: Callable[[Image], NDArray[np.uint8]]

    @classmethod
    def of(
        cls,
        suite: Suite,
        *,
        style: StylePhrases,
        judges: JudgeSet,
        labels: Sequence[str],
        read_picture: Callable[[Image], NDArray[np.uint8]],
    ) -> Rulers:
        """Set up for one suite."""
        detector = judges.detector
        sensor = None
        if detector is not None:
            sensor = Sensor(
                labels=frozenset(labels),
                reads_color=detector.reads_color,
                counts_parts=detector.counts_parts,
                rules=Rules(threshold=detector.thresholds["presence"], counting_threshold=detector.thresholds["count"]),
            )
        return cls(suite=suite, style=style, judges=judges, sensor=sensor, read_picture=read_picture)


def measure(images: Iterable[Image], features: Features, *, rulers: Rulers) -> Measured:
    """Measure pictures with every metric that needs nothing but the picture, its case and the judges.

    Args:
        images: The pictures.
        features: What is known of them.
        rulers: What to measure with.

    Returns:
        Measurements, what could not be measured, and the outcome of each check. A metric that a case has no use for
        (palette compliance without a palette check) is neither.
    """
    cases = {case.id: case for case in rulers.suite.cases}
    done = Measured()
    for image in broken_named(list(images), features):
        case = cases[image.cell.case]
        done.add(BROKEN_RATE, image.cell, float(image.broken is not None))
        if image.sha256 in features.texture:
            sigma, flat = features.texture[image.sha256]
            done.add(SMOOTH_ZONE_SIGMA, image.cell, sigma)
            done.add(FLAT_FRACTION, image.cell, flat)
        for one in PICTURE_METRICS:
            done.add(one.metric, image.cell, features.readings[image.sha256][one.metric.name])
        _measure_checks(image, case, features, rulers=rulers, done=done)
        _measure_palette(image, case, rulers=rulers, done=done)
        _measure_text(image, case, features, rulers=rulers, done=done)
    return done


def broken_named(images: Sequence[Image], features: Features) -> tuple[Image, ...]:
    """The pictures, each with the reason why it is unusable, if it is.

    Args:
        images: All of an arm and case must be there, since two seeds with the same pixels are a fault.
        features: What is known of them.
    """
    twins = same_for_other_seed(images)
    reasons = [one.broken or features.broken[one.sha256] or twins.get(one.cell.key) for one in images]
    return tuple(
        image if reason is None else image.model_copy(update={"broken": reason})
        for image, reason in zip(images, reasons, strict=True)
    )


def _measure_checks(image: Image, case: Case, features: Features, *, rulers: Rulers, done: Measured) -> None:
    anatomy = any(isinstance(check, AnatomyCheck) for check in case.checks)
    other = any(not isinstance(check, AnatomyCheck | PaletteCheck) for check in case.checks)
    read = _read(image, features)
    only_text = all(isinstance(check, TextCheck | AnatomyCheck | PaletteCheck) for check in case.checks)
    sensor = NO_DETECTOR if rulers.sensor is None and read is not None and only_text else rulers.sensor
    if sensor is None:
        missing = Missing(rulers.judges.why_absent("detector"))
        for metric, applies in ((PROMPT_FOLLOWING_SCORE, other), (ANATOMY_SCORE, anatomy)):
            if applies:
                done.add(metric, image.cell, missing)
        return
    detections = features.detections.get(image.sha256, ())
    scores = score_checks(case, detections, sensor=sensor, read=read)
    done.checks += [
        CheckOutcome(cell=image.cell, check_index=score.index, passed=score.passed, reason=score.reason)
        for score in scores
        if not isinstance(case.checks[score.index], PaletteCheck)
    ]
    if other:
        plain = _without_anatomy(case, scores)
        done.add(PROMPT_FOLLOWING_SCORE, image.cell, prompt_following_score(plain))
        done.add(PROMPT_EXACT_SCORE, image.cell, prompt_exact_score(plain))
    if anatomy:
        done.add(ANATOMY_SCORE, image.cell, anatomy_score(case, scores))
        done.add(PART_COUNT_ERROR, image.cell, part_count_error(case, detections, sensor=sensor))


def _read(image: Image, features: Features) -> Read | None:
    """What was read in a picture; None without a text reader."""
    if image.sha256 not in features.lettering:
        return None
    return Read(features.lettering[image.sha256], (image.height, image.width))


def _without_anatomy(case: Case, scores: Sequence[CheckScore]) -> list[CheckScore]:
    """Anatomy has a gate of its own; one fault must not fail two."""
    return [score for score in scores if not isinstance(case.checks[score.index], AnatomyCheck | PaletteCheck)]


def _measure_palette(image: Image, case: Case, *, rulers: Rulers, done: Measured) -> None:
    checks = [check for check in case.checks if isinstance(check, PaletteCheck)]
    if checks:
        picture = rulers.read_picture(image)
        values = [palette_compliance(picture, check) for check in checks]
        done.add(PALETTE_COMPLIANCE_SCORE, image.cell, sum(values) / len(values))


def prompt_texts(case: Case, style: StylePhrases) -> tuple[str, tuple[str, ...]]:
    """What CLIP compares pictures with: the prompt and its foils, all with the neutral phrase.

    Trigger words mean nothing to CLIP and would differ between the arms; so all arms are read against one text.
    """
    return fill_style(case.prompt, style.neutral), tuple(fill_style(foil.prompt, style.neutral) for foil in case.foils)


def _measure_text(image: Image, case: Case, features: Features, *, rulers: Rulers, done: Measured) -> None:
    clip = rulers.judges.clip
    if clip is None:
        missing = Missing(rulers.judges.why_absent("clip"))
        done.add(CLIP_TEXT_SIMILARITY, image.cell, missing)
        return
    prompt, _ = prompt_texts(case, rulers.style)
    vector = features.clip[image.sha256]
    done.add(CLIP_TEXT_SIMILARITY, image.cell, float(paired_cosine(vector[None], features.texts[prompt][None])[0]))


def measure_foils(
    images: Iterable[Image], features: Features, *, rulers: Rulers, tests: Sequence[SelfTest]
) -> Measured:
    """Read pictures against the foils that CLIP was shown to tell from the prompt, on the control's pictures.

    Args:
        images: The pictures.
        features: What is known of them.
        rulers: What to measure with.
        tests: CLIP's self-tests by family and kind of foil.

    Returns:
        Soft accuracy and win of every picture whose case has foils of a usable kind; for the others the reason:
        a judge at chance measures nothing.
    """
    clip = rulers.judges.clip
    usable = {(test.family, test.foil_kind) for test in tests if test.usable}
    cases = {case.id: case for case in rulers.suite.cases}
    done = Measured()
    for image in images:
        case = cases[image.cell.case]
        if not case.foils:
            continue
        if clip is None:
            done.add(FOIL_ACCURACY_SCORE, image.cell, Missing(rulers.judges.why_absent("clip")))
            continue
        prompt, foils = prompt_texts(case, rulers.style)
        kept = [text for foil, text in zip(case.foils, foils, strict=True) if (case.family, foil.kind) in usable]
        if not kept:
            kinds = ", ".join(sorted({foil.kind for foil in case.foils}))
            done.add(FOIL_ACCURACY_SCORE, image.cell, Missing(f"judge at chance in {case.family} ({kinds} foils)"))
            continue
        reading = foil_reading(
            features.clip[image.sha256],
            features.texts[prompt],
            _stacked(features, kept),
            logit_scale=clip.logit_scale,
        )
        done.add(FOIL_ACCURACY_SCORE, image.cell, reading.accuracy)
        done.add(FOIL_WIN_RATE, image.cell, float(reading.win))
    return done


def measure_copies(
    images: Iterable[Image],
    features: Features,
    *,
    training: TrainingSet | None,
    why_not: str,
    null_cases: Collection[str] | None = None,
) -> tuple[Measured, list[Neighbour]]:
    """Find the nearest training picture of every picture, and say which are copies.

    Args:
        images: The pictures of all arms; the control's give one of the two nulls.
        features: What is known of them.
        training: The embedded training pictures, if there are any.
        why_not: The reason if there are none.
        null_cases: Cases whose control pictures are that null; None takes all.

    Returns:
        Distance, ratio and copy flag of each picture of control and candidate, and the neighbours themselves.
    """
    done = Measured()
    neighbours: list[Neighbour] = []
    judged = [image for image in images if image.cell.arm in (Arm.CONTROL, Arm.CANDIDATE)]
    if training is None:
        done.unmeasured.append(Unmeasured(metric=COPY_RATE.name, reason=why_not))
        return done, neighbours
    control = [
        features.distances[image.sha256][0]
        for image in judged
        if image.cell.arm is Arm.CONTROL and (null_cases is None or image.cell.case in null_cases)
    ]
    calibration = calibrate_on_distances(training, np.asarray(control).reshape(len(control), len(training.kept)))
    if isinstance(calibration, Missing):
        done.unmeasured.append(Unmeasured(metric=COPY_RATE.name, reason=calibration.reason))
    if not judged:
        return done, neighbours
    rows = np.stack([features.distances[image.sha256] for image in judged])  # (n, 2, m)
    found = TrainingDistances(distances=rows[:, 0], mirrored=rows[:, 1] > 0)
    for image, reading in zip(judged, read_distances(found, training, calibration), strict=True):
        done.add(NEAREST_TRAINING_DISTANCE, image.cell, reading.distance)
        if reading.ratio is not None:
            done.add(NEIGHBOUR_RATIO, image.cell, reading.ratio)
        if reading.is_copy is not None:
            done.add(COPY_RATE, image.cell, float(reading.is_copy))
        neighbours.append(
            Neighbour(
                cell=image.cell,
                training_index=reading.training_index,
                mirrored=reading.mirrored,
                distance=reading.distance,
                ratio=reading.ratio,
                is_copy=reading.is_copy,
            )
        )
    return done, neighbours


def self_test(images: Iterable[Image], features: Features, *, rulers: Rulers) -> tuple[SelfTest, ...]:
    """Test CLIP on the control's pictures: per family and kind of foil, does it beat chance?

    Args:
        images: Pictures of a run; only the control's are used.
        features: What is known of them.
        rulers: What to measure with.

    Returns:
        One test per family and kind of foil; none without a CLIP judge or without foils.
    """
    clip = rulers.judges.clip
    if clip is None:
        return ()
    cases = {case.id: case for case in rulers.suite.cases}
    trials = []
    for image in images:
        case = cases[image.cell.case]
        if image.cell.arm is not Arm.CONTROL or not case.foils:
            continue
        prompt, foils = prompt_texts(case, rulers.style)
        for kind in dict.fromkeys(foil.kind for foil in case.foils):
            chosen = [text for foil, text in zip(case.foils, foils, strict=True) if foil.kind == kind]
            reading = foil_reading(
                features.clip[image.sha256],
                features.texts[prompt],
                _stacked(features, chosen),
                logit_scale=clip.logit_scale,
            )
            trials.append(Trial(case=case.id, family=case.family, foil_kind=kind, win=reading.win, n_foils=len(chosen)))
    return judge_self_test(trials, judge=clip.name)


def measure_compositions(
    images: Iterable[Image], features: Features, *, training: NDArray[np.float32] | None, why_not: str
) -> Measured:
    """Say which pictures of control and candidate are composed like a training picture, whatever their style.

    Args:
        images: The pictures of all arms.
        features: What is known of them.
        training: Structure descriptors of the training pictures without duplicates, (m, d), if there are any.
        why_not: The reason if there are none.
    """
    done = Measured()
    reach: float | Missing = Missing(why_not) if training is None else composition_reach(training)
    if training is None or isinstance(reach, Missing):
        reason = reach.reason if isinstance(reach, Missing) else why_not
        done.unmeasured.append(Unmeasured(metric=COMPOSITION_COPY_RATE.name, reason=reason))
        return done
    judged = [image for image in images if image.cell.arm in (Arm.CONTROL, Arm.CANDIDATE)]
    for image in judged:
        inside = composition_copies(features.structure[image.sha256][None], training, reach=reach)
        done.add(COMPOSITION_COPY_RATE, image.cell, float(inside[0]))
    return done


def detector_self_test(images: Iterable[Image], features: Features, *, rulers: Rulers) -> tuple[SelfTest, ...]:
    """Test the detector on the control's pictures: does a picture pass its own checks better than another case's?

    Each picture is scored on its own checks and on those of the next case that has any. Ties are losses.

    Returns:
        One test over all families, named `all`; none without a detector or with a single case.
    """
    detector, sensor = rulers.judges.detector, rulers.sensor
    cases = [case for case in rulers.suite.cases if _plain_checks(case)]
    if detector is None or sensor is None or len(cases) < 2:
        return ()
    following = {case.id: other for case, other in zip(cases, [*cases[1:], cases[0]], strict=True)}
    own = {case.id: case for case in cases}
    trials = []
    for image in images:
        if image.cell.arm is not Arm.CONTROL or image.cell.case not in own:
            continue
        seen = features.detections.get(image.sha256, ())
        here, other = (
            prompt_following_score(_without_anatomy(case, score_checks(case, seen, sensor=sensor)))
            for case in (own[image.cell.case], following[image.cell.case])
        )
        if not isinstance(here, Missing) and not isinstance(other, Missing):
            trials.append(Trial(image.cell.case, "all", "other case", win=here > other, n_foils=1))
    return judge_self_test(trials, judge=detector.name)


def figures_found(images: Iterable[Image], features: Features, *, rulers: Rulers) -> list[bool]:
    """For each control picture of an anatomy case: did the detector find the figure at all?"""
    labels = {
        case.id: {check.label for check in case.checks if isinstance(check, AnatomyCheck)}
        for case in rulers.suite.cases
    }
    return [
        any(seen.label in labels[image.cell.case] for seen in features.detections.get(image.sha256, ()))
        for image in images
        if image.cell.arm is Arm.CONTROL and labels.get(image.cell.case)
    ]


def _plain_checks(case: Case) -> bool:
    return any(not isinstance(check, AnatomyCheck | PaletteCheck) for check in case.checks)


def _stacked(features: Features, texts: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([features.texts[text] for text in texts])
