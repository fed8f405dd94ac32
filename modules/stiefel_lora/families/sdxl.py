"""Stable Diffusion XL: two CLIP text encoders, a VAE and the trained U-Net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor

from ..checkpoints.facts import FamilyFacts, InFiles
from ..checkpoints.header import Header
from ..checkpoints.layouts import CLIP, OPEN_CLIP
from ..checkpoints.tokens import Caption
from ..data.framing import Frame
from .protocol import Batch, SampleRequest
from .sdxl_record import RECORD
from .unet import UNET_FILES, UNetFamily, unet_fits, v_prediction_marks

__all__ = ["Sdxl"]

_TEXT_MODELS = {
    "text_encoder": transformers.CLIPTextModel,
    "text_encoder_2": transformers.CLIPTextModelWithProjection,
}
_SECOND = "text_encoder_2"
_TOKENIZERS = {
    "tokenizer": transformers.CLIPTokenizer,
    "tokenizer_2": transformers.CLIPTokenizer,
}
_TEXT_FILES = {
    part: InFiles(_TEXT_MODELS[part], (f"conditioner.embedders.{prefix}.",), layouts)
    for part, prefix, layouts in (
        ("text_encoder", "0.transformer", CLIP),
        ("text_encoder_2", "1.model", OPEN_CLIP),
    )
}


def _is_file(header: Header) -> bool:
    return any(
        header.any(f"{prefix}{name}")
        for prefix in ("model.diffusion_model.", "")
        for name in ("label_emb.", "add_embedding.")
    )


class Sdxl(UNetFamily):
    """Stable Diffusion XL."""

    name = RECORD.name
    facts = FamilyFacts(
        record=RECORD,
        pipeline="StableDiffusionXL",
        parts=("unet", "vae", *_TEXT_MODELS, *_TOKENIZERS, "scheduler"),
        has_betas=True,
        settings=(*(f"{part}_layer_skip" for part in _TEXT_MODELS), "max_token_length"),
        files={**UNET_FILES, **_TEXT_FILES},
        is_file=_is_file,
        scheduler=v_prediction_marks,
        tokenizers=_TOKENIZERS,
        fits=unet_fits(*_TEXT_MODELS),
        clip_padding={"tokenizer": "<|endoftext|>", "tokenizer_2": "!"},
    )
    # sd-scripts, OneTrainer and the original code use the second to last layer.
    last_state = -2
    text_models = _TEXT_MODELS
    tokenizers = _TOKENIZERS
    pipeline = diffusers.StableDiffusionXLPipeline

    def _encode_text(self, part: str, captions: Sequence[Caption]) -> Batch:
        """Return penultimate hidden states, and pooled output of the second encoder.

        These are ``embeds`` ``(batch, 77, 768)`` for the first encoder, and ``embeds``
        ``(batch, 77, 1280)`` and ``pooled`` ``(batch, 1280)`` for the second one. With
        longer captions, 77 is 152 or 227.
        """
        states, output = self._clip_output(part, captions)
        encoded = {"embeds": states}
        if part == _SECOND:
            # That of the first chunk, which contains the beginning of the caption.
            encoded["pooled"] = output.text_embeds[:: self._chunks]
        return encoded

    def _joined(self, encoded: Mapping[str, Batch], known: Batch) -> Batch:
        """Return concatenated ``embeds`` of both encoders, ``(batch, 77, 2048)``."""
        pieces = [batch["embeds"] for batch in encoded.values()]
        if len(pieces) == 1:
            own, whole = pieces[0].shape[-1], known["embeds"]
            if _SECOND in encoded:
                pieces.insert(0, whole[..., :-own])
            else:
                pieces.append(whole[..., own:])
        joined = super()._joined(encoded, known)
        return joined | ({"embeds": torch.cat(pieces, dim=-1)} if pieces else {})

    def _about_frame(self, frame: Frame) -> dict[str, Tensor]:
        """Return ``time_ids`` ``(6,)`` in int64."""
        return {"time_ids": torch.tensor(frame.time_ids, dtype=torch.int64)}

    def _conditions(self, batch: Batch) -> dict[str, Any]:
        return {
            "added_cond_kwargs": {
                "text_embeds": batch["pooled"].to(self._dtype),
                "time_ids": batch["time_ids"].to(self._dtype),
            }
        }

    def _prompts(self, request: SampleRequest) -> dict[str, Any]:
        prompts = {
            "prompt_embeds": self._as_batch(request.positive["embeds"]),
            "pooled_prompt_embeds": self._as_batch(request.positive["pooled"]),
        }
        if request.guidance <= 1:
            return prompts
        # Without a negative prompt, SDXL uses zeros instead of the encoded empty text.
        negative = request.negative or {
            name: torch.zeros_like(value) for name, value in request.positive.items()
        }
        return {
            **prompts,
            "negative_prompt_embeds": self._as_batch(negative["embeds"]),
            "negative_pooled_prompt_embeds": self._as_batch(negative["pooled"]),
        }
