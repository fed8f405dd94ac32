"""What the backend of LoRA Easy Training Scripts makes of a window's settings.

    python easy_backend.py CHECKOUT FILE FOLDER

Runs in the environment of sd-scripts. Writes config.toml and dataset.toml to
FOLDER/runtime_store, as it does before it starts a training.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import loadable_torchvision  # noqa: F401


def main(root: str, file: str, place: str) -> None:
    """Check and write the settings by its own code."""
    settings = json.loads(Path(file).read_text())
    sys.path[:0] = [f"{root}/backend", f"{root}/backend/sd_scripts"]
    os.chdir(place)
    Path("runtime_store").mkdir()
    Path("config.json").write_text("{}")
    from utils.process import process_args, process_dataset_args
    from utils.validation import validate

    passed, _, errors, args, dataset, _ = validate(settings)
    assert passed, errors
    process_args(args)
    process_dataset_args(dataset)


if __name__ == "__main__":
    main(*sys.argv[1:])
