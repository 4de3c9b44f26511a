"""What pydantic found wrong with a file people wrote, in the words of whoever wrote it."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

Location = tuple[str | int, ...]

_TYPE_WORDS = {
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be a table of keys and values",
    "model_type": "must be a table of keys and values",
    "model_attributes_type": "must be a table of keys and values",
    "path_type": "must be a path",
    "finite_number": "must be a finite number",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where.

    Attributes:
        location: Keys and indices that lead to the value, without the names of check types.
        words: What must hold, what was found, what to do.
        line: 1-based line in the file, where known.
    """

    location: Location
    words: str
    line: int | None = None

    @property
    def key(self) -> str:
        """The location as `cases[3].checks[0].relation`; "the file" for the whole file."""
        return key_path(self.location)


def key_path(location: Sequence[str | int]) -> str:
    """Write keys and indices as one path.

    >>> key_path(("cases", 3, "checks", 0, "relation"))
    'cases[3].checks[0].relation'
    """
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.lstrip(".") or "the file"


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Turn a validation error into problems, with a suggestion for each misspelt key or value.

    Args:
        error: What pydantic raised.
        model: The model that was validated; its fields are the known keys.

    Returns:
        One problem for each entry of the error, in its order.
    """
    entries = error.errors(include_url=False)
    return [_problem(entry, model) for entry in entries if not _is_echo(entry, entries)]


def suggestion(name: str, known: Sequence[str]) -> str:
    """Say what may have been meant by a name that is not among the known ones."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(sorted(known))}."


def shown(value: object) -> str:
    """A value as a message quotes it: short, on one line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_echo(entry: Any, entries: Sequence[Any]) -> bool:
    """Whether a list is called too short only because an entry of it was refused."""
    place = entry["loc"]
    return entry["type"] == "too_short" and any(
        other["loc"][: len(place)] == place and len(other["loc"]) > len(place) for other in entries
    )


def _problem(entry: Any, model: type[BaseModel]) -> Problem:
    kind, found, context = entry["type"], entry.get("input"), entry.get("ctx", {})
    location, owner = _walk(model, entry["loc"])
    name = str(location[-1]) if location else "the file"
    if kind == "extra_forbidden":
        known = list(owner.model_fields) if owner is not None else []
        words = f"unknown key {name!r}. {suggestion(name, known) if known else 'Remove it.'}"
    elif kind == "missing":
        words = f"must be given; found no {name!r}. Add it."
    elif kind in {"literal_error", "union_tag_invalid", "enum"}:
        words = _choice_words(entry)
    elif kind == "union_tag_not_found":
        words = "must say its `type`; found none. Add `type: object` or another type of check."
    elif kind == "string_pattern_mismatch":
        words = f"must match {context['pattern']}; found {shown(found)}. Rename it."
    elif kind in _TYPE_WORDS:
        words = f"{_TYPE_WORDS[kind]}; found {shown(found)}. {_type_hint(kind, found)}"
    elif kind == "value_error":
        words = str(context["error"])
    else:
        words = f"{_lowered(entry['msg'])}; found {shown(found)}. Correct it."
    return Problem(location, words)


def _choice_words(entry: Any) -> str:
    context = entry.get("ctx", {})
    known = re.findall(r"'([^']*)'", str(context.get("expected") or context.get("expected_tags") or ""))
    found = str(context.get("tag", entry.get("input")))
    if not known:
        return f"must be {context.get('expected', 'one of the known values')}; found {found!r}. Correct it."
    return f"must be one of {', '.join(known)}; found {found!r}. {suggestion(found, known)}"


def _type_hint(kind: str, found: object) -> str:
    if kind == "string_type" and isinstance(found, (bool, int, float)):
        return "Put it in quotes."
    if kind == "string_type" and isinstance(found, dict):
        return "Put the text in quotes: braces begin a table."
    if kind == "tuple_type":
        return "Write it as a list, even with one entry."
    return "Correct it."


def _lowered(message: str) -> str:
    message = re.sub(r"^(Input|Value|String|Tuple|List) should", "must", message)
    return message[:1].lower() + message[1:]


def _walk(model: type[BaseModel], location: Sequence[str | int]) -> tuple[Location, type[BaseModel] | None]:
    """Drop the names of union members from a location, and find the model that owns its last key."""
    kept: list[str | int] = []
    owner: type[BaseModel] | None = model
    current: Any = model
    for part in location:
        owner = current if isinstance(current, type) and issubclass(current, BaseModel) else None
        members = _members(current)
        chosen = next((member for member in members if _tag(member) == part), None)
        if chosen is not None:
            current = chosen
            continue
        kept.append(part)
        current = _inner(current, part)
    return tuple(kept), owner


def _inner(annotation: Any, part: str | int) -> Any:
    """The annotation of a field or of an entry; None where it leads nowhere."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return _plain(field.annotation) if field is not None else None
    if get_origin(annotation) in {tuple, list}:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) is dict:
        return _plain(get_args(annotation)[1])
    return None


def _plain(annotation: Any) -> Any:
    """Take off `Annotated` and `| None`."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in {Union, types.UnionType}:
        members = [member for member in get_args(annotation) if member is not type(None)]
        if len(members) == 1:
            return _plain(members[0])
    return annotation


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in {Union, types.UnionType} else ()


def _tag(member: Any) -> object:
    if isinstance(member, type) and issubclass(member, BaseModel) and "type" in member.model_fields:
        return member.model_fields["type"].default
    return None
