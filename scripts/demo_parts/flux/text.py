"""Teach T5 what captions look like, as `demo_parts.text` teaches CLIP."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn.functional import pad
from transformers import T5EncoderModel

from demo_parts.flux.networks import TEXT
from demo_parts.recipe import Recipe
from demo_parts.text import fit_codes

END_ID, PAD_ID = 1, 0
SHORT = 12
# FluxPipeline pads to 512 by default, and nothing masks the padding.
LENGTHS = (SHORT, 32, 64, 128)
SHARES = (0.88, 0.06, 0.04, 0.02)


def train_t5(
    encoder: T5EncoderModel, tokens: Tensor, targets: Tensor, recipe: Recipe
) -> float:
    """Train on ids (image, 3, SHORT) and image coordinates (image, COMPONENTS).

    Returns:
        Share of the targets' variance that the end of a whole caption explains.
    """

    def codes(step: int, chosen: Tensor, variants: Tensor) -> list[Tensor]:
        length = _draw_length(recipe, step)
        ids = longer(tokens[chosen, variants], length)
        states = encoder(ids)[0]
        words = ids.ne(PAD_ID)[..., None]
        mean = (states * words).sum(1) / words.sum(1)
        return [mean, states[ids.eq(END_ID)]]

    return fit_codes([encoder], codes, (TEXT, TEXT), targets, recipe)


def longer(ids: Tensor, length: int) -> Tensor:
    """Pad ids (batch, SHORT) to (batch, length)."""
    return pad(ids, (0, length - ids.shape[-1]), value=PAD_ID)


def _draw_length(recipe: Recipe, step: int) -> int:
    rng = np.random.default_rng([recipe.seed, 2, step])
    return int(rng.choice(LENGTHS, p=SHARES))
