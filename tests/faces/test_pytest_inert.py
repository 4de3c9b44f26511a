"""A session without suites is left as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lorabench.pytest_plugin

SOURCES = sorted(Path(lorabench.pytest_plugin.__file__).parent.glob("*.py"))


@pytest.fixture
def bare(project):
    (project.path / "tiny.lora.yaml").unlink()
    (project.path / "lorabench.toml").write_text("this is no TOML, and nobody reads it")
    project.pytester.makepyfile(test_plain="def test_plain(): pass")
    return project


@pytest.mark.parametrize("flags", [(), ("--lorabench",), ("--lorabench", "--lorabench-require-complete")])
def test_no_line_no_folder_no_exit_change(bare, flags):
    before = {path.name for path in bare.path.iterdir()}

    result = bare.run_off(*flags)

    assert result.ret == 0
    assert "lorabench" not in result.stdout.str().replace(str(bare.path), "")
    assert {path.name for path in bare.path.iterdir()} - before <= {"__pycache__"}


def test_nothing_collected_keeps_its_exit_code(bare):
    (bare.path / "test_plain.py").unlink()

    assert bare.run().ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_flags_and_ini_keys_carry_the_prefix(project):
    listing = project.pytester.runpytest_inprocess("-p", "lorabench.pytest_plugin", "--help").stdout.str()
    own = listing[listing.index("regression tests for text-to-image LoRAs") :].split("\n\n")[0]

    flags = re.findall(r"^  (-\S+)", own, flags=re.MULTILINE)
    assert flags
    assert all(flag.startswith("--lorabench") for flag in flags)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_plugin_uses_the_public_interface_of_pytest_only(source):
    text = source.read_text(encoding="utf-8")

    assert not re.search(r"^\s*(from|import) _pytest", text, flags=re.MULTILINE)
