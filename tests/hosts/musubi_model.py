"""Make a tiny random Z-Image and cached pictures for musubi-tuner; runs in its
environment.

    python musubi_model.py FOLDER

The sizes of the transformer are constants of a module of the host. Its VAE and text
encoder are not needed: the host trains from files that hold what they give.
"""

from __future__ import annotations

import sys
from pathlib import Path

import loadable_torchvision  # noqa: F401
import torch
from musubi_tuner.dataset.architectures import ARCHITECTURE_Z_IMAGE
from musubi_tuner.dataset.cache_io import (
    save_latent_cache_z_image,
    save_text_encoder_output_cache_z_image,
)
from musubi_tuner.dataset.image_video_dataset import ItemInfo
from musubi_tuner.zimage import zimage_config, zimage_model
from safetensors.torch import save_file

CAPTION_WIDTH, TOKENS, PICTURES, SIDE = 64, 8, 3, 64
SIZES = {
    "DIM": 128,
    "N_LAYERS": 2,
    "N_REFINER_LAYERS": 1,
    "N_HEADS": 1,
    "N_KV_HEADS": 1,
    "CAP_FEAT_DIM": CAPTION_WIDTH,
}
DATASET = """\
[general]
resolution = [{side}, {side}]
caption_extension = ".txt"
batch_size = 1

[[datasets]]
image_directory = '{pictures}'
cache_directory = '{cache}'
"""


def narrow_z_image() -> None:
    """Let the host build its transformer as narrow."""
    for name, size in SIZES.items():
        setattr(zimage_config, f"DEFAULT_TRANSFORMER_{name}", size)


def main(folder: Path) -> None:
    """Write ``dit.safetensors``, ``dataset.toml`` and ``cache``."""
    torch.manual_seed(0)
    narrow_z_image()
    model = zimage_model.create_model("torch", False, torch.float32)
    weights = {name: _start(value) for name, value in model.state_dict().items()}
    save_file(weights, folder / "dit.safetensors")
    for number in range(PICTURES):
        _cache(folder / "cache", f"{number:02d}")
    text = DATASET.format(
        side=SIDE, pictures=folder / "pictures", cache=folder / "cache"
    )
    (folder / "dataset.toml").write_text(text, encoding="utf-8")


def _start(value: torch.Tensor) -> torch.Tensor:
    if value.dim() < 2:
        return torch.ones(value.shape)
    return torch.randn(value.shape) / value.shape[-1] ** 0.5


def _cache(folder: Path, name: str) -> None:
    item = ItemInfo(name, "thing", (SIDE, SIDE))
    stem = f"{folder}/{name}"
    item.latent_cache_path = (
        f"{stem}_{SIDE:04d}x{SIDE:04d}_{ARCHITECTURE_Z_IMAGE}.safetensors"
    )
    item.text_encoder_output_cache_path = (
        f"{stem}_{ARCHITECTURE_Z_IMAGE}_te.safetensors"
    )
    save_latent_cache_z_image(item, torch.randn(16, SIDE // 8, SIDE // 8))
    save_text_encoder_output_cache_z_image(item, torch.randn(TOKENS, CAPTION_WIDTH))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
