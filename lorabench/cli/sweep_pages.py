"""The page of a sweep, from its folder alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lorabench.cli.verdicts import pictures_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lorabench.records.results import Results
    from lorabench.records.sweep import Sweep


def is_sweep(path: Path) -> bool:
    """Whether this is a sweep: its folder, or its `sweep.json`."""
    return (path / "sweep.json").is_file() if path.is_dir() else path.name == "sweep.json"


def sweep_beside(folder: Path, results: Results) -> tuple[Sweep | None, Callable[[str], NDArray[np.uint8] | None]]:
    """The newest sweep of a run's candidate that lies beside the run, and a source of the pictures of both.

    Args:
        folder: The run's.
        results: Of the run.

    Returns:
        The sweep, or None; SHA-256 of the pixels to the picture, or None.
    """
    from lorabench.storage.sweep_files import find_sweep, read_sweep

    of_run, found = pictures_of(folder), find_sweep(folder, results)
    if found is None:
        return None, of_run
    of_sweep = pictures_of(found)

    def picture(sha256: str) -> NDArray[np.uint8] | None:
        pixels = of_run(sha256)
        return of_sweep(sha256) if pixels is None else pixels

    return read_sweep(found), picture


def write_sweep_page(path: Path, *, to: Path | None = None, max_edge: int = 160) -> Path:
    """Render the page of a sweep from its folder: into it, or where it is asked for.

    Args:
        path: The folder, or its `sweep.json`.
        to: File, or folder for a page named after the sweep; None for `sweep.html` beside `sweep.json`.
        max_edge: Longest edge of a picture, in pixels.
    """
    from lorabench.report.sweep_html import render_sweep
    from lorabench.storage.atomic import write_text
    from lorabench.storage.sweep_files import read_sweep

    folder = path if path.is_dir() else path.parent
    found = read_sweep(path)
    target = folder / "sweep.html" if to is None else to
    if to is not None and to.suffix.lower() not in (".html", ".htm"):
        target = to / f"{found.sweep_id}.html"
    write_text(target, render_sweep(found, picture=pictures_of(folder), max_edge=max_edge))
    return target
