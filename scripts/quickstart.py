"""Quickstart: create .venv, install, train the demo LoRA on the CPU, show results.

    python scripts/quickstart.py           when it is done: only show the results
    python scripts/quickstart.py --again   train again, into the next free folder

Ctrl-C saves a checkpoint; the next call resumes.
"""

# No __future__ import: the check of _bootstrap must run on a Python too old for it.
import argparse
import json
import sys
from pathlib import Path
from typing import Any

from _bootstrap import here, install
from _environment import Checkout, InstallError, run
from _torch_build import add_torch_options, torch_source

PRESET = "training_presets/SDXL/demo_stiefel_lora.json"
OWN = "python scripts/train.py sdxl_stiefel_lora --set concepts=./my_images"


def main() -> int:
    """Install, train unless that is done already, and print the table."""
    arguments = _parse()
    checkout = here()
    try:
        python = install(checkout, ["train"], torch_source(arguments))
    except InstallError as error:
        print(error, file=sys.stderr)
        return 1
    runs = checkout.root / "runs"
    latest = _latest(runs)
    if arguments.again or latest is None or _outcome(latest) is None:
        command = _training(python, checkout.root, None if arguments.again else latest)
        code = run(command, cwd=checkout.root)
        if code:
            return code
        latest = _latest(runs)
    outcome = _outcome(latest) if latest else None
    if latest is None or outcome is None:
        print(
            f"The training did not write a result to {runs}. See the log above.",
            file=sys.stderr,
        )
        return 1
    print(_table(outcome, latest, checkout))
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_torch_options(parser)
    parser.add_argument(
        "--again", action="store_true", help="train again, into the next free folder"
    )
    return parser.parse_args()


def _latest(runs: Path) -> "Path | None":
    """Return the latest quickstart run; they are named quickstart, quickstart-2, ..."""
    latest, number = None, 1
    folder = runs / "quickstart"
    while folder.exists():
        latest, number = folder, number + 1
        folder = runs / f"quickstart-{number}"
    return latest


def _outcome(folder: Path) -> "dict[str, Any] | None":
    """Return the values of the final event of a run; None if it is not finished."""
    try:
        lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
        last = json.loads(lines[-1])
    except (OSError, IndexError, ValueError):
        return None
    return last["values"] if last.get("type") == "end" else None


def _training(python: Path, root: Path, latest: "Path | None") -> "list[str | Path]":
    command: list[str | Path] = [python, "-m", "stiefel_lora.cli", "train"]
    command += [root / PRESET, "--set", "run_name=quickstart"]
    command += ["--set", f"output_dir={(root / 'runs').as_posix()}"]
    if latest is not None and any((latest / "checkpoints").glob("step-*")):
        command += ["--resume", latest]
    return command


def _table(outcome: "dict[str, Any]", folder: Path, checkout: Checkout) -> str:
    """Return the results as text; paths are relative to the checkout."""

    def place(path: "str | Path") -> str:
        return str((folder / path).relative_to(checkout.root))

    before, after = outcome["validation_before"], outcome["validation_after"]
    rows = [
        ("validation loss before", f"{before:.4f}"),
        ("validation loss after", f"{after:.4f}  ({after / before - 1:+.1%})"),
        ("effective rank, mean", f"{outcome['mean_effective_rank']:.1f}"),
        ("effective rank, lowest", f"{outcome['lowest_effective_rank']:.1f}"),
        *(("LoRA file", place(path)) for path in outcome["lora_files"]),
        ("before/after images", place("samples/before_after.png")),
        ("TensorBoard log", place("tensorboard")),
        ("training time", f"{outcome['wall_seconds']:.0f} s"),
    ]
    table = "\n".join(f"  {label:<24}{value}" for label, value in rows)
    board = (checkout.python.parent / "tensorboard").relative_to(checkout.root)
    return f"""
{table}

See the effective rank of every block over time:
  {board} --logdir {place("tensorboard")}

Train on your own images (captions in .txt files beside them; see docs/training.md):
  {OWN}
"""


if __name__ == "__main__":
    sys.exit(main())
