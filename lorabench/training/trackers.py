"""Evaluations in TensorBoard, W&B, MLflow, trackio and whatever else accelerate has a tracker for.

The course's own log of events holds all of it anyway; trackers are for those who look at their trainings there. All
names begin with `lorabench/`. Every tracker is told the training step, as the step of a number or, where the tracker's
own counter belongs to somebody else, as `lorabench/training_step` beside it.

Whatever a tracker raises passes through: whoever holds a training catches it, since no tracker may end one. Some draw
from global generators (MLflow and trackio do), so a training's are to be put back afterwards.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lorabench.errors import SpecError
from lorabench.records.course import Action, Evaluation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lorabench.records.comparison import Comparison
    from lorabench.records.results import Results

PREFIX: Final = "lorabench/"
FOLDER: Final = "trackers"
"""Inside the course's folder: files of trackers that write into a folder."""
ACTIONS: Final = {Action.CONTINUE: 0.0, Action.REJECT: 1.0, Action.STOP: 2.0}
"""What `lorabench/action` draws."""
PACKAGES: Final = {"comet_ml": "comet-ml", "mlflow": "mlflow (or mlflow-skinny with sqlalchemy and alembic)"}
"""Tracker to the package to install, where its name is another one."""
_MODULES: Final = {"tensorboard": ("tensorboard", "tensorboardX")}
"""Tracker to the modules of which it needs one, where that is not its name."""
_NO_TEXT: Final = frozenset({"mlflow"})
"""Trackers that take numbers only; a decision becomes a tag there."""
_SHOWING: Final = frozenset({"tensorboard", "wandb"})
"""Trackers that are shown pictures."""


class UnknownTrackerError(SpecError):
    """A tracker that accelerate does not have."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
        super().__init__(f"course.trackers must name trackers of accelerate; found {name!r}. {hint}")
        self.name, self.known = name, tuple(known)


class TrackerMissingError(SpecError):
    """A tracker whose package is not installed."""

    def __init__(self, name: str, package: str) -> None:
        super().__init__(
            f"a tracker of course.trackers must be installed; {name!r} is not, its package cannot be imported. "
            f"Install {package}, or leave {name!r} out."
        )
        self.name, self.package = name, package


class NoTrackerError(SpecError):
    """An object that is no tracker."""

    def __init__(self, found: object) -> None:
        super().__init__(
            f"a tracker must be a name or an object with `name`, `log` and `tracker`, as accelerate's have; found "
            f"{type(found).__name__}. Give `accelerator.trackers`, or names in course.trackers."
        )
        self.found = found


class Destination:
    """A function that is told numbers, such as `accelerator.log`; the steps it is told never go back.

    What stands behind such a function is not known, and W&B drops a row whose step lies before the last one.

    Attributes:
        name: For messages.
    """

    name = "log"

    def __init__(self, log: Callable[..., None]) -> None:
        """Keep the function.

        Args:
            log: Called with a mapping of numbers and `step=`.
        """
        self._log = log
        self._last = 0

    def start(self) -> None:
        """Open what has to be opened, once, before anything is told."""

    def evaluated(self, evaluation: Evaluation, *, runs_dir: Path) -> None:
        """Tell of an evaluation.

        Args:
            evaluation: With its decision.
            runs_dir: Where its runs lie; trackers that show pictures take those of alarms from there.
        """
        del runs_dir
        self.numbers(evaluation.training_step, numbers_of(evaluation))

    def numbers(self, training_step: int, values: Mapping[str, float]) -> None:
        """Tell numbers of a training step."""
        self._last = max(self._last, training_step)
        self._log({**values, f"{PREFIX}training_step": float(training_step)}, step=self._last)

    def finish(self) -> None:
        """Close what `start` opened."""


class TrackerDestination(Destination):
    """One of accelerate's trackers, or anybody's that keeps to their interface."""

    def __init__(self, tracker: Any, *, ours: bool) -> None:
        """Keep the tracker.

        Args:
            tracker: A `GeneralTracker`.
            ours: Whether to open and close it; one that a training has open already is only written to.
        """
        super().__init__(tracker.log)
        self.name, self.tracker, self._ours = str(tracker.name), tracker, ours

    def start(self) -> None:
        """Open it, unless the process has a run of this tracker open: then that one is used."""
        if self._ours:
            _make_accelerate_ready()
            running = _running(self.name)
            if running is None:
                self.tracker.start()
            else:
                self._ours = False
                setattr(self.tracker, "active_run" if self.name == "mlflow" else "run", running)
        if self.name == "wandb":
            self.tracker.tracker.define_metric(f"{PREFIX}*", step_metric=f"{PREFIX}training_step")

    def evaluated(self, evaluation: Evaluation, *, runs_dir: Path) -> None:
        """Tell of an evaluation: numbers, the decision in words, pictures where the tracker takes them."""
        step = self._step(evaluation.training_step)
        words = f"{evaluation.decision.action} ({evaluation.decision.reason}): {evaluation.decision.sentence}"
        values: dict[str, Any] = {
            **numbers_of(evaluation),
            f"{PREFIX}training_step": float(evaluation.training_step),
        }
        if self.name not in _NO_TEXT:
            values[f"{PREFIX}decision"] = words
        self._log(values, step=step)
        if self.name == "mlflow":
            self._tag(evaluation, words)
        if self.name in _SHOWING:
            self._show(worst_pictures(evaluation, runs_dir), step=step)

    def numbers(self, training_step: int, values: Mapping[str, float]) -> None:
        """Tell numbers of a training step."""
        told = {**values, f"{PREFIX}training_step": float(training_step)}
        self._log(told, step=self._step(training_step))

    def finish(self) -> None:
        """Close it if `start` opened it."""
        if self._ours:
            self.tracker.finish()

    def _step(self, training_step: int) -> int:
        """The step a tracker is told.

        W&B's counter never goes back: a set-back training's rows follow at the next one. In a run of somebody else's
        it is not ours to move at all, or rows of theirs would be dropped.
        """
        if self.name != "wandb":
            return training_step
        if not self._ours:
            return int(self.tracker.tracker.step)
        self._last = max(self._last + 1, training_step)
        return self._last

    def _tag(self, evaluation: Evaluation, words: str) -> None:
        client = importlib.import_module("mlflow").MlflowClient()
        run_id = self.tracker.tracker.info.run_id
        client.set_tag(run_id, f"{PREFIX}decision", words)
        if evaluation.decision.action is not Action.CONTINUE or evaluation.alarmed:
            # Not below the tag of the last decision: a store of files would need that name for a folder.
            client.set_tag(run_id, f"{PREFIX}decision-{evaluation.training_step:08d}", words)

    def _show(self, pictures: Mapping[str, Sequence[NDArray[np.uint8]]], *, step: int) -> None:
        named = {f"{PREFIX}{title}": list(shown) for title, shown in pictures.items()}
        if self.name == "wandb":
            self.tracker.log_images(named, step=step)
        else:
            import numpy as np

            stacked = {title: np.stack(shown) for title, shown in named.items()}  # (n, h, w, 3)
            self.tracker.log_images(stacked, step=step, dataformats="NHWC")


def destinations(
    wanted: Sequence[Any],
    *,
    project: str,
    folder: Path,
    log: Callable[..., None] | None = None,
) -> tuple[Destination, ...]:
    """Everything that is to be told of evaluations. Nothing is opened yet.

    Args:
        wanted: Names (`tensorboard`, `wandb`, `mlflow`, `trackio`, and what else accelerate has), and trackers that
            are open already, such as `accelerator.trackers`; those are not closed.
        project: Under which trackers file the training.
        folder: The course's; trackers that write files do so below it.
        log: A function told numbers only, such as `accelerator.log`.

    Returns:
        One destination per tracker, without those that were named twice.

    Raises:
        UnknownTrackerError: accelerate has no tracker of that name.
        TrackerMissingError: Its package, or accelerate itself, is not installed.
        NoTrackerError: It is neither a name nor a tracker.
    """
    names = dict.fromkeys(one for one in wanted if isinstance(one, str))
    found: list[Destination] = [
        TrackerDestination(_made(name, project=project, folder=folder), ours=True) for name in names
    ]
    for one in wanted:
        if isinstance(one, str):
            continue
        if not all(hasattr(type(one), attribute) for attribute in ("name", "log", "tracker")):
            raise NoTrackerError(one)
        found.append(TrackerDestination(one, ours=False))
    return (*found, *(() if log is None else (Destination(log),)))


def numbers_of(evaluation: Evaluation) -> dict[str, float]:
    """What a tracker draws of an evaluation, by name.

    Every signal under its own name; each guard's harm with its interval and margin, and the confirmed harm where
    there was a confirmation; the action (0 CONTINUE, 1 REJECT, 2 STOP), the number of guards that alarmed, the number
    of guards and signals without a number, and the seconds it took.
    """
    numbers = {f"{PREFIX}{name}": value for name, value in evaluation.signals.items()}
    for reading in evaluation.screen:
        guard = f"{PREFIX}{reading.gate}"
        numbers |= {
            f"{guard}/harm": reading.harm,
            f"{guard}/harm_low": reading.low,
            f"{guard}/harm_high": reading.high,
            f"{guard}/margin": reading.margin,
        }
    for reading in evaluation.confirmation:
        numbers[f"{PREFIX}{reading.gate}/confirmed_harm"] = reading.harm
    return numbers | {
        f"{PREFIX}action": ACTIONS[evaluation.decision.action],
        f"{PREFIX}alarms": float(len(evaluation.alarmed)),
        f"{PREFIX}unmeasured": float(len(evaluation.unmeasured)),
        f"{PREFIX}seconds": evaluation.seconds,
    }


def worst_pictures(evaluation: Evaluation, runs_dir: Path) -> dict[str, list[NDArray[np.uint8]]]:
    """Of each guard that alarmed, the case that lost most: its control and its candidate, from the same noise.

    Args:
        evaluation: Of a checkpoint.
        runs_dir: Where its runs lie.

    Returns:
        Title to two pictures (h, w, 3); nothing without an alarm. A guard without a comparison by case, or a picture
        that is gone, is left out.
    """
    from lorabench.storage.run_folder import read_results

    if not evaluation.alarmed or not evaluation.run_ids:
        return {}
    run = runs_dir / evaluation.run_ids[0]
    if not (run / "results.json").is_file():
        return {}
    results = read_results(run)
    shown = {}
    for verdict in results.gates:
        if verdict.gate not in evaluation.alarmed or verdict.comparison is None or not verdict.comparison.differences:
            continue
        case = _worst_case(verdict.comparison)
        paths = [run / "pictures" / f"{sha256}.png" for sha256 in _pair(results, case)]
        if paths and all(path.is_file() for path in paths):
            shown[f"{verdict.gate}/worst case: {case}, control and candidate"] = [_picture(path) for path in paths]
    return shown


def _worst_case(comparison: Comparison) -> str:
    sign = 1.0 if comparison.higher_is_better else -1.0
    return min(comparison.differences, key=lambda one: sign * one.difference).case


def _pair(results: Results, case: str) -> list[str]:
    """Digests of a case's control and candidate with its first common seed; none where no pair is whole."""
    from lorabench.records.plan import Arm

    cells = {(image.cell.arm, image.cell.seed): image.sha256 for image in results.images if image.cell.case == case}
    seeds = sorted(seed for arm, seed in cells if arm is Arm.CANDIDATE and (Arm.CONTROL, seed) in cells)
    return [cells[arm, seed] for seed in seeds[:1] for arm in (Arm.CONTROL, Arm.CANDIDATE)]


def _picture(path: Path) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def _made(name: str, *, project: str, folder: Path) -> Any:
    if not _installed("accelerate"):
        raise TrackerMissingError(name, "accelerate")
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    if name not in LOGGER_TYPE_TO_CLASS:
        raise UnknownTrackerError(name, sorted(LOGGER_TYPE_TO_CLASS))
    tracker = LOGGER_TYPE_TO_CLASS[name]
    registered = tracker.__module__ != "accelerate.tracking"  # somebody's own, by accelerate's `register_tracker_class`
    if not registered and not any(_installed(one) for one in _MODULES.get(name, (name,))):
        raise TrackerMissingError(name, PACKAGES.get(name, name))
    return tracker(project, str(folder / FOLDER)) if tracker.requires_logging_directory else tracker(project)


def _installed(module: str) -> bool:
    """Whether there is such a package; a folder of that name, as W&B makes one where it is used, is none."""
    found = importlib.util.find_spec(module)
    return found is not None and found.origin is not None


def _make_accelerate_ready() -> None:
    """The trackers log only once accelerate's state of the process exists; a training with accelerate has made it."""
    from accelerate import PartialState

    if not PartialState._shared_state:
        PartialState()


def _running(name: str) -> Any:
    """The run that this process has open in a tracker; None without one."""
    module = sys.modules.get(name)
    if module is None:
        return None
    if name == "wandb":
        return module.run
    if name == "mlflow":
        return module.active_run()
    if name == "trackio":
        return importlib.import_module("trackio.context_vars").current_run.get()
    return None
