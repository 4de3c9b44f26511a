"""Does the picture fit its prompt better than sentences that are false of it? And can the judge tell at all?

A style shifts the similarity to a prompt and to its foils alike, so the margin keeps still where plain similarity
moves.

References:
    T. Thrush et al., Winoground, CVPR 2022, arXiv 2204.03162; X. Zhu et al., Winoground-T2I, arXiv 2312.02338.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorabench.metrics.text_similarity import check_unit
from lorabench.records.measurement import Metric, SelfTest

FOIL_ACCURACY_SCORE: Final = Metric(
    name="foil_accuracy_score",
    version=1,
    higher_is_better=True,
    unit="probability",
    summary="probability of the prompt among its foils",
)
FOIL_WIN_RATE: Final = Metric(
    name="foil_win_rate",
    version=1,
    higher_is_better=True,
    unit="share",
    summary="1 where the picture fits its prompt better than every foil",
)


@dataclass(frozen=True, slots=True)
class FoilReading:
    """One picture against its prompt and foils.

    Attributes:
        margin: Cosine with the prompt minus the best cosine with a foil, -2 to 2.
        accuracy: Softmax probability of the prompt among prompt and foils, 0 to 1.
        win: Whether the margin is positive.
    """

    margin: float
    accuracy: float
    win: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """One control picture of a case against the foils of one kind.

    Attributes:
        case: Its case.
        family: The case's family.
        foil_kind: In what the foils differ.
        win: Whether the prompt beat all of them.
        n_foils: How many there were.
    """

    case: str
    family: str
    foil_kind: str
    win: bool
    n_foils: int


def foil_reading(image: NDArray[Any], prompt: NDArray[Any], foils: NDArray[Any], *, logit_scale: float) -> FoilReading:
    """Read one picture against its prompt and foils.

    Args:
        image: Unit vector, (d,).
        prompt: Unit vector of the prompt, (d,).
        foils: Unit vectors of the foils, (j, d), at least one.
        logit_scale: The encoder's factor on cosines (one over its temperature).

    Returns:
        Margin, soft accuracy and win.

    Raises:
        ValueError: No foils, vectors not of unit length, or a scale that is not positive.
    """
    if foils.ndim != 2 or len(foils) == 0 or logit_scale <= 0:
        msg = f"a reading needs foils (j, d) and a positive scale; got {foils.shape} and {logit_scale}. Add foils."
        raise ValueError(msg)
    texts = np.concatenate([prompt[None], foils]).astype(np.float64)
    check_unit(np.concatenate([image[None], texts]))
    return reading_of_cosines(texts @ image.astype(np.float64), logit_scale=logit_scale)


def reading_of_cosines(cosines: ArrayLike, *, logit_scale: float) -> FoilReading:
    """As `foil_reading`, from cosines with the prompt (first) and the foils, (1 + j,)."""
    values = np.asarray(cosines, dtype=np.float64)
    margin = float(values[0] - values[1:].max())
    odds = np.exp(logit_scale * (values - values.max()))
    return FoilReading(margin=margin, accuracy=float(odds[0] / odds.sum()), win=margin > 0)


def judge_self_test(trials: Sequence[Trial], *, judge: str, significance_level: float = 0.05) -> tuple[SelfTest, ...]:
    """Test, on control pictures, whether a judge beats chance: by family and kind of foil.

    The case is the unit: it is won if more than half of its pictures are. A judge that guesses wins a case with
    probability 1 / (1 + foils) at most, whether its seeds agree or not, so the exact test over cases keeps its
    level.

    Args:
        trials: One per control picture and kind of foil.
        judge: Name of the judge.
        significance_level: Largest p-value at which the judge counts as usable.

    Returns:
        One test per family and kind, in order of appearance. `win_rate` is the mean over cases of the share of
        pictures won; `chance` the mean over cases of 1 / (1 + foils).
    """
    groups: dict[tuple[str, str], dict[str, list[Trial]]] = defaultdict(lambda: defaultdict(list))
    for trial in trials:
        groups[trial.family, trial.foil_kind][trial.case].append(trial)
    return tuple(
        _tested(list(cases.values()), judge=judge, significance_level=significance_level) for cases in groups.values()
    )


def beats_chance(won: Sequence[bool], chances: Sequence[float]) -> float:
    """One-sided exact p-value of that many wins among independent cases with these chances (Poisson-binomial).

    >>> round(beats_chance([True] * 5, [0.5] * 5), 5)
    0.03125
    """
    distribution = np.ones(1)
    for chance in chances:
        distribution = np.convolve(distribution, [1.0 - chance, chance])
    return float(min(1.0, distribution[sum(won) :].sum()))


def _tested(cases: Sequence[Sequence[Trial]], *, judge: str, significance_level: float) -> SelfTest:
    rates = [sum(trial.win for trial in case) / len(case) for case in cases]
    chances = [1.0 / (1 + case[0].n_foils) for case in cases]
    p_value = beats_chance([rate > 0.5 for rate in rates], chances)
    return SelfTest(
        judge=judge,
        family=cases[0][0].family,
        foil_kind=cases[0][0].foil_kind,
        win_rate=float(np.mean(rates)),
        chance=float(np.mean(chances)),
        p_value=p_value,
        n_cases=len(cases),
        usable=p_value <= significance_level,
    )
