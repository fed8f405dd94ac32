"""Write the pipeline folder: real diffusers and transformers classes, fp16."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)
from transformers import CLIPTokenizer

from demo_parts.base_model import BaseModel, Tokenizers, build_scheduler

BUDGET = 28_000_000


def assemble(
    model: BaseModel, vae: AutoencoderKL, tokenizers: Tokenizers
) -> StableDiffusionXLPipeline:
    """The stock pipeline around these parts.

    An empty negative prompt is encoded like any other text, since the training also
    showed the model empty captions.
    """
    # Its annotations name an enumeration of schedulers, not their classes.
    scheduler: Any = build_scheduler()
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        text_encoder_2=model.text_encoder_2,
        tokenizer=tokenizers.first,
        tokenizer_2=tokenizers.second,
        unet=model.unet,
        scheduler=scheduler,
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )


def write_pipeline(
    model: BaseModel, vae: AutoencoderKL, tokenizers: Tokenizers, target: Path
) -> int:
    """Save everything in fp16 into `target`; returns the bytes of the folder."""
    half_vae = copy.deepcopy(vae)
    torch.nn.Module.half(half_vae)
    pipeline = assemble(copy.deepcopy(model).half(), half_vae, tokenizers)
    vocabularies = {"tokenizer": tokenizers.first, "tokenizer_2": tokenizers.second}
    return save_folder(pipeline, target, vocabularies, BUDGET)


def save_folder(
    pipeline: DiffusionPipeline,
    target: Path,
    vocabularies: dict[str, CLIPTokenizer],
    budget: int,
) -> int:
    """Save a pipeline into `target`, replacing what is there.

    Args:
        pipeline: with its weights in fp16.
        target: the folder.
        vocabularies: part -> tokenizer whose own two files are written too, since
            other trainers look for them beside tokenizer.json.
        budget: largest number of bytes.

    Returns:
        Bytes of the folder.

    Raises:
        ValueError: if the folder is larger than `budget`.
    """
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    pipeline.save_pretrained(partial, safe_serialization=True)
    _forget_places(partial)
    for folder, tokenizer in vocabularies.items():
        tokenizer.backend_tokenizer.model.save(str(partial / folder))
    size = sum(p.stat().st_size for p in partial.rglob("*") if p.is_file())
    if size > budget:
        raise ValueError(
            f"{partial} has {size} bytes, more than the {budget} that the repository "
            "allows: narrow the networks in demo_parts."
        )
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return size


def _forget_places(folder: Path) -> None:
    """Leave out where a part was loaded from on this machine."""
    for path in folder.glob("*/config.json"):
        settings = json.loads(path.read_text("utf-8"))
        if settings.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
