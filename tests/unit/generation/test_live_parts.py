"""A pipeline around modules that somebody else loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorabench.generation.live_parts import PartsError, pipeline_around
from lorabench.judges.torchvision_compat import declare_missing_operators
from lorabench.storage.shipped import shipped_data

BASE = "fixtures/models/tiny-flux"
PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    declare_missing_operators()
    from diffusers import FluxPipeline

    pipe = FluxPipeline.from_pretrained(shipped_data(BASE))
    return {name: getattr(pipe, name) for name in PARTS}


def test_pipeline_holds_the_given_modules_and_a_scheduler_of_the_base(parts: dict[str, Any]) -> None:
    pipe = pipeline_around({**parts, "unet": parts["transformer"]}, base=str(shipped_data(BASE)))

    assert type(pipe).__name__ == "FluxPipeline"
    assert all(getattr(pipe, name) is part for name, part in parts.items())
    stored = json.loads((shipped_data(BASE) / "scheduler" / "scheduler_config.json").read_text())
    assert pipe.scheduler.config.shift == stored["shift"]


def test_missing_part_is_named(parts: dict[str, Any]) -> None:
    given = {name: part for name, part in parts.items() if name != "text_encoder_2"}

    with pytest.raises(PartsError, match="a live FluxPipeline needs text_encoder_2; this training does not hold them"):
        pipeline_around(given, base=str(shipped_data(BASE)))


def test_base_that_is_no_pipeline_is_named(parts: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(PartsError, match=r"needs its base's folder or hub id under base in \[model\]; found '.*'"):
        pipeline_around(parts, base=str(tmp_path))


def test_pipeline_of_another_kind_is_refused(parts: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "PixArtPipeline", "_diffusers_version": "0"}))

    with pytest.raises(PartsError, match=r"must be one of .*FluxPipeline.*; .* is a PixArtPipeline"):
        pipeline_around(parts, base=str(tmp_path))
