"""Facts about the full-size models, built on the meta device."""

from __future__ import annotations

import pytest
import torch

from stiefel_lora.adapters import select_layers
from stiefel_lora.checkpoints.base_model import known_settings
from stiefel_lora.checkpoints.facts import FamilyFacts
from stiefel_lora.checkpoints.source import ModelSource
from stiefel_lora.checkpoints.supplied_parts import SettingsPart
from stiefel_lora.families.flux import Flux
from stiefel_lora.families.sd15 import Sd15
from stiefel_lora.families.sdxl import Sdxl

FLUX = Flux.facts
# As counted in the published weights.
SIZES = [
    (Sdxl.facts, "unet", 2_567_463_684),
    (Sdxl.facts, "vae", 83_653_863),
    (Sdxl.facts, "text_encoder", 123_060_480),
    (Sdxl.facts, "text_encoder_2", 694_659_840),
    (Sd15.facts, "unet", 859_520_964),
    (Sd15.facts, "vae", 83_653_863),
    (Sd15.facts, "text_encoder", 123_060_480),
    (FLUX, "transformer", 11_901_408_320),
    (FLUX, "vae", 83_819_683),
    (FLUX, "text_encoder", 123_060_480),
    (FLUX, "text_encoder_2", 4_762_310_656),
]


def skeleton(facts: FamilyFacts, part: str) -> torch.nn.Module:
    settings = known_settings(facts, part)
    source = ModelSource("known", {part: SettingsPart(settings)})
    return source.skeleton(part, facts.files[part].loader)


@pytest.mark.parametrize(("facts", "part", "size"), SIZES)
def test_parts_have_their_published_sizes(facts, part, size) -> None:
    model = skeleton(facts, part)
    assert sum(parameter.numel() for parameter in model.parameters()) == size


@pytest.mark.parametrize(
    ("preset", "layers"), [("attn-only", 128), ("attn-mlp", 160), ("full", 184)]
)
def test_presets_of_sd15(preset: str, layers: int) -> None:
    unet = skeleton(Sd15.facts, "unet")
    found = select_layers(unet, family="sd15", preset=preset, rank=4)
    assert len(found) == layers
