"""The demo: three LoRAs on the embedded model, with what is true of each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lorabench.records.comparison import Outcome
from lorabench.records.config import CandidateConfig, Config, JudgesConfig, ModelConfig, TrainingSetConfig
from lorabench.records.plan import GenerationSettings, StylePhrases
from lorabench.storage.shipped import shipped_data

SUITE = "world/screen"
STYLE = StylePhrases(trigger="a zvq drawing of", plain="a flat illustration of", neutral="a photo of")


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One adapter of the demo."""

    name: str
    story: str
    """How it was trained, in a sentence."""
    expected: Outcome
    own_gates: frozenset[str]
    """Gates that have to fail: what the adapter was spoilt for."""
    true_gates: frozenset[str]
    """Gates that are right to fail, own ones included; any other failure would be a false one."""
    config: Config


def demonstrations(*, runs_dir: Path = Path(".lorabench/runs"), cache_dir: Path | None = None) -> list[Demonstration]:
    """The three adapters of the demo, healthy one first.

    Raises:
        MeasurementError: The embedded model is not installed.
    """
    return [
        Demonstration(
            name=name,
            story=story,
            expected=expected,
            own_gates=frozenset(own_gates),
            true_gates=frozenset((*own_gates, *consequences)),
            config=world_config(
                shipped_data(f"fixtures/adapters/{name}"),
                training=shipped_data(f"fixtures/datasets/{name}"),
                runs_dir=runs_dir,
                cache_dir=cache_dir,
            ),
        )
        for name, story, expected, own_gates, consequences in (
            ("healthy", "a varied set of drawings, photos mixed in, stopped in time", Outcome.PASS, (), ()),
            (
                "overtrained",
                "sixteen drawings of one composition, trained far too long",
                Outcome.FAIL,
                ("copy", "composition", "prompt"),
                # Four small things stand in every corner, whatever is asked for, and every seed gives them.
                (
                    "anatomy",
                    "palette",
                    "palette-collapse",
                    "foils",
                    "part-copy",
                    "invented",
                    "clutter",
                    "seed-collapse",
                    "prompt-collapse",
                    "worst-slice",
                ),
            ),
            (
                "palette",
                "drawings in two colours, captions without colour words",
                Outcome.FAIL,
                ("palette",),
                # Collapse is beyond its margin by a hair: seeds, or another machine's rounding, leave it undecided.
                # Prompts whose colours bind or relate things lose more than those about one.
                ("palette-collapse", "prompt", "foils", "worst-slice"),
            ),
        )
    ]


def world_config(
    lora: Path | None,
    *,
    training: Path | None,
    scale: float = 1.0,
    runs_dir: Path = Path(".lorabench/runs"),
    cache_dir: Path | None = None,
) -> Config:
    """Settings that judge an adapter on the embedded model.

    Args:
        lora: File or folder of the adapter; None for the base alone.
        training: Folder it was trained on.
        scale: Adapter scale.
        runs_dir: Where run folders go.
        cache_dir: Instead of the user's cache.
    """
    base = shipped_data("fixtures/models/tiny-flux")
    clip = shipped_data("fixtures/models/tiny-clip")
    settings = json.loads((base / "lorabench.json").read_text(encoding="utf-8"))
    return Config(
        model=ModelConfig(base=str(base), device="cpu"),
        candidate=CandidateConfig(lora="" if lora is None else str(lora), scale=scale),
        style=STYLE,
        generation=GenerationSettings(**settings["generation"]),
        training_set=TrainingSetConfig(folder=training),
        # Copy descriptors are for pictures of the real world; and figures must not depend on what else is installed.
        judges=JudgesConfig(clip=f"local-dir:{clip}", detector="oracle", copy_descriptor="off", device="cpu"),
        runs_dir=runs_dir,
        cache_dir=cache_dir,
    )
