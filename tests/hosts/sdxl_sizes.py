"""How ComfyUI and Forge describe a UNet of SDXL; runs in every host's environment."""

from __future__ import annotations

from typing import Any

from host_folder import HostFolder

__all__ = ["sizes_of"]


def sizes_of(folder: HostFolder) -> dict[str, Any]:
    """Sizes of the UNet in a folder."""
    config = folder.config("unet")
    widths, layers = config["block_out_channels"], config["layers_per_block"]
    down = [int("CrossAttn" in kind) for kind in config["down_block_types"]]
    return {
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": widths[0],
        "channel_mult": [width // widths[0] for width in widths],
        "num_res_blocks": [layers] * len(widths),
        "transformer_depth": [depth for depth in down for _ in range(layers)],
        "transformer_depth_output": [d for d in down for _ in range(layers + 1)],
        "transformer_depth_middle": 1,
        "num_classes": "sequential",
        "num_head_channels": 8,
        "use_spatial_transformer": True,
        "context_dim": config["cross_attention_dim"],
        "use_linear_in_transformer": True,
        "adm_in_channels": config["projection_class_embeddings_input_dim"],
    }
