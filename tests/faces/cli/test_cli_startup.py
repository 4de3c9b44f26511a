"""Help and completion do not pay for networks; each command is looked at in an interpreter of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from lorabench.cli import app
from lorabench.cli.application import _quieten_libraries

HEAVY = (
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "peft",
    "open_clip",
    "lpips",
    "numpy",
    "scipy",
    "sklearn",
)
LOOK = """
import json, sys
from lorabench.cli import app
from typer.testing import CliRunner
runner = CliRunner()
found = {}
for command in json.loads(sys.argv[1]):
    done = runner.invoke(app, [*command, "--help"], prog_name="lorabench")
    assert done.exit_code == 0 and "Usage: lorabench" in done.stdout, done.output
    found[" ".join(command)] = sorted(set(json.loads(sys.argv[2])) & set(sys.modules))
print(json.dumps(found))
"""


ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}


def commands() -> list[list[str]]:
    """Every command and group, as words."""
    found = [[]]
    top = typer.main.get_command(app)
    for name, command in top.commands.items():  # type: ignore[attr-defined]
        found.append([name])
        found += [[name, inner] for inner in getattr(command, "commands", {})]
    return found


def test_no_help_imports_anything_heavy() -> None:
    arguments = [sys.executable, "-c", LOOK, json.dumps(commands()), json.dumps(HEAVY)]
    done = subprocess.run(arguments, capture_output=True, text=True, env=ENVIRONMENT, check=True)

    found = json.loads(done.stdout)
    assert len(found) > 25
    assert {name: modules for name, modules in found.items() if modules} == {}


def test_completion_answers_without_anything_heavy() -> None:
    probe = (
        "import atexit, sys\n"
        f"atexit.register(lambda: sys.stderr.write(' '.join(sorted(set({HEAVY!r}) & set(sys.modules)))))\n"
        "from lorabench.cli import main\n"
        "main()\n"
    )
    environment = {
        **ENVIRONMENT,
        "_LORABENCH_COMPLETE": "complete_bash",
        "COMP_WORDS": "lorabench gate --for",
        "COMP_CWORD": "2",
    }
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env=environment, check=False)

    assert "--format" in done.stdout, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "terminal", "disabled"),
    [
        (["run", "x"], True, False),
        (["run", "x"], False, True),
        (["run", "x", "-q"], True, True),
        (["demo"], True, True),
    ],
)
def test_other_libraries_bars_stay_only_where_they_show_a_download(
    arguments: list[str], terminal: bool, disabled: bool
) -> None:
    environ = {"TRANSFORMERS_VERBOSITY": "debug"}
    _quieten_libraries(arguments, environ, terminal=terminal)

    assert ("TQDM_DISABLE" in environ) is disabled
    assert environ["DIFFUSERS_VERBOSITY"] == "error"
    assert environ["TRANSFORMERS_VERBOSITY"] == "debug"


def test_the_module_can_be_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lorabench", "schema", "no"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )

    assert done.returncode == 2
    assert "Usage: lorabench schema" in done.stderr


def test_a_reader_that_goes_away_is_no_failed_gate() -> None:
    command = f"{sys.executable} -m lorabench schema results | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=ENVIRONMENT, check=False)

    assert done.stdout.strip() in ("0", "3")  # 0 where the pipe took it all before its reader left
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
