"""What each trainer says about the base it trained on, and how that compares with the base in use."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorabench.generation.adapter import AdapterFile, read_adapter
from lorabench.generation.training_base import family_of, match_base, trained_on, variant_of
from lorabench.records.adapter_health import BaseRelation, TrainedOn

Q = "transformer.transformer_blocks.0.attn.to_q"


def adapter(folder: Path, *, name: str = "a.safetensors", **metadata: str) -> AdapterFile:
    tensors = {f"{Q}.lora_A.weight": np.ones((2, 8), np.float32), f"{Q}.lora_B.weight": np.ones((8, 2), np.float32)}
    save_file(tensors, folder / name, metadata=metadata or None)
    return read_adapter(folder / name, alpha=None if "ss_network_alpha" in metadata or "software" in metadata else 2.0)


def base(folder: Path, name: str, *, pipeline: str = "FluxPipeline", said: str | None = None) -> Path:
    place = folder / name
    place.mkdir()
    index = {"_class_name": pipeline} | ({"_name_or_path": said} if said else {})
    (place / "model_index.json").write_text(json.dumps(index))
    return place


SD_SCRIPTS = {
    "ss_network_alpha": "2",
    "ss_sd_model_name": "flux1-dev.safetensors",
    "ss_base_model_version": "flux1",
    "modelspec.architecture": "flux-1-dev/lora",
}


@pytest.mark.parametrize(
    ("metadata", "family", "variant", "name"),
    [
        (SD_SCRIPTS, "flux", "dev", "flux1-dev.safetensors"),
        ({**SD_SCRIPTS, "ss_sd_model_name": "flux-dev-de-distill.safetensors"}, "flux", "de-distilled", None),
        ({**SD_SCRIPTS, "ss_sd_model_name": "C:\\models\\flux1-krea-dev.safetensors"}, "flux", "krea", None),
        (
            {"ss_network_alpha": "2", "ss_sd_model_name": "ponyDiffusionV6XL.safetensors",
             "ss_base_model_version": "sdxl_base_v1-0"},
            "sdxl", "pony", None,
        ),
        ({"software": '{"name": "ai-toolkit"}', "ss_base_model_version": "flux2_klein_4b"}, "flux2", "klein-4b", None),
        ({"ss_network_alpha": "2", "modelspec.architecture": "stable-diffusion-v1/lora"}, "sd15", None, None),
        ({"ss_network_alpha": "2"}, None, None, None),
    ],
)  # fmt: skip
def test_header_says_family_and_variant(
    metadata: dict[str, str], family: str | None, variant: str | None, name: str | None, tmp_path: Path
) -> None:
    found = trained_on(adapter(tmp_path, **metadata))

    assert (found.family, found.variant) == (family, variant)
    assert name is None or found.name == name
    assert "C:" not in json.dumps(found.model_dump())


def test_peft_configuration_beside_the_file_names_the_base(tmp_path: Path) -> None:
    config = {"r": 2, "lora_alpha": 2, "base_model_name_or_path": "black-forest-labs/FLUX.1-schnell"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save = {f"{Q}.lora_A.weight": np.ones((2, 8), np.float32), f"{Q}.lora_B.weight": np.ones((8, 2), np.float32)}
    save_file(save, tmp_path / "adapter_model.safetensors")

    found = trained_on(read_adapter(tmp_path))

    assert (found.family, found.variant, found.name) == ("flux", "schnell", "black-forest-labs/FLUX.1-schnell")


@pytest.mark.parametrize(
    "line", ["base_model: black-forest-labs/FLUX.1-dev", "base_model:\n- black-forest-labs/FLUX.1-dev"]
)
def test_model_card_beside_the_file_names_the_base(line: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"---\ntags:\n- lora\n{line}\nlicense: other\n---\n# A LoRA\n")

    found = trained_on(adapter(tmp_path, name="pytorch_lora_weights.safetensors"))

    assert found.said_by == {"README.md base_model": "black-forest-labs/FLUX.1-dev"}


def test_configuration_of_onetrainer_and_of_diffusers_name_the_base(tmp_path: Path) -> None:
    one = trained_on(
        adapter(tmp_path, ss_network_alpha="2", ot_config='{"base_model_name": "/mnt/models/FLUX.1-Krea-dev"}')
    )
    two = trained_on(
        adapter(
            tmp_path,
            ss_network_alpha="2",
            lora_adapter_metadata='{"transformer.base_model_name_or_path": "black-forest-labs/FLUX.1-dev"}',
        )
    )

    assert (one.variant, one.name) == ("krea", "FLUX.1-Krea-dev")
    assert two.variant == "dev"


@pytest.mark.parametrize(
    ("used", "relation", "words"),
    [
        ("FLUX.1-dev", BaseRelation.SAME, "the same by name|both are dev"),
        ("flux1-dev", BaseRelation.SAME, "the same by name"),
        ("FLUX.1-schnell", BaseRelation.OTHER_VARIANT, r"another variant \(dev, schnell\)"),
        ("flux-dev-de-distill", BaseRelation.OTHER_VARIANT, r"\(dev, de-distilled\). Judge it on both"),
        ("my-model", BaseRelation.UNKNOWN, "cannot be told from their names"),
    ],
)
def test_base_in_use_is_compared_by_name(used: str, relation: BaseRelation, words: str, tmp_path: Path) -> None:
    import re

    found = match_base(trained_on(adapter(tmp_path, **SD_SCRIPTS)), base(tmp_path, used))

    assert found.relation is relation
    assert re.search(words, found.sentence)


def test_another_family_is_said(tmp_path: Path) -> None:
    found = match_base(
        trained_on(adapter(tmp_path, **SD_SCRIPTS)), base(tmp_path, "xl", pipeline="StableDiffusionXLPipeline")
    )

    assert found.relation is BaseRelation.OTHER_FAMILY
    assert "another family (flux, sdxl)" in found.sentence


def test_hash_of_the_checkpoint_settles_it_whatever_the_names(tmp_path: Path) -> None:
    place = base(tmp_path, "renamed")
    content = bytes(range(256)) * 8192
    (place / "checkpoint.safetensors").write_bytes(content)
    short = hashlib.sha256(content[0x100000 : 0x100000 + 0x10000]).hexdigest()[:8]

    found = match_base(trained_on(adapter(tmp_path, **{**SD_SCRIPTS, "ss_sd_model_hash": short})), place)

    assert found.relation is BaseRelation.SAME
    assert "has the hash in the file" in found.sentence


def test_hub_cache_and_index_name_the_base(tmp_path: Path) -> None:
    cached = tmp_path / "models--black-forest-labs--FLUX.1-schnell" / "snapshots"
    cached.mkdir(parents=True)
    trained = trained_on(adapter(tmp_path, **SD_SCRIPTS))

    by_cache = match_base(trained, base(cached, "0123abcd"))
    by_index = match_base(trained, base(tmp_path, "base", said="black-forest-labs/FLUX.1-schnell"))
    by_id = match_base(trained, "black-forest-labs/FLUX.1-schnell")

    assert {one.relation for one in (by_cache, by_index, by_id)} == {BaseRelation.OTHER_VARIANT}


def test_a_silent_file_is_unknown(tmp_path: Path) -> None:
    found = match_base(TrainedOn(), base(tmp_path, "FLUX.1-dev"))

    assert found.relation is BaseRelation.UNKNOWN
    assert found.sentence == "The file does not say on which base it was trained."


@pytest.mark.parametrize(
    ("text", "family", "variant"),
    [
        ("black-forest-labs/FLUX.2-klein-base-4B", "flux2", "klein-base-4b"),
        ("nyanko7/flux-dev-de-distill", "flux", "de-distilled"),
        ("ostris/Flex.1-alpha", None, "de-distilled"),
        ("stabilityai/stable-diffusion-xl-base-1.0", "sdxl", "base"),
        ("stabilityai/sdxl-turbo", "sdxl", "turbo"),
        ("runwayml/stable-diffusion-v1-5", "sd15", "1.5"),
        ("developer-notes", None, None),
    ],
)
def test_names_that_are_in_use_are_understood(text: str, family: str | None, variant: str | None) -> None:
    assert (family_of(text), variant_of(text)) == (family, variant)
