"""Display names of kohya LoRA layers."""

from __future__ import annotations

import re

__all__ = ["shown_name"]

_PREFIX = re.compile(r"^lora_(unet_)?")
# Text encoders and middle blocks first, because their layer numbers come later.
_SECTION = re.compile(
    r"^(te\d?|middle_block|mid_block|(?:[a-z0-9]+_)*?(?:blocks|layers)(?=_\d))"
    r"_(?:(\d+)_)?"
)


def shown_name(name: str) -> str:
    """Separate the section of the model by dots, as expected by ``tag_of``.

    >>> shown_name("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q")
    'input_blocks.4.1_transformer_blocks_0_attn1_to_q'
    >>> shown_name("lora_te1_text_model_encoder_layers_0_mlp_fc1")
    'te1.text_model_encoder_layers_0_mlp_fc1'
    """
    rest = _PREFIX.sub("", name)
    found = _SECTION.match(rest)
    if found is None:
        return rest
    section = ".".join(part for part in found.groups() if part)
    return f"{section}.{rest[found.end() :]}"
