"""Start-up of the faces, as multiples of an empty Python process: `lorabench --help`, and collecting 2,000 prompts."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import best_seconds

HEADER = "schema_version: 1\nname: many\nlicence: CC0-1.0\nseeds: [1]\ncases:\n"
CASE = '  - {{id: case-{n:04d}, family: spatial, prompt: "{{style}} a red circle number {n}"}}\n'


def main() -> None:
    empty = best_seconds(lambda: _run("-c", "pass"))
    help_seconds = best_seconds(lambda: _run("-m", "lorabench", "--help"))
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "many.lora.yaml"
        suite.write_text(HEADER + "".join(CASE.format(n=n) for n in range(2000)), encoding="utf-8")
        collect = ("-m", "pytest", "-q", "--collect-only")
        bare = best_seconds(lambda: _run(*collect, "-p", "no:lorabench", cwd=folder, codes=(5,)))
        full = best_seconds(lambda: _run(*collect, str(suite), cwd=folder))
    print(f"empty Python process                 {empty:6.2f} s")
    print(f"lorabench --help                     {help_seconds:6.2f} s   {help_seconds / empty:5.1f} x empty process")
    print(f"pytest, nothing to collect           {bare:6.2f} s")
    print(f"pytest, 2,000 prompts collected      {full:6.2f} s   {full / bare:5.1f} x nothing to collect")


def _run(*arguments: str, cwd: str | None = None, codes: tuple[int, ...] = (0,)) -> None:
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")


if __name__ == "__main__":
    main()
