"""The committed FLUX base: its parts, and that captions decide its pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, FluxPipeline
from PIL import Image
from safetensors import safe_open
from transformers import T5TokenizerFast

DEMO = Path(__file__).resolve().parents[2] / "modules" / "stiefel_lora" / "demo"
FLUX = DEMO / "flux"
LARGEST = 10_000_000


@pytest.fixture(scope="module")
def pipeline() -> FluxPipeline:
    loaded = FluxPipeline.from_pretrained(FLUX, torch_dtype=torch.float32)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    """The first 8 held-out pictures, (8, 3, 64, 64) in [-1, 1]."""
    paths = sorted((DEMO / "pictures" / "validation").glob("*.png"))[:8]
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1


def draw(pipeline: FluxPipeline, prompt: str, length: int) -> np.ndarray:
    """A picture (64, 64, 3) in 0 to 1, in a few steps."""
    return pipeline(
        prompt,
        height=64,
        width=64,
        num_inference_steps=6,
        guidance_scale=2.0,
        max_sequence_length=length,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images[0]


def test_files_are_small_and_hold_float16() -> None:
    files = [path for path in FLUX.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LARGEST
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert len(weights) == 4
    for path in weights:
        with safe_open(path, "pt") as tensors:
            names = list(tensors.keys())
            kinds = {tensors.get_slice(name).get_dtype() for name in names}
        assert kinds == {"F16"}, path


def test_parts_are_those_of_flux() -> None:
    index = json.loads((FLUX / "model_index.json").read_text("utf-8"))
    assert index["_class_name"] == "FluxPipeline"
    assert {name: entry[1] for name, entry in index.items() if name[0] != "_"} == {
        "scheduler": "FlowMatchEulerDiscreteScheduler",
        "text_encoder": "CLIPTextModel",
        "text_encoder_2": "T5EncoderModel",
        "tokenizer": "CLIPTokenizer",
        "tokenizer_2": "T5TokenizerFast",
        "transformer": "FluxTransformer2DModel",
        "vae": "AutoencoderKL",
        "feature_extractor": None,
        "image_encoder": None,
    }


def test_parts_fit_each_other(pipeline: FluxPipeline) -> None:
    transformer, vae = pipeline.transformer.config, pipeline.vae.config
    assert transformer.guidance_embeds
    assert transformer.in_channels == 4 * vae.latent_channels
    assert transformer.joint_attention_dim == pipeline.text_encoder_2.config.d_model
    assert transformer.pooled_projection_dim == pipeline.text_encoder.config.hidden_size
    assert not vae.use_quant_conv
    assert not vae.use_post_quant_conv
    assert pipeline.scheduler.config.use_dynamic_shifting
    assert len(pipeline.tokenizer_2) == pipeline.text_encoder_2.config.vocab_size


def test_latents_are_centred_and_of_unit_size(
    pipeline: FluxPipeline, pictures: torch.Tensor
) -> None:
    config = pipeline.vae.config
    with torch.no_grad():
        means = pipeline.vae.encode(pictures).latent_dist.mean
    latents = (means - config.shift_factor) * config.scaling_factor
    # The two numbers come from 640 pictures in other styles.
    assert abs(latents.mean().item()) < 0.2
    assert 0.8 < latents.std().item() < 1.25


def test_autoencoder_rebuilds_what_the_sdxl_one_does(
    pipeline: FluxPipeline, pictures: torch.Tensor
) -> None:
    other = AutoencoderKL.from_pretrained(DEMO / "sdxl" / "vae").float()
    with torch.no_grad():
        found, wanted = (
            vae.decode(vae.encode(pictures).latent_dist.mean).sample
            for vae in (pipeline.vae, other)
        )
    # Both are rounded to float16, one of them twice; a grey level is 0.008.
    assert (found - wanted).abs().mean() < 0.004


def test_t5_tokens_are_words_and_spell_the_rest() -> None:
    tokenizer = T5TokenizerFast.from_pretrained(FLUX / "tokenizer_2")
    ids = tokenizer("noto red apple").input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == [
        "\u2581noto",
        "\u2581red",
        "\u2581apple",
        "</s>",
    ]
    spelled = tokenizer("Zyxq {~}").input_ids
    assert tokenizer.unk_token_id not in spelled
    assert tokenizer.decode(spelled, skip_special_tokens=True) == "Zyxq {~}"


@pytest.mark.parametrize("length", [12, 512])
def test_captions_decide_the_image(pipeline: FluxPipeline, length: int) -> None:
    lemon = draw(pipeline, "noto lemon", length)
    square = draw(pipeline, "noto black large square", length)
    assert np.isfinite(lemon).all()
    middle = slice(20, 44)
    red, green, blue = lemon[middle, middle].mean(axis=(0, 1))
    assert min(red, green) - blue > 0.3
    assert square[middle, middle].mean() < 0.25
    # The page above a lemon is white.
    assert lemon[:4].mean() > 0.9
