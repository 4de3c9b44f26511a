"""The two forms of a page: one file that holds everything, or a folder for pictures without end and strict servers."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from markupsafe import Markup

from lorabench.errors import SpecError
from lorabench.report.layout import BUDGET_BYTES, Layout
from lorabench.report.page import content_security_policy

INDEX: Final = "index.html"
ASSETS: Final = "assets"
FOLDER_POLICY: Final = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src 'self' file:; "
    "base-uri 'none'; form-action 'none'"
)
"""Nothing inline, nothing from elsewhere. `file:` is for browsers to which a page from the disk has no self; no page
from a server may load files, whatever its policy says."""
MARK: Final = b'<meta name="generator" content="lorabench">'
"""Stands in the head of every page that may be replaced by its other form."""
_HEAD_BYTES: Final = 4096
_NAME_DIGITS: Final = 24
_BASE64: Final = 4 / 3


class NotAReportFolderError(SpecError):
    """A folder that would be replaced holds something else than a report."""

    def __init__(self, folder: Path, *, found: str) -> None:
        super().__init__(
            f"a report's folder must be new or hold an earlier report and nothing else; found {found} in {folder}. "
            "Name another folder."
        )
        self.folder, self.found = folder, found


@dataclass(frozen=True, slots=True)
class Head:
    """What a template needs to bring style and script in."""

    policy: str
    style: Markup
    script: Markup


class OneFile:
    """Pictures, style and script stand in the page itself; each picture once, however often it is shown."""

    shares = True

    def picture(self, content: bytes) -> str:
        """Address of a WebP picture: its content."""
        return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")

    def head(self, *, style: str, script: str) -> Head:
        """Style and script as elements, and the policy that allows exactly these two."""
        return Head(
            policy=content_security_policy(style=style, script=script),
            style=Markup(f"<style>{style}</style>"),  # noqa: S704 - our own file
            script=Markup(f"<script>{script}</script>"),  # noqa: S704 - our own file
        )


class Folder:
    """Pictures, style and script are files of their own, named by their content."""

    shares = False

    def __init__(self) -> None:
        """Begin without any file."""
        self.assets: dict[str, bytes] = {}

    def picture(self, content: bytes) -> str:
        """Address of a WebP picture, from the page on; keeps its content."""
        return self._kept(content, "webp")

    def head(self, *, style: str, script: str) -> Head:
        """Links to style and script, and a policy that allows nothing inline."""
        sheet, module = self._kept(style.encode(), "css"), self._kept(script.encode(), "js")
        return Head(
            policy=FOLDER_POLICY,
            style=Markup('<link rel="stylesheet" href="{}">').format(sheet),
            script=Markup('<script src="{}"></script>').format(module),
        )

    def _kept(self, content: bytes, suffix: str) -> str:
        name = f"{hashlib.sha256(content).hexdigest()[:_NAME_DIGITS]}.{suffix}"
        self.assets[name] = content
        return f"{ASSETS}/{name}"


Form: TypeAlias = OneFile | Folder


class Renderable(Protocol):
    """A page that can be put into either form."""

    @property
    def n_picture_bytes(self) -> int:
        """Size of all its pictures together."""

    def render(self, form: Form) -> str:
        """Its text."""


def write(page: Renderable, path: Path, *, layout: Layout, budget: int = BUDGET_BYTES) -> Path:
    """Put a page into its form and onto the disk, in one move: a reader never sees half of it.

    Args:
        page: What to write.
        path: Where one file goes; a folder gets its name without `.html`.
        layout: One file, a folder, or whichever fits the budget.
        budget: Largest page that is still one file under `Layout.AUTO`, in bytes.

    Returns:
        `path`, or the `index.html` of the folder.

    Raises:
        NotAReportFolderError: The folder is there and holds something else.

    A page has one form: an earlier page of the same name in the other form is removed.
    """
    folder = folder_of(path)
    text = None
    if layout is not Layout.FOLDER and (layout is Layout.SINGLE or page.n_picture_bytes * _BASE64 <= budget):
        text = page.render(OneFile())
    if text is not None and (layout is Layout.SINGLE or len(text.encode("utf-8", "replace")) <= budget):
        written = write_page(text, path)
        if folder != path and is_report_folder(folder):
            shutil.rmtree(folder)
        return written
    check_replaceable(folder)
    form = Folder()
    written = write_folder(page.render(form), form.assets, folder)
    if folder != path and path.is_file() and _is_marked(path):
        path.unlink()
    return written


def folder_of(path: Path) -> Path:
    """Where a page goes as a folder that would go to `path` as one file."""
    return path.with_suffix("") if path.suffix.lower() in (".html", ".htm") else path


def write_page(page: str, path: Path) -> Path:
    """Put a page at `path` in one move: a reader never sees half a page.

    Args:
        page: Its text.
        path: Where it goes; folders are made, an earlier page is replaced.

    Returns:
        `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(page)
        draft.chmod(0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def write_folder(page: str, assets: Mapping[str, bytes], folder: Path) -> Path:
    """Put a page and its files into a folder that appears, or replaces an earlier report, as a whole.

    Args:
        page: Text of `index.html`.
        assets: File name in `assets/` to content.
        folder: Where they go; the folders above are made.

    Returns:
        Path of `index.html`.

    Raises:
        NotAReportFolderError: `folder` is there and holds something else than a report.
    """
    check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        draft.chmod(0o755)
        (draft / ASSETS).mkdir()
        for name, content in assets.items():
            (draft / ASSETS / name).write_bytes(content)
        (draft / INDEX).write_text(page, encoding="utf-8", newline="\n")
        _move(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder / INDEX


def check_replaceable(folder: Path) -> None:
    """Refuse a folder whose content is not an earlier report's.

    Raises:
        NotAReportFolderError: It holds something else.
    """
    if not folder.exists() or is_report_folder(folder):
        return
    if not folder.is_dir():
        raise NotAReportFolderError(folder.parent, found=f"the file {folder.name}")
    found = sorted(entry.name for entry in folder.iterdir())
    if found:
        raise NotAReportFolderError(folder, found=next((name for name in found if name not in (INDEX, ASSETS)), INDEX))


def is_report_folder(folder: Path) -> bool:
    """Whether a folder holds a page that was written here, and nothing else."""
    index = folder / INDEX
    if not index.is_file() or not _is_marked(index):
        return False
    return all(entry.name in (INDEX, ASSETS) for entry in folder.iterdir())


def _is_marked(page: Path) -> bool:
    with page.open("rb") as file:
        return MARK in file.read(_HEAD_BYTES)


def _move(draft: Path, folder: Path) -> None:
    """Rename a finished folder to its place; an earlier one is moved aside first, and deleted when all is done."""
    if not folder.exists():
        draft.rename(folder)
        return
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
    earlier = folder.rename(aside / folder.name)
    try:
        draft.rename(folder)
    except OSError:
        earlier.rename(folder)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
