"""The last word on the best checkpoint: finalists judged again on prompts and seeds that did not choose them.

The highest of several noisy numbers is too high. What is reported of the best checkpoint therefore comes from pictures
that had no part in making it a finalist; see `choosing.settle`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lorabench.errors import MeasurementError
from lorabench.records.course import Course, Decision, Evaluation, Settlement
from lorabench.records.suite import Case, Suite
from lorabench.storage.shipped import shipped_suite_names, shipped_suite_path
from lorabench.storage.suite_files import find_suites, read_suite
from lorabench.training.checkpoint_judging import STYLE, CheckpointJudge, guard_readings, signals
from lorabench.training.choosing import Choice, choose, settle

if TYPE_CHECKING:
    from lorabench.records.config import CourseConfig

FINAL: Final = "finalists"
"""Name of a suite that was put together for them."""


def final_suite(settings: CourseConfig, screen: Suite) -> Suite:
    """The prompts on which finalists are judged again.

    Args:
        settings: `final_suites`, or `suite` where none is named: beside a shipped screen those of the other shipped
            suites that test the same families are taken in turns, as many as the screen has.
        screen: The suite of the screens; its prompts are left out.

    Returns:
        A suite of other prompts, or the screen itself where there are none.

    Raises:
        SpecError: A named suite is not there or cannot be read.
    """
    names = settings.final_suites or _beside(settings.suite, screen)
    suites = [read_suite(path).suite for path in find_suites(names)]
    screened = {case.prompt for case in screen.cases}
    families = {case.family for case in screen.cases}
    offered = [[(one.name, case) for case in one.cases if case.prompt not in screened] for one in suites]
    if not settings.final_suites:
        offered = [[(name, case) for name, case in cases if case.family in families] for cases in offered]
    cases = _each_once(pair for turn in zip_longest(*offered) for pair in turn if pair is not None)
    cases = cases if settings.final_suites else cases[: len(screen.cases)]
    return screen.model_copy(update={"name": FINAL, "cases": tuple(cases)}) if cases else screen


def _each_once(offered: Iterable[tuple[str, Case]]) -> list[Case]:
    """Every prompt once; where two suites give different prompts one id, the later one's suite stands before it."""
    by_prompt: dict[str, Case] = {}
    taken: set[str] = set()
    for suite, case in offered:
        if case.prompt in by_prompt:
            continue
        name = f"{suite}-{case.id}" if case.id in taken else case.id
        taken.add(name)
        by_prompt[case.prompt] = case.model_copy(update={"id": name})
    return list(by_prompt.values())


def _beside(name: str, screen: Suite) -> tuple[str, ...]:
    """Names of the shipped suites in the folder of a shipped one, if that is the screen."""
    known = shipped_suite_names()
    if name not in known or read_suite(shipped_suite_path(name)).suite.content_digest() != screen.content_digest():
        return ()
    folder = name.rpartition("/")[0]
    return tuple(one for one in known if one != name and one.rpartition("/")[0] == folder)


def settle_course(
    course: Course,
    *,
    judge: CheckpointJudge,
    suite: Suite,
    shown: Callable[[Path], AbstractContextManager[object]] = nullcontext,
) -> Course:
    """Judge a course's finalists again and let that decide on the best.

    Args:
        course: With kept copies of its finalists.
        judge: Of this course.
        suite: Prompts, from `final_suite`.
        shown: Puts a kept adapter into a live pipeline while it is judged; by default the judge loads files itself.

    Returns:
        The course with its settlement; the same course where there is nothing to settle.

    Raises:
        SpecError: Suite or settings are wrong.
        MeasurementError: A finalist cannot be judged.
    """
    choice = choose(course.evaluations, style_signal=STYLE)
    kept = {one.training_step: Path(one.kept) for one in course.evaluations if one.kept is not None}
    gone = tuple(step for step in choice.finalists if step not in kept)
    finalists = tuple(step for step in choice.finalists if step in kept)[: judge.config.course.finalists]
    if not finalists:
        return course.model_copy(update={"unsettled": _without_copy(gone)}) if gone else course
    choice = choice.model_copy(update={"finalists": finalists})
    again = []
    for step in finalists:
        file = adapter_in(kept[step])
        with shown(file):
            again.append(_judged_again(judge, file, training_step=step, suite=suite))
    held_back = suite.content_digest() != judge.suite.content_digest()
    final = settle(choice, again, evaluations=course.evaluations, style_signal=STYLE)
    settlement = Settlement(
        suite=suite.name,
        held_back=held_back,
        evaluations=tuple(again),
        best=final.training_step,
        sentence=_sentence(final, n_cases=len(suite.cases), held_back=held_back, gone=gone),
    )
    return course.model_copy(update={"settlement": settlement, "unsettled": None, "best": final.training_step})


def adapter_in(place: Path) -> Path:
    """The adapter file of a kept checkpoint.

    Raises:
        MeasurementError: There is none, or several.
    """
    files = [place] if place.is_file() else sorted(place.rglob("*.safetensors"))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        msg = f"a kept checkpoint must hold one adapter file; {place} holds {found}. Take it from the trainer's folder."
        raise MeasurementError(msg)
    return files[0]


def _judged_again(judge: CheckpointJudge, file: Path, *, training_step: int, suite: Suite) -> Evaluation:
    seeds = judge.finalist_seeds()
    results = judge.measure(file, seeds=seeds, suite=suite)
    readings, unmeasured = guard_readings(results)
    return Evaluation(
        training_step=training_step,
        kept=str(file.parent),
        seeds=seeds,
        screen=readings,
        unmeasured=unmeasured,
        signals=signals(results),
        run_ids=(results.run_id,),
        decision=Decision(
            sentence=f"Step {training_step} was judged again as a finalist.", training_step=training_step
        ),
    )


def _sentence(final: Choice, *, n_cases: int, held_back: bool, gone: tuple[int, ...]) -> str:
    prompts = f"{n_cases} held-back prompts" if held_back else f"the same {n_cases} prompts"
    passed_over = f" Passed over: {_without_copy(gone)}." if gone else ""
    return f"Judged again on {prompts} and unused seeds. {final.sentence}{passed_over}"


def _without_copy(steps: tuple[int, ...]) -> str:
    """A finalist whose file is gone cannot be judged again, and who reads the choice must know of it."""
    return f"no copy is left of the finalist{'s' if len(steps) > 1 else ''} at {', '.join(map(str, steps))}"


def choice_of(course: Course) -> Choice:
    """The best checkpoint of a course: the last word where it was said, else what the screens say."""
    choice, settlement = choose(course.evaluations, style_signal=STYLE), course.settlement
    if settlement is None and course.unsettled is not None:
        sentence = f"{choice.sentence} The finalists were not judged again: {course.unsettled.rstrip('.')}."
        return choice.model_copy(update={"sentence": sentence})
    if settlement is None:
        return choice
    final = choose(settlement.evaluations, style_signal=STYLE)
    return final.model_copy(update={"sentence": settlement.sentence, "pareto": choice.pareto})
