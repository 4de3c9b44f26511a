"""What can go wrong, by who must act on it.

Every message says three things: what must hold; what was found, and where; what to do about it.
A domain error builds its own message and keeps its fields.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command line. When several hold: 3 > 5 > 1 > 4."""

    PASSED = 0
    FAILED = 1
    USAGE = 2
    NOT_MEASURED = 3
    INCONCLUSIVE = 4
    INCOMPLETE = 5
    INTERRUPTED = 130


class LorabenchError(Exception):
    """Base of all errors that a face turns into a message and an exit code."""

    exit_code: ExitCode = ExitCode.NOT_MEASURED


class SpecError(LorabenchError):
    """The suite, the configuration or the command is wrong; whoever wrote it must act."""

    exit_code = ExitCode.USAGE


class MeasurementError(LorabenchError):
    """No verdict exists, because of the environment or the data."""

    exit_code = ExitCode.NOT_MEASURED
