"""What the documentation says to type is there; what needs neither network nor model is typed."""

from __future__ import annotations

import os
import re
import shlex
from contextlib import chdir
from pathlib import Path

import pytest
import typer
from ruamel.yaml import YAML
from typer.testing import CliRunner

from lorabench.cli import app
from lorabench.cli.starting import WORKFLOW
from lorabench.errors import ExitCode
from lorabench.evaluation.gates import DEFAULT_GATES, Gate
from lorabench.evaluation.sweep_gates import SWEEP_GATES
from lorabench.storage.baselines import CI_VARIABLES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"(?:<!-- (?P<mark>[^>]*) -->\n)?```(?:sh|bash|yaml)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path, *, offline: bool = False) -> list[list[str]]:
    """Every `lorabench ...` of a page's code blocks, as words; comments and redirections left out."""
    found = []
    for block in FENCE.finditer(page.read_text(encoding="utf-8")):
        if offline and (block["mark"] or "").strip() != "runs offline":
            continue
        text = block["text"].replace("\\\n", " ")
        for part in re.split(r"\n|&&|\|\||;", text):
            match = re.search(r"(?:^|[\s/])lorabench (?P<rest>[^#>]*)", part)
            if match and not re.search(r"pip install|name:|key:|path:", part):
                found.append(shlex.split(match["rest"]))
    return found


ALL = [pytest.param(words, id=f"{page.name}: {' '.join(words)[:60]}") for page in PAGES for words in commands(page)]
OFFLINE = [pytest.param(page, id=page.name) for page in PAGES if commands(page, offline=True)]


def test_the_pages_hold_commands() -> None:
    assert len(ALL) > 20
    assert len(OFFLINE) >= 1


@pytest.mark.parametrize("words", ALL)
def test_commands_and_options_of_the_documentation_exist(words: list[str]) -> None:
    command = typer.main.get_command(app)
    rest = list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]  # type: ignore[attr-defined]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}

    assert not hasattr(command, "commands") or words == ["--help"] or rest[:1] in (["--help"], ["..."]), words
    assert {word.partition("=")[0] for word in rest if word.startswith("-")} <= known | {"..."}


@pytest.mark.parametrize("page", OFFLINE)
def test_commands_that_need_no_network_run_in_an_empty_folder(page: Path, tmp_path: Path) -> None:
    outside: dict[str, str | None] = {
        "LORABENCH_CACHE_DIR": str(tmp_path / "cache"),
        "LORABENCH_WEIGHTS_DIR": str(tmp_path / "weights"),
        **dict.fromkeys((name for name in CI_VARIABLES if name in os.environ), None),
    }
    (tmp_path / "project").mkdir()
    with chdir(tmp_path / "project"):
        for words in commands(page, offline=True):
            done = CliRunner(env=outside).invoke(app, words, prog_name="lorabench")
            assert done.exit_code == 0, (words, done.stdout, done.stderr)


def test_workflows_are_yaml_with_steps() -> None:
    texts = [block["text"] for block in FENCE.finditer((ROOT / "docs/ci.md").read_text(encoding="utf-8"))]
    workflows = [text for text in texts if text.startswith("name:")]

    for text in (*workflows, WORKFLOW):
        jobs = YAML(typ="safe").load(text)["jobs"]
        assert set(jobs) == {"validate", "judge"}
        assert all("run" in step or "uses" in step for job in jobs.values() for step in job["steps"])


def test_every_command_stands_in_the_page_of_the_command_line() -> None:
    text = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    top = typer.main.get_command(app)

    for name, command in top.commands.items():  # type: ignore[attr-defined]
        (row,) = re.findall(rf"^\| `{name}` \|.*$", text, re.MULTILINE)
        for inner in getattr(command, "commands", {}):
            assert f"`{inner}`" in row


def test_every_exit_code_stands_in_the_page_of_the_command_line() -> None:
    text = (ROOT / "docs/cli.md").read_text(encoding="utf-8")

    assert re.findall(r"^\| (\d+) \|", text, re.MULTILINE) == [str(code.value) for code in ExitCode]


def as_rows(gates: tuple[Gate, ...], *, required: bool) -> list[tuple[str, ...]]:
    """Gates as a page's table holds them."""
    return [
        (
            gate.name,
            gate.kind,
            gate.metric,
            f"metrics/{gate.metric}.md",
            f"{gate.margin:g}",
            *(["yes" if gate.required else "no"] if required else []),
            gate.says,
        )
        for gate in gates
    ]


def test_the_page_of_the_gates_lists_the_gates_of_runs_and_sweeps_as_they_are() -> None:
    text = (ROOT / "docs/gates.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `([\w-]+)` \| (\w+) \| \[`(\w+)`\]\((\S+)\) \| (\S+) \| (yes|no) \| (.+) \|$", text, re.MULTILINE
    )

    assert rows == as_rows((*DEFAULT_GATES, *SWEEP_GATES), required=True)


def test_the_page_of_the_sweep_lists_its_gates_as_they_are() -> None:
    text = (ROOT / "docs/sweep.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| (\w+) \| \[`(\w+)`\]\((\S+)\) \| (\S+) \| (.+) \|$", text, re.MULTILINE)

    assert rows == as_rows(SWEEP_GATES, required=False)


def test_the_page_of_the_gates_names_those_that_are_off_by_default() -> None:
    text = (ROOT / "docs/gates.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"^Off until the settings name it is (.+?);", text, re.MULTILINE)

    assert re.findall(r"`([a-z-]+)`", said) == [gate.name for gate in DEFAULT_GATES if not gate.by_default]
