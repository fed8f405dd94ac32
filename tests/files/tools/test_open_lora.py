"""One reader for the files of all tools: every oddity with its right value."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from stiefel_lora._exceptions import ModelError
from stiefel_lora.files import LoraFile, LoraLayer, open_lora
from stiefel_lora.files.tools.layer_names import parse_stem
from stiefel_lora.files.tools.save_lora import Lineage, save_lora
from stiefel_lora.files.tools.suffixes import parse_key

SGM = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
QUERY = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
CLIP = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
DOUBLE = "double_blocks.0.img_attn.qkv"
SINGLE = "single_transformer_blocks.{}"


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


UP, DOWN = rand(6, 2, seed=1), rand(2, 5, seed=2)


@pytest.fixture
def opened(tmp_path: Path):
    def opened(tensors: dict[str, torch.Tensor], **metadata: str) -> LoraFile:
        path = tmp_path / "lora.safetensors"
        # One tensor may stand for several layers here, which save_file refuses.
        own = {key: tensor.clone() for key, tensor in tensors.items()}
        safetensors.torch.save_file(own, path, metadata or None)
        return open_lora(path)

    return opened


def kohya(stem: str = SGM, alpha: torch.Tensor | None = None) -> dict:
    found = {f"{stem}.lora_up.weight": UP, f"{stem}.lora_down.weight": DOWN}
    return found if alpha is None else found | {f"{stem}.alpha": alpha}


def delta(layer: LoraLayer) -> torch.Tensor:
    factors = layer.factors
    up, down = factors.up.double().flatten(1), factors.down.double().flatten(1)
    shape = (factors.up.shape[0], *factors.down.shape[1:])
    return (factors.scale * up @ down).reshape(shape)


def only(file: LoraFile) -> LoraLayer:
    (layer,) = file.layers
    return layer


PRODUCT = UP.double() @ DOWN.double()


@pytest.mark.parametrize(
    ("stem", "suffixes", "name", "family", "spelling"),
    [
        (SGM, "lora_up.weight lora_down.weight", QUERY, "sdxl", "kohya"),
        (
            QUERY.replace(".", "_")
            .replace("unet_", "lora_unet_", 1)
            .replace("blocks_0_attn1", "blocks_3_attn1"),
            "lora_up.weight lora_down.weight",
            QUERY.replace("blocks.0.attn1", "blocks.3.attn1"),
            "sdxl",
            "kohya (diffusers names)",
        ),
        (
            "lora_unet_down_blocks_0_attentions_0_proj_in",
            "lora_up.weight lora_down.weight",
            "unet.down_blocks.0.attentions.0.proj_in",
            "sd15",
            "kohya",
        ),
        (
            "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q",
            "lora_B.weight lora_A.weight",
            QUERY,
            "sdxl",
            "ComfyUI",
        ),
        (
            "unet.up_blocks.0.attentions.0.proj_in",
            "lora_B.weight lora_A.weight",
            "unet.up_blocks.0.attentions.0.proj_in",
            "sdxl",
            "PEFT",
        ),
        (
            "unet.up_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out",
            "_lora.up.weight _lora.down.weight",
            "unet.up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0",
            "sdxl",
            "diffusers (old)",
        ),
        (
            "unet.up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
            "lora.up.weight lora.down.weight",
            "unet.up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
            "sdxl",
            "diffusers (old)",
        ),
        (
            "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q",
            "lora_B.weight lora_A.weight",
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
            "sd15",
            "ComfyUI",
        ),
        (
            "lora_unet_output_blocks_11_1_proj_in",
            "lora_up.weight lora_down.weight",
            "unet.up_blocks.3.attentions.2.proj_in",
            "sd15",
            "kohya",
        ),
        (
            "lora_unet_double_blocks_0_img_attn_qkv",
            "lora_up.weight lora_down.weight",
            f"transformer.{DOUBLE}",
            "flux",
            "kohya",
        ),
        (
            f"diffusion_model.{DOUBLE}",
            "lora_B.weight lora_A.weight",
            f"transformer.{DOUBLE}",
            "flux",
            "ComfyUI",
        ),
        (
            DOUBLE,
            "lora_B.weight lora_A.weight",
            f"transformer.{DOUBLE}",
            "flux",
            "original names",
        ),
        (
            "double_blocks.0.processor.qkv_lora1",
            "down.weight up.weight",
            f"transformer.{DOUBLE}",
            "flux",
            "XLabs",
        ),
        (
            "lora_transformer_single_transformer_blocks_1_attn_to_k",
            "lora_up.weight lora_down.weight",
            "transformer.single_transformer_blocks.1.attn.to_k",
            "flux",
            "OneTrainer (legacy)",
        ),
        (
            "transformer.single_transformer_blocks.1.attn.to_k",
            "lora_up.weight lora_down.weight",
            "transformer.single_transformer_blocks.1.attn.to_k",
            "flux",
            "OneTrainer",
        ),
        (
            "lycoris_single_transformer_blocks_1_attn_to_k",
            "lora_up.weight lora_down.weight",
            "transformer.single_transformer_blocks.1.attn.to_k",
            "flux",
            "LyCORIS",
        ),
        (
            "transformer.layers.3.attention.to_q",
            "lora_B.weight lora_A.weight",
            "layers.3.attention.to_q",
            "Z-Image",
            "PEFT",
        ),
        (
            "diffusion_model.blocks.7.self_attn.q",
            "lora_B.weight lora_A.weight",
            "blocks.7.self_attn.q",
            "Wan",
            "ComfyUI",
        ),
        (
            "transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj",
            "lora_B.weight lora_A.weight",
            "single_transformer_blocks.0.attn.to_qkv_mlp_proj",
            "FLUX.2",
            "PEFT",
        ),
        (
            "lora_unet_transformer_blocks_3_img_mlp_net_2",
            "lora_up.weight lora_down.weight",
            "transformer_blocks_3_img_mlp_net_2",
            "Qwen-Image",
            "kohya",
        ),
        (
            "diffusion_model.something.new.7",
            "lora_B lora_A",
            "something.new.7",
            None,
            "ComfyUI",
        ),
    ],
)
def test_every_spelling(opened, stem, suffixes, name, family, spelling):
    ends = [end if end[0] == "_" else f".{end}" for end in suffixes.split()]
    up, down = sorted(ends, key=lambda end: "down" in end or "_A" in end)
    file = opened({stem + up: UP, stem + down: DOWN})
    layer = only(file)
    assert (layer.name, file.family, file.spelling) == (name, family, spelling)
    assert not file.unknown
    assert torch.equal(delta(layer), PRODUCT)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("lora_te1_text_model_encoder_layers_0_self_attn_q_proj", CLIP),
        ("lora_te1_encoder_layers_0_self_attn_q_proj", CLIP),
        ("text_encoder.encoder.layers.0.self_attn.q_proj", CLIP),
        ("text_encoder.text_model.encoder.layers.0.self_attn.to_q", CLIP),
        ("clip_l.text_model.encoder.layers.0.self_attn.q_proj", CLIP),
        (
            "text_encoders.clip_g.transformer.text_model.encoder.layers.0."
            "self_attn.q_proj",
            CLIP.replace("encoder.", "encoder_2.", 1),
        ),
    ],
)
def test_text_encoders_of_sdxl(opened, stem, name):
    file = opened(kohya(stem) | kohya(SGM))
    assert {layer.name for layer in file.layers} == {name, QUERY}


@pytest.mark.parametrize(
    "stem",
    [
        "lora_te2_encoder_block_0_layer_0_SelfAttention_q",
        "lora_te3_encoder_block_0_layer_0_SelfAttention_q",
        "text_encoders.t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q",
        "text_encoder_2.encoder.block.0.layer.0.SelfAttention.q",
    ],
)
def test_t5_of_flux(opened, stem):
    file = opened(kohya(stem) | kohya("lora_unet_double_blocks_0_img_attn_qkv"))
    assert "text_encoder_2.encoder.block.0.layer.0.SelfAttention.q" in {
        layer.name for layer in file.layers
    }


def test_no_alpha_is_the_rank(opened):
    layer = only(opened(kohya()))
    assert layer.factors.alpha == 2
    assert torch.equal(delta(layer), PRODUCT)


@pytest.mark.parametrize(
    "alpha",
    [
        torch.tensor(1),
        torch.tensor([1.0]),
        torch.tensor([[1]]),
        torch.tensor(1.0, dtype=torch.bfloat16),
        torch.tensor(1.0, dtype=torch.float64),
        torch.tensor(1.0, dtype=torch.float8_e4m3fn),
    ],
    ids=str,
)
def test_alpha_of_any_form(opened, alpha):
    layer = only(opened(kohya(alpha=alpha)))
    assert layer.factors.alpha == 1
    assert torch.equal(delta(layer), PRODUCT / 2)


def test_alpha_in_the_metadata_of_diffusers(opened):
    name = "unet.up_blocks.0.attentions.0.proj_in"
    notes = {"unet.r": 2, "unet.lora_alpha": 8, "unet.alpha_pattern": {"proj_in": 1}}
    file = opened(
        {f"{name}.lora_A.weight": DOWN, f"{name}.lora_B.weight": UP},
        lora_adapter_metadata=json.dumps(notes),
    )
    assert torch.equal(delta(only(file)), PRODUCT / 2)


def test_pefts_own_file_with_its_settings_beside_it(tmp_path):
    stem = "base_model.model.up_blocks.0.attentions.0.proj_in"
    path = tmp_path / "adapter_model.safetensors"
    safetensors.torch.save_file(
        {f"{stem}.lora_A.weight": DOWN, f"{stem}.lora_B.weight": UP}, path
    )
    (tmp_path / "adapter_config.json").write_text('{"r": 2, "lora_alpha": 6}')
    file = open_lora(path)
    layer = only(file)
    assert layer.name == "unet.up_blocks.0.attentions.0.proj_in"
    assert torch.allclose(delta(layer), 3 * PRODUCT, rtol=1e-15)
    assert "adapter_config.json" in file.remarks[0]


def test_an_adapters_name_in_the_key(opened):
    stem = "base_model.model.unet.up_blocks.0.attentions.0.proj_in"
    file = opened(
        {f"{stem}.lora_A.style.weight": DOWN, f"{stem}.lora_B.style.weight": UP}
    )
    assert only(file).name == "unet.up_blocks.0.attentions.0.proj_in"
    assert torch.equal(delta(only(file)), PRODUCT)


def test_two_adapters_in_one_file_are_refused(opened):
    stem = "unet.conv_in"
    with pytest.raises(ModelError, match=r"contains 2 adapters \(one, two\)"):
        opened(
            {
                f"{stem}.lora_{x}.{name}.weight": value
                for name in ("one", "two")
                for x, value in (("A", DOWN), ("B", UP))
            }
        )


def test_ranks_that_differ(opened):
    other = SGM.replace("to_q", "to_k")
    tensors = {
        f"{other}.lora_up.weight": rand(6, 3),
        f"{other}.lora_down.weight": rand(3, 5),
        f"{other}.alpha": torch.tensor(6.0),
    }
    file = opened(kohya() | tensors)
    assert {layer.stored_rank: layer.factors.scale for layer in file.layers} == {
        2: 1,
        3: 2,
    }


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_short_floats(opened, dtype):
    tensors = {key: tensor.to(dtype) for key, tensor in kohya().items()}
    layer = only(opened(tensors))
    up, down = UP.to(dtype).double(), DOWN.to(dtype).double()
    assert torch.equal(delta(layer), up @ down)
    assert layer.dtype == dtype


def conv(up: torch.Tensor, down: torch.Tensor, **more: torch.Tensor) -> dict:
    stem = "lora_unet_input_blocks_1_0_in_layers_2"
    parts = {"lora_up.weight": up, "lora_down.weight": down, **more}
    return {f"{stem}.{part}": tensor for part, tensor in parts.items()}


def test_the_core_of_a_tucker_decomposition(opened):
    up, mid, down = rand(6, 2, 1, 1), rand(2, 2, 3, 3, seed=4), rand(2, 5, 1, 1, seed=5)
    layer = only(
        opened(conv(up, down, **{"lora_mid.weight": mid, "alpha": torch.tensor(1.0)}))
    )
    wanted = torch.einsum(
        "op,pqkl,qi->oikl",
        *(up[..., 0, 0].double(), mid.double(), down[..., 0, 0].double()),
    )
    assert layer.kind == "LoRA (Tucker)"
    assert torch.allclose(delta(layer), wanted / 2, rtol=0, atol=1e-6)


def test_a_core_in_float8(opened):
    up, mid, down = (
        torch.eye(2).reshape(2, 2, 1, 1),
        torch.ones(2, 2, 3, 3),
        torch.ones(2, 5, 1, 1),
    )
    parts = {"lora_mid.weight": mid, "alpha": torch.tensor(2.0)}
    eight = {
        key: tensor.to(torch.float8_e4m3fn) if tensor.ndim else tensor
        for key, tensor in conv(up, down, **parts).items()
    }
    assert torch.equal(
        delta(only(opened(eight))), torch.full((2, 5, 3, 3), 2.0).double()
    )


def test_a_core_whose_two_ranks_differ(opened):
    up, mid, down = rand(6, 3, 1, 1), rand(3, 2, 3, 3, seed=4), rand(2, 5, 1, 1, seed=5)
    layer = only(
        opened(conv(up, down, **{"lora_mid.weight": mid, "alpha": torch.tensor(1.0)}))
    )
    wanted = torch.einsum(
        "op,pqkl,qi->oikl",
        *(up[..., 0, 0].double(), mid.double(), down[..., 0, 0].double()),
    )
    # Loaders divide by the first size of lora_down.
    assert torch.allclose(delta(layer), wanted / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize("alpha", [None, 1.0])
def test_a_convolution_with_its_kernel_in_b(opened, alpha):
    up, down = rand(6, 2, 3, 3), rand(2, 5, 1, 1, seed=5)
    more = {} if alpha is None else {"alpha": torch.tensor(alpha)}
    layer = only(opened(conv(up, down, **more)))
    wanted = torch.einsum("orkl,ri->oikl", up.double(), down[..., 0, 0].double())
    assert torch.allclose(delta(layer), wanted * (alpha or 2) / 2, rtol=1e-14)


def test_a_one_by_one_convolution_half_kept_as_a_matrix(opened):
    layer = only(opened(conv(UP[..., None, None], DOWN)))
    assert torch.equal(delta(layer).flatten(1), PRODUCT)


def test_one_and_three_dimensional_convolutions(opened):
    for kernel in ((3,), (1, 2, 2)):
        ones = (1,) * len(kernel)
        layer = only(opened(conv(rand(6, 2, *ones), rand(2, 5, *kernel))))
        assert delta(layer).shape == (6, 5, *kernel)


def test_the_same_layer_in_two_spellings_counts_once(opened):
    peft = {f"{QUERY}.lora_A.weight": DOWN, f"{QUERY}.lora_B.weight": UP}
    file = opened(kohya() | peft)
    assert only(file).name == QUERY
    assert "1 layer is stored twice" in file.remarks[0]
    stem = next(iter(kohya())).partition(".")[0]
    one_stem = {f"{stem}.lora_A.weight": DOWN, f"{stem}.lora_B.weight": UP}
    file = opened(kohya() | one_stem)
    assert only(file).name == QUERY
    assert [text[:26] for text in file.remarks] == ["1 layer is stored twice, i"]
    saved = save_lora(
        file.path.with_name("once.safetensors"), file, lineage=Lineage([file], "")
    )
    assert "1 layer is stored twice" in saved.remarks[0]
    assert not saved.file.remarks
    with pytest.raises(ModelError, match="same layer, but have different values"):
        opened(kohya() | peft | {f"{QUERY}.lora_B.weight": 2 * UP})
    with pytest.raises(ModelError, match="same layer, but have different values"):
        opened(kohya(alpha=torch.tensor(1.0)) | peft)


@pytest.mark.parametrize("scale", ["one", "other", "both"])
def test_a_layer_stored_twice_with_other_dora_scales_is_an_error(opened, scale):
    """The first of them would be used, and the other scale lost."""
    lengths = rand(6, 1, seed=3)
    twice = kohya() | {f"{QUERY}.lora_B.weight": UP, f"{QUERY}.lora_A.weight": DOWN}
    tensors = dict(twice)
    if scale != "other":
        tensors[f"{SGM}.dora_scale"] = lengths
    if scale != "one":
        tensors[f"{QUERY}.dora_scale"] = lengths + (scale == "both")
    with pytest.raises(ModelError, match="are the same layer, but have different"):
        opened(tensors)
    both = {f"{SGM}.dora_scale": lengths, f"{QUERY}.dora_scale": lengths[:, 0]}
    assert only(opened(twice | both)).factors.is_dora


@pytest.mark.parametrize("scale", [rand(6, 1), rand(6)])
def test_a_dora_of_rows(opened, scale):
    layer = only(opened(kohya() | {f"{SGM}.dora_scale": scale}))
    assert layer.kind == "DoRA"
    assert torch.equal(layer.factors.dora_scale, scale)


@pytest.mark.parametrize(
    "suffix",
    [
        "lora_magnitude_vector",
        "lora_magnitude_vector.weight",
        "lora_magnitude_vector.default.weight",
        "magnitude",
    ],
)
def test_a_dora_of_peft(opened, suffix):
    peft = {f"{QUERY}.lora_A.weight": DOWN, f"{QUERY}.lora_B.weight": UP}
    layer = only(opened(peft | {f"{QUERY}.{suffix}": rand(6)}))
    assert torch.equal(layer.factors.magnitude, rand(6))


@pytest.mark.parametrize("shape", [(1, 5), (5,)])
def test_a_dora_of_columns_is_kept_apart(opened, shape):
    file = opened(kohya() | {f"{SGM}.dora_scale": rand(*shape)})
    assert not file.layers
    assert [other.kind for other in file.others] == ["DoRA of columns"]
    assert len(file.others[0].tensors) == 3


def test_columns_of_a_square_dora_are_detected_by_the_first_size(opened):
    square = {f"{SGM}.lora_up.weight": rand(5, 2), f"{SGM}.lora_down.weight": DOWN}
    assert opened(square | {f"{SGM}.dora_scale": rand(5, 1)}).layers
    assert opened(square | {f"{SGM}.dora_scale": rand(1, 5)}).others


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        (("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "alpha"), "LoHa"),
        (("lokr_w1", "lokr_w2_a", "lokr_w2_b", "alpha"), "LoKr"),
        (("diff", "diff_b"), "full difference"),
        (("w_norm", "b_norm"), "norm"),
        (("oft_blocks", "alpha"), "OFT"),
    ],
)
def test_other_adapters_are_kept_apart(opened, parts, kind):
    other = SGM.replace("to_q", "to_k")
    file = opened(kohya() | {f"{other}.{part}": rand(2, 2) for part in parts})
    assert [layer.name for layer in file.layers] == [QUERY]
    assert [(o.name, o.kind) for o in file.others] == [(other, kind)]
    assert {key.rpartition(".")[2] for key in file.others[0].tensors} == set(parts)
    assert not file.unknown


def test_the_second_text_encoder_alone(opened):
    stem = "lora_te2_text_model_encoder_layers_0_mlp_fc1"
    file = opened(kohya(stem))
    assert file.family == "sdxl"
    assert only(file).name == "text_encoder_2.text_model.encoder.layers.0.mlp.fc1"


def test_a_model_alone(opened):
    assert {layer.name for layer in opened(kohya()).layers} == {QUERY}


def test_the_metadata_decides_only_what_names_leave_open(opened):
    stem = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    assert opened(kohya(stem)).family is None
    assert opened(kohya(stem), ss_base_model_version="sd_v1").family == "sd15"
    assert opened(kohya(stem), ss_base_model_version="sdxl_base_v1-0").family == "sdxl"
    assert opened(kohya(SGM), ss_base_model_version="flux1").family == "sdxl"


@pytest.mark.parametrize(
    ("ratio", "family"), [(7, "flux"), (9, "FLUX.2")], ids=["flux", "flux2"]
)
def test_flux2_by_the_size_of_its_fused_layers(opened, ratio, family):
    stem = "lora_unet_single_blocks_0_linear1"
    tensors = {
        f"{stem}.lora_up.weight": rand(ratio * 4, 2),
        f"{stem}.lora_down.weight": rand(2, 4),
    }
    assert opened(tensors).family == family


def test_unknown_keys_are_listed(opened):
    file = opened(kohya() | {"emphasis": rand(2), f"{SGM}2.alpha": torch.tensor(1.0)})
    assert set(file.unknown) == {"emphasis", f"{SGM}2.alpha"}
    assert only(file).name == QUERY


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "contains no tensors"),
        (
            {"model.diffusion_model.out.2.weight": UP},
            "is a checkpoint or a part of a model, not a LoRA",
        ),
        ({"a": UP}, "is not a LoRA file: none of its 1 keys is known, for example 'a'"),
        ({f"{SGM}.lora_up.weight": UP}, f"{SGM} is incomplete because its down factor"),
        (
            {f"{SGM}.lora_mid.weight": UP},
            f"{SGM} is incomplete because its down factor",
        ),
        (kohya(alpha=rand(3)), f"{SGM}: alpha must be one number"),
        (
            kohya(alpha=torch.tensor(torch.nan)),
            f"{SGM}: alpha must be finite, but got nan",
        ),
        (
            kohya() | {f"{SGM}.lora_down.weight": rand(3, 5)},
            f"{SGM}: up and down must have shapes .* got .6, 2. and .3, 5.",
        ),
        (
            {
                f"{SGM}.lora_up.weight": rand(6, 0),
                f"{SGM}.lora_down.weight": rand(0, 5),
            },
            f"{SGM}: The rank must be at least 1",
        ),
        (
            {key: t.int() for key, t in kohya().items()},
            "factors must have a floating point dtype, but got int32",
        ),
        (
            conv(rand(6, 2, 3, 3), rand(2, 5, 3, 3)),
            "neither of them is 1 x 1",
        ),
        (
            conv(rand(6, 2), rand(2, 5), **{"lora_mid.weight": rand(3, 3, 3, 3)}),
            "does not match the shapes of up",
        ),
    ],
)
def test_what_cannot_be_read_is_one_message(opened, tensors, message):
    with pytest.raises(ModelError, match=message):
        opened(tensors)


def test_a_cut_off_file(tmp_path):
    path = tmp_path / "lora.safetensors"
    path.write_bytes(safetensors.torch.save(kohya())[:-7])
    with pytest.raises(ModelError, match="is damaged or not a safetensors file"):
        open_lora(path)


def test_broken_adapter_metadata_names_the_file(opened):
    stem = "unet.conv_in"
    tensors = {f"{stem}.lora_A.weight": DOWN, f"{stem}.lora_B.weight": UP}
    for text in ("{", "[]"):
        with pytest.raises(ModelError, match=r"lora\.safetensors: the adapter setting"):
            opened(tensors, lora_adapter_metadata=text)


def test_keys_are_taken_apart():
    assert parse_key("x.weight") is None
    assert parse_key("a.b.lora_B.bias").part == "bias"
    assert parse_stem("unet.base_model.model.conv_in").path == "conv_in"
    assert parse_stem("text_encoders.qwen3_4b.transformer.model.layers.0.mlp").key == (
        "text_encoders.qwen3_4b:model_layers_0_mlp"
    )


def test_xlabs_single_blocks_are_rows_of_linear1(opened):
    stem = "single_blocks.3.processor.qkv_lora"
    file = opened({f"{stem}.up.weight": UP, f"{stem}.down.weight": DOWN})
    layer = only(file)
    assert (layer.name, file.family) == ("transformer.single_blocks.3.linear1", "flux")
    assert torch.equal(delta(layer)[:6], PRODUCT)
    assert delta(layer).shape == (14, 5)
    assert not delta(layer)[6:].any()
    assert layer.stem + layer.suffixes["up"] == "single_blocks.3.linear1.lora_B.weight"
    assert "rows of linear1" in file.remarks[0]


def test_trained_words_of_onetrainer_are_known(opened):
    file = opened(kohya() | {"bundle_emb.my.word.clip_l": rand(2, 5)})
    assert not file.unknown
    assert [(o.name, o.kind) for o in file.others] == [
        ("bundle_emb.my.word", "embedding")
    ]


@pytest.mark.parametrize(
    ("paths", "width", "family"),
    [
        (("transformer_blocks.0", SINGLE.format(37)), 3072, "flux"),
        (("transformer_blocks.18",), 3072, "flux"),
        (("transformer_blocks.0", "transformer_blocks.59"), 3072, "Qwen-Image"),
        (("transformer_blocks.0", "transformer_blocks.19"), 3072, "Qwen-Image"),
        (("transformer_blocks.0",), 1536, "SD 3"),
        (("transformer_blocks.23",), 2432, "SD 3"),
        (
            ("transformer_blocks.19", "single_transformer_blocks.3"),
            3072,
            "HunyuanVideo",
        ),
        ((SINGLE.format(39),), 3072, "HunyuanVideo"),
    ],
)
def test_attention_alone_of_relatives_of_flux(opened, paths, width, family):
    tensors = {}
    for path in paths:
        stem = f"transformer.{path}.attn.to_q"
        tensors[f"{stem}.lora_A.weight"] = rand(1, width)
        tensors[f"{stem}.lora_B.weight"] = rand(width, 1)
    assert opened(tensors).family == family


def test_a_width_of_cross_attention_decides_between_sd15_and_sdxl(opened):
    stem = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    for width, family in ((768, "sd15"), (2048, "sdxl")):
        tensors = {
            f"{stem}.lora_up.weight": rand(6, 2),
            f"{stem}.lora_down.weight": rand(2, width),
        }
        assert opened(tensors).family == family
