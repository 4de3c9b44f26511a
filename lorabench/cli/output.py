"""Data to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PIPED_WIDTH = 100
"""Columns where stdout is no terminal."""


def data(text: str) -> None:
    """Text for stdout, ending in a newline."""
    typer.echo(text, nl=not text.endswith("\n"))


def message(text: str) -> None:
    """A line for a person, on stderr."""
    typer.echo(text, err=True)


def json_data(value: Any) -> None:
    """Plain JSON types, on stdout."""
    data(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def show(renderable: RenderableType) -> None:
    """Something for a rich console, on stdout: colour only on a terminal, and not with NO_COLOR."""
    _console(stderr=False).print(renderable)


def terminal(*, stderr: bool = True) -> Console:
    """The console of stderr."""
    return _console(stderr=stderr)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table on stdout. Its first column names the rows and is never folded."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for index, name in enumerate(header):
        grid.add_column(name, overflow="fold", no_wrap=index == 0)
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    show(grid)


@contextmanager
def stdout_for_data() -> Iterator[None]:
    """Send to stderr what libraries print meanwhile."""
    with redirect_stdout(sys.stderr):
        yield


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else PIPED_WIDTH, highlight=False, soft_wrap=False)
