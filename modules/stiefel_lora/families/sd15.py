"""Stable Diffusion 1.5 and 1.4: a CLIP text encoder, a VAE and a U-Net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor

from ..checkpoints.facts import FamilyFacts, InFiles
from ..checkpoints.header import Header
from ..checkpoints.layouts import CLIP
from ..checkpoints.source import ModelSource
from ..checkpoints.tokens import Caption
from .protocol import Batch, SampleRequest
from .sd15_record import RECORD
from .unet import UNET_FILES, UNetFamily, unet_fits, v_prediction_marks

__all__ = ["Sd15"]

_TEXT_MODELS = {"text_encoder": transformers.CLIPTextModel}
_TOKENIZERS = {"tokenizer": transformers.CLIPTokenizer}
_PREFIXES = ("cond_stage_model.transformer.",)


def _is_file(header: Header) -> bool:
    return any(
        header.any(f"{prefix}{name}") and not header.any(f"{prefix}{other}")
        for prefix in ("model.diffusion_model.", "")
        for name, other in (
            ("input_blocks.", "label_emb."),
            ("down_blocks.", "add_embedding."),
        )
    )


class Sd15(UNetFamily):
    """Stable Diffusion 1.5 and 1.4."""

    name = RECORD.name
    facts = FamilyFacts(
        record=RECORD,
        pipeline=r"StableDiffusion(Img2Img|Inpaint)?Pipeline$",
        parts=("unet", "vae", *_TEXT_MODELS, *_TOKENIZERS, "scheduler"),
        has_betas=True,
        settings=("text_encoder_layer_skip", "max_token_length"),
        files={
            **UNET_FILES,
            "text_encoder": InFiles(transformers.CLIPTextModel, _PREFIXES, CLIP),
        },
        is_file=_is_file,
        scheduler=v_prediction_marks,
        tokenizers=_TOKENIZERS,
        fits=unet_fits(*_TEXT_MODELS),
        clip_padding={"tokenizer": "<|endoftext|>"},
    )
    last_state = -1
    text_models = _TEXT_MODELS
    tokenizers = _TOKENIZERS
    pipeline = diffusers.StableDiffusionPipeline

    def __init__(
        self,
        source: ModelSource,
        weight_dtype: torch.dtype,
        device: torch.device,
        **settings: int,
    ) -> None:
        super().__init__(source, weight_dtype, device, **settings)
        self._nothing: dict[str, Tensor] | None = None

    def _encode_text(self, part: str, captions: Sequence[Caption]) -> Batch:
        """Return ``embeds`` ``(batch, 77, 768)``: normalized hidden states.

        They are those of the last layer, or of an earlier one if layers are skipped.
        """
        states, _ = self._clip_output(part, captions)
        if self._skips[part]:
            # The final normalization follows for earlier layers, too, as in sd-scripts,
            # OneTrainer and A1111.
            encoder = self._encoder(part)
            states = getattr(encoder, "text_model", encoder).final_layer_norm(states)
        return {"embeds": states}

    def _pipeline(self, **parts: Any) -> Any:
        none: dict[str, Any] = {"safety_checker": None, "feature_extractor": None}
        return super()._pipeline(**none, requires_safety_checker=False, **parts)

    def _prompts(self, request: SampleRequest) -> dict[str, Any]:
        prompts = {"prompt_embeds": self._as_batch(request.positive["embeds"])}
        if request.guidance > 1:
            negative = request.negative or self._empty_prompt()
            prompts["negative_prompt_embeds"] = self._as_batch(negative["embeds"])
        return prompts

    def _empty_prompt(self) -> dict[str, Tensor]:
        """Return the encoded empty prompt, cached unless the encoder is trained."""
        if self._nothing is None or self.trained_text:
            self._nothing = self.encode_caption("")
            self._release_text()
        return self._nothing
