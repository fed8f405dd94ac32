"""The UNet and the two text encoders: SDXL's structure at a small size."""

from __future__ import annotations

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

HIDDEN = (96, 128)
POOLED = 128
TIME_ID_DIM = 32
TIME_IDS = (64, 64, 0, 0, 64, 64)


def build_unet() -> UNet2DConditionModel:
    """SDXL's blocks with 1 and 2 transformer layers: 170 attention and ff linears.

    In diffusers' config `attention_head_dim` is the number of heads a block.
    """
    return UNet2DConditionModel(
        sample_size=16,
        down_block_types=(
            "DownBlock2D",
            "CrossAttnDownBlock2D",
            "CrossAttnDownBlock2D",
        ),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(48, 96, 128),
        layers_per_block=2,
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(2, 3, 4),
        cross_attention_dim=sum(HIDDEN),
        norm_num_groups=8,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_ID_DIM,
        projection_class_embeddings_input_dim=POOLED + len(TIME_IDS) * TIME_ID_DIM,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The first text encoder; the pipeline reads its last but one hidden state."""
    return CLIPTextModel(_text_config(tokenizer, HIDDEN[0], layers=2, heads=3))


def build_text_encoder_2(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """The second text encoder, which also gives the pooled caption."""
    config = _text_config(tokenizer, HIDDEN[1], layers=2, heads=4)
    return CLIPTextModelWithProjection(config)


def _text_config(
    tokenizer: CLIPTokenizer, hidden: int, layers: int, heads: int
) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        projection_dim=POOLED,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=tokenizer.model_max_length,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
