"""`init`: a first settings file, suite and CI workflow. What exists is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lorabench.cli import output

SETTINGS = """\
# lorabench settings. Command line over LORABENCH_* variables over this file over defaults.
# `lorabench doctor --config` prints every setting and where it came from.
suites = ["suites/my-style.lora.yaml"]

[model]
base = "black-forest-labs/FLUX.1-dev"   # folder of a diffusers pipeline, or a hub id

[candidate]
# lora = "output/my-style.safetensors"  # or --lora on the command line
scale = 1.0

[style]
trigger = "in the style of mystyle"     # what the adapter was trained to answer to
plain = "as a flat vector illustration" # the same look in words the base understands: the control

[generation]
height = 768
width = 768
num_inference_steps = 28

[training_set]
# folder = "dataset"                    # copies, texture and palette are read against these pictures

[judges]
clip = "ViT-B-32"
clip_pretrained = "laion2b_s34b_b79k"
detector = "owlv2:google/owlv2-base-patch16-ensemble"

# [gates.prompt]
# margin = 0.10                         # `lorabench list gates` prints all gates and margins
"""

SUITE = """\
# Held-out prompts: none may be a training caption; `lorabench validate` checks it.
# More cases narrow the intervals; more seeds of the same cases do so far less.
schema_version: 1
name: my-style
licence: CC0-1.0
seeds: [101, 202]
cases:
  - id: spatial-cat-dog
    family: spatial
    prompt: "{style}, a cat to the left of a dog"
    checks:
      - {type: object, label: cat}
      - {type: object, label: dog}
      - {type: relation, subject: cat, relation: left of, object: dog}
    foils:
      - {kind: relation, prompt: "{style}, a cat to the right of a dog"}
  - id: binding-red-cup
    family: attribute_binding
    prompt: "{style}, a red cup beside a blue book"
    checks:
      - {type: object, label: cup, color: red}
      - {type: object, label: book, color: blue}
    foils:
      - {kind: swap, prompt: "{style}, a blue cup beside a red book"}
  - id: counting-three-apples
    family: counting
    prompt: "{style}, three apples on a table"
    checks:
      - {type: count, label: apple, count: 3}
  - id: palette-cool
    family: palette
    prompt: "{style}, a harbour at night in blue and cyan"
    checks:
      - {type: palette, hues: [[180, 280]]}
"""

WORKFLOW = """\
name: lora
on:
  workflow_dispatch:
    inputs:
      lora:
        description: Adapter to judge
        required: true
  push:
    paths: ["suites/**", "lorabench.toml"]

jobs:
  validate:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {python-version: "3.12"}
      - run: pip install lorabench
      - run: lorabench validate --format github

  judge:
    if: github.event_name == 'workflow_dispatch'
    runs-on: [self-hosted, gpu]
    steps:
      - uses: actions/checkout@v4
      - run: pip install 'lorabench[models]'
      - run: lorabench weights fetch lpips
      - name: Judge
        env:
          LORA: ${{ inputs.lora }}
        run: lorabench run --lora "$LORA" --runs-dir runs --report report --no-training-images
      - name: Summary
        if: always()
        run: |
          for run in runs/*/results.json; do
            lorabench gate "$run" --format markdown --exit-zero >> "$GITHUB_STEP_SUMMARY" || true
            lorabench gate "$run" --format github --exit-zero || true
          done
      - uses: actions/upload-artifact@v4
        if: always()
        with:
          name: lora-report
          path: report
"""

FILES = {
    "lorabench.toml": SETTINGS,
    "suites/my-style.lora.yaml": SUITE,
    ".github/workflows/lora.yml": WORKFLOW,
}


def init(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Root of the project.")] = Path(),
    no_ci: Annotated[bool, typer.Option("--no-ci", help="Write no workflow.")] = False,
) -> None:
    """Write a first lorabench.toml, a suite to extend, and a CI workflow. Never overwrites a file."""
    from lorabench.storage.atomic import write_text

    for name, text in FILES.items():
        if no_ci and name.startswith(".github/"):
            continue
        path = folder / name
        if path.exists():
            output.message(f"{path} exists and is left as it is.")
            continue
        write_text(path, text)
        output.data(f"wrote {path}")
    output.message(
        "Next: set base, style and training folder in lorabench.toml, then `lorabench validate` and `lorabench run`."
    )
