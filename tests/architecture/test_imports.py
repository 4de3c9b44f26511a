"""Start-up: a face, and collecting a project with suites, load no network and no numerical package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "torchvision",
    "open_clip",
    "lpips",
    "sklearn",
    "skimage",
    "scipy",
}
SUITE = """
name: tiny
licence: CC0-1.0
seeds: [1]
cases:
  - {id: p1, family: counting, prompt: "{style} a red circle"}
"""
LIST_MODULES = "\nimport sys\nprint('MODULES', *sorted(name.partition('.')[0] for name in sys.modules))"


def modules_after(code: str, *, folder: Path) -> set[str]:
    """Packages that a fresh interpreter has loaded after the code."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code + LIST_MODULES],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environ,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return set(done.stdout.rpartition("MODULES")[2].split())


@pytest.mark.parametrize("face", ["lorabench.pytest_plugin", "lorabench.cli"])
def test_importing_a_face_loads_nothing_heavy(face, tmp_path):
    loaded = modules_after(f"import {face}", folder=tmp_path)

    assert not loaded & (HEAVY | {"numpy"})


def test_pytest_plugin_needs_pytest_and_the_standard_library_only(tmp_path):
    loaded = modules_after("import lorabench.pytest_plugin", folder=tmp_path)

    assert not loaded & {"pydantic", "ruamel", "rich", "jinja2", "PIL", "typer", "safetensors"}


def test_collecting_suites_loads_nothing_heavy(tmp_path):
    (tmp_path / "tiny.lora.yaml").write_text(SUITE, encoding="utf-8")
    code = (
        "import pytest\n"
        "assert pytest.main(['-p', 'lorabench.pytest_plugin', '--lorabench', '--collect-only', '-q']) == 0"
    )

    loaded = modules_after(code, folder=tmp_path)

    assert not loaded & (HEAVY | {"numpy"})
    assert "ruamel" in loaded


def test_help_of_the_command_line_loads_nothing_heavy(tmp_path):
    code = (
        "import sys\n"
        "sys.argv = ['lorabench', '--help']\n"
        "from lorabench.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code"
    )

    assert not modules_after(code, folder=tmp_path) & (HEAVY | {"numpy"})
