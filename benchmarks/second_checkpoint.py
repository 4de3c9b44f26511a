"""A second checkpoint against the first, on the embedded model: no control picture is made again.

Also: how much of the time goes elsewhere than into generation and encoders.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from lorabench.evaluation.demonstration import demonstrations
from lorabench.evaluation.engine import open_run
from lorabench.evaluation.observer import Observer
from lorabench.records.plan import Arm
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite


def main() -> None:
    suite = read_suite(shipped_suite_path("world/screen")).suite
    with tempfile.TemporaryDirectory() as folder:
        first, second = [
            _timed(demo.config, suite)
            for demo in demonstrations(runs_dir=Path(folder), cache_dir=Path(folder) / "cache")[:2]
        ]
    for name, (seconds, made, control, stages) in (("first", first), ("second", second)):
        known = stages["generating"] + stages["encoding"]
        print(
            f"{name:7s} {seconds:6.1f} s, {made} pictures made, {control} of them control pictures; "
            f"outside generation and encoders {max(0.0, 1 - known / seconds):.1%}"
        )
    print(f"second / first = {second[0] / first[0]:.2f}")


def _timed(config, suite):
    observer = Observer()
    run = open_run(config, suite=suite, observer=observer)
    # Loading models belongs to generation and encoding, which need them.
    started = time.perf_counter()
    with observer.stage("generating"):
        run.backend.fingerprint()
    results = run.finish()
    seconds = time.perf_counter() - started
    fresh = [image for image in results.images if not image.from_cache]
    control = sum(image.cell.arm in (Arm.BASE, Arm.CONTROL) for image in fresh)
    return seconds, len(fresh), control, observer.seconds


if __name__ == "__main__":
    main()
