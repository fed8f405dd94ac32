"""What sd-scripts' users set besides: each option in the host itself, on a tiny SDXL.

Needs what tests/hosts/test_sd_scripts.py needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from sd_scripts_run import MARKS, make_folder, refuse, train

from stiefel_lora.geometry import orthogonality_error
from stiefel_lora.methods import CATALOGUE
from stiefel_lora.optim.rule import keeps_orthonormal

TEXT_LAYERS = 84
HIDDEN_ALPHA = "LoRA alpha cannot be read from parameters alone"

pytestmark = MARKS

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("options"))


@pytest.fixture(scope="module")
def donor(folder: Path) -> Path:
    """A LoRA of the host alone, with its AdamW and its alpha of 1."""
    module, rate = "networks.lora", 1e-3
    train(folder, "donor", network_module=module, optimizer_type="AdamW", unet_lr=rate)
    return folder / "donor" / "donor.safetensors"


def saved(folder: Path, name: str) -> Weights:
    return load_file(folder / name / f"{name}.safetensors")


def blocks(weights: Weights) -> list[str]:
    end = ".lora_up.weight"
    return [name.removesuffix(end) for name in weights if name.endswith(end)]


def factors(weights: Weights, block: str) -> tuple[torch.Tensor, torch.Tensor]:
    up, down = (weights[f"{block}.lora_{role}.weight"] for role in ("up", "down"))
    return up.flatten(1), down.flatten(1)


def product(weights: Weights, block: str) -> torch.Tensor:
    up, down = factors(weights, block)
    return weights[f"{block}.alpha"] / up.shape[1] * up @ down


def assert_orthonormal(weights: Weights, idle: str = "nothing") -> None:
    """Of every block, and trained but where its name says that it got no gradient."""
    for block in blocks(weights):
        up, down = factors(weights, block)
        assert orthogonality_error(up) <= 1e-5, block
        assert bool(down.any()) is not block.startswith(idle), block


def alphas(weights: Weights) -> set[float]:
    return {float(value) for name, value in weights.items() if name.endswith("alpha")}


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_method_trains(folder: Path, name: str) -> None:
    method = CATALOGUE[name]
    kind = f"stiefel_lora.{method.target.partition(':')[2]}"
    train(folder, name, optimizer_type=kind, learning_rate=method.default_lr)
    weights = saved(folder, name)
    assert all(product(weights, block).any() for block in blocks(weights))
    assert alphas(weights) == {4.0 if method.alpha_policy == "rank" else 1.0}
    if keeps_orthonormal(method.load()):
        assert_orthonormal(weights)
    with safe_open(folder / name / f"{name}.safetensors", "pt") as file:
        assert kind.rpartition(".")[2] in file.metadata()["ss_optimizer"]


def test_the_optimizer_alone_warns_about_alpha(folder: Path) -> None:
    printed = train(folder, "alone", network_module="networks.lora", network_alpha=4)
    assert printed.count(HIDDEN_ALPHA) == 1
    assert_orthonormal(saved(folder, "alone"))


def test_lora_plus_with_the_text_encoders(folder: Path) -> None:
    printed = train(
        folder,
        "plus",
        network_args="loraplus_lr_ratio=16",
        network_train_unet_only=None,
        cache_text_encoder_outputs=None,
        text_encoder_lr=5e-3,
    )
    assert HIDDEN_ALPHA not in printed
    weights = saved(folder, "plus")
    assert sum(name.startswith("lora_te") for name in blocks(weights)) == TEXT_LAYERS
    # SDXL reads its first text encoder before the last of its twelve layers.
    assert_orthonormal(weights, idle="lora_te1_text_model_encoder_layers_11_")
    (step, _) = torch.load(folder / "plus.pt", weights_only=True)
    assert step["lr"] == pytest.approx([5e-3, 8e-2, 1e-2, 0.16])


def test_block_dims_and_convolutions(folder: Path) -> None:
    """Ranks from 2 to 8 by block; block 2 is left out."""
    dims = [4, 4, 0, *[2] * 10, *[8] * 10]
    train(
        folder,
        "blocks",
        "--network_args",
        "block_dims=" + ",".join(map(str, dims)),
        "conv_block_dims=" + ",".join(["2"] * len(dims)),
    )
    weights = saved(folder, "blocks")
    ranks = {block: factors(weights, block)[0].shape[1] for block in blocks(weights)}
    assert set(ranks.values()) == {2, 8}
    assert any(weights[f"{block}.lora_down.weight"].dim() == 4 for block in ranks)
    assert all(weights[f"{block}.alpha"] == rank for block, rank in ranks.items())
    assert_orthonormal(weights)


@pytest.mark.parametrize("more", [{}, {"dim_from_weights": True, "network_dim": None}])
def test_it_goes_on_from_a_lora_of_another_alpha(
    folder: Path, donor: Path, more: dict[str, Any]
) -> None:
    """So small a rate changes nothing: what is compared is the start alone."""
    name = f"further{len(more)}"
    train(folder, name, network_weights=donor, learning_rate=1e-9, **more)
    before, after = load_file(donor), saved(folder, name)
    assert alphas(before) == {1.0}
    assert alphas(after) == {4.0}
    assert_orthonormal(after)
    for block in blocks(after):
        expected = product(before, block)
        error = (product(after, block) - expected).norm() / expected.norm()
        assert error <= 1e-4, block


def test_a_lora_is_merged_into_the_base(folder: Path, donor: Path) -> None:
    printed = train(folder, "merged", base_weights=donor)
    assert "all weights merged" in printed
    assert_orthonormal(saved(folder, "merged"))


def test_what_breaks_b_is_refused(folder: Path) -> None:
    refuse(folder, "--scale_weight_norms: rescales the factors", scale_weight_norms=1.0)


def test_bfloat16_factors_are_trained(folder: Path) -> None:
    printed = train(folder, "bfloat16", full_bf16=True, mixed_precision="bf16")
    assert "--full_bf16 keeps the LoRA in half precision" in printed
    weights = saved(folder, "bfloat16")
    ups = [value for name, value in weights.items() if name.endswith("lora_up.weight")]
    # The rounding of orthonormal columns: 64 products of numbers good to 2^-9.
    assert max(orthogonality_error(up.float().flatten(1)) for up in ups) <= 1e-2
    assert all(v.any() for name, v in weights.items() if "lora_down" in name)
