"""A tiny FLUX.1, LoRA files of it, and what diffusers makes of them."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import FluxPipeline
from encoder_files import ENCODERS, save_encoders
from flux_folder import FluxFolder
from safetensors.torch import save_file
from transformers import T5Config, T5EncoderModel

from helpers.runs import tiny_flux_config
from helpers.tiny_flux import WIDTH, build_tiny_flux
from stiefel_lora.files import (
    LoraFactors,
    LoraWeights,
    canonical_name,
    load_lora,
    save_kohya,
    save_peft,
)
from stiefel_lora.training.trainer import train

__all__ = ["make_folder", "output"]

LATENTS, SIDE = 16, 8


def make_folder(root: Path) -> FluxFolder:
    """Write the model and four LoRAs, each in both formats.

    ``trained``: every linear layer and CLIP, by Stiefel LoRA. ``scaled``: attention and
    MLP by AdamW, alpha a quarter of the rank. ``dora``: attention alone, so that fused
    layers have a part without. ``encoders``: CLIP and T5, random, as no run of ours
    trains T5.
    """
    model = build_tiny_flux(root / "model")
    _gate_t5(model / "text_encoder_2")
    (root / "loras").mkdir()
    _train(model, root, "trained", layer_filter_preset="full", train_text_encoder=True)
    _train(
        model,
        root,
        "scaled",
        layer_filter_preset="attn-mlp",
        optimizer={"name": "adamw"},
        lora_alpha=1.0,
    )
    _train(model, root, "dora", use_dora=True, learning_rate=0.8)
    pipeline = FluxPipeline.from_pretrained(model)
    save_encoders(root, pipeline)
    encoders = _random_lora(pipeline)
    save_kohya(root / "loras/encoders.safetensors", encoders, family="flux")
    save_peft(root / "loras/encoders_peft.safetensors", encoders)
    _write_inputs(root)
    return FluxFolder(root)


def _gate_t5(folder: Path) -> None:
    """T5 v1.1: its MLP has a gate, and its heads together the model's width."""
    sizes = T5Config.from_pretrained(folder).to_dict()
    # What transformers works out from feed_forward_proj; kept, it would win.
    for name in ("feed_forward_proj", "dense_act_fn", "is_gated_act"):
        sizes.pop(name, None)
    sizes["d_kv"] = sizes["d_model"] // sizes["num_heads"]
    torch.manual_seed(1)
    config = T5Config(**sizes, feed_forward_proj="gated-gelu")
    T5EncoderModel(config).save_pretrained(folder)


def _train(model: Path, root: Path, name: str, **changes: object) -> None:
    settings = {"run_name": name, "learning_rate": 0.2, **changes}
    if changes.get("train_text_encoder"):
        settings["text_encoder_learning_rate"] = 0.1
    result = train(tiny_flux_config(model, root, **settings))
    for file, ending in zip(result.lora_files, ("", "_peft"), strict=True):
        file.rename(root / "loras" / f"{name}{ending}.safetensors")


def _random_lora(pipeline: FluxPipeline) -> LoraWeights:
    random = torch.Generator().manual_seed(2)
    weights: LoraWeights = {}
    for component in ENCODERS.values():
        for path, layer in getattr(pipeline, component).named_modules():
            if isinstance(layer, torch.nn.Linear):
                outputs, inputs = layer.weight.shape
                weights[canonical_name(component, path)] = LoraFactors(
                    torch.randn(outputs, 3, generator=random),
                    torch.randn(3, inputs, generator=random),
                    2.0,
                )
    return weights


def _write_inputs(root: Path) -> None:
    random = torch.Generator().manual_seed(3)
    inputs = {
        "latents": torch.randn(1, LATENTS, SIDE, SIDE, generator=random),
        "context": torch.randn(1, 7, WIDTH, generator=random),
        "pooled": torch.randn(1, WIDTH, generator=random),
        "timestep": torch.tensor([0.7]),
        "guidance": torch.tensor([3.5]),
    }
    save_file(inputs, root / "inputs.safetensors")


def output(
    folder: FluxFolder, file: Path | None, without: tuple[str, ...] = ()
) -> torch.Tensor:
    """Latents that diffusers' transformer gives with a PEFT file.

    Args:
        folder: the material.
        file: in PEFT's format; None for the model alone.
        without: layers whose LoRA is left out.
    """
    pipeline = FluxPipeline.from_pretrained(folder.root / "model")
    weights = load_lora(file) if file else {}
    prefix = "transformer."
    kept = {n: f for n, f in weights.items() if n.startswith(prefix)}
    for name in without:
        del kept[prefix + name]
    if kept:
        trimmed = folder.root / "trimmed"
        save_peft(trimmed / "lora.safetensors", kept)
        pipeline.load_lora_weights(trimmed, weight_name="lora.safetensors")
    given = folder.inputs()
    ids = FluxPipeline._prepare_latent_image_ids(
        1, SIDE // 2, SIDE // 2, "cpu", torch.float32
    )
    packed = FluxPipeline._pack_latents(given["latents"], 1, LATENTS, SIDE, SIDE)
    with torch.no_grad():
        found = pipeline.transformer(
            hidden_states=packed,
            encoder_hidden_states=given["context"],
            pooled_projections=given["pooled"],
            timestep=given["timestep"],
            guidance=given["guidance"],
            img_ids=ids,
            txt_ids=torch.zeros(given["context"].shape[1], 3),
        ).sample
    scale = pipeline.vae_scale_factor
    return FluxPipeline._unpack_latents(found, SIDE * scale, SIDE * scale, scale)
