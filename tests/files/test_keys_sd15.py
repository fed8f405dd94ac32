from __future__ import annotations

import pytest
import torch

from stiefel_lora import _exceptions
from stiefel_lora.checkpoints.base_model import known_settings
from stiefel_lora.checkpoints.source import ModelSource
from stiefel_lora.checkpoints.supplied_parts import SettingsPart
from stiefel_lora.families.sd15 import Sd15
from stiefel_lora.files.keys_sd15 import SD15
from stiefel_lora.files.weights import canonical_name

from_kohya, to_kohya = SD15.from_kohya, SD15.to_kohya


@pytest.mark.parametrize(
    ("part", "kinds", "layers"),
    [
        ("unet", (torch.nn.Linear, torch.nn.Conv2d), 282),
        ("text_encoder", (torch.nn.Linear,), 72),
    ],
)
def test_every_layer_of_the_full_size_has_its_name(part, kinds, layers):
    settings = known_settings(Sd15.facts, part)
    source = ModelSource("known", {part: SettingsPart(settings)})
    model = source.skeleton(part, Sd15.facts.files[part].loader)
    names = [
        canonical_name(part, path)
        for path, module in model.named_modules()
        if isinstance(module, kinds)
    ]
    assert len(names) == layers
    stems = [to_kohya(name) for name in names]
    assert len(set(stems)) == layers
    assert [from_kohya(stem) for stem in stems] == names


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        (
            "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn2.to_out.0",
            "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn2_to_out_0",
        ),
        (
            "unet.mid_block.attentions.0.proj_in",
            "lora_unet_mid_block_attentions_0_proj_in",
        ),
        (
            "text_encoder.text_model.encoder.layers.11.mlp.fc2",
            "lora_te_text_model_encoder_layers_11_mlp_fc2",
        ),
    ],
)
def test_names_written_out(name, stem):
    assert to_kohya(name) == stem
    assert from_kohya(stem) == name


@pytest.mark.parametrize("name", ["unet.add_embedding.linear_1", "text_encoder_2.x"])
def test_a_name_outside_sd15_is_refused(name):
    with pytest.raises(_exceptions.ModelError, match="no kohya name"):
        to_kohya(name)


def test_a_stem_outside_sd15_is_refused():
    with pytest.raises(_exceptions.ModelError, match="input_blocks"):
        from_kohya("lora_unet_input_blocks_4_1_proj_in")
