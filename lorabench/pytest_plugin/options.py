"""Flags and ini keys of the pytest plugin. Standard library and pytest only: every pytest session imports this."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

CI_VARIABLES: Final = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "JENKINS_URL", "TF_BUILD")
REQUIRE_COMPLETE_VARIABLE: Final = "LORABENCH_REQUIRE_COMPLETE"
DEFAULT_PATTERNS: Final = ("*.lora.yaml", "*.lora.yml")
AUTO_WINDOW: Final = 4
"""Prompts of a window unless a size is asked for: `-x` wastes at most so many, a batch is rarely half empty."""
OFF: Final = ("", "0", "false", "no")
_COMMON_NAMES: Final = ("pytorch_lora_weights", "adapter_model")
"""File names that trainers give every adapter; its folder says more."""


class LorabenchWarning(pytest.PytestWarning):
    """Something the plugin decided that a person should know."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One adapter of the command line. An empty path leaves the adapter to the settings file."""

    path: str = ""
    scale: float | None = None
    label: str = ""
    """Tells items of several adapters apart; empty where there is one."""


@dataclass(frozen=True, slots=True)
class Options:
    """What flags, ini keys and the environment ask of the plugin."""

    enabled: bool
    candidates: tuple[Candidate, ...]
    settings: Mapping[str, object]
    """Dotted keys of `Config`, as far as the command line and the ini file state them."""
    config_file: Path | None
    patterns: tuple[str, ...]
    window: int
    baseline_off: bool
    cache_only: bool
    no_cache: bool
    require_complete: bool
    required_suites: tuple[Path, ...]
    inconclusive_fails: bool
    missing_baseline_fails: bool
    dist_policy: str
    report: Path | None
    json: Path | None


def add_options(parser: pytest.Parser) -> None:
    """Register the flags and ini keys."""
    group = parser.getgroup("lorabench", "regression tests for text-to-image LoRAs")
    flag = group.addoption
    flag(
        "--lorabench", action="store_true", default=None, help="make pictures and judge gates (else suites are skipped)"
    )
    flag("--lorabench-config", metavar="PATH", help="settings file (default: lorabench.toml or [tool.lorabench])")
    flag("--lorabench-base", metavar="ID", help="base model, a folder or a hub id")
    flag(
        "--lorabench-lora",
        metavar="PATH[:SCALE]",
        action="append",
        default=[],
        help="adapter under test; repeat it to test several, each has items of its own",
    )
    flag("--lorabench-backend", metavar="NAME", help="what makes the pictures")
    flag("--lorabench-device", metavar="DEVICE", help="device of the base model")
    flag("--lorabench-seeds", metavar="LIST", help="seeds instead of the suite's own, separated by commas")
    flag("--lorabench-batch-size", metavar="N", help="prompts whose pictures are made together (default: auto)")
    flag("--lorabench-baseline", metavar="NAME", help="accepted baseline to compare with; none turns it off")
    flag("--lorabench-cache-only", action="store_true", help="never make a picture; a missing one fails its prompt")
    flag("--lorabench-no-cache", action="store_true", help="make every picture again, in a cache of this session's own")
    flag("--lorabench-require-complete", action="store_true", help="fail where an item of a suite is not selected")
    flag("--lorabench-allow-partial", action="store_true", help="turn --lorabench-require-complete off, also in CI")
    flag("--lorabench-inconclusive", choices=("fail", "pass"), help="what an undecided gate does (default: fail)")
    flag("--lorabench-report", metavar="PATH", help="write the HTML report of each suite that was judged")
    flag("--lorabench-json", metavar="PATH", help="write the results.json of each suite that was judged")
    _add_ini_keys(parser)


def _add_ini_keys(parser: pytest.Parser) -> None:
    key = parser.addini
    key("lorabench", "make pictures and judge gates", type="bool", default=False)
    key("lorabench_config", "settings file", type="string", default="")
    key("lorabench_suites", "file patterns of suites", type="args", default=list(DEFAULT_PATTERNS))
    key("lorabench_baseline_dir", "folder of accepted baselines", type="string", default="")
    key("lorabench_results_dir", "folder of runs", type="string", default="")
    key("lorabench_batch_size", "prompts whose pictures are made together", type="string", default="auto")
    key("lorabench_inconclusive", "what an undecided gate does: fail or pass", type="string", default="fail")
    key("lorabench_on_missing_baseline", "fail (the default in CI) or warn", type="string", default="")
    key("lorabench_dist_policy", "under xdist: loadfile, error or ignore", type="string", default="loadfile")
    key("lorabench_required_suites", "suite files that must be complete", type="args", default=[])


def read_options(config: pytest.Config, *, environ: Mapping[str, str]) -> Options:
    """Put flags, ini keys and environment together.

    Args:
        config: pytest's configuration.
        environ: The environment; `CI` and its likes, and LORABENCH_REQUIRE_COMPLETE.

    Raises:
        pytest.UsageError: Two of them contradict each other, or one is not understood.
    """
    option, ini = config.getoption, config.getini
    for one, other in (("require-complete", "allow-partial"), ("cache-only", "no-cache")):
        if option(f"--lorabench-{one}") and option(f"--lorabench-{other}"):
            msg = f"--lorabench-{one} and --lorabench-{other} exclude each other; found both. Give one of them."
            raise pytest.UsageError(msg)
    enabled = bool(option("--lorabench") or ini("lorabench"))
    in_ci = any(_is_on(environ.get(name)) for name in CI_VARIABLES)
    missing_baseline = _choice(config, "lorabench_on_missing_baseline", ("", "fail", "warn"))
    return Options(
        enabled=enabled,
        candidates=candidates(option("--lorabench-lora"), folder=config.invocation_params.dir),
        settings=_settings(config),
        config_file=_config_file(config),
        patterns=tuple(ini("lorabench_suites")),
        window=_window(option("--lorabench-batch-size") or ini("lorabench_batch_size")),
        baseline_off=option("--lorabench-baseline") == "none",
        cache_only=option("--lorabench-cache-only"),
        no_cache=option("--lorabench-no-cache"),
        require_complete=_require_complete(config, environ=environ, by_default=in_ci and enabled),
        required_suites=tuple(config.rootpath / path for path in ini("lorabench_required_suites")),
        inconclusive_fails=(
            option("--lorabench-inconclusive") or _choice(config, "lorabench_inconclusive", ("fail", "pass"))
        )
        == "fail",
        missing_baseline_fails=missing_baseline == "fail" or (not missing_baseline and in_ci),
        dist_policy=_choice(config, "lorabench_dist_policy", ("loadfile", "error", "ignore")),
        report=_from_invocation(config, option("--lorabench-report")),
        json=_from_invocation(config, option("--lorabench-json")),
    )


def candidates(texts: Sequence[str], *, folder: Path) -> tuple[Candidate, ...]:
    """Read `PATH[:SCALE]` arguments.

    Args:
        texts: The arguments; none stands for the adapter of the settings file.
        folder: What relative paths start from.

    Returns:
        The adapters; labelled, each differently, if there are several.

    Raises:
        pytest.UsageError: A scale is no finite number.
    """
    found = [_candidate(text, folder=folder) for text in texts] or [Candidate()]
    if len(found) == 1:
        return (Candidate(found[0].path, found[0].scale),)
    labels: list[str] = []
    for one in found:
        repeated = labels.count(one.label) or sum(label.startswith(f"{one.label}-") for label in labels)
        labels.append(f"{one.label}-{repeated + 1}" if one.label in labels else one.label)
    return tuple(Candidate(one.path, one.scale, label) for one, label in zip(found, labels, strict=True))


def _candidate(text: str, *, folder: Path) -> Candidate:
    path, colon, tail = text.rpartition(":")
    try:
        scale = float(tail) if colon and path else None
    except ValueError:
        scale = None
    if scale is not None and not math.isfinite(scale):
        msg = f"the scale of --lorabench-lora must be a finite number; found {text!r}. Write for example {path}:0.8."
        raise pytest.UsageError(msg)
    file = Path(text if scale is None else path)
    name = file.parent.name if file.stem in _COMMON_NAMES and file.parent.name else file.stem
    label = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-.") or "lora"
    if scale is not None:
        label += f"-x{scale:g}"
    return Candidate(str(folder / file) if (folder / file).exists() else str(file), scale, label)


def _settings(config: pytest.Config) -> dict[str, object]:
    option, ini = config.getoption, config.getini
    stated: dict[str, object] = {
        "model.base": option("--lorabench-base"),
        "model.backend": option("--lorabench-backend"),
        "model.device": option("--lorabench-device"),
        "seeds": _seeds(option("--lorabench-seeds")),
        "baseline": option("--lorabench-baseline"),
    }
    for key, name in (("baselines_dir", "lorabench_baseline_dir"), ("runs_dir", "lorabench_results_dir")):
        stated[key] = config.rootpath / ini(name) if ini(name) else None
    return {key: value for key, value in stated.items() if value is not None}


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        msg = f"--lorabench-seeds must be whole numbers separated by commas; found {text!r}. Write for example 1,2,3."
        raise pytest.UsageError(msg) from None


def _window(text: str) -> int:
    if text == "auto":
        return AUTO_WINDOW
    if text.isdecimal() and int(text) > 0:
        return int(text)
    msg = f"the batch size of lorabench must be a whole number of prompts from 1 up, or auto; found {text!r}."
    raise pytest.UsageError(msg)


def _choice(config: pytest.Config, name: str, allowed: Sequence[str]) -> str:
    found = str(config.getini(name))
    if found not in allowed:
        known = ", ".join(value for value in allowed if value)
        msg = f"ini key {name} must be one of {known}; found {found!r}. Correct it in the pytest settings."
        raise pytest.UsageError(msg)
    return found


def _require_complete(config: pytest.Config, *, environ: Mapping[str, str], by_default: bool) -> bool:
    if config.getoption("--lorabench-allow-partial"):
        return False
    stated = environ.get(REQUIRE_COMPLETE_VARIABLE)
    if config.getoption("--lorabench-require-complete") or _is_on(stated):
        return True
    return by_default and stated is None


def _is_on(value: str | None) -> bool:
    return value is not None and value.lower() not in OFF


def _config_file(config: pytest.Config) -> Path | None:
    flag = _from_invocation(config, config.getoption("--lorabench-config"))
    ini = config.getini("lorabench_config")
    return flag or (config.rootpath / ini if ini else None)


def _from_invocation(config: pytest.Config, path: str | None) -> Path | None:
    return config.invocation_params.dir / path if path else None
