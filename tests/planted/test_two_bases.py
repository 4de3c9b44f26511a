"""An adapter on the base it was trained on and on another: the difference is shown, by names, norms and pictures."""

from __future__ import annotations

import json
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from lorabench.cli import app
from lorabench.storage.run_folder import read_results
from lorabench.storage.shipped import shipped_data

BASE = shipped_data("fixtures/models/tiny-flux")
HEALTHY = shipped_data("fixtures/adapters/healthy")
SUITE = """
schema_version: 1
name: two-bases
licence: CC0-1.0
seeds: [1]
cases:
  - id: circle
    family: spatial
    prompt: "{style} a red circle left of a blue square"
    checks:
      - {type: object, label: circle, color: red}
      - {type: object, label: square, color: blue}
  - id: cross
    family: spatial
    prompt: "{style} a green cross left of a yellow triangle"
    checks:
      - {type: object, label: cross, color: green}
      - {type: object, label: triangle, color: yellow}
"""
SETTINGS = """
cache_dir = "cache"
suites = ["two-bases.lora.yaml"]
arms = ["B1", "L1"]
[model]
device = "cpu"
[style]
trigger = "a zvq drawing of"
plain = "a flat illustration of"
[generation]
height = 128
width = 128
num_inference_steps = 2
true_cfg_scale = 2.0
negative_prompt = ""
max_sequence_length = 24
[judges]
detector = "oracle"
[statistics]
n_resamples = 100
"""


def perturbed(folder: Path, *, share: float) -> Path:
    """The base with noise on its denoiser's matrices, as another training of it would have moved them."""
    shutil.copytree(BASE, folder)
    (path,) = (folder / "transformer").glob("*.safetensors")
    rng = np.random.default_rng(7)
    moved = {}
    for name, weights in sorted(load_file(path).items()):
        spread = share * float(np.sqrt(np.mean(weights.astype(np.float64) ** 2))) * (weights.ndim == 2)
        moved[name] = (weights + spread * rng.standard_normal(weights.shape)).astype(weights.dtype)
    save_file(moved, path, metadata={"format": "pt"})
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "two-bases.lora.yaml").write_text(SUITE, encoding="utf-8")
    (tmp_path / "lorabench.toml").write_text(SETTINGS, encoding="utf-8")
    return tmp_path


def call(folder: Path, *arguments: str | Path) -> Any:
    with chdir(folder):
        return CliRunner().invoke(app, ["run", "-q", *map(str, arguments)], prog_name="lorabench")


def test_both_bases_are_judged_in_one_run_and_the_difference_is_shown(folder: Path) -> None:
    other = perturbed(folder / "tiny-flux-schnell", share=0.3)
    arguments = ["--base", other, "--training-base", BASE, "--lora", HEALTHY, "--no-report"]

    done = call(folder, *arguments, "--format", "json")

    found = json.loads(done.stdout)
    (both,) = found["both_bases"]
    used, trained = (read_results(Path(found[key][0]["results"])) for key in ("runs", "training_base"))
    assert (both["trained_on"], both["used_on"]) == ("tiny-flux", "tiny-flux-schnell")
    assert used.base.digest != trained.base.digest
    assert any(gate["change"] for gate in both["gates"])
    assert both["findings"]
    assert done.exit_code == used.verdict.exit_code
    assert used.candidate is not None
    assert trained.candidate is not None
    assert used.candidate.digest == trained.candidate.digest
    assert used.candidate.health != trained.candidate.health
    assert {image.sha256 for image in used.images}.isdisjoint(image.sha256 for image in trained.images)

    again = call(folder, *arguments)  # out of the cache, for a person

    assert "trained on tiny-flux, used on tiny-flux-schnell" in again.stdout
    assert "results on the training base: " in again.stdout


def test_a_file_that_explodes_is_named_in_results_and_report(folder: Path) -> None:
    tensors = load_file(HEALTHY / "kohya.safetensors")
    spoilt = {key: (value * 20 if "lora_up" in key else value).astype(np.float32) for key, value in tensors.items()}
    header = {"ss_network_alpha": "8", "ss_sd_model_name": "flux1-schnell.safetensors"}
    save_file(spoilt, folder / "big.safetensors", metadata=header)
    base = shutil.copytree(BASE, folder / "flux1-dev")

    done = call(folder, "--base", base, "--lora", "big.safetensors", "--limit", "1")

    (line,) = [line for line in done.stdout.splitlines() if line.startswith("results: ")]
    results = read_results(folder / line.removeprefix("results: "))
    assert results.candidate is not None
    assert results.candidate.health is not None
    assert results.candidate.health.verdict == "exploding"
    assert "The file is exploding: All updates together are 2.39 times" in " ".join(done.stdout.split())
    assert "another variant (schnell, dev)" in " ".join(done.stdout.split())
    assert "The file is exploding" in (folder / line.removeprefix("results: ")).with_name("report.html").read_text()
