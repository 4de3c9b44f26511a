"""Killed in the middle: the same command goes on, ends with the same numbers, and makes at most a batch again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

BATCH = 4
ROOT = Path(__file__).resolve().parents[3]
SLOW = """
import time
from lorabench.generation.synthetic import SyntheticBackend
draw = SyntheticBackend._draw_batch
def slowly(self, batch, *, settings):
    time.sleep(0.3)
    return draw(self, batch, settings=settings)
SyntheticBackend._draw_batch = slowly
from lorabench.cli import main
main()
"""
COMMAND = ("run", "-q", "--no-report", "--format", "json", "--batch-size", str(BATCH))


def start(folder: Path, cache: str = "cache") -> subprocess.Popen[str]:
    arguments = [sys.executable, "-W", "ignore", "-c", SLOW, *COMMAND, "--cache-dir", cache]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LORABENCH_")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))
    return subprocess.Popen(
        arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def finished(cache: Path) -> set[str]:
    return {path.stem for path in cache.glob("pictures/??/*.json")}


def wait_for_pictures(cache: Path, process: subprocess.Popen[str], *, n: int) -> None:
    deadline = time.monotonic() + 120
    while len(finished(cache)) < n:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def numbers(folder: Path) -> dict[str, Any]:
    """All that a run found out; not when, where and how fast."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    images = [{key: image[key] for key in ("cell", "sha256", "cache_key")} for image in results["images"]]
    left_out = ("provenance", "images")
    return {"images": images, **{key: value for key, value in results.items() if key not in left_out}}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_after_kill_9_the_same_command_goes_on_and_finds_the_same_numbers(project: Any) -> None:
    cache = project.folder / "cache"
    process = start(project.folder)
    wait_for_pictures(cache, process, n=2 * BATCH)
    process.kill()
    process.communicate()
    kept = finished(cache)
    unfinished = project.call("list", "runs", "--json")

    again = project.call(*COMMAND)
    (folder,) = project.run_folders()
    resumed = numbers(folder)
    provenance = json.loads((folder / "results.json").read_text(encoding="utf-8"))["provenance"]
    (folder / "results.json").unlink()
    fresh = project.call(*COMMAND, "--cache-dir", "other-cache")

    assert process.returncode == -signal.SIGKILL
    assert json.loads(unfinished.stdout)[0]["outcome"] == "unfinished"
    assert again.exit_code == fresh.exit_code == 0
    assert 2 * BATCH <= len(kept) < 18
    assert provenance["n_from_cache"] == len(kept)
    assert provenance["n_generated"] == 18 - len(kept)
    assert numbers(folder) == resumed


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_ctrl_c_in_a_real_process_ends_with_130(project: Any) -> None:
    process = start(project.folder)
    wait_for_pictures(project.folder / "cache", process, n=1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)

    assert process.returncode == 130
    assert told == "lorabench: interrupted; finished pictures are kept, the same command goes on there.\n"
