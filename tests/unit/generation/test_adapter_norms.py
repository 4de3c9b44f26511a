"""Norms, singular values and effective ranks on factors whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from lorabench.generation.adapter_norms import effective_rank, singular_values


def factors(values: list[float], *, n_inputs: int = 12, n_outputs: int = 9, seed: int = 0) -> tuple[np.ndarray, ...]:
    """A and B of a product with exactly these singular values, in a basis that neither factor shows."""
    rng = np.random.default_rng(seed)
    rank = len(values)
    left = np.linalg.qr(rng.normal(size=(n_outputs, rank)))[0]
    right = np.linalg.qr(rng.normal(size=(n_inputs, rank)))[0]
    mixing = rng.normal(size=(rank, rank)) + 3 * np.eye(rank)
    return np.linalg.solve(mixing, np.diag(values) @ right.T), left @ mixing


def test_singular_values_are_those_of_the_product() -> None:
    down, up = factors([5.0, 2.0, 0.5])

    assert singular_values(down, up, scaling=1.0) == pytest.approx([5.0, 2.0, 0.5], rel=1e-9)
    assert singular_values(down, up, scaling=-2.0) == pytest.approx([10.0, 4.0, 1.0], rel=1e-9)


def test_singular_values_agree_with_the_full_product_of_any_shape() -> None:
    rng = np.random.default_rng(3)
    for n_outputs, n_inputs, rank in [(4, 30, 6), (30, 4, 6), (20, 20, 3)]:
        down, up = rng.normal(size=(rank, n_inputs)), rng.normal(size=(n_outputs, rank))
        full = np.linalg.svd(up @ down, compute_uv=False)
        found = singular_values(down, up, scaling=1.0)
        assert found == pytest.approx(full[: len(found)], rel=1e-9, abs=1e-9)


def test_convolution_counts_as_the_matrix_it_multiplies_patches_with() -> None:
    rng = np.random.default_rng(4)
    down, up = rng.normal(size=(2, 3, 3, 3)), rng.normal(size=(5, 2, 1, 1))
    full = np.einsum("or,rihw->oihw", up[:, :, 0, 0], down).reshape(5, -1)

    assert np.sqrt((singular_values(down, up, scaling=1.0) ** 2).sum()) == pytest.approx(np.linalg.norm(full))


@pytest.mark.parametrize(
    ("values", "rank"),
    [([1.0, 1.0, 1.0, 1.0], 4.0), ([7.0, 0.0, 0.0], 1.0), ([0.0, 0.0], 0.0), ([2.0, 1.0, 1.0], 2**1.5)],
)
def test_effective_rank_is_the_exponential_of_the_entropy(values: list[float], rank: float) -> None:
    assert effective_rank(np.array(values)) == pytest.approx(rank)


def test_factors_of_different_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match="A and B must have the same rank; found 2 and 3"):
        singular_values(np.zeros((2, 4)), np.zeros((4, 3)), scaling=1.0)
