"""Suite → Plan: which pictures a run needs."""

from __future__ import annotations

from collections.abc import Sequence

from lorabench.records.plan import Arm, Cell, GenerationSettings, Plan, PlannedCell, StylePhrases
from lorabench.records.suite import Case, Suite


def plan_cells(
    suite: Suite,
    *,
    style: StylePhrases,
    settings: GenerationSettings,
    arms: Sequence[Arm],
    scale: float = 1.0,
    seeds: Sequence[int] | None = None,
    limit: int | None = None,
) -> Plan:
    """List every picture a run needs: case by case, seed by seed, arm by arm.

    Args:
        suite: The held-out prompts.
        style: What each arm puts into the `{style}` slot.
        settings: What the sampler is told besides prompt and noise.
        arms: The arms to make.
        scale: Adapter scale of the arms that use the adapter; the others have scale 0.
        seeds: Instead of the suite's common seeds.
        limit: Only the suite's first cases; the run is partial then.

    Returns:
        The plan. Arms that end in the same prompt and use no adapter still have cells of their own; the cache makes
        their picture once.
    """
    cases = suite.cases if limit is None else suite.cases[:limit]
    cells = tuple(
        _planned(case, arm=arm, seed=seed, scale=scale, style=style)
        for case in cases
        for seed in (suite.seeds if seeds is None else seeds)
        for arm in arms
    )
    return Plan(suite_digest=suite.content_digest(), settings=settings, cells=cells)


def _planned(case: Case, *, arm: Arm, seed: int, scale: float, style: StylePhrases) -> PlannedCell:
    cell = Cell(arm=arm, case=case.id, seed=seed, scale=scale if arm.uses_adapter else 0.0)
    return PlannedCell(cell=cell, prompt=case.render(style.of(arm)))
