"""Single text encoders, combined with outputs of the others from before training."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    FluxPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from torch import Tensor, nn

from helpers.families import open_flux, open_sd15, open_sdxl
from stiefel_lora.adapters import add_lora, pairs_of, select_text_layers

CAPTIONS = ["a thing", "another thing, much longer than the first one"]
# More than the 77 tokens of CLIP and the 512 of T5, by letters and by words.
LONG = "many things of all kinds " * 25
OPEN: dict[str, Any] = {"sdxl": open_sdxl, "sd15": open_sd15, "flux": open_flux}
PARTS = [
    ("sdxl", "text_encoder"),
    ("sdxl", "text_encoder_2"),
    ("flux", "text_encoder"),
    ("flux", "text_encoder_2"),
    ("sd15", "text_encoder"),
]


def opened(request: pytest.FixtureRequest, name: str) -> Any:
    return OPEN[name](request.getfixturevalue(f"tiny_{name}"))


def stock_encoded(name: str, folder: Path, texts: list[str]) -> dict[str, Tensor]:
    """By the stock pipelines' own method."""
    if name == "flux":
        flux = FluxPipeline.from_pretrained(folder)
        embeds, pooled, _ = flux.encode_prompt(texts, None)  # type: ignore[arg-type]
        return {"embeds": embeds, "pooled": pooled}
    if name == "sdxl":
        sdxl: Any = StableDiffusionXLPipeline.from_pretrained(folder)
        found = sdxl.encode_prompt(texts, do_classifier_free_guidance=False)
        return {"embeds": found[0], "pooled": found[2]}
    sd15: Any = StableDiffusionPipeline.from_pretrained(folder)
    device = torch.device("cpu")
    return {"embeds": sd15.encode_prompt(texts, device, 1, False)[0]}


@pytest.mark.parametrize("name", OPEN)
def test_long_and_empty_captions_are_encoded_as_the_stock_pipelines_do(
    request: pytest.FixtureRequest, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [*CAPTIONS, LONG, ""]
    family = opened(request, name)
    with torch.no_grad(), caplog.at_level(logging.WARNING, "stiefel_lora"):
        found = family.encode_captions(texts)
        expected = stock_encoded(name, request.getfixturevalue(f"tiny_{name}"), texts)
    assert found.keys() == expected.keys()
    # Two copies of the weights lie at other addresses, so sums may round differently.
    for key, tensor in found.items():
        torch.testing.assert_close(tensor, expected[key], atol=1e-5, rtol=1e-5)


def test_a_caption_that_is_cut_off_is_logged_once(
    tiny_sd15: Path, caplog: pytest.LogCaptureFixture
) -> None:
    family, caption = open_sd15(tiny_sd15), f"once upon a time, {LONG}"
    with caplog.at_level(logging.WARNING, "stiefel_lora"):
        for _ in range(2):
            family.encode_captions(["short", caption])
    message = [record.getMessage() for record in caplog.records]
    assert message == [
        "The following caption was truncated because the text encoder is limited to "
        f"77 tokens: {caption}"
    ]


def test_a_very_long_caption_is_not_logged_whole(
    tiny_sd15: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "stiefel_lora"):
        open_sd15(tiny_sd15).encode_captions(["a " * 5000])
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.endswith(f": {'a ' * 1000} ...")


def train_a_little(family: Any, part: str) -> None:
    """A LoRA that is not where it began."""
    encoder = family.text_encoder(part)
    targets = select_text_layers(encoder, family=family.name, part=part)
    add_lora(encoder, rank=4, alpha=4, targets=targets, method=None, seed=0)
    torch.manual_seed(1)
    for pair in pairs_of(encoder):
        nn.init.normal_(pair.up, std=0.1)


@pytest.fixture(params=PARTS, ids=lambda value: "-".join(value))
def trained(request: pytest.FixtureRequest) -> tuple[Any, str, Any]:
    """A family, the encoder that is trained, and captions from before."""
    name, part = request.param
    family = opened(request, name)
    before = [family.encode_caption(text) for text in CAPTIONS]
    train_a_little(family, part)
    return family, part, before


def test_only_the_trained_encoder_is_asked(trained: tuple[Any, str, Any]) -> None:
    """The rest is taken from before: the same numbers, and nothing else is loaded."""
    family, part, before = trained
    known = {name: torch.stack([b[name] for b in before]) for name in before[0]}
    asked = family.encode_captions(CAPTIONS)
    family.release_encoders()
    found = family.encode_captions(CAPTIONS, known)
    assert list(family._encoders) == [part]
    assert found.keys() == asked.keys() == known.keys()
    for name, tensor in found.items():
        # Before, each caption was encoded alone: sums round in another order.
        torch.testing.assert_close(tensor, asked[name], atol=1e-5, rtol=1e-5)
    moved = [n for n in known if not torch.allclose(found[n], known[n], atol=1e-3)]
    assert moved, "training changed nothing"
    sum(tensor.square().sum() for tensor in found.values()).backward()
    pairs = pairs_of(family.text_encoder(part))
    assert any(pair.up.grad is not None and pair.up.grad.any() for pair in pairs)


def test_prompts_too(trained: tuple[Any, str, Any]) -> None:
    family, part, before = trained
    asked = family.encode_caption(CAPTIONS[0])
    family.release_encoders()
    found = family.encode_caption(CAPTIONS[0], before[0])
    assert list(family._encoders) == [part]
    assert found.keys() == asked.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, asked[name], atol=1e-5, rtol=1e-5)
    assert not any(tensor.requires_grad for tensor in found.values())
