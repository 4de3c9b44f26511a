"""Under pytest-xdist: suite files stay together, devices are not shared, nothing is lost on the way."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import pytest

from lorabench.pytest_plugin.distribution import apply_policy, count_devices, worker_index
from lorabench.pytest_plugin.options import LorabenchWarning, Options

pytest.importorskip("xdist")

OPTIONS = Options(
    enabled=True,
    candidates=(),
    settings={},
    config_file=None,
    patterns=(),
    window=4,
    baseline_off=False,
    cache_only=False,
    no_cache=False,
    require_complete=False,
    required_suites=(),
    inconclusive_fails=True,
    missing_baseline_fails=False,
    dist_policy="loadfile",
    report=None,
    json=None,
)


class Configuration:
    """As much of pytest's configuration as the policy reads, before xdist has read its own options."""

    def __init__(self, **options: object) -> None:
        self.option = SimpleNamespace(**({"numprocesses": None, "dist": "no", "tx": [], "distload": False} | options))
        self.pluginmanager = SimpleNamespace(hasplugin=lambda name: name == "xdist")
        self.warnings: list[Warning] = []

    def getoption(self, name: str, default: object = None) -> object:
        return getattr(self.option, name, default)

    def issue_config_time_warning(self, warning: Warning, stacklevel: int) -> None:
        self.warnings.append(warning)


def apply(config, *, options=OPTIONS, n_devices=1, needs_device=False):
    apply_policy(config, options, n_devices=n_devices, needs_device=needs_device)


def test_two_workers_and_none_give_the_same_items_verdicts_and_summary(project):
    project.suite("other.lora.yaml", name="other", n=2, seeds=(1,), prefix="q")
    project.plant("black", "p2")

    alone = project.run_workers("-n", "0", "--lorabench", "--junitxml=alone.xml", "-q")
    shared = project.run_workers("-n", "2", "--lorabench", "--junitxml=shared.xml", "--lorabench-json", "results.json")

    def cases(name: str) -> dict[tuple[str, str], bool]:
        tree = ElementTree.parse(project.path / name)
        return {
            (case.attrib["classname"], case.attrib["name"]): case.find("failure") is not None
            for case in tree.iter("testcase")
        }

    assert alone.ret == shared.ret == pytest.ExitCode.TESTS_FAILED
    assert cases("alone.xml") == cases("shared.xml")
    assert {name for (_, name), failed in cases("shared.xml").items() if failed} == {"p2", "gate:broken"}
    shared.stdout.fnmatch_lines(["tiny: 3 of 3 prompts evaluated (3 selected); *"])
    shared.stdout.fnmatch_lines(["  broken * broken_rate * FAIL"])
    assert sorted(path.name for path in project.path.glob("results-*.json")) == [
        "results-other.json",
        "results-tiny.json",
    ]
    calls = [case for call in project.calls() for case in call]
    assert sorted(calls) == ["p1", "p2", "p3", "q1", "q2"]


def test_unsafe_distribution_is_replaced_with_one_warning_and_incompleteness_still_shows(project):
    result = project.run_workers(
        "-n", "2", "--dist", "load", "--lorabench", "-k", "p1", "--lorabench-require-complete", "--junitxml=junit.xml"
    )

    names = [case.attrib["name"] for case in ElementTree.parse(project.path / "junit.xml").iter("testcase")]
    assert sorted(names) == ["complete", "p1"]
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    told = [line for line in result.outlines if "--dist load is replaced by --dist loadfile" in line]
    assert len(told) == 1


def test_more_workers_than_devices_are_a_usage_error(project):
    settings = project.path / "lorabench.toml"
    settings.write_text(settings.read_text().replace('"synthetic"', '"diffusers"'))

    result = project.run_workers("-n", "99", "--lorabench")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*one worker needs one device; found -n 99 and * device*"])


def test_forgotten_flag_is_told_under_xdist_too(project):
    result = project.run_workers("-n", "1")

    result.stdout.fnmatch_lines(["lorabench: 0 of 3 prompts evaluated; give --lorabench to evaluate them"])


@pytest.mark.parametrize(
    ("options", "mode", "n_warnings"),
    [
        ({"numprocesses": 2}, "loadfile", 0),
        ({"numprocesses": "auto"}, "loadfile", 0),
        ({"numprocesses": 2, "dist": "loadgroup"}, "loadfile", 1),
        ({"numprocesses": 2, "dist": "worksteal"}, "loadfile", 1),
        ({"numprocesses": 2, "dist": "loadscope"}, "loadscope", 0),
        ({"numprocesses": 2, "dist": "loadfile"}, "loadfile", 0),
        ({"distload": True, "tx": ["popen"]}, "loadfile", 1),
        ({"numprocesses": 0}, "no", 0),
        ({}, "no", 0),
    ],
)
def test_way_of_distribution(options, mode, n_warnings):
    config = Configuration(**options)

    apply(config)

    assert config.option.dist == mode
    assert [type(warning) for warning in config.warnings] == [LorabenchWarning] * n_warnings


def test_policy_error_refuses_and_policy_ignore_leaves_everything():
    with pytest.raises(pytest.UsageError, match="lorabench_dist_policy = error allows no xdist"):
        apply(Configuration(numprocesses=2), options=dataclasses.replace(OPTIONS, dist_policy="error"))

    config = Configuration(numprocesses=2, dist="load")
    apply(config, options=dataclasses.replace(OPTIONS, dist_policy="ignore"), needs_device=True)
    assert config.option.dist == "load"


@pytest.mark.parametrize(
    ("n_devices", "needs_device", "cache_only", "refused"),
    [(1, True, False, True), (2, True, False, False), (1, False, False, False), (1, True, True, False)],
)
def test_workers_against_devices(n_devices, needs_device, cache_only, refused):
    options = dataclasses.replace(OPTIONS, cache_only=cache_only)
    config = Configuration(numprocesses=2)

    if refused:
        with pytest.raises(pytest.UsageError, match=r"found -n 2 and 1 device\. Use -n 1 or -n auto"):
            apply(config, options=options, n_devices=n_devices, needs_device=needs_device)
    else:
        apply(config, options=options, n_devices=n_devices, needs_device=needs_device)


@pytest.mark.parametrize(
    ("environ", "files", "expected"),
    [
        ({}, [], 1),
        ({}, ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"], 2),
        ({"CUDA_VISIBLE_DEVICES": "3,5,7"}, ["nvidia0"], 3),
        ({"CUDA_VISIBLE_DEVICES": ""}, ["nvidia0", "nvidia1"], 1),
        ({"CUDA_VISIBLE_DEVICES": "0,-1,2"}, [], 1),
        ({"HIP_VISIBLE_DEVICES": "0,1"}, [], 2),
    ],
)
def test_count_of_devices(tmp_path, environ, files, expected):
    for name in files:
        (tmp_path / name).touch()

    assert count_devices(environ, dev=tmp_path) == expected


def test_index_of_a_worker():
    assert worker_index(SimpleNamespace(workerinput={"workerid": "gw3"})) == 3
    assert worker_index(SimpleNamespace()) is None
