"""Write the FLUX folder: real diffusers and transformers classes, fp16."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline

from demo_parts.flux.base_model import FluxBase, Tokenizers, build_scheduler
from demo_parts.pack import save_folder

BUDGET = 10_000_000


def assemble(
    model: FluxBase, vae: AutoencoderKL, tokenizers: Tokenizers
) -> FluxPipeline:
    """The stock pipeline around these parts."""
    return FluxPipeline(
        scheduler=build_scheduler(),
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizers.first,
        text_encoder_2=model.text_encoder_2,
        tokenizer_2=tokenizers.second,
        transformer=model.transformer,
    )


def write_pipeline(
    model: FluxBase, vae: AutoencoderKL, tokenizers: Tokenizers, target: Path
) -> int:
    """Save everything in fp16 into `target`; returns the bytes of the folder."""
    half_vae = copy.deepcopy(vae)
    torch.nn.Module.half(half_vae)
    pipeline = assemble(copy.deepcopy(model).half(), half_vae, tokenizers)
    size = save_folder(pipeline, target, {"tokenizer": tokenizers.first}, BUDGET)
    _name_fast_tokenizer(target / "model_index.json")
    return size


def _name_fast_tokenizer(index: Path) -> None:
    """Name T5's class as FLUX.1 does: transformers 4 has another T5Tokenizer."""
    text = index.read_text("utf-8").replace('"T5Tokenizer"', '"T5TokenizerFast"')
    index.write_text(text, "utf-8")
