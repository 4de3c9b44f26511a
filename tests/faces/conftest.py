"""A small project with suites, an adapter and the synthetic backend, in which pytest is run by a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorabench.evaluation.engine import evaluate
from lorabench.evaluation.gates import DEFAULT_GATES
from lorabench.records.config import CandidateConfig, Config, JudgesConfig, ModelConfig
from lorabench.storage.suite_files import read_suite

CI_VARIABLES = (
    "CI",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "BUILDKITE",
    "JENKINS_URL",
    "TF_BUILD",
    "LORABENCH_REQUIRE_COMPLETE",
)
PLUGIN = ("-p", "lorabench.pytest_plugin", "-W", "ignore::pytest.PytestAssertRewriteWarning")
"""Plugins are not loaded by themselves in these runs: whatever else is installed stays out."""
ROOT = Path(__file__).resolve().parents[2]

SETTINGS = """
cache_dir = "cache"

[model]
backend = "synthetic"
base = "{faults}"

[candidate]
lora = "adapter.safetensors"

[style]
trigger = "a zvq drawing of"
plain = "a flat illustration of"
neutral = "a photo of"

[generation]
height = 128
width = 128

[judges]
detector = "{detector}"

[statistics]
n_resamples = 100

[gates]
{gates}
"""
CONFTEST = """
import pytest
from lorabench.generation.synthetic import FaultSpec, SyntheticBackend

class Noted(SyntheticBackend):
    def generate(self, cells, *, settings):
        with open({calls!r}, "a") as file:
            print(*dict.fromkeys(planned.cell.case for planned in cells), file=file)
        return super().generate(cells, settings=settings)

@pytest.fixture(scope="session")
def lora_backend():
    return Noted(faults=[FaultSpec({kind!r}, cases=frozenset({cases}))])
"""
PROMPTS = (
    "a red circle",
    "a blue square",
    "a green cross",
    "a cyan circle",
    "a purple square",
    "a yellow triangle",
)
COLOURS = ("red", "blue", "green", "cyan", "purple", "yellow")


def suite_text(
    *, name: str = "tiny", n: int = 6, seeds: Sequence[int] = (1, 2), golden: Sequence[int] = (), prefix: str = "p"
) -> str:
    """A suite of simple prompts whose checks the synthetic base always meets."""
    lines = [f"name: {name}", "licence: CC0-1.0", f"seeds: {list(seeds)}", "cases:"]
    for index in range(n):
        colour, shape = PROMPTS[index % len(PROMPTS)].split()[1:]
        lines += [
            f"  - id: {prefix}{index + 1}",
            f"    family: {'counting' if index % 2 else 'attribute_binding'}",
            f'    prompt: "{{style}} a {colour} {shape}"',
            "    checks:",
            f"      - {{type: object, label: {shape}, color: {colour}}}",
        ]
        lines += ["    golden: true"] if index + 1 in golden else []
    return "\n".join(lines) + "\n"


@dataclass
class Project:
    """A folder with a suite, in which pytest is run."""

    pytester: pytest.Pytester

    @property
    def path(self) -> Path:
        """The folder."""
        return self.pytester.path

    def suite(self, file: str = "tiny.lora.yaml", **facts: object) -> Path:
        """Write a suite file."""
        path = self.path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(suite_text(**facts), encoding="utf-8")  # type: ignore[arg-type]
        return path

    def settings(self, *, faults: str = "", oracle: bool = False, more: str = "") -> None:
        """Write lorabench.toml; `faults` are planted in the candidate, `oracle` looks for what prompts ask."""
        kept = {"broken", "foils", *(["prompt"] if oracle else [])}
        gates = "\n".join(f"{gate.name}.enabled = false" for gate in DEFAULT_GATES if gate.name not in kept)
        gates += "\nprompt.margin = 0.5" if oracle else ""  # six cases without a loss leave losses of 0.46 open
        text = SETTINGS.format(faults=faults, detector="oracle" if oracle else "", gates=gates)
        (self.path / "lorabench.toml").write_text(text + more, encoding="utf-8")

    def plant(self, kind: str, *cases: str) -> None:
        """Override the backend: the fault hits these cases of the candidate only. Each call is noted in calls.txt."""
        code = CONFTEST.format(kind=kind, cases=list(cases), calls=str(self.path / "calls.txt"))
        (self.path / "conftest.py").write_text(code, encoding="utf-8")

    @staticmethod
    def outcomes(result: pytest.RunResult) -> dict[str, str]:
        """Item to outcome, from the lines of `-v`."""
        return outcomes(result)

    def calls(self) -> list[list[str]]:
        """Cases of each call of the planted backend, in order."""
        path = self.path / "calls.txt"
        return [line.split() for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    def run(self, *arguments: str) -> pytest.RunResult:
        """Run pytest in this process, with lorabench on."""
        return self.run_off("--lorabench", *arguments)

    def run_off(self, *arguments: str) -> pytest.RunResult:
        """Run pytest in this process, without the flag."""
        return self.pytester.runpytest_inprocess(*PLUGIN, "-p", "no:cacheprovider", *arguments)

    def run_remembering(self, *arguments: str) -> pytest.RunResult:
        """Run pytest with lorabench on and with the memory of last failures."""
        return self.pytester.runpytest_inprocess(*PLUGIN, "--lorabench", *arguments)

    def run_workers(self, *arguments: str) -> pytest.RunResult:
        """Run pytest in a process of its own, with xdist."""
        return self.pytester.runpytest_subprocess(*PLUGIN, "-p", "xdist", *arguments, timeout=300)


def outcomes(result: pytest.RunResult) -> dict[str, str]:
    """Item to outcome, from the lines of `-v`."""
    found = {}
    for line in result.outlines:
        words = line.split()
        if len(words) > 1 and "::" in words[0] and words[1] in ("PASSED", "FAILED", "SKIPPED", "ERROR"):
            found[words[0].partition("::")[2]] = words[1]
    return found


@pytest.fixture(scope="session")
def everything_imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Load what a run loads: a pytest run inside this process forgets what it imported, and NumPy loads only once."""
    folder = tmp_path_factory.mktemp("warm")
    (folder / "warm.lora.yaml").write_text(suite_text(n=2, seeds=(1,)), encoding="utf-8")
    write_adapter(folder / "adapter.safetensors")
    config = Config(
        model=ModelConfig(backend="synthetic"),
        candidate=CandidateConfig(lora=str(folder / "adapter.safetensors")),
        judges=JudgesConfig(detector="oracle"),
        cache_dir=folder / "cache",
        runs_dir=folder / "runs",
    )
    evaluate(config, suite=read_suite(folder / "warm.lora.yaml").suite)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, everything_imported: None) -> Project:
    """A project without faults: one suite of three prompts."""
    for name in CI_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_adapter(pytester.path / "adapter.safetensors")
    made = Project(pytester)
    made.settings()
    made.suite(n=3, seeds=(1,))
    return made


def write_adapter(path: Path, *, seed: int = 0) -> None:
    """A LoRA file with one module, good enough to be read; the synthetic backend never applies it."""
    rng = np.random.default_rng(seed)
    module = "transformer.transformer_blocks.0.attn.to_q"
    tensors = {
        f"{module}.lora_A.weight": rng.normal(size=(4, 16)).astype(np.float32),
        f"{module}.lora_B.weight": rng.normal(size=(16, 4)).astype(np.float32),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"lora_adapter_metadata": '{"transformer.r": 4, "transformer.lora_alpha": 4}'})
