"""Whether a training is slow: its step times against its own beginning, and against what others measured.

A rise within one training needs no table: the time of the later steps is compared with that of the earlier ones. A
training that is slow from its first step is seen only where somebody published a figure for the same family, GPU,
resolution and batch size (`step_times.yaml`); where there is none, nothing is said. Limits: `docs/step-times.md`.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from lorabench.records.course import Course
from lorabench.records.step_times import (
    SlowCause,
    StepBlock,
    StepTimeChange,
    StepTimeFigure,
    StepTimeFinding,
    StepTimes,
    StepTimeVerdict,
    TrainingSetup,
)

BLOCK_SIZE: Final = 4
"""Steps per block at first; it doubles whenever there are `MAX_BLOCKS`."""
MAX_BLOCKS: Final = 128
MIN_SIDE: Final = 4
"""Fewest blocks on either side of a change."""
RISE: Final = 1.25
"""Smallest lasting rise that is called slowing."""
RISE_Z: Final = 6.0
"""Such a rise, in standard errors of the two medians' logarithms."""
SLOW_FROM: Final = 2.0
"""Times the slowest usual figure from which a training is called slow: settings of one device differ by less."""
EVALUATION_SHARE: Final = 0.25
"""Share of evaluations in the time of a training from which they are named as a cause."""
_QUIETEST: Final = 0.01
_DATA: Final = Path(__file__).with_name("step_times.yaml")


class StepTimeTrack:
    """Collects step times in blocks of bounded number. Deterministic; what it knows is a `StepTimes`."""

    def __init__(self, known: StepTimes | None = None) -> None:
        """Start, or go on from what was known."""
        self._size = BLOCK_SIZE if known is None else known.block_size
        self._blocks: list[StepBlock] = [] if known is None else list(known.blocks)
        self._pending: list[tuple[int, float]] = []

    def add(self, training_step: int, seconds: float) -> None:
        """Take the time of one optimiser step.

        A step that was seen before means that training was set back: what was remembered from it on is forgotten.

        Args:
            training_step: Of the optimiser.
            seconds: It took; finite and not negative, else it is left out.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            return
        if self._last() >= training_step:
            self._blocks = [block for block in self._blocks if block.last < training_step]
            self._pending = [item for item in self._pending if item[0] < training_step]
        self._pending.append((training_step, seconds))
        if len(self._pending) >= self._size:
            self._blocks.append(_block(self._pending))
            self._pending = []
        if len(self._blocks) >= MAX_BLOCKS:
            pairs = zip(self._blocks[::2], self._blocks[1::2], strict=True)
            self._blocks, self._size = [_merged(a, b) for a, b in pairs], 2 * self._size

    def record(self) -> StepTimes | None:
        """What is known; None before the first block is full."""
        return None if not self._blocks else step_times_of(self._blocks, block_size=self._size)

    def _last(self) -> int:
        return self._pending[-1][0] if self._pending else (self._blocks[-1].last if self._blocks else -1)


def step_times_of(blocks: Sequence[StepBlock], *, block_size: int) -> StepTimes:
    """Blocks put together: medians weighted by their numbers of steps."""
    return StepTimes(
        n_steps=sum(block.n for block in blocks),
        median=_weighted_median([(block.median, block.n) for block in blocks]),
        low=_weighted_median([(block.low, block.n) for block in blocks]),
        high=_weighted_median([(block.high, block.n) for block in blocks]),
        block_size=block_size,
        blocks=tuple(blocks),
    )


def find_rise(blocks: Sequence[StepBlock]) -> StepTimeChange | None:
    """The lasting rise of the step time that explains the blocks best; None where there is none worth naming.

    The blocks are split where the absolute deviations of the logarithms from the medians of both sides add up to the
    least. A rise is one of `RISE` at least, by `RISE_Z` standard errors, and beyond nine tenths of the earlier blocks.

    Args:
        blocks: In the order of the training.
    """
    logs = [math.log(max(block.median, 1e-9)) for block in blocks]
    splits = range(MIN_SIDE, len(logs) - MIN_SIDE + 1)
    if not splits:
        return None
    at = min(splits, key=lambda split: _deviation(logs[:split]) + _deviation(logs[split:]))
    before, after = statistics.median(logs[:at]), statistics.median(logs[at:])
    spread = [*(abs(one - before) for one in logs[:at]), *(abs(one - after) for one in logs[at:])]
    noise = max(1.4826 * statistics.median(spread), _QUIETEST)
    error = 1.2533 * noise * math.sqrt(1 / at + 1 / (len(logs) - at))  # of a difference of medians
    usual = sorted(logs[:at])[math.ceil(0.9 * at) - 1]
    if after - before < math.log(RISE) or (after - before) / error < RISE_Z or after <= usual:
        return None
    return StepTimeChange(
        training_step=blocks[at].first,
        before=math.exp(before),
        after=math.exp(after),
        ratio=math.exp(after - before),
    )


def expected_figure(setup: TrainingSetup, figures: Iterable[StepTimeFigure] | None = None) -> StepTimeFigure | None:
    """What others measured on such a setup; None where nobody did. Nothing is scaled from one setup to another.

    Args:
        setup: Family, GPU, resolution and batch size must all be known.
        figures: Instead of the shipped ones.
    """
    if None in (setup.family, setup.gpu, setup.resolution, setup.batch_size):
        return None
    for one in shipped_figures() if figures is None else figures:
        same = one.family == setup.family and one.batch_size == setup.batch_size
        if same and _is_gpu(one.gpu, setup.gpu or "") and abs(one.resolution - (setup.resolution or 0)) <= 64:
            return one
    return None


def step_time_finding(
    course: Course, setup: TrainingSetup | None = None, *, figures: Iterable[StepTimeFigure] | None = None
) -> StepTimeFinding | None:
    """What can be said of a training's step time, with the causes to look for.

    Args:
        course: With step times, as a monitor writes them.
        setup: Instead of the course's own; what a trainer's header says may be added to it.
        figures: Instead of the shipped ones.

    Returns:
        The finding; None where the course has no step times.
    """
    times = course.step_times
    if times is None or times.median <= 0:
        return None
    known = setup or course.setup or TrainingSetup()
    share = evaluation_share(course)
    change, figure = find_rise(times.blocks), expected_figure(known, figures)
    base = times.median if change is None else change.before
    ratio = None if figure is None else base / figure.seconds[1]
    verdict = _verdict(change, ratio)
    slow = verdict in (StepTimeVerdict.SLOW, StepTimeVerdict.SLOWING)
    return StepTimeFinding(
        verdict=verdict,
        sentence=_sentence(times, change=change, ratio=ratio, figure=figure),
        ratio=ratio,
        change=change,
        evaluation_share=share,
        causes=slow_causes(known, rose=change is not None, share=share) if slow else _share_cause(share),
        figure=figure,
    )


def evaluation_share(course: Course) -> float | None:
    """Time of looks over time of training; None without step times."""
    if course.step_times is None or course.step_times.median <= 0:
        return None
    trained = sum(block.n * block.median for block in course.step_times.blocks)
    return sum(one.seconds for one in course.evaluations) / trained


def slow_causes(setup: TrainingSetup, *, rose: bool, share: float | None = None) -> tuple[SlowCause, ...]:
    """Possible causes of a slow training, those that the setup shows first; what it rules out is left out.

    Args:
        setup: As far as it is known.
        rose: Whether the steps got slower within the training, so that settings that never changed are no cause.
        share: Time of looks over time of training.
    """
    found = [_memory(setup, rose=rose)]
    if rose:
        found += [_to_check("heat", "The device may be too hot and run slower: look at its temperature and clock.")]
        found += [_to_check("shared_device", "Another process may have started on the device: look who uses it.")]
    else:
        found += _settings(setup)
    data = "Pictures may be read too slowly: raise the loader's workers, cache latents, use a faster disk."
    few = setup.dataloader_workers == 0 and not setup.latents_cached
    found.append(SlowCause(name="data_loading", seen=few and not rose, sentence=data))
    known = [one for one in found if one is not None]
    return tuple(sorted((*_share_cause(share), *known), key=lambda one: not one.seen))


def setup_from_header(metadata: Mapping[str, str], known: TrainingSetup | None = None) -> TrainingSetup:
    """What sd-scripts writes into a LoRA's header about the training, added to what is known.

    Args:
        metadata: Entries of the header.
        known: Fields that are set here stay.
    """
    resolution = re.findall(r"\d+", metadata.get("ss_resolution", ""))[:2]
    edges = [int(edge) for edge in resolution]
    total, alone = (_whole(metadata.get(f"ss_{name}")) for name in ("total_batch_size", "batch_size_per_device"))
    accumulated = _whole(metadata.get("ss_gradient_accumulation_steps")) or 1
    batch = total or (None if alone is None else alone * accumulated)  # the total holds accumulation and devices
    said = {
        "resolution": round(math.sqrt(edges[0] * edges[-1])) if edges and all(edges) else None,
        "batch_size": batch,
        "mixed_precision": metadata.get("ss_mixed_precision"),
        "gradient_checkpointing": _truth(metadata.get("ss_gradient_checkpointing")),
        "latents_cached": _truth(metadata.get("ss_cache_latents")),
    }
    present = {} if known is None else known.model_dump(exclude_none=True)
    return TrainingSetup(**{**{key: value for key, value in said.items() if value is not None}, **present})


@cache
def shipped_figures() -> tuple[StepTimeFigure, ...]:
    """The table that comes with lorabench, each line with its source."""
    from ruamel.yaml import YAML

    table = YAML(typ="safe", pure=True).load(_DATA.read_text(encoding="utf-8"))
    return tuple(StepTimeFigure.model_validate(one) for one in table["figures"])


def _verdict(change: StepTimeChange | None, ratio: float | None) -> StepTimeVerdict:
    if change is not None:
        return StepTimeVerdict.SLOWING
    if ratio is None:
        return StepTimeVerdict.UNKNOWN
    return StepTimeVerdict.SLOW if ratio >= SLOW_FROM else StepTimeVerdict.USUAL


def _sentence(
    times: StepTimes, *, change: StepTimeChange | None, ratio: float | None, figure: StepTimeFigure | None
) -> str:
    parts = [
        f"A step takes {times.median:.3g} s (quartiles {times.low:.3g} to {times.high:.3g}, {times.n_steps} steps)."
    ]
    if change is not None:
        parts.append(
            f"From step {change.training_step} on it takes {change.after:.3g} s instead of {change.before:.3g} s, "
            f"{change.ratio:.1f} times as long."
        )
    if figure is None or ratio is None:
        parts.append("No figure for this family, device, resolution and batch size is known to compare it with.")
    else:
        usual = f"{figure.seconds[0]:g} to {figure.seconds[1]:g} s ({figure.gpu}, {figure.conditions}; {figure.source})"
        parts.append(f"Others measured {usual}: {ratio:.1f} times their slowest.")
    return " ".join(parts)


def _memory(setup: TrainingSetup, *, rose: bool) -> SlowCause | None:
    """Device memory that spills into the host's."""
    full = setup.memory_used_share is not None and setup.memory_used_share > 0.95
    if setup.gpu == "cpu" or (not full and not rose and setup.memory_used_share is not None):
        return None
    fallback = (
        " The driver moves it to the host's memory instead of failing: set its CUDA system memory fallback to none."
        if setup.system in (None, "win32")
        else ""
    )
    words = f"The device's memory may be full.{fallback} Lower rank, batch size or resolution, or quantise the base."
    return SlowCause(name="memory_spill", seen=full, sentence=words)


def _settings(setup: TrainingSetup) -> list[SlowCause | None]:
    """Settings that cost time from the first step on; None where the setup rules one out."""
    on_cpu = None if setup.gpu is None else setup.gpu == "cpu"
    return [
        _flag("cpu", on_cpu, "The training runs on the CPU: check that the launcher was given the GPU."),
        _flag(
            "precision",
            None if setup.mixed_precision is None else setup.mixed_precision == "no",
            "Mixed precision is off: float32 takes about twice as long; use bf16.",
        ),
        _flag(
            "checkpointing",
            setup.gradient_checkpointing,
            "Gradient checkpointing runs every block forward twice: turn it off if memory allows.",
        ),
        _flag(
            "text_encoder",
            None if setup.text_encoder_cached is None else not setup.text_encoder_cached,
            "Captions are encoded anew at every step: cache the text encoders' outputs.",
        ),
        _flag(
            "latents",
            None if setup.latents_cached is None else not setup.latents_cached,
            "Pictures are encoded anew at every step: cache the latents.",
        ),
        _flag("offload", setup.offloaded, "Weights move between host and device: keep them on the device."),
        _flag(
            "attention",
            None if setup.attention is None else setup.attention == "plain",
            "Attention is computed without a fused kernel: use sdpa or xformers.",
        ),
    ]


def _flag(name: str, is_so: bool | None, sentence: str) -> SlowCause | None:
    """A cause that is seen, to be looked for where nothing is known, and none where it is ruled out."""
    return None if is_so is False else SlowCause(name=name, seen=is_so is True, sentence=sentence)


def _to_check(name: str, sentence: str) -> SlowCause:
    return SlowCause(name=name, seen=False, sentence=sentence)


def _share_cause(share: float | None) -> tuple[SlowCause, ...]:
    if share is None or share < EVALUATION_SHARE:
        return ()
    words = f"Evaluations take {share:.0%} of the training's time: raise [course] every_n_steps, or lower its budget."
    return (SlowCause(name="evaluations", seen=True, sentence=words),)


def _block(items: Sequence[tuple[int, float]]) -> StepBlock:
    seconds = [value for _, value in items]
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds * 3
    return StepBlock(
        first=items[0][0],
        last=items[-1][0],
        n=len(items),
        low=low,
        median=statistics.median(seconds),
        high=high,
    )


def _merged(a: StepBlock, b: StepBlock) -> StepBlock:
    n = a.n + b.n
    mixed = {name: (a.n * getattr(a, name) + b.n * getattr(b, name)) / n for name in ("low", "median", "high")}
    return StepBlock(first=a.first, last=b.last, n=n, **mixed)


def _weighted_median(values: Sequence[tuple[float, int]]) -> float:
    half, passed = sum(weight for _, weight in values) / 2, 0
    for value, weight in sorted(values):
        passed += weight
        if passed >= half:
            return value
    msg = "a median needs at least one value; found none"
    raise ValueError(msg)


def _deviation(logs: Sequence[float]) -> float:
    middle = statistics.median(logs)
    return sum(abs(one - middle) for one in logs)


def _is_gpu(words: str, name: str) -> bool:
    """Whether a driver's name means this GPU: all its words, and no other model of the same number (3090, 3090 Ti)."""
    found = re.findall(r"[a-z0-9]+", name.lower())
    wanted = re.findall(r"[a-z0-9]+", words.lower())
    other = {"super", "laptop", "mobile", "max", "ada", "d"} - set(wanted)
    return set(wanted) <= set(found) and not other & set(found)


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and int(text) > 0 else None


def _truth(text: str | None) -> bool | None:
    return {"True": True, "False": False, "true": True, "false": False}.get(text or "")
