"""List the LoRA key stems that ComfyUI and Forge accept, and the weights they change.

    COMFYUI/.venv/bin/python scripts/make_loader_names.py comfyui COMFYUI
    FORGE/.venv/bin/python scripts/make_loader_names.py forge FORGE

with PYTHONPATH=tests/hosts where torchvision does not fit torch. Runs the mapping
functions of a checkout, in its environment, for SDXL, SD 1.5 and FLUX.1 at full size
(names alone, no weights) and puts the result into
modules/stiefel_lora/files/tools/loader_names.json.gz, with commit and date.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import json
import subprocess
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

TARGET = (
    Path(__file__).parents[1] / "modules/stiefel_lora/files/tools/loader_names.json.gz"
)
HIDDEN = 3072
SIZES: dict[str, dict[str, Any]] = {
    "sdxl": {
        "model_channels": 320,
        "channel_mult": [1, 2, 4],
        "num_res_blocks": [2, 2, 2],
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "transformer_depth_middle": 10,
        "num_classes": "sequential",
    },
    "sd15": {
        "model_channels": 320,
        "channel_mult": [1, 2, 4, 4],
        "num_res_blocks": [2, 2, 2, 2],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
    },
    "flux": {"depth": 19, "depth_single_blocks": 38, "hidden_size": HIDDEN},
}
CLIP = {"clip_l": 12, "clip_g": 32}
T5_LAYERS = 24
T5 = (
    *(f"layer.0.SelfAttention.{leaf}" for leaf in "qkvo"),
    *(f"layer.1.DenseReluDense.{leaf}" for leaf in ("wi_0", "wi_1", "wo")),
)
ENCODERS = {
    "sdxl": ("clip_l", "clip_g"),
    "sd15": ("clip_l",),
    "flux": ("clip_l", "t5xxl"),
}


def encoder_keys(names: Iterable[str]) -> Iterator[str]:
    """Weights of text encoders as both programs name them."""
    for name in names:
        if name == "t5xxl":
            for layer in range(T5_LAYERS):
                for leaf in T5:
                    yield f"t5xxl.transformer.encoder.block.{layer}.{leaf}.weight"
            continue
        for layer in range(CLIP[name]):
            root = f"{name}.transformer.text_model.encoder.layers.{layer}"
            for leaf in ("q_proj", "k_proj", "v_proj", "out_proj"):
                yield f"{root}.self_attn.{leaf}.weight"
            yield from (f"{root}.mlp.{leaf}.weight" for leaf in ("fc1", "fc2"))
        yield f"{name}.transformer.text_projection.weight"


def model(keys: Iterable[str], base: type, **attributes: object) -> Any:
    """An object of a class of models that has names of weights alone."""
    names = dict.fromkeys(keys)
    made: Any = type("Named", (base,), {"state_dict": lambda self: names})
    found = made.__new__(made)
    for name, value in attributes.items():
        object.__setattr__(found, name, value)
    return found


def weights_of(table: dict[str, Any]) -> set[str]:
    """Weights that diffusers' names lead to."""
    targets = (to if isinstance(to, str) else to[0] for to in table.values())
    return {
        to if to.startswith("diffusion_model.") else f"diffusion_model.{to}"
        for to in targets
    }


def comfyui(family: str) -> dict[str, Any]:
    """Stem -> weight in ComfyUI."""
    lora, model_base, utils = (
        importlib.import_module(f"comfy.{name}")
        for name in ("lora", "model_base", "utils")
    )
    sizes = SIZES[family]
    if family == "flux":
        table = utils.flux_to_diffusers(sizes, output_prefix="diffusion_model.")
        base = model_base.Flux
    else:
        table, base = utils.unet_to_diffusers(sizes), model_base.BaseModel
    config = types.SimpleNamespace(unet_config=sizes)
    unet = model(weights_of(table), base, model_config=config)
    encoders = model(encoder_keys(ENCODERS[family]), object)
    names = dict(lora.model_lora_keys_unet(unet, {}))
    return names | lora.model_lora_keys_clip(encoders, {})


def forge(family: str) -> dict[str, Any]:
    """Stem -> weight in Forge."""
    lora = importlib.import_module("backend.patcher.lora")
    utils = importlib.import_module("packages_3rdparty.comfyui_lora_collection.utils")
    sizes = SIZES[family]
    if family == "flux":
        table = utils.flux_to_diffusers(sizes, output_prefix="diffusion_model.")
    else:
        table = utils.unet_to_diffusers(sizes)
    unet = model(
        weights_of(table),
        object,
        diffusion_model=types.SimpleNamespace(config=sizes),
        config=types.SimpleNamespace(huggingface_repo=family),
    )
    encoders = model(encoder_keys(ENCODERS[family]), object)
    names = dict(lora.model_lora_keys_unet(unet, {}))
    return names | lora.model_lora_keys_clip(encoders, {})


def plain(target: Any) -> list[Any]:
    """Weight, first row and rows in units of the hidden size, halves swapped."""
    if isinstance(target, str):
        return [target.removesuffix(".weight")]
    name, rows, *change = target
    name = name.removesuffix(".weight")
    if rows is None:
        return [name, 0, 0, bool(change)]
    assert rows[0] == 0, target
    assert rows[1] % HIDDEN == rows[2] % HIDDEN == 0, target
    return [name, rows[1] // HIDDEN, rows[2] // HIDDEN, bool(change)]


def main(program: str, checkout: str) -> None:
    """Put the names of one program into the list."""
    sys.path[:0] = [checkout, f"{checkout}/packages_3rdparty"]
    with contextlib.suppress(ImportError):
        importlib.import_module("loadable_torchvision")
    sys.argv = ["main.py", "--cpu" if program == "comfyui" else "--always-cpu"]
    if program == "comfyui":
        importlib.import_module("comfy.options").enable_args_parsing()
    read = {"comfyui": comfyui, "forge": forge}[program]
    command = ["git", "-C", checkout, "log", "-1", "--format=%H %cs"]
    commit, date = subprocess.check_output(command, text=True).split()
    names = {
        family: {
            stem: plain(target)
            for stem, target in sorted(read(family).items())
            if not stem.endswith(".bias")
        }
        for family in SIZES
    }
    found = {}
    if TARGET.exists():
        found = json.loads(gzip.decompress(TARGET.read_bytes()))
    found[program] = {"commit": commit, "date": date, "names": names}
    data = json.dumps(found, separators=(",", ":"), sort_keys=True).encode()
    # Without a time stamp, the same checkout gives the same bytes.
    TARGET.write_bytes(gzip.compress(data, mtime=0))
    print({family: len(own) for family, own in names.items()}, TARGET.stat().st_size)


if __name__ == "__main__":
    main(*sys.argv[1:])
