"""Teach the text encoders what captions look like, before the UNet sees them.

CLIP's encoders are trained on images before any UNet is. These learn the same in
small: from a caption, the principal components of its image at 16 x 16 pixels. The
UNet then reads captions whose codes are near each other where their images are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from demo_parts.base_model import BaseModel
from demo_parts.captions import draw_variants
from demo_parts.networks import HIDDEN, POOLED
from demo_parts.recipe import Recipe

COMPONENTS = 96
SIDE = 16
WARM_UP = 50
REPORT_EVERY = 100


def coordinates(pixels: np.ndarray) -> Tensor:
    """Principal components of uint8 (image, 64, 64, 3), as (image, COMPONENTS).

    The first has variance 1; the others keep the root of their share, so that small
    ones count too.
    """
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    small = nn.functional.adaptive_avg_pool2d(images, SIDE).flatten(1)
    left, sizes, _ = torch.linalg.svd(small - small.mean(0), full_matrices=False)
    shares = (sizes / sizes[0]).sqrt()
    return (left * len(left) ** 0.5 * shares)[:, :COMPONENTS]


def train_text(
    model: BaseModel, tokens: Tensor, targets: Tensor, recipe: Recipe
) -> float:
    """Train both encoders: what cross-attention reads at the end, and the pooled code.

    Args:
        model: its text encoders are trained in place.
        tokens: ids (2, image, 3, length), as in `captions.token_table`.
        targets: (image, COMPONENTS).
        recipe: settings.

    Returns:
        Share of the targets' variance that the pooled code explains, from whole
        captions, over the last 100 steps.
    """

    def codes(step: int, chosen: Tensor, variants: Tensor) -> list[Tensor]:
        return _codes(model, tokens[:, chosen, variants])

    encoders = (model.text_encoder, model.text_encoder_2)
    return fit_codes(encoders, codes, (*HIDDEN, POOLED), targets, recipe)


def fit_codes(
    encoders: Sequence[nn.Module],
    codes_of: Callable[[int, Tensor, Tensor], list[Tensor]],
    widths: Sequence[int],
    targets: Tensor,
    recipe: Recipe,
) -> float:
    """Train encoders until linear heads read the targets from their codes.

    Args:
        encoders: trained in place.
        codes_of: from the step, images (batch,) and caption variants (batch,) to one
            code (batch, width) a head.
        widths: of the codes.
        targets: (image, COMPONENTS).
        recipe: settings.

    Returns:
        Share of the targets' variance that the last code explains, from whole captions,
        over the last 100 steps.
    """
    torch.manual_seed(recipe.seed)
    heads = nn.ModuleList(nn.Linear(n, COMPONENTS) for n in widths)
    weights = [p for part in (*encoders, heads) for p in part.parameters()]
    optimizer = torch.optim.AdamW(weights, recipe.lr, betas=(0.9, 0.99), fused=True)
    started, explained = time.monotonic(), [0.0]
    for step in range(recipe.steps):
        chosen = torch.from_numpy(recipe.chosen(step, len(targets)))
        variants = draw_variants(recipe.random(step), recipe.batch)
        wanted = targets[chosen]
        codes = codes_of(step, chosen, variants)
        errors = [
            (head(code) - wanted).square().mean(-1)
            for head, code in zip(heads, codes, strict=True)
        ]
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step, WARM_UP)
        optimizer.zero_grad()
        torch.stack(errors).mean().backward()
        optimizer.step()
        whole = variants == 0
        error = errors[-1].detach()[whole].mean() / wanted[whole].square().mean()
        explained.append(1 - float(error))
        if (step + 1) % REPORT_EVERY == 0:
            seconds = (time.monotonic() - started) / (step + 1)
            share = float(np.mean(explained[-100:]))
            print(
                f"text {step + 1}/{recipe.steps} explained {share:.4f} "
                f"{seconds:.3f} s/step",
                flush=True,
            )
    return float(np.mean(explained[-100:]))


def _codes(model: BaseModel, ids: Tensor) -> list[Tensor]:
    """Hidden state at the end of each caption, both encoders, and the pooled code."""
    config: Any = model.text_encoder.config
    # Attention is causal: what comes after the end changes nothing before it.
    last = ids.eq(config.eos_token_id).int().argmax(-1)
    ids = ids[:, :, : int(last.max()) + 1]
    first = model.text_encoder(ids[0], output_hidden_states=True)
    second = model.text_encoder_2(ids[1], output_hidden_states=True)
    rows = torch.arange(ids.shape[1])
    return [
        first.hidden_states[-2][rows, last[0]],
        second.hidden_states[-2][rows, last[1]],
        second.text_embeds,
    ]
