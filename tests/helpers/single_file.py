"""The original layouts, written from models in the diffusers format.

The names are put together here from the published structure (an input block a layer,
a downsampler after two, and so on), not by inverting what the package uses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

__all__ = [
    "bfl",
    "clip_names",
    "known_from",
    "ldm_unet",
    "ldm_vae",
    "open_clip",
    "part_of",
    "write_single_file",
]

Tensors = dict[str, Tensor]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_OUTSIDE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def part_of(folder: Path, part: str) -> Tensors:
    """Weights of a part in the diffusers format."""
    (path,) = (folder / part).glob("*.safetensors")
    return load_file(path)


def ldm_unet(tensors: Tensors) -> Tensors:
    """U-Net with two layers a level, as CompVis named it."""
    attended = {
        name.split(".attentions")[0] for name in tensors if ".attentions" in name
    }
    return {_unet_name(name, attended): t for name, t in tensors.items()}


def _unet_name(name: str, attended: Iterable[str]) -> str:
    stem, _, kind = name.rpartition(".")
    if stem in _UNET_OUTSIDE:
        return f"{_UNET_OUTSIDE[stem]}.{kind}"
    mid = re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", stem)
    if mid:
        what, number, leaf = mid.groups()
        place = 1 if what == "attentions" else 2 * int(number)
        return f"middle_block.{place}.{_leaf(what, leaf)}.{kind}"
    found = re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", stem)
    assert found, name
    side, level, what, layer, leaf = found.groups()
    blocks = "input_blocks" if side == "down" else "output_blocks"
    first = (1 if side == "down" else 0) + 3 * int(level)
    if what == "downsamplers":
        return f"{blocks}.{first + 2}.0.op.{kind}"
    if what == "upsamplers":
        place = 2 if f"up_blocks.{level}" in attended else 1
        return f"{blocks}.{first + 2}.{place}.conv.{kind}"
    place = 0 if what == "resnets" else 1
    return f"{blocks}.{first + int(layer)}.{place}.{_leaf(what, leaf)}.{kind}"


def _leaf(what: str, leaf: str) -> str:
    return _RESNET[leaf] if what == "resnets" else leaf


def ldm_vae(tensors: Tensors) -> Tensors:
    """VAE as CompVis named it; its attention is made of 1 x 1 convolutions."""
    levels = 1 + max(int(n.split(".")[2]) for n in tensors if "up_blocks" in n)
    found = {}
    for name, tensor in tensors.items():
        new = re.sub(r"up_blocks\.(\d)", lambda m: f"up.{levels - 1 - int(m[1])}", name)
        new = re.sub(r"down_blocks\.(\d)", r"down.\1", new)
        new = re.sub(r"(up|down)\.(\d)\.resnets\.(\d)", r"\1.\2.block.\3", new)
        new = re.sub(r"(up|down)samplers\.0\.conv", r"\1sample.conv", new)
        new = re.sub(
            r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new
        )
        new = new.replace("mid_block.attentions.0.group_norm", "mid.attn_1.norm")
        attention = re.sub(r"mid_block\.attentions\.0\.to_(out\.0|\w)", _attention, new)
        if attention != new and attention.endswith("weight"):
            tensor = tensor[:, :, None, None]
        new = attention.replace("conv_norm_out", "norm_out")
        found[new.replace("conv_shortcut", "nin_shortcut")] = tensor
    return found


def _attention(match: re.Match[str]) -> str:
    return "mid.attn_1." + ("proj_out" if match[1] == "out.0" else match[1])


def clip_names(tensors: Tensors) -> Tensors:
    """Text encoder as transformers named it before its version 5.6."""
    return {
        name if name.startswith("text_") else f"text_model.{name}": tensor
        for name, tensor in tensors.items()
    }


def open_clip(tensors: Tensors) -> Tensors:
    """Text encoder as open_clip names it: q, k and v in one, the projection turned."""
    tensors = clip_names(tensors)
    found: Tensors = {
        "token_embedding.weight": tensors[
            "text_model.embeddings.token_embedding.weight"
        ],
        "positional_embedding": tensors[
            "text_model.embeddings.position_embedding.weight"
        ],
        "ln_final.weight": tensors["text_model.final_layer_norm.weight"],
        "ln_final.bias": tensors["text_model.final_layer_norm.bias"],
        "text_projection": tensors["text_projection.weight"].T.contiguous(),
        "logit_scale": torch.tensor(4.6),
    }
    layers = 1 + max(int(n.split(".")[3]) for n in tensors if ".layers." in n)
    for layer in range(layers):
        old, new = (
            f"text_model.encoder.layers.{layer}",
            f"transformer.resblocks.{layer}",
        )
        for kind in ("weight", "bias"):
            fused = [tensors[f"{old}.self_attn.{n}_proj.{kind}"] for n in "qkv"]
            found[f"{new}.attn.in_proj_{kind}"] = torch.cat(fused)
            for leaf, theirs in _OPEN_CLIP.items():
                found[f"{new}.{theirs}.{kind}"] = tensors[f"{old}.{leaf}.{kind}"]
    return found


_BFL_OUTSIDE = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "proj_out": "final_layer.linear",
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
}
# Side -> norm of its modulation, q, k, v, out, norms of q and k, MLP.
_BFL_SIDES = {
    "img": ("norm1", ("to_q", "to_k", "to_v"), "to_out.0", ("norm_q", "norm_k"), "ff"),
    "txt": (
        "norm1_context",
        ("add_q_proj", "add_k_proj", "add_v_proj"),
        "to_add_out",
        ("norm_added_q", "norm_added_k"),
        "ff_context",
    ),
}


def bfl(tensors: Tensors) -> Tensors:
    """FLUX.1's transformer as Black Forest Labs named it."""
    left = dict(tensors)
    found: Tensors = {}
    for kind in ("weight", "bias"):
        for ours, theirs in _BFL_OUTSIDE.items():
            if f"{ours}.{kind}" in left:
                found[f"{theirs}.{kind}"] = left.pop(f"{ours}.{kind}")
        # diffusers wants the scale first, the original the shift.
        scale, shift = left.pop(f"norm_out.linear.{kind}").chunk(2)
        found[f"final_layer.adaLN_modulation.1.{kind}"] = torch.cat([shift, scale])
    for block in sorted(
        {n.split(".")[1] for n in left if n.startswith("transformer_")}
    ):
        found |= _double_block(left, f"transformer_blocks.{block}", block)
    for block in sorted({n.split(".")[1] for n in left if n.startswith("single_")}):
        found |= _single_block(left, f"single_transformer_blocks.{block}", block)
    assert not left, sorted(left)
    return found


def _double_block(left: Tensors, old: str, block: str) -> Tensors:
    found: Tensors = {}
    for side, (modulation, qkv, out, norms, mlp) in _BFL_SIDES.items():
        new = f"double_blocks.{block}.{side}"
        for name, norm in zip(("query_norm", "key_norm"), norms, strict=True):
            found[f"{new}_attn.norm.{name}.scale"] = left.pop(
                f"{old}.attn.{norm}.weight"
            )
        for kind in ("weight", "bias"):
            fused = [left.pop(f"{old}.attn.{leaf}.{kind}") for leaf in qkv]
            found[f"{new}_attn.qkv.{kind}"] = torch.cat(fused)
            found[f"{new}_attn.proj.{kind}"] = left.pop(f"{old}.attn.{out}.{kind}")
            found[f"{new}_mod.lin.{kind}"] = left.pop(
                f"{old}.{modulation}.linear.{kind}"
            )
            found[f"{new}_mlp.0.{kind}"] = left.pop(f"{old}.{mlp}.net.0.proj.{kind}")
            found[f"{new}_mlp.2.{kind}"] = left.pop(f"{old}.{mlp}.net.2.{kind}")
    return found


def _single_block(left: Tensors, old: str, block: str) -> Tensors:
    new = f"single_blocks.{block}"
    found = {
        f"{new}.norm.{name}_norm.scale": left.pop(f"{old}.attn.norm_{name[0]}.weight")
        for name in ("query", "key")
    }
    for kind in ("weight", "bias"):
        fused = [left.pop(f"{old}.attn.to_{leaf}.{kind}") for leaf in "qkv"]
        fused.append(left.pop(f"{old}.proj_mlp.{kind}"))
        found[f"{new}.linear1.{kind}"] = torch.cat(fused)
        found[f"{new}.linear2.{kind}"] = left.pop(f"{old}.proj_out.{kind}")
        found[f"{new}.modulation.lin.{kind}"] = left.pop(f"{old}.norm.linear.{kind}")
    return found


SDXL: dict[str, tuple[str, Callable[[Tensors], Tensors]]] = {
    "unet": ("model.diffusion_model.", ldm_unet),
    "vae": ("first_stage_model.", ldm_vae),
    "text_encoder": ("conditioner.embedders.0.transformer.", clip_names),
    "text_encoder_2": ("conditioner.embedders.1.model.", open_clip),
}
SD15: dict[str, tuple[str, Callable[[Tensors], Tensors]]] = {
    "unet": ("model.diffusion_model.", ldm_unet),
    "vae": ("first_stage_model.", ldm_vae),
    "text_encoder": ("cond_stage_model.transformer.", clip_names),
}


def write_single_file(
    folder: Path,
    path: Path,
    parts: dict[str, tuple[str, Callable[[Tensors], Tensors]]],
    **extra: Tensor,
) -> Path:
    """Write parts of a diffusers folder into one file in the original layout."""
    tensors: Tensors = dict(extra)
    for part, (prefix, convert) in parts.items():
        for name, tensor in convert(part_of(folder, part)).items():
            tensors[prefix + name] = tensor.contiguous()
    save_file(tensors, path)
    return path


def known_from(folder: Path, target: Path, family: str) -> Path:
    """Settings of a diffusers folder as the package keeps those of real models."""
    place = target / family
    place.mkdir(parents=True)
    for config in folder.glob("*/*config.json"):
        if config.name in ("config.json", "scheduler_config.json"):
            settings: Any = json.loads(config.read_text())
            (place / f"{config.parent.name}.json").write_text(json.dumps(settings))
    return target
