"""Every layer of a full-size FLUX.1 has a kohya name that tools know."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline

from helpers.full_size import clip_l, flux_transformer, linear_layers, t5_xxl
from stiefel_lora import ModelError
from stiefel_lora.files import apply_lora, load_lora, save_kohya
from stiefel_lora.files.fused_flux import fuse, split
from stiefel_lora.files.keys_flux import FLUX
from stiefel_lora.files.weights import LoraFactors, LoraWeights, canonical_name

from_kohya, kohya_names, to_kohya = FLUX.from_kohya, FLUX.kohya_names, FLUX.to_kohya

NO_LAYER = r"not a layer of a FLUX\.1 model"


def original_layers() -> set[str]:
    """Layers of black-forest-labs/flux, src/flux/model.py, that blocks are made of."""
    leaves = ("mod_lin", "attn_qkv", "attn_proj", "mlp_0", "mlp_2")
    sides = [f"{side}_{leaf}" for side in ("img", "txt") for leaf in leaves]
    double = {f"double_blocks_{i}_{leaf}" for i in range(19) for leaf in sides}
    ends = ("linear1", "linear2", "modulation_lin")
    single = {f"single_blocks_{i}_{end}" for i in range(38) for end in ends}
    return {f"lora_unet_{name}" for name in double | single}


@pytest.fixture(scope="module")
def layers() -> dict[str, torch.nn.Linear]:
    found = linear_layers(flux_transformer()).items()
    return {canonical_name("transformer", path): layer for path, layer in found}


def weights_of(layers: dict[str, torch.nn.Linear], rank: int = 2) -> LoraWeights:
    with torch.device("meta"):
        return {
            name: LoraFactors(
                torch.empty(layer.out_features, rank),
                torch.empty(rank, layer.in_features),
                float(rank),
            )
            for name, layer in layers.items()
        }


def test_all_504_layers_are_in_the_304_of_sd_scripts_and_10_outside(
    layers: dict[str, torch.nn.Linear],
) -> None:
    assert len(layers) == 504
    fused = fuse(weights_of(layers))
    stems = {to_kohya(name) for name in fused}
    assert len(stems) == len(fused) == 304 + 10
    blocks = {stem for stem in stems if "_blocks_" in stem}
    assert len(blocks) == 304
    assert blocks == original_layers()


@pytest.mark.parametrize(
    ("name", "outputs", "inputs", "rank"),
    [
        ("double_blocks.0.img_attn.qkv", 9216, 3072, 6),
        ("double_blocks.18.txt_attn.proj", 3072, 3072, 2),
        ("double_blocks.3.txt_mlp.0", 12288, 3072, 2),
        ("double_blocks.3.img_mod.lin", 18432, 3072, 2),
        ("single_blocks.37.linear1", 21504, 3072, 8),
        ("single_blocks.0.linear2", 3072, 15360, 2),
        ("single_blocks.0.modulation.lin", 9216, 3072, 2),
        ("final_layer.adaLN_modulation.1", 6144, 3072, 2),
    ],
)
def test_shapes_are_those_of_the_original_layers(
    layers: dict[str, torch.nn.Linear], name: str, outputs: int, inputs: int, rank: int
) -> None:
    found = fuse(weights_of(layers))[f"transformer.{name}"]
    assert found.up.shape == (outputs, rank)
    assert found.down.shape == (rank, inputs)
    assert found.alpha == rank


def test_text_encoders_have_the_names_of_sd_scripts() -> None:
    clip = [canonical_name("text_encoder", path) for path in linear_layers(clip_l())]
    t5 = [canonical_name("text_encoder_2", path) for path in linear_layers(t5_xxl())]
    assert (len(clip), len(t5)) == (72, 168)
    stems = [to_kohya(name) for name in (*clip, *t5)]
    assert "lora_te1_text_model_encoder_layers_0_self_attn_q_proj" in stems
    assert "lora_te3_encoder_block_23_layer_1_DenseReluDense_wi_0" in stems
    assert [from_kohya(stem) for stem in stems] == [*clip, *t5]


def test_the_table_is_one_to_one() -> None:
    assert len(FLUX._inverse) == len(kohya_names())


def test_a_name_outside_flux_is_refused() -> None:
    with pytest.raises(ModelError, match=NO_LAYER):
        to_kohya("transformer.double_blocks.0.img_attn.norm")
    with pytest.raises(ModelError, match=NO_LAYER):
        fuse({"transformer.blocks.0.x": random_lora(2, 2, rank=1, alpha=1.0)})
    with pytest.raises(ModelError, match=NO_LAYER):
        from_kohya("lora_unet_input_blocks_4_1_proj_in")


def random_lora(outputs: int, inputs: int, rank: int, alpha: float) -> LoraFactors:
    return LoraFactors(torch.randn(outputs, rank), torch.randn(rank, inputs), alpha)


def product(factors: LoraFactors) -> torch.Tensor:
    return factors.scale * factors.up @ factors.down


@pytest.mark.parametrize("alphas", [(3.0, 3.0, 3.0), (1.0, 2.0, 6.0)])
@pytest.mark.parametrize("missing", [None, 0, 2])
def test_parts_come_back_from_the_whole(
    alphas: tuple[float, ...], missing: int | None
) -> None:
    names = [f"transformer.transformer_blocks.1.attn.to_{x}" for x in "qkv"]
    parts = {
        name: random_lora(8, 6, rank=3, alpha=alpha)
        for place, (name, alpha) in enumerate(zip(names, alphas, strict=True))
        if place != missing
    }
    fused = fuse(parts)
    assert list(fused) == ["transformer.double_blocks.1.img_attn.qkv"]
    whole = product(fused["transformer.double_blocks.1.img_attn.qkv"])
    for name, rows in zip(names, whole.chunk(3), strict=True):
        wanted = product(parts[name]) if name in parts else torch.zeros(8, 6)
        assert torch.allclose(rows, wanted, atol=1e-5)
    back = split(fused)
    assert list(back) == list(parts)
    for name, factors in parts.items():
        assert back[name].rank == 3
        assert torch.allclose(product(back[name]), product(factors), atol=1e-5)
        assert torch.equal(back[name].up, factors.up)


@pytest.mark.parametrize("kind", ["magnitude", "dora_scale"])
def test_the_rows_of_a_dora_keep_their_lengths(kind: str) -> None:
    """In both directions, of fused layers and of the one whose halves are swapped."""
    generator = torch.Generator().manual_seed(0)

    def dora(rows: int) -> LoraFactors:
        up, down = (
            torch.randn(shape, generator=generator) for shape in ((rows, 2), (2, 8))
        )
        lengths = torch.rand(rows, generator=generator) + 0.5
        return dataclasses.replace(LoraFactors(up, down, 2.0), **{kind: lengths})

    block = "transformer.transformer_blocks.0.attn"
    parts = {f"{block}.to_{leaf}": dora(8) for leaf in "qkv"}
    weights = {**parts, "transformer.norm_out.linear": dora(16)}
    fused = fuse(weights)
    whole = fused["transformer.double_blocks.0.img_attn.qkv"]
    expected = torch.cat([getattr(part, kind) for part in parts.values()])
    assert torch.equal(getattr(whole, kind), expected)
    back = split(fused)
    assert back.keys() == weights.keys()
    for name, factors in weights.items():
        assert torch.equal(getattr(back[name], kind), getattr(factors, kind))
        base = torch.randn(factors.up.shape[0], 8, generator=generator)
        assert torch.allclose(
            apply_lora(base, back[name]), apply_lora(base, factors), atol=1e-6
        )


def test_a_lora_trained_on_the_whole_is_shared_by_its_parts() -> None:
    whole = random_lora(7 * 4, 6, rank=3, alpha=1.5)
    back = split({"transformer.single_blocks.5.linear1": whole})
    assert [factors.up.shape[0] for factors in back.values()] == [4, 4, 4, 16]
    together = torch.cat([product(factors) for factors in back.values()])
    assert torch.allclose(together, product(whole), atol=1e-6)


def test_a_lora_at_its_start_comes_back() -> None:
    name = "transformer.transformer_blocks.0.attn.to_q"
    start = LoraFactors(torch.zeros(4, 2), torch.randn(2, 6), 2.0)
    assert name in split(fuse({name: start}))


def largest_difference(
    up: torch.Tensor, down: torch.Tensor, factors: LoraFactors
) -> float:
    """Largest entry of the difference of two products, made at once."""
    sides = torch.cat([up, -factors.scale * factors.up], dim=1)
    difference = sides @ torch.cat([down, factors.down])
    low, high = difference.aminmax()
    return max(-low.item(), high.item())


WIDTH, HIDDEN = 3072, 4 * 3072
SINGLE = {
    **{f"attn.to_{leaf}": (WIDTH, WIDTH) for leaf in "qkv"},
    "proj_mlp": (HIDDEN, WIDTH),
    "proj_out": (WIDTH, WIDTH + HIDDEN),
    "norm.linear": (3 * WIDTH, WIDTH),
}
DOUBLE = {
    **{f"attn.{leaf}": (WIDTH, WIDTH) for leaf in ("to_out.0", "to_add_out")},
    **{f"attn.to_{leaf}": (WIDTH, WIDTH) for leaf in "qkv"},
    **{f"attn.add_{leaf}_proj": (WIDTH, WIDTH) for leaf in "qkv"},
    **{f"{mlp}.net.0.proj": (HIDDEN, WIDTH) for mlp in ("ff", "ff_context")},
    **{f"{mlp}.net.2": (WIDTH, HIDDEN) for mlp in ("ff", "ff_context")},
    **{f"norm1{end}.linear": (6 * WIDTH, WIDTH) for end in ("", "_context")},
}


@pytest.mark.parametrize(
    ("block", "sizes"),
    [("single_transformer_blocks.0", SINGLE), ("transformer_blocks.18", DOUBLE)],
)
def test_diffusers_reads_the_layers_of_blocks(
    tmp_path: Path, block: str, sizes: dict[str, tuple[int, int]]
) -> None:
    """At FLUX.1's own width, the only one at which diffusers reads them."""
    weights = {
        f"transformer.{block}.{leaf}": random_lora(*size, rank=2, alpha=1.0)
        for leaf, size in sizes.items()
    }
    save_kohya(tmp_path / "lora.safetensors", weights, family="flux")
    read = FluxPipeline.lora_state_dict(tmp_path / "lora.safetensors")
    assert len(read) == 2 * len(weights)
    for name, factors in weights.items():
        up, down = read[f"{name}.lora_B.weight"], read[f"{name}.lora_A.weight"]
        assert up.shape == factors.up.shape
        assert largest_difference(up, down, factors) <= 1e-4
    assert load_lora(tmp_path / "lora.safetensors").keys() == weights.keys()


def test_halves_of_the_last_modulation_are_swapped() -> None:
    name = "transformer.norm_out.linear"
    parts = {name: random_lora(8, 6, rank=2, alpha=2.0)}
    fused = fuse(parts)["transformer.final_layer.adaLN_modulation.1"]
    assert torch.equal(fused.up[:4], parts[name].up[4:])
    assert torch.equal(split(fuse(parts))[name].up, parts[name].up)
