"""Every way a command can end, turned into a message on stderr and an exit code that means something."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from lorabench.errors import ExitCode, LorabenchError

TRACEBACK_VARIABLE = "LORABENCH_TRACEBACK"
_USAGE_ERROR = typer.BadParameter.__bases__[0]
"""The command line library's own; it has no public name, prints itself and ends with 2."""


class GuardedGroup(TyperGroup):
    """The top group: 2 and 3 from our errors, 3 from a crash (1 would read as a failed gate), 130 from Ctrl-C."""

    def make_context(self, info_name: str | None, args: Sequence[str], parent: Any = None, **extra: Any) -> Any:
        """Keep the arguments as they were typed: results say what command made them."""
        arguments = list(args)
        return super().make_context(info_name, list(arguments), parent, **{"obj": tuple(arguments), **extra})

    def invoke(self, ctx: Any) -> Any:
        """Run the command and translate what it raises."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError as error:
            _close_stdout()
            raise typer.Exit(ExitCode.NOT_MEASURED) from error
        except KeyboardInterrupt as error:
            typer.echo("lorabench: interrupted; finished pictures are kept, the same command goes on there.", err=True)
            raise typer.Exit(ExitCode.INTERRUPTED) from error
        except Exception as error:
            if isinstance(error, _USAGE_ERROR):
                raise
            raise typer.Exit(_told(error, shown=_wants_traceback(ctx))) from error
        return result


def print_error(error: LorabenchError) -> None:
    """An error's message, on stderr."""
    typer.echo(f"lorabench: {error}", err=True)


def _told(error: Exception, *, shown: bool) -> ExitCode:
    """Print an error; return its exit code."""
    if shown:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, LorabenchError):
        print_error(error)
        return ExitCode(error.exit_code)
    if isinstance(error, OSError):
        place = f" ({error.filename})" if error.filename else ""
        typer.echo(f"lorabench: the system refused: {error.strerror or error}{place}.", err=True)
    else:
        typer.echo(f"lorabench: unexpected {type(error).__name__}: {error}", err=True)
    if not shown:
        typer.echo(f"Nothing was decided. {TRACEBACK_VARIABLE}=1 shows where it happened.", err=True)
    return ExitCode.NOT_MEASURED


def _wants_traceback(ctx: Any) -> bool:
    return bool(ctx.params.get("traceback")) or os.environ.get(TRACEBACK_VARIABLE, "").lower() not in ("", "0", "false")


def _close_stdout() -> None:
    """The reader has gone; without this, Python complains once more when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
