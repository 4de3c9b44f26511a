"""How much pictures differ from seed to seed and from prompt to prompt, in composition only.

References:
    D. Friedman and A. B. Dieng, The Vendi Score: a diversity evaluation metric for machine learning, TMLR 2023, arXiv
    2210.02410, eq. 2; A. P. Pasarkar and A. B. Dieng, Cousins of the Vendi Score, AISTATS 2024, arXiv 2310.12952, for
    other orders.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorabench.metrics.response import distance_matrix
from lorabench.records.measurement import Metric

Floats = NDArray[np.float64]

SEED_COLLAPSE: Final = Metric(
    name="seed_collapse",
    version=1,
    higher_is_better=False,
    unit="index",
    level="set",
    summary="0: seeds differ in composition as in the control; 1: every seed the same picture",
)
CASE_SPREAD_RATIO: Final = Metric(
    name="case_spread_ratio",
    version=1,
    higher_is_better=True,
    unit="log ratio",
    level="set",
    summary="0: prompts differ in composition as in the control; -0.7: half as much",
)
ETA_SQUARED: Final = Metric(
    name="eta_squared",
    version=1,
    higher_is_better=True,
    unit="share",
    level="set",
    summary="share of the spread that is the prompt's, candidate minus control",
)
VENDI_RATIO: Final = Metric(
    name="vendi_ratio",
    version=1,
    higher_is_better=True,
    unit="log ratio",
    level="set",
    summary="0: as many distinct compositions as the control; -0.7: half as many",
)

LEAST_CASES: Final = 6
"""Cases with two seeds or more: under six, no interval over cases is worth its name."""


@dataclass(frozen=True, slots=True)
class CaseSpread:
    """Distances between the pictures of an arm, summed up by case.

    Attributes:
        within: Mean distance between two seeds of each case, (k,); NaN for a case with one seed.
        between: Mean distance of two cases at the same seed, (k, k), symmetric; NaN where they share no seed, and on
            the diagonal.
    """

    within: Floats
    between: Floats

    def intra(self, weights: ArrayLike | None = None) -> Floats:
        """Mean over cases of the distance between seeds, for resamples of whole cases.

        Args:
            weights: How often each case was drawn, (r, k); None is once each.

        Returns:
            (r,); NaN where a resample has no case with two seeds.
        """
        w = self._weights(weights)
        return _mean(w, np.isfinite(self.within), np.nan_to_num(self.within))

    def inter(self, weights: ArrayLike | None = None) -> Floats:
        """Mean over pairs of different cases of their distance at the same seed; arguments and returns as `intra`.

        A case is never compared with its own twin in a resample.
        """
        w = self._weights(weights)
        known = np.isfinite(self.between).astype(np.float64)
        counts = np.einsum("rk,rk->r", w @ known, w)
        totals = np.einsum("rk,rk->r", w @ np.nan_to_num(self.between), w)
        return np.asarray(np.divide(totals, counts, out=np.full(len(w), np.nan), where=counts > 0))

    def eta_squared(self, weights: ArrayLike | None = None) -> Floats:
        """Share of the spread that is the prompt's, (inter - intra) / inter; arguments and returns as `intra`.

        0 where two prompts differ no more than two seeds of one prompt; 1 where seeds do not matter; NaN where no two
        pictures differ.
        """
        inter = self.inter(weights)
        rest = inter - self.intra(weights)
        return np.asarray(np.divide(rest, inter, out=np.full(len(inter), np.nan), where=inter > 0))

    def _weights(self, weights: ArrayLike | None) -> Floats:
        w = np.ones((1, len(self.within))) if weights is None else np.asarray(weights, dtype=np.float64)
        return np.atleast_2d(w)


def case_spread(vectors: NDArray[Any], cases: NDArray[np.intp], seeds: NDArray[np.int64]) -> CaseSpread:
    """Sum distances between pictures up by case.

    Args:
        vectors: Descriptors, (n, d); the distance is Euclidean.
        cases: Number of each picture's case, (n,), 0 to k - 1.
        seeds: Each picture's seed, (n,); no case has a seed twice.

    Raises:
        ValueError: The three do not have one length.
    """
    if not len(vectors) == len(cases) == len(seeds):
        msg = f"every picture needs a case and a seed; got {len(vectors)} pictures, {len(cases)} cases, {len(seeds)}."
        raise ValueError(f"{msg} Pass one of each.")
    distances = _exact_zeros(distance_matrix(vectors), vectors)
    n_cases = int(cases.max()) + 1 if len(cases) else 0
    member = np.eye(n_cases)[cases]  # (n, k)
    twin = ~np.eye(len(cases), dtype=bool)
    same = (cases[:, None] == cases[None, :]) & twin
    within = _ratio(
        np.einsum("nk,nk->k", (distances * same) @ member, member),
        np.einsum("nk,nk->k", same.astype(np.float64) @ member, member),
    )
    aligned = (cases[:, None] != cases[None, :]) & (seeds[:, None] == seeds[None, :])
    between = _ratio(member.T @ (distances * aligned) @ member, member.T @ aligned.astype(np.float64) @ member)
    return CaseSpread(within=within, between=between)


def similarity_kernel(vectors: NDArray[Any]) -> Floats:
    """Cosines between descriptors (n, d): (n, n), with ones on the diagonal.

    Descriptors of pictures without edges are all zeros; they are alike among themselves and unlike all others.
    """
    v = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(v, axis=1, keepdims=True)
    empty = lengths == 0
    unit = np.concatenate([np.divide(v, lengths, out=np.zeros_like(v), where=~empty), empty.astype(np.float64)], axis=1)
    kernel = unit @ unit.T
    np.fill_diagonal(kernel, 1.0)
    return np.asarray(kernel)


def vendi_score(kernel: ArrayLike, *, order: float = 1.0) -> float:
    """The effective number of distinct things in a set.

    >>> round(vendi_score(np.eye(4)), 6), round(vendi_score(np.ones((4, 4))), 6)
    (4.0, 1.0)

    Args:
        kernel: Similarities, (n, n), positive semidefinite, ones on the diagonal.
        order: 1 is the exponential of the eigenvalues' Shannon entropy; infinity looks at the largest one alone.

    Returns:
        1 (all alike) to n (all different). It grows with n: compare sets of one size only.

    Raises:
        ValueError: No square kernel with ones on the diagonal, or an order of 0 or less.
    """
    k = np.asarray(kernel, dtype=np.float64)
    if k.ndim != 2 or k.shape[0] != k.shape[1] or not len(k) or not np.allclose(np.diag(k), 1.0):
        msg = f"a kernel must be square with ones on the diagonal; got shape {k.shape}. Normalise the descriptors."
        raise ValueError(msg)
    if order <= 0:
        msg = f"a Vendi score's order must be above 0; got {order}. Use 1."
        raise ValueError(msg)
    values = np.clip(np.linalg.eigvalsh(k / len(k)), 0.0, None)
    values = values[values > 1e-12]
    if order == 1.0:
        return float(math.exp(-float(np.sum(values * np.log(values)))))
    if math.isinf(order):
        return float(1.0 / values.max())
    return float(np.sum(values**order) ** (1.0 / (1.0 - order)))


def _exact_zeros(distances: Floats, vectors: NDArray[Any]) -> Floats:
    """A matrix product leaves rounding between equal rows; put the zeros back."""
    _, labels = np.unique(vectors, axis=0, return_inverse=True)
    flat = labels.ravel()
    return np.where(flat[:, None] == flat[None, :], 0.0, distances)


def _ratio(totals: Floats, counts: Floats) -> Floats:
    return np.asarray(np.divide(totals, counts, out=np.full(totals.shape, np.nan), where=counts > 0))


def _mean(w: Floats, known: NDArray[np.bool_], values: Floats) -> Floats:
    counts = w @ known.astype(np.float64)
    return np.asarray(np.divide(w @ (values * known), counts, out=np.full(len(w), np.nan), where=counts > 0))
