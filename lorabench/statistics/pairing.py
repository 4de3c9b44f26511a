"""Pairs of pictures, and their one mean per case."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorabench.errors import MeasurementError

N_NAMED = 3


class UnpairedError(MeasurementError):
    """Two arms do not hold the same cells, so they cannot be compared.

    Attributes:
        missing: The (case, seed) keys that only one arm holds, sorted.
    """

    def __init__(self, missing: tuple[tuple[str, int], ...]) -> None:
        """Build the message from the cells without a partner."""
        self.missing = missing
        first = ", ".join(f"{case}/seed{seed}" for case, seed in missing[:N_NAMED])
        super().__init__(
            f"paired comparison needs the same cells in both arms; {len(missing)} have no partner (first: {first}). "
            "Re-run both arms from one plan."
        )

    def __reduce__(self) -> tuple[type["UnpairedError"], tuple[tuple[tuple[str, int], ...]]]:
        """Travel between processes by the field, not by the message."""
        return type(self), (self.missing,)


class NoPairsError(MeasurementError):
    """There is nothing to compare."""

    def __init__(self) -> None:
        """Build the message; nothing was found, so nothing is named."""
        super().__init__(
            "comparison needs at least one pair; found none. "
            "Check that the metric could be measured on any cell of both arms."
        )

    def __reduce__(self) -> tuple[type["NoPairsError"], tuple[()]]:
        """Travel between processes without arguments."""
        return type(self), ()


class NotFiniteError(MeasurementError):
    """A difference is NaN or infinite.

    Attributes:
        cases: The case of each such difference, in the order given.
        n_pairs: How many pairs were given.
    """

    def __init__(self, cases: tuple[str, ...], n_pairs: int) -> None:
        """Build the message from the cases concerned."""
        self.cases = cases
        self.n_pairs = n_pairs
        first = ", ".join(cases[:N_NAMED])
        super().__init__(
            f"differences must be finite; {len(cases)} of {n_pairs} pairs are NaN or infinite (first cases: {first}). "
            "Record the value as unmeasured where it arises."
        )

    def __reduce__(self) -> tuple[type["NotFiniteError"], tuple[tuple[str, ...], int]]:
        """Travel between processes by the fields, not by the message."""
        return type(self), (self.cases, self.n_pairs)


def paired_differences(
    candidate: Mapping[tuple[str, int], float],
    reference: Mapping[tuple[str, int], float],
) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Subtract the reference from the candidate, cell by cell.

    >>> paired_differences({("p1", 7): 0.5, ("p1", 8): 0.25}, {("p1", 8): 0.5, ("p1", 7): 0.5})
    (array([ 0.  , -0.25]), array(['p1', 'p1'], dtype='<U2'))

    Args:
        candidate: Value of each (case, seed) cell in the candidate's arm, in the metric's unit.
        reference: The same of the reference's arm.

    Returns:
        Differences, shape (n,), in the metric's unit with raw sign, and the case of each, shape (n,); both sorted
        by case, then seed, so that they do not depend on the order of the mappings.

    Raises:
        UnpairedError: A cell stands in one arm only.
        NoPairsError: Both arms are empty.
    """
    missing = candidate.keys() ^ reference.keys()
    if missing:
        raise UnpairedError(tuple(sorted(missing)))
    if not candidate:
        raise NoPairsError
    keys = sorted(candidate)
    differences = np.array([candidate[key] - reference[key] for key in keys], dtype=np.float64)
    return differences, np.array([case for case, _ in keys])


def cluster_means(differences: ArrayLike, clusters: ArrayLike) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Average the pairs of each case.

    The sums are exactly rounded, so that the means do not depend on the order of the pairs, not even in the last bit.

    >>> means, labels = cluster_means([0.25, 0.75, 2.0], ["p1", "p1", "p2"])
    >>> means.tolist(), labels.tolist()
    ([0.5, 2.0], ['p1', 'p2'])

    Args:
        differences: Candidate minus reference, shape (n,), in the metric's unit.
        clusters: The case of each difference, shape (n,); any type that sorts.

    Returns:
        One mean per case, shape (k,), in the metric's unit, and the cases, shape (k,), sorted.

    Raises:
        ValueError: The two arrays do not have one shape (n,).
        NoPairsError: There is no difference.
        NotFiniteError: A difference is NaN or infinite.
    """
    values, labels, member = _validated(differences, clusters)
    by_case: list[list[float]] = [[] for _ in labels]
    for value, case in zip(values.tolist(), member.tolist(), strict=True):
        by_case[case].append(value)
    return np.array([math.fsum(of_case) / len(of_case) for of_case in by_case]), labels  # (k,), (k,)


def cluster_sizes(clusters: ArrayLike) -> NDArray[np.int64]:
    """Count the pairs of each case.

    Args:
        clusters: The case of each pair, shape (n,).

    Returns:
        Counts, shape (k,), in the order of the labels of `cluster_means`.
    """
    return np.unique(np.asarray(clusters), return_counts=True)[1].astype(np.int64)


def pair_correlation(candidate: ArrayLike, reference: ArrayLike) -> float | None:
    """Correlate the two arms over pairs: what common noise was worth.

    If both arms vary alike, pairing multiplies the variance of a difference by 1 - correlation.

    >>> pair_correlation([1.0, 2.0, 4.0], [2.0, 4.0, 8.0])
    1.0

    Args:
        candidate: The candidate's values, shape (n,).
        reference: The reference's values of the same cells, shape (n,).

    Returns:
        Pearson's correlation in [-1, 1]; None where one arm does not vary, so that it does not exist.

    Raises:
        ValueError: The two arrays do not have one shape (n,).
    """
    first, second = np.asarray(candidate, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        msg = (
            f"candidate and reference must both have shape (n,); got {first.shape} and {second.shape}. "
            "Give both arms one value per pair."
        )
        raise ValueError(msg)
    if first.size < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.clip(np.corrcoef(first, second)[0, 1], -1.0, 1.0))


def _validated(
    differences: ArrayLike, clusters: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[np.intp]]:
    values = np.asarray(differences, dtype=np.float64)
    cases = np.asarray(clusters)
    if values.ndim != 1 or values.shape != cases.shape:
        msg = (
            f"differences and clusters must both have shape (n,); got {values.shape} and {cases.shape}. "
            "Give each pair its difference and its case."
        )
        raise ValueError(msg)
    if values.size == 0:
        raise NoPairsError
    finite = np.isfinite(values)
    if not finite.all():
        raise NotFiniteError(tuple(str(case) for case in cases[~finite]), values.size)
    labels, member = np.unique(cases, return_inverse=True)
    return values, labels, member
