"""Tells from a LoRA file alone whether it is dead, partial or exploding. `docs/adapter-health.md` has the limits.

The limits say where a file cannot be right, not where pictures begin to suffer: that is what pictures are made for.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from lorabench.generation.adapter import DENOISER, AdapterFile, locate, read_adapter
from lorabench.generation.adapter_errors import NeverTrainedError, NotFiniteError, PartialFitError, listing
from lorabench.generation.adapter_norms import module_norms
from lorabench.generation.base_weights import BaseWeights, open_base_weights
from lorabench.generation.placement import Placed, check_fit
from lorabench.generation.safetensors_file import read_safetensors
from lorabench.generation.training_base import match_base, trained_on
from lorabench.records.adapter_health import (
    AdapterHealth,
    AdapterVerdict,
    Examination,
    MissingModules,
    ModuleNorms,
)

DEAD_BELOW: Final = 2.0**-11
"""Relative norm under which float16 rounds the base's own output more coarsely than the adapter changes it."""
EXPLODING_FROM: Final = 1.0
"""Relative norm of all updates together from which they outweigh the base's weights."""
RUNAWAY_FROM: Final = 3.0
"""Relative norm of one layer from which less than a tenth of its squared weight is the base's."""
PARTIAL_FROM: Final = 0.05
"""Share of modules that are zero from which a file is partial."""
OUTLIER_Z: Final = 6.0
_NUMBER: Final = re.compile(r"(?<=[._])\d+(?=[._]|$)")
_STACK: Final = re.compile(
    r"^(?P<stack>(?:.*?[._])?(?:single_|double_)?(?:transformer_blocks|blocks|layers))[._](?P<number>\d+)[._](?P<leaf>.+)$"
)
_CHOSEN_BY: Final = (
    "train_blocks", "train_double_block_indices", "train_single_block_indices", "only_if_contains", "block_dims",
    "layers_to_transform", "_lr_weight",
)  # fmt: skip
"""Settings of trainers that leave blocks out on purpose."""


def examine_file(path: Path | str, *, base: Path | None = None, alpha: float | None = None) -> Examination:
    """Examine a LoRA file, beside the base's weights if there are any. No picture is made and torch is not needed.

    Args:
        path: The file, or a folder that holds one under a trainer's usual name.
        base: Folder of the pipeline that it shall run on; None leaves relative norms unmeasured.
        alpha: States alpha for a file that carries none.

    Returns:
        Verdict, reasons and the norms of every module. A file that `read_adapter` refuses as never trained is dead,
        one with NaN exploding, one of which only some modules are in the base partial.

    Raises:
        SpecError: No such file, a pickle, another method than LoRA, alpha unknown; no base there.
        MeasurementError: Damaged, or made for another family of bases.
    """
    weights = None if base is None else open_base_weights(base)
    name = None if base is None else base.resolve().name
    try:
        adapter = read_adapter(path, alpha=alpha)
        found = examine(adapter, base=weights)
    except NeverTrainedError as error:
        return _refused(Path(path), AdapterVerdict.DEAD, str(error), base=name)
    except NotFiniteError as error:
        return _refused(Path(path), AdapterVerdict.EXPLODING, str(error), base=name)
    except PartialFitError as error:
        return _refused(Path(path), AdapterVerdict.PARTIAL, str(error), base=name)
    match = None if base is None else match_base(trained_on(adapter), base)
    return found.model_copy(update={"base": name, "base_match": match})


def examine(adapter: AdapterFile, *, base: BaseWeights | None) -> Examination:
    """Examine a file that was read and is sound.

    Args:
        adapter: The file.
        base: The weights it shall run on; None leaves relative norms unmeasured.

    Raises:
        MeasurementError: It does not fit the base.
    """
    placed = () if base is None else check_fit(adapter, base.shapes)
    modules = module_norms(adapter, placed=placed, base=base)
    health = judge_health(
        modules,
        missing=missing_modules(adapter, placed=placed, base=base),
        unused=never_used(adapter, modules),
        chosen_by=blocks_chosen_by(adapter),
    )
    return Examination(name=adapter.info.name, health=health, modules=modules)


def judge_health(
    modules: Sequence[ModuleNorms],
    *,
    missing: Sequence[MissingModules] = (),
    unused: Iterable[str] = (),
    chosen_by: str | None = None,
) -> AdapterHealth:
    """The verdict on a file whose norms are known.

    Args:
        modules: Norms of every module.
        missing: Modules that some blocks lack.
        unused: Modules that are zero because the base never runs them; no fault.
        chosen_by: Setting of the trainer that left blocks out on purpose; None if there is none.

    Returns:
        Exploding before dead before partial before healthy, with all reasons that hold.
    """
    excused = set(unused)
    zero = [one.module for one in modules if one.update_norm == 0 and one.module not in excused]
    counted = [one for one in modules if one.module not in excused]
    share = len(zero) / len(counted) if counted else 0.0
    found = {
        AdapterVerdict.EXPLODING: _exploding(modules),
        AdapterVerdict.DEAD: _dead(counted),
        AdapterVerdict.PARTIAL: _partial(zero, share=share, missing=() if chosen_by else missing),
    }
    verdict = next((one for one, reasons in found.items() if reasons), AdapterVerdict.HEALTHY)
    changed = [one for one in modules if one.update_norm > 0]
    largest = max(changed, key=lambda one: one.relative_norm or one.update_norm, default=None)
    return AdapterHealth(
        verdict=verdict,
        reasons=tuple(reason for reasons in found.values() for reason in reasons),
        remarks=_remarks(modules, zero=zero, share=share, excused=excused, missing=missing, chosen_by=chosen_by),
        base_compared=any(one.base_norm is not None for one in modules),
        n_modules=len(modules),
        n_zero=len(zero),
        zero_share=share,
        missing=tuple(missing),
        update_norm=_together(one.update_norm for one in modules),
        relative_norm=relative_norm(modules),
        largest_relative_norm=max(
            (one.relative_norm for one in changed if one.relative_norm is not None), default=None
        ),
        largest_module=None if largest is None else largest.module,
        top_singular_value=max((one.top_singular_value for one in modules), default=None),
        median_effective_rank=statistics.median(one.effective_rank for one in changed) if changed else None,
        outliers=_outliers(modules),
    )


def relative_norm(modules: Sequence[ModuleNorms]) -> float | None:
    """Norm of all updates over the norm of all adapted weights; None unless every module's base is known."""
    bases = [one.base_norm for one in modules]
    if not modules or any(norm is None for norm in bases):
        return None
    whole = _together(norm for norm in bases if norm is not None)
    return _together(one.update_norm for one in modules) / whole if whole else None


def missing_modules(
    adapter: AdapterFile, *, placed: Sequence[Placed] = (), base: BaseWeights | None = None
) -> tuple[MissingModules, ...]:
    """Kinds of modules that a file adapts in some blocks and not in others.

    With a base, the blocks are those of the base. Without one they are those that the file itself numbers, from the
    first to the last, so that an end that was cut off is not seen.
    """
    if base is not None and placed:
        present = {one.layer for one in placed}
        return _gaps(present, base.shapes)
    names = [f"{one.component}.{one.name}" for one in adapter.modules if one.naming != "ordinal"]
    return _gaps(set(names), _numbered(names))


def blocks_chosen_by(adapter: AdapterFile) -> str | None:
    """The setting in the file's header by which the trainer left blocks out on purpose; None if there is none."""
    texts = {key: adapter.source.metadata.get(key, "") for key in ("ss_network_args", "lora_adapter_metadata")}
    for key, text in texts.items():
        for setting in _CHOSEN_BY:
            if re.search(rf'{setting}"\s*:(?!\s*(?:null|\[\]|""|\{{\}}|"all"))', text):
                return f"{setting} ({key})"
    targets = _targets(texts["lora_adapter_metadata"])
    return "target_modules (lora_adapter_metadata)" if any(_NUMBER.search(_bare(one)) for one in targets) else None


def never_used(adapter: AdapterFile, modules: Sequence[ModuleNorms]) -> tuple[str, ...]:
    """Zero modules of a text encoder's last layers: with clip skip, and in SDXL's first encoder, no gradient comes."""
    zero = {one.module for one in modules if one.update_norm == 0}
    numbers = {
        one.key: (one.component, int(match[1]))
        for one in adapter.modules
        if one.component != DENOISER and (match := re.search(r"layers[._](\d+)[._]", one.name))
    }
    last: dict[str, int] = {}
    for key, (component, number) in numbers.items():
        if key not in zero:
            last[component] = max(last.get(component, -1), number)
    return tuple(key for key in sorted(zero) if key in numbers and numbers[key][1] > last.get(numbers[key][0], 10**9))


def _refused(path: Path, verdict: AdapterVerdict, reason: str, *, base: str | None) -> Examination:
    """What can still be said of a file that cannot be scored."""
    place = locate(path)
    n_modules = sum(".lora_B" in key or "lora_up" in key or ".up." in key for key in read_safetensors(place).tensors)
    n_zero = n_modules if verdict is AdapterVerdict.DEAD else 0
    health = AdapterHealth(
        verdict=verdict,
        reasons=(reason,),
        n_modules=n_modules,
        n_zero=n_zero,
        zero_share=1.0 if n_zero else 0.0,
    )
    return Examination(name=place.stem, health=health, base=base)


def _exploding(modules: Sequence[ModuleNorms]) -> list[str]:
    reasons = []
    together = relative_norm(modules)
    if together is not None and together >= EXPLODING_FROM:
        reasons.append(
            f"All updates together are {together:.2f} times as large as the base's weights there (limit "
            f"{EXPLODING_FROM:g}): the base is outweighed. Lower the learning rate or alpha, or take an earlier "
            f"checkpoint."
        )
    runaway = [one for one in modules if one.relative_norm is not None and one.relative_norm >= RUNAWAY_FROM]
    if runaway:
        worst = max(runaway, key=lambda one: one.relative_norm or 0.0)
        reasons.append(
            f"{len(runaway)} of {len(modules)} modules are {RUNAWAY_FROM:g} times as large as the base's weights or "
            f"more; the largest is {worst.module} with {worst.relative_norm:.2f}."
        )
    over = [one.module for one in modules if one.overflows_half]
    if over:
        reasons.append(
            f"{len(over)} modules hold or produce numbers beyond float16's range (65504): {listing(over)}. In float16 "
            f"the pictures become NaN or black."
        )
    return reasons


def _dead(modules: Sequence[ModuleNorms]) -> list[str]:
    known = [one.relative_norm for one in modules if one.relative_norm is not None]
    if modules and not any(one.update_norm > 0 for one in modules):
        return ["Every update is zero: the adapter changes nothing. Take a checkpoint saved after training began."]
    if known and len(known) == len(modules) and max(known) < DEAD_BELOW:
        return [
            f"No layer is changed by more than {max(known):.1e} of its weights (limit {DEAD_BELOW:.1e}): less than "
            f"float16 rounds off. Train longer, raise the learning rate, or check alpha."
        ]
    lost = [one.module for one in modules if one.lost_in_half]
    if modules and len(lost) == sum(one.update_norm > 0 for one in modules):
        return ["Every update becomes zero in float16: its matrices are smaller than float16 can hold."]
    return []


def _partial(zero: Sequence[str], *, share: float, missing: Sequence[MissingModules]) -> list[str]:
    reasons = []
    if 0 < share < 1 and share >= PARTIAL_FROM:
        reasons.append(
            f"{len(zero)} modules ({share:.0%}) are zero, as before training: {listing(zero)}. They got no gradient: "
            f"frozen, left out of the optimiser, or lost when saving."
        )
    reasons += [
        f"{one.pattern} is adapted in {one.n_present} of {one.n_expected} blocks; without: "
        f"{listing(one.first_missing)}. Unless blocks were left out on purpose, the file is cut or saved in part."
        for one in missing
    ]
    return reasons


def _remarks(
    modules: Sequence[ModuleNorms],
    *,
    zero: Sequence[str],
    share: float,
    excused: set[str],
    missing: Sequence[MissingModules],
    chosen_by: str | None,
) -> tuple[str, ...]:
    remarks = []
    if zero and share < PARTIAL_FROM:
        remarks.append(f"{len(zero)} of {len(modules)} modules are zero: {listing(zero)}.")
    if excused:
        remarks.append(f"{len(excused)} modules of a text encoder's last layers are zero: the base never uses them.")
    if missing and chosen_by:
        remarks.append(f"Only some blocks are adapted, as the trainer was asked by {chosen_by}.")
    if outliers := _outliers(modules):
        remarks.append(f"{len(outliers)} modules are far larger than the others: {listing(outliers)}.")
    if lost := [one.module for one in modules if one.lost_in_half]:
        remarks.append(f"{len(lost)} modules become zero in float16: {listing(lost)}.")
    if modules and all(one.base_norm is None for one in modules):
        remarks.append("The base's weights were not read, so that nothing is known of the updates' relative size.")
    return tuple(remarks)


def _outliers(modules: Sequence[ModuleNorms]) -> tuple[str, ...]:
    far = [one for one in modules if one.outlier_z is not None and one.outlier_z > OUTLIER_Z]
    return tuple(one.module for one in sorted(far, key=lambda one: -(one.outlier_z or 0.0)))


def _together(norms: Iterable[float]) -> float:
    return math.hypot(*norms)


def _gaps(present: set[str], expected: Iterable[str]) -> tuple[MissingModules, ...]:
    kinds: dict[str, list[str]] = {}
    for name in expected:
        kinds.setdefault(_NUMBER.sub("N", name), []).append(name)
    found = []
    for pattern, names in kinds.items():
        absent = [name for name in names if name not in present]
        if absent and len(absent) < len(names):
            n_present = len(names) - len(absent)
            found.append(
                MissingModules(
                    pattern=pattern, n_present=n_present, n_expected=len(names), first_missing=tuple(absent[:3])
                )
            )
    return tuple(found)


def _numbered(names: Sequence[str]) -> list[str]:
    """Names that a file would have if every stack of blocks were adapted alike, from the first block to its last."""
    numbers: dict[str, set[int]] = {}
    leaves: dict[str, set[tuple[str, str]]] = {}
    for name in names:
        if match := _STACK.match(name):
            numbers.setdefault(match["stack"], set()).add(int(match["number"]))
            between = name[match.end("stack")], name[match.end("number")]
            leaves.setdefault(match["stack"], set()).add(("".join(between), match["leaf"]))
    return [
        f"{stack}{marks[0]}{number}{marks[1]}{leaf}"
        for stack, found in numbers.items()
        for marks, leaf in sorted(leaves[stack])
        for number in range(max(found) + 1)
    ]


def _targets(text: str) -> list[str]:
    try:
        flat = json.loads(text) if text else {}
    except json.JSONDecodeError:
        return []
    found: list[str] = []
    for key, value in flat.items() if isinstance(flat, Mapping) else ():
        if key.rpartition(".")[2] == "target_modules":
            found += [value] if isinstance(value, str) else [str(one) for one in value or ()]
    return found


def _bare(target: str) -> str:
    """A target without the numbers that belong to a layer's own name."""
    return re.sub(r"(to_out|net)\.\d+", r"\1", target)
