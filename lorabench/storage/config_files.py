"""Settings from the command line, the environment and files, with the origin of each."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, ValidationError

from lorabench.errors import SpecError
from lorabench.records.config import Config
from lorabench.storage.validation import Problem, problems_of

CONFIG_NAME: Final = "lorabench.toml"
PROJECT_NAME: Final = "pyproject.toml"
PREFIX: Final = "LORABENCH_"
NOT_SETTINGS: Final = frozenset(
    {"LORABENCH_REQUIRE_COMPLETE", "LORABENCH_TEST_DATA", "LORABENCH_TRACEBACK", "LORABENCH_WEIGHTS_DIR"}
    | {"LORABENCH_DECISION", "LORABENCH_STEP", "LORABENCH_REASON", "LORABENCH_SENTENCE"}
)
"""Variables with the prefix that are no settings; the last four tell a command of `--on-stop` what was decided."""
COMMAND_LINE: Final = "command line"
DEFAULT: Final = "default"

Key = tuple[str, ...]
_PREFIXED: Final = ("local-dir:", "owlv2:", "grounding-dino:")
_PATHS: Final = frozenset({("model", "base"), ("candidate", "lora"), ("judges", "clip"), ("judges", "detector")})
"""Text settings that may name a file or folder."""


class ConfigError(SpecError):
    """The settings cannot be used; the message lists every problem with its origin and key."""

    def __init__(self, problems: list[tuple[str, Problem]]) -> None:
        self.problems = tuple(problems)
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        listed = "\n".join(f"  {origin}: {problem.key}: {problem.words}" for origin, problem in problems)
        super().__init__(f"settings must be valid; found {count}. Correct each:\n{listed}")


class Origins(dict[str, str]):
    """Dotted key of every setting to where it came from: a file, a variable, `command line` or `default`."""

    def __init__(self, origins: Mapping[str, str], *, file: Path | None, notes: tuple[str, ...]) -> None:
        super().__init__(origins)
        self.file = file
        """The settings file that was read, if any."""
        self.notes = notes
        """What a face should tell the user."""


@dataclass(frozen=True)
class _Found:
    """A settings file, or none."""

    path: Path | None = None
    values: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        is_project = self.path is not None and self.path.name == PROJECT_NAME
        return f"{self.path} [tool.lorabench]" if is_project else str(self.path)


def load_config(
    cli: Mapping[str, Any], *, start: Path, explicit: Path | None, environ: Mapping[str, str]
) -> tuple[Config, Origins]:
    """Put the settings of a run together.

    Command line over `LORABENCH_*` over `lorabench.toml` over `[tool.lorabench]` over defaults. Without `explicit`, the
    first folder from `start` upwards that holds one of the two files is used; the search ends at the repository's root
    (`.git`). Relative paths in a file start from the file's folder, and so do the default folders once there is a
    file; those of the command line and the environment start from the working directory. A list replaces a list.

    Args:
        cli: Options that were given, nested or with dotted keys (`{"generation.height": 128}`); None means not given.
        start: Folder the search begins in.
        explicit: A settings file; nothing is searched then.
        environ: The environment. `LORABENCH_MODEL__BASE` is `model.base`, lists are separated by commas, an empty
            variable counts as not set.

    Returns:
        The settings, and the origin of each by dotted key; its `notes` are worth printing.

    Raises:
        ConfigError: A file, key or value is wrong; all problems are listed, with a suggestion for unknown keys.
    """
    found = _read(explicit) if explicit is not None else _search(start)
    values: dict[Key, Any] = {}
    origins: dict[Key, str] = {}
    for key, value, origin in (
        *((key, value, found.label) for key, value in _leaves(found.values or {})),
        *((key, value, _variable(key)) for key, value in _from_environment(environ).items()),
        *((key, value, COMMAND_LINE) for key, value in _leaves(_nested(cli))),
    ):
        _drop_overlapping(values, key)
        values[key], origins[key] = value, origin
    config = _validated(values, origins)
    if found.path is not None:
        config = _anchored(config, origins, folder=found.path.parent, label=found.label)
    flat = {".".join(key): origins.get(key, DEFAULT) for key, _ in _leaves(config.model_dump())}
    return config, Origins(flat, file=found.path, notes=found.notes)


def _search(start: Path) -> _Found:
    start = start.resolve()
    for folder in (start, *start.parents):
        own, project = folder / CONFIG_NAME, folder / PROJECT_NAME
        table = _project_table(project)
        if own.is_file():
            note = f"{own} is used; [tool.lorabench] in {project} is ignored. Keep one of them."
            return _Found(own, _toml(own), (note,) if table is not None else ())
        if table is not None:
            return _Found(project, table)
        if (folder / ".git").exists():
            break
    return _Found()


def _read(path: Path) -> _Found:
    """An explicitly named file."""
    path = path.resolve()
    if path.name != PROJECT_NAME:
        return _Found(path, _toml(path))
    table = _project_table(path) if path.is_file() else _toml(path)
    if table is None:
        words = "must hold a table [tool.lorabench]; found none. Add it, or name another file."
        raise ConfigError([(str(path), Problem((), words))])
    return _Found(path, table)


def _project_table(path: Path) -> Mapping[str, Any] | None:
    if not path.is_file():
        return None
    tools = _toml(path).get("tool", {})
    table = tools.get("lorabench") if isinstance(tools, dict) else None
    if table is not None and not isinstance(table, dict):
        words = f"[tool.lorabench] must be a table; found {table!r}. Write it as a table."
        raise ConfigError([(str(path), Problem(("tool", "lorabench"), words))])
    return table


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        words = f"must be a file that can be read; {error.strerror or error}. Check the path."
    except UnicodeDecodeError:
        words = "must be UTF-8; it is not. Save the file as UTF-8."
    except tomllib.TOMLDecodeError as error:
        words = f"must be TOML; {error}. Correct the line."
    raise ConfigError([(str(path), Problem((), words))])


def _from_environment(environ: Mapping[str, str]) -> dict[Key, Any]:
    values: dict[Key, Any] = {}
    for name, text in sorted(environ.items()):
        if name.startswith(PREFIX) and name not in NOT_SETTINGS and text.strip():
            key = tuple(name.removeprefix(PREFIX).lower().split("__"))
            values[key] = _as_list(text) if _takes_list(key) else text
    return values


def _variable(key: Key) -> str:
    return PREFIX + "__".join(key).upper()


def _as_list(text: str) -> list[str]:
    return [entry.strip() for entry in text.split(",") if entry.strip()]


def _takes_list(key: Key) -> bool:
    model: Any = Config
    for part in key:
        field = model.model_fields.get(part) if isinstance(model, type) and issubclass(model, BaseModel) else None
        if field is None:
            return False
        model = field.annotation
    return any(get_origin(choice) is tuple for choice in (model, *get_args(model)))


def _nested(cli: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys unfolded; options that were not given left out."""
    result: dict[str, Any] = {}
    for name, value in cli.items():
        *parents, last = name.split(".")
        inner = result
        for parent in parents:
            inner = inner.setdefault(parent, {})
        if isinstance(value, Mapping):
            inner.setdefault(last, {}).update(_nested(value))
        elif value is not None:
            inner[last] = value
    return result


def _leaves(values: Mapping[str, Any], above: Key = ()) -> Iterator[tuple[Key, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*above, name))
        elif not isinstance(value, Mapping):
            yield (*above, name), value


def _drop_overlapping(values: dict[Key, Any], key: Key) -> None:
    """A stronger value replaces a weaker one that is its table, or lies inside it."""
    for other in list(values):
        shorter = min(len(other), len(key))
        if other != key and other[:shorter] == key[:shorter]:
            del values[other]


def _validated(values: Mapping[Key, Any], origins: Mapping[Key, str]) -> Config:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        inner = tree
        for part in key[:-1]:
            inner = inner.setdefault(part, {})
        inner[key[-1]] = value
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        problems = [_from_origin(problem, origins) for problem in problems_of(error, Config)]
        raise ConfigError(problems) from None


def _from_origin(problem: Problem, origins: Mapping[Key, str]) -> tuple[str, Problem]:
    place = tuple(str(part) for part in problem.location)
    for key, origin in reversed(list(origins.items())):
        shorter = min(len(key), len(place))
        if key[:shorter] == place[:shorter]:
            return origin, problem
    return DEFAULT, problem


def _anchored(config: Config, origins: Mapping[Key, str], *, folder: Path, label: str) -> Config:
    """Relative paths of the file, and of defaults, taken from the file's folder."""
    values = config.model_dump()
    for key, value in _leaves(values):
        if origins.get(key, label) == label:
            inner = values
            for part in key[:-1]:
                inner = inner[part]
            inner[key[-1]] = _anchored_value(key, value, folder)
    return Config.model_validate(values)


def _anchored_value(key: Key, value: Any, folder: Path) -> Any:
    if key == ("suites",):
        return tuple(_anchored_suite(path, folder) for path in value)
    if isinstance(value, Path):
        return folder / value
    if key in _PATHS and isinstance(value, str) and value:
        return _anchored_text(value, folder)
    return value


def _anchored_suite(path: Path, folder: Path) -> Path:
    """Names of shipped suites stay names."""
    is_path = path.suffix in {".yaml", ".yml"} or path.parts[:1] == ("..",) or (folder / path).exists()
    return folder / path if is_path else path


def _anchored_text(value: str, folder: Path) -> str:
    """A folder or file beside the settings becomes absolute; a hub id or a name stays as it is."""
    prefix = next((known for known in _PREFIXED if value.startswith(known)), "")
    rest = value.removeprefix(prefix)
    is_path = rest.startswith(("./", "../")) or rest.endswith(".safetensors") or (folder / rest).exists()
    return f"{prefix}{folder / rest}" if is_path else value
