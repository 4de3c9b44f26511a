"""Run all benchmarks: `python -m benchmarks`."""

from __future__ import annotations

from benchmarks import lpips_neighbours, report_size, second_checkpoint, startup

for module in (startup, lpips_neighbours, second_checkpoint, report_size):
    print(f"\n== {module.__name__.removeprefix('benchmarks.')}: {(module.__doc__ or '').splitlines()[0]}")
    module.main()
