"""How much a set of pictures follows its prompts, and how much of that an adapter has lost.

References:
    G. J. Szekely and M. L. Rizzo, Energy statistics, J. Statistical Planning and Inference 143 (2013) 1249-1272.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorabench.metrics.reading import Missing

Floats = NDArray[np.float64]

LEAST_SE: Final = 3.0
"""Standard errors by which the control must respond to the prompt."""
LEAST_CASES: Final = 5


def distance_matrix(vectors: NDArray[Any], others: NDArray[Any] | None = None) -> Floats:
    """Euclidean distances between the rows of (n, d) and of (m, d), or among the rows: (n, m) or (n, n).

    One centred matrix product in the vectors' own precision, so that hundreds of embeddings stay cheap.
    """
    right = vectors if others is None else others
    centre = right.mean(axis=0)
    a, b = vectors - centre, right - centre
    squares = np.einsum("nd,nd->n", a, a)[:, None] + np.einsum("md,md->m", b, b)[None, :] - 2.0 * (a @ b.T)
    distances = np.sqrt(np.maximum(squares, 0.0)).astype(np.float64)
    if others is None:
        np.fill_diagonal(distances, 0.0)
    return np.asarray(distances)


@dataclass(frozen=True, slots=True)
class PromptResponse:
    """How much pictures follow their prompts, from distances between them: between cases minus within cases.

    An energy-type statistic: 0 on average where prompts make no difference, whatever the seeds do.

    Attributes:
        distances: (n, n), symmetric.
        cases: Case number of each picture, (n,).
    """

    distances: Floats
    cases: NDArray[np.intp]

    def __post_init__(self) -> None:
        """Refuse shapes that do not fit, and groups without two cases and two seeds."""
        n = len(self.cases)
        if self.distances.shape != (n, n):
            msg = f"distances must be ({n}, {n}) for {n} pictures; got {self.distances.shape}. Pass one row each."
            raise ValueError(msg)
        counts = np.unique(self.cases, return_counts=True)[1]
        if len(counts) < 2 or counts.max() < 2:
            msg = f"a response needs 2 cases and 2 seeds in one of them; got {counts.tolist()} pictures. Add seeds."
            raise ValueError(msg)

    def of(self, weights: ArrayLike | None = None) -> Floats:
        """The response, for resamples given as weights.

        Args:
            weights: How often each picture was drawn, (r, n); None is once each.

        Returns:
            (r,), in the unit of the distances. A picture is never compared with itself, so repeated draws add no
            zero distances. NaN where a resample leaves one case, or no two seeds of a case.
        """
        w = np.ones((1, len(self.cases))) if weights is None else np.atleast_2d(np.asarray(weights, dtype=np.float64))
        same = self.cases[:, None] == self.cases[None, :]
        between, within = ~same, same & ~np.eye(len(same), dtype=bool)
        return self._mean(w, between) - self._mean(w, within)

    def standard_error(self) -> float:
        """Jackknife standard error of the response, one case left out at a time."""
        labels = np.unique(self.cases)
        values = self.of(np.stack([self.cases != label for label in labels]))
        k = len(labels)
        return math.sqrt((k - 1) / k * float(np.sum((values - values.mean()) ** 2)))

    def _mean(self, w: Floats, pairs: NDArray[np.bool_]) -> Floats:
        totals = np.einsum("rn,rn->r", w @ (self.distances * pairs), w)  # (r,)
        counts = np.einsum("rn,rn->r", w @ pairs.astype(np.float64), w)  # (r,)
        return np.asarray(np.divide(totals, counts, out=np.full(len(w), np.nan), where=counts > 0))


def collapse_problem(control: PromptResponse) -> str | None:
    """Why a collapse cannot be read against this control; None if it can.

    Returns:
        A reason where there are fewer than five cases, or where the control itself responds to the prompt by no
        more than three standard errors.
    """
    n_cases = len(np.unique(control.cases))
    if n_cases < LEAST_CASES:
        return f"a collapse needs at least {LEAST_CASES} cases; found {n_cases}. Add cases to the suite."
    response, error = float(control.of()[0]), control.standard_error()
    if not response > LEAST_SE * error:
        return (
            f"the control must follow the prompts by more than {LEAST_SE:g} standard errors; its response is "
            f"{response:.4g} with a standard error of {error:.3g}. Use prompts that differ more, or more cases."
        )
    return None


def collapse(candidate: PromptResponse, control: PromptResponse) -> float | Missing:
    """How much of the control's response to the prompt the candidate has lost.

    Args:
        candidate: Response of the candidate's pictures.
        control: Response of the control's pictures of the same cases and seeds, in the same order.

    Returns:
        1 - candidate / control: 0 as responsive as the control, 1 the prompt does not matter, below 0 more
        responsive. Or why it cannot be read.
    """
    if problem := collapse_problem(control):
        return Missing(problem)
    return float(collapse_index(candidate, control)[0])


def collapse_index(candidate: PromptResponse, control: PromptResponse, *, rows: ArrayLike | None = None) -> Floats:
    """The collapse without its guard, for resamples of data that passed it once.

    Args:
        candidate: Response of the candidate's pictures, n of them.
        control: Response of the control's pictures, the same cases and seeds in the same order.
        rows: Numbers of the pictures drawn, (r, ...): all axes after the first belong to one resample. None: all
            pictures once.

    Returns:
        (r,), or (1,) without `rows`.

    Raises:
        ValueError: The arms do not hold the same cases.
    """
    if not np.array_equal(candidate.cases, control.cases):
        msg = "collapse compares the same cases and seeds in both arms; the arms differ. Drop unpaired pictures first."
        raise ValueError(msg)
    weights = None if rows is None else _draw_counts(np.asarray(rows), n=len(control.cases))
    return np.asarray(1.0 - candidate.of(weights) / control.of(weights))


def _draw_counts(rows: NDArray[np.intp], *, n: int) -> Floats:
    drawn = rows.reshape(len(rows), -1)
    counts = np.zeros((len(drawn), n))
    np.add.at(counts, (np.arange(len(drawn))[:, None], drawn), 1.0)
    return counts
