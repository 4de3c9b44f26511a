"""A LoRA of the embedded model in the real trainers: judged, saved, resumed, and left as it was to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lorabench.callback import Monitor
from lorabench.evaluation.demonstration import world_config
from lorabench.judges.torchvision_compat import declare_missing_operators
from lorabench.records.suite import Suite
from lorabench.storage.shipped import shipped_data, shipped_suite_path
from lorabench.storage.suite_files import read_suite
from lorabench.training.trainers import huggingface, lightning

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")]

SAVED, LAST = 5, 10
PROMPTS = ["a zvq drawing of a red circle", "a zvq drawing of a blue square"]


class Subject:
    """The pipeline with a fresh adapter; its loss takes all randomness from torch's own generator."""

    def __init__(self) -> None:
        declare_missing_operators()
        from diffusers import FluxPipeline
        from peft import LoraConfig

        self.pipe = FluxPipeline.from_pretrained(shipped_data("fixtures/models/tiny-flux"))
        for module in (self.pipe.transformer, self.pipe.text_encoder, self.pipe.text_encoder_2, self.pipe.vae):
            module.requires_grad_(False)
        torch.manual_seed(3)
        targets = ["to_q", "to_k", "to_v", "to_out.0"]
        self.pipe.transformer.add_adapter(LoraConfig(r=8, lora_alpha=8, lora_dropout=0.1, target_modules=targets))
        self.pipe.transformer.train()
        with torch.no_grad():
            self.prompts, self.pooled, _ = self.pipe.encode_prompt(PROMPTS, prompt_2=None, max_sequence_length=24)

    def adapter(self) -> dict[str, torch.Tensor]:
        named = self.pipe.transformer.named_parameters()
        return {name: value.detach().clone() for name, value in named if value.requires_grad}

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([p for p in self.pipe.transformer.parameters() if p.requires_grad], lr=1e-3)

    def loss(self, transformer: Any) -> torch.Tensor:
        pictures, noise, level = torch.zeros(2, 64, 32), torch.randn(2, 64, 32), torch.rand(2)
        grid = torch.arange(64)
        made = transformer(
            hidden_states=torch.lerp(pictures, noise, level[:, None, None]),
            timestep=level,
            encoder_hidden_states=self.prompts,
            pooled_projections=self.pooled,
            img_ids=torch.stack([torch.zeros(64), grid // 8, grid % 8], dim=1).float(),
            txt_ids=torch.zeros(24, 3),
            return_dict=False,
        )[0]
        return (made - (noise - pictures)).square().mean()


def train_with_huggingface(subject: Subject, monitor: Monitor | None, folder: Path, *, resume: bool) -> None:
    from transformers import Trainer, TrainingArguments

    class LoraTrainer(Trainer):
        def compute_loss(self, model: Any, inputs: Any, **more: Any) -> torch.Tensor:
            return subject.loss(model)

    settings = TrainingArguments(
        output_dir=str(folder),
        max_steps=LAST,
        save_steps=SAVED,
        logging_steps=1,
        lr_scheduler_type="constant",
        per_device_train_batch_size=1,
        remove_unused_columns=False,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    rows = [{"row": torch.tensor(0)}] * LAST
    trainer = LoraTrainer(
        model=subject.pipe.transformer,
        args=settings,
        train_dataset=rows,
        callbacks=[] if monitor is None else [huggingface.MonitorCallback(monitor)],
        optimizers=(subject.optimizer(), None),
    )
    trainer.train(resume_from_checkpoint=str(folder / f"checkpoint-{SAVED}") if resume else None)


def train_with_lightning(subject: Subject, monitor: Monitor | None, folder: Path, *, resume: bool) -> None:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint

    class Lora(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = subject.pipe.transformer

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            return subject.loss(self.transformer)

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["generator"] = torch.get_rng_state()

        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            self.generator = checkpoint["generator"]

        def on_train_batch_start(self, batch: torch.Tensor, batch_idx: int) -> None:
            if hasattr(self, "generator"):
                torch.set_rng_state(self.__dict__.pop("generator"))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return subject.optimizer()

    saving = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=SAVED, save_top_k=-1)
    trainer = Trainer(
        max_steps=LAST,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[saving] if monitor is None else [saving, lightning.MonitorCallback(monitor)],
    )
    rows = torch.utils.data.DataLoader(torch.zeros(LAST))
    trainer.fit(Lora(), rows, ckpt_path=folder / f"step={SAVED}.ckpt" if resume else None)


def train_with_accelerate(subject: Subject, monitor: Monitor | None, folder: Path, *, resume: bool) -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(subject.pipe.transformer, subject.optimizer())
    if monitor is not None:
        monitor.optimizer = optimizer
        monitor.on_train_begin()
        accelerator.register_for_checkpointing(monitor)
    if resume:
        accelerator.load_state(str(folder))
    for training_step in range(SAVED + 1 if resume else 1, LAST + 1):
        loss = subject.loss(model)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        if monitor is not None:
            monitor.on_step_end(training_step, loss=loss)
        if training_step == SAVED:
            accelerator.save_state(str(folder))
    if monitor is not None:
        monitor.finish()


@pytest.fixture(scope="module")
def suite() -> Suite:
    """Eight cases of two shapes each; fewer would not test the judge."""
    screen = read_suite(shipped_suite_path("world/screen")).suite
    cases = [case for case in screen.cases if case.family in ("spatial", "multi_subject")][:8]
    return screen.model_copy(update={"cases": tuple(cases)})


@pytest.fixture
def monitor_of(suite: Suite, world_cache: Path, tmp_path: Path) -> Callable[[Subject], Monitor]:
    """Judges at the step that is saved and at the last one, and only advises."""

    def make(subject: Subject) -> Monitor:
        config = world_config(None, training=None, runs_dir=tmp_path / "runs", cache_dir=world_cache)
        settings = {"every_n_steps": SAVED, "budget": 1e6, "n_seeds": 1, "stop": False, "finalists": 0}
        settings["folder"] = tmp_path / "course"
        config = config.model_copy(
            update={
                "course": config.course.model_copy(update=settings),
                "judges": config.judges.model_copy(update={"clip": ""}),
            }
        )
        return Monitor.from_config(config, pipeline=subject.pipe, suite=suite)

    return make


@pytest.mark.parametrize("train", [train_with_huggingface, train_with_lightning, train_with_accelerate])
def test_judged_and_resumed_training_ends_in_the_weights_of_one_without_monitor(
    train: Callable[..., None], monitor_of: Callable[[Subject], Monitor], tmp_path: Path
) -> None:
    alone, judged, resumed = Subject(), Subject(), Subject()
    evaluations = []
    for subject in (alone, judged, resumed):
        torch.manual_seed(11)
        monitor = None if subject is alone else monitor_of(subject)
        train(subject, monitor, tmp_path / ("alone" if subject is alone else "saved"), resume=subject is resumed)
        if monitor is not None:
            evaluations.append(monitor.course.evaluations)

    assert [one.training_step for one in evaluations[0]] == [SAVED, LAST]
    assert [one.unmeasured.get("everything") for one in evaluations[0]] == [None, None]
    first, again = ([one.model_copy(update={"kept": None}) for one in course] for course in evaluations)
    assert again == first
    assert all(one.kept is None or Path(one.kept).is_dir() for one in evaluations[1])
    assert len(list((tmp_path / "course" / "runs").iterdir())) == 2, "what was judged is not judged again"
    for subject in (judged, resumed):
        assert all(torch.equal(value, subject.adapter()[name]) for name, value in alone.adapter().items())
