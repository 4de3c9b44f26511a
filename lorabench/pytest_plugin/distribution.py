"""Running under pytest-xdist: one suite file stays on one worker, one worker has one device."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from lorabench.pytest_plugin.options import LorabenchWarning

if TYPE_CHECKING:
    from lorabench.pytest_plugin.options import Options

SAFE_MODES: Final = ("no", "loadfile", "loadscope")
"""Ways of distribution that keep the items of a suite file together."""
_DEVICE_LISTS: Final = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def count_devices(environ: Mapping[str, str], *, dev: Path = Path("/dev")) -> int:
    """Number of GPUs this process may use, without loading torch; at least 1, for the CPU counts as one device.

    Args:
        environ: The environment; a list of visible devices in it counts first.
        dev: Folder of device files.
    """
    for name in _DEVICE_LISTS:
        if name in environ:
            listed = [entry.strip() for entry in environ[name].split(",")]
            visible = listed[: listed.index("-1")] if "-1" in listed else listed
            return max(1, sum(bool(entry) for entry in visible))
    found = [path for path in dev.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)] if dev.is_dir() else []
    return max(1, len(found))


def is_worker(config: pytest.Config) -> bool:
    """Whether this process runs items for a controller."""
    return hasattr(config, "workerinput")


def worker_index(config: pytest.Config) -> int | None:
    """0 for the first worker; None outside xdist."""
    found = re.search(r"\d+", str(getattr(config, "workerinput", {}).get("workerid", "")))
    return int(found.group()) if found else None


def apply_policy(config: pytest.Config, options: Options, *, n_devices: int, needs_device: bool) -> None:
    """Keep suite files together, and refuse more workers than devices.

    Runs before xdist reads its own options, so that its defaults come after ours.

    Args:
        config: pytest's configuration; `dist` may be changed.
        options: The plugin's options.
        n_devices: Devices of this machine.
        needs_device: Whether the backend computes on one.

    Raises:
        pytest.UsageError: The policy is `error`, or there are more workers than devices.
    """
    if options.dist_policy == "ignore" or not is_distributed(config):
        return
    if options.dist_policy == "error":
        msg = (
            "lorabench_dist_policy = error allows no xdist; found -n, --tx or --dist. Run without them, "
            "or set the key to loadfile."
        )
        raise pytest.UsageError(msg)
    asked = config.getoption("numprocesses", None)
    if isinstance(asked, int) and asked > n_devices and needs_device and not options.cache_only:
        msg = (
            f"one worker needs one device; found -n {asked} and {n_devices} device{'s' if n_devices != 1 else ''}. "
            f"Use -n {n_devices} or -n auto. To judge with many processes, make the pictures first and then "
            "run with --lorabench-cache-only."
        )
        raise pytest.UsageError(msg)
    mode = "load" if config.getoption("distload", False) else config.getoption("dist", "no")
    if mode not in SAFE_MODES:
        words = f"lorabench keeps each suite file on one worker: --dist {mode} is replaced by --dist loadfile."
        config.issue_config_time_warning(LorabenchWarning(words), stacklevel=2)
    if mode != "loadscope":
        config.option.distload = False
        config.option.dist = "loadfile"


def is_distributed(config: pytest.Config) -> bool:
    """Whether xdist was asked to use workers. Holds before xdist has read its own options."""
    if is_worker(config) or not config.pluginmanager.hasplugin("xdist"):
        return False
    asked = config.getoption("numprocesses", None)
    if asked == 0:
        return False
    return bool(asked or config.getoption("tx", None) or config.getoption("distload", False))
