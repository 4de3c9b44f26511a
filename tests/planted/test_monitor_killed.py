"""A training that is killed without warning while it is judged: started again, its history has no gap and no double."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lorabench.records.course import Evaluation
from lorabench.storage.course_folder import CourseFolder, read_course

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("killed_training.py")
TIMEOUT_SECONDS = 600


def run(folder: Path, cache_dir: Path, *, killed_when: Callable[[list[str]], bool] = lambda _said: False) -> list[str]:
    """What the program said; it is killed as soon as that is so."""
    folder.mkdir(parents=True, exist_ok=True)
    said: list[str] = []
    command = [sys.executable, str(PROGRAM), str(folder), str(cache_dir)]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as program:
        assert program.stdout is not None
        for line in program.stdout:
            said.append(line.strip())
            if killed_when(said):
                program.send_signal(signal.SIGKILL)
                break
        program.wait(timeout=TIMEOUT_SECONDS)
        expected = -signal.SIGKILL if killed_when(said) else 0
    assert program.returncode == expected, said
    return said


def facts(one: Evaluation) -> dict[str, object]:
    """What must be the same whether or not the training was killed: all but times and places."""
    return one.model_dump(exclude={"seconds", "kept", "run_ids"})


def test_a_training_killed_while_it_is_judged_goes_on_without_a_gap_or_a_double(
    tmp_path: Path, world_cache: Path
) -> None:
    def judging(step: int) -> Callable[[list[str]], bool]:
        return lambda said: said[-1].startswith("stage") and said[-2] == f"step {step}"

    first = run(tmp_path / "killed", world_cache, killed_when=judging(8))
    second = run(tmp_path / "killed", world_cache, killed_when=lambda said: said[-1] == "step 11")
    third = run(tmp_path / "killed", world_cache)
    run(tmp_path / "alone", world_cache)

    killed, alone = read_course(tmp_path / "killed" / "course"), read_course(tmp_path / "alone" / "course")
    assert [first[0], second[0], third[0]] == ["from 0", "from 6", "from 9"]
    assert [one.training_step for one in alone.evaluations] == [4, 8, 12]
    assert [facts(one) for one in killed.evaluations] == [facts(one) for one in alone.evaluations]
    assert killed.policy == alone.policy
    assert killed.best == alone.best
    assert (tmp_path / "killed" / "weights.bin").read_bytes() == (tmp_path / "alone" / "weights.bin").read_bytes()
    events = CourseFolder(tmp_path / "killed" / "course").events()
    judged = [one["training_step"] for one in events if one["kind"] == "evaluated"]
    assert judged == [4, 8, 12], "what was judged before the kill is known again, and judged once"
