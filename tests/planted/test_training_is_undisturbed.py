# ruff: noqa: NPY002 - the global generators are what must not be disturbed
"""Training of the embedded FLUX with and without evaluations: the same weights, optimiser and generators, bit for bit.

The evaluation here is hostile on purpose: besides making pictures with the live pipeline it draws from every global
generator, seeds them, toggles modes and adapters and sets the scheduler. Each of these, without the guard, is shown to
change the training: a comparison that could not fail would show nothing. The table of ways to train is gone through
with the monitor attached as well, which judges the adapter at the same steps.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lorabench.callback import Monitor
from lorabench.evaluation.demonstration import world_config
from lorabench.generation.families import FAMILIES
from lorabench.judges.torchvision_compat import declare_missing_operators
from lorabench.storage.course_folder import read_course
from lorabench.storage.shipped import shipped_data, shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.training.fingerprint import Subjects, differences, fingerprint
from lorabench.training.guard import undisturbed

declare_missing_operators()

from diffusers import FluxPipeline  # noqa: E402
from diffusers.training_utils import EMAModel  # noqa: E402
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict  # noqa: E402
from PIL import Image  # noqa: E402

ATTENTION = r".*blocks\.\d+\.attn\.(to_q|to_k|to_v)"
LENGTH = 24
N_STEPS = 60
EVERY = 10


@dataclass(frozen=True)
class Recipe:
    """One way to train."""

    dropout: float = 0.0
    accumulate: int = 1
    checkpointing: bool = False
    average: bool = False
    schedule_free: bool = False
    text_encoder: bool = False
    frozen_down: bool = False
    half_base: bool = False


@dataclass(frozen=True)
class Examples:
    """Eight pictures of the healthy adapter's training set: latents (8, 64, 32), captions and their embeddings."""

    latents: Any
    captions: list[str]
    prompts: Any
    pooled: Any


@dataclass
class Training:
    """A pipeline in training with all that belongs to it."""

    recipe: Recipe
    pipe: Any
    optimizer: Any
    ema: Any
    examples: Examples
    losses: list[float]

    def state(self) -> dict[str, str]:
        """Fingerprint of everything, and the losses."""
        subjects = Subjects.of(self.pipe, modules=(), optimizer=self.optimizer, ema=self.ema)
        return {**fingerprint(subjects), "losses": repr(self.losses)}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base() -> Any:
    pipe = FluxPipeline.from_pretrained(shipped_data("fixtures/models/tiny-flux"))
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def examples(base: Any) -> Examples:
    folder = shipped_data("fixtures/datasets/healthy")
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text("utf-8").splitlines()[:8]]
    pixels = np.stack([np.asarray(Image.open(folder / row["file_name"]).convert("RGB"), np.float32) for row in rows])
    with torch.no_grad():
        latents = base.vae.encode(torch.from_numpy(pixels / 127.5 - 1).permute(0, 3, 1, 2)).latents
    latents = (latents - base.vae.config.shift_factor) * base.vae.config.scaling_factor
    captions = [row["text"] for row in rows]
    with torch.no_grad():
        prompts, pooled, _ = base.encode_prompt(prompt=captions, prompt_2=None, max_sequence_length=LENGTH)
    return Examples(FAMILIES["FluxPipeline"].pack(latents), captions, prompts, pooled)


def prepared(recipe: Recipe, base: Any, examples: Examples) -> Training:
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    changed = {name: copy.deepcopy(base.components[name]) for name in ("transformer", "text_encoder")}
    pipe = FluxPipeline(**{**base.components, **changed})
    pipe.set_progress_bar_config(disable=True)
    for part in ("transformer", "text_encoder", "text_encoder_2", "vae"):
        getattr(pipe, part).requires_grad_(False)
    config = LoraConfig(r=4, lora_alpha=4, lora_dropout=recipe.dropout, target_modules=ATTENTION)
    pipe.transformer.add_adapter(config)
    if recipe.half_base:
        patterns = ("pos_embed", "patch_embed", "norm", "lora_")
        pipe.transformer.enable_layerwise_casting(torch.float16, torch.float32, skip_modules_pattern=patterns)
    if recipe.text_encoder:
        pipe.text_encoder.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj", "v_proj"]))
        pipe.text_encoder.train()
    if recipe.frozen_down:
        for name, one in pipe.transformer.named_parameters():
            one.requires_grad_("lora_B" in name)
    weights = [one for part in changed for one in getattr(pipe, part).parameters() if one.requires_grad]
    assert {one.dtype for one in weights} == {torch.float32}
    if recipe.checkpointing:
        pipe.transformer.enable_gradient_checkpointing()
    pipe.transformer.train()
    ema = EMAModel(weights, decay=0.9) if recipe.average else None
    return Training(recipe, pipe, _optimizer(recipe, weights), ema, examples, [])


def _optimizer(recipe: Recipe, weights: list[Any]) -> Any:
    if not recipe.schedule_free:
        return torch.optim.AdamW(weights, lr=2e-3, betas=(0.9, 0.98))
    from schedulefree import AdamWScheduleFree

    optimizer = AdamWScheduleFree(weights, lr=2e-3)
    optimizer.train()
    return optimizer


def one_step(training: Training, index: int) -> None:
    """A step of flow matching on two pictures; every choice comes from a global generator."""
    rows = [random.randrange(8), int(np.random.randint(8))]
    clean, noise = training.examples.latents[rows], torch.randn(2, 64, 32)
    level = torch.sigmoid(1.8 + 1.3 * torch.randn(2))
    prompts, pooled = training.examples.prompts[rows], training.examples.pooled[rows]
    if training.recipe.text_encoder:
        texts = [training.examples.captions[row] for row in rows]
        prompts, pooled, _ = training.pipe.encode_prompt(prompt=texts, prompt_2=None, max_sequence_length=LENGTH)
    grid = torch.arange(64)
    made = training.pipe.transformer(
        hidden_states=torch.lerp(clean, noise, level[:, None, None]),
        timestep=level,
        encoder_hidden_states=prompts,
        pooled_projections=pooled,
        img_ids=torch.stack([torch.zeros(64), grid // 8, grid % 8], dim=1).float(),
        txt_ids=torch.zeros(LENGTH, 3),
        return_dict=False,
    )[0]
    loss = (made - (noise - clean)).square().mean() / training.recipe.accumulate
    loss.backward()
    training.losses.append(loss.item())
    if index % training.recipe.accumulate == 0:
        training.optimizer.step()
        training.optimizer.zero_grad(set_to_none=True)
        if training.ema is not None:
            training.ema.step([one for group in training.optimizer.param_groups for one in group["params"]])


Evaluation = Callable[[Training], None]
Attach = Callable[[Training], Monitor]


def train(
    recipe: Recipe,
    base: Any,
    examples: Examples,
    *,
    evaluate: Evaluation | None = None,
    n_steps: int = N_STEPS,
    every: int = EVERY,
    folder: Path | None = None,
    attach: Attach | None = None,
) -> Training:
    """Train; with a folder, save half-way and go on with everything made anew."""
    training = prepared(recipe, base, examples)
    monitor = attach(training) if attach is not None else None
    if folder is None:
        return go_on(training, 1, n_steps=n_steps, every=every, evaluate=evaluate, monitor=monitor)
    go_on(training, 1, n_steps=n_steps // 2, every=every, evaluate=evaluate, monitor=monitor)
    save(training, folder)
    stored = monitor.state_dict() if monitor is not None else {}
    again = prepared(recipe, base, examples)
    restore(again, folder)
    again.losses = training.losses
    monitor = attach(again) if attach is not None else None
    if monitor is not None:
        monitor.load_state_dict(stored)
    return go_on(again, n_steps // 2 + 1, n_steps=n_steps, every=every, evaluate=evaluate, monitor=monitor)


def go_on(
    training: Training,
    start: int,
    *,
    n_steps: int,
    every: int,
    evaluate: Evaluation | None,
    monitor: Monitor | None = None,
) -> Training:
    for index in range(start, n_steps + 1):
        one_step(training, index)
        if evaluate is not None and index % every == 0:
            evaluate(training)
        if monitor is not None:
            monitor.on_step_end(index, loss=training.losses[-1])
    if monitor is not None:
        monitor.finish()
    return training


def save(training: Training, folder: Path) -> None:
    state = {
        "adapter": get_peft_model_state_dict(training.pipe.transformer),
        "optimizer": training.optimizer.state_dict(),
        "torch": torch.get_rng_state(),
    }
    torch.save(state, folder / "state.pt")
    (folder / "python.json").write_text(json.dumps([random.getstate(), _numpy_state()]), encoding="utf-8")


def restore(training: Training, folder: Path) -> None:
    state = torch.load(folder / "state.pt", weights_only=True)
    set_peft_model_state_dict(training.pipe.transformer, state["adapter"])
    training.optimizer.load_state_dict(state["optimizer"])
    (version, inner, gauss), numpy_state = json.loads((folder / "python.json").read_text("utf-8"))
    random.setstate((version, tuple(inner), gauss))
    np.random.set_state((numpy_state[0], np.array(numpy_state[1], np.uint32), *numpy_state[2:]))
    torch.set_rng_state(state["torch"])


def _numpy_state() -> list[Any]:
    name, keys, *rest = np.random.get_state()
    return [name, keys.tolist(), *rest]


# ------------------------------------------------------------------------------------------------ evaluations


def pictures(training: Training) -> list[Any]:
    """A picture of the adapter and one of the base, through the live pipeline."""
    made = []
    for on in (True, False):
        training.pipe.transformer.enable_adapters() if on else training.pipe.transformer.disable_adapters()
        generator = torch.Generator().manual_seed(3)
        done = training.pipe(
            "a red circle",
            height=128,
            width=128,
            num_inference_steps=1,
            max_sequence_length=LENGTH,
            generator=generator,
            output_type="np",
        )
        made.append(done.images[0])
    return made


def draw_from_all_generators(training: Training) -> None:
    torch.rand(7)
    random.random()
    np.random.rand(3)


def seed_all_generators(training: Training) -> None:
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)


def leave_evaluation_mode(training: Training) -> None:
    training.pipe.transformer.eval()


def leave_adapter_off(training: Training) -> None:
    for path, layer in training.pipe.transformer.named_modules():
        if hasattr(layer, "scaling") and "single" in path:
            layer._disable_adapters = True


def leave_scale(training: Training) -> None:
    for layer in training.pipe.transformer.modules():
        if hasattr(layer, "scaling"):
            layer.scaling["default"] = 0.5


def switch_adapter_off_and_on(training: Training) -> None:
    training.pipe.transformer.disable_adapters()
    training.pipe.transformer.enable_adapters()


def switch_optimizer(training: Training) -> None:
    training.optimizer.eval()
    training.optimizer.train()


def drop_pending_gradients(training: Training) -> None:
    training.optimizer.zero_grad(set_to_none=False)


def write_weights(training: Training) -> None:
    for one in training.pipe.transformer.parameters():
        if one.requires_grad:
            one.data.mul_(0.5)


def load_second_adapter(training: Training) -> None:
    training.pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=ATTENTION), adapter_name="second")
    training.pipe.transformer.set_adapter("second")


def hostile(training: Training) -> None:
    """Everything that an evaluation may do, and more than a decent one would."""
    assert not training.pipe.transformer.training
    assert not torch.is_grad_enabled()
    on, off = pictures(training)
    assert not np.array_equal(on, off)
    for disturb in (draw_from_all_generators, seed_all_generators, leave_scale, leave_adapter_off):
        disturb(training)
    training.pipe.transformer.train()
    training.pipe.vae.enable_slicing()
    training.pipe.scheduler.set_timesteps(3, mu=1.0)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)


def guarded(evaluate: Evaluation, *, verify: bool = True) -> Evaluation:
    def run(training: Training) -> None:
        with undisturbed(training.pipe, optimizer=training.optimizer, ema=training.ema, verify=verify):
            evaluate(training)

    return run


# ------------------------------------------------------------------------------------------------ identity

RECIPES = {
    "plain": Recipe(),
    "dropout": Recipe(dropout=0.2),
    "gradient accumulation, evaluated while gradients are pending": Recipe(dropout=0.2, accumulate=4),
    "gradient checkpointing": Recipe(dropout=0.2, checkpointing=True),
    "average": Recipe(average=True),
    "schedule-free optimiser": Recipe(schedule_free=True),
    "text encoder": Recipe(text_encoder=True),
    "half of the adapter frozen": Recipe(frozen_down=True),
    "base stored in half precision, computed in full": Recipe(half_base=True),
}


@pytest.fixture
def attach(tmp_path: Path, world_cache: Path) -> Attach:
    """A monitor that judges on eight prompts at every tenth step, and advises only: nothing stops the comparison."""
    screen = read_suite(shipped_suite_path("world/screen")).suite
    cases = [case for case in screen.cases if case.family in ("spatial", "multi_subject")][:8]
    suite = screen.model_copy(update={"cases": tuple(cases)})
    config = world_config(None, training=None, runs_dir=tmp_path / "runs", cache_dir=world_cache)
    course = {
        "every_n_steps": EVERY,
        "signals_every_n_steps": EVERY // 2,
        "budget": 1e6,
        "n_seeds": 1,
        "confirmation_factor": 1,
        "final_seeds": 1,
        "stop": False,
        "folder": tmp_path / "course",
    }
    update = {
        "course": config.course.model_copy(update=course),
        "judges": config.judges.model_copy(update={"clip": ""}),
    }

    def make(training: Training) -> Monitor:
        monitor = Monitor(
            config.model_copy(update=update),
            suite=suite,
            pipeline=training.pipe,
            optimizer=training.optimizer,
            ema=training.ema,
        )
        monitor.on_train_begin()
        return monitor

    return make


def judged_steps(folder: Path) -> list[int]:
    """Steps at which the guards were read, from the course on disk."""
    return [one.training_step for one in read_course(folder / "course").evaluations if one.screen]


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_sixty_steps_with_six_evaluations_end_where_those_without_do(
    name: str, base: Any, examples: Examples, attach: Attach, tmp_path: Path
) -> None:
    alone = train(RECIPES[name], base, examples).state()

    watched = train(RECIPES[name], base, examples, evaluate=guarded(hostile), attach=attach).state()

    assert differences(alone, watched) == []
    assert len(alone) > 500
    assert judged_steps(tmp_path) == [10, 20, 30, 40, 50, 60]


@pytest.mark.slow
def test_a_training_resumed_in_the_middle_ends_where_one_without_evaluations_does(
    tmp_path: Path, base: Any, examples: Examples, attach: Attach
) -> None:
    recipe = Recipe(dropout=0.2)
    alone = train(recipe, base, examples).state()

    resumed = train(recipe, base, examples, evaluate=guarded(hostile), folder=tmp_path, attach=attach).state()

    assert differences(alone, resumed) == []
    assert judged_steps(tmp_path) == [10, 20, 30, 40, 50, 60]


@pytest.mark.slow
def test_a_compiled_training_is_not_disturbed_and_not_compiled_again(base: Any, examples: Examples) -> None:
    """With dynamo and autograd's tracing, run eagerly: what decides about recompiling is all in them."""
    training = prepared(Recipe(), base, examples)
    for block in training.pipe.transformer.single_transformer_blocks:
        block.compile(backend="aot_eager")
    before = fingerprint(Subjects.of(training.pipe, modules=(), optimizer=training.optimizer, ema=None))
    first = copy.deepcopy(get_peft_model_state_dict(training.pipe.transformer))
    states, graphs = [], []
    for evaluate in (None, guarded(hostile)):
        seed_all_generators(training)
        set_peft_model_state_dict(training.pipe.transformer, first)
        weights = training.optimizer.param_groups[0]["params"]
        again = Training(training.recipe, training.pipe, _optimizer(training.recipe, weights), None, examples, [])
        go_on(again, 1, n_steps=2 * EVERY, every=EVERY, evaluate=evaluate)
        states.append(again.state())
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])

    assert differences(*states) == []
    assert differences(before, states[0])
    assert graphs[0] == graphs[1] > 0


def test_an_evaluation_that_fails_leaves_the_training_as_it_was(base: Any, examples: Examples) -> None:
    def failing(training: Training) -> None:
        hostile(training)
        raise RuntimeError("out of memory")

    def evaluate(training: Training) -> None:
        with pytest.raises(RuntimeError, match="out of memory"):
            guarded(failing)(training)

    recipe = Recipe(dropout=0.2, schedule_free=True, average=True)
    alone = train(recipe, base, examples, n_steps=2 * EVERY).state()

    assert differences(alone, train(recipe, base, examples, n_steps=2 * EVERY, evaluate=evaluate).state()) == []


# ------------------------------------------------------------------------------------------------ it can fail

DISTURBANCES: dict[str, tuple[Evaluation, Recipe]] = {
    "drawn generators": (draw_from_all_generators, Recipe()),
    "seeded generators": (seed_all_generators, Recipe()),
    "evaluation mode": (leave_evaluation_mode, Recipe(dropout=0.2)),
    "adapter off": (leave_adapter_off, Recipe()),
    "adapter's scale": (leave_scale, Recipe()),
    "adapter off and on": (switch_adapter_off_and_on, Recipe(frozen_down=True)),
    "optimiser off and on": (switch_optimizer, Recipe(schedule_free=True)),
    "pending gradients": (drop_pending_gradients, Recipe(accumulate=4)),
    "weights": (write_weights, Recipe()),
    "second adapter": (load_second_adapter, Recipe()),
}


@pytest.fixture(scope="module")
def alone(base: Any, examples: Examples) -> Callable[[Recipe], dict[str, str]]:
    """State after a short training without evaluations, made once per recipe."""
    made: dict[Recipe, dict[str, str]] = {}

    def of(recipe: Recipe) -> dict[str, str]:
        if recipe not in made:
            made[recipe] = train(recipe, base, examples, n_steps=5).state()
        return made[recipe]

    return of


@pytest.mark.filterwarnings("ignore:Already found a .peft_config")
@pytest.mark.parametrize("name", DISTURBANCES)
def test_without_the_guard_each_disturbance_changes_the_training_and_with_it_none(
    name: str, base: Any, examples: Examples, alone: Callable[[Recipe], dict[str, str]]
) -> None:
    disturb, recipe = DISTURBANCES[name]

    bare = train(recipe, base, examples, n_steps=5, every=3, evaluate=disturb)
    watched = train(recipe, base, examples, n_steps=5, every=3, evaluate=guarded(disturb))

    changed = differences(alone(recipe), bare.state())
    assert [one for one in changed if one.startswith("transformer.") and one.endswith(".default.weight")]
    assert differences(alone(recipe), watched.state()) == []
