"""Suites and fixtures that come with lorabench, in a source tree or in an installed wheel."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from lorabench.errors import MeasurementError, SpecError
from lorabench.storage.validation import suggestion

_PACKAGE = Path(__file__).resolve().parents[1]


class ShippedDataMissingError(MeasurementError):
    """A file that belongs to lorabench is not where it is installed."""

    def __init__(self, relative: str, roots: tuple[Path, ...]) -> None:
        places = " and ".join(str(root) for root in roots)
        super().__init__(
            f"lorabench's data must be installed with it; found no {relative} in {places}. Install lorabench again."
        )
        self.relative = relative


class UnknownShippedSuiteError(SpecError):
    """No suite of this name is shipped."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"a shipped suite must be named; found no {name!r}. {suggestion(name, known)}")
        self.name = name


def shipped_data(relative: str) -> Path:
    """Path of a file or folder that comes with lorabench.

    Args:
        relative: Path below the project's root with forward slashes: `suites/world/screen.lora.yaml`,
            `fixtures/models/tiny-flux`.

    Returns:
        The existing path: in the source tree if lorabench runs from one, else inside the installed package.

    Raises:
        ShippedDataMissingError: Nothing is there.
        ValueError: The path is absolute or climbs out with `..`.
    """
    parts = PurePosixPath(relative)
    if parts.is_absolute() or ".." in parts.parts:
        msg = f"a shipped path must stay below the project's root; got {relative!r}. Name it from the root downwards."
        raise ValueError(msg)
    roots = _roots()
    for root in roots:
        if (path := root.joinpath(*parts.parts)).exists():
            return path
    raise ShippedDataMissingError(relative, roots)


def shipped_suite_names() -> tuple[str, ...]:
    """Names of the shipped suites, sorted: `anatomy`, ..., `world/screen`."""
    folder = shipped_data("suites")
    return tuple(
        sorted(path.relative_to(folder).as_posix().removesuffix(".lora.yaml") for path in folder.rglob("*.lora.yaml"))
    )


def shipped_suite_path(name: str) -> Path:
    """File of a shipped suite.

    Raises:
        UnknownShippedSuiteError: No such name; the message suggests the nearest one.
    """
    known = shipped_suite_names()
    if name not in known:
        raise UnknownShippedSuiteError(name, known)
    return shipped_data(f"suites/{name}.lora.yaml")


def _roots() -> tuple[Path, ...]:
    source, installed = _PACKAGE.parent, _PACKAGE / "_data"
    return (source, installed) if (source / "pyproject.toml").is_file() else (installed,)
