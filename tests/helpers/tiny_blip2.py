"""A BLIP-2 model of a few kilobytes, made without a network."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    OPTConfig,
    PreTrainedTokenizerFast,
    T5Config,
)

__all__ = ["make_blip2"]

_QUERIES = 4
_SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
_IMAGE = "<image>"
# A language model with other random weights may end its text at once.
_SEEDS = {"opt": 0, "t5": 3}


def make_blip2(folder: Path, text: str) -> Path:
    """Write a BLIP-2 model with random weights, the same at every call.

    Args:
        folder: folder to write.
        text: language model, ``opt`` or ``t5``.
    """
    words = [*_SPECIAL, *(f"word{number}" for number in range(26)), _IMAGE]
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    inner = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    language = {
        "opt": OPTConfig(
            **inner,
            **tokens,
            ffn_dim=32,
            word_embed_proj_dim=16,
            vocab_size=len(words),
            max_position_embeddings=128,
        ),
        "t5": T5Config(
            d_model=16,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_heads=2,
            vocab_size=len(words),
            decoder_start_token_id=0,
            **tokens,
        ),
    }[text]
    config = Blip2Config(
        vision_config={
            **inner,
            "intermediate_size": 32,
            "image_size": 32,
            "patch_size": 16,
        },
        qformer_config={
            **inner,
            "intermediate_size": 32,
            "vocab_size": len(words),
            "encoder_hidden_size": 16,
        },
        text_config=language.to_dict(),
        num_query_tokens=_QUERIES,
        image_token_index=words.index(_IMAGE),
    )
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(_SEEDS[text])
        model = Blip2ForConditionalGeneration(config)
        # Small random weights would give the same text for every image.
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    inside = Tokenizer(
        models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="<unk>")
    )
    inside.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inside,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=[_IMAGE],
    )
    images = BlipImageProcessor(size={"height": 32, "width": 32})
    Blip2Processor(images, tokenizer, num_query_tokens=_QUERIES).save_pretrained(folder)
    return folder
