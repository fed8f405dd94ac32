"""List the LoRA key stems that ComfyUI accepts for SDXL, as a test reference.

    python scripts/make_comfyui_names.py PATH_TO_COMFYUI_CHECKOUT

Runs the mapping functions of that checkout on the module names of a full-size SDXL
(meta device, no weights) and writes tests/files/comfyui_sdxl_names.json.gz. Of ComfyUI
only the modules that hold the mapping are imported. What these import for other
purposes is replaced by stand-ins, so that its requirements need not be installed.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import importlib.abc
import importlib.machinery
import json
import subprocess
import sys
import types
from collections.abc import Iterable, MutableSequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

TARGET = Path(__file__).parents[1] / "tests" / "files" / "comfyui_sdxl_names.json.gz"
REAL = {"comfy", "comfy.lora", "comfy.utils", "comfy.model_detection"}
FILES = ("comfy/lora.py", "comfy/utils.py", "comfy/model_detection.py")


def sdxl_unet() -> UNet2DConditionModel:
    """UNet of SDXL base 1.0 at full size on the meta device."""
    with torch.device("meta"):
        return UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            layers_per_block=2,
            down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * 2),
            up_block_types=(*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"),
            transformer_layers_per_block=[1, 2, 10],
            attention_head_dim=[5, 10, 20],
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )


def sdxl_text_encoders() -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """CLIP ViT-L and OpenCLIP bigG text encoders at full size on the meta device."""
    small = CLIPTextConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        projection_dim=768,
    )
    large = CLIPTextConfig(
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_attention_heads=20,
        projection_dim=1280,
        hidden_act="gelu",
    )
    with torch.device("meta"):
        return CLIPTextModel(small), CLIPTextModelWithProjection(large)


class _StandIn(type):
    """A class whose every attribute is another such class: good for isinstance."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _StandIn(name, (), {})


class _StandInModule(types.ModuleType):
    __path__: MutableSequence[str] = []  # noqa: RUF012  (a package, so that submodules resolve)

    def __getattr__(self, name: str) -> Any:
        return getattr(_StandIn(self.__name__, (), {}), name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers for all of ComfyUI that holds no mapping, and for einops."""

    def find_spec(
        self, fullname: str, path: object, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        top = fullname.partition(".")[0]
        if fullname in REAL or not (top.startswith("comfy") or top == "einops"):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _StandInModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def accepted_names(checkout: Path) -> list[str]:
    """All key stems of ComfyUI's two LoRA maps for SDXL, sorted."""
    sys.path.insert(0, str(checkout))
    sys.meta_path.insert(0, _Finder())
    lora, utils, detection = (
        importlib.import_module(f"comfy.{name}")
        for name in ("lora", "utils", "model_detection")
    )
    weights = sdxl_unet().state_dict()
    config = detection.unet_config_from_diffusers_unet(weights)
    to_sgm = utils.unet_to_diffusers(config)
    unet = _model((f"diffusion_model.{to_sgm[key]}" for key in weights), config)
    names = dict(lora.model_lora_keys_unet(unet, {}))
    keys = [
        f"{encoder}.transformer.{_with_text_model(key)}"
        for encoder, model in zip(
            ("clip_l", "clip_g"), sdxl_text_encoders(), strict=True
        )
        for key in model.state_dict()
    ]
    names.update(lora.model_lora_keys_clip(_model(keys, None), {}))
    return sorted(names)


def _model(keys: Iterable[str], config: object) -> types.SimpleNamespace:
    empty: dict[str, Tensor] = dict.fromkeys(keys, torch.empty(0))
    return types.SimpleNamespace(
        state_dict=lambda: empty,
        model_config=types.SimpleNamespace(unet_config=config),
    )


def _with_text_model(key: str) -> str:
    # transformers 5 dropped this level of CLIPTextModel; checkpoints have it.
    outside = key.startswith(("text_model.", "text_projection."))
    return key if outside else f"text_model.{key}"


def _source(checkout: Path) -> dict[str, str]:
    """Commit and date of the checkout, and of each file that was run."""

    def log(*path: str) -> str:
        command = ["git", "-C", str(checkout), "log", "-1", "--format=%H %cs", "--"]
        return subprocess.check_output([*command, *path], text=True).strip()

    return {"checkout": log(), **{path: log(path) for path in FILES}}


def main() -> None:
    """Write the list beside the test that reads it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkout", type=Path, help="folder with a ComfyUI git clone")
    checkout = parser.parse_args().checkout.resolve()
    names = accepted_names(checkout)
    content = {"comfyui": _source(checkout), "names": names}
    data = json.dumps(content, indent=0).encode()
    # Without a time stamp, the same checkout gives the same bytes.
    TARGET.write_bytes(gzip.compress(data, mtime=0))
    print(f"{len(names)} names -> {TARGET}")


if __name__ == "__main__":
    main()
