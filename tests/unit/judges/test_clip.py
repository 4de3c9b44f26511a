from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from lorabench.errors import MeasurementError
from lorabench.judges import clip
from lorabench.judges.clip import ClipEncoder, ClipLoadError

LONG = (
    "a photo of a red circle left of a blue square, a green triangle above a dog and the cat on grass; "
    "a table in the sky"
)


@pytest.fixture(scope="module")
def encoder(clip_folder) -> ClipEncoder:
    return ClipEncoder(f"local-dir:{clip_folder}", device="cpu")


def copy_of(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def test_vectors_are_unit_vectors_of_the_models_width(encoder, pictures) -> None:
    for vectors in (encoder.encode_images(pictures), encoder.encode_texts(["a red circle", LONG])):
        assert vectors.dtype == np.float32
        assert vectors.shape[1] == 16
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_nothing_in_gives_nothing_out(encoder) -> None:
    assert encoder.encode_images([]).shape == (0, 16)
    assert encoder.encode_texts([]).shape == (0, 16)


def test_vectors_do_not_depend_on_batch_mates(encoder, pictures) -> None:
    together = encoder.encode_images(pictures)
    alone = np.concatenate([encoder.encode_images([picture]) for picture in pictures])
    texts = ["a red circle", LONG, "a dog"]

    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(
        encoder.encode_texts(texts), np.concatenate([encoder.encode_texts([text]) for text in texts]), atol=1e-6
    )


def test_logit_scale_is_the_models_own(encoder) -> None:
    assert encoder.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)


def test_long_sentence_keeps_its_end_token(encoder) -> None:
    words = "red " * 40

    row = encoder.token_ids(words)

    assert len(row) == encoder.context_length
    assert row[-1] == encoder.end_token_id == 1


def test_long_sentences_that_differ_in_the_end_get_different_vectors(encoder) -> None:
    head = "a photo of a red circle left of a blue square above a green triangle with"

    one, other = encoder.encode_texts([f"{head} a dog", f"{head} a cat"])

    assert np.abs(one - other).max() > 1e-3


def test_sentence_that_fits_stays_whole(encoder) -> None:
    assert encoder.clauses("a red circle, a blue square") == ("a red circle, a blue square",)


def test_long_sentence_is_split_at_punctuation_and_at_and(encoder) -> None:
    assert encoder.clauses(LONG) == (
        "a photo of a red",  # the first clause has 13 tokens with its ends: cut at the word in its middle
        "circle left of a blue square",
        "a green triangle above a dog",
        "the cat on grass",
        "a table in the sky",
    )


def test_every_clause_of_a_long_sentence_fits_and_no_word_is_lost(encoder) -> None:
    for text in (LONG, "red " * 50, "a cat - a dog on grass: the sky and a table in the sky, and the red of the sky"):
        clauses = encoder.clauses(text)

        assert all(sum(token != 0 for token in encoder.token_ids(clause)) <= 12 for clause in clauses)
        kept = [word for word in " ".join(clauses).split() if word != "and"]
        assert kept == [word for word in text.translate(str.maketrans(",;:-", "    ")).split() if word != "and"]


def test_vector_of_a_long_sentence_is_the_normalised_mean_of_its_clauses(encoder) -> None:
    mean = encoder.encode_texts(encoder.clauses(LONG)).mean(axis=0)

    np.testing.assert_allclose(encoder.encode_texts([LONG])[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_empty_sentence_is_refused(encoder) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        encoder.encode_texts(["  "])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_only_bytes_are_pictures(encoder, dtype) -> None:
    with pytest.raises(ValueError, match=r"pictures must be uint8 arrays, 0 to 255; found \w+ at index 1"):
        encoder.encode_images([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), dtype)])


def test_shape_of_pictures_is_checked(encoder) -> None:
    with pytest.raises(ValueError, match=r"shape \(height, width, 3\), RGB; found \(8, 8\) at index 0"):
        encoder.encode_images([np.zeros((8, 8), np.uint8)])


def test_digest_names_weights_tokenizer_and_preprocessing(encoder, clip_folder, tmp_path) -> None:
    same = ClipEncoder(f"local-dir:{copy_of(clip_folder, tmp_path / 'same')}", device="cpu")
    words = copy_of(clip_folder, tmp_path / "words")
    tokenizer = words / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"grass"', '"lawn"'))
    colours = copy_of(clip_folder, tmp_path / "colours")
    config = colours / "open_clip_config.json"
    config.write_text(config.read_text().replace('"mean": [0.5', '"mean": [0.4'))

    digests = {ClipEncoder(f"local-dir:{folder}", device="cpu").weights_digest for folder in (words, colours)}

    assert same.weights_digest == encoder.weights_digest
    assert len(digests | {encoder.weights_digest}) == 3


def test_loading_leaves_the_random_state_alone(clip_folder) -> None:
    before = torch.random.get_rng_state()

    ClipEncoder(f"local-dir:{clip_folder}", device="cpu")

    assert torch.equal(torch.random.get_rng_state(), before)


def test_folder_without_weights_is_refused_not_filled_at_random(clip_folder, tmp_path) -> None:
    folder = copy_of(clip_folder, tmp_path / "bare")
    (folder / "open_clip_model.safetensors").unlink()

    with pytest.raises(
        ClipLoadError, match=r"judges\.clip must name an open_clip model with its weights.*could not be loaded"
    ):
        ClipEncoder(f"local-dir:{folder}")


def test_missing_folder_is_said_in_words(tmp_path) -> None:
    with pytest.raises(ClipLoadError, match=r"not found.*local-dir:<folder"):
        ClipEncoder(f"local-dir:{tmp_path / 'nowhere'}")


def test_weights_of_another_shape_are_refused(clip_folder, tmp_path) -> None:
    folder = copy_of(clip_folder, tmp_path / "wide")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["embed_dim"] = 20
    (folder / "open_clip_config.json").write_text(json.dumps(config))

    with pytest.raises(ClipLoadError, match="state_dict"):
        ClipEncoder(f"local-dir:{folder}")


def test_folder_without_tokenizer_is_refused(clip_folder, tmp_path) -> None:
    folder = copy_of(clip_folder, tmp_path / "mute")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()

    with pytest.raises(ClipLoadError, match=r"its tokenizer: .*Put the tokenizer's files beside the weights"):
        ClipEncoder(f"local-dir:{folder}")


def test_tag_beside_a_folder_is_refused(clip_folder) -> None:
    with pytest.raises(ClipLoadError, match="clip_pretrained is 'openai' beside a local folder"):
        ClipEncoder(f"local-dir:{clip_folder}", "openai")


def test_model_without_named_weights_is_refused_with_its_tags() -> None:
    with pytest.raises(ClipLoadError, match=r"no weights are named.*clip_pretrained.*openai"):
        ClipEncoder("ViT-B-32")


def test_unknown_model_is_refused() -> None:
    with pytest.raises(ClipLoadError, match="not found in built-ins"):
        ClipEncoder("ViT-Z-1", "openai")


def test_weights_trained_without_quickgelu_are_refused_under_a_quickgelu_name(monkeypatch) -> None:
    import open_clip

    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda *_: {"url": "x"})

    with pytest.raises(ClipLoadError, match=r"trained without QuickGELU\. Write 'ViT-B-32' instead"):
        ClipEncoder("ViT-B-32-quickgelu", "laion2b_s34b_b79k")


@pytest.fixture
def openai_tiny(clip_folder, tmp_path, monkeypatch) -> str:
    """A small built-in model `tiny-openai` whose tag `openai` says QuickGELU, as the real ones do."""
    import open_clip
    import open_clip.factory

    config = json.loads((clip_folder / "open_clip_config.json").read_text())["model_cfg"]
    config["text_cfg"]["hf_tokenizer_name"] = str(clip_folder)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-openai", config)
    tag = {"quick_gelu": True}
    for module in (open_clip, open_clip.factory):
        monkeypatch.setattr(module, "get_pretrained_cfg", lambda *_: dict(tag))
    weights = str(clip_folder / "open_clip_model.safetensors")
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *_, **__: weights)
    return "tiny-openai"


def test_openai_weights_switch_quickgelu_on_and_say_so(openai_tiny) -> None:
    from open_clip.transformer import QuickGELU

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="QuickGELU mismatch")
        encoder = ClipEncoder(openai_tiny, "openai", device="cpu")

    assert any(isinstance(module, QuickGELU) for module in encoder._model.modules())
    assert encoder.notes == ("QuickGELU switched on: weights 'openai' were trained with it, 'tiny-openai' has it off",)


def test_activation_changes_the_digest(openai_tiny, encoder) -> None:
    assert ClipEncoder(openai_tiny, "openai", device="cpu").weights_digest != encoder.weights_digest
    assert encoder.notes == ()


def test_tokenizer_that_cuts_the_end_token_off_is_refused(encoder, monkeypatch) -> None:
    def cutting(texts, context_length=12):
        return torch.full((len(texts), context_length), 7)

    cutting.context_length = 12
    cutting.eot_token_id = 1
    monkeypatch.setattr(encoder, "_tokenizer", cutting)

    with pytest.raises(ClipLoadError, match="drops the end token of long text"):
        encoder.token_ids("red")


def test_vectors_that_are_not_finite_are_refused() -> None:
    with pytest.raises(MeasurementError, match="CLIP vectors must be finite and not zero"):
        clip._unit(np.array([[np.nan, 1.0]], dtype=np.float32))
