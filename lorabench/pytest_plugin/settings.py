"""The settings of a run out of the plugin's options, and the suites a session reads."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabench.pytest_plugin.distribution import count_devices, worker_index
from lorabench.pytest_plugin.options import LorabenchWarning
from lorabench.storage.config_files import load_config

if TYPE_CHECKING:
    import pytest

    from lorabench.pytest_plugin.options import Candidate, Options
    from lorabench.records.config import Config


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one candidate, with what a person should know about them."""

    config: Config
    notes: tuple[str, ...]


def resolve_settings(config: pytest.Config, options: Options, candidate: Candidate) -> Settings:
    """The settings of a candidate: flags over environment over files, searched from pytest's root folder.

    Raises:
        SpecError: A setting is wrong.
    """
    stated: dict[str, Any] = dict(options.settings)
    if candidate.path:
        stated["candidate.lora"] = candidate.path
    if candidate.scale is not None:
        stated["candidate.scale"] = candidate.scale
    found, origins = load_config(stated, start=config.rootpath, explicit=options.config_file, environ=os.environ)
    changes: dict[str, Any] = {"runs_dir": config.rootpath / found.runs_dir}
    changes["baselines_dir"] = config.rootpath / found.baselines_dir
    if options.baseline_off:
        changes["baseline"] = None
    device = _own_device(config, found)
    if device is not None:
        changes["model"] = found.model.model_copy(update={"device": device})
    return Settings(found.model_copy(update=changes), origins.notes)


def tolerate_missing_baseline(config: Config, options: Options) -> Config:
    """Leave out a baseline that does not exist, with a warning, unless that is a failure here."""
    if config.baseline is None or options.missing_baseline_fails:
        return config
    file = config.baselines_dir / config.baseline.partition("@")[0] / "baseline.json"
    if file.is_file():
        return config
    words = (
        f"no baseline {config.baseline!r} in {config.baselines_dir}: gates compare with the base only. "
        f"Make one with `lorabench baseline accept`. In CI this fails."
    )
    warnings.warn(LorabenchWarning(words), stacklevel=2)
    return config.model_copy(update={"baseline": None})


@cache
def read_captions(folder: Path, captions: Path | None) -> Mapping[str, str]:
    """Training captions by picture name; no picture is read."""
    from lorabench.storage import training_set  # reads pictures elsewhere, so it brings NumPy

    return training_set.read_captions(folder, captions)


def backend_needs_device(config: Config) -> bool:
    """Whether the configured backend computes on a device; one that says `needs_device = False` runs anywhere."""
    from lorabench.registry import BACKENDS

    return bool(getattr(BACKENDS.load(config.model.backend), "needs_device", True))


def _own_device(config: pytest.Config, found: Config) -> str | None:
    """`cuda:<i>` for the i-th xdist worker where there are several GPUs."""
    index, n_devices = worker_index(config), count_devices(os.environ)
    if index is None or n_devices < 2 or found.model.device not in ("auto", "cuda"):
        return None
    return f"cuda:{index % n_devices}"
