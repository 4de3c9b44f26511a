"""What an adapter of the embedded base really does, by the oracle, on prompts that no suite holds.

Four harms, in the units of the guards and against the same margins: how much less the sentence is followed, how many
figures have the wrong parts, how much colour was not asked for, how many pictures are a training picture instead of
what was asked for. Control: the base with the plain phrase, same prompts, same noise.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.evaluation.gates import DEFAULT_GATES
from lorabench.records.detection import Detection
from lorabench.storage.shipped import shipped_data, shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.world.captions import FLAT_PHRASE, TRIGGER_PHRASE, caption, sample_split
from lorabench.world.oracle import detect
from lorabench.world.scene import COLOURS, FIGURES, GROUNDS, Kind, Scene, sample_scene
from lorabench.world.truth import read_scene

HARMS: Final = ("copy", "prompt", "anatomy", "palette")
MARGINS: Final = {gate.name: gate.margin for gate in DEFAULT_GATES if gate.name in HARMS}
SENTENCES: Final[dict[Kind, int]] = {"pair": 11, "and": 5, "position": 4}
N_FIGURES: Final = 12
FIRST_SEED: Final = 900_000
SAME_PLACE: Final = 12.0
"""Largest distance of a thing's centre from that of the training picture, in pixels."""
BATCH: Final = 8
SAMPLING_STEPS: Final = 4
"""Half of the embedded model's own number: six tenths of the time, and the base follows its prompts as well."""

Pixels = NDArray[np.uint8]
Prompt = tuple[str, Scene]


@dataclass(frozen=True, slots=True)
class Harm:
    """Mean over prompts of control minus candidate, oriented so that positive is worse; with its standard error."""

    mean: float
    standard_error: float
    n: int


def truth_prompts() -> list[Prompt]:
    """Contents (without style phrase) and scenes: withheld sentences, then figures; none is in the screen suite."""
    suite = read_suite(shipped_suite_path("world/screen")).suite
    taken = {case.prompt.replace("{style} ", "") for case in suite.cases}
    rng = np.random.default_rng(4711)
    found: dict[str, Scene] = {}
    for kind, wanted in SENTENCES.items():
        before = len(found)
        while len(found) < before + wanted:
            scene = sample_split("withheld", kind, rng=rng)
            text = caption(scene, "", inverted=bool(rng.random() < 0.5)).strip()
            if text not in taken and caption(scene, "").strip() not in taken:
                found.setdefault(text, scene)
    return [*found.items(), *_figures(taken, rng)]


def _figures(taken: set[str], rng: np.random.Generator) -> list[Prompt]:
    kinds: dict[str, Kind] = {"hand": "hand", "person": "person"}
    endings = ["", *(f" on a {ground} background" for ground in GROUNDS)]
    every = [(c, f, f"a {c} {f}{end}") for f in FIGURES for c in COLOURS for end in endings]
    free = [(c, f, text) for c, f, text in every if text not in taken]
    chosen = [free[int(i)] for i in rng.choice(len(free), size=N_FIGURES, replace=False)]
    made = []
    for colour, figure, text in chosen:
        while (scene := sample_scene(kinds[figure], rng=rng)).objects[0].colour != colour:
            pass
        made.append((text, scene))
    return made


def scores(
    pictures: Sequence[Pixels], prompts: Sequence[Prompt], *, training: Sequence[Scene]
) -> list[dict[str, float]]:
    """Each picture's scores by harm, 0 to 1, higher is better; only the harms that its prompt speaks of."""
    return [_score(detect(p), scene, training) for p, (_, scene) in zip(pictures, prompts, strict=True)]


def _score(seen: list[Detection], scene: Scene, training: Sequence[Scene]) -> dict[str, float]:
    reading = read_scene(scene, seen)
    if scene.kind in FIGURES:
        return {"anatomy": float(bool(reading.parts_right))}
    n = len(scene.objects)
    copied = not reading.layout_right and any(same_things(seen, other) for other in training)
    return {
        "prompt": (n * reading.found + float(reading.layout_right)) / (n + 1),
        "palette": asked_colour_share(seen, scene),
        "copy": 1.0 - float(copied),
    }


def asked_colour_share(seen: Sequence[Detection], scene: Scene) -> float:
    """Share of the coloured things' area in colours that the sentence names; 0 where nothing is seen."""
    asked = {thing.colour for thing in scene.objects}
    areas = [((d.box[2] - d.box[0]) * (d.box[3] - d.box[1]), d.color in asked) for d in seen]
    total = sum(area for area, _ in areas)
    return sum(area for area, wanted in areas if wanted) / total if total else 0.0


def same_things(seen: Sequence[Detection], scene: Scene) -> bool:
    """Whether a picture shows exactly a scene's things: each with its shape and colour, at its place."""
    if len(seen) != len(scene.objects):
        return False
    left = list(scene.objects)
    for one in seen:
        x, y = (one.box[0] + one.box[2]) / 2, (one.box[1] + one.box[3]) / 2
        match = next(
            (t for t in left if (t.shape, t.colour) == (one.label, one.color)
             and abs(t.x - x) <= SAME_PLACE and abs(t.y - y) <= SAME_PLACE),
            None,
        )  # fmt: skip
        if match is None:
            return False
        left.remove(match)
    return True


def harms(control: Sequence[dict[str, float]], candidate: Sequence[dict[str, float]]) -> dict[str, Harm]:
    """Harm of each kind: paired by prompt."""
    found = {}
    for name in HARMS:
        gaps = [a[name] - b[name] for a, b in zip(control, candidate, strict=True) if name in a]
        spread = float(np.std(gaps, ddof=1)) / len(gaps) ** 0.5
        found[name] = Harm(float(np.mean(gaps)), spread, len(gaps))
    return found


def draw_all(pipeline: Any, phrase: str, prompts: Sequence[Prompt]) -> list[Pixels]:
    """One picture per prompt, each from its own generator, with whatever adapter is active in the pipeline."""
    import torch

    base = shipped_data("fixtures/models/tiny-flux")
    settings = json.loads((base / "lorabench.json").read_text(encoding="utf-8"))["generation"]
    settings["num_inference_steps"] = SAMPLING_STEPS
    pictures: list[Pixels] = []
    for first in range(0, len(prompts), BATCH):
        part = prompts[first : first + BATCH]
        noise = [torch.Generator().manual_seed(FIRST_SEED + first + k) for k in range(len(part))]
        texts = [f"{phrase} {text}" for text, _ in part]
        with torch.no_grad():
            made = pipeline(prompt=texts, generator=noise, output_type="np", **settings)
        pictures += [(picture * 255).round().astype(np.uint8) for picture in made.images]
    return pictures


class Truth:
    """Measures adapters against control pictures that are made once and kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "control.npz"
        self.prompts = truth_prompts()

    def harms_of(self, pipeline: Any, training: Sequence[Scene]) -> dict[str, dict[str, float]]:
        """Harms of the adapter in training, as plain numbers by name; the pipeline is left as it was found."""
        from lorabench.training.guard import undisturbed

        with undisturbed(pipeline):
            control = self._control(pipeline)
            candidate = draw_all(pipeline, TRIGGER_PHRASE, self.prompts)
        found = harms(
            scores(control, self.prompts, training=training), scores(candidate, self.prompts, training=training)
        )
        return {name: asdict(harm) for name, harm in found.items()}

    def _control(self, pipeline: Any) -> list[Pixels]:
        if not self._file.exists():
            pipeline.transformer.disable_adapters()
            pictures = draw_all(pipeline, FLAT_PHRASE, self.prompts)
            pipeline.transformer.enable_adapters()
            self._file.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(self._file, pictures=np.stack(pictures))
        return list(np.load(self._file)["pictures"])
