"""The trained parts together: text encoders and UNet, called as the pipeline does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from demo_parts import networks

STEPS = 1000
EMBEDDING_STD = 0.5


@dataclass(frozen=True)
class Tokenizers:
    """The two tokenizers; they differ in the token that fills short prompts."""

    first: CLIPTokenizer
    second: CLIPTokenizer


class BaseModel(nn.Module):
    """UNet and text encoders; the UNet is trained on what the encoders have learnt."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    text_encoder_2: CLIPTextModelWithProjection

    def __init__(self, tokenizers: Tokenizers, seed: int) -> None:
        """Build the networks with weights drawn from `seed`."""
        super().__init__()
        torch.manual_seed(seed)
        self.unet = networks.build_unet()
        self.text_encoder = networks.build_text_encoder(tokenizers.first)
        self.text_encoder_2 = networks.build_text_encoder_2(tokenizers.second)
        # The pipeline reads a hidden state that is not normalized. CLIP's tiny initial
        # embeddings would leave cross-attention almost blind for the first steps.
        for name, parameter in self.named_parameters():
            if "token_embedding" in name or "position_embedding" in name:
                nn.init.normal_(parameter, std=EMBEDDING_STD)

    @torch.no_grad()
    def encode(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Encode token ids (2, batch, length) as the pipeline does.

        Returns:
            Hidden states (batch, length, 224) and pooled captions (batch, 128).
        """
        first = self.text_encoder(ids[0], output_hidden_states=True)
        second = self.text_encoder_2(ids[1], output_hidden_states=True)
        states = [first.hidden_states[-2], second.hidden_states[-2]]
        return torch.cat(states, dim=-1), second.text_embeds

    def forward(
        self, noisy: Tensor, timesteps: Tensor, states: Tensor, pooled: Tensor
    ) -> Tensor:
        """Predict the velocity.

        Args:
            noisy: scaled latents (batch, 4, 16, 16) with noise added.
            timesteps: int64 (batch,), 0 to 999.
            states: hidden states of `encode`.
            pooled: pooled captions of `encode`.
        """
        size = torch.tensor(networks.TIME_IDS, dtype=noisy.dtype)
        added = {"text_embeds": pooled, "time_ids": size.expand(len(noisy), -1)}
        return self.unet(noisy, timesteps, states, added_cond_kwargs=added).sample


def build_scheduler() -> EulerDiscreteScheduler:
    """SDXL's noise schedule, and the velocity as what the network predicts.

    SDXL itself predicts the noise, and its finetunes on velocity are as usual. At high
    noise only the caption determines the image; the loss on noise weights such an error
    by the SNR, 0.005 at the last timestep, the loss on velocity fully.
    """
    return EulerDiscreteScheduler(
        num_train_timesteps=STEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="leading",
        steps_offset=1,
    )


def signal_and_noise(timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of image and noise at each timestep, shaped (batch, 1, 1, 1)."""
    alphas = _alphas_cumprod()[timesteps].view(-1, 1, 1, 1)
    return alphas.sqrt(), (1 - alphas).sqrt()


@lru_cache(maxsize=1)
def _alphas_cumprod() -> Tensor:
    return build_scheduler().alphas_cumprod
