"""OneTrainer itself, unmodified, trains a tiny SD 1.5 through the launcher.

Needs a checkout and its environment; docs/integrations/onetrainer.md says how to make
them:

    ONETRAINER_ROOT=CHECKOUT python -m pytest tests/hosts/test_onetrainer_host.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from unmodified_host import UnmodifiedHost, assert_goes_on, replay

from helpers.runs import make_pictures
from stiefel_lora.geometry import orthogonality_error

HERE = Path(__file__).parent
HOST = UnmodifiedHost("ONETRAINER_ROOT")
PICTURES, EPOCHS, LAYERS = 4, 3, 120

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not HOST.given, reason="ONETRAINER_ROOT names no checkout"),
]

Train = Callable[..., str]


@pytest.fixture(scope="module")
def changes_before() -> str:
    return HOST.changes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, changes_before: str) -> Path:
    folder = tmp_path_factory.mktemp("onetrainer")
    make_pictures(folder / "pictures", count=PICTURES, side=64)
    concept = {"name": "thing", "path": str(folder / "pictures"), "enabled": True}
    (folder / "concepts.json").write_text(json.dumps([concept]), "utf-8")
    (folder / "samples.json").write_text("[]", "utf-8")
    HOST.run(HERE / "onetrainer_model.py", folder / "model")
    return folder


@pytest.fixture(scope="module")
def train(folder: Path) -> Train:
    """Train with a config that differs from the usual one in what is given."""

    def run(name: str, optimizer: str = "Stiefel LoRA", **changes: Any) -> str:
        part = {"weight_dtype": "FLOAT_32", "train": False}
        config = {
            "__version": 11,
            "training_method": "LORA",
            "model_type": "STABLE_DIFFUSION_15",
            "base_model_name": str(folder / "model"),
            "workspace_dir": str(folder / name),
            "cache_dir": str(folder / "cache"),
            "tensorboard": False,
            "concept_file_name": str(folder / "concepts.json"),
            "sample_definition_file_name": str(folder / "samples.json"),
            "sample_after_unit": "NEVER",
            "backup_after_unit": "NEVER",
            "resolution": "64",
            "batch_size": 1,
            "epochs": EPOCHS,
            "learning_rate": 1e-2,
            "learning_rate_warmup_steps": 0,
            "train_device": "cpu",
            "temp_device": "cpu",
            "train_dtype": "FLOAT_32",
            "unet": part | {"train": True},
            "text_encoder": part,
            "vae": part,
            "lora_rank": 4,
            "dataloader_threads": 1,
            "layer_filter": "attentions",
            "output_dtype": "FLOAT_32",
            "output_model_format": "KOHYA_LORA",
            "output_model_destination": str(folder / f"{name}.safetensors"),
            "optimizer": {"optimizer": optimizer},
            **changes,
        }
        path = folder / f"{name}.json"
        path.write_text(json.dumps(config), "utf-8")
        launch = HERE / "onetrainer_launch.py"
        dump = folder / f"{name}.pt"
        return HOST.run(launch, dump, HOST.root, "train", "--config-path", path)

    return run


@pytest.fixture(scope="module")
def printed(train: Train) -> str:
    return train("whole")


def test_alpha_becomes_the_rank_with_a_message(printed: str) -> None:
    assert "LoRA alpha is 1 and is taken as 4, the rank" in printed


def test_the_file_holds_orthonormal_factors(folder: Path, printed: str) -> None:
    weights = load_file(folder / "whole.safetensors")
    ups = [value for name, value in weights.items() if name.endswith("lora_up.weight")]
    assert len(ups) == LAYERS
    assert all(orthogonality_error(up.flatten(1)) <= 1e-5 for up in ups)
    downs = [v for name, v in weights.items() if name.endswith("lora_down.weight")]
    assert all(down.any() for down in downs)
    assert {float(v) for name, v in weights.items() if name.endswith("alpha")} == {4.0}


def test_its_tensorboard_shows_the_ranks(folder: Path, printed: str) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = (folder / "whole" / "tensorboard").rglob("events.*")
    found = EventAccumulator(str(events), size_guidance={"scalars": 0})
    found.Reload()
    tags = found.Tags()["scalars"]
    assert len([tag for tag in tags if tag.startswith("effective_rank.")]) == LAYERS
    assert not any(tag.startswith("effective_rank.other") for tag in tags)
    assert [event.step for event in found.Scalars("effective_rank/mean")] == [0, 5, 10]
    assert found.Scalars("orthogonality/largest")[-1].value <= 1e-5
    assert "loss/train_step" in tags


def test_its_steps_are_ours(folder: Path, printed: str) -> None:
    assert replay(folder / "whole.pt", lr=1e-2) == (PICTURES * EPOCHS, LAYERS)


def test_a_resumed_run_goes_on_from_its_backup(
    folder: Path, printed: str, train: Train
) -> None:
    train(
        "more",
        workspace_dir=str(folder / "whole"),
        continue_last_backup=True,
        epochs=EPOCHS + 1,
    )
    assert assert_goes_on(folder / "whole.pt", folder / "more.pt") == PICTURES


def test_its_own_optimizer_is_left_alone(folder: Path, train: Train) -> None:
    train("host", optimizer="ADAMW", epochs=1)
    weights = load_file(folder / "host.safetensors")
    assert {float(v) for name, v in weights.items() if name.endswith("alpha")} == {1.0}
    assert torch.load(folder / "host.pt", weights_only=True) == []


def test_the_window_shows_the_method(folder: Path, changes_before: str) -> None:
    output = HOST.run(HERE / "onetrainer_window.py", HOST.root, folder)
    assert "chosen: Stiefel LoRA" in output
    assert "Angle per lr" in output
    for name in ("training_tab.png", "parameters.png"):
        assert (folder / name).stat().st_size > 10_000


def test_the_checkout_is_as_it_was(printed: str, changes_before: str) -> None:
    assert HOST.changes() == changes_before
