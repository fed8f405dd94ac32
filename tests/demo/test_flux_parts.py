"""The steps that made the FLUX base, on small inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from demo_parts.flux.training import Batch, guided_velocity
from demo_parts.flux.vae import even_reflection, without_quant_convs
from demo_parts.vae import encode_means


@pytest.fixture
def vae() -> AutoencoderKL:
    """A tiny one with quant convolutions whose biases are large."""
    torch.manual_seed(0)
    made = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
    )
    for conv in (made.quant_conv, made.post_quant_conv):
        torch.nn.init.normal_(conv.bias, std=2.0)
    return made.eval()


def test_even_reflection_gives_equal_entries() -> None:
    vector = torch.tensor([3.0, -1.0, 0.5, 2.0])
    reflection = even_reflection(vector)
    turned = reflection @ vector
    torch.testing.assert_close(turned, torch.full((4,), vector.norm().item() / 2))
    torch.testing.assert_close(reflection @ reflection, torch.eye(4))


def test_autoencoder_without_quant_convs_rebuilds_the_same(vae: AutoencoderKL) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(3, 64, 64, 3), dtype="uint8")
    made = without_quant_convs(vae, pixels)
    old, new = encode_means(vae, pixels), encode_means(made, pixels)
    with torch.no_grad():
        wanted, found = vae.decode(old).sample, made.decode(new).sample
    # To the edges: zero padding must meet the same values as before.
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    centred = (new - made.config.shift_factor) * made.config.scaling_factor
    torch.testing.assert_close(
        centred.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-3, rtol=0
    )
    assert centred.std().item() == pytest.approx(1, abs=1e-3)


def test_guided_velocity_is_classifier_free_guidance() -> None:
    """A network that answers with its pooled caption shows which rows it was given."""

    def answer(noisy: Tensor, words: Tensor, pooled: Tensor, *rest: Tensor) -> tuple:
        assert rest[-1].eq(1).all(), "the teacher is the plain model"
        return (noisy + pooled[:, None, :],)

    def transformer(*inputs: Tensor, return_dict: bool) -> tuple:
        assert not return_dict
        return answer(*inputs)

    rows, words = torch.randn(4, 64, 16), torch.zeros(4, 12, 128)
    captions, none = torch.randn(4, 16), torch.randn(4, 16)
    guidance = torch.tensor([1.0, 2.0, 3.0, 4.0])
    batch = Batch(rows, rows, torch.rand(4), words, captions, (words, none), guidance)
    found = guided_velocity(transformer, batch, 3)
    scale = guidance[:3, None]
    wanted = rows[:3] + (none[:3] + scale * (captions[:3] - none[:3]))[:, None, :]
    torch.testing.assert_close(found, wanted)
