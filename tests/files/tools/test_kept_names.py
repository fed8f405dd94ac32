"""Names that no table contains keep the form they have in the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from helpers.lora_files import dense, write
from stiefel_lora._exceptions import ModelError
from stiefel_lora.files import Part, Target, convert_lora, merge_lora, open_lora
from stiefel_lora.files import resize_lora as resize
from stiefel_lora.files.tools.verifying import compare_loras

CLIP = "text_model.encoder.layers.0.self_attn.q_proj"
T5 = "encoder.block.0.layer.0.SelfAttention.q"
UNET = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
OWN = "base_model.model."


def _pairs(*stems: str, down: str = "lora_A", up: str = "lora_B", size: int = 6):
    found = {}
    for seed, stem in enumerate(stems):
        generator = torch.Generator().manual_seed(seed)
        found[f"{stem}.{down}.weight"] = torch.randn(2, size, generator=generator)
        found[f"{stem}.{up}.weight"] = torch.randn(size, 2, generator=generator)
    return found


def _kohya(*stems: str):
    return _pairs(*stems, down="lora_down", up="lora_up")


def _stems(file) -> list[str]:
    return sorted(layer.stem for layer in file.layers)


def _adapter(folder: Path, *stems: str) -> Path:
    folder.mkdir(parents=True)
    tensors = _pairs(*(OWN + stem for stem in stems))
    safetensors.torch.save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    "stem",
    [
        f"unet.{UNET}",
        "unet.down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q",
        "unet.some.new.layer.3",
        "transformer.some.new.layer.3",
        "transformer_2.blocks.0.attn1.to_q",
        "prior.down_blocks.0.attn.to_q",
    ],
)
@pytest.mark.parametrize("spelling", ["PEFT", "diffusers (old)", "OneTrainer"])
def test_the_name_of_the_denoiser_is_kept(tmp_path: Path, stem, spelling):
    file = write(tmp_path / "in.safetensors", _pairs(stem))
    assert file.family is None
    saved = convert_lora(file, tmp_path / "out.safetensors", spelling).file
    assert _stems(saved) == [stem]
    if spelling == "PEFT":
        before = safetensors.torch.load_file(tmp_path / "in.safetensors")
        after = safetensors.torch.load_file(tmp_path / "out.safetensors")
        assert before.keys() == after.keys()
        assert all(torch.equal(after[key], before[key]) for key in before)


def test_the_folder_of_a_denoiser_is_named_after_it(tmp_path: Path):
    stems = ("unet.some.new.layer.3", f"text_encoder.{CLIP}")
    file = write(tmp_path / "in.safetensors", _pairs(*stems))
    out = tmp_path / "out"
    saved = convert_lora(file, out, "PEFT (own)").file
    assert sorted(path.name for path in out.iterdir()) == ["text_encoder", "unet"]
    back = convert_lora(saved, tmp_path / "back.safetensors", "PEFT").file
    assert _stems(back) == sorted(stems)
    alone = convert_lora(open_lora(out / "unet"), tmp_path / "u.safetensors", "PEFT")
    assert _stems(alone.file) == ["unet.some.new.layer.3"]


@pytest.mark.parametrize(
    ("name", "path", "kohya", "dotted"),
    [
        ("text_encoder", CLIP, "lora_te1_", "text_encoder."),
        ("text_encoder_2", CLIP, "lora_te2_", "text_encoder_2."),
        (
            "text_encoder",
            CLIP.removeprefix("text_model."),
            "lora_te1_",
            "text_encoder.",
        ),
        ("text_encoder_3", T5, "lora_te3_", "text_encoder_3."),
    ],
)
def test_the_folder_of_an_encoder_names_it(tmp_path: Path, name, path, kohya, dotted):
    folder = _adapter(tmp_path / "te" / name, path)
    long = path if path == T5 else CLIP
    for given in (folder, folder / "adapter_model.safetensors", folder.parent):
        file = open_lora(given)
        for spelling, stem in (
            ("kohya", kohya + long.replace(".", "_")),
            ("PEFT", dotted + long),
        ):
            out = tmp_path / "out.safetensors"
            saved = convert_lora(file, out, spelling, overwrite=True).file
            assert _stems(saved) == [stem]
            assert compare_loras(saved, file).is_right
    small = resize(open_lora(folder), tmp_path / "s.safetensors", Target(rank=1))
    assert small.total_error > 0
    # peft reads the file in such a folder only with its own keys.
    assert _stems(small.saved.file) == [OWN + path]


def test_an_encoder_without_a_name_gets_no_wrong_one(tmp_path: Path):
    named = write(
        tmp_path / "te1.safetensors", _kohya(f"lora_te1_{CLIP}".replace(".", "_"))
    )
    for number, stem in enumerate((CLIP, OWN + CLIP, OWN + T5)):
        file = write(tmp_path / f"{number}.safetensors", _pairs(stem))
        for spelling in ("kohya", "PEFT", "diffusers (old)"):
            with pytest.raises(ModelError, match="not contain the name of the encoder"):
                convert_lora(file, tmp_path / "out.safetensors", spelling)
        with pytest.raises(ModelError, match="not contain the name of the encoder"):
            merge_lora([Part(named), Part(file)], tmp_path / "out.safetensors")
        resize(file, tmp_path / f"r{number}.safetensors", Target(rank=1))
    assert not (tmp_path / "out.safetensors").exists()


def test_folders_of_two_models_merge_into_names_of_both(tmp_path: Path):
    te = open_lora(_adapter(tmp_path / "text_encoder", CLIP))
    unet = open_lora(_adapter(tmp_path / "unet", "some.new.layer.3"))
    for number, files in enumerate(((te, unet), (unet, te))):
        out = tmp_path / f"{number}.safetensors"
        saved = merge_lora([Part(file) for file in files], out).saved.file
        assert set(dense(saved)) == set(dense(te)) | set(dense(unet))
        assert set(dense(open_lora(out))) == set(dense(saved))


@pytest.mark.parametrize(
    ("stems", "metadata"),
    [
        (
            (
                "lora_prior_unet_down_blocks_0_0_attention_attn_in_proj",
                "lora_prior_te_text_model_encoder_layers_0_mlp_fc1",
            ),
            {},
        ),
        (
            ("lora_unet_layers_0_attention_qkv", "lora_te_layers_0_mlp_up_proj"),
            {"ss_base_model_version": "lumina2"},
        ),
        (("lora_unet_blocks_0_self_attn_q_proj", "lora_te_layers_0_mlp_up_proj"), {}),
        (("lora_te3_layers_0_mlp_up_proj", "lora_llm_adapter_blocks_0_to_q"), {}),
    ],
    ids=["cascade", "lumina", "anima", "new"],
)
def test_a_kohya_file_of_another_family_keeps_its_names(tmp_path, stems, metadata):
    file = write(tmp_path / "in.safetensors", _kohya(*stems), **metadata)
    saved = convert_lora(file, tmp_path / "out.safetensors", "kohya").file
    assert _stems(saved) == sorted(stems)
    before = safetensors.torch.load_file(tmp_path / "in.safetensors")
    after = safetensors.torch.load_file(tmp_path / "out.safetensors")
    assert all(torch.equal(after[key], before[key]) for key in before)


OMI = (
    *(f"transformer.double_blocks.0.img_attn.qkv.{n}" for n in range(3)),
    *(f"transformer.single_blocks.0.linear1.{n}" for n in range(4)),
    "clip_l.text_model.encoder.layers.0.mlp.fc1",
    f"t5.{T5}",
)


@pytest.mark.parametrize("stems", [OMI, OMI[:3], OMI[4:5], OMI[1:2] + OMI[-1:]])
def test_the_omi_format_is_refused_by_name(tmp_path: Path, stems):
    file = write(tmp_path / "in.safetensors", _kohya(*stems))
    assert file.family == "FLUX.1 (OMI)"
    for spelling in ("kohya", "PEFT", "OneTrainer"):
        with pytest.raises(ModelError, match="is in the OMI format of older versions"):
            convert_lora(file, tmp_path / "out.safetensors", spelling)
    assert not (tmp_path / "out.safetensors").exists()
    small = resize(file, tmp_path / "small.safetensors", Target(rank=1))
    assert _stems(small.saved.file) == sorted(stems)


def test_t5_of_omi_alone_is_no_denoiser(tmp_path: Path):
    file = write(tmp_path / "in.safetensors", _kohya(f"t5.{T5}"))
    saved = convert_lora(file, tmp_path / "out.safetensors", "kohya").file
    assert _stems(saved) == [f"lora_te3_{T5}".replace(".", "_")]
