"""The page of a course: gathers what its folder holds and renders it, without torch and without the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lorabench.errors import LorabenchError
from lorabench.records.course import Course
from lorabench.storage.course_folder import CourseFolder, read_course

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lorabench.records.results import Results
    from lorabench.report.course_view import Best, LossCourse
    from lorabench.report.thumbnails import PictureSource

PAGE: Final = "course.html"
MAX_EDGE: Final = 128


def write_course_page(folder: Path, *, to: Path | None = None, max_edge: int = MAX_EDGE) -> Path:
    """Render the course in a folder as one HTML page and put it in its place in one move.

    Reads `course.json`, `events.jsonl`, `loss.json` and those runs whose folders are still there; what is gone, the
    page says.

    Args:
        folder: Of the course, or its `course.json`.
        to: Where the page goes; None for `course.html` in the folder.
        max_edge: Longest edge of a picture, in pixels.

    Returns:
        Path of the page.

    Raises:
        CourseFileError: There is no course that can be read.
        NotWritableError: The page cannot be written.
        ValueError: `max_edge` is not positive.
    """
    from lorabench.storage.atomic import write_text

    place = folder if folder.is_dir() else folder.parent
    target = to or place / PAGE
    write_text(target, course_page(read_course(folder), folder=place, max_edge=max_edge))
    return target


def course_page(course: Course, *, folder: Path, max_edge: int = MAX_EDGE) -> str:
    """The page of a course that lies in a folder; see `write_course_page`."""
    from lorabench.report.course_html import CourseMaterial, render_course
    from lorabench.report.filmstrip import film_steps
    from lorabench.training.step_times import step_time_finding

    there = _runs_there(course, folder)
    steps = film_steps(course, available=there)
    shown = [one for one in course.evaluations if one.training_step in steps and one.run_ids]
    screens = [one.run_ids[0] for one in shown]  # a confirmation is four times as large, and only the newest one asked
    wanted = [name for name in (*screens, *(shown[-1].run_ids if shown else ())) if name in there]
    runs = {name: results for name in wanted if (results := _results(there[name])) is not None}
    known = dict.fromkeys(name for one in course.evaluations for name in one.run_ids)
    place = CourseFolder(folder)
    material = CourseMaterial(
        picture=_pictures([there[name] for name in runs]),
        runs=runs,
        events=_anonymous(place.events(), folder),
        best=_best(course, folder),
        loss=_loss(place),
        gone=[name for name in known if name not in there or (name in wanted and name not in runs)],
        step_time=step_time_finding(course),
    )
    course = Course.model_validate(_anonymous(course.model_dump(mode="json"), folder))
    return render_course(course, material, max_edge=max_edge)


def _runs_there(course: Course, folder: Path) -> dict[str, Path]:
    """Run id to its folder, of those that exist. An id that is no plain name is nobody's folder."""
    names = dict.fromkeys(name for one in course.evaluations for name in one.run_ids)
    places = {name: folder / "runs" / name for name in names if name and Path(name).name == name}
    return {name: place for name, place in places.items() if (place / "results.json").is_file()}


def _results(place: Path) -> Results | None:
    from lorabench.storage.run_folder import read_results

    try:
        return read_results(place)
    except LorabenchError:  # an interrupted or older run: listed as gone
        return None


def _pictures(places: Sequence[Path]) -> PictureSource:
    """Pictures of several runs by the digest of their pixels; None for one that is gone or damaged."""

    def picture(sha256: str) -> NDArray[np.uint8] | None:
        import numpy as np
        from PIL import Image

        for place in places:
            try:
                with Image.open(place / "pictures" / f"{sha256}.png") as image:
                    return np.asarray(image.convert("RGB"), dtype=np.uint8)
            except (OSError, SyntaxError):
                continue
        return None

    return picture


def _best(course: Course, folder: Path) -> Best | None:
    """Why the best is the best, or none is; None where that does not agree with what the course says."""
    from lorabench.report.course_view import Best
    from lorabench.training.settling import choice_of

    choice = choice_of(course)
    if choice.training_step != course.best:
        return None
    return Best(
        training_step=choice.training_step,
        sentence=_anonymous(choice.sentence, folder),
        obstacle=choice.obstacle,
        nearest_miss=choice.nearest_miss,
        passing=choice.passing,
        equivalents=choice.equivalents,
        finalists=choice.finalists,
        pareto=choice.pareto,
    )


def _loss(place: CourseFolder) -> LossCourse | None:
    from pydantic import ValidationError

    from lorabench.report.course_view import LossCourse, LossLevel
    from lorabench.training.loss_trend import LossTrend, TrendState

    state = place.loss()
    if state is None:
        return None
    try:
        trend, blocks = LossTrend.from_state(dict(state)), TrendState.model_validate(state).blocks
    except ValidationError:  # of another version: the page says that no loss is recorded
        return None
    levels = tuple(LossLevel(block.first, block.last, block.level) for block in blocks)
    return LossCourse(levels, trend.reading().sentence)


def _anonymous(value: Any, folder: Path) -> Any:
    """Plain JSON whose texts name places from the course's folder or the home folder on, not from the root."""
    if isinstance(value, str):
        for known, short in _known_places(folder):
            value = value.replace(known, short)
        return value
    if isinstance(value, Mapping):
        return {key: _anonymous(inner, folder) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_anonymous(inner, folder) for inner in value]
    return value


def _known_places(folder: Path) -> list[tuple[str, str]]:
    """Longest first, so that the folder goes before the home folder it lies in."""
    absolute = folder.absolute()
    places = {str(folder): "", str(absolute): "", str(folder.resolve()): ""}
    found = [(f"{path}/", short) for path, short in places.items() if len(Path(path).parts) > 1]
    home = str(Path.home())
    if len(Path(home).parts) > 1:
        found.append((home, "~"))
    return sorted(found, key=lambda item: -len(item[0]))
