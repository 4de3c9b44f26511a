"""What an adapter's file says: strength, rank, text encoder, and the trainer's settings in its header."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from lorabench.generation.adapter import AdapterFile
from lorabench.generation.training_header import N_PICTURES
from lorabench.records.adapter_health import AdapterHealth, BaseMatch, BaseRelation, Examination
from lorabench.records.diagnosis import Fact
from lorabench.records.results import AdapterInfo, Results

ADAPTER_FACTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "rank": "largest rank",
        "rank_share": "rank over the smaller side of the layers, median",
        "alpha_over_rank": "largest alpha over rank: what the product is multiplied by",
        "text_encoder": "yes where text encoders are adapted",
        "training_step": "training step that the file names",
        "learning_rate": "learning rate of the denoiser; not told for optimisers that choose it themselves",
        "text_encoder_lr_share": "learning rate of the text encoder over the denoiser's",
        "training_guidance": "guidance that was embedded in training",
        "guidance_gap": "guidance of this run minus that of the training",
        "planned_share": "training step over the steps that were planned",
        "views_per_picture": "how often each training picture was shown",
        "n_training_pictures": "training pictures that the header counts, without repeats where it says so",
        "noise_offset": "offset noise of the training",
        "base_fits": "yes, no, or variant, where the file names the base it was trained on",
        "health": "verdict of the file's examination: healthy, dead, partial, exploding",
        "zero_share": "modules whose update is zero",
        "relative_norm": "norm of the updates over that of the base's weights",
    }
)
"""Facts `adapter.<name>`."""

_FREE_OPTIMISERS: Final = ("prodigy", "dadapt", "dadaptation", "schedulefree-prodigy")


def adapter_facts(
    results: Results, adapter: AdapterFile | None, examination: Examination | None = None
) -> Iterator[Fact]:
    """Facts of the adapter's file.

    Args:
        results: The run; its copy of the header serves where no file is given.
        adapter: The file.
        examination: Of the file.
    """
    info = adapter.info if adapter is not None else results.candidate
    if info is not None:
        yield from _strength(info, adapter)
        yield from _settings(info.metadata, results)
        yield from _shown(info)
    health = examination.health if examination is not None else info.health if info is not None else None
    if health is not None:
        yield from _examined(health)
    match = examination.base_match if examination is not None else info.base_match if info is not None else None
    if match is not None:
        yield from _matched(match)


def _strength(info: AdapterInfo, adapter: AdapterFile | None) -> Iterator[Fact]:
    if info.ranks:
        yield _fact("rank", float(max(info.ranks)), f"rank {', '.join(map(str, info.ranks))}")
    if adapter is not None and adapter.modules:
        shares = sorted(one.rank / min(one.n_inputs, one.n_outputs) for one in adapter.modules)
        share = shares[len(shares) // 2]
        yield _fact("rank_share", share, f"rank is {share:.0%} of the smaller side of the layers (median)")
        strongest = max(one.alpha / one.rank for one in adapter.modules)
        yield _fact("alpha_over_rank", strongest, f"alpha over rank {strongest:.3g}")
    elif len(info.ranks) == 1 and info.alphas:
        ratio = max(info.alphas) / info.ranks[0]
        yield _fact("alpha_over_rank", ratio, f"alpha {max(info.alphas):g} over rank {info.ranks[0]}: {ratio:.3g}")
    said = "the file adapts text encoders" if info.text_encoder else "the file adapts no text encoder"
    yield _fact("text_encoder", "yes" if info.text_encoder else "no", said)
    if info.training_step is not None:
        yield _fact("training_step", float(info.training_step), f"training step {info.training_step}")


def _settings(header: Mapping[str, str], results: Results) -> Iterator[Fact]:
    rate = _number(header, "ss_unet_lr", "ss_learning_rate")
    optimiser = header.get("ss_optimizer", "")
    if rate and not any(name in optimiser.lower() for name in _FREE_OPTIMISERS):
        yield _fact("learning_rate", rate, f"learning rate {rate:g}{f' ({optimiser[:60]})' if optimiser else ''}")
    text_rate = _number(header, "ss_text_encoder_lr")
    if text_rate is not None and rate:
        share = text_rate / rate
        yield _fact("text_encoder_lr_share", share, f"text encoder's learning rate {text_rate:g}, denoiser's {rate:g}")
    guidance = _number(header, "ss_guidance_scale")
    if guidance is not None:
        yield _fact("training_guidance", guidance, f"trained at guidance {guidance:g}")
        now = results.settings.guidance_scale
        if now is not None:
            yield _fact("guidance_gap", now - guidance, f"trained at guidance {guidance:g}, judged at {now:g}")
    offset = _number(header, "ss_noise_offset")
    if offset is not None:
        yield _fact("noise_offset", offset, f"noise offset {offset:g}")


def _shown(info: AdapterInfo) -> Iterator[Fact]:
    """How long was trained: steps beside those that were planned, and looks at each picture."""
    header, steps = info.metadata, _steps(info)
    planned = _number(header, "ss_max_train_steps")
    if steps and planned:
        said = f"step {steps:g} of {planned:g} that were planned"
        yield _fact("planned_share", steps / planned, said)
    different, entries = _number(header, N_PICTURES), _number(header, "ss_num_train_images")
    pictures = different or entries
    if not pictures:
        return
    counted = "" if different else ", repeats counted"
    yield _fact("n_training_pictures", pictures, f"{pictures:g} training pictures in the header{counted}")
    batch = _batch_size(header)
    if steps and batch:
        half = 2.0 if _number(header, "ss_num_reg_images") else 1.0  # every second picture is then a regularising one
        views = steps * batch / half / pictures
        said = f"each picture shown {views:.0f} times ({steps:g} steps of {batch:g}, {pictures:g} pictures{counted})"
        yield _fact("views_per_picture", views, said)


def _steps(info: AdapterInfo) -> float | None:
    told = _number(info.metadata, "ss_steps")
    return told if told is not None or info.training_step is None else float(info.training_step)


def _batch_size(header: Mapping[str, str]) -> float | None:
    """Pictures per optimiser step. sd-scripts' total holds accumulation and devices; a data set's own does not."""
    total = _number(header, "ss_total_batch_size")
    if total:
        return total
    alone = _number(header, "ss_batch_size_per_device")
    return None if alone is None else alone * (_number(header, "ss_gradient_accumulation_steps") or 1.0)


def _examined(health: AdapterHealth) -> Iterator[Fact]:
    why = f": {health.reasons[0]}" if health.reasons else ""
    yield _fact("health", health.verdict.value, f"the file is {health.verdict.value}{why}")
    yield _fact("zero_share", health.zero_share, f"{health.n_zero} of {health.n_modules} modules change nothing")
    if health.relative_norm is not None:
        said = f"the updates weigh {health.relative_norm:.3g} of the base's weights"
        yield _fact("relative_norm", health.relative_norm, said)


def _matched(match: BaseMatch) -> Iterator[Fact]:
    fits = {BaseRelation.SAME: "yes", BaseRelation.OTHER_VARIANT: "variant", BaseRelation.OTHER_FAMILY: "no"}
    if match.relation in fits:
        yield _fact("base_fits", fits[match.relation], match.sentence)


def _number(header: Mapping[str, str], *names: str) -> float | None:
    """The first of these entries that is a number, or a list whose first entry is one."""
    for name in names:
        text = header.get(name, "").strip()
        match = re.match(r"^\[?\s*([0-9.]+(?:e[-+]?\d+)?)", text, re.IGNORECASE)
        if match:
            try:
                return float(match[1])
            except ValueError:
                continue
    return None


def _fact(name: str, value: float | str, quote: str) -> Fact:
    return Fact(name=f"adapter.{name}", value=value, quote=quote)
