"""`lorabench attach` around training scripts on the embedded model: judged, resumed, stopped, and left as they were.

The first tests run a script of our own that is built as diffusers' are. Those of diffusers itself come in no package;
where LORABENCH_DIFFUSERS_EXAMPLES names the folder `examples` of a checkout, they are run as well.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import sys
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from lorabench.cli import app
from lorabench.judges.torchvision_compat import declare_missing_operators
from lorabench.storage.shipped import shipped_data, shipped_suite_path

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

EXAMPLES = os.environ.get("LORABENCH_DIFFUSERS_EXAMPLES", "")
OURS = Path(__file__).parent / "lora_script.py"
LORA = "pytorch_lora_weights.safetensors"
SAVED, LAST = 6, 20
SETTINGS = """
[model]
device = "cpu"
[style]
trigger = "a zvq drawing of"
plain = "a flat illustration of"
neutral = "a photo of"
[generation]
height = {size}
width = {size}
num_inference_steps = {steps}
{guidance}
[judges]
detector = "oracle"
device = "cpu"
[course]
suite = "suite.lora.yaml"
every_n_steps = {every}
budget = 1e6
n_seeds = 2
confirmation_factor = 1
finalists = 0
"""
WORLD = SETTINGS.format(
    size=128, steps=8, guidance='true_cfg_scale = 2.0\nnegative_prompt = ""\nmax_sequence_length = 24', every=SAVED
)


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps one state per process; each run here stands for a process of its own."""
    declare_missing_operators()
    from accelerate.state import AcceleratorState, GradientState

    yield
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


@dataclass(frozen=True)
class Project:
    """A folder with settings, a suite of eight cases and training pictures."""

    folder: Path
    cache: Path

    def alone(self, script: Path, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "argv", [str(script), *arguments])
        monkeypatch.syspath_prepend(str(script.parent))
        monkeypatch.chdir(self.folder)
        runpy.run_path(str(script), run_name="__main__")
        self._next_process()

    def attach(self, script: Path, *arguments: str, options: tuple[str, ...] = ()) -> Result:
        ours = ["attach", "--cache-dir", str(self.cache), "--config", str(self.folder / "lorabench.toml"), *options]
        with chdir(self.folder):
            done = CliRunner().invoke(app, [*ours, str(script), *arguments])
        self._next_process()
        return done

    def _next_process(self) -> None:
        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(True)
        GradientState._reset_state()

    def lora(self, run: str) -> dict[str, torch.Tensor]:
        return load_file(self.folder / run / LORA)

    def course(self) -> list[dict[str, Any]]:
        return json.loads((self.folder / ".lorabench/course/course.json").read_text())["evaluations"]

    def arguments(self, base: Path, run: str, *more: str, steps: int = LAST) -> list[str]:
        named = {
            "--pretrained_model_name_or_path": base,
            "--instance_data_dir": self.folder / "pictures",
            "--instance_prompt": "zvq",
            "--output_dir": self.folder / run,
            "--max_train_steps": steps,
            "--checkpointing_steps": SAVED,
            "--gradient_accumulation_steps": 2,
            "--resolution": 64,
            "--seed": 0,
        }
        return [*(str(part) for pair in named.items() for part in pair), *more]


@pytest.fixture
def project(tmp_path: Path, world_cache: Path) -> Project:
    from ruamel.yaml import YAML

    yaml = YAML()
    suite = yaml.load(shipped_suite_path("world/screen").read_text(encoding="utf-8"))
    suite["cases"] = [case for case in suite["cases"] if case["family"] in ("spatial", "multi_subject")][:8]
    with (tmp_path / "suite.lora.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(suite, file)
    (tmp_path / "lorabench.toml").write_text(WORLD, encoding="utf-8")
    (tmp_path / "pictures").mkdir()
    for path in sorted(shipped_data("fixtures/datasets/healthy").glob("*.png"))[:8]:
        shutil.copy(path, tmp_path / "pictures")
    return Project(tmp_path, world_cache)


def assert_equal(alone: dict[str, torch.Tensor], attached: dict[str, torch.Tensor]) -> None:
    assert alone.keys() == attached.keys()
    assert all(torch.equal(value, attached[name]) for name, value in alone.items())
    assert any(value.abs().max() > 0 for name, value in alone.items() if "lora_B" in name or ".up." in name)


def test_attached_and_resumed_script_ends_in_the_weights_it_has_alone(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shipped_data("fixtures/models/tiny-flux")
    resume = ["--resume_from_checkpoint", f"checkpoint-{SAVED}"]

    project.alone(OURS, *project.arguments(base, "alone", steps=12), monkeypatch=monkeypatch)
    done = project.attach(OURS, *project.arguments(base, "attached", steps=12), options=("--advise",))

    assert done.exit_code == 0, done.stderr
    assert [one["training_step"] for one in project.course()] == [SAVED, 12]
    assert [one["unmeasured"].get("everything") for one in project.course()] == [None, None]
    assert_equal(project.lora("alone"), project.lora("attached"))
    optimizers = [project.folder / run / "checkpoint-12" / "optimizer.bin" for run in ("alone", "attached")]
    assert optimizers[0].read_bytes() == optimizers[1].read_bytes()

    project.alone(OURS, *project.arguments(base, "alone", *resume, steps=12), monkeypatch=monkeypatch)
    done = project.attach(OURS, *project.arguments(base, "attached", *resume, steps=12), options=("--advise",))

    assert done.exit_code == 0, done.stderr
    assert [one["training_step"] for one in project.course()] == [SAVED, 12]
    assert_equal(project.lora("alone"), project.lora("attached"))


def test_training_that_goes_bad_is_stopped_and_the_script_saves_and_ends(project: Project) -> None:
    base = shipped_data("fixtures/models/tiny-flux")
    arguments = project.arguments(base, "spoilt", "--learning_rate", "2.0", steps=200)

    done = project.attach(OURS, *arguments)

    assert done.exit_code == 1, done.stderr
    last = project.course()[-1]
    assert last["decision"]["action"] == "STOP"
    assert last["decision"]["reason"] in ("persistent", "catastrophe")
    assert f"Stopped at step {last['training_step']}. Stop: prompt is worse than the control" in done.stderr
    assert f"saved after step {last['training_step']}" in done.stdout
    assert last["training_step"] < 200
    assert project.lora("spoilt")


# ------------------------------------------------------------------------------------------- the scripts of diffusers

RANDOM = SETTINGS.format(size=64, steps=2, guidance="", every=100)
"""Bases with random weights make no pictures worth judging; the checkpoints are enough."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small bases with random weights, and the embedded one as the FLUX script reads it.

    That script asks CLIP for 77 positions; the embedded CLIP has 24. Further ones change nothing for shorter texts.
    """
    declare_missing_operators()
    from transformers import CLIPTextModel

    folder = tmp_path_factory.mktemp("bases")
    savers = runpy.run_path(str(Path(__file__).parents[1] / "unit" / "generation" / "conftest.py"))["SAVERS"]
    for family in ("sd15", "sdxl", "flux2"):
        torch.manual_seed(3)
        savers[family](folder / family)
    shutil.copytree(shipped_data("fixtures/models/tiny-flux"), folder / "flux")
    short = CLIPTextModel.from_pretrained(folder / "flux/text_encoder")
    weights = short.state_dict()
    (table,) = (name for name in weights if name.endswith("position_embedding.weight"))
    weights[table] = torch.cat([weights[table], weights[table][-1:].repeat(77 - len(weights[table]), 1)])
    short.config.max_position_embeddings = 77
    long = CLIPTextModel(short.config)
    long.load_state_dict({name: value for name, value in weights.items() if not name.endswith("position_ids")})
    long.save_pretrained(folder / "flux/text_encoder")
    return folder


def name_tiny_autoencoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts name AutoencoderKL; the embedded base has AutoencoderTiny, whose latents have no spread."""
    import diffusers

    class Exact:
        def __init__(self, latents: torch.Tensor) -> None:
            self._latents = latents

        def sample(self) -> torch.Tensor:
            return self._latents

        mode = sample

    class Tiny(diffusers.AutoencoderTiny):
        def encode(self, pictures: torch.Tensor, return_dict: bool = True) -> Any:
            return SimpleNamespace(latent_dist=Exact(super().encode(pictures).latents))

    Tiny.__name__ = "AutoencoderTiny"

    class AutoencoderKL:
        @staticmethod
        def from_pretrained(base: str, **more: Any) -> Any:
            return Tiny.from_pretrained(base, **more)

    monkeypatch.setattr(diffusers, "AutoencoderKL", AutoencoderKL)


@dataclass(frozen=True)
class Theirs:
    """A script of diffusers' examples."""

    path: str
    base: str
    more: tuple[str, ...] = ()


FLUX = "dreambooth/train_dreambooth_lora_flux.py"
THEIRS = {
    "flux": Theirs(FLUX, "flux", ("--max_sequence_length", "24", "--lora_dropout", "0.1")),
    "flux-cached": Theirs(FLUX, "flux", ("--max_sequence_length", "24", "--cache_latents")),
    "flux-text-encoder": Theirs(FLUX, "flux", ("--max_sequence_length", "24", "--train_text_encoder")),
    "flux2-klein": Theirs(
        "dreambooth/train_dreambooth_lora_flux2_klein.py",
        "flux2",
        ("--max_sequence_length", "32", "--text_encoder_out_layers", "9", "18", "27"),
    ),
    "sdxl": Theirs("dreambooth/train_dreambooth_lora_sdxl.py", "sdxl"),
    "sdxl-text-encoder": Theirs("dreambooth/train_dreambooth_lora_sdxl.py", "sdxl", ("--train_text_encoder",)),
    "sd15": Theirs("dreambooth/train_dreambooth_lora.py", "sd15"),
    "sd15-precomputed": Theirs("dreambooth/train_dreambooth_lora.py", "sd15", ("--pre_compute_text_embeddings",)),
    "text-to-image-sd15": Theirs("text_to_image/train_text_to_image_lora.py", "sd15"),
    "text-to-image-sdxl": Theirs("text_to_image/train_text_to_image_lora_sdxl.py", "sdxl"),
}


@dataclass(frozen=True)
class Staged:
    """A script of diffusers with a base and pictures."""

    script: Path
    base: Path
    more: tuple[str, ...]
    project: Project

    def arguments(self, run: str, *more: str, steps: int = LAST) -> list[str]:
        found = self.project.arguments(
            self.base, run, "--rank", "4", "--train_batch_size", "2", *self.more, steps=steps
        )
        if "text_to_image" in self.script.parts:
            del found[4:6]
            found[found.index("--instance_data_dir")] = "--train_data_dir"
        return [*found, *more]


@pytest.fixture(params=THEIRS)
def staged(request: pytest.FixtureRequest, project: Project, bases: Path, monkeypatch: pytest.MonkeyPatch) -> Staged:
    theirs = THEIRS[request.param]
    if theirs.base == "flux":
        name_tiny_autoencoder(monkeypatch)
    else:
        (project.folder / "lorabench.toml").write_text(RANDOM, encoding="utf-8")
    if theirs.path.startswith("text_to_image"):
        captions = shipped_data("fixtures/datasets/healthy") / "captions.jsonl"
        lines = captions.read_text(encoding="utf-8").splitlines()[:8]
        (project.folder / "pictures/metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return Staged(Path(EXAMPLES, theirs.path).resolve(), bases / theirs.base, theirs.more, project)


theirs = pytest.mark.skipif(not EXAMPLES, reason="LORABENCH_DIFFUSERS_EXAMPLES names no folder of diffusers' examples")


@theirs
def test_script_of_diffusers_ends_in_the_weights_it_has_alone_also_when_resumed(
    staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = staged.project
    project.alone(staged.script, *staged.arguments("alone"), monkeypatch=monkeypatch)
    done = project.attach(staged.script, *staged.arguments("attached"), options=("--advise",))

    readable = "text_to_image" not in staged.script.parts  # no folder of training pictures, and pictures of no sense
    assert done.exit_code == (0 if readable else 3), done.stderr
    judged = [one["training_step"] for one in project.course()]
    assert set(judged) >= {6, 12, 18}
    assert_equal(project.lora("alone"), project.lora("attached"))
    optimizers = [project.folder / run / "checkpoint-18" / "optimizer.bin" for run in ("alone", "attached")]
    assert optimizers[0].read_bytes() == optimizers[1].read_bytes()

    resume = ["--resume_from_checkpoint", "checkpoint-12"]
    project.alone(staged.script, *staged.arguments("alone", *resume), monkeypatch=monkeypatch)
    done = project.attach(staged.script, *staged.arguments("attached", *resume), options=("--advise",))

    assert done.exit_code == (0 if readable else 3), done.stderr
    assert [one["training_step"] for one in project.course()] == judged
    events = (project.folder / ".lorabench/course/events.jsonl").read_text(encoding="utf-8")
    assert events.count('"kind": "finished"') == 2
    assert_equal(project.lora("alone"), project.lora("attached"))


@theirs
def test_script_of_diffusers_is_stopped_saves_and_ends(staged: Staged) -> None:
    project = staged.project
    rate = "2.0" if staged.base.name == "flux" else "1e30"

    done = project.attach(staged.script, *staged.arguments("spoilt", "--learning_rate", rate, steps=200))

    assert done.exit_code == 1, done.stderr
    assert "The script ended by itself" in done.stderr
    assert project.lora("spoilt")
