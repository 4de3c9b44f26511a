"""`suite`: suites made from what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lorabench.cli import output
from lorabench.cli.options import (
    Assignments,
    Captions,
    ConfigFile,
    TrainingFolder,
    Trigger,
    load_settings,
)
from lorabench.errors import SpecError

app = typer.Typer(help="Suites made from other things.", no_args_is_help=True, rich_markup_mode=None)


class FileThereError(SpecError):
    """The file to be written exists."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"a new suite must not overwrite a file; {path} exists. Name another one, or give --force.")
        self.path = path


class OneSuiteError(SpecError):
    """A name that stands for several suites."""

    def __init__(self, name: str, n_found: int) -> None:
        super().__init__(f"prompts from captions are put beside one suite; {name} holds {n_found}. Name one file.")
        self.name = name


class SuiteNameError(SpecError):
    """A file name that no suite may have."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"a suite's file name must end in .lora.yaml; found {path.name!r}. Rename it.")
        self.path = path


@app.command("from-captions")
def from_captions(
    suite: Annotated[str, typer.Argument(help="The suite of novel prompts: a file, or the name of a shipped one.")],
    into: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The new suite (.lora.yaml).")],
    *,
    training_folder: TrainingFolder = None,
    captions: Captions = None,
    trigger: Trigger = None,
    n_captions: Annotated[int, typer.Option("--n-captions", min=1, help="Captions to use, evenly spread.")] = 12,
    config_file: ConfigFile = None,
    assignments: Assignments = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Put prompts made from training captions, word for word and paraphrased, beside a suite's novel ones.

    A run of the new suite shows the copy rate of each kind. Gates are decided on the novel prompts alone.
    """
    from lorabench.evaluation.caption_suite import caption_suite
    from lorabench.storage.atomic import write_text
    from lorabench.storage.suite_files import find_suites, is_suite_file, read_suite, suite_text

    stated = {
        "training_set.folder": training_folder,
        "training_set.captions": captions,
        "style.trigger": trigger,
    }
    config, _ = load_settings(stated, config_file=config_file, assignments=assignments)
    if not is_suite_file(into):
        raise SuiteNameError(into)
    if into.exists() and not force:
        raise FileThereError(into)
    paths = find_suites([suite])
    if len(paths) != 1:
        raise OneSuiteError(suite, len(paths))
    made = caption_suite(
        _captions(config.training_set.folder, config.training_set.captions),
        beside=read_suite(paths[0]).suite,
        style=config.style,
        n_captions=n_captions,
    )
    remark = "Made by `lorabench suite from-captions`. Cases of family memorisation hold training captions."
    write_text(into, suite_text(made.suite, remark=remark))
    output.data(f"wrote {into}")
    n_novel = len(made.suite.novel_cases)
    output.message(f"{n_novel} novel, {made.n_verbatim} verbatim and {made.n_paraphrased} paraphrased prompts.")


def _captions(folder: Path | None, captions: Path | None) -> dict[str, str]:
    from lorabench.storage.training_set import read_captions

    pictures = folder or (None if captions is None else captions.parent)
    return {} if pictures is None else read_captions(pictures, captions)
