"""Running a command, writing a file, interrupting the right process and no other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lorabench.records.course import Action, Decision, Reason
from lorabench.storage.config_files import load_config
from lorabench.training.stop_actions import (
    NotStoppedError,
    StopProcessError,
    interrupt_process,
    is_running,
    own_process,
    run_command,
    touch_file,
)

STOP = Decision(
    action=Action.STOP,
    reason=Reason.PERSISTENT,
    sentence='Stop: "prompt" fell; $(echo not run) twice.',
    training_step=900,
)
TRAINING = (
    "import signal, sys, time\n"
    "try:\n    print('training', flush=True); time.sleep(60)\n"
    "except KeyboardInterrupt:\n    sys.exit(42)\n"
)


@pytest.fixture
def training() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", TRAINING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "training\n"
        yield process
        process.kill()


def test_command_finds_the_decision_in_its_environment(tmp_path: Path) -> None:
    words = ("DECISION", "STEP", "REASON", "SENTENCE")
    command = "; ".join(f'printf "%s\\n" "$LORABENCH_{word}" >> told' for word in words)

    done = run_command(f"cd {tmp_path}; {command}")(STOP)

    assert (tmp_path / "told").read_text(encoding="utf-8").splitlines() == ["STOP", "900", "persistent", STOP.sentence]
    assert done.startswith("ran ")


def test_command_keeps_the_rest_of_the_environment(tmp_path: Path) -> None:
    run_command(f'echo "$WHERE$LORABENCH_STEP" > {tmp_path}/told', environ={"WHERE": "here", "PATH": os.defpath})(STOP)

    assert (tmp_path / "told").read_text(encoding="utf-8") == "here900\n"


def test_command_may_call_lorabench_itself(tmp_path: Path) -> None:
    told = {f"LORABENCH_{word}": "x" for word in ("DECISION", "STEP", "REASON", "SENTENCE")}

    load_config({}, start=tmp_path, explicit=None, environ=told)


def test_output_of_the_command_is_no_data(capfd: pytest.CaptureFixture[str]) -> None:
    run_command("echo stopping")(STOP)

    assert capfd.readouterr() == ("", "stopping\n")


def test_command_that_fails_is_told() -> None:
    with pytest.raises(NotStoppedError) as caught:
        run_command("exit 7")(STOP)

    assert str(caught.value) == (
        "the training must be stopped, and the command 'exit 7' did not do it: it ended with 7. Stop it by hand; the "
        "decision is recorded, and the same watch tries again."
    )


def test_file_holds_the_sentence(tmp_path: Path) -> None:
    done = touch_file(tmp_path / "signals" / "stop")(STOP)

    assert (tmp_path / "signals" / "stop").read_text(encoding="utf-8") == f"{STOP.sentence}\n"
    assert done == f"wrote {tmp_path / 'signals' / 'stop'}"


def test_process_is_interrupted_as_by_ctrl_c(training: subprocess.Popen[str]) -> None:
    process = own_process(training.pid)
    assert is_running(process)

    done = interrupt_process(process)(STOP)

    assert training.wait(timeout=20) == 42
    assert done == f"sent SIGINT to process {training.pid}"
    assert not is_running(process)


def test_process_that_has_ended_is_nothing_to_do(training: subprocess.Popen[str]) -> None:
    process = own_process(training.pid)
    training.kill()
    training.wait(timeout=20)

    assert interrupt_process(process)(STOP) == (f"process {training.pid} had ended already, before step 900 was judged")


def test_ended_process_whose_parent_did_not_ask_counts_as_ended(training: subprocess.Popen[str]) -> None:
    process = own_process(training.pid)
    training.kill()
    os.waitid(os.P_PID, training.pid, os.WEXITED | os.WNOWAIT)

    assert not is_running(process)


def test_later_process_of_the_same_number_is_left_alone(training: subprocess.Popen[str]) -> None:
    earlier = replace(own_process(training.pid), started="at another time")

    done = interrupt_process(earlier)(STOP)

    assert "had ended already" in done
    assert training.poll() is None


@pytest.mark.parametrize(
    ("pid", "found"),
    [
        (0, "is not the number of a training"),
        (-5, "is not the number of a training"),
        (1, "is not the number of a training"),
        (os.getpid(), "is lorabench itself"),
        (2**22 + 5, "does not run"),
    ],
    ids=["zero", "negative", "init", "itself", "none"],  # the same in every worker
)
def test_process_that_may_not_be_interrupted_is_refused(pid: int, found: str) -> None:
    with pytest.raises(StopProcessError) as caught:
        own_process(pid)

    assert str(caught.value) == (
        f"--stop-pid must be the training's process, running and owned by you; {pid} {found}. Look it up again, for "
        "example with `pgrep -af train`."
    )
    assert caught.value.exit_code == 2


def test_process_of_somebody_else_is_refused(training: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)

    with pytest.raises(StopProcessError, match=f"belongs to user {owner}, you are {owner + 1}"):
        own_process(training.pid)
