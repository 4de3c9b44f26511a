"""The page of a sweep, from its folder alone."""

from __future__ import annotations

from pathlib import Path

from lorabench.cli.verdicts import pictures_of


def is_sweep(path: Path) -> bool:
    """Whether this is a sweep: its folder, or its `sweep.json`."""
    return (path / "sweep.json").is_file() if path.is_dir() else path.name == "sweep.json"


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
