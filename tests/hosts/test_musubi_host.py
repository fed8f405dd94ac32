"""musubi-tuner itself, unmodified, trains a tiny Z-Image with the network module.

Needs a checkout and its environment:

    python scripts/setup_host.py musubi-tuner CHECKOUT
    MUSUBI_ROOT=CHECKOUT python -m pytest tests/hosts/test_musubi_host.py
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from kohya_results import assert_file, assert_ranks_shown, ups_of
from safetensors.torch import load_file
from unmodified_host import UnmodifiedHost, assert_goes_on, replay

from stiefel_lora.geometry import orthogonality_error
from stiefel_lora.integrations import musubi

HERE = Path(__file__).parent
HOST = UnmodifiedHost("MUSUBI_ROOT")
STEPS, LAYERS = 10, 14

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not HOST.given, reason="MUSUBI_ROOT names no checkout"),
]


@pytest.fixture(scope="module")
def changes_before() -> str:
    return HOST.changes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, changes_before: str) -> Path:
    folder = tmp_path_factory.mktemp("musubi")
    (folder / "pictures").mkdir()
    HOST.run(HERE / "musubi_model.py", folder)
    return folder


def train(folder: Path, name: str, *more: str, **changes: Any) -> str:
    """Train into ``folder / name``; the recorded steps go to ``name.pt``."""
    arguments: dict[str, Any] = {
        "dit": folder / "dit.safetensors",
        "dataset_config": folder / "dataset.toml",
        "output_dir": folder / name,
        "output_name": name,
        "mixed_precision": "no",
        "network_module": "stiefel_lora.integrations.musubi",
        "optimizer_type": "stiefel_lora.StiefelLoRA",
        "network_dim": 4,
        "learning_rate": 1e-2,
        "max_train_steps": STEPS,
        "max_data_loader_n_workers": 0,
        "timestep_sampling": "shift",
        "weighting_scheme": "none",
        "discrete_flow_shift": 2.0,
        "seed": 1,
        **changes,
    }
    command: list[str | Path] = [HERE / "musubi_launch.py", folder / f"{name}.pt"]
    command += ["zimage_train_network.py", "--sdpa"]
    for key, value in arguments.items():
        command += [f"--{key}", str(value)]
    return HOST.run(*command, *more)


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    logs = folder / "whole" / "logs"
    tracker = {"log_with": "tensorboard", "logging_dir": logs}
    return train(folder, "whole", "--save_state", **tracker)


def product(weights: dict[str, torch.Tensor], up_name: str) -> torch.Tensor:
    layer = up_name.removesuffix(".lora_up.weight")
    up, down = weights[up_name], weights[f"{layer}.lora_down.weight"]
    return weights[f"{layer}.alpha"] / up.shape[1] * up @ down


def test_alpha_becomes_the_rank_with_a_warning(printed: str) -> None:
    assert f"--network_alpha differs from --network_dim in {LAYERS} layers" in printed


def test_the_file_holds_orthonormal_factors(folder: Path, printed: str) -> None:
    assert_file(folder / "whole" / "whole.safetensors", LAYERS)


def test_its_tensorboard_shows_the_ranks(folder: Path, printed: str) -> None:
    blocks = assert_ranks_shown(folder / "whole" / "logs", LAYERS)
    assert all(tag.startswith("effective_rank.layers.") for tag in blocks)


def test_its_steps_are_ours(folder: Path, printed: str) -> None:
    assert replay(folder / "whole.pt", lr=1e-2) == (STEPS, LAYERS)


def test_a_resumed_run_goes_on_from_its_state(folder: Path, printed: str) -> None:
    """The host counts from 0 again."""
    state = folder / "whole" / "whole-state"
    train(folder, "more", resume=state, max_train_steps=2)
    assert assert_goes_on(folder / "whole.pt", folder / "more.pt") == 2


def test_it_goes_on_from_a_lora_of_another_alpha(folder: Path) -> None:
    """So small a rate changes nothing: what is compared is the start alone."""
    host = {"network_module": "networks.lora_zimage", "optimizer_type": "AdamW"}
    train(folder, "donor", **host, network_alpha=2, learning_rate=1e-3)
    file = folder / "donor" / "donor.safetensors"
    train(folder, "further", network_weights=file, learning_rate=1e-9)
    before = load_file(file)
    after = load_file(folder / "further" / "further.safetensors")
    for up in ups_of(after):
        expected = product(before, up)
        assert (product(after, up) - expected).norm() <= 1e-4 * expected.norm()
        assert orthogonality_error(after[up]) <= 1e-5


def test_lora_plus_and_the_optimizer_alone(folder: Path) -> None:
    """LoRA+ groups of the host's own network, alpha said to be the rank."""
    host = {"network_module": "networks.lora_zimage", "network_alpha": 4}
    printed = train(folder, "alone", "--network_args", "loraplus_lr_ratio=4", **host)
    assert printed.count("LoRA alpha cannot be read from parameters alone") == 1
    weights = load_file(folder / "alone" / "alone.safetensors")
    assert all(orthogonality_error(weights[up]) <= 1e-5 for up in ups_of(weights))


def test_the_models_and_modules_are_those_of_the_host() -> None:
    source = HOST.root / "src"
    classes = {
        node.name
        for file in source.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    assert set(musubi.NETWORKS) <= classes
    modules = {name.replace(".", "/") + ".py" for name in musubi.NETWORKS.values()}
    assert all((source / module).is_file() for module in modules)
    present = source.glob("musubi_tuner/networks/lora*.py")
    assert {str(file.relative_to(source)) for file in present} == modules


def test_the_checkout_is_as_it_was(printed: str, changes_before: str) -> None:
    assert HOST.changes() == changes_before
