"""Checkpoints that are quantized, incomplete or nearly equal."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from helpers.lora_files import dense, write
from stiefel_lora._exceptions import ModelError
from stiefel_lora.files import Checkpoint, Rank, add_into_checkpoint, extract_lora

START = "model.diffusion_model.input_blocks.4.1"
IN, OUT = f"{START}.proj_in", f"{START}.proj_out"
STEM = "lora_unet_input_blocks_4_1_proj_in"


def saved(path: Path, tensors: dict[str, torch.Tensor]) -> Checkpoint:
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    return Checkpoint(path)


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {f"{IN}.weight": (6, 8), f"{OUT}.weight": (8, 6), f"{IN}.bias": (6,)}
    return {key: torch.randn(s, generator=generator) for key, s in shapes.items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{IN}.weight": torch.ones(6, 8, dtype=torch.int8)}, "has dtype int8, but"),
        (
            {f"{IN}.weight": torch.ones(24, 1, dtype=torch.uint8)},
            "has dtype uint8, but",
        ),
        ({f"{IN}.weight_scale": torch.ones(6, 1)}, "contains 6 scales, but only one"),
        ({f"{IN}.scale_weight": torch.ones(6)}, "contains 6 scales, but only one"),
    ],
)
def test_a_quantized_checkpoint_is_refused(tmp_path, changes, message):
    base = saved(tmp_path / "base.safetensors", weights())
    odd = saved(tmp_path / "odd.safetensors", weights() | changes)
    out = tmp_path / "out.safetensors"
    lora = {f"{STEM}.lora_up.weight": torch.ones(6, 1)}
    lora[f"{STEM}.lora_down.weight"] = torch.ones(1, 8)
    file = write(tmp_path / "lora.safetensors", lora)
    with pytest.raises(ModelError, match=message):
        add_into_checkpoint(file, odd, out)
    for pair in ((base, odd), (odd, base)):
        with pytest.raises(ModelError, match=message):
            extract_lora(*pair, out, Rank(2))
    assert not out.exists()


@pytest.mark.parametrize("size", [1e-2, 1e-5])
@pytest.mark.parametrize("goal", [Rank(2), Rank(error=1e-4)])
def test_the_error_of_an_extract_includes_rounding(tmp_path, size, goal):
    """Small updates lose digits in float16."""
    base, tuned = weights(), weights()
    for key in (f"{IN}.weight", f"{OUT}.weight"):
        tuned[key] = tuned[key] + size * torch.randn(tuned[key].shape)
    report = extract_lora(
        saved(tmp_path / "base.safetensors", base),
        saved(tmp_path / "tuned.safetensors", tuned),
        tmp_path / "out.safetensors",
        goal,
    )
    found = dense(report.saved.file)
    lost, whole = [], []
    for layer in report.saved.file.layers:
        key = f"{START}.{layer.name.rpartition('.')[2]}.weight"
        update = (tuned[key] - base[key]).double()
        lost.append((found[layer.key] - update).norm())
        whole.append(update.norm())
    true = float(torch.stack(lost).norm() / torch.stack(whole).norm())
    assert report.error == pytest.approx(true, rel=1e-3)


def test_tensors_of_one_checkpoint_alone_are_named(tmp_path):
    base, tuned = weights(), weights()
    tuned[f"{IN}.weight"] += 1
    del tuned[f"{OUT}.weight"]
    tuned["extra.weight"] = torch.ones(2)
    for one in (base, tuned):
        one[f"{IN}.bias"][0] = torch.nan
    report = extract_lora(
        saved(tmp_path / "base.safetensors", base),
        saved(tmp_path / "tuned.safetensors", tuned),
        tmp_path / "out.safetensors",
        Rank(1),
    )
    assert report.others == ()
    assert report.saved.remarks == (
        f"Only in base.safetensors and not compared: 1 tensor, for example {OUT}"
        ".weight.",
        "Only in tuned.safetensors and not compared: 1 tensor, for example extra"
        ".weight.",
    )
