"""LoRA, rank and module dropout: masks by the definition, in steps only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.families import open_sdxl
from helpers.fixtures import StopAfter
from helpers.runs import assert_same_factors, tiny_config
from stiefel_lora.adapters import LoraDropout, add_lora, pairs_of
from stiefel_lora.methods import CATALOGUE
from stiefel_lora.optim.pairs import Pair
from stiefel_lora.training.trainer import train

BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "down_blocks.1.resnets.0.conv1"
ALL = {"lora_dropout": 0.3, "rank_dropout": 0.3, "module_dropout": 0.3}


@pytest.fixture
def model(tiny_sdxl: Path) -> nn.Module:
    """A UNet whose LoRA has an orthonormal B and a random A."""
    unet = open_sdxl(tiny_sdxl).denoiser
    add_lora(
        unet,
        rank=4,
        alpha=8.0,
        targets=[BLOCK, CONV],
        method=CATALOGUE["stiefel_lora"],
        seed=0,
    )
    for pair in pairs_of(unet):
        nn.init.normal_(pair.down)
    return unet


def masks_of(model: nn.Module, pair: Pair, x: Tensor) -> Tensor:
    """Masks m from y = W x + s B (m A x), with the r channels last."""
    layer: Any = model.get_submodule(pair.name)
    # Without hooks.
    plain = layer.lora_A["default"].forward(x)
    move = (layer(x) - layer.base_layer(x)) / 2
    if x.dim() == 4:
        move, plain = move.movedim(1, -1), plain.movedim(1, -1)
    return (move @ pair.up.flatten(1)) / plain


@pytest.mark.parametrize("name", [BLOCK, CONV])
@pytest.mark.parametrize("kind", ["entries", "ranks"])
@torch.no_grad()
def test_masks_are_0_or_1_over_the_rest(model: nn.Module, name: str, kind: str) -> None:
    pairs = pairs_of(model)
    pair = next(pair for pair in pairs if pair.name == name)
    width = pair.down.shape[1]
    x = torch.randn(50, width, 4, 4) if name == CONV else torch.randn(50, 16, width)
    dropout = LoraDropout(model, pairs, seed=1, **{kind: 0.25})
    dropout.begin(7)
    found = masks_of(model, pair, x).flatten(1, -2)
    kept = found > 0.5
    assert torch.allclose(found[kept], torch.tensor(4 / 3), rtol=1e-3)
    assert torch.allclose(found[~kept], torch.tensor(0.0), atol=1e-2)
    share = float((~kept).float().mean())
    if kind == "ranks":
        # One mask for all tokens of an image; 200 of them are within 0.092 (3 sigma).
        assert (kept == kept[:, :1]).all()
        assert len(kept[:, 0].unique(dim=0)) > 5
        assert share == pytest.approx(0.25, abs=0.092)
    else:
        assert not (kept == kept[:, :1]).all()
        # 3,200 masks are within 0.023 (3 sigma).
        assert share == pytest.approx(0.25, abs=0.023)
    again = masks_of(model, pair, x).flatten(1, -2)
    assert torch.equal(found, again)
    dropout.begin(8)
    assert not torch.equal(found, masks_of(model, pair, x).flatten(1, -2))
    dropout.end()
    plain = masks_of(model, pair, x)
    assert torch.allclose(plain, torch.ones_like(plain), rtol=1e-2)


def test_a_dropped_module_is_skipped_and_has_no_gradient(model: nn.Module) -> None:
    pairs = pairs_of(model)
    pair = next(pair for pair in pairs if pair.name == BLOCK)
    layer: Any = model.get_submodule(BLOCK)
    dropout = LoraDropout(model, pairs, seed=1, modules=0.4)
    x = torch.randn(2, 16, pair.down.shape[1])
    dropped = []
    for position in range(300):
        dropout.begin(position)
        pair.up.grad = pair.down.grad = None
        found = layer(x)
        dropped.append(torch.equal(found, layer.base_layer(x)))
        if found.requires_grad:
            found.sum().backward()
        assert (pair.up.grad is None) == dropped[-1]
        others = [model.get_submodule(p.name).disable_adapters for p in pairs]
        assert not all(others)
    # With two layers, both would be dropped with probability 0.16, and one of them is
    # then kept: 0.4 - 0.08. 300 draws are within 0.081 (3 sigma).
    assert sum(dropped) / 300 == pytest.approx(0.32, abs=0.081)
    dropout.end()
    assert not torch.equal(layer(x), layer.base_layer(x))
    assert pair.up.requires_grad


def test_validation_uses_all_of_the_lora(tiny_sdxl: Path, tmp_path: Path) -> None:
    changes = {"learning_rate": 0.5, "validate_every": 1, "output_formats": ["kohya"]}
    dropped = {"lora_dropout": 0.9, "module_dropout": 0.9}
    first = train(
        tiny_config(tiny_sdxl, tmp_path, steps=2, run_name="a", **changes, **dropped)
    )
    (file,) = first.lora_files
    second = train(
        tiny_config(
            tiny_sdxl, tmp_path, steps=1, lora_model_name=[str(file)], **changes
        )
    )
    assert first.validation_after != first.validation_before
    assert second.validation_before == pytest.approx(first.validation_after, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stiefel_lora", "adamw"])
def test_a_run_resumes_to_the_bit(
    tiny_sdxl: Path, tmp_path: Path, stop_after: StopAfter, name: str
) -> None:
    changes: dict[str, Any] = {
        **ALL,
        "optimizer": {"name": name},
        "train_text_encoder": True,
        "gradient_accumulation_steps": 2,
        "validate_every": 0,
    }
    whole = train(tiny_config(tiny_sdxl, tmp_path, run_name="whole", **changes))
    config = tiny_config(tiny_sdxl, tmp_path, **changes)
    with stop_after(2, "stop"):
        stopped = train(config)
    assert_same_factors(whole, train(config, resume=stopped.run_dir))


def test_checkpointing_computes_the_same_masks_again(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    one, other = (
        train(
            tiny_config(
                tiny_sdxl,
                tmp_path,
                steps=2,
                validate_every=0,
                gradient_checkpointing=checkpointing,
                **ALL,
            )
        )
        for checkpointing in (False, True)
    )
    assert_same_factors(one, other)


def test_pairs_without_gradients_are_not_reported(
    tiny_sdxl: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING", "stiefel_lora"):
        train(tiny_config(tiny_sdxl, tmp_path, module_dropout=0.9, validate_every=0))
    assert "had no gradient" not in caplog.text
