"""YAML 1.2 as people write it, with the line of every key; what could mislead or blow up is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import Node, ScalarNode, SequenceNode

from lorabench.storage.validation import Location, Problem

MAX_BYTES: Final = 2 * 1024 * 1024
"""Largest suite file; at about 700 bytes a case that is some 3,000 cases."""
MAX_NODES: Final = 200_000
"""Most values after all aliases are expanded."""

_DEEP = re.compile(r"(?:[\[{]\s*){64}")
"""Brackets that open one inside the other: the parser's time grows with the square of their number."""
_TAG = "tag:yaml.org,2002:"
_TYPED = frozenset({"int", "float", "bool", "null"})
_TEXT = frozenset({"str", "timestamp", "merge", "value"})


class YamlProblem(Exception):  # noqa: N818  # carries a problem up to the reader, which raises the error
    """The text cannot be read; holds the problem with its line."""

    def __init__(self, words: str, *, line: int | None = None, location: Location = ()) -> None:
        super().__init__(words)
        self.problem = Problem(location, words, line)


@dataclass(frozen=True)
class YamlDocument:
    """Plain data, and where each part of it stands.

    Attributes:
        data: Mappings, lists, texts, numbers, booleans and None.
        lines: Location to 1-based line; of a mapping's entry, the line of its key.
    """

    data: Any
    lines: dict[Location, int]

    def line_of(self, location: Sequence[str | int]) -> int:
        """Line of a location, or of the nearest part around it."""
        for end in range(len(location), -1, -1):
            if (line := self.lines.get(tuple(location[:end]))) is not None:
                return line
        return 1


def decode(raw: bytes) -> str:
    """Read bytes as UTF-8.

    Raises:
        YamlProblem: Too large, empty, or not UTF-8.
    """
    if len(raw) > MAX_BYTES:
        words = f"must be at most {MAX_BYTES:,} bytes; found {len(raw):,}. Split the suite into several files."
        raise YamlProblem(words)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        words = f"must be UTF-8; found byte 0x{raw[error.start]:02x}. Save the file as UTF-8."
        raise YamlProblem(words, line=raw.count(b"\n", 0, error.start) + 1) from None
    if not text.strip():
        words = "must hold a suite; the file is empty. Write at least name, licence, seeds and cases."
        raise YamlProblem(words)
    return text


def parse(text: str) -> YamlDocument:
    """Read one YAML 1.2 document.

    `no`, `on` and dates stay texts. Duplicate keys, own tags, several documents, `%YAML` lines of another version,
    anchors that contain themselves and aliases that expand to more than `MAX_NODES` values are refused.

    Raises:
        YamlProblem: With what is wrong, and its line.
    """
    _refuse_other_versions(text)
    _refuse_deep_nesting(text)
    lines: dict[Location, int] = {}
    try:
        root = YAML(typ="safe", pure=True).compose(text)
        if root is None:
            words = "must hold a suite; the file has comments only. Write at least name, licence, seeds and cases."
            raise YamlProblem(words)
        data = _Builder(lines).build(root, ())
    except MarkedYAMLError as error:
        raise _syntax_problem(error, text) from None
    except YAMLError as error:
        words = f"must be YAML text; {' '.join(str(error).split())}. Remove the character."
        raise YamlProblem(words) from None
    except RecursionError:
        raise _depth_problem() from None
    return YamlDocument(data, lines)


class _Builder:
    """Plain data out of nodes, counting what aliases expand to."""

    def __init__(self, lines: dict[Location, int]) -> None:
        self.lines = lines
        self.n_nodes = 0
        self.open: set[int] = set()
        self.constructor = YAML(typ="safe", pure=True).constructor

    def build(self, node: Node, location: Location) -> Any:
        self.n_nodes += 1
        line = node.start_mark.line + 1
        if self.n_nodes > MAX_NODES:
            words = f"aliases must expand to at most {MAX_NODES:,} values; these give more. Write the values out."
            raise YamlProblem(words, line=line, location=location)
        self.lines.setdefault(location, line)
        if isinstance(node, ScalarNode):
            return self._scalar(node, location)
        if id(node) in self.open:
            words = "an anchor must not contain itself; this alias points at what it stands in. Remove it."
            raise YamlProblem(words, line=line, location=location)
        if node.tag not in {f"{_TAG}map", f"{_TAG}seq"}:
            raise _tag_problem(node, location)
        self.open.add(id(node))
        try:
            if isinstance(node, SequenceNode):
                return [self.build(child, (*location, index)) for index, child in enumerate(node.value)]
            entries = self._entries(node.value, location)
            return {key: self.build(child, (*location, key)) for key, child in entries}
        finally:
            self.open.discard(id(node))

    def _entries(self, pairs: list[tuple[Node, Node]], location: Location) -> Iterator[tuple[str, Node]]:
        first: dict[str, int] = {}
        for key_node, child in pairs:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                words = f"a key must be a word; found a list or table as a key.{_brace_hint(str(key_node))}"
                raise YamlProblem(words, line=line, location=location)
            key = str(key_node.value)
            if key in first:
                words = f"keys must be unique; found {key!r} on lines {first[key]} and {line}. Remove one."
                raise YamlProblem(words, line=line, location=(*location, key))
            first[key] = line
            self.lines[(*location, key)] = line
            yield key, child

    def _scalar(self, node: ScalarNode, location: Location) -> Any:
        kind = str(node.tag).removeprefix(_TAG)
        if kind in _TYPED:
            return self.constructor.construct_object(node)
        if kind in _TEXT:
            return str(node.value)
        raise _tag_problem(node, location)


def _tag_problem(node: Node, location: Location) -> YamlProblem:
    words = f"must be plain YAML; found the tag {node.tag}. Remove the tag."
    return YamlProblem(words, line=node.start_mark.line + 1, location=location)


def _refuse_other_versions(text: str) -> None:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("%YAML") and line.split()[1:2] != ["1.2"]:
            words = f"must be YAML 1.2; found {line.strip()!r}. Remove the line, older versions read `no` as false."
            raise YamlProblem(words, line=number)
        if line.strip() and not line.startswith(("#", "%")):
            return


def _refuse_deep_nesting(text: str) -> None:
    if found := _DEEP.search(text):
        raise _depth_problem(text.count("\n", 0, found.start()) + 1)


def _depth_problem(line: int | None = None) -> YamlProblem:
    words = "must be nested a few levels deep only; this file goes far deeper. Flatten it."
    return YamlProblem(words, line=line)


def _syntax_problem(error: MarkedYAMLError, text: str) -> YamlProblem:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else None
    source = text.split("\n")[mark.line] if mark is not None else ""
    what = " ".join(str(error.problem or error.context or "it is not").split())
    if "'\\t'" in what:
        words = "indentation must be made of spaces; found a tab. Replace the tab with spaces."
    elif "another document" in what:
        words = "must hold one document; found a second one after `---`. Put each suite into its own file."
    else:
        words = f"must be YAML; {what}.{_brace_hint(source) or ' Correct the line, or put the text in quotes.'}"
    return YamlProblem(words, line=line)


def _brace_hint(source: str) -> str:
    return " Put a prompt that begins with {style} in quotes." if "{style}" in source or "'style'" in source else ""
