"""One HTML page that shows the course of a training: no request leaves it, and it runs no script at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from lorabench.records.course import Course, Evaluation
from lorabench.records.results import Results
from lorabench.records.step_times import StepTimeFinding
from lorabench.report import course_chart, course_view
from lorabench.report.course_view import Best, GuardView, LossCourse, SignalView
from lorabench.report.filmstrip import MAX_FRAMES, film_steps, film_strips, shown_in
from lorabench.report.page import asset, content_security_policy, environment
from lorabench.report.thumbnails import PictureSource, make_thumbnails

MAX_EVENTS: Final = 200
"""Newest entries of the event log that the page lists."""
MAX_STEPS: Final = 12
"""Up to so many checkpoints are all named at the top; of more only those that a reader must know."""
MARK_ICONS: Final = {
    "continue": "pass",
    "alarm": "warn",
    "reject": "fail",
    "stop": "stop",
    "unmeasured": "unmeasured",
}
MARK_TONES: Final = {
    "continue": "pass",
    "alarm": "inconclusive",
    "reject": "fail",
    "stop": "fail",
    "unmeasured": "unmeasured",
}


@dataclass(frozen=True, slots=True)
class CourseMaterial:
    """What the page is made from, besides the course itself."""

    picture: PictureSource
    """SHA-256 of the pixels to the picture, uint8 (h, w, 3) RGB; None where it is gone, which the page says."""
    runs: Mapping[str, Results]
    """Run id to results, of those evaluations whose folders still exist and are wanted."""
    events: Sequence[Mapping[str, Any]] = ()
    """The event log, oldest first."""
    best: Best | None = None
    """The choice that belongs to `Course.best`."""
    loss: LossCourse | None = None
    """The training's own loss, where it was recorded."""
    gone: Sequence[str] = ()
    """Ids of runs that no longer exist."""
    step_time: StepTimeFinding | None = None
    """What can be said of the training's step time."""


def render_course(course: Course, material: CourseMaterial, *, max_edge: int = 128) -> str:
    """Render a course as one self-contained HTML page.

    All text is escaped, and a content security policy forbids the page every request and every script.

    Args:
        course: All evaluations.
        material: Pictures, results, events and the choice of the best.
        max_edge: Longest edge of a picture, in pixels.

    Returns:
        The page.

    Raises:
        ValueError: `max_edge` is not positive.
    """
    style = asset("css", "report.css") + asset("css", "course.css")
    steps = film_steps(course, available=material.runs)
    strips = film_strips(course, runs=material.runs, steps=steps)
    return (
        environment()
        .get_template("course.html.j2")
        .render(
            course=course,
            material=material,
            best=material.best,
            strips=strips,
            strip_steps=steps,
            max_frames=MAX_FRAMES,
            thumbnails=make_thumbnails(shown_in(strips), picture=material.picture, max_edge=max_edge),
            policy=content_security_policy(style=style),
            style=Markup(style),  # noqa: S704 - our own files
            mark_of=course_view.mark_of,
            signal_steps=course_view.signal_steps,
            shortened=course_view.shortened,
            mark_words=course_view.MARK_WORDS,
            mark_icons=MARK_ICONS,
            mark_tones=MARK_TONES,
            **_facts(course, material),
            **_drawings(course, material),
        )
    )


def _facts(course: Course, material: CourseMaterial) -> Mapping[str, Any]:
    events = material.events
    return {
        "standing": course_view.standing(course, events=events),
        "passed_stops": course_view.stops_before_the_end(course),
        "told_steps": told_steps(course),
        "row_ids": course_view.row_ids(course),
        "tally": Counter(course_view.mark_of(one) for one in course.evaluations),
        "best_evaluation": evaluation_at(course, course.best),
        "nearest": evaluation_at(course, None if material.best is None else material.best.nearest_miss),
        "guards": course_view.guards(course),
        "signals": course_view.signals(course, runs=material.runs, events=events),
        "findings": course_view.loss_findings(events),
        "gaps": course_view.gaps(course, events=events),
        "cost": course_view.cost(course, events=events),
        "newest_run": list(material.runs.values())[-1] if material.runs else None,
        "opening": next((event for event in events if event.get("kind") == "opened"), None),
        "events": events[-MAX_EVENTS:],
        "course_digest": course.content_digest(),
    }


def _drawings(course: Course, material: CourseMaterial) -> Mapping[str, Any]:
    """Functions that the templates call: all charts of a course share their axis of training steps."""
    steps = [one.training_step for one in course.evaluations]
    axis = course_chart.step_scale(steps)
    findings = course_view.loss_findings(material.events)

    def guard(view: GuardView) -> course_chart.GuardChart:
        return course_chart.draw_guard(view, steps=steps)

    def signal(view: SignalView, height: float = 150.0) -> course_chart.SignalChart:
        return course_chart.draw_signal(view, steps=steps, height=height)

    def loss(view: LossCourse) -> course_chart.LossChart:
        return course_chart.draw_loss(view, findings, steps=steps)

    return {
        "draw_guard": guard,
        "draw_signal": signal,
        "draw_loss": loss,
        "step_axis": axis,
        "style_chart": course_chart.draw_style(found)
        if (found := course_view.style_points(course, material.best))
        else None,
    }


def told_steps(course: Course) -> tuple[Evaluation, ...]:
    """Checkpoints named at the top: all, or of many those that do not just go on, the best and the newest."""
    every = course.evaluations
    if len(every) <= MAX_STEPS:
        return every
    wanted = {course.best, every[-1].training_step}
    return tuple(one for one in every if one.training_step in wanted or course_view.mark_of(one) != "continue")


def evaluation_at(course: Course, training_step: int | None) -> Evaluation | None:
    """The newest evaluation of a step; None where there is none."""
    return next((one for one in reversed(course.evaluations) if one.training_step == training_step), None)
