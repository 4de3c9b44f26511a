"""`doctor --prove-undisturbed`: what is printed, and the exit code of each outcome."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lorabench.training import proof
from lorabench.training.proof import Proof

IDENTICAL = Proof(
    base="tiny-flux",
    device="cpu",
    n_steps=12,
    n_evaluations=3,
    n_compared=100,
    repeated=(),
    watched=(),
    bare=("generator torch",),
    seconds=1.0,
)


@pytest.fixture
def proving(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A proof with a given outcome, and what it was asked for; the real one is tested where it lives."""
    asked: dict[str, Any] = {"proof": IDENTICAL}

    def prove(base: Path, *, device: str, observe: Any) -> Proof:
        asked.update(base=base, device=device)
        observe("training")
        sys.stdout.write("noise of a library")
        return asked["proof"]

    monkeypatch.setattr(proof, "prove", prove)
    return asked


def test_an_identical_training_ends_with_0_and_says_so(shared: Any, proving: dict[str, Any]) -> None:
    done = shared.call("doctor", "--prove-undisturbed")

    assert done.exit_code == 0
    assert done.stdout.startswith("bit-identical: 12 training steps with 3 evaluations")
    assert "noise" not in done.stdout
    assert "training\n" in done.stderr
    assert proving["base"].name == "tiny-flux"


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"watched": ("a",)}, 1, "disturbed: "),
        ({"repeated": ("a",)}, 3, "not shown: "),
        ({"bare": ()}, 3, "not shown: "),
    ],
)
def test_other_outcomes_have_their_exit_codes(
    shared: Any, proving: dict[str, Any], changes: dict[str, Any], code: int, words: str
) -> None:
    proving["proof"] = dataclasses.replace(IDENTICAL, **changes)

    done = shared.call("doctor", "--prove-undisturbed")

    assert done.exit_code == code
    assert done.stdout.startswith(words)


def test_json_names_the_outcome_and_every_difference(shared: Any, proving: dict[str, Any], tmp_path: Path) -> None:
    done = shared.call("doctor", "--prove-undisturbed", "--base", tmp_path, "--json", "--set", "model.device=cpu")

    shown = json.loads(done.stdout)
    assert shown["outcome"] == "identical"
    assert shown["bare"] == ["generator torch"]
    assert (proving["base"], proving["device"]) == (tmp_path, "cpu")


def test_a_base_without_the_proof_is_wrong_usage(shared: Any) -> None:
    done = shared.call("doctor", "--base", "anything")

    assert done.exit_code == 2
    assert "--base names the base of the proof; found it without --prove-undisturbed. Give both." in done.stderr


def test_a_folder_without_a_base_is_wrong_usage(shared: Any, tmp_path: Path) -> None:
    done = shared.call("doctor", "--prove-undisturbed", "--base", tmp_path)

    assert done.exit_code == 2
    assert "no model_index.json in it" in done.stderr
