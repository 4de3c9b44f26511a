"""A second checkpoint against the first, on the embedded model: no control picture is made again.

Also: how much of the time goes elsewhere than into generation and encoders, by the clock on the wall and by the
processor time of this process, which a busy machine moves less. Pixel measures are part of encoding.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorabench.evaluation.demonstration import demonstrations
from lorabench.evaluation.engine import open_run
from lorabench.evaluation.observer import Observer
from lorabench.records.plan import Arm
from lorabench.storage.shipped import shipped_suite_path
from lorabench.storage.suite_files import read_suite


class Stopwatch(Observer):
    """Keeps the processor time of each stage beside its wall time."""

    def __init__(self) -> None:
        super().__init__()
        self.cpu_seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: int = 0) -> Iterator[None]:
        """As `Observer.stage`, on both clocks."""
        started = time.process_time()
        try:
            with super().stage(name, total):
                yield
        finally:
            self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + time.process_time() - started


def main() -> None:
    suite = read_suite(shipped_suite_path("world/screen")).suite
    with tempfile.TemporaryDirectory() as folder:
        first, second = [
            _timed(demo.config, suite)
            for demo in demonstrations(runs_dir=Path(folder), cache_dir=Path(folder) / "cache")[:2]
        ]
    for name, (wall, cpu, made, control) in (("first", first), ("second", second)):
        print(f"{name}: {made} pictures made, {control} of them control pictures")
        for clock, stages in (("wall", wall), ("processor", cpu)):
            outside = stages["all"] - stages["generating"] - stages["encoding"]
            parts = ", ".join(f"{stage} {stages[stage]:.2f} s" for stage in ("generating", "encoding", "judging"))
            print(
                f"    {clock:9s} {stages['all']:7.2f} s ({parts}); outside generation and encoders {outside:.2f} s: "
                f"{outside / stages['all']:.1%}"
            )
    for clock, index in (("wall", 0), ("processor", 1)):
        print(f"second / first ({clock}) = {second[index]['all'] / first[index]['all']:.2f}")


def _timed(config, suite):
    observer = Stopwatch()
    run = open_run(config, suite=suite, observer=observer)
    # Loading models belongs to generation and encoding, which need them.
    with observer.stage("all"):
        with observer.stage("generating"):
            run.backend.fingerprint()
        results = run.finish()
    fresh = [image for image in results.images if not image.from_cache]
    control = sum(image.cell.arm in (Arm.BASE, Arm.CONTROL) for image in fresh)
    return observer.seconds, observer.cpu_seconds, len(fresh), control


if __name__ == "__main__":
    main()
