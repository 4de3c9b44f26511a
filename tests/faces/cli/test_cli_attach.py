"""`attach`: what the command does around a script; what happens inside one is tested with the trainers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lorabench.cli.application import _quieten_libraries
from lorabench.cli.attaching import _settings_of, _told
from lorabench.cli.course import CourseFormat
from lorabench.records.config import Config, CourseConfig, TrainingSetConfig
from lorabench.records.course import Action, Course, Decision, Evaluation, Reason
from lorabench.storage.course_folder import CourseFolder
from lorabench.training.trainers.diffusers_scripts import LiveTraining

SETTINGS = ("--set", "course.suite=pairs.lora.yaml")


def live(**changed: Any) -> LiveTraining:
    values: dict[str, Any] = {
        "pipeline": None,
        "adapter_name": "default",
        "optimizer": None,
        "base": "/bases/flux",
        "pictures": Path("mine"),
        "half_precision": False,
        "first_step": 0,
        "trackers": (),
    }
    return LiveTraining(**(values | changed))


# ----------------------------------------------------------------------------------------------------- around a script


def test_missing_script_is_told_with_exit_code_2(project: Any) -> None:
    done = project.call("attach", *SETTINGS, "gone.py")

    assert done.exit_code == 2
    assert "the training script must be a Python file; gone.py is none" in done.stderr


def test_mistake_in_the_settings_is_told_before_the_script_runs(project: Any) -> None:
    (project.folder / "script.py").write_text("open('ran', 'w')", encoding="utf-8")

    done = project.call("attach", "--set", "course.suite=nowhere.lora.yaml", "script.py")

    assert done.exit_code == 2
    assert "nowhere.lora.yaml" in done.stderr
    assert not (project.folder / "ran").exists()


def test_script_gets_its_own_options_and_folder(project: Any) -> None:
    text = "import sys, beside\nopen('told', 'w').write(' '.join(sys.argv[1:]) + __name__ + beside.WORD)"
    (project.folder / "scripts").mkdir()
    (project.folder / "scripts" / "script.py").write_text(text, encoding="utf-8")
    (project.folder / "scripts" / "beside.py").write_text("WORD = ' found'", encoding="utf-8")

    done = project.call("attach", "-q", *SETTINGS, "scripts/script.py", "--config", "x", "-q", "--", "y ")

    assert (project.folder / "told").read_text(encoding="utf-8") == "--config x -q -- y __main__ found"
    assert done.exit_code == 2
    assert "this one has no --pretrained_model_name_or_path" in done.stderr


def test_error_of_the_script_is_shown_with_its_place(project: Any) -> None:
    (project.folder / "script.py").write_text("def train():\n    raise KeyError('lr')\ntrain()", encoding="utf-8")

    done = project.call("attach", *SETTINGS, "script.py")

    assert done.exit_code == 3
    assert "script.py" in done.stderr
    assert "in train" in done.stderr
    assert "KeyError: 'lr'" in done.stderr


def test_script_that_ends_itself_keeps_its_exit_code(project: Any) -> None:
    (project.folder / "script.py").write_text("raise SystemExit(7)", encoding="utf-8")

    assert project.call("attach", *SETTINGS, "script.py").exit_code == 7


def test_what_a_script_says_is_not_quietened() -> None:
    environ: dict[str, str] = {}

    _quieten_libraries(["attach", "script.py", "-q"], environ, terminal=False)

    assert environ == {}


# ---------------------------------------------------------------------------------------------------- what it judges by


def test_base_is_the_script_s_whatever_the_settings_say() -> None:
    config = Config.model_validate({"model": {"base": "another", "batch_size": 3}})

    assert _settings_of(config, live()).model.base == "/bases/flux"
    assert _settings_of(config, live()).model.batch_size == 3


@pytest.mark.parametrize(("stated", "expected"), [(None, Path("mine")), (Path("others"), Path("others"))])
def test_training_pictures_are_the_script_s_unless_others_are_named(stated: Path | None, expected: Path) -> None:
    config = Config(training_set=TrainingSetConfig(folder=stated))

    assert _settings_of(config, live()).training_set.folder == expected


def test_pictures_made_under_autocast_are_kept_apart() -> None:
    config = Config(cache_dir=Path("cache"))

    assert _settings_of(config, live()).cache_dir == Path("cache")
    assert _settings_of(config, live(half_precision=True)).cache_dir == Path("cache/autocast")


# ---------------------------------------------------------------------------------------------------- what it ends with


def course_in(folder: Path, *, action: Action, reason: Reason) -> None:
    decision = Decision(action=action, reason=reason, sentence="So it was decided.", training_step=20)
    evaluation = Evaluation(training_step=20, decision=decision)
    CourseFolder(folder).save(Course(identity="a" * 64, evaluations=(evaluation,)))


def ended_at(stopped_at: int | None) -> Any:
    decision = Decision(action=Action.STOP, reason=Reason.NOT_FINITE, sentence="It burns.", training_step=20)
    monitor = SimpleNamespace(decision=decision)
    return SimpleNamespace(stopped_at=stopped_at, output=Path("output"), monitor=monitor, leads=True)


def test_stop_between_two_evaluations_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = _told(ended_at(20), Config(course=CourseConfig(folder=tmp_path)), style=CourseFormat.HUMAN)

    assert ended == 1
    assert "Stopped at step 20. It burns." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("action", "reason", "code"),
    [
        (Action.CONTINUE, Reason.HEALTHY, 0),
        (Action.STOP, Reason.PERSISTENT, 1),
        (Action.CONTINUE, Reason.NOT_MEASURED, 3),
    ],
)
def test_exit_code_says_how_the_course_ended(
    action: Action, reason: Reason, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    course_in(tmp_path, action=action, reason=reason)
    stopped = 20 if action is Action.STOP else None
    attachment = ended_at(stopped)

    ended = _told(attachment, Config(course=CourseConfig(folder=tmp_path)), style=CourseFormat.HUMAN)

    assert ended == code
    said = capsys.readouterr()
    assert "So it was decided." in said.out
    told = "Stopped at step 20. It burns. The script ended by itself: its last LoRA in output is the stopped one"
    assert (told in said.err) == (stopped == 20)


def test_training_that_ended_before_its_first_evaluation_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attachment = ended_at(None)

    ended = _told(attachment, Config(course=CourseConfig(folder=tmp_path)), style=CourseFormat.HUMAN)

    assert ended == 5
    assert "Nothing was evaluated: the training ended before step 250." in capsys.readouterr().err


def test_process_that_does_not_judge_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attachment = ended_at(20)
    attachment.leads = False

    ended = _told(attachment, Config(course=CourseConfig(folder=tmp_path)), style=CourseFormat.HUMAN)

    assert ended == 0
    assert capsys.readouterr() == ("", "")
