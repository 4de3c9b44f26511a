"""`watch` and `history`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorabench.cli import watching
from lorabench.cli.watching import Judging, JudgingFailedError
from lorabench.errors import MeasurementError, SpecError
from lorabench.records.course import Action, Course, Decision, Evaluation, GuardReading, PolicyState, Reason, Settlement
from lorabench.storage.course_folder import CourseFolder

IDENTITY = "a" * 64
OLD = 1_000_000_000.0
ROOT = Path(__file__).resolve().parents[3]


def save(folder: Path, training_step: int) -> Path:
    path = folder / f"checkpoint-{training_step}" / "pytorch_lora_weights.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(training_step)
    module = "transformer.transformer_blocks.0.attn.to_q"
    tensors = {
        f"{module}.lora_A.weight": rng.normal(size=(4, 16)).astype(np.float32),
        f"{module}.lora_B.weight": rng.normal(size=(16, 4)).astype(np.float32),
    }
    save_file(tensors, path)
    os.utime(path, (OLD, OLD))
    return path


def reading(gate: str, harm: float, *, margin: float = 0.05) -> GuardReading:
    return GuardReading(
        gate=gate,
        metric="foil_score",
        harm=harm,
        standard_error=0.01,
        margin=margin,
        n_cases=20,
        low=harm - 0.02,
        high=harm + 0.02,
        p_beyond_margin=0.5,
    )


def evaluation(training_step: int, action: Action = Action.CONTINUE, **facts: Any) -> Evaluation:
    reason = facts.pop("reason", Reason.HEALTHY if action is Action.CONTINUE else Reason.PERSISTENT)
    gates = facts.pop("gates", ())
    sentence = f"Step {training_step} is {reason}."
    decision = Decision(action=action, reason=reason, sentence=sentence, training_step=training_step, gates=gates)
    return Evaluation(training_step=training_step, decision=decision, **facts)


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> dict[int, Action | Exception]:
    """Training step to what the judge of `watch` says; CONTINUE otherwise."""
    said: dict[int, Action | Exception] = {}

    def judge(path: Path, *, training_step: int, course: Course) -> tuple[Evaluation, PolicyState]:
        print("a library's remark")  # noqa: T201
        answer = said.get(training_step, Action.CONTINUE)
        answer = answer() if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return evaluation(training_step, answer, screen=(reading("prompt", 0.02),)), course.policy

    def best(evaluations: Sequence[Evaluation]) -> int | None:
        good = [one.training_step for one in evaluations if one.decision.action is Action.CONTINUE]
        return good[-1] if good else None

    def finalists(evaluations: Sequence[Evaluation]) -> tuple[int, ...]:
        return tuple(one.training_step for one in evaluations[:1])

    def settle(course: Course) -> Course:
        first = course.evaluations[0].training_step
        sentence = f"Judged again, step {first} is the best."
        again = Settlement(suite="finalists", held_back=True, evaluations=(), best=first, sentence=sentence)
        return course.model_copy(update={"settlement": again, "best": first})

    def make(config: object, *, observer: object) -> Judging:
        return Judging(judge, said.get(-1, IDENTITY), best, finalists, settle)  # type: ignore[arg-type]

    monkeypatch.setattr(watching, "make_judging", make)
    return said


@pytest.fixture
def call(project: Any) -> Callable[..., Any]:
    def run(*arguments: str | Path) -> Any:
        return project.call(*arguments)

    return run


# -------------------------------------------------------------------------------------------------------------- watch


def test_once_judges_what_is_there_and_prints_the_course(says, call, project: Any) -> None:
    for training_step in (1000, 500):
        save(project.folder / "output", training_step)

    done = call("watch", "output", "--once")

    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["Step", "Best", "Decision", "Reason", "prompt"]
    assert lines[1].split() == ["500", "CONTINUE", "healthy", "0.40"]
    assert lines[2].split() == ["1000", "best", "CONTINUE", "healthy", "0.40"]
    assert "judging step 500: output/checkpoint-500" in done.stderr
    assert "a library's remark" in done.stderr
    course = CourseFolder(project.folder / ".lorabench/course").load(IDENTITY)
    assert [one.training_step for one in course.evaluations] == [500, 1000]


@pytest.mark.parametrize(("option", "best"), [((), 1000), (("--finalists",), 500), (("--no-finalists",), 1000)])
def test_finalists_of_a_single_look_are_judged_again_on_request(says, call, project: Any, option, best) -> None:
    for training_step in (500, 700, 1000):
        save(project.folder / "output", training_step)

    done = call("watch", "output", "--once", *option, "--format", "json")

    assert json.loads(done.stdout)["best"] == best
    assert ("Judged again, step 500 is the best." in done.stderr) is (best == 500)
    assert (project.folder / ".lorabench/course/kept/500").is_dir(), "a finalist is kept until it is judged again"


def test_trackers_are_told_of_every_evaluation(says, call, project: Any) -> None:
    for training_step in (500, 1000):
        save(project.folder / "output", training_step)

    done = call("watch", "output", "--once", "--set", 'course.trackers=["tensorboard"]')

    assert done.exit_code == 0, done.stderr
    folder = project.folder / ".lorabench/course/trackers"
    (log,) = [path for path in folder.rglob("events.out.*") if b"lorabench/prompt/harm" in path.read_bytes()]
    assert log.read_bytes().count(b"lorabench/action") == 2


def test_an_unknown_tracker_is_told_before_anything_is_judged(says, call, project: Any) -> None:
    save(project.folder / "output", 500)

    done = call("watch", "output", "--once", "--set", 'course.trackers=["tensorbord"]')

    assert done.exit_code == 2
    assert "found 'tensorbord'. Did you mean 'tensorboard'?" in " ".join(done.stderr.split())
    assert not (project.folder / ".lorabench/course/course.json").exists()


def test_quiet_json_is_json_and_nothing_else(says, call, project: Any) -> None:
    save(project.folder / "output", 500)

    done = call("watch", "output", "--once", "--quiet", "--format", "json", "--course-dir", "elsewhere")

    assert [one["training_step"] for one in json.loads(done.stdout)["evaluations"]] == [500]
    assert (project.folder / "elsewhere/course.json").is_file()
    assert done.stderr == "a library's remark\n"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({}, 0),
        ({1000: Action.REJECT}, 1),
        ({500: Action.REJECT}, 0),
        ({500: Action.STOP}, 1),
        ({1000: MeasurementError("no memory.")}, 3),
        ({500: MeasurementError("no memory.")}, 0),
        ({1000: RuntimeError("CUDA error: out of memory")}, 3),
    ],
    ids=["healthy", "newest-rejected", "earlier-rejected", "stop", "not-measured", "earlier-not-measured", "crash"],
)
def test_exit_code_of_once(says, call, project: Any, said: dict[int, Any], code: int) -> None:
    says.update(said)
    for training_step in (500, 1000):
        save(project.folder / "output", training_step)

    done = call("watch", "output", "--once")

    assert done.exit_code == code, done.stderr


def test_crash_of_the_judge_is_recorded_as_not_measured(says, call, project: Any) -> None:
    says[500] = RuntimeError("CUDA error: out of memory")
    save(project.folder / "output", 500)

    call("watch", "output", "--once")

    (one,) = CourseFolder(project.folder / ".lorabench/course").load(IDENTITY).evaluations
    assert one.decision.reason is Reason.NOT_MEASURED
    assert one.unmeasured["everything"] == str(JudgingFailedError(RuntimeError("CUDA error: out of memory")))
    assert one.unmeasured["everything"] == (
        "judging must end with a verdict; it ended with RuntimeError: CUDA error: out of memory. "
        "`lorabench run --lora` on the same file shows where."
    )


def test_watch_ends_with_stop_after_telling_the_trainer(says, call, project: Any) -> None:
    says[500] = Action.STOP
    for training_step in (500, 1000):
        save(project.folder / "output", training_step)

    done = call(
        "watch", "output", "--on-stop", 'echo "$LORABENCH_STEP $LORABENCH_REASON" > told', "--stop-file", "stop"
    )

    assert done.exit_code == 1, done.stderr
    assert (project.folder / "told").read_text(encoding="utf-8") == "500 persistent\n"
    assert (project.folder / "stop").read_text(encoding="utf-8") == "Step 500 is persistent.\n"
    assert "1000" not in done.stdout


def test_watch_interrupts_the_training_and_ends_with_it(says, call, project: Any) -> None:
    says[500] = Action.STOP
    save(project.folder / "output", 500)
    script = (
        "import sys, time\ntry: print('training', flush=True); time.sleep(60)\nexcept KeyboardInterrupt: sys.exit(42)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as training:
        assert training.stdout is not None
        assert training.stdout.readline() == "training\n"
        done = call("watch", "output", "--stop-pid", str(training.pid))

        assert done.exit_code == 1, done.stderr
        assert training.wait(timeout=20) == 42


def test_watch_ends_when_the_training_ends(says, call, project: Any) -> None:
    save(project.folder / "output", 500)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as training:
        says[500] = lambda: (training.kill(), Action.CONTINUE)[1]  # type: ignore[assignment]
        done = call("watch", "output", "--stop-pid", str(training.pid), "--interval", "0.1")

    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[:2] == ["500", "best"]


def test_process_that_does_not_run_is_refused_before_anything_is_loaded(call, project: Any) -> None:
    done = call("watch", "output", "--stop-pid", str(2**22 + 5))

    assert done.exit_code == 2
    assert "does not run" in done.stderr


def test_folder_without_checkpoints_ends_with_5(says, call, project: Any) -> None:
    done = call("watch", "output", "--once")

    assert done.exit_code == 5
    assert "a folder must hold a complete checkpoint under a known name; output holds none" in done.stderr


def test_wrong_settings_end_with_2(says, call, project: Any) -> None:
    says[500] = SpecError("alpha must be known.")
    save(project.folder / "output", 500)

    assert call("watch", "output", "--once").exit_code == 2


def test_other_settings_are_refused_or_begin_a_new_course(says, call, project: Any) -> None:
    save(project.folder / "output", 500)
    call("watch", "output", "--once")
    says[-1] = "b" * 64  # type: ignore[assignment]

    refused = call("watch", "output", "--once")
    begun = call("watch", "output", "--once", "--restart")

    assert refused.exit_code == 2
    assert "all checkpoints of a course must be judged alike" in refused.stderr
    assert begun.exit_code == 0
    assert (project.folder / ".lorabench/course/earlier/1/course.json").is_file()


def test_failed_checkpoint_is_judged_again_on_request(says, call, project: Any) -> None:
    says[500] = MeasurementError("no memory.")
    save(project.folder / "output", 500)
    assert call("watch", "output", "--once").exit_code == 3
    del says[500]

    assert call("watch", "output", "--once").exit_code == 3
    assert call("watch", "output", "--once", "--retry-failed").exit_code == 0


def test_second_watch_on_one_course_is_refused(says, call, project: Any) -> None:
    save(project.folder / "output", 500)
    with CourseFolder(project.folder / ".lorabench/course").claimed():
        done = call("watch", "output", "--once")

    assert done.exit_code == 3
    assert "one course folder must have one process" in done.stderr


def test_list_says_what_is_recognised_and_why_others_are_not(call, project: Any) -> None:
    output = project.folder / "output"
    path = save(output, 500)
    (output / "downloaded.safetensors").write_bytes(path.read_bytes())
    (output / "checkpoint-600-tmp").mkdir()

    done = call("watch", "output", "--list")

    words = " ".join(done.stdout.split())
    assert done.exit_code == 0
    assert "500 checkpoint-500 checkpoint" in words
    assert "checkpoint-600-tmp not complete the trainer is writing it" in words
    assert "downloaded.safetensors not recognised its name is that of no trainer's checkpoint" in words
    assert not (project.folder / ".lorabench").exists()


def test_list_names_other_trainings(call, project: Any) -> None:
    output = project.folder / "output"
    path = save(output, 500)
    (output / "b-step00000100.safetensors").write_bytes(path.read_bytes())

    assert call("watch", "output", "--list").exit_code == 2
    assert "b-step00000100.safetensors" in call("watch", "output", "--list", "--name", "b").stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "code", "action"), [("", 0, Action.CONTINUE), ("drop_second:0.4", 1, Action.STOP)], ids=["healthy", "bad"]
)
def test_real_judge_stops_a_training_that_forgets_the_second_object(
    call, project: Any, base: str, code: int, action: Action
) -> None:
    save(project.folder / "output", 500)
    settings = (
        "statistics.n_resamples=100",
        "gates.prompt.margin=0.1",
        "course.suite=pairs.lora.yaml",
        "course.confirmations=1",
    )
    options = [word for setting in settings for word in ("--set", setting)]

    done = call("watch", "output", "--once", "--on-stop", "echo now > stopped", "--base", base, *options)

    assert done.exit_code == code, done.stderr
    (one,) = CourseFolder(project.folder / ".lorabench/course").load(identity_in(project.folder)).evaluations
    assert one.decision.action is action
    assert one.adapter_digest is not None
    assert bool(one.confirmation) == (project.folder / "stopped").exists() == bool(base)


def identity_in(folder: Path) -> str:
    return str(json.loads((folder / ".lorabench/course/course.json").read_text(encoding="utf-8"))["identity"])


# ------------------------------------------------------------------------------------------------------------ history


@pytest.fixture
def course_folder(tmp_path: Path) -> Path:
    """Healthy, alarmed, rejected, not measured."""
    evaluations = (
        evaluation(500, screen=(reading("prompt", -0.01), reading("copy", 0.0, margin=0.1)), kept="kept/500"),
        evaluation(
            1000,
            reason=Reason.ALARM,
            screen=(reading("prompt", 0.06),),
            alarmed=("prompt",),
            confirmation=(reading("prompt", 0.03),),
        ),
        evaluation(
            1500,
            Action.REJECT,
            reason=Reason.CONFIRMED,
            screen=(reading("prompt", 0.2),),
            alarmed=("prompt",),
            confirmation=(reading("prompt", 0.15),),
            gates=("prompt",),
        ),
        evaluation(2000, reason=Reason.NOT_MEASURED, unmeasured={"everything": "no memory"}),
    )
    folder = CourseFolder(tmp_path / "course")
    folder.save(Course(identity=IDENTITY, evaluations=evaluations, best=500))
    return folder.folder


def test_history_is_a_table_with_harm_in_margins_and_the_best_marked(call, course_folder: Path) -> None:
    done = call("history", course_folder)

    assert done.exit_code == 0
    assert [line.split() for line in done.stdout.splitlines()[:5]] == [
        ["Step", "Best", "Decision", "Reason", "prompt", "copy"],
        ["500", "best", "CONTINUE", "healthy", "−0.20", "0.00"],
        ["1000", "CONTINUE", "alarm", "0.60*", "–"],
        ["1500", "REJECT", "confirmed", "3.00!", "–"],
        ["2000", "CONTINUE", "not", "measured", "–", "–"],
    ]
    assert "Step 2000 is not_measured." in done.stdout
    assert "Best: step 500, kept in kept/500." in done.stdout


def test_history_as_markdown(call, course_folder: Path) -> None:
    lines = call("history", course_folder / "course.json", "--format", "markdown").stdout.splitlines()

    assert lines[0] == "| Step | Best | Decision | Reason | prompt | copy |"
    assert lines[1] == "| --- | --- | --- | --- | --- | --- |"
    assert lines[3] == r"| 1000 |  | CONTINUE | alarm | 0.60\* | – |"
    assert lines[4] == "| 1500 |  | REJECT | confirmed | 3.00! | – |"
    assert "Best: step 500, kept in kept/500." in lines


def test_history_as_json_is_the_course(call, course_folder: Path) -> None:
    done = call("history", course_folder, "--format", "json")

    assert Course.model_validate(json.loads(done.stdout)) == CourseFolder(course_folder).load(IDENTITY)


def test_history_finds_the_folder_of_the_settings(call, project: Any, course_folder: Path) -> None:
    (project.folder / ".lorabench").mkdir()
    course_folder.rename(project.folder / ".lorabench/course")

    assert "3.00!" in call("history").stdout


def test_history_of_an_empty_course_and_of_none(call, tmp_path: Path) -> None:
    CourseFolder(tmp_path).save(Course(identity=IDENTITY))

    assert "Nothing was judged yet" in call("history", tmp_path).stdout
    missing = call("history", tmp_path / "nowhere")
    assert missing.exit_code == 2
    assert "a course must be a course.json of schema version 1" in missing.stderr


def test_history_without_a_best_checkpoint_says_so(call, tmp_path: Path) -> None:
    CourseFolder(tmp_path).save(Course(identity=IDENTITY, evaluations=(evaluation(5, Action.STOP),)))

    words = " ".join(call("history", tmp_path).stdout.split())
    assert "Newest: Step 5 is persistent. Best: none so far. " in words
    assert words.rpartition("Best: none so far. ")[2]


@pytest.mark.parametrize("words", [["watch", "--help"], ["history", "--help"], ["history", "{folder}"]])
def test_help_and_history_load_no_network(course_folder: Path, words: list[str]) -> None:
    arguments = ["lorabench", *(word.format(folder=course_folder) for word in words)]
    code = (
        f"import sys\nsys.argv = {arguments!r}\nfrom lorabench.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "assert not {'torch', 'diffusers', 'transformers', 'peft', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )

    assert done.returncode == 0, done.stderr
