"""Which base a LoRA file was trained on, as far as its trainer says so, beside the base in use.

Read are the header (sd-scripts' `ss_*`, the model specification's `modelspec.*`, ai-toolkit's, OneTrainer's
configuration, peft's configuration), and beside the file peft's `adapter_config.json` and the model card that
diffusers' scripts and SimpleTuner write. Names are compared, not weights: two bases with one name may differ.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from lorabench.generation.adapter import AdapterFile
from lorabench.generation.base_files import read_model_index
from lorabench.generation.families import FAMILIES
from lorabench.records.adapter_health import BaseMatch, BaseRelation, TrainedOn

_NAMES: Final = ("ss_sd_model_name", "base_model_name_or_path", "base_model", "base_model_name")
"""Entries that name a checkpoint, a folder or a hub id."""
_KINDS: Final = ("modelspec.architecture", "ss_base_model_version", "modelspec.title", "modelspec.implementation")
"""Entries that name a kind of model."""
_FAMILY_MARKS: Final = (
    ("flux2", r"flux[-_. ]?2"),
    ("flux", r"flux"),
    ("sdxl", r"sd[-_ ]?xl|stable-diffusion-xl|pony|illustrious|noobai|animagine"),
    ("sd3", r"sd3|stable-diffusion-3"),
    ("sd15", r"stable-diffusion-v1|sd[-_ ]?v?1(?![0-9])|v1[-_.][45]|sd_1\.5"),
    ("sd2", r"stable-diffusion-v2|sd[-_ ]?v?2(?![0-9])|v2[-_.][01]"),
    ("z-image", r"z[-_]?image"),
    ("qwen-image", r"qwen[-_]?image"),
    ("chroma", r"chroma"),
)
_VARIANT_MARKS: Final = (
    ("de-distilled", r"de[-_ ]?distill|un[-_ ]?distill|dedistill|libre[-_]?flux|flex\.?1|flux[-_.]?1?[-_.]?lite"),
    ("schnell", r"schnell"),
    ("krea", r"krea"),
    ("kontext", r"kontext"),
    ("fill", r"[-_. ]fill"),
    ("klein-base-4b", r"klein.*base.*4b"),
    ("klein-base-9b", r"klein.*base.*9b"),
    ("klein-4b", r"klein.*4b"),
    ("klein-9b", r"klein.*9b"),
    ("turbo", r"turbo"),
    ("lightning", r"lightning"),
    ("pony", r"pony"),
    ("illustrious", r"illustrious"),
    ("noobai", r"noobai"),
    ("animagine", r"animagine"),
    ("dev", r"[-_.1]dev(?![a-z])"),
    ("1.4", r"v1[-_.]4"),
    ("1.5", r"v1[-_.]5|sd_1\.5"),
    ("base", r"xl[-_]?(?:v1[-_])?base|base[-_]v?1[-_.]0"),
)
_FRONT_MATTER: Final = re.compile(r"\A---\s*\n(.*?)\n---", re.DOTALL)
_CARD_BASE: Final = re.compile(r"^base_model[ \t]*:[ \t]*(?:\n[ \t]*-[ \t]*)?[\"']?([^\"'\n]+)", re.MULTILINE)
_HASH_START, _HASH_LENGTH = 0x100000, 0x10000
_LONGEST: Final = 200


def trained_on(adapter: AdapterFile) -> TrainedOn:
    """What a file and the files beside it say about the base it was trained on.

    Args:
        adapter: The file.
    """
    said = dict(_said(adapter))
    names = [said[key] for key in said if _last(key) in _NAMES]
    kinds = [said[key] for key in said if _last(key) in _KINDS or key in _KINDS]
    texts = [*names, *kinds]
    short = said.get("ss_sd_model_hash", "")
    return TrainedOn(
        family=next((found for text in texts if (found := family_of(text)) is not None), None),
        variant=next((found for text in texts if (found := variant_of(text)) is not None), None),
        name=names[0] if names else None,
        short_hash=short if re.fullmatch(r"[0-9a-f]{8}", short) else None,
        said_by=said,
    )


def match_base(trained: TrainedOn, folder: Path | str, *, family: str | None = None) -> BaseMatch:
    """Hold what a file says against the base in use.

    Args:
        trained: From `trained_on`.
        folder: The base: a pipeline's folder, or a hub id.
        family: Of the base, where it is known otherwise than from the folder.

    Returns:
        Same where a hash or the names agree; another variant or family where they contradict; else unknown.
    """
    known = _base_names(folder)
    used_family = family or _family_of_folder(folder) or next(filter(None, map(family_of, known)), None)
    used_variant = next(filter(None, map(variant_of, known)), None)
    what, shown = trained.name or trained.variant or trained.family, known[0]
    relation, why = BaseRelation.UNKNOWN, "whether they are the same cannot be told from their names"
    if what is None:
        return _match(relation, trained, "The file does not say on which base it was trained.")
    if trained.short_hash is not None and trained.short_hash in _short_hashes(folder):
        relation, why = BaseRelation.SAME, "its checkpoint has the hash in the file"
    elif trained.family and used_family and trained.family != used_family:
        relation, why = BaseRelation.OTHER_FAMILY, f"another family ({trained.family}, {used_family})"
    elif trained.name is not None and _plain_name(trained.name) in {_plain_name(name) for name in known}:
        relation, why = BaseRelation.SAME, "the same by name"
    elif trained.variant and used_variant and trained.variant != used_variant:
        relation, why = BaseRelation.OTHER_VARIANT, f"another variant ({trained.variant}, {used_variant})"
    elif trained.variant and used_variant:
        relation, why = BaseRelation.SAME, f"both are {used_variant} by name"
    advice = "" if relation is not BaseRelation.OTHER_VARIANT else " Judge it on both with --training-base."
    return _match(relation, trained, f"Trained on {what}, used on {shown}: {why}.{advice}")


def family_of(text: str) -> str | None:
    """The family that a name belongs to; None where no mark is in it."""
    low = text.lower()
    return next((family for family, mark in _FAMILY_MARKS if re.search(mark, low)), None)


def variant_of(text: str) -> str | None:
    """The member of a family that a name means; None where it names none."""
    low = text.lower()
    return next((variant for variant, mark in _VARIANT_MARKS if re.search(mark, low)), None)


def _match(relation: BaseRelation, trained: TrainedOn, sentence: str) -> BaseMatch:
    return BaseMatch(relation=relation, trained_on=trained, sentence=sentence)


def _said(adapter: AdapterFile) -> Iterator[tuple[str, str]]:
    """Entries that name a base, each with its place."""
    metadata = adapter.source.metadata
    for key in (*_NAMES[:1], *_KINDS, "ss_sd_model_hash"):
        if text := _text(metadata.get(key)):
            yield key, text
    for key, value in _flat(_parsed(metadata.get("lora_adapter_metadata"))):
        if _last(key) == "base_model_name_or_path" and (text := _text(value)):
            yield f"lora_adapter_metadata {key}", text
    for key, value in _flat(_parsed(metadata.get("ot_config"))):
        if key == "base_model_name" and (text := _text(value)):
            yield f"ot_config {key}", text
    yield from _beside(adapter.path)


def _beside(path: Path) -> Iterator[tuple[str, str]]:
    config = path.with_name("adapter_config.json")
    if path.name == "adapter_model.safetensors" and config.is_file():
        entries = dict(_flat(_parsed(config.read_text(encoding="utf-8", errors="replace"))))
        if text := _text(entries.get("base_model_name_or_path")):
            yield "adapter_config.json base_model_name_or_path", text
    card = path.with_name("README.md")
    if path.name in ("adapter_model.safetensors", "pytorch_lora_weights.safetensors") and card.is_file():
        front = _FRONT_MATTER.match(card.read_text(encoding="utf-8", errors="replace"))
        if front and (found := _CARD_BASE.search(front[1])):
            yield "README.md base_model", found[1].strip()[:_LONGEST]


def _last(key: str) -> str:
    return key.rpartition(" ")[2].rpartition(".")[2]


def _text(value: Any) -> str:
    """A named base without the folders of somebody's machine; empty where nothing is said."""
    if not isinstance(value, str) or value.strip().lower() in ("", "none", "null"):
        return ""
    text = value.strip()
    if re.match(r"^([A-Za-z]:)?[\\/]|^~|^\.{1,2}[\\/]", text) or text.count("/") > 1 or "\\" in text:
        text = re.split(r"[\\/]", text.rstrip("\\/"))[-1]
    return text[:_LONGEST]


def _parsed(text: str | None) -> Any:
    try:
        return json.loads(text) if text else {}
    except json.JSONDecodeError:
        return {}


def _flat(value: Any) -> Iterator[tuple[str, Any]]:
    return iter(value.items()) if isinstance(value, Mapping) else iter(())


def _base_names(base: Path | str) -> list[str]:
    """Names of the base in use, the best known first: hub id, folder, what its index says."""
    folder = Path(base)
    if not folder.is_dir():
        return [str(base)]
    cached = [part for part in folder.resolve().parts if part.startswith("models--")]
    names = [part.removeprefix("models--").replace("--", "/") for part in cached]
    names.append(folder.resolve().name)
    said = _text(read_model_index(folder).get("_name_or_path")) if (folder / "model_index.json").is_file() else ""
    return [*names, said] if said else names


def _family_of_folder(base: Path | str) -> str | None:
    folder = Path(base)
    if not (folder / "model_index.json").is_file():
        return None
    pipeline = str(read_model_index(folder).get("_class_name"))
    return FAMILIES[pipeline].name if pipeline in FAMILIES else None


def _plain_name(name: str) -> str:
    """A name without owner, ending and punctuation."""
    bare = re.split(r"[\\/]", name)[-1].lower().removesuffix(".safetensors").removesuffix(".ckpt")
    return re.sub(r"[^a-z0-9]", "", bare)


def _short_hashes(base: Path | str) -> set[str]:
    """The hashes that sd-scripts would note for the single-file checkpoints in the base's folder."""
    folder = Path(base)
    files = [*folder.glob("*.safetensors"), *folder.glob("*.ckpt")] if folder.is_dir() else []
    found = set()
    for path in files:
        with path.open("rb") as stream:
            stream.seek(_HASH_START)
            found.add(hashlib.sha256(stream.read(_HASH_LENGTH)).hexdigest()[:8])
    return found
