"""Names, training steps and completeness of the checkpoints of each trainer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorabench.errors import LorabenchError
from lorabench.generation.adapter import read_adapter
from lorabench.training.checkpoint_files import (
    NotAFolderError,
    Settling,
    SeveralTrainingsError,
    find_checkpoints,
    weights_digest,
)

MODULE = "transformer.transformer_blocks.0.attn.to_q"
SD_SCRIPTS = {"ss_steps": "1234", "ss_epoch": "3"}
AI_TOOLKIT = {"training_info": '{"step": 1234, "epoch": 2}'}


def write(path: Path, metadata: Mapping[str, str] | None = None, *, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{MODULE}.lora_A.weight": rng.normal(size=(4, 16)).astype(np.float32),
        f"{MODULE}.lora_B.weight": rng.normal(size=(16, 4)).astype(np.float32),
    }
    save_file(tensors, path, metadata=dict(metadata or {}))
    return path


# Trainer, file below the output folder, header, files beside it, expected: training, step, epoch, final.
KNOWN = [
    ("diffusers script", "checkpoint-500/pytorch_lora_weights.safetensors", {}, {}, ("", 500, None, False)),
    (
        "diffusers script, final, step stated",
        "pytorch_lora_weights.safetensors",
        {},
        {"training_state.json": '{"global_step": 2000}'},
        ("", 2000, None, True),
    ),
    ("SimpleTuner", "checkpoint-1500/pytorch_lora_weights.safetensors", {}, {}, ("", 1500, None, False)),
    ("SimpleTuner, rolling", "checkpoint-70-rolling/pytorch_lora_weights.safetensors", {}, {}, ("", 70, None, False)),
    (
        "SimpleTuner, marked as complete",
        "checkpoint-80/pytorch_lora_weights.safetensors",
        {},
        {"checkpoint-80/checkpoint_manifest.json": "{}", "checkpoint-80/.guard": "complete\n"},
        ("", 80, None, False),
    ),
    ("HF Trainer with peft", "checkpoint-30/adapter_model.safetensors", {}, {}, ("", 30, None, False)),
    (
        "HF Trainer, final",
        "adapter_model.safetensors",
        {},
        {"trainer_state.json": '{"global_step": 90}'},
        ("", 90, None, True),
    ),
    ("sd-scripts, step", "my-style-step00000500.safetensors", {}, {}, ("my-style", 500, None, False)),
    ("sd-scripts, step, no name", "at-step00000500.safetensors", {}, {}, ("", 500, None, False)),
    ("sd-scripts, epoch", "my-style-000010.safetensors", SD_SCRIPTS, {}, ("my-style", 1234, 10, False)),
    ("sd-scripts, epoch, no name", "epoch-000010.safetensors", SD_SCRIPTS, {}, ("", 1234, 10, False)),
    (
        "sd-scripts, epoch, no metadata, state saved",
        "my-style-000010.safetensors",
        {},
        {"my-style-000010-state/train_state.json": '{"current_epoch": 10, "current_step": 700}'},
        ("my-style", 700, 10, False),
    ),
    ("sd-scripts, final", "my-style.safetensors", SD_SCRIPTS, {}, ("my-style", 1234, None, True)),
    ("sd-scripts, final, no name", "last.safetensors", SD_SCRIPTS, {}, ("", 1234, None, True)),
    ("ai-toolkit", "my_style_000000500.safetensors", {}, {}, ("my_style", 500, None, False)),
    ("ai-toolkit with embedding", "my_style_LoRA_000000500.safetensors", {}, {}, ("my_style", 500, None, False)),
    ("ai-toolkit, final", "my_style.safetensors", AI_TOOLKIT, {}, ("my_style", 1234, None, True)),
    ("OneTrainer", "save/2026-01-31_23-59-58-save-640-8-0.safetensors", {}, {}, ("", 640, 8, False)),
    ("OneTrainer, prefix", "save/flat-2026-01-31_23-59-58-save-640-8-0.safetensors", {}, {}, ("flat-", 640, 8, False)),
    ("OneTrainer, folder of saves", "2026-01-31_23-59-58-save-640-8-0.safetensors", {}, {}, ("", 640, 8, False)),
    ("before the first step", "checkpoint-0/adapter_model.safetensors", {}, {}, ("", 0, None, False)),
    ("ss_steps of zero", "last.safetensors", {"ss_steps": "0"}, {}, ("", 0, None, True)),
]


@pytest.mark.parametrize(
    ("name", "metadata", "beside", "expected"), [row[1:] for row in KNOWN], ids=[r[0] for r in KNOWN]
)
def test_checkpoint_of_each_trainer_is_recognised(
    tmp_path: Path,
    name: str,
    metadata: dict[str, str],
    beside: dict[str, str],
    expected: tuple[str, int, int | None, bool],
) -> None:
    file = write(tmp_path / name, metadata)
    for other, text in beside.items():
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_text(text, encoding="utf-8")

    listing = find_checkpoints(tmp_path)

    (found,) = listing.checkpoints
    assert (found.run, found.training_step, found.epoch, found.final) == expected
    assert found.file == file
    assert found.path == (file.parent if file.parent.name.startswith("checkpoint-") else file)
    assert found.note == ""
    assert (listing.waiting, listing.unrecognised, listing.others) == ((), (), ())


# What, file, header, part of the reason.
UNKNOWN = [
    ("any adapter", "downloaded.safetensors", {}, "its name is that of no trainer's checkpoint"),
    ("epoch without steps", "my-style-000010.safetensors", {}, "it is of epoch 10 and says no training step"),
    ("final without steps", "pytorch_lora_weights.safetensors", {}, "it is the final file and says no training step"),
    ("too few digits", "my-style-step500.safetensors", {}, "its name is that of no trainer's checkpoint"),
    ("training info without step", "a.safetensors", {"training_info": "[1]"}, "its name is that of no trainer's"),
    ("step is no number", "a.safetensors", {"ss_steps": "None"}, "its name is that of no trainer's checkpoint"),
    ("step is negative", "a.safetensors", {"training_info": '{"step": -1}'}, "its name is that of no trainer's"),
    ("step is a truth value", "a.safetensors", {"training_info": '{"step": true}'}, "its name is that of no trainer's"),
]


@pytest.mark.parametrize(("name", "metadata", "reason"), [row[1:] for row in UNKNOWN], ids=[row[0] for row in UNKNOWN])
def test_unknown_name_is_listed_and_never_guessed(
    tmp_path: Path, name: str, metadata: dict[str, str], reason: str
) -> None:
    write(tmp_path / name, metadata)

    listing = find_checkpoints(tmp_path)

    assert listing.checkpoints == ()
    (left,) = listing.unrecognised
    assert left.path == tmp_path / name
    assert reason in left.reason


def test_steps_are_numbers_and_not_text(tmp_path: Path) -> None:
    for training_step in (1000, 900, 10000, 50):
        write(tmp_path / f"checkpoint-{training_step}/pytorch_lora_weights.safetensors")

    assert [one.training_step for one in find_checkpoints(tmp_path).checkpoints] == [50, 900, 1000, 10000]


def test_final_file_comes_after_the_numbered_one_of_the_same_step(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", SD_SCRIPTS)
    write(tmp_path / "a-step00001234.safetensors")

    assert [one.final for one in find_checkpoints(tmp_path).checkpoints] == [False, True]


def test_training_state_samples_and_hidden_files_are_no_checkpoints(tmp_path: Path) -> None:
    for name in ("a-step00000500-state/model.safetensors", "sample/x.png", "backup/b/lora/lora.safetensors", ".a.tmp"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "optimizer.pt").write_bytes(b"x")

    listing = find_checkpoints(tmp_path)

    assert (listing.checkpoints, listing.waiting, listing.unrecognised) == ((), (), ())


def test_folder_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert find_checkpoints(tmp_path / "later").checkpoints == ()


def test_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAFolderError) as caught:
        find_checkpoints(write(tmp_path / "a.safetensors"))

    assert str(caught.value) == (
        f"a trainer's output folder must be named; {tmp_path / 'a.safetensors'} is a file. "
        "Name its folder, or judge the one file with `lorabench run --lora`."
    )


def test_whole_models_pickles_and_folders_without_step_are_told(tmp_path: Path) -> None:
    for name in ("checkpoint-5/model.safetensors", "a-step00000500.ckpt", "checkpoint-best/x"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")

    reasons = {left.path.name: left.reason for left in find_checkpoints(tmp_path).unrecognised}

    assert reasons == {
        "checkpoint-5": "it holds a whole model, not an adapter",
        "a-step00000500.ckpt": "a pickle, which is never loaded; let the trainer save safetensors",
        "checkpoint-best": "a folder named like a checkpoint, without a training step",
    }


def test_name_wins_over_a_header_that_says_otherwise_and_this_is_told(tmp_path: Path) -> None:
    write(tmp_path / "a-step00000500.safetensors", SD_SCRIPTS)

    (found,) = find_checkpoints(tmp_path).checkpoints

    assert found.training_step == 500
    assert found.note == "its name says training step 500, its header 1234; the name is taken"


def test_stated_steps_place_what_says_none(tmp_path: Path) -> None:
    write(tmp_path / "a-000002.safetensors")
    write(tmp_path / "a-000010.safetensors")
    write(tmp_path / "a.safetensors")

    assert len(find_checkpoints(tmp_path).unrecognised) == 3
    listing = find_checkpoints(tmp_path, final_step=850, steps_per_epoch=80)
    assert [(one.training_step, one.note) for one in listing.checkpoints] == [
        (160, "training step as stated per epoch"),
        (800, "training step as stated per epoch"),
        (850, "training step as stated"),
    ]


# ------------------------------------------------------------------------------------------------ several trainings


def test_two_trainings_in_one_folder_are_told_apart_by_name(tmp_path: Path) -> None:
    write(tmp_path / "a-step00000500.safetensors")
    write(tmp_path / "b_000000600.safetensors")
    write(tmp_path / "b.safetensors", AI_TOOLKIT)

    with pytest.raises(SeveralTrainingsError) as caught:
        find_checkpoints(tmp_path)

    assert str(caught.value) == (
        f"a course is one training; {tmp_path} holds checkpoints of 2: 'a', 'b'. Say which one with --name."
    )
    listing = find_checkpoints(tmp_path, name="b")
    assert [one.training_step for one in listing.checkpoints] == [600, 1234]
    assert listing.others == ("a",)
    assert find_checkpoints(tmp_path, name="later").checkpoints == ()


# ------------------------------------------------------------------------------------------------------ completeness


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.99])
def test_file_that_is_still_growing_is_waited_for(tmp_path: Path, share: float) -> None:
    path = write(tmp_path / "a-step00000500.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    listing = find_checkpoints(tmp_path)

    assert (listing.checkpoints, listing.unrecognised) == ((), ())
    (left,) = listing.waiting
    assert "bytes are there" in left.reason

    path.write_bytes(content)
    assert len(find_checkpoints(tmp_path).checkpoints) == 1


def test_every_cut_of_a_file_is_seen(tmp_path: Path) -> None:
    path = write(tmp_path / "a-step00000500.safetensors")
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        assert find_checkpoints(tmp_path).checkpoints == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"x" * 400, "has no valid header"), (None, "bytes, its header declares")],
    ids=["no-header", "too-long"],
)
def test_file_that_can_never_become_whole_is_not_waited_for(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = write(tmp_path / "a-step00000500.safetensors")
    path.write_bytes(path.read_bytes() + b"more" if content is None else content)

    listing = find_checkpoints(tmp_path)

    assert (listing.checkpoints, listing.waiting) == ((), ())
    assert reason in listing.unrecognised[0].reason


@pytest.mark.parametrize(
    ("name", "extra", "reason"),
    [
        ("checkpoint-5-tmp", {}, "the trainer is writing it"),
        ("checkpoint-5", {"checkpoint-is-incomplete.txt": ""}, "the trainer has not marked it as complete"),
        ("checkpoint-5", {"checkpoint_manifest.json": "{}"}, "the trainer has not marked it as complete"),
    ],
)
def test_folder_that_the_trainer_has_not_finished_is_waited_for(
    tmp_path: Path, name: str, extra: dict[str, str], reason: str
) -> None:
    write(tmp_path / name / "pytorch_lora_weights.safetensors")
    for other, text in extra.items():
        (tmp_path / name / other).write_text(text, encoding="utf-8")

    listing = find_checkpoints(tmp_path)

    assert listing.checkpoints == ()
    assert [(left.path.name, left.reason) for left in listing.waiting] == [(name, reason)]


def test_folder_without_adapter_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-5").mkdir()

    assert find_checkpoints(tmp_path).waiting[0].reason == (
        "no pytorch_lora_weights.safetensors or adapter_model.safetensors in it yet"
    )


# ---------------------------------------------------------------------------------------------------------- settling


def test_file_is_settled_when_its_date_is_old_or_when_it_was_watched_long_enough(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors")
    written = path.stat().st_mtime

    assert Settling(5).settled(path, now=written + 5)
    assert not Settling(5).settled(path, now=written + 4.9)
    behind = Settling(5)  # the file server's clock is an hour ahead
    assert not behind.settled(path, now=written - 3600)
    assert not behind.settled(path, now=written - 3596)
    assert behind.settled(path, now=written - 3595)


def test_file_that_changes_is_watched_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors")
    now = path.stat().st_mtime - 100
    settling = Settling(5)

    assert not settling.settled(path, now=now)
    with path.open("ab") as file:
        file.write(b"more")
    assert not settling.settled(path, now=now + 6)
    assert settling.settled(path, now=now + 11)
    path.unlink()
    assert not settling.settled(path, now=now + 20)


# ------------------------------------------------------------------------------------------------------------ digest


def test_digest_is_that_of_the_adapter_and_not_of_name_or_metadata(tmp_path: Path) -> None:
    config = {"lora_adapter_metadata": json.dumps({"transformer.r": 4, "transformer.lora_alpha": 4})}
    one = write(tmp_path / "a-step00000500.safetensors", config)
    same = write(tmp_path / "last.safetensors", {**config, "ss_steps": "500"})
    other = write(tmp_path / "b.safetensors", config, seed=1)

    assert weights_digest(one) == weights_digest(same) == read_adapter(one).info.digest
    assert weights_digest(one) != weights_digest(other)


def test_unusable_adapter_has_a_digest_too(tmp_path: Path) -> None:
    without_alpha, others = write(tmp_path / "a.safetensors"), write(tmp_path / "b.safetensors", seed=1)

    assert len(weights_digest(without_alpha)) == 64
    assert weights_digest(without_alpha) != weights_digest(others)
    assert weights_digest(without_alpha, alpha=4) == read_adapter(without_alpha, alpha=4).info.digest


def test_file_that_went_away_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(LorabenchError, match="found neither at"):
        weights_digest(tmp_path / "gone.safetensors")
