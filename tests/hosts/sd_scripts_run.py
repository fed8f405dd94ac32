"""Run sd-scripts on a tiny SDXL as its users do, with some arguments of its command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from unmodified_host import UnmodifiedHost

from helpers.runs import make_images

__all__ = [
    "HERE",
    "HOST",
    "MARKS",
    "NETWORK",
    "make_folder",
    "refuse",
    "step_words",
    "take_steps",
    "train",
]

HERE = Path(__file__).parent
HOST = UnmodifiedHost("SD_SCRIPTS_ROOT")
NETWORK = "stiefel_lora.integrations.sdscripts"
MARKS = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not HOST.given, reason="SD_SCRIPTS_ROOT names no checkout"),
]


def make_folder(folder: Path) -> Path:
    """Put pictures and the tiny SDXL there."""
    make_images(folder / "pictures" / "1_thing", count=3, side=64)
    HOST.run(HERE / "sd_scripts_model.py", folder / "made")
    return folder


def train(
    folder: Path,
    name: str,
    *more: str | Path,
    script: str = "sdxl_train_network.py",
    **changes: Any,
) -> str:
    """Train into ``folder / name``, and give what the host printed.

    Args:
        folder: made by :func:`make_folder`.
        name: of the run; the recorded steps go to ``name.pt``.
        more: arguments that are added as they are.
        script: of the host.
        changes: arguments that differ from the usual ones; True for a bare flag, None
            for one that is left out.
    """
    arguments: dict[str, Any] = {
        "pretrained_model_name_or_path": folder / "made" / "model",
        "tokenizer_cache_dir": folder / "made" / "tokenizers",
        "train_data_dir": folder / "pictures",
        "output_dir": folder / name,
        "output_name": name,
        "resolution": "64,64",
        "network_module": NETWORK,
        "optimizer_type": "stiefel_lora.StiefelLoRA",
        "network_dim": 4,
        "learning_rate": 1e-2,
        "max_train_steps": 2,
        "max_data_loader_n_workers": 0,
        "mixed_precision": "no",
        "save_model_as": "safetensors",
        "seed": 1,
        "cache_latents": True,
        "cache_text_encoder_outputs": True,
        "network_train_unet_only": True,
        **changes,
    }
    command: list[str | Path] = [HERE / "sd_scripts_launch.py", HOST.root]
    command += [folder / f"{name}.pt", script]
    for key, value in arguments.items():
        if value is not None:
            command += [f"--{key}", *([] if value is True else [str(value)])]
    return HOST.run(*command, *more)


def refuse(folder: Path, message: str, *more: str | Path, **changes: Any) -> None:
    """Expect that the host ends with this message instead of training."""
    with pytest.raises(AssertionError, match=message):
        train(folder, "refused", *more, **changes)
    assert not (folder / "refused").exists()


def step_words(folder: Path, name: str, more: str) -> list[str]:
    """Arguments of one step with AdamW in float32 and three images of one size.

    Args:
        folder: folder with ``images`` and ``made``.
        name: of the run.
        more: the other arguments, which come last.
    """
    usual = (
        f"--tokenizer_cache_dir {folder}/made/tokenizers "
        f"--train_data_dir {folder}/images --output_dir {folder}/{name} "
        f"--output_name {name} --resolution 64,64 --train_batch_size 3 "
        "--network_dim 4 --optimizer_type AdamW --learning_rate 1e-3 "
        "--max_train_steps 1 --mixed_precision no --cache_latents --caption_extension "
        ".txt --max_data_loader_n_workers 0 --save_model_as safetensors"
    )
    return usual.split() + more.split()


def take_steps(folder: Path, cases: Mapping[str, list[str]]) -> None:
    """Take one step of each case, in one process.

    Args:
        folder: folder with ``batch.safetensors``, in which the steps are written.
        cases: script and arguments by name.
    """
    (folder / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    HOST.run(HERE / "sd_scripts_one_step.py", HOST.root, folder)
