"""The tiny FLUX.1 of a folder, with the sizes that hosts ask for."""

from __future__ import annotations

from typing import Any

from host_folder import HostFolder

__all__ = ["FluxFolder"]


class FluxFolder(HostFolder):
    """Inputs are latents, context, pooled, timestep and guidance."""

    def sizes(self) -> dict[str, Any]:
        """Of the transformer, under the names of the original implementation."""
        config = self.config("transformer")
        heads = config["num_attention_heads"]
        return {
            "vec_in_dim": config["pooled_projection_dim"],
            "context_in_dim": config["joint_attention_dim"],
            "hidden_size": heads * config["attention_head_dim"],
            "mlp_ratio": 4.0,
            "num_heads": heads,
            "depth": config["num_layers"],
            "depth_single_blocks": config["num_single_layers"],
            "axes_dim": config["axes_dims_rope"],
            "theta": 10000,
            "qkv_bias": True,
            "guidance_embed": config["guidance_embeds"],
        }

    def latent_channels(self) -> int:
        """Before 2 x 2 latents become a token."""
        return self.config("transformer")["in_channels"] // 4

    def encoder_configs(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """CLIP's and T5's config.json."""
        return self.config("text_encoder"), self.config("text_encoder_2")
