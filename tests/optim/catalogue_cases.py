"""Every method of the catalogue, with a rate at which it trains small things."""

from __future__ import annotations

import importlib.util

import pytest

from stiefel_lora import create_optimizer
from stiefel_lora.methods import CATALOGUE
from stiefel_lora.testing import Case

__all__ = [
    "NAMES",
    "OWN_PRECISION",
    "RATES",
    "case",
    "entry",
    "every_method",
    "make",
    "options",
    "parametrized",
]

# Steps of a method that share nothing with its other ones are cases of their own.
VARIANTS = {"stiefel_lora_factors": ("stiefel_lora", {"step": "factors"})}
NAMES = [*CATALOGUE, *VARIANTS]
RATES = {
    "stiefel_lora": 5e-2,
    "stiefel_lora_factors": 5e-2,
    "stella": 2e-2,
    "lora_rite": 2e-2,
    "riemannion": 5e-2,
    "lora_muon": 5e-2,
    "lora_tsd": 5e-2,
    "polora": 1.3,
    "whitened_lora": 2e-2,
    "adamw": 2e-2,
    "lora_plus": 5e-3,
    "scaled_adamw": 1e-2,
    "adamw_8bit": 2e-2,
}
# bitsandbytes keeps moments as 8-bit codes with float32 scales, whatever the parameter.
OWN_PRECISION = [name for name in NAMES if name != "adamw_8bit"]


def entry(name):
    return CATALOGUE[VARIANTS[name][0] if name in VARIANTS else name]


def options(name):
    """Options that make a variant of its method."""
    return dict(VARIANTS[name][1]) if name in VARIANTS else {}


def case(name):
    return Case(entry(name).load(), RATES[name], options(name))


def parametrized(names):
    """Methods by name; one whose package is absent is skipped with the reason."""
    return pytest.mark.parametrize(
        "name",
        [
            pytest.param(
                name,
                marks=pytest.mark.skipif(
                    entry(name).extra == "quant"
                    and importlib.util.find_spec("bitsandbytes") is None,
                    reason="bitsandbytes is not installed",
                ),
            )
            for name in names
        ],
    )


every_method = parametrized(NAMES)


def make(name, model, faster=1.0, **given):
    chosen = options(name) | given
    return create_optimizer(entry(name).name, model, lr=faster * RATES[name], **chosen)
