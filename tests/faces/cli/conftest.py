"""A project with a suite, an adapter and the synthetic backend, in which the command line is called."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from typer.testing import CliRunner, Result

from lorabench.cli import app
from lorabench.storage.atomic import write_text
from lorabench.storage.baselines import CI_VARIABLES

ROOT = Path(__file__).resolve().parents[3]
PAIRS = (
    ("blue cross", "red square"),
    ("red circle", "green square"),
    ("yellow circle", "blue cross"),
    ("green cross", "purple triangle"),
    ("cyan square", "red triangle"),
    ("purple cross", "yellow circle"),
)
FAULT = "drop_second:0.4"
"""Drops the second object in five of six cases: worse beyond doubt, and not by the same amount everywhere."""
SETTINGS = """
cache_dir = "cache"
suites = ["pairs.lora.yaml"]
[model]
backend = "synthetic"
[candidate]
lora = "adapter.safetensors"
alpha = 4
[style]
trigger = "a zvq drawing of"
plain = "a flat illustration of"
neutral = "a photo of"
[generation]
height = 128
width = 128
[judges]
detector = "oracle"
[statistics]
n_resamples = 100
confidence_level = 0.8  # six cases without a loss leave losses of 0.319 open, and FAULT costs 0.417
[gates]
prompt.margin = 0.32
copy.enabled = false
anatomy.enabled = false
palette.enabled = false
palette-collapse.enabled = false
"""


def make_suite(*, name: str = "pairs", seeds: str = "[1]", n_cases: int = len(PAIRS)) -> str:
    lines = ["schema_version: 1", f"name: {name}", "licence: CC0-1.0", f"seeds: {seeds}", "cases:"]
    for number, (first, second) in enumerate(PAIRS[:n_cases]):
        (one, shape), (two, other) = first.split(), second.split()
        lines += [
            f"  - id: pair-{number}",
            "    family: spatial",
            f'    prompt: "{{style}} a {first} left of a {second}"',
            "    checks:",
            f"      - {{type: object, label: {shape}, color: {one}}}",
            f"      - {{type: object, label: {other}, color: {two}}}",
        ]
    return "\n".join(lines) + "\n"


def write_project(folder: Path, *, seeds: str = "[1]") -> Path:
    write_text(folder / "pairs.lora.yaml", make_suite(seeds=seeds))
    write_text(folder / "lorabench.toml", SETTINGS)
    rng = np.random.default_rng(0)
    module = "transformer.transformer_blocks.0.attn.to_q"
    down, up = (rng.normal(size=shape).astype(np.float32) for shape in ((4, 16), (16, 4)))
    tensors = {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
    save_file(tensors, folder / "adapter.safetensors")
    return folder


@contextmanager
def outside_ci() -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in CI_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


@dataclass(frozen=True)
class Project:
    """A folder to call the command line in."""

    folder: Path

    def call(self, *arguments: str | Path, env: dict[str, str | None] | None = None) -> Result:
        with chdir(self.folder), outside_ci():
            return CliRunner(env=env).invoke(app, [str(argument) for argument in arguments], prog_name="lorabench")

    def run(self, *arguments: str | Path) -> Path:
        """Run, and return the run folder."""
        done = self.call("run", "-q", "--no-report", *arguments)
        assert done.exit_code in (0, 1, 4, 5), done.stderr
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("results: ")]
        return (self.folder / line.removeprefix("results: ")).parent

    def run_folders(self) -> list[Path]:
        return sorted(path.parent for path in (self.folder / ".lorabench/runs").glob("*/results.json"))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project of this test alone; its cache is empty."""
    return Project(write_project(tmp_path / "project"))


@pytest.fixture(scope="session")
def suite_text() -> Callable[..., str]:
    """Text of a suite file."""
    return make_suite


@pytest.fixture
def training_folder(tmp_path: Path) -> Path:
    """Two training pictures, one of them captioned with a prompt of the suite."""
    folder = tmp_path / "training"
    folder.mkdir()
    for name, caption in (("a", "a zvq drawing of a blue cross left of a red square"), ("b", "a green hand")):
        Image.fromarray(np.full((32, 32, 3), 200, np.uint8)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(caption, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose cache is warm; tests only read what others made there."""
    return Project(write_project(tmp_path_factory.mktemp("shared")))


@pytest.fixture(scope="session")
def passed(shared: Project) -> Path:
    """Run folder of a candidate without a fault."""
    return shared.run()


@pytest.fixture(scope="session")
def failed(shared: Project) -> Path:
    """Run folder of a candidate that drops the second object."""
    return shared.run("--base", FAULT)


@pytest.fixture(scope="session")
def rendered_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rich run folder of the report's own example: every outcome, a copy, an incomplete run."""
    place = ROOT / "tests/unit/report/conftest.py"
    spec = importlib.util.spec_from_file_location("report_example", place)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    example = module.make_example(per_family=1, size=24)
    folder = tmp_path_factory.mktemp("rendered") / "run"
    write_text(folder / "results.json", example.results.model_dump_json())
    (folder / "pictures").mkdir()
    for sha256, pixels in example.pictures.items():
        Image.fromarray(pixels).save(folder / "pictures" / f"{sha256}.png")
    return folder


@pytest.fixture
def with_results(tmp_path: Path, passed: Path) -> Callable[..., Path]:
    """A results file like that of `passed`, with another verdict."""
    from lorabench.storage.run_folder import read_results

    def make(**verdict: object) -> Path:
        results = read_results(passed)
        changed = results.model_copy(update={"verdict": results.verdict.model_copy(update=verdict)})
        path = tmp_path / "changed" / "results.json"
        write_text(path, changed.model_dump_json())
        return path

    return make
