"""Weights and ranks of blocks of sd-scripts, by layer names of diffusers."""

from __future__ import annotations

import math
from typing import Any

from .key_rules import Result, Rule, Scope, left, turned

__all__ = ["BLOCK_ARGUMENTS", "trained_blocks"]

_LENGTHS = {"sd15": (12, 1), "sdxl": (9, 3)}
_KINDS = ("down_lr_weight", "mid_lr_weight", "up_lr_weight")
_ATTENTIONS = {
    # Positions in the lists for down, mid and up, and names of the layers.
    "sd15": {
        **{("down", 3 * i + j + 1): (i, j) for i in range(3) for j in range(2)},
        ("mid", 0): (None, 0),
        **{("up", 3 * i + j): (i, j) for i in range(1, 4) for j in range(3)},
    },
    "sdxl": {
        **{("down", 3 * i + j + 1): (i, j) for i in (1, 2) for j in range(2)},
        ("mid", 1): (None, 0),
        **{("up", 3 * i + j): (i, j) for i in range(2) for j in range(3)},
    },
}


def _pattern(side: str, place: tuple[int | None, int]) -> str:
    block, number = place
    if block is None:
        return "mid_block.attentions.0."
    return f"{side}_blocks.{block}.attentions.{number}."


def _weights(scope: Scope, side: str) -> list[float]:
    """Return the factors of one side, of which missing ones are 1."""
    number = _LENGTHS[scope.family][side == "mid"]
    value = scope.get(f"network_args.{side}_lr_weight")
    if value in (None, ""):
        return [1.0] * number
    if isinstance(value, str) and "," not in value and side != "mid":
        found = _curve(value, number)
    else:
        parts = value if isinstance(value, list) else str(value).split(",")
        found = [float(part or 0) for part in parts]
    least = float(scope.get("network_args.block_lr_zero_threshold", 0) or 0)
    found = [weight if weight > least else 0.0 for weight in found[:number]]
    return found + [1.0] * (number - len(found))


def _curve(text: str, number: int) -> list[float]:
    name, _, base = text.partition("+")
    steps = [place / (number - 1) for place in range(number)]
    curves = {
        "cosine": [math.sin(math.pi * step / 2) for step in reversed(steps)],
        "sine": [math.sin(math.pi * step / 2) for step in steps],
        "linear": steps,
        "reverse_linear": steps[::-1],
        "zeros": [0.0] * number,
    }
    return [weight + float(base or 0) for weight in curves[name]]


def _factors(scope: Scope) -> dict[str, float]:
    """Return the factor of each block with attention layers, by its name."""
    sides = {side: _weights(scope, side) for side in ("down", "mid", "up")}
    return {
        _pattern(side, place): sides[side][number]
        for (side, number), place in _ATTENTIONS[scope.family].items()
    }


def _rates(scope: Scope, value: Any) -> Result:
    if scope.family == "flux":
        return left("is only used for U-Nets", matters=False)
    if value in ("", None):
        return left("is not set", matters=False)
    factors = _factors(scope)
    if all(factor == 1 for factor in factors.values()):
        return left("all factors are 1", matters=False)
    if not any(factors.values()):
        return left("no layer is trained with these factors")
    convolutions = bool(scope.get("network_args.conv_dim"))
    note = "all three options by names of layers, as in docs/questions/coming-from.md"
    if convolutions:
        note += "; those of convolutions have no factor here"
    trained = {name: factor for name, factor in factors.items() if factor}
    sets = {"learning_rate_pattern": {n: f for n, f in trained.items() if f != 1}}
    return turned(note, sets, matters=convolutions)


def _ranks(scope: Scope, value: Any) -> Result:
    if scope.family == "flux":
        return left("is only used for U-Nets", matters=False)
    found = _by_block(scope, value)
    rank, alpha = int(scope.get("network_dim")), float(scope.get("network_alpha"))
    alphas = scope.get("network_args.block_alphas")
    own = _by_block(scope, alphas) if alphas else dict.fromkeys(found, alpha)
    kept = {name: number for name, number in found.items() if number}
    if not kept:
        return left("no layer is trained with these ranks")
    ratio = all(own[name] * rank == alpha * kept[name] for name in kept)
    note = "" if ratio else "the ratio of alpha and rank is the same in all layers here"
    ranks = {name: int(number) for name, number in kept.items() if number != rank}
    note = note or "by names of layers"
    return turned(note, {"rank_pattern": ranks}, matters=not ratio)


def trained_blocks(scope: Scope) -> list[str]:
    """Return the names of blocks with a LoRA, or nothing if these are all of them."""
    if scope.family not in _LENGTHS:
        return []
    try:
        found = _factors(scope)
        if dims := scope.get("network_args.block_dims"):
            ranks = _by_block(scope, dims)
            found = {name: found[name] * rank for name, rank in ranks.items()}
    except (AttributeError, LookupError, TypeError, ValueError):
        # The rule of the argument reports it.
        return []
    kept = [name for name, number in found.items() if number]
    return kept if len(kept) < len(found) else []


def _by_block(scope: Scope, value: Any) -> dict[str, float]:
    """Return the number of each block from a list of all of them."""
    parts = value if isinstance(value, list) else str(value).split(",")
    numbers = [float(part) for part in parts]
    outer, middle = _LENGTHS[scope.family]
    first = int(scope.family == "sdxl")
    if len(numbers) != 2 * (outer + first) + middle:
        raise ValueError
    starts = {"down": first, "mid": first + outer, "up": first + outer + middle}
    return {
        _pattern(side, place): numbers[starts[side] + number]
        for (side, number), place in _ATTENTIONS[scope.family].items()
    }


def _part_of(key: str) -> Rule:
    return lambda scope, value: left(f"is part of {key}", matters=False)


BLOCK_ARGUMENTS: dict[str, Rule] = {
    **dict.fromkeys(_KINDS, _rates),
    "block_dims": _ranks,
    "block_lr_zero_threshold": _part_of("down_lr_weight"),
}
"""Rules of ``network_args`` for blocks."""
