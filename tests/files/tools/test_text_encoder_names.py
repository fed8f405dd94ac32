"""Text encoders of all families: no name is broken, and no layer replaces another."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from helpers.lora_files import dense, write
from stiefel_lora._exceptions import ModelError
from stiefel_lora.files import Part, convert_lora, merge_lora, open_lora
from stiefel_lora.files.tools.sections import section_of
from stiefel_lora.files.tools.verifying import compare_loras

T5 = "encoder.block.0.layer.0.SelfAttention.q"
CLIP = "text_model.encoder.layers.0.self_attn.q_proj"
PROJ = "double_blocks_0_img_attn_proj"


def peft(*stems: str) -> dict[str, torch.Tensor]:
    found = {}
    for seed, stem in enumerate(stems):
        generator = torch.Generator().manual_seed(seed)
        found[f"{stem}.lora_A.weight"] = torch.randn(2, 5, generator=generator)
        found[f"{stem}.lora_B.weight"] = torch.randn(4, 2, generator=generator)
    return found


def kohya(*stems: str) -> dict[str, torch.Tensor]:
    names = {".lora_A.": ".lora_down.", ".lora_B.": ".lora_up."}
    found = {}
    for key, tensor in peft(*stems).items():
        for old, new in names.items():
            if old in key:
                found[key.replace(old, new)] = tensor
    return found


def under(stem: str) -> str:
    return stem.replace(".", "_")


SD3 = (
    *(f"text_encoder.{CLIP}", f"text_encoder_2.{CLIP}", f"text_encoder_3.{T5}"),
    "transformer.transformer_blocks.0.attn.to_q",
)
SD3_KOHYA = (
    *(f"lora_te1_{under(CLIP)}", f"lora_te2_{under(CLIP)}", f"lora_te3_{under(T5)}"),
    "lora_unet_transformer_blocks_0_attn_to_q",
)
PIXART = (f"text_encoder.{T5}", "transformer.transformer_blocks.0.attn1.to_q")
PIXART_KOHYA = (
    f"lora_te1_{under(T5)}",
    "lora_unet_transformer_blocks_0_attn1_to_q",
)
FOUR = (f"text_encoder_4.{CLIP}", "transformer.layers.0.attn.to_q")
FOUR_KOHYA = (f"lora_te4_{under(CLIP)}", "lora_unet_layers_0_attn_to_q")


@pytest.mark.parametrize(
    ("dots", "underscores"),
    [(SD3, SD3_KOHYA), (PIXART, PIXART_KOHYA), (FOUR, FOUR_KOHYA)],
    ids=["SD 3", "PixArt", "four encoders"],
)
def test_each_encoder_keeps_its_number_and_section(tmp_path, dots, underscores):
    file = write(tmp_path / "in.safetensors", peft(*dots))
    sections = {section_of(layer.key) for layer in file.layers}
    assert len(sections) == len(dots)
    saved = convert_lora(file, tmp_path / "k.safetensors", "kohya").file
    assert sorted(layer.stem for layer in saved.layers) == sorted(underscores)
    assert compare_loras(saved, file).is_right
    same = convert_lora(file, tmp_path / "p.safetensors", "PEFT").file
    assert sorted(layer.stem for layer in same.layers) == sorted(dots)
    again = convert_lora(saved, tmp_path / "k2.safetensors", "kohya").file
    assert sorted(layer.stem for layer in again.layers) == sorted(underscores)


@pytest.mark.parametrize(
    "stem",
    [
        f"lora_te3_{under(T5)}",
        f"lora_te2_{under(T5)}",
        f"text_encoder_2.{T5}",
        f"text_encoders.t5xxl.transformer.{T5}",
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_t5_alone_is_merged_with_flux(tmp_path, stem, first):
    t5 = write(tmp_path / "t5.safetensors", peft(stem))
    flux = write(tmp_path / "f.safetensors", kohya(f"lora_unet_{PROJ}"))
    own = write(tmp_path / "o.safetensors", kohya(f"lora_te3_{under(T5)}"))
    parts = [Part(t5), Part(flux), Part(own, 0.5)]
    parts = parts if first else [parts[1], parts[0], parts[2]]
    report = merge_lora(parts, tmp_path / "out.safetensors")
    found = dense(report.saved.file)
    key = "text_encoder_2:encoder_block_0_layer_0_SelfAttention_q"
    wanted = 1.5 * dense(own)[own.layers[0].key]
    assert len(found) == 2
    assert torch.allclose(found[key], wanted, rtol=0, atol=1e-6)


def test_t5_alone_in_kohya_is_written_with_its_number(tmp_path):
    file = write(tmp_path / "in.safetensors", kohya(f"lora_te3_{under(T5)}"))
    saved = convert_lora(file, tmp_path / "out.safetensors", "PEFT")
    assert [x.stem for x in saved.file.layers] == [f"text_encoder_3.{T5}"]
    assert any("two text encoders, it is text_encoder_2" in x for x in saved.remarks)
    saved = convert_lora(file, tmp_path / "out2.safetensors", "kohya")
    assert [x.stem for x in saved.file.layers] == [f"lora_te3_{under(T5)}"]
    assert not saved.remarks


def test_clip_g_does_not_belong_to_flux(tmp_path):
    """FLUX.1 has CLIP-L only, so CLIP-G beside it is another layer."""
    stems = (f"lora_te1_{under(CLIP)}", f"lora_te2_{under(CLIP)}")
    file = write(tmp_path / "in.safetensors", kohya(*stems))
    assert len(file.layers) == 2
    assert file.family == "sdxl"


ENCODERS = (
    "text_encoders.gemma2_2b.transformer.model.layers.0.self_attn.q_proj",
    "text_encoders.llama.transformer.model.layers.0.self_attn.q_proj",
)


@pytest.mark.parametrize("encoders", [ENCODERS, ENCODERS[:1]])
def test_encoders_with_a_name_have_no_number_in_kohya(tmp_path, encoders):
    stems = (*encoders, "diffusion_model.layers.0.attention.qkv")
    file = write(tmp_path / "in.safetensors", peft(*stems))
    out = tmp_path / "out.safetensors"
    with pytest.raises(ModelError, match=r"no name .* kohya.* has a name .*Use PEFT"):
        convert_lora(file, out, "kohya")
    assert not out.exists()
    saved = convert_lora(file, out, "PEFT").file
    assert compare_loras(saved, file).is_right
    assert len(saved.layers) == len(stems)


def test_a_peft_folder_has_no_place_for_an_encoder_with_a_name(tmp_path):
    """A name with ``..`` would otherwise be written outside of the folder."""
    for name in ("gemma2_2b", "a/../../x"):
        stem = f"text_encoders.{name}.transformer.model.layers.0.q_proj"
        tensors = peft(stem, "diffusion_model.layers.0.attention.qkv")
        file = write(tmp_path / "in.safetensors", tensors)
        with pytest.raises(ModelError, match=r"layers of text_encoders.*Use peft"):
            convert_lora(file, tmp_path / "out", "PEFT (own)")
    assert [path.name for path in tmp_path.iterdir()] == ["in.safetensors"]


def test_a_peft_folder_holds_the_third_encoder(tmp_path):
    file = write(tmp_path / "in.safetensors", peft(*SD3))
    saved = convert_lora(file, tmp_path / "out", "PEFT (own)").file
    assert (tmp_path / "out/text_encoder_3/adapter_config.json").is_file()
    assert compare_loras(saved, file).is_right


@pytest.mark.parametrize("kind", ["layer", "adapter"])
def test_two_layers_with_one_key_are_refused(tmp_path, kind, monkeypatch):
    """The writer is the last place: no spelling may lose a layer, known or new."""
    from stiefel_lora.files.tools import respell

    file = write(tmp_path / "in.safetensors", peft(*SD3[:2]))
    monkeypatch.setattr(respell, "_stem", lambda *_: "text_encoder.same")
    if kind == "adapter":
        tensors = peft(SD3[0]) | {
            "bundle_emb.x.text_encoder.same": torch.zeros(2),
        }
        file = write(tmp_path / "in.safetensors", tensors)
        monkeypatch.setattr(respell, "_stem", lambda *_: "bundle_emb.x.text_encoder")
        monkeypatch.setattr(
            respell,
            "SPELLINGS",
            {
                "PEFT": respell.Spelling(
                    {"down": ".lora_A.weight", "up": ".same"},
                )
            },
        )
    out = tmp_path / "out.safetensors"
    with pytest.raises(ModelError, match=r"have the same key .* would be lost"):
        convert_lora(file, out, "PEFT")
    assert not out.exists()


def test_two_layers_at_one_weight_of_a_checkpoint_are_refused(tmp_path):
    from stiefel_lora.files import Checkpoint, add_into_checkpoint

    base = tmp_path / "base.safetensors"
    weight = f"text_encoders.t5xxl.transformer.{T5}.weight"
    tensors = {weight: torch.zeros(4, 5)}
    tensors["double_blocks.0.img_attn.proj.weight"] = torch.zeros(4, 4)
    safetensors.torch.save_file(tensors, base)
    stems = (f"lora_te2_{under(T5)}", f"lora_te3_{under(T5)}")
    stems += ("lora_unet_layers_0_attention_qkv",)
    path = tmp_path / "in.safetensors"
    safetensors.torch.save_file(kohya(*stems[:2], stems[2]), path)
    file = open_lora(path)
    with pytest.raises(ModelError, match="are the same layer in base"):
        add_into_checkpoint(file, Checkpoint(base), tmp_path / "o.safetensors")


QKV = [f"transformer.transformer_blocks.0.attn.to_{x}" for x in "qkv"]
MLP = "single_transformer_blocks.0.proj_out", "single_blocks_0_linear2"


@pytest.mark.parametrize("others", ["separate", "fused", "both"])
@pytest.mark.parametrize(
    ("spelling", "stem"),
    [
        ("kohya", f"lora_te1_{under(CLIP)}"),
        ("PEFT", f"text_encoder.{CLIP}"),
        ("ComfyUI", f"text_encoders.clip_l.transformer.{CLIP}"),
        ("OneTrainer", f"text_encoder.{CLIP}"),
    ],
)
def test_a_first_file_of_text_encoders_sets_the_layout(
    tmp_path, spelling, stem, others
):
    """FLUX.1 has q, k and v in one layer or in three; a key format has one of them."""
    made = kohya if spelling in ("kohya", "OneTrainer") else peft
    first = write(tmp_path / "te.safetensors", made(stem))
    assert (first.spelling, first.family) == (spelling, None)
    apart = write(tmp_path / "a.safetensors", peft(*QKV, f"transformer.{MLP[0]}"))
    whole = convert_lora(apart, tmp_path / "w.safetensors", "kohya").file
    files = {"separate": [apart], "fused": [whole], "both": [apart, whole]}[others]
    parts = [Part(first), *(Part(file, 0.5) for file in files)]
    report = merge_lora(parts, tmp_path / "out.safetensors")
    merged = report.saved.file
    assert (merged.spelling, merged.family) == (spelling, "flux")
    fused = spelling in ("kohya", "ComfyUI")
    assert len(merged.layers) == (3 if fused else 5)
    found, one = dense(merged), dense(whole if fused else apart)
    assert found.keys() == one.keys() | {first.layers[0].key}
    for key, update in one.items():
        wanted = 0.5 * len(files) * update
        assert torch.allclose(found[key], wanted, rtol=0, atol=1e-6)
