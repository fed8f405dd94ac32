"""Settings that change how a run computes, not what: seen in what is called."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.transformers.transformer_flux import FluxTransformerBlock

from helpers.runs import (
    assert_same_factors,
    tiny_config,
    tiny_flux_config,
)
from stiefel_lora.families.flux import Flux
from stiefel_lora.families.sdxl import Sdxl
from stiefel_lora.training.trainer import train

FAMILIES = {
    "sdxl": (tiny_config, Sdxl, BasicTransformerBlock),
    "flux": (tiny_flux_config, Flux, FluxTransformerBlock),
}


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> tuple[Path, Any, Any, Any]:
    """Base model, maker of configurations, family and class of its blocks."""
    return (request.getfixturevalue(f"tiny_{request.param}"), *FAMILIES[request.param])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, family: Any) -> Counter[str]:
    """Count computed blocks, and encoded images and captions."""
    counted: Counter[str] = Counter()
    _, _, kind, block = family

    def count(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def counting(self: Any, *args: Any, **more: Any) -> Any:
            counted[name] += 1
            return original(self, *args, **more)

        monkeypatch.setattr(owner, name, counting)

    count(block, "forward")
    count(kind, "encode_image")
    count(kind, "encode_caption")
    return counted


def test_gradient_checkpointing_computes_blocks_twice(
    family: Any, calls: Counter[str], tmp_path: Path
) -> None:
    model, config, *_ = family
    changes = {"steps": 2, "validation_concepts": []}
    plain = train(config(model, tmp_path, run_name="plain", **changes))
    once = calls.pop("forward")
    config = config(model, tmp_path, gradient_checkpointing=True, **changes)
    checkpointed = train(config)
    assert calls["forward"] == 2 * once
    assert_same_factors(plain, checkpointed)


def test_a_second_run_encodes_no_image_and_no_caption(
    family: Any, calls: Counter[str], tmp_path: Path
) -> None:
    model, config, *_ = family
    changes = {"steps": 1, "validate_every": 1, "cache_dir": str(tmp_path / "cache")}
    train(config(model, tmp_path, **changes))
    assert calls["encode_image"] == 6
    # Those of the validation images are among the four to learn from.
    assert calls["encode_caption"] == 4
    train(config(model, tmp_path, run_name="again", **changes))
    assert (calls["encode_image"], calls["encode_caption"]) == (6, 4)


def test_without_latent_caching_images_are_encoded_in_every_step(
    family: Any, calls: Counter[str], tmp_path: Path
) -> None:
    model, config, *_ = family
    config = config(
        model, tmp_path, steps=3, latent_caching=False, validation_concepts=[]
    )
    train(config)
    assert calls["encode_image"] == 3 * 2
