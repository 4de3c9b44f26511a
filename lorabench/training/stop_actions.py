"""What a watcher does when a training should stop: run a command, write a file, interrupt a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lorabench.errors import MeasurementError, SpecError
from lorabench.records.course import Decision
from lorabench.storage.atomic import write_text

StopAction = Callable[[Decision], str]
"""Does something about a decision to stop; returns what it did, in words."""


class StopProcessError(SpecError):
    """The process to interrupt is not one that may be interrupted."""

    def __init__(self, pid: int, found: str) -> None:
        super().__init__(
            f"--stop-pid must be the training's process, running and owned by you; {pid} {found}. "
            f"Look it up again, for example with `pgrep -af train`."
        )
        self.pid = pid


class NotStoppedError(MeasurementError):
    """A decision to stop was not carried out."""

    def __init__(self, action: str, found: str) -> None:
        super().__init__(
            f"the training must be stopped, and {action} did not do it: {found}. Stop it by hand; the decision is "
            f"recorded, and the same watch tries again."
        )
        self.action = action


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process, told from a later one that was given the same number."""

    pid: int
    owner: int
    """User id."""
    started: str
    """When, as the system writes it."""


def run_command(command: str, *, environ: Mapping[str, str] | None = None) -> StopAction:
    """An action that runs a command of the user in a shell, as typed.

    The command finds the decision in `LORABENCH_DECISION`, `LORABENCH_STEP`, `LORABENCH_REASON` (one word each) and
    `LORABENCH_SENTENCE`. Its output goes to stderr.

    Args:
        command: For the shell.
        environ: Instead of this process's environment.

    Returns:
        The action; it raises `NotStoppedError` where the command fails.
    """

    def act(decision: Decision) -> str:
        told = {
            "LORABENCH_DECISION": decision.action.value,
            "LORABENCH_STEP": str(decision.training_step),
            "LORABENCH_REASON": decision.reason.value,
            "LORABENCH_SENTENCE": decision.sentence,
        }
        surrounding = dict(os.environ if environ is None else environ)
        sys.stderr.flush()
        done = subprocess.run(command, shell=True, env=surrounding | told, stdout=2, check=False)  # noqa: S602 - theirs
        if done.returncode:
            raise NotStoppedError(f"the command {command!r}", f"it ended with {done.returncode}")
        return f"ran {command!r}"

    return act


def touch_file(path: Path) -> StopAction:
    """An action that writes the decision's sentence to a file, which a trainer may look for."""

    def act(decision: Decision) -> str:
        write_text(path, f"{decision.sentence}\n")
        return f"wrote {path}"

    return act


def interrupt_process(process: ProcessIdentity) -> StopAction:
    """An action that sends SIGINT, as Ctrl-C does.

    Args:
        process: From `own_process`, taken when the watch began.

    Returns:
        The action; it raises `NotStoppedError` where the process may not be signalled. One that has ended is no error.
    """

    def act(decision: Decision) -> str:
        if not is_running(process):
            return f"process {process.pid} had ended already, before step {decision.training_step} was judged"
        try:
            os.kill(process.pid, signal.SIGINT)
        except OSError as error:
            raise NotStoppedError(f"SIGINT to {process.pid}", error.strerror or str(error)) from error
        return f"sent SIGINT to process {process.pid}"

    return act


def own_process(pid: int) -> ProcessIdentity:
    """Look at a process before it is watched.

    Raises:
        StopProcessError: It does not run, is somebody else's, is this one, or processes cannot be told apart here.
    """
    if os.name != "posix":
        raise StopProcessError(pid, "cannot be interrupted on this system (use --on-stop or --stop-file)")
    if pid <= 1:
        raise StopProcessError(pid, "is not the number of a training")
    if pid == os.getpid():
        raise StopProcessError(pid, "is lorabench itself")
    found = _identify(pid)
    if found is None:
        raise StopProcessError(pid, "does not run")
    if found.owner != os.getuid():
        raise StopProcessError(pid, f"belongs to user {found.owner}, you are {os.getuid()}")
    return found


def is_running(process: ProcessIdentity) -> bool:
    """Whether the process itself, not a later one of the same number, still runs."""
    return _identify(process.pid) == process


def _identify(pid: int) -> ProcessIdentity | None:
    """Owner and start of a process; None where it does not run, or has ended and only its number is left."""
    place = Path("/proc") / str(pid)
    if Path("/proc/self/stat").exists():
        try:
            facts = (place / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            owner = place.stat().st_uid
        except OSError:
            return None
        return None if facts[0] in "ZX" else ProcessIdentity(pid, owner, facts[19])
    listed = subprocess.run(
        ["ps", "-o", "uid=,stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(maxsplit=2)
    if len(listed) < 3 or listed[1].startswith("Z"):
        return None
    return ProcessIdentity(pid, int(listed[0]), listed[2].strip())
