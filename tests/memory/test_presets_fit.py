"""A preset for a GPU exists only where the estimate fits the GPU, with room left."""

from __future__ import annotations

import pytest

from stiefel_lora.config import load_config
from stiefel_lora.config.presets import Preset, list_presets
from stiefel_lora.memory import estimate_memory, usual_settings

PRESETS = [preset for preset in list_presets() if preset.memory_gb]
GIB = 2**30
# For what a desktop and the allocator take, and for an estimate that is too low.
ROOM = 0.05


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_the_estimate_fits_the_gpu(preset: Preset) -> None:
    assert preset.memory_gb is not None
    config = load_config(preset.path, ["device=cuda"])
    assert config.sample_every
    assert config.samples
    found = estimate_memory(config, usual_settings(config.model_type))
    shares = {
        what: getattr(found, what) / (preset.memory_gb * GIB)
        for what in ("encoding", "training", "sampling")
    }
    print(preset.name, {what: f"{share:.0%}" for what, share in shares.items()})
    assert found.total <= (1 - ROOM) * preset.memory_gb * GIB, shares


def test_each_size_has_all_optimizers() -> None:
    """So that they can be compared on any GPU."""
    wanted = {"adamw", "stiefel_lora", "stella", "lora_rite", "riemannion"}
    for family, memory in {(preset.family, preset.memory_gb) for preset in PRESETS}:
        found = {
            p.optimizer for p in PRESETS if (p.family, p.memory_gb) == (family, memory)
        }
        assert found == wanted, (family, memory)
