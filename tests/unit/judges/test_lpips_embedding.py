from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lorabench.judges.lpips_embedding import LpipsEncoder
from lorabench.judges.weights import DamagedWeightsError, MissingWeightsError


@pytest.fixture(scope="module")
def encoder(alex_trunk) -> LpipsEncoder:
    return LpipsEncoder("alex", alex_trunk, device="cpu", size=64)


def test_squared_distance_of_embeddings_is_the_distance(encoder, pictures) -> None:
    vectors = encoder.embed(pictures).astype(np.float64)

    for i in range(3):
        for j in range(3):
            assert np.square(vectors[i] - vectors[j]).sum() == pytest.approx(
                encoder.distance(pictures[i], pictures[j]), abs=1e-7
            )


def test_distance_is_zero_to_itself_and_symmetric(encoder, pictures) -> None:
    assert encoder.distance(pictures[0], pictures[0]) == 0.0
    assert encoder.distance(pictures[0], pictures[1]) == pytest.approx(encoder.distance(pictures[1], pictures[0]))
    assert encoder.distance(pictures[0], pictures[1]) > 0.01


def test_embedding_does_not_depend_on_batch_mates(encoder, pictures) -> None:
    together = encoder.embed(pictures)
    alone = np.concatenate([encoder.embed([picture]) for picture in pictures])

    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_length_at_256_pixels_is_that_of_the_nonzero_channels(alex_trunk, pictures) -> None:
    encoder = LpipsEncoder("alex", alex_trunk, device="cpu")

    vectors = encoder.embed(pictures[:1])

    assert vectors.shape == (1, 434_858)
    assert vectors.dtype == np.float32
    assert encoder.n_features == 434_858


def test_no_pictures_give_an_empty_matrix(encoder) -> None:
    assert encoder.embed([]).shape == (0, encoder.n_features)


def test_pictures_are_resized_with_antialiasing(encoder, pictures) -> None:
    stripes = np.zeros((256, 256, 3), dtype=np.uint8)
    stripes[::2] = 255  # finer than 64 pixels can hold: an antialiased copy is even grey, a plain one is black or white
    grey = np.full((64, 64, 3), 127, dtype=np.uint8)
    black = np.zeros((64, 64, 3), dtype=np.uint8)

    assert encoder.distance(stripes, grey) < 0.1 * encoder.distance(stripes, black)


def test_loading_leaves_the_random_state_alone(alex_trunk) -> None:
    before = torch.random.get_rng_state()

    LpipsEncoder("alex", alex_trunk, device="cpu", size=64)

    assert torch.equal(torch.random.get_rng_state(), before)


def test_autocast_around_a_judge_changes_nothing(encoder, pictures) -> None:
    plain = encoder.embed(pictures[:1])

    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = encoder.embed(pictures[:1])

    np.testing.assert_array_equal(plain, inside)


def test_digest_names_the_tensors_not_the_file(encoder, alex_trunk, tmp_path) -> None:
    tensors = load_file(alex_trunk)
    torch.save(tensors, tmp_path / "same.pth")
    save_file({**tensors, "features.0.bias": tensors["features.0.bias"] + 1}, tmp_path / "other.safetensors")

    same = LpipsEncoder("alex", tmp_path / "same.pth", device="cpu", size=64)
    other = LpipsEncoder("alex", tmp_path / "other.safetensors", device="cpu", size=64)

    assert same.weights_digest == encoder.weights_digest
    assert other.weights_digest != encoder.weights_digest


def test_name_states_net_and_size(encoder) -> None:
    assert encoder.name == "lpips-alex-64px"


def test_without_weights_there_is_an_error_and_no_random_network() -> None:
    with pytest.raises(MissingWeightsError, match=r"must be there before this judge can measure.*weights fetch lpips"):
        LpipsEncoder("alex")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: t.pop("features.8.bias"), r"found no features\.8\.bias"),
        (
            lambda t: t.update({"features.0.bias": torch.ones(3)}),
            r"features\.0\.bias of shape \(3,\) instead of \(64,\)",
        ),
        (lambda t: t["features.3.bias"].fill_(float("nan")), r"NaN or infinity in features\.3\.bias"),
    ],
)
def test_trunk_that_does_not_fit_is_refused(alex_trunk, tmp_path, change, problem) -> None:
    tensors = load_file(alex_trunk)
    change(tensors)
    save_file(tensors, tmp_path / "bad.safetensors")

    with pytest.raises(DamagedWeightsError, match=problem):
        LpipsEncoder("alex", tmp_path / "bad.safetensors")


def test_too_small_a_size_is_refused(alex_trunk) -> None:
    with pytest.raises(ValueError, match="size must be at least 32 pixels"):
        LpipsEncoder("alex", alex_trunk, size=16)


def test_floats_are_refused(encoder) -> None:
    with pytest.raises(ValueError, match="pictures must be uint8 arrays"):
        encoder.embed([np.zeros((64, 64, 3), dtype=np.float32)])
