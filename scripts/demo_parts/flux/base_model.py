"""The trained parts together, called as FluxPipeline calls them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from demo_parts.flux import networks

SIDE = 8
EMBEDDING_STD = 0.05


@dataclass(frozen=True)
class Tokenizers:
    """CLIP's for the pooled caption, T5's for the words."""

    first: CLIPTokenizer
    second: T5Tokenizer


class FluxBase(nn.Module):
    """Transformer and text encoders; the transformer is trained on encoded captions."""

    transformer: FluxTransformer2DModel
    text_encoder: CLIPTextModel
    text_encoder_2: T5EncoderModel

    def __init__(
        self, text_encoder: CLIPTextModel, tokenizers: Tokenizers, seed: int
    ) -> None:
        """Take the CLIP encoder; the other weights are drawn from `seed`."""
        super().__init__()
        torch.manual_seed(seed)
        self.transformer = networks.build_transformer()
        self.text_encoder = text_encoder
        self.text_encoder_2 = networks.build_t5(tokenizers.second)
        # T5's own are 20 times as large, and would take as many more steps to turn.
        nn.init.normal_(self.text_encoder_2.shared.weight, std=EMBEDDING_STD)

    @torch.no_grad()
    def pooled(self, ids: Tensor) -> Tensor:
        """Pooled captions (batch, 128) of CLIP ids (batch, length)."""
        return self.text_encoder(ids).pooler_output

    @torch.no_grad()
    def states(self, ids: Tensor) -> Tensor:
        """Words (batch, length, 128) of T5 ids; padding counts, as in the pipeline."""
        return self.text_encoder_2(ids)[0]


def predict(
    transformer: Any,
    noisy: Tensor,
    sigmas: Tensor,
    words: Tensor,
    pooled: Tensor,
    guidance: Tensor,
) -> Tensor:
    """The velocity, noise minus image.

    Args:
        transformer: the network, compiled or not.
        noisy: packed latents (batch, 64, 16) with noise mixed in.
        sigmas: share of noise (batch,), 0 to 1.
        words: (batch, length, 128).
        pooled: (batch, 128).
        guidance: guidance scale (batch,).
    """
    return transformer(
        noisy,
        words,
        pooled,
        sigmas,
        image_ids(),
        torch.zeros(words.shape[1], 3),
        guidance,
        return_dict=False,
    )[0]


def image_ids() -> Tensor:
    """Row and column of each token, (64, 3)."""
    prepare = FluxPipeline._prepare_latent_image_ids
    return prepare(1, SIDE, SIDE, torch.device("cpu"), torch.float32)


def pack(latents: Tensor) -> Tensor:
    """Latents (image, 4, 16, 16) as tokens (image, 64, 16)."""
    return FluxPipeline._pack_latents(latents, *latents.shape)


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """FLUX.1-dev's settings: the shift follows from the number of tokens."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )
