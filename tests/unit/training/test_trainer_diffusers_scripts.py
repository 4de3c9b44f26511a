"""A script of our own, built as diffusers' are, with a monitor that notes what it hears; the script knows nothing."""

from __future__ import annotations

import argparse
import json
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lorabench.errors import MeasurementError
from lorabench.generation.adapter_errors import UnsupportedAdapterError
from lorabench.judges.torchvision_compat import declare_missing_operators
from lorabench.storage.shipped import shipped_data
from lorabench.training.guard_errors import CannotGuardError
from lorabench.training.ranks import Ranks
from lorabench.training.trainers.accelerate_seams import heard_by
from lorabench.training.trainers.diffusers_scripts import (
    LiveTraining,
    NotAttachedError,
    NotEndedError,
    ScriptAttachment,
    ScriptNotFoundError,
    StepCountError,
    run_script,
)
from tests.unit.training.noting_monitor import NotingMonitor

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

SCRIPT = Path(__file__).parents[2] / "planted" / "lora_script.py"
LORA = "pytorch_lora_weights.safetensors"


class Notes(NotingMonitor):
    """Notes as well that it was set back."""

    def set_back(self, training_step: int) -> None:
        self.heard.append(f"set back to {training_step}")


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps one state per process; each run here stands for a process of its own."""
    declare_missing_operators()
    from accelerate.state import AcceleratorState, GradientState

    yield
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four pictures: two batches an epoch."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in sorted(shipped_data("fixtures/datasets/healthy").glob("*.png"))[:4]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def arguments(tmp_path: Path, pictures: Path) -> Callable[..., list[str]]:
    """The script's command line."""

    def of(*more: str, output: str = "output", steps: int = 4) -> list[str]:
        base = shipped_data("fixtures/models/tiny-flux")
        named = {
            "--pretrained_model_name_or_path": base,
            "--instance_data_dir": pictures,
            "--instance_prompt": "a zvq drawing",
            "--output_dir": tmp_path / output,
            "--max_train_steps": steps,
        }
        return [*(str(part) for pair in named.items() for part in pair), *more]

    return of


def run_alone(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def run_heard(arguments: list[str], monitor: Notes, **more: Any) -> tuple[ScriptAttachment, list[LiveTraining]]:
    seen: list[LiveTraining] = []

    def make(live: LiveTraining) -> Notes:
        seen.append(live)
        return monitor

    attachment = ScriptAttachment(make, **more)
    run_script(SCRIPT, arguments, attachment=attachment)
    return attachment, seen


# ------------------------------------------------------------------------------------------------------ what is heard


def test_monitor_hears_steps_checkpoints_and_the_end(arguments: Callable[..., list[str]], tmp_path: Path) -> None:
    monitor = Notes()

    attachment, (live,) = run_heard(arguments("--checkpointing_steps", "3"), monitor)

    steps = ["step 1", "step 2", "step 3", "checkpoint-3 3", "step 4"]
    assert monitor.heard == ["begin", "set back to 0", *steps, "finish"]
    assert all(loss > 0 and norm is not None and norm > 0 for loss, norm in monitor.losses.values())
    assert attachment.stopped_at is None
    assert (live.adapter_name, live.first_step, live.half_precision) == ("default", 0, False)
    assert live.base == str(shipped_data("fixtures/models/tiny-flux"))
    assert live.pictures == tmp_path / "pictures"
    assert monitor.optimizer.param_groups
    assert json.loads((tmp_path / "output/checkpoint-3/lorabench.json").read_text()) == {"last_step": 3}


def test_accumulated_batches_are_one_step_with_their_mean_loss(
    arguments: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate import Accelerator

    losses = []
    backward = Accelerator.backward
    monkeypatch.setattr(Accelerator, "backward", lambda self, loss: (losses.append(float(loss)), backward(self, loss)))
    monitor = Notes()

    run_heard(arguments("--gradient_accumulation_steps", "2", steps=2), monitor)

    assert list(monitor.losses) == [1, 2]
    assert [monitor.losses[step][0] for step in (1, 2)] == pytest.approx(
        [(losses[0] + losses[1]) / 2, (losses[2] + losses[3]) / 2]
    )


def test_resumed_script_goes_on_from_its_step_and_from_our_state(arguments: Callable[..., list[str]]) -> None:
    run_heard(arguments("--checkpointing_steps", "2", steps=2), Notes())
    monitor = Notes()

    _, (live,) = run_heard(arguments("--resume_from_checkpoint", "checkpoint-2"), monitor, restart=True)

    assert monitor.heard == ["begin", "loaded step 2, restart True", "step 3", "step 4", "finish"]
    assert live.first_step == 2


def test_script_resumed_from_a_checkpoint_without_our_state_is_taken_back_to_its_step(
    arguments: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_alone(arguments("--checkpointing_steps", "2", steps=2), monkeypatch)
    monitor = Notes()

    run_heard(arguments("--resume_from_checkpoint", "checkpoint-2", steps=3), monitor)

    assert monitor.heard == ["begin", "set back to 2", "step 3", "finish"]


def test_checkpoint_of_a_heard_script_resumes_without_monitor(
    arguments: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_heard(arguments("--checkpointing_steps", "2", steps=2), Notes())

    run_alone(arguments("--resume_from_checkpoint", "checkpoint-2"), monkeypatch)

    assert capsys.readouterr().out.endswith("saved after step 4\n")


# ---------------------------------------------------------------------------------------------- what becomes of it all


@pytest.mark.parametrize(
    "more",
    [[], ["--gradient_accumulation_steps", "2"], ["--cache_latents"], ["--train_text_encoder"]],
    ids=["plain", "accumulated", "latents-cached", "text-encoder"],
)
def test_script_ends_in_the_weights_it_has_alone(
    more: list[str], arguments: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_alone(arguments(*more, output="alone"), monkeypatch)

    run_heard(arguments(*more, output="heard"), Notes())

    alone, heard = load_file(tmp_path / "alone" / LORA), load_file(tmp_path / "heard" / LORA)
    assert len(alone) == len(heard) > 0
    assert all(torch.equal(value, heard[name]) for name, value in alone.items())
    assert any(value.abs().max() > 0 for name, value in alone.items() if "lora_B" in name)


def test_stop_ends_the_script_after_that_step_with_its_own_last_save(
    arguments: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    monitor = Notes(stop_at=3)

    attachment, _ = run_heard(arguments("--validation_prompt", "x", steps=40), monitor, say=said.append)

    assert monitor.heard[-2:] == ["step 3", "finish"]
    assert attachment.stopped_at == 3
    assert capsys.readouterr().out == "pictures after epoch 0\nsaved after step 3\n"
    assert said == ["the script's --validation_prompt is left out: the training was stopped"]
    assert len(load_file(tmp_path / "output" / LORA)) > 0


def test_stop_at_a_checkpoint_ends_the_script_there(arguments: Callable[..., list[str]]) -> None:
    monitor = Notes(stop_at_checkpoint=2)

    attachment, _ = run_heard(arguments("--checkpointing_steps", "2", steps=40), monitor)

    assert monitor.heard[-3:] == ["step 2", "checkpoint-2 2", "finish"]
    assert attachment.stopped_at == 2


def test_stop_that_is_only_advice_ends_nothing(arguments: Callable[..., list[str]]) -> None:
    monitor = Notes(stop_at=2)

    attachment, _ = run_heard(arguments(), monitor, obey=False)

    assert monitor.heard[-2:] == ["step 4", "finish"]
    assert attachment.stopped_at is None


def test_script_that_goes_on_after_a_stop_is_ended(arguments: Callable[..., list[str]]) -> None:
    with pytest.raises(NotEndedError, match="stopped this one at step 2 and the script went on with batches"):
        run_heard(arguments("--own_batches"), Notes(stop_at=2))


def test_script_that_counts_steps_otherwise_is_told_at_its_first_step(arguments: Callable[..., list[str]]) -> None:
    with pytest.raises(StepCountError, match="it logged 8 after 1"):
        run_heard(arguments("--count_from", "7", steps=9), Notes())


def test_everything_is_as_it_was_after_a_script(arguments: Callable[..., list[str]]) -> None:
    from accelerate import Accelerator
    from diffusers import ModelMixin

    before = dict(vars(Accelerator)), dict(vars(ModelMixin)), argparse.ArgumentParser.parse_args, sys.argv, sys.path

    with pytest.raises(StepCountError):
        run_heard(arguments("--count_from", "7", steps=9), Notes())

    after = dict(vars(Accelerator)), dict(vars(ModelMixin)), argparse.ArgumentParser.parse_args, sys.argv, sys.path
    assert after == before


# ------------------------------------------------------------------------------------------------- the pipeline it gets


def test_pipeline_shares_what_the_script_still_has(arguments: Callable[..., list[str]]) -> None:
    alive: dict[str, Any] = {}

    class Looking(ScriptAttachment):
        def batch_begins(self, accelerator: Any) -> None:
            found = self._networks.alive({"vae": "AutoencoderTiny", "text_encoder": "CLIPTextModel"})
            alive.update({name: network for name, (network, _) in found.items()})
            super().batch_begins(accelerator)

    seen: list[LiveTraining] = []
    attachment = Looking(lambda live: seen.append(live) or Notes())  # type: ignore[func-returns-value]
    run_script(SCRIPT, arguments(steps=1), attachment=attachment)

    pipeline = seen[0].pipeline
    assert pipeline.vae is alive["vae"]
    assert "text_encoder" not in alive, "the script let it go, and the attachment must not keep it"
    assert pipeline.text_encoder is not None
    assert pipeline.transformer is attachment._trained[0]


def test_pipeline_has_the_text_encoder_in_training(arguments: Callable[..., list[str]]) -> None:
    attachment, (live,) = run_heard(arguments("--train_text_encoder", "--cache_latents", steps=1), Notes())

    assert [live.pipeline.transformer, live.pipeline.text_encoder] == attachment._trained
    assert live.pipeline.vae is not None


# ------------------------------------------------------------------------------------------------------------ refusals


def test_missing_script_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScriptNotFoundError, match=r"must be a Python file; .*gone\.py is none"):
        run_script(tmp_path / "gone.py", [], attachment=ScriptAttachment(lambda live: Notes()))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "has no --pretrained_model_name_or_path"),
        ("parse()", "prepared no network with a LoRA of peft"),
        ("parse()\nAccelerator(cpu=True).prepare(lora())", r"ran no batch inside accelerator\.accumulate"),
    ],
    ids=["no-base", "no-lora", "no-accumulate"],
)
def test_script_that_is_none_of_diffusers_is_told_afterwards(text: str, found: str, tmp_path: Path) -> None:
    script = tmp_path / "other.py"
    script.write_text(
        "import argparse, torch\nfrom accelerate import Accelerator\n"
        "def parse():\n p = argparse.ArgumentParser()\n p.add_argument('--pretrained_model_name_or_path')\n"
        " p.add_argument('--output_dir', default='x')\n return p.parse_args()\n"
        "def lora():\n m = torch.nn.Linear(1, 1)\n m.peft_config = {'default': 1}\n return m\n" + text,
        encoding="utf-8",
    )

    with pytest.raises(NotAttachedError, match=found):
        run_script(script, [], attachment=ScriptAttachment(lambda live: Notes()))


def test_sharded_training_is_refused_before_it_begins() -> None:
    attachment = ScriptAttachment(lambda live: Notes())
    attachment.parsed(argparse.Namespace(pretrained_model_name_or_path="base", output_dir="output"))
    accelerator = SimpleNamespace(distributed_type=SimpleNamespace(name="FSDP"))

    with pytest.raises(CannotGuardError, match=r"accelerate runs this training with FSDP, .*lorabench watch"):
        attachment.prepared(accelerator, [SimpleNamespace(peft_config={"default": 1})], [])


def test_dora_is_refused_before_it_begins() -> None:
    attachment = ScriptAttachment(lambda live: Notes())
    attachment.parsed(argparse.Namespace(pretrained_model_name_or_path="base", output_dir="output"))
    accelerator = SimpleNamespace(distributed_type=SimpleNamespace(name="NO"))
    trained = SimpleNamespace(peft_config={"default": SimpleNamespace(use_dora=True)})

    with pytest.raises(UnsupportedAdapterError, match="must be a plain LoRA; the training holds DoRA weights"):
        attachment.prepared(accelerator, [trained], [])


def test_several_adapters_are_refused(arguments: Callable[..., list[str]]) -> None:
    class Two(ScriptAttachment):
        def prepared(self, accelerator: Any, given: Any, made: Any) -> None:
            for one in given:
                if getattr(one, "peft_config", None):
                    one.peft_config["second"] = one.peft_config["default"]
            super().prepared(accelerator, given, made)

    with pytest.raises(CannotGuardError, match="hold the adapters default, second, and one must be trained"):
        run_script(SCRIPT, arguments(), attachment=Two(lambda live: Notes()))


def test_checkpoint_without_a_step_in_its_name_is_refused(tmp_path: Path) -> None:
    attachment = ScriptAttachment(lambda live: Notes())

    with pytest.raises(MeasurementError, match="must be named checkpoint-<step>; found last"):
        attachment.resumed(tmp_path / "last")


# ------------------------------------------------------------------------------------------------ what is hard to stage


class FakeAccelerator:
    """One process, one step per batch."""

    def __init__(self, *, skipped: bool = False) -> None:
        self.sync_gradients, self.optimizer_step_was_skipped = True, skipped


def heard_step(attachment: ScriptAttachment, accelerator: Any, *, norm: float) -> None:
    attachment.backward_was_run(torch.tensor(1.0))
    attachment.gradients_were_clipped(torch.tensor(norm))
    attachment.batch_ended(accelerator)


def attached(monitor: Notes, accelerator: Any) -> ScriptAttachment:
    """In the middle of a training."""
    from lorabench.training.trainers.attachment import Attachment

    attachment = ScriptAttachment(lambda live: monitor)
    attachment.monitor, attachment._accelerator, attachment._attachment = monitor, accelerator, Attachment(monitor)
    return attachment


@pytest.mark.parametrize(("skipped", "norm"), [(False, float("inf")), (True, None)])
def test_infinite_gradients_of_a_dropped_step_are_no_damage(skipped: bool, norm: float | None) -> None:
    monitor = Notes()
    accelerator = FakeAccelerator(skipped=skipped)

    heard_step(attached(monitor, accelerator), accelerator, norm=float("inf"))

    assert monitor.losses == {1: (1.0, norm)}


def test_with_several_processes_a_save_judges_nothing_and_the_leading_one_stores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for index in (0, 1):
        monkeypatch.setattr(Ranks, "here", classmethod(lambda cls, index=index: Ranks(n=2, index=index)))
        folder = tmp_path / f"checkpoint-{index}"
        folder.mkdir()
        monitor = Notes()

        attached(monitor, FakeAccelerator()).saved(folder)

        assert monitor.heard == []
        assert (folder / "lorabench.json").exists() == (index == 0)


def test_listener_hears_nothing_outside_the_context() -> None:
    attachment = ScriptAttachment(lambda live: Notes())
    parser = argparse.ArgumentParser()
    parser.add_argument("--pretrained_model_name_or_path", default="base")
    parser.add_argument("--output_dir", default="output")

    parser.parse_args([])
    assert attachment.output is None
    with heard_by(attachment):
        parser.parse_args([])
    assert attachment.output == Path("output")
