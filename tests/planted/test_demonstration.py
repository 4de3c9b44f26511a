"""The demo as a newcomer sees it: three real adapters on the embedded model, each verdict for its true reasons."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lorabench.cli import app
from lorabench.judges.weights import fetch_lpips
from lorabench.storage.run_folder import read_results

pytestmark = [pytest.mark.slow, pytest.mark.weights]


def test_demo_says_pass_and_fail_and_fail_each_for_its_true_reasons(world_cache: Path, tmp_path: Path) -> None:
    fetch_lpips("alex")
    command = ["demo", "-q", "--no-fetch", "-o", str(tmp_path), "--cache-dir", str(world_cache)]
    done = CliRunner().invoke(app, command)

    assert done.exit_code == 0, done.output
    assert "Every verdict is the true one, and no gate failed without cause." in done.output
    found = {path.name.split("-")[2]: read_results(path) for path in (tmp_path / "runs").iterdir()}
    outcomes = {name: str(results.verdict.outcome) for name, results in found.items()}
    assert outcomes == {"healthy": "PASS", "overtrained": "FAIL", "palette": "FAIL"}
    failed = {name: {gate.gate for gate in one.gates if gate.outcome == "FAIL"} for name, one in found.items()}
    assert {"copy", "composition", "prompt"} <= failed["overtrained"]
    assert "palette" in failed["palette"]
    assert all(one.verdict.complete for one in found.values())
    assert all((tmp_path / f"{name}.html").stat().st_size > 100_000 for name in found)
