"""Weights such as ``(word:1.2)`` in the prompts of samples and in captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.runs import make_images
from stiefel_lora import ConfigError
from stiefel_lora._prompt_weights import WeightedPrompt, has_weights, parse_weights
from stiefel_lora.config import parse_config, remarks
from stiefel_lora.data.encoded import EncodedSet
from stiefel_lora.data.folder import CaptionedImage, scan_concepts
from stiefel_lora.data.long_captions import long_captions
from stiefel_lora.data.order import Visit
from stiefel_lora.data.plan import plan_of
from stiefel_lora.data.prepare import encode_set
from stiefel_lora.data.tensor_store import TensorStore
from stiefel_lora.families import open_family
from stiefel_lora.families.prompt_weighting import weighted_states
from stiefel_lora.training.samples import Sampler

NORM = "final_layer_norm"
CPU = torch.device("cpu")
ONE, TWO = 1.1, 1 / 1.1
CLOSE = {"atol": 1e-6, "rtol": 1e-5}

PARSED: dict[str, list[tuple[str, float]]] = {
    "a cat": [("a cat", 1)],
    "": [("", 1)],
    "a (red) cat": [("a ", 1), ("red", ONE), (" cat", 1)],
    "a (red:1.3) cat": [("a ", 1), ("red", 1.3), (" cat", 1)],
    "a [red] cat": [("a ", 1), ("red", TWO), (" cat", 1)],
    "((a) b)": [("a", ONE * ONE), (" b", ONE)],
    "(a [b:2])": [("a ", ONE), ("b:2", TWO * ONE)],
    "[a (b:0)]": [("a ", TWO), ("b", 0)],
    "(a:-.5)": [("a", -0.5)],
    "(a : 2. )": [("a ", 2)],
    "(a)(b)": [("ab", ONE)],
    # Escaped.
    r"a \(b\) \[c\] \\ d\e": [("a (b) [c] \\ de", 1)],
    r"(a\):2)": [("a)", 2)],
    # Never closed, or never opened.
    "a (b": [("a ", 1), ("b", ONE)],
    "a [b (c": [("a ", 1), ("b ", TWO), ("c", ONE * TWO)],
    "a) b] c:2)": [("a) b] c:2)", 1)],
    # No number.
    "(a:b)": [("a:b", ONE)],
    "(a:1.2.3)": [("a:1.2.3", ONE)],
    "(a:)": [("a:", ONE)],
    "10:30 (a:1e2)": [("10:30 ", 1), ("a:1e2", ONE)],
    "()": [("", 1)],
}


@pytest.mark.parametrize("prompt", PARSED)
def test_prompts_are_parsed_as_in_a1111(prompt: str) -> None:
    pieces = parse_weights(prompt).pieces
    assert [text for text, _ in pieces] == [text for text, _ in PARSED[prompt]]
    expected = [weight for _, weight in PARSED[prompt]]
    assert [weight for _, weight in pieces] == pytest.approx(expected)


def opened(model: Path, kind: str, **settings: Any) -> Any:
    data = {"base_model_name": str(model), "model_type": kind, **settings}
    return open_family(parse_config({"weight_dtype": "float32", **data}), CPU)


def scaled(states: torch.Tensor, weights: list[float]) -> torch.Tensor:
    """The states of a prompt (tokens, width) with weights, and the mean of before."""
    row = torch.tensor([1.0, *weights, *[1.0] * (len(states) - 1 - len(weights))])
    found = states.double() * row[:, None].double()
    return (found * states.double().mean() / found.mean()).float()


def widths_of(family: Any) -> list[int]:
    return [family.text_encoder(p).config.hidden_size for p in family.text_models]


# The tokenizers of the tiny models have a token per letter, without spaces.
WORDS = "a (red:1.5) [cat]"


def test_a_mean_of_zero_is_not_restored() -> None:
    states = torch.tensor([[[1.0, -1.0], [2.0, -2.0]], [[1.0, 1.0], [2.0, 2.0]]])
    found = weighted_states(states, torch.tensor([[1.0, 1.5], [1.0, 1.5]]))
    assert found[0].tolist() == [[1, -1], [3, -3]]
    torch.testing.assert_close(found[1], torch.tensor([[0.75, 0.75], [2.25, 2.25]]))


@pytest.mark.parametrize("length", [75, 150])
def test_the_states_of_words_are_scaled(
    tiny_sdxl: Path, tiny_sd15: Path, length: int
) -> None:
    prompt = parse_weights(WORDS)
    for model, kind in ((tiny_sdxl, "sdxl"), (tiny_sd15, "sd15")):
        family = opened(model, kind, max_token_length=length)
        if kind == "sd15":
            # Without a bias, the mean of its states is 0.
            family._encoder("text_encoder").get_submodule(NORM).bias.fill_(0.3)
        plain = family.encode_caption("a red cat")
        found = family.encode_caption(prompt)
        counts = family.caption_tokens(["a", "red", "cat"])
        weights = [1.0] * counts[0] + [1.5] * counts[1] + [TWO] * counts[2]
        widths = [
            family.text_encoder(part).config.hidden_size for part in family._skips
        ]
        # The mean is that of each encoder.
        states = plain["embeds"].split(widths, dim=-1)
        expected = torch.cat([scaled(part, weights) for part in states], dim=-1)
        torch.testing.assert_close(found["embeds"], expected, **CLOSE)
        if kind == "sdxl":
            torch.testing.assert_close(found["pooled"], plain["pooled"], **CLOSE)


def test_weights_of_one_change_nothing(tiny_sdxl: Path) -> None:
    family = opened(tiny_sdxl, "sdxl")
    plain = family.encode_caption("a red cat")
    found = family.encode_caption(parse_weights("a (red:1) cat"))
    assert all(torch.equal(found[name], value) for name, value in plain.items())
    weighted = WeightedPrompt((("a ", 1.0), ("red cat", 1.0)))
    found = family.encode_caption(weighted)
    torch.testing.assert_close(found["embeds"], plain["embeds"], **CLOSE)


def test_prompts_that_are_too_long_are_cut_like_captions(tiny_sdxl: Path) -> None:
    family = opened(tiny_sdxl, "sdxl")
    text = "red " * 40
    plain = family.encode_caption(text)["embeds"]
    found = family.encode_caption(parse_weights(f"({text}:1.2)"))["embeds"]
    assert found.shape == plain.shape
    weights = [1.2] * 75
    expected = [scaled(part, weights) for part in plain.split(widths_of(family), -1)]
    torch.testing.assert_close(found, torch.cat(expected, dim=-1), **CLOSE)


def samples_of(
    model: Path, folder: Path, *, on: bool, prompt: str, trained: bool = False
) -> Any:
    """The request that a sampler makes."""
    family = opened(model, "sdxl")
    if trained:
        family.text_encoder("text_encoder")
    config = parse_config(
        {"samples": [{"prompt": prompt, "negative_prompt": prompt, "steps": 1}]}
    )
    requests: list[Any] = []
    family.sample = lambda request: requests.append(request) or _blank()
    sampler = Sampler(
        config.samples, family, TensorStore(folder), 64, folder, weighted=on
    )
    sampler.make(0)
    return requests[0]


def _blank() -> Any:
    from PIL import Image

    return Image.new("RGB", (8, 8))


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
def test_samples_use_weights_if_they_are_on(
    tiny_sdxl: Path, tmp_path: Path, trained: bool
) -> None:
    family = opened(tiny_sdxl, "sdxl")
    for on, caption in ((True, parse_weights(WORDS)), (False, WORDS)):
        # The second time, the encoded prompt is read from the cache.
        for _ in range(2):
            request = samples_of(
                tiny_sdxl, tmp_path, on=on, prompt=WORDS, trained=trained
            )
            expected = family.encode_caption(caption)["embeds"]
            for side in (request.positive, request.negative):
                torch.testing.assert_close(side["embeds"], expected, **CLOSE)


def test_caches_of_other_weights_differ(tiny_sdxl: Path, tmp_path: Path) -> None:
    found = [
        samples_of(tiny_sdxl, tmp_path, on=True, prompt=prompt).positive["embeds"]
        for prompt in ("a (cat:1.2)", "a (cat:1.3)", "(a:1.2) cat", "a cat")
    ]
    for number, one in enumerate(found):
        assert not any(torch.equal(one, other) for other in found[:number])


CAPTION = "a (red:1.5) cat"


def captioned(folder: Path, model: Path, **settings: Any) -> tuple[Any, EncodedSet]:
    """Encode two images with the same caption with a weight."""
    make_images(folder / "images", count=2, side=64)
    for path in (folder / "images").glob("*.txt"):
        path.write_text(CAPTION, encoding="utf-8")
    config = parse_config(
        {
            "base_model_name": str(model),
            "model_type": "sdxl",
            "weight_dtype": "float32",
            "resolution": 64,
            "concepts": [{"path": str(folder / "images")}],
            **settings,
        }
    )
    family = open_family(config, CPU)
    plan = plan_of(config, training=True, encodes_text=True)
    scan = scan_concepts(config.concepts)
    store = TensorStore(folder / "cache")
    return family, encode_set(scan, family, store, plan, lambda: None)


def test_captions_have_weights_if_they_are_on(tiny_sdxl: Path, tmp_path: Path) -> None:
    visits = [Visit(0, 0), Visit(1, 0)]
    for on in (False, True, False):
        family, images = captioned(tmp_path, tiny_sdxl, weighted_captions=on)
        plain = family.encode_caption("a red cat" if on else CAPTION)["embeds"]
        letters = family.caption_tokens(["a", "red"])
        weights = torch.ones(len(plain), 1)
        if on:
            weights[1 + letters[0] : 1 + sum(letters)] = 1.5
        # Unlike for samples, the mean is not restored.
        expected = torch.stack([plain * weights] * 2)
        torch.testing.assert_close(images.batch(visits)["embeds"], expected, **CLOSE)
        # Trained text encoders encode the captions of a batch.
        found = family.encode_captions(images.captions(visits))["embeds"]
        torch.testing.assert_close(found, expected, **CLOSE)


def test_weights_of_captions_are_not_counted_as_tokens() -> None:
    config = parse_config({"concepts": [{"path": "a"}]})
    text = ", ".join("(red:1.5)" for _ in range(12))
    image = CaptionedImage(Path("a.png"), (text,), config.concepts[0])

    def cut(weighted: bool) -> list[str]:
        return long_captions([image], 75, letters, weighted=weighted).messages()

    def letters(texts: Sequence[str]) -> list[int]:
        return [len(text) for text in texts]

    assert cut(False)
    assert not cut(True)


def test_weights_that_are_text_are_noted_once() -> None:
    samples = [{"prompt": "a"}, {"prompt": "(b:1.2)"}, {"prompt": "(c:2)"}]

    def notes(**settings: Any) -> list[str]:
        config = parse_config({"samples": samples, "sample_every": 9, **settings})
        return [str(found) for found in remarks(config) if "samples" in found.key]

    assert notes() == [
        "samples.1.prompt: contains a weight such as (word:1.2), which is used as text "
        "because sample_prompt_weights is off. Set sample_prompt_weights, for example "
        "--set sample_prompt_weights=true."
    ]
    assert not notes(sample_prompt_weights=True)
    assert notes(model_type="flux") == [
        "samples.1.prompt: contains a weight such as (word:1.2), which is used as text "
        "for FLUX.1. Remove the weight."
    ]
    with pytest.raises(ConfigError, match="sample_prompt_weights: True is only suppor"):
        parse_config({"model_type": "flux", "sample_prompt_weights": True})
    assert has_weights("[a] (b: +1.)")
    assert not has_weights("(a) [b] 10:30 (c:d)")
