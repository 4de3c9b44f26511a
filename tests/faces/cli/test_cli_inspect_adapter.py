"""`inspect`, and the words with which `run --training-base` refuses what it cannot compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from lorabench.storage.shipped import shipped_data

BASE = shipped_data("fixtures/models/tiny-flux")
HEALTHY = shipped_data("fixtures/adapters/healthy")


def test_a_healthy_file_ends_with_0_and_shows_its_largest_modules(shared: Any) -> None:
    done = shared.call("inspect", HEALTHY, "--base", BASE)

    assert done.exit_code == 0
    assert done.stdout.startswith("HEALTHY  healthy on tiny-flux, 52 modules\n")
    assert "relative norm 0.12; largest of a module 0.481" in done.stdout
    assert "44 more with --all" in done.stdout


def test_every_number_is_in_the_json(shared: Any) -> None:
    done = shared.call("inspect", HEALTHY / "kohya.safetensors", "--base", BASE, "--json")

    found = json.loads(done.stdout)

    assert found["health"]["verdict"] == "healthy"
    assert len(found["modules"]) == 32
    assert found["base_match"]["relation"] == "unknown"
    assert all(one["relative_norm"] > 0 for one in found["modules"])


def test_an_exploding_file_ends_with_1_and_says_why(shared: Any, tmp_path: Path) -> None:
    tensors = load_file(HEALTHY / "kohya.safetensors")
    spoilt = {key: (value * 20 if "lora_up" in key else value).astype(np.float32) for key, value in tensors.items()}
    save_file(spoilt, tmp_path / "big.safetensors", metadata={"ss_sd_model_name": "flux1-schnell.safetensors"})

    done = shared.call("inspect", tmp_path / "big.safetensors", "--base", BASE)

    assert done.exit_code == 1
    assert done.stdout.startswith("EXPLODING  big on tiny-flux")
    assert "! All updates together are 2.39 times as large" in done.stdout


def test_without_a_base_relative_norms_are_missing_and_said_to_be(shared: Any) -> None:
    done = shared.call("inspect", HEALTHY)

    assert done.exit_code == 0
    assert "The base's weights were not read" in done.stdout


def test_a_missing_file_ends_with_2(shared: Any) -> None:
    done = shared.call("inspect", "nowhere.safetensors")

    assert done.exit_code == 2
    assert "found neither at nowhere.safetensors" in done.stderr


def test_one_base_for_both_is_refused(shared: Any) -> None:
    done = shared.call("run", "--base", str(BASE), "--training-base", f"{BASE}/../tiny-flux")

    assert done.exit_code == 2
    assert "--training-base must be another base than --base" in " ".join(done.stderr.split())


def test_two_bases_without_an_adapter_are_refused(shared: Any) -> None:
    done = shared.call("run", "--base", "a", "--training-base", "b", "--lora", "")

    assert done.exit_code == 2
    assert "no adapter is named. Give --lora." in " ".join(done.stderr.split())
