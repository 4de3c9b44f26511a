"""Small networks with random weights, written the way real ones come, so that loading is the production path."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lorabench.judges.torchvision_compat import declare_missing_operators

WORDS = (
    *("a", "an", "the", "photo", "of", "red", "green", "blue", "circle", "square", "triangle", "cat", "dog"),
    *("left", "right", "above", "below", "and", "on", "in", "with", "table", "grass", "sky", "colored", "object"),
    *(",", ".", ";", ":"),
)


@pytest.fixture(autouse=True)
def no_real_weights(monkeypatch, tmp_path):
    """No test here finds, or fetches, the user's own weights."""
    monkeypatch.setenv("LORABENCH_WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def pictures() -> list[np.ndarray]:
    """Three different pictures, one of them not square."""
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, size=(*size, 3), dtype=np.uint8) for size in ((64, 64), (64, 64), (48, 80))]


@pytest.fixture(scope="session")
def alex_trunk(tmp_path_factory) -> Path:
    """A random AlexNet trunk under torchvision's names."""
    import torch
    from safetensors.torch import save_file

    rng = np.random.default_rng(5)
    shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    tensors = {}
    for index, (out, into, side) in shapes.items():
        kernel = rng.normal(size=(out, into, side, side), scale=(2 / (into * side * side)) ** 0.5)
        tensors[f"features.{index}.weight"] = torch.tensor(kernel, dtype=torch.float32)
        tensors[f"features.{index}.bias"] = torch.tensor(rng.normal(size=out, scale=0.1), dtype=torch.float32)
    path = tmp_path_factory.mktemp("trunk") / "alex.safetensors"
    save_file(tensors, path)
    return path


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    """A tiny open_clip model with a word tokenizer: context of 12 tokens, end token 1."""
    import torch
    from safetensors.torch import save_file

    declare_missing_operators()
    import open_clip

    folder = tmp_path_factory.mktemp("clip") / "tiny"
    folder.mkdir()
    text = {"context_length": 12, "vocab_size": 64, "width": 32, "heads": 2, "layers": 2}
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {**text, "hf_tokenizer_name": "local", "pool_type": "eos", "eos_id": 1, "pad_id": 0},
    }
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    torch.manual_seed(7)
    network = open_clip.CLIP(**config)
    save_file(
        {name: tensor.contiguous() for name, tensor in network.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    save_word_tokenizer(folder)
    return folder


def save_word_tokenizer(folder: Path) -> None:
    """Word tokenizer: 0 pads, 1 ends, 2 is unknown, 3 begins."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["<pad>", "<end>", "<unk>", "<start>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 3), ("<end>", 1)]
    )
    names = {"pad_token": "<pad>", "eos_token": "<end>", "unk_token": "<unk>", "bos_token": "<start>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


@pytest.fixture(scope="session")
def owlv2_folder(tmp_path_factory) -> Path:
    """A tiny OWLv2 with random weights, whose tokenizer knows letters."""
    import torch

    declare_missing_operators()
    import transformers

    folder = tmp_path_factory.mktemp("owl") / "Tiny-Owl"
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    names = ["!", "<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    tokenizer = transformers.CLIPTokenizer(
        vocab={name: index for index, name in enumerate(names)}, merges=[], model_max_length=32, pad_token="!"
    )
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.Owlv2Config(
        text_config={
            **size,
            "vocab_size": len(names),
            "max_position_embeddings": 32,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
        },
        vision_config={**size, "image_size": 64, "patch_size": 16},
        projection_dim=32,
    )
    torch.manual_seed(11)
    transformers.Owlv2ForObjectDetection(config).save_pretrained(folder)
    processor = transformers.Owlv2ImageProcessor(size={"height": 64, "width": 64})
    transformers.Owlv2Processor(processor, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def grounding_dino_folder(tmp_path_factory) -> Path:
    """A tiny Grounding DINO with random weights; its delimiters have the ids that the architecture expects."""
    import torch

    declare_missing_operators()
    import transformers

    folder = tmp_path_factory.mktemp("dino") / "tiny-dino"
    words = [f"[unused{index}]" for index in range(1040)]
    words[0], words[100], words[101], words[102], words[1012], words[1029] = (
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        ".",
        "?",
    )
    for index, word in enumerate(WORDS[:-4]):
        words[200 + index] = word
    tokenizer = transformers.BertTokenizer(vocab={word: index for index, word in enumerate(words)}, do_lower_case=True)
    backbone = transformers.SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2, out_indices=[2, 3, 4]
    )
    text = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    config = transformers.GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        d_model=32,
        num_queries=12,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        max_text_len=16,
        disable_custom_kernels=True,
    )
    torch.manual_seed(13)
    transformers.GroundingDinoForObjectDetection(config).save_pretrained(folder)
    processor = transformers.GroundingDinoImageProcessor(size={"height": 128, "width": 128}, do_pad=False)
    transformers.GroundingDinoProcessor(processor, tokenizer).save_pretrained(folder)
    return folder
