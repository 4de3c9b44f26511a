"""What must not stand in the repository, and what every module and error must have."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "lorabench"
BINARY = {".safetensors", ".zip", ".png", ".webp", ".jpg", ".gif", ".woff2"}
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.])/(?:work|root|opt/pypi|home/\w+|Users/\w+)/|/tmp/lb\b",
    "how the work was done": r"\bthe lead\b|\b(?:sub-?)?agents?\b|\bhelpers?\b|\bshared/",
    "unfinished work": r"\bTO" + r"DO\b|\bFIX" + r"ME\b|\bX{3}\b|\bHACK\b",
}
ELSEWHERE = {".ci/run": {"how the work was done"}}
"""CI's script knows the folder beside a checkout that holds public test data."""
VAGUE = {"utils", "util", "helpers", "helper", "common", "core", "misc"}
DANGEROUS = ("inference_mode", "trust_remote_code", "fuse_lora", "yaml.load(", "eval(", "exec(")
RESTRICTED = {"judges/restricted_pickle.py"}
"""The one module that may take a pickle apart: it builds arrays and nothing else."""
MAX_BODY = 60
"""Lines of a function below its signature and docstring."""


@cache
def files() -> tuple[Path, ...]:
    """Everything that is, or is about to be, in the repository."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout: the list of files is not known")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split("\0")
    found = (ROOT / name for name in listed if name)
    return tuple(path for path in found if path.is_file() and path.suffix not in BINARY and path != Path(__file__))


@cache
def modules() -> dict[str, ast.Module]:
    """Path below the package to its syntax tree."""
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
        if "_data" not in path.parts
    }


def without_embedded_pictures(text: str) -> str:
    return re.sub(r"base64,[A-Za-z0-9+/=]+", "base64,", text)


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = []
    for path in files():
        name = path.relative_to(ROOT).as_posix()
        if what in ELSEWHERE.get(name, ()):
            continue
        text = without_embedded_pictures(path.read_text(encoding="utf-8", errors="replace"))
        found += [
            f"{name}:{number}: {line.strip()[:100]}"
            for number, line in enumerate(text.splitlines(), start=1)
            if pattern.search(line)
        ]

    assert not found, "\n".join(found)


def test_the_search_finds_what_it_is_for() -> None:
    assert re.search(FORBIDDEN["a path of one machine"], "open('" + "/".join(("", "work", "main")) + "')")
    assert re.search(FORBIDDEN["unfinished work"], "# TO" + "DO later")
    assert not re.search(FORBIDDEN["a path of one machine"], "docs/work/index.md")


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [name for name in modules() if VAGUE & {*Path(name).parts[:-1], Path(name).stem}] == []


def test_every_module_says_what_it_is_for() -> None:
    assert [name for name, tree in modules().items() if not ast.get_docstring(tree)] == []


def test_no_function_is_long() -> None:
    long = []
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            length = (node.end_lineno or 0) - body[0].lineno + 1
            if length > MAX_BODY:
                long.append(f"{name}:{node.lineno}: {node.name} has {length} lines")

    assert not long, "\n".join(long)


@pytest.mark.parametrize("word", DANGEROUS)
def test_nothing_runs_foreign_code_or_touches_a_shared_model(word: str) -> None:
    pattern = re.compile(rf"(?<![\w.]){re.escape(word)}")
    found = [name for name in modules() if pattern.search((PACKAGE / name).read_text(encoding="utf-8"))]

    assert found == []


def test_pickles_are_taken_apart_in_one_place_only() -> None:
    readers = {"pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load"}
    found = {
        name
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in readers
    }

    assert found == RESTRICTED


def test_torch_reads_files_without_running_them() -> None:
    calls = [
        (name, node)
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]

    for name, call in calls:
        restricted = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}.get("weights_only")
        assert restricted == "True", f"{name}:{call.lineno}: {ast.unparse(call)}"


# ---------------------------------------------------------------------------------------------------- errors


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", re.sub(r"\\[sdwb.]", " ", text.lower()))


def phrases(text: str) -> Iterator[tuple[str, ...]]:
    """Runs of three words."""
    found = words(text)
    return zip(found, found[1:], found[2:], strict=False)


@cache
def phrases_of_tests() -> frozenset[tuple[str, ...]]:
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "tests").rglob("*.py"))
    texts = (
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return frozenset(phrase for text in texts for phrase in phrases(text))


def texts_of(node: ast.AST) -> list[str]:
    """The fixed parts of all texts below a node, without docstrings."""
    docstrings = {
        id(inner.body[0].value)
        for inner in ast.walk(node)
        if isinstance(inner, ast.ClassDef | ast.FunctionDef) and isinstance(inner.body[0], ast.Expr)
    }
    return [
        inner.value
        for inner in ast.walk(node)
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and id(inner) not in docstrings
    ]


def is_tested(texts: list[str]) -> bool:
    return any(phrase in phrases_of_tests() for text in texts for phrase in phrases(text))


ERRORS = {
    f"{name}: {node.name}": node
    for name, tree in modules().items()
    for node in ast.walk(tree)
    if isinstance(node, ast.ClassDef)
    and node.name.endswith("Error")
    and any(isinstance(inner, ast.FunctionDef) and inner.name == "__init__" for inner in node.body)
}


def test_the_errors_are_found() -> None:
    assert len(ERRORS) > 40


@pytest.mark.parametrize("error", ERRORS)
def test_words_of_every_error_stand_in_a_test(error: str) -> None:
    texts = texts_of(ERRORS[error])
    if not any(True for text in texts for _ in phrases(text)):
        pytest.skip("its words are those of whoever raises it")

    assert is_tested(texts), texts


def raised_messages() -> Iterator[tuple[str, list[str]]]:
    """`msg = "..."` followed by `raise OneOfOurs(msg)`: messages without a class of their own."""
    for name, tree in modules().items():
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            for node in ast.walk(function):
                if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args):
                    continue
                if ast.unparse(node.exc.func) not in {"SpecError", "MeasurementError"}:
                    continue
                said = node.exc.args[0]
                before = [
                    inner
                    for inner in ast.walk(function)
                    if isinstance(inner, ast.Assign)
                    and inner.lineno < node.lineno
                    and ast.unparse(inner.targets[0]) == ast.unparse(said)
                ]
                source = max(before, key=lambda inner: inner.lineno) if before else said
                yield f"{name}:{node.lineno}", texts_of(source)


def test_words_of_every_message_without_a_class_stand_in_a_test() -> None:
    messages = list(raised_messages())
    untested = [f"{place}: {texts}" for place, texts in messages if not is_tested(texts)]

    assert messages
    assert not untested, "\n".join(untested)
