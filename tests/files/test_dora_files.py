"""DoRA in kohya-style files, by the formula of ComfyUI and Forge in our own words."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from helpers.readers import weight_in_comfyui
from stiefel_lora import ModelError
from stiefel_lora.files import (
    LoraFactors,
    LoraWeights,
    apply_lora,
    complete_dora,
    load_lora,
    read_tensors,
    save_kohya,
    save_peft,
    with_one_alpha,
)

SQUARE = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
WIDE = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
CONV = "unet.down_blocks.0.resnets.0.conv1"
SHAPES = {SQUARE: (8, 8), WIDE: (8, 12), CONV: (6, 5, 3, 3)}
BLOCK, SINGLE = (
    "transformer.transformer_blocks.0",
    "transformer.single_transformer_blocks.0",
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dora(weight: Tensor, alpha: float = 3.0, rank: int = 2) -> LoraFactors:
    """A DoRA whose lengths are far from those of the weight and of the sum."""
    outputs, inputs, *kernel = weight.shape
    up = draw(outputs, rank, *[1] * len(kernel), seed=1)
    down = draw(rank, inputs, *kernel, seed=2)
    magnitude = draw(outputs, seed=3).abs() + 0.5
    return LoraFactors(up, down, alpha, magnitude)


def by_peft(weight: Tensor, factors: LoraFactors) -> Tensor:
    """Rows of W + s B A brought to the magnitude, in float64."""
    assert factors.magnitude is not None
    up, down = factors.up.double().flatten(1), factors.down.double().flatten(1)
    merged = weight.double().flatten(1) + factors.alpha / factors.rank * up @ down
    rows = merged / merged.norm(dim=1, keepdim=True)
    return (factors.magnitude.double().reshape(-1, 1) * rows).reshape(weight.shape)


def saved(folder: Path, weights: LoraWeights, **options: object) -> dict[str, Tensor]:
    path = folder / "lora.safetensors"
    save_kohya(path, weights, **options)  # type: ignore[arg-type]
    return read_tensors(path)[0]


@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize("alpha", [2.0, 3.0])
def test_comfyui_and_forge_make_the_weight_that_was_trained(
    tmp_path: Path, alpha: float, strength: float
) -> None:
    bases = {name: draw(*shape, seed=9) for name, shape in SHAPES.items()}
    weights = {
        name: complete_dora(dora(base, alpha), base) for name, base in bases.items()
    }
    tensors = saved(tmp_path, with_one_alpha(weights))
    stems = [key.removesuffix(".alpha") for key in tensors if key.endswith(".alpha")]
    assert len(stems) == 3
    for stem, (name, base) in zip(sorted(stems), sorted(bases.items()), strict=True):
        found = weight_in_comfyui(base, tensors, stem, strength)
        trained = by_peft(base, weights[name])
        wanted = base + strength * (trained - base)
        assert (found - wanted).abs().max() <= 1e-5
        assert (trained - base).abs().max() > 0.1


def test_a_file_reads_back_to_the_same_dora(tmp_path: Path) -> None:
    bases = {name: draw(*shape, seed=9) for name, shape in SHAPES.items()}
    weights = {name: complete_dora(dora(base), base) for name, base in bases.items()}
    saved(tmp_path, weights, dtype=torch.float16)
    loaded = load_lora(tmp_path / "lora.safetensors")
    assert loaded.keys() == weights.keys()
    for name, meant in weights.items():
        scale = loaded[name].dora_scale
        assert scale is not None
        assert meant.dora_scale is not None
        # Lengths are never rounded: they scale the whole weight.
        assert scale.dtype == torch.float32
        assert torch.equal(scale.flatten(), meant.dora_scale.flatten())
    saved(tmp_path, weights)
    for name, found in load_lora(tmp_path / "lora.safetensors").items():
        trained = by_peft(bases[name], weights[name])
        assert (apply_lora(bases[name], found) - trained).abs().max() <= 1e-5
        whole = complete_dora(found, bases[name])
        assert (by_peft(bases[name], whole) - trained).abs().max() <= 1e-5
        assert (apply_lora(bases[name], whole) - trained).abs().max() <= 1e-5


def test_both_spellings_of_rows_of_zeros_are_finite() -> None:
    base = draw(4, 5)
    base[1] = 0
    factors = dora(base)
    assert factors.magnitude is not None
    factors.up[2], base[2], factors.magnitude[2] = 0, 0, 0
    whole = complete_dora(factors, base)
    for spelling in ("magnitude", "dora_scale"):
        found = apply_lora(base, dataclasses.replace(whole, **{spelling: None}))
        assert (found[[0, 1, 3]] - by_peft(base, factors)[[0, 1, 3]]).abs().max() < 1e-5
        assert not found[2].any()


@pytest.mark.parametrize("parts", ["qkv", "q"])
def test_fused_layers_of_flux_get_the_lengths_of_all_parts(
    tmp_path: Path, parts: str
) -> None:
    """attn-only leaves out proj_mlp, whose rows are in the same layer."""
    names = {
        "double_blocks_0_img_attn_qkv": [f"{BLOCK}.attn.to_{x}" for x in "qkv"],
        "single_blocks_0_linear1": [
            *(f"{SINGLE}.attn.to_{x}" for x in "qkv"),
            f"{SINGLE}.proj_mlp",
        ],
    }
    bases = {
        name: draw(32 if name.endswith("mlp") else 8, 8, seed=seed)
        for seed, name in enumerate(n for group in names.values() for n in group)
    }
    chosen = [n for n in bases if n[-1] in parts]
    weights = {n: complete_dora(dora(bases[n]), bases[n]) for n in chosen}
    tensors = saved(
        tmp_path,
        weights,
        family="flux",
        base_lengths=lambda name: bases[name].norm(dim=1),
    )
    for stem, group in names.items():
        whole = torch.cat([bases[name] for name in group])
        found = weight_in_comfyui(whole, tensors, f"lora_unet_{stem}", 1.0)
        wanted = [
            by_peft(bases[n], weights[n]) if n in weights else bases[n] for n in group
        ]
        assert (found - torch.cat(wanted)).abs().max() <= 1e-5
    loaded = load_lora(tmp_path / "lora.safetensors")
    assert loaded.keys() == weights.keys()
    for name, factors in loaded.items():
        trained = by_peft(bases[name], weights[name])
        assert (apply_lora(bases[name], factors) - trained).abs().max() <= 1e-5


def test_flux_halves_that_change_places_take_their_lengths_along(
    tmp_path: Path,
) -> None:
    name, base = "transformer.norm_out.linear", draw(16, 8)
    weights = {name: complete_dora(dora(base), base)}
    tensors = saved(tmp_path, weights, family="flux")
    halves = torch.cat(base.chunk(2)[::-1])
    stem = "lora_unet_final_layer_adaLN_modulation_1"
    found = weight_in_comfyui(halves, tensors, stem, 1.0)
    wanted = torch.cat(by_peft(base, weights[name]).chunk(2)[::-1])
    assert (found - wanted).abs().max() <= 1e-5
    back = load_lora(tmp_path / "lora.safetensors")[name]
    assert (apply_lora(base, back) - by_peft(base, weights[name])).abs().max() <= 1e-5


def test_a_spelling_that_needs_the_base_model_is_asked_for(tmp_path: Path) -> None:
    base = draw(8, 8)
    path = tmp_path / "lora.safetensors"
    plain, whole = dora(base), complete_dora(dora(base), base)
    with pytest.raises(ModelError, match=r"not the dora_scale.*complete_dora"):
        save_kohya(path, {SQUARE: plain})
    save_kohya(path, {SQUARE: whole})
    with pytest.raises(ModelError, match=r"dora_scale.*not the magnitude of peft"):
        save_peft(path, load_lora(path))
    name = f"{SINGLE}.attn.to_q"
    with pytest.raises(ModelError, match=r"to_k is not a DoRA.*base_lengths"):
        save_kohya(path, {name: whole}, family="flux")
    with pytest.raises(ModelError, match="does not match factors for 8 outputs"):
        complete_dora(plain, draw(8, 9))
    lora = LoraFactors(draw(8, 2), draw(2, 8), 1.0)
    assert complete_dora(lora, base) is lora
    merged = base + 0.5 * lora.up @ lora.down
    assert (apply_lora(base, lora) - merged).abs().max() <= 1e-6


@pytest.mark.parametrize("shape", [(1, 8), (1, 8, 1, 1), (8, 8), (7, 1)])
def test_a_dora_of_columns_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path, stem = tmp_path / "lora.safetensors", "lora_unet_middle_block_1_proj_in"
    tensors = {
        f"{stem}.lora_up.weight": draw(8, 2),
        f"{stem}.lora_down.weight": draw(2, 8),
        f"{stem}.dora_scale": torch.ones(shape),
    }
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(ModelError, match="must have one number per row"):
        load_lora(path)


@pytest.mark.parametrize("width", [8, 300_000])
def test_hashes_are_those_of_sd_scripts(tmp_path: Path, width: int) -> None:
    """Its rule: the file saved with ``ss_*`` entries alone, 64 KiB at 1 MiB."""
    factors = LoraFactors(draw(4, 2), draw(2, width), 1.0)
    path = tmp_path / "lora.safetensors"
    save_kohya(path, {SQUARE: factors}, metadata={"ss_steps": "3", "modelspec.x": "y"})
    tensors, metadata = read_tensors(path)
    kept = {key: text for key, text in metadata.items() if key.startswith("ss_")}
    assert kept["ss_steps"] == "3"
    data = safetensors.torch.save(tensors, kept)
    legacy = hashlib.sha256(data[0x100000:0x110000]).hexdigest()
    assert metadata["sshs_legacy_hash"] == legacy[:8]
    assert (len(data) > 0x110000) == (width > 8)
    start = 8 + int.from_bytes(data[:8], "little")
    assert metadata["sshs_model_hash"] == hashlib.sha256(data[start:]).hexdigest()
