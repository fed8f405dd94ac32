"""Models that have the layer names of others, and files whose family is ambiguous."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.lora_files import dense, write
from stiefel_lora._exceptions import ModelError
from stiefel_lora.files import Part, convert_lora, inspect_lora, merge_lora, overlap
from stiefel_lora.files.tools.inspection_facts import facts_of
from stiefel_lora.files.tools.verifying import compare_loras


def _kohya(*shapes: tuple[str, int, int]) -> dict[str, torch.Tensor]:
    found = {}
    for seed, (stem, outputs, inputs) in enumerate(shapes):
        generator = torch.Generator().manual_seed(seed)
        found[f"{stem}.lora_up.weight"] = torch.randn(outputs, 2, generator=generator)
        found[f"{stem}.lora_down.weight"] = torch.randn(2, inputs, generator=generator)
    return found


DOWN = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_"
SGM = "lora_unet_input_blocks_4_1_transformer_blocks_0_"
CASES = {
    "SD 2": ([(f"{DOWN}attn2_to_k", 320, 1024)], {}),
    "SD 2 by metadata": (
        [(f"{DOWN}attn1_to_k", 320, 320)],
        {"ss_base_model_version": "sd_v2_v"},
    ),
    "SD 2 by ss_v2": ([(f"{DOWN}attn1_to_k", 320, 320)], {"ss_v2": "True"}),
    "SD 2 with another note": (
        [(f"{DOWN}attn2_to_k", 320, 1024)],
        {"ss_base_model_version": "sd_v1"},
    ),
    "SDXL refiner": (
        [
            (f"{SGM}attn2_to_k", 768, 1280),
            ("lora_unet_input_blocks_10_0_emb_layers_1", 3072, 1536),
        ],
        {},
    ),
    "SDXL refiner by metadata": (
        [(f"{SGM}attn1_to_k", 768, 768)],
        {"modelspec.architecture": "stable-diffusion-xl-v1-refiner/lora"},
    ),
    "Kolors": ([(f"{SGM}attn2_to_k", 640, 4096)], {}),
    "Cosmos": ([("lora_unet_blocks_0_self_attn_q_proj", 8, 8)], {}),
    "Anima": (
        [("lora_unet_blocks_0_self_attn_q_proj", 8, 8)],
        {"ss_base_model_version": "anima_preview"},
    ),
    "Wan": ([("lora_unet_blocks_0_self_attn_q", 8, 8)], {}),
    "Lumina 2": (
        [("lora_unet_layers_0_attention_qkv", 6912, 2304)],
        {"ss_base_model_version": "lumina2"},
    ),
    "Lumina 2 by width": ([("lora_unet_layers_0_attention_qkv", 6912, 2304)], {}),
    "Z-Image": ([("lora_unet_layers_0_attention_qkv", 24, 8)], {}),
    "sd15": ([(f"{DOWN}attn2_to_k", 320, 768)], {}),
    "sd15 with another note": ([(f"{DOWN}attn2_to_k", 320, 768)], {"ss_v2": "True"}),
    "sdxl": ([(f"{SGM}attn2_to_k", 640, 2048)], {"ss_v2": "False"}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_model_is_named_and_no_other_is_written(tmp_path: Path, case):
    shapes, metadata = CASES[case]
    label = case.partition(" by ")[0].partition(" with ")[0]
    file = write(tmp_path / "in.safetensors", _kohya(*shapes), **metadata)
    assert file.label == label
    assert not any("different models" in remark for remark in file.remarks)
    assert facts_of(inspect_lora(file))["family"] == label
    saved = convert_lora(file, tmp_path / "out.safetensors", "kohya")
    after = {k: saved.file.metadata.get(k) for k in ("ss_base_model_version", "ss_v2")}
    if label not in ("sd15", "sdxl"):
        assert after == {key: metadata.get(key) for key in after}
    assert saved.file.label == label
    assert [x.stem for x in saved.file.layers] == [x.stem for x in file.layers]


def test_models_with_the_same_names_are_not_merged(tmp_path):
    files = [
        write(tmp_path / f"{n}.safetensors", _kohya((f"{DOWN}attn2_to_k", 320, n)))
        for n in (768, 1024)
    ]
    out = tmp_path / "out.safetensors"
    parts = [Part(file) for file in files]
    with pytest.raises(ModelError, match=r"a LoRA of sd15, but .* is a LoRA of SD 2"):
        merge_lora(parts, out)
    with pytest.raises(ModelError, match=r"a LoRA of SD 2, but .* is a LoRA of sd15"):
        overlap(*files[::-1])
    with pytest.raises(ModelError, match=r"a LoRA of SD 2, but .* is a LoRA of sd15"):
        compare_loras(*files[::-1])
    twice = merge_lora([Part(files[1]), Part(files[1])], out).saved.file
    assert twice.label == "SD 2"
    # The names of SD 2 are those of SD 1.5 in every format.
    peft = convert_lora(twice, tmp_path / "p.safetensors", "PEFT").file
    assert peft.layers[0].stem.startswith("unet.down_blocks.0.attentions.0.")


UNET = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize("first", [True, False])
def test_a_part_of_sdxl_is_merged_with_sdxl(tmp_path, first):
    sdxl = _kohya((f"{SGM}attn2_to_k", 640, 2048), (f"{SGM}attn1_to_q", 640, 640))
    part = {
        f"{UNET}.lora_A.weight": torch.randn(2, 640),
        f"{UNET}.lora_B.weight": torch.randn(640, 2),
    }
    files = [
        write(tmp_path / "sdxl.safetensors", sdxl),
        write(tmp_path / "part.safetensors", part),
    ]
    assert [file.family for file in files] == ["sdxl", None]
    files = files if first else files[::-1]
    report = merge_lora([Part(file) for file in files], tmp_path / "out.safetensors")
    found = dense(report.saved.file)
    key = "model:down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    given = files if first else files[::-1]
    wanted = dense(given[0])[key] + dense(given[1])[next(iter(dense(given[1])))]
    assert len(found) == 2
    assert torch.allclose(found[key], wanted, atol=1e-4)


@pytest.mark.parametrize(
    "stem",
    ["unet.some.other.layer", "transformer.blocks.0.attn", f"{UNET}_more"],
)
def test_layers_that_a_family_does_not_have_are_not_merged_with_it(tmp_path, stem):
    sdxl = write(tmp_path / "s.safetensors", _kohya((f"{SGM}attn2_to_k", 640, 2048)))
    part = {
        f"{stem}.lora_A.weight": torch.randn(2, 640),
        f"{stem}.lora_B.weight": torch.randn(640, 2),
    }
    other = write(tmp_path / "p.safetensors", part)
    with pytest.raises(ModelError, match="LoRA of an unknown family, but other files"):
        merge_lora([Part(sdxl), Part(other)], tmp_path / "out.safetensors")
