"""The course of a training as a monitor writes it: what was judged, what of it stays known, which copies are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lorabench.records.course import Course, Evaluation, PolicyState
from lorabench.storage.course_folder import OtherCourseError
from lorabench.training.checkpoint_judging import STYLE, replay
from lorabench.training.choosing import Choice, choose

if TYPE_CHECKING:
    from lorabench.records.config import CourseConfig
    from lorabench.storage.course_folder import CourseFolder


_OPEN_AGAIN: Final = {"settlement": None, "unsettled": None}
"""The last word on the best checkpoint ends with the next evaluation."""


class LiveCourse:
    """One course, in memory and on disk alike. `folder` is claimed by whoever makes this.

    Attributes:
        course: All evaluations so far.
    """

    def __init__(self, folder: CourseFolder, course: Course, *, settings: CourseConfig) -> None:
        """Take up a course where it stands.

        Args:
            folder: Of the course.
            course: As loaded from it.
            settings: Patience, and which copies are kept.
        """
        self.course = course
        self._folder, self._settings = folder, settings
        self._later: dict[int, Evaluation] = {}

    def save(self, course: Course) -> None:
        """This is the course from now on."""
        self.course = course
        self._folder.save(course)

    def known(self, training_step: int) -> Evaluation | None:
        """What was judged at a step, in the course or after a moment to which the training was set back."""
        found = (one for one in self.course.evaluations if one.training_step == training_step)
        return next(found, None) or self._later.get(training_step)

    def policy_after(self, known: Evaluation) -> PolicyState:
        """What the stopping rule remembers once a known evaluation is taken up again."""
        return replay((*self.course.evaluations, known), self._settings)

    def before(self, training_step: int) -> Course:
        """The course up to a step: what a training that was set back had judged later belongs to other weights."""
        earlier = tuple(one for one in self.course.evaluations if one.training_step < training_step)
        if len(earlier) < len(self.course.evaluations):
            dropped = [one.training_step for one in self.course.evaluations if one.training_step >= training_step]
            self._folder.event("superseded", training_steps=dropped)
            update = {"evaluations": earlier, "policy": replay(earlier, self._settings), **_OPEN_AGAIN}
            self.save(self.course.model_copy(update=update))
        return self.course

    def set_back(self, training_step: int) -> None:
        """The training goes on from this step; what was judged later leaves the course and stays known."""
        later = {one.training_step: one for one in self.course.evaluations if one.training_step > training_step}
        self.before(training_step + 1)
        self._later |= later

    def restore(self, state: Mapping[str, Any], *, identity: str, restart: bool) -> None:
        """Go on where a stored course ends.

        Args:
            state: The course as JSON.
            identity: Of the evaluations to come.
            restart: Begin a new history where the stored one has another identity.

        Raises:
            OtherCourseError: It has, and `restart` is not given.
        """
        stored = Course.model_validate(state)
        if stored.identity != identity:
            if not restart:
                raise OtherCourseError(self._folder.folder, found=stored.identity, expected=identity)
            stored = Course(identity=identity)
        stored = _without_pruned_copies(stored)
        # What was judged after the stored moment, on disk, stays known: equal weights are not judged twice.
        self._later = {one.training_step: one for one in self.course.evaluations if one not in stored.evaluations}
        self.save(stored)

    def name_checkpoint(self, training_step: int, checkpoint: str) -> None:
        """A checkpoint was written after its weights had been judged: note where it is."""
        evaluations = tuple(
            one.model_copy(update={"checkpoint": checkpoint}) if one.training_step == training_step else one
            for one in self.course.evaluations
        )
        self.save(self.course.model_copy(update={"evaluations": evaluations}))

    def record(self, evaluation: Evaluation, *, file: Path, policy_state: PolicyState) -> Evaluation:
        """Add an evaluation, keep a copy of its adapter, and give up copies that nobody needs.

        Args:
            evaluation: The newest.
            file: Its adapter; need not exist where nothing could be saved.
            policy_state: What the stopping rule remembers from now on.

        Returns:
            The evaluation, with the place of its copy.
        """
        if file.exists():
            kept = self._folder.keep(evaluation.training_step, file)
            evaluation = evaluation.model_copy(update={"kept": str(kept)})
        evaluations = (*self.course.evaluations, evaluation)
        choice = choose(evaluations, style_signal=STYLE)
        update = {"evaluations": evaluations, "policy": policy_state, "best": choice.training_step, **_OPEN_AGAIN}
        self.save(self.course.model_copy(update=update))
        self._prune(choice)
        return evaluation

    def _prune(self, choice: Choice) -> None:
        """Keep the best, the finalists, the alarmed and the last; all if asked."""
        if self._settings.keep == "all":
            return
        evaluations = self.course.evaluations
        steps = {one.training_step for one in evaluations if one.alarmed} | {evaluations[-1].training_step}
        gone = set(self._folder.prune(steps | {*choice.finalists}))
        if gone:
            left = tuple(
                one.model_copy(update={"kept": None}) if one.training_step in gone else one for one in evaluations
            )
            self.save(self.course.model_copy(update={"evaluations": left}))


def _without_pruned_copies(course: Course) -> Course:
    """A stored state may name copies that the training went on to prune before it was set back."""
    evaluations = (
        one if one.kept is None or Path(one.kept).exists() else one.model_copy(update={"kept": None})
        for one in course.evaluations
    )
    return course.model_copy(update={"evaluations": tuple(evaluations)})
