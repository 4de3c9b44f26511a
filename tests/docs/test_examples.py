"""Links lead somewhere, and what the pages say of gates, metrics, suites, exit codes and options is so."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer

from lorabench.cli import app
from lorabench.errors import ExitCode
from lorabench.evaluation.gates import DEFAULT_GATES
from lorabench.records.config import Config
from lorabench.registry import METRICS
from lorabench.storage.shipped import shipped_suite_names

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    *(
        ROOT / name
        for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "fixtures/README.md")
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
]
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")


def prose(page: Path) -> str:
    """A page without code; a link's own text in backticks goes too, the link stays."""
    return CODE.sub("", page.read_text(encoding="utf-8"))


@cache
def anchors(page: Path) -> frozenset[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads)


def row_of(text: str, first: str) -> list[str]:
    """Cells of the table row that begins with a cell."""
    rows = ([cell.strip() for cell in line.strip("|\n ").split("|")] for line in text.splitlines() if "|" in line)
    return next((row for row in rows if row[0] == first), [])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_to_files_lead_somewhere(page: Path) -> None:
    missing = []
    for found in LINK.finditer(prose(page)):
        target, _, anchor = unquote(found["target"]).partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            missing.append(found["target"])

    assert missing == []


def test_every_page_is_on_the_map() -> None:
    linked = {
        (ROOT / "docs" / found["target"].partition("#")[0]).resolve()
        for found in LINK.finditer((ROOT / "docs/index.md").read_text(encoding="utf-8"))
    }

    assert [page for page in (ROOT / "docs").rglob("*.md") if page.name != "index.md" and page not in linked] == []


@pytest.mark.parametrize("gate", DEFAULT_GATES, ids=lambda gate: gate.name)
def test_every_gate_is_documented_with_its_metric_and_margin(gate) -> None:
    row = row_of((ROOT / "docs/gates.md").read_text(encoding="utf-8"), f"`{gate.name}`")

    assert row, f"docs/gates.md has no row for {gate.name}"
    assert f"`{gate.metric}`" in row[2]
    assert float(row[3]) == gate.margin
    assert f"`{gate.name}`" in README or not gate.required


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_has_a_page_with_its_version_and_direction(name: str) -> None:
    text = (ROOT / f"docs/metrics/{name}.md").read_text(encoding="utf-8")
    metric = METRICS.load(name)
    (range_and_direction,) = re.findall(r"^## Range and direction\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)

    assert text.startswith(f"# {name}\n")
    assert f"Version {metric.version}" in text
    assert ("higher is better" if metric.higher_is_better else "lower is better") in range_and_direction.lower()
    for section in ("What it measures", "What moves it", "What does not", "Source"):
        assert f"\n## {section}\n" in text


def test_no_page_is_about_a_metric_that_is_gone() -> None:
    assert {page.stem for page in (ROOT / "docs/metrics").glob("*.md")} == set(METRICS.names())


def test_exit_codes_of_the_readme_are_those_of_the_code() -> None:
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)] == [one.value for one in ExitCode]
    assert "3 > 5 > 1 > 4" in README


def test_suites_named_in_the_readme_are_shipped() -> None:
    run = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    flags = {name for option in run.params if getattr(option, "is_flag", False) for name in option.opts}
    named = set()
    for command in re.findall(r"^lorabench run (.+)$", README.replace("\\\n", " "), re.MULTILINE):
        words = command.split()
        before = ["", *words]
        named |= {
            word
            for earlier, word in zip(before, words, strict=False)
            if re.fullmatch(r"[a-z_/]+", word) and not (earlier.startswith("-") and earlier not in flags)
        } - {"in"}

    assert {"screen", "spatial", "anatomy"} <= named
    shipped = set(shipped_suite_names())
    assert {name for name in named if name not in shipped and not _is_quoted(name)} == set()


def _is_quoted(word: str) -> bool:
    """Whether a word is a part of a quoted phrase of the README's commands."""
    return any(word in phrase.split() for phrase in re.findall(r'"([^"\n]+)"', README))


def test_options_of_the_readme_stand_in_the_help_of_run() -> None:
    run = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    known = {name for option in run.params for name in (*option.opts, *option.secondary_opts)}
    used = {
        word
        for command in re.findall(r"lorabench run [^`\n]*", README.replace("\\\n", " "))
        for word in re.findall(r"(?<=\s)--?[a-z][\w-]*", command)
    }

    assert {"--base", "--lora", "--trigger", "--plain-style", "--training-folder", "--format"} <= used
    assert used <= known


def test_settings_of_the_readme_are_valid() -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)

    config = Config.model_validate(tomllib.loads(text))

    assert config.model.base
    assert config.style.trigger
