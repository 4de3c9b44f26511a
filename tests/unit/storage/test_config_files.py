"""Settings: who wins, where each comes from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabench.records.config import Config
from lorabench.storage.config_files import ConfigError, load_config


def load(start: Path, *, cli=None, explicit=None, environ=None):
    return load_config(cli or {}, start=start, explicit=explicit, environ=environ or {})


def write(folder: Path, text: str, name: str = "lorabench.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    (root / ".git").mkdir(parents=True)
    return root


def test_without_anything_there_are_defaults(repository: Path) -> None:
    config, origins = load(repository)

    assert config == Config()
    assert set(origins.values()) == {"default"}
    assert origins.file is None
    assert origins.notes == ()


def test_command_line_beats_environment_beats_file_beats_default(repository: Path) -> None:
    path = write(repository, "[generation]\nheight = 1\nwidth = 2\nnum_inference_steps = 3\n")

    config, origins = load(
        repository,
        cli={"generation": {"height": 100, "width": None}},
        environ={"LORABENCH_GENERATION__HEIGHT": "10", "LORABENCH_GENERATION__WIDTH": "20"},
    )

    assert (config.generation.height, config.generation.width) == (100, 20)
    assert config.generation.num_inference_steps == 3
    assert origins["generation.height"] == "command line"
    assert origins["generation.width"] == "LORABENCH_GENERATION__WIDTH"
    assert origins["generation.num_inference_steps"] == str(path)
    assert origins["generation.guidance_scale"] == "default"


def test_dotted_options_are_nested_ones(repository: Path) -> None:
    assert (
        load(repository, cli={"generation.height": 64, "limit": 3})[0]
        == load(repository, cli={"generation": {"height": 64}, "limit": 3})[0]
    )


def test_project_table_is_read(repository: Path) -> None:
    write(repository, "[tool.lorabench.generation]\nheight = 5\n", "pyproject.toml")

    config, origins = load(repository)

    assert config.generation.height == 5
    assert origins["generation.height"].endswith("pyproject.toml [tool.lorabench]")


def test_own_file_beats_the_project_table_with_a_note(repository: Path) -> None:
    write(repository, "limit = 1\n")
    write(repository, "[tool.lorabench]\nlimit = 2\narms = ['B0']\n", "pyproject.toml")

    config, origins = load(repository)

    assert config.limit == 1
    assert config.arms == Config().arms
    assert len(origins.notes) == 1
    assert "[tool.lorabench] in" in origins.notes[0]
    assert "is ignored. Keep one of them." in origins.notes[0]


def test_search_goes_up_to_the_repository_root_and_no_further(repository: Path) -> None:
    write(repository.parent, "limit = 9\n")
    deep = repository / "a" / "b"
    deep.mkdir(parents=True)
    assert load(deep)[0].limit is None

    write(repository, "limit = 4\n")
    assert load(deep)[0].limit == 4

    write(repository / "a", "[tool.other]\nx = 1\n", "pyproject.toml")
    assert load(deep)[0].limit == 4

    write(repository / "a", "limit = 5\n")
    assert load(deep)[0].limit == 5


def test_named_file_stops_the_search(repository: Path, tmp_path: Path) -> None:
    write(repository, "limit = 4\n")
    other = write(tmp_path / "elsewhere", "limit = 7\n", "nightly.toml")

    assert load(repository, explicit=other)[0].limit == 7


def test_paths_of_a_file_start_from_its_folder(repository: Path) -> None:
    (repository / "models" / "tiny").mkdir(parents=True)
    write(repository / "suites", "", "mine.lora.yaml")
    write(
        repository,
        """
suites = ["suites/mine.lora.yaml", "world/screen", "suites"]
cache_dir = "cache"
[model]
base = "models/tiny"
[candidate]
lora = "out/pytorch_lora_weights.safetensors"
[training_set]
folder = "pictures"
[judges]
clip = "local-dir:./clip"
detector = "oracle"
""",
    )
    (repository / "deep").mkdir()

    config, _ = load(repository / "deep")

    assert config.suites == (repository / "suites/mine.lora.yaml", Path("world/screen"), repository / "suites")
    assert config.cache_dir == repository / "cache"
    assert config.training_set.folder == repository / "pictures"
    assert config.model.base == str(repository / "models/tiny")
    assert config.candidate.lora == str(repository / "out/pytorch_lora_weights.safetensors")
    assert config.judges.clip == f"local-dir:{repository / 'clip'}"
    assert config.judges.detector == "oracle"
    assert config.runs_dir == repository / ".lorabench/runs"


def test_hub_ids_and_absolute_paths_stay(repository: Path) -> None:
    write(repository, 'cache_dir = "/var/cache/x"\n[model]\nbase = "black-forest-labs/FLUX.1-dev"\n')

    config, _ = load(repository)

    assert config.model.base == "black-forest-labs/FLUX.1-dev"
    assert config.cache_dir == Path("/var/cache/x")


def test_paths_of_command_line_and_environment_stay(repository: Path) -> None:
    write(repository, "limit = 1\n")

    config, _ = load(repository, cli={"cache_dir": Path("here")}, environ={"LORABENCH_TRAINING_SET__FOLDER": "there"})

    assert config.cache_dir == Path("here")
    assert config.training_set.folder == Path("there")


def test_environment_lists_empties_and_foreign_variables(repository: Path) -> None:
    config, _ = load(
        repository,
        environ={
            "LORABENCH_SEEDS": "1, 2,3",
            "LORABENCH_SUITES": "spatial",
            "LORABENCH_BASELINE": "",
            "LORABENCH_TEST_DATA": "/data",
            "LORABENCH_WEIGHTS_DIR": "/weights",
            "LORABENCHMARK": "x",
            "LORABENCH_GATES__COPY_RATE__MARGIN": "0.2",
        },
    )

    assert config.seeds == (1, 2, 3)
    assert config.suites == (Path("spatial"),)
    assert config.baseline is None
    assert config.gates["copy_rate"].margin == 0.2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[generation]\nheigth = 3\n", "generation.heigth: unknown key 'heigth'. Did you mean 'height'?"),
        ("[modle]\nbase = 'x'\n", "modle: unknown key 'modle'. Did you mean 'model'?"),
        ("[gates.copy]\nmargn = 1\n", "gates.copy.margn: unknown key 'margn'. Did you mean 'margin'?"),
        ("[generation]\nheight = 'tall'\n", "generation.height: must be a whole number; found 'tall'"),
        ("generation = 3\n", "generation: must be a table of keys and values; found 3"),
        ("arms = ['B7']\n", "arms[0]: must be one of B0, B1, L1, L0; found 'B7'"),
        ("suites = 'spatial'\n", "suites: must be a list; found 'spatial'"),
        ("limit = \n", "must be TOML"),
    ],
)
def test_mistakes_name_file_and_key(repository: Path, text: str, words: str) -> None:
    path = write(repository, text)

    with pytest.raises(ConfigError) as caught:
        load(repository)

    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_mistakes_of_each_layer_name_their_origin(repository: Path) -> None:
    path = write(repository, "limt = 3\n")

    with pytest.raises(ConfigError) as caught:
        load(repository, cli={"generation.height": -1}, environ={"LORABENCH_MODEL__BAES": "x"})

    message = str(caught.value)
    assert "found 3 problems" in message
    assert f"{path}: limt: unknown key 'limt'. Did you mean 'limit'?" in message
    assert "LORABENCH_MODEL__BAES: model.baes: unknown key 'baes'. Did you mean 'base'?" in message
    assert "command line: generation.height: must be greater than 0; found -1" in message


def test_missing_or_wrong_named_files_are_told(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a file that can be read"):
        load(repository, explicit=tmp_path / "none.toml")
    bare = write(tmp_path / "x", "[project]\nname = 'x'\n", "pyproject.toml")
    with pytest.raises(ConfigError, match=r"must hold a table \[tool.lorabench\]; found none"):
        load(repository, explicit=bare)
    odd = write(tmp_path / "y", "[tool]\nlorabench = 3\n", "pyproject.toml")
    with pytest.raises(ConfigError, match=r"\[tool.lorabench\] must be a table"):
        load(repository, explicit=odd)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"baseline = '\xe9'\n")
    with pytest.raises(ConfigError, match="must be UTF-8"):
        load(repository, explicit=latin)


def test_list_replaces_a_list(repository: Path) -> None:
    write(repository, "seeds = [1, 2, 3]\n")

    assert load(repository, cli={"seeds": [9]})[0].seeds == (9,)
