"""Make a tiny random FLUX that sd-scripts can train; runs in its environment,
with tests/ in PYTHONPATH.

    python sd_scripts_flux_model.py SD_SCRIPTS_ROOT FOLDER

The host takes the number of blocks from the file. The width, 3,072 in the host, is two
heads of the size that its position encoding needs; of its text encoders the depths and
inner sizes are cut, their output widths stay.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from pathlib import Path

import loadable_torchvision  # noqa: F401
import torch
from safetensors.torch import save_file

from helpers.byte_tokenizer import byte_tokenizer
from helpers.letter_tokenizer import letter_tokenizer

HEADS = 2
DOUBLE, SINGLE = 1, 2
CLIP, T5 = "openai_clip-vit-large-patch14", "google_t5-v1_1-xxl"
CLIP_TOKENS, T5_TOKENS = 514, 98
CLIP_SIZES = {"num_hidden_layers": 1, "intermediate_size": 64}
T5_SIZES = {"num_layers": 1, "num_heads": 1, "d_ff": 64}


def narrow_flux() -> None:
    """Let the host build its models as narrow."""
    from library import flux_models, flux_utils

    spec = flux_models.configs["dev"]
    width = HEADS * sum(spec.params.axes_dim)
    spec.params = dataclasses.replace(spec.params, num_heads=HEADS, hidden_size=width)
    spec.ae_params = dataclasses.replace(spec.ae_params, ch=32, num_res_blocks=1)
    clip, t5 = flux_utils.CLIPConfig, flux_utils.T5Config
    flux_utils.CLIPConfig = _smaller(clip, vocab_size=CLIP_TOKENS, **CLIP_SIZES)
    flux_utils.T5Config = _smaller(t5, vocab_size=T5_TOKENS, **T5_SIZES)


def _smaller(config: type, **sizes: int) -> object:
    @functools.wraps(config, updated=())
    def make(**settings: object) -> object:
        return config(**{**settings, **sizes})

    return make


def main(folder: Path) -> None:
    """Write the four files that the host loads, and the tokenizers."""
    from library import flux_models
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    torch.manual_seed(0)
    byte_tokenizer(folder / "tokenizers" / CLIP).save_pretrained(
        folder / "tokenizers" / CLIP
    )
    letter_tokenizer(folder / "tokenizers" / T5)
    narrow_flux()
    spec = flux_models.configs["dev"]
    sizes = {"depth": DOUBLE, "depth_single_blocks": SINGLE}
    models = {
        "flux": flux_models.Flux(dataclasses.replace(spec.params, **sizes)),
        "ae": flux_models.AutoEncoder(spec.ae_params),
        "clip_l": CLIPTextModel(
            CLIPTextConfig(
                vocab_size=CLIP_TOKENS,
                hidden_size=768,
                num_attention_heads=12,
                **CLIP_SIZES,
            )
        ),
        "t5xxl": T5EncoderModel(
            T5Config(
                vocab_size=T5_TOKENS,
                d_model=4096,
                feed_forward_proj="gated-gelu",
                **T5_SIZES,
            )
        ),
    }
    for name, model in models.items():
        weights = {key: w.clone() for key, w in model.state_dict().items()}
        save_file(weights, folder / f"{name}.safetensors")


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    main(Path(sys.argv[2]))
