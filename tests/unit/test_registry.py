import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from lorabench.errors import SpecError
from lorabench.records.measurement import Metric
from lorabench.registry import BACKENDS, JUDGES, METRICS, Registry, UnknownNameError


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_name_leads_to_the_metric_of_that_name(name: str) -> None:
    metric = METRICS.load(name)

    assert isinstance(metric, Metric)
    assert metric.name == name


def test_every_name_loads_without_torch() -> None:
    script = (
        "import sys\n"
        "from lorabench.registry import BACKENDS, JUDGES, METRICS\n"
        "for registry in (METRICS, JUDGES, BACKENDS):\n"
        "    for name in registry.names():\n"
        "        registry.load(name)\n"
        "print([name for name in ('torch', 'diffusers', 'transformers', 'open_clip', 'lpips') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_listing_names_imports_nothing() -> None:
    registry = Registry("lorabench.metrics", {"b": "no_such_module:X", "a": "no_such_module:Y"})

    assert registry.names() == ["a", "b"]


def test_typo_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError) as caught:
        METRICS.load("clip_text_similarty")

    assert str(caught.value) == (
        "lorabench.metrics must be registered; found no 'clip_text_similarty'. Did you mean 'clip_text_similarity'?"
    )
    assert isinstance(caught.value, SpecError)
    assert caught.value.exit_code == 2


def test_name_that_resembles_none_gets_the_list() -> None:
    with pytest.raises(UnknownNameError, match=r"found no 'zzz'\. Known: diffusers, synthetic\."):
        BACKENDS.load("zzz")


def install_plugin(folder: Path, monkeypatch: pytest.MonkeyPatch, *, group: str, entry: str) -> None:
    """A distribution with one entry point, as pip would have left it."""
    (folder / "a_plugin.py").write_text("PART = 'from the plugin'\n", encoding="utf-8")
    facts = folder / "a_plugin-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: a-plugin\nVersion: 1.0\n", encoding="utf-8")
    (facts / "entry_points.txt").write_text(f"[{group}]\n{entry}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))


def test_other_distributions_add_names_after_the_built_in_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugin(tmp_path, monkeypatch, group="lorabench.backends", entry="comfy = a_plugin:PART")

    assert BACKENDS.names() == ["diffusers", "synthetic", "comfy"]
    assert BACKENDS.load("comfy") == "from the plugin"
    assert "comfy" not in JUDGES.names()


def test_other_distributions_cannot_replace_a_built_in_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugin(tmp_path, monkeypatch, group="lorabench.judges", entry="oracle = a_plugin:PART")

    assert JUDGES.names().count("oracle") == 1
    assert JUDGES.load("oracle").__name__ == "OracleDetector"


def test_entry_points_with_extras_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugin(tmp_path, monkeypatch, group="lorabench.backends", entry="comfy = a_plugin:PART [fast]")
    assert EntryPoint("comfy", "a_plugin:PART [fast]", "lorabench.backends").extras == ["fast"]

    assert BACKENDS.load("comfy") == "from the plugin"
