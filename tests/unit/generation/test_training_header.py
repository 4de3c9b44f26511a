"""What a header says of a training, trainer by trainer; paths and prompts stay out."""

from __future__ import annotations

import json

import pytest

from lorabench.generation.training_header import LONGEST, training_header

SD_SCRIPTS = {
    "ss_learning_rate": "0.0001",
    "ss_unet_lr": "4e-4",
    "ss_text_encoder_lr": "[5e-05, 5e-05]",
    "ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1)",
    "ss_steps": "1500",
    "ss_max_train_steps": "3000",
    "ss_epoch": "5",
    "ss_num_train_images": "240",
    "ss_total_batch_size": "4",
    "ss_resolution": "(1024, 1024)",
    "ss_guidance_scale": "1.0",
    "ss_gradient_checkpointing": "True",
    "ss_noise_offset": "None",
    "ss_network_module": "networks.lora_flux",
    "modelspec.architecture": "flux-1-dev",
}


def test_settings_of_sd_scripts_are_kept_as_they_are() -> None:
    modelspec = {"modelspec.architecture": "flux-1-dev/lora"}

    assert training_header(SD_SCRIPTS) == SD_SCRIPTS
    assert training_header(modelspec) == {}, "a slash could be a path"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ss_dataset_dirs", '{"10_my_face": {"n_repeats": 10}}'),
        ("ss_sd_model_name", "/srv/someone/flux.safetensors"),
        ("ss_training_comment", "a portrait of my friend"),
        ("ss_tag_frequency", '{"set": {"a portrait of my friend": 3}}'),
        ("ss_output_name", "my-friend"),
        ("ss_optimizer", "/srv/someone/optimisers.AdamW"),
        ("ss_optimizer", "C:\\someone\\optimisers.AdamW"),
        ("ss_network_module", "~/lora.py"),
        ("ss_network_module", "networks.lora\na portrait of my friend"),
        ("ss_learning_rate", "a portrait of my friend"),
        ("ss_steps", "/srv/someone"),
        ("software", '{"name": "/srv/someone/trainer"}'),
    ],
)
def test_paths_prompts_and_names_stay_out(name: str, value: str) -> None:
    kept = training_header({name: value, "ss_epoch": "2"})

    assert kept.pop("ss_epoch") == "2"
    assert not any(word in str(kept) for word in ("someone", "friend", "face"))


def test_entries_are_short() -> None:
    kept = training_header({"ss_optimizer": "AdamW(" + "betas, " * 900, "ss_text_encoder_lr": "0.1, " * 900})

    assert set(kept) == {"ss_optimizer", "ss_text_encoder_lr"}
    assert all(len(text) <= LONGEST for text in kept.values())


def test_lists_of_data_sets_give_batch_size_resolution_and_pictures_without_repeats() -> None:
    subsets = [
        {"image_dir": "my-friend", "img_count": 20, "num_repeats": 10, "is_reg": False},
        {"image_dir": "people", "img_count": 500, "num_repeats": 1, "is_reg": True},
    ]
    sets = [{"batch_size_per_device": 2, "resolution": [768, 768], "subsets": subsets}]

    kept = training_header({"ss_datasets": json.dumps(sets)})

    assert kept == {"ss_batch_size_per_device": "2", "ss_resolution": "768, 768", "n_pictures": "20"}


def test_folders_of_sd_scripts_are_counted_not_named() -> None:
    folders = {"10_my-friend": {"n_repeats": 10, "img_count": 20}, "1_more": {"n_repeats": 1, "img_count": 4}}

    assert training_header({"ss_dataset_dirs": json.dumps(folders)}) == {"n_pictures": "24"}


def test_one_trainers_configuration_is_read_under_the_usual_names() -> None:
    said = {
        "model_type": "FLUX_DEV_1",
        "learning_rate": 3e-4,
        "learning_rate_scaler": "NONE",
        "epochs": 40,
        "batch_size": 2,
        "gradient_accumulation_steps": 4,
        "resolution": "768",
        "train_dtype": "BFLOAT_16",
        "optimizer": {"optimizer": "ADAMW"},
        "unet": {"train": True, "learning_rate": None},
        "transformer": {"train": True, "learning_rate": 2e-4, "guidance_scale": 3.5},
        "text_encoder": {"train": False, "learning_rate": 1e-4},
        "workspace_dir": "/srv/someone/run",
        "concepts": [{"path": "/srv/someone/my-friend"}],
    }

    assert training_header({"ot_config": json.dumps(said)}) == {
        "ss_learning_rate": "0.0003",
        "ss_unet_lr": "0.0002",
        "ss_num_epochs": "40",
        "ss_batch_size_per_device": "2",
        "ss_gradient_accumulation_steps": "4",
        "ss_resolution": "768",
        "ss_optimizer": "ADAMW",
        "ss_mixed_precision": "bf16",
        "ss_guidance_scale": "3.5",
    }


def test_a_rate_that_one_trainer_scales_is_not_told() -> None:
    said = {"learning_rate": 3e-4, "learning_rate_scaler": "BOTH", "batch_size": 2}

    assert training_header({"ot_config": json.dumps(said)}) == {"ss_batch_size_per_device": "2"}


def test_ai_toolkit_says_its_step_and_itself() -> None:
    header = {
        "training_info": json.dumps({"step": 750, "epoch": 12}),
        "software": json.dumps({"name": "ai-toolkit", "repo": "https://example.org/x", "version": "0.7.2"}),
    }

    assert training_header(header) == {"ss_steps": "750", "ss_epoch": "12", "software": "ai-toolkit 0.7.2"}


@pytest.mark.parametrize("text", ["{", "[]", "null", "7", '"x"', "[[1]]", '{"a": 1}', '[{"subsets": null}]'])
def test_damaged_entries_say_nothing(text: str) -> None:
    names = ("ss_datasets", "ss_dataset_dirs", "ot_config", "training_info")

    assert training_header(dict.fromkeys(names, text)) == {}
