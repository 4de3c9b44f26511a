"""`lorabench suite from-captions` writes a suite that can be run, and overwrites nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lorabench.cli import app
from lorabench.storage.suite_files import read_suite


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    folder = tmp_path / "training"
    folder.mkdir()
    lines = []
    for number, text in enumerate(("zvq drawing of a cat left of a dog", "zvq drawing of a small boat, a bridge")):
        Image.fromarray(np.full((16, 16, 3), 40 * number, np.uint8)).save(folder / f"{number}.png")
        lines.append(json.dumps({"file": f"{number}.png", "text": text}))
    (folder / "captions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def call(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["suite", "from-captions", *words])
    return result.exit_code, result.output


def test_prompts_from_captions_are_put_beside_a_shipped_suite(trained: Path, tmp_path: Path) -> None:
    into = tmp_path / "stress.lora.yaml"

    code, printed = call(
        "world/screen", "-o", str(into), "--training-folder", str(trained), "--trigger", "zvq drawing of"
    )

    assert code == 0, printed
    made = read_suite(into).suite
    assert made.name == "world-screen-and-captions"
    assert [case.prompt for case in made.cases if case.caption_kind] == [
        "{style} a cat left of a dog",
        "{style} a small boat, a bridge",
        "{style} a dog right of a cat",
        "{style} a bridge, a boat",
    ]
    assert "2 verbatim and 2 paraphrased prompts" in printed


def test_a_file_that_is_there_is_not_overwritten_unasked(trained: Path, tmp_path: Path) -> None:
    into = tmp_path / "stress.lora.yaml"
    into.write_text("mine", encoding="utf-8")
    words = ("world/screen", "-o", str(into), "--training-folder", str(trained))

    code, printed = call(*words)

    assert code == 2
    assert "a new suite must not overwrite a file" in printed
    assert into.read_text(encoding="utf-8") == "mine"
    assert call(*words, "--force")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("world/screen", "-o", "stress.yaml"), "a suite's file name must end in .lora.yaml; found 'stress.yaml'"),
        (("world/screen", "-o", "x.lora.yaml"), "prompts from captions need captions; found none"),
    ],
)
def test_mistakes_are_named(words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    code, printed = call(*words)

    assert code == 2
    assert message in " ".join(printed.split())
