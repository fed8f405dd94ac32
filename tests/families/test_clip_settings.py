"""Skipped layers of CLIP, and captions of more than 75 tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from helpers.tiny_sdxl import text_config
from stiefel_lora import ConfigError
from stiefel_lora.adapters import select_text_layers
from stiefel_lora.config import parse_config
from stiefel_lora.families import open_family
from stiefel_lora.families.clip_chunks import into_chunks, joined_chunks

CPU = torch.device("cpu")
LONG = ", ".join(f"a thing of kind {number}" for number in range(40))
SHORT = "a thing"
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def opened(model: Path, kind: str, **settings: Any) -> Any:
    data = {"base_model_name": str(model), "model_type": kind, **settings}
    return open_family(parse_config({"weight_dtype": "float32", **data}), CPU)


def deeper(model: Path, folder: Path, layers: int = 4) -> Path:
    """A copy whose text encoders have more layers."""
    shutil.copytree(model, folder)
    for name, kind in (
        ("text_encoder", CLIPTextModel),
        ("text_encoder_2", CLIPTextModelWithProjection),
    ):
        if not (folder / name).is_dir():
            continue
        before = kind.from_pretrained(folder / name).config
        torch.manual_seed(len(name))
        config = text_config(before.hidden_size, before.vocab_size)
        config.num_hidden_layers = layers
        kind(config).save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def sd15(tiny_sd15: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deeper(tiny_sd15, tmp_path_factory.mktemp("sd15") / "model")


@pytest.fixture(scope="module")
def sdxl(tiny_sdxl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deeper(tiny_sdxl, tmp_path_factory.mktemp("sdxl") / "model")


# Skipped layers -----------------------------------------------------------------------


@pytest.mark.parametrize("skip", [0, 1, 3])
def test_sd15_normalizes_an_earlier_layer(sd15: Path, skip: int) -> None:
    found = opened(sd15, "sd15", text_encoder_layer_skip=skip).encode_caption(SHORT)
    encoder = CLIPTextModel.from_pretrained(sd15 / "text_encoder").eval()
    tokens = CLIPTokenizer.from_pretrained(sd15 / "tokenizer")(
        SHORT, padding="max_length", return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        output = encoder(tokens, output_hidden_states=True)
        # hidden_states[-clip_skip] of sd-scripts and [-1 - layer_skip] of OneTrainer,
        # normalized.
        norm = getattr(encoder, "text_model", encoder).final_layer_norm
        expected = norm(output.hidden_states[-(skip + 1)])
    if not skip:
        expected = output.last_hidden_state
    torch.testing.assert_close(found["embeds"], expected[0], **CLOSE)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (2, 1)])
def test_sdxl_skips_layers_of_each_encoder(sdxl: Path, first: int, second: int) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(sdxl)
    both = [
        pipeline.encode_prompt(
            SHORT, do_classifier_free_guidance=False, clip_skip=skip or None
        )
        for skip in (first, second)
    ]
    width = pipeline.text_encoder.config.hidden_size
    expected = torch.cat([both[0][0][..., :width], both[1][0][..., width:]], dim=-1)
    family = opened(
        sdxl,
        "sdxl",
        text_encoder_layer_skip=first,
        text_encoder_2_layer_skip=second,
    )
    found = family.encode_caption(SHORT)
    torch.testing.assert_close(found["embeds"], expected[0], **CLOSE)
    # The pooled output is always that of the last layer.
    torch.testing.assert_close(found["pooled"], both[0][2][0], **CLOSE)


def test_at_least_one_layer_remains(sd15: Path, sdxl: Path) -> None:
    opened(sd15, "sd15", text_encoder_layer_skip=3)
    opened(sdxl, "sdxl", text_encoder_2_layer_skip=2)
    for model, kind, key, most in (
        (sd15, "sd15", "text_encoder_layer_skip", 3),
        (sdxl, "sdxl", "text_encoder_2_layer_skip", 2),
    ):
        with pytest.raises(ConfigError) as error:
            opened(model, kind, **{key: most + 1})
        assert str(error.value).startswith(f"{key}: must be at most {most} for the ")
        assert str(error.value).endswith(f"has 4 layers, but got {most + 1}.")


@pytest.mark.parametrize(("positions", "fits"), [(77, True), (76, False), (32, False)])
def test_each_token_of_a_chunk_has_a_position(
    sd15: Path, tmp_path: Path, positions: int, fits: bool
) -> None:
    model = tmp_path / "model"
    shutil.copytree(sd15, model)
    before = CLIPTextModel.from_pretrained(model / "text_encoder").config
    config = text_config(before.hidden_size, before.vocab_size)
    config.max_position_embeddings = positions
    CLIPTextModel(config).save_pretrained(model / "text_encoder")
    path = model / "tokenizer" / "tokenizer_config.json"
    known = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**known, "model_max_length": positions}), "utf-8")
    assert opened(model, "sd15", max_token_length=75).caption_limit == 75
    if fits:
        assert opened(model, "sd15", max_token_length=150).caption_limit == 150
        return
    with pytest.raises(ConfigError) as error:
        opened(model, "sd15", max_token_length=150)
    assert str(error.value) == (
        f"max_token_length: must be 75 for the text_encoder of {model}, which has "
        f"{positions} positions instead of the 77 of a chunk, but got 150."
    )


def test_caches_are_those_of_the_settings(sd15: Path, sdxl: Path) -> None:
    for model, kind in ((sd15, "sd15"), (sdxl, "sdxl")):
        changed = [
            {},
            {"text_encoder_layer_skip": 1},
            {"text_encoder_layer_skip": 2},
            {"max_token_length": 150},
            {"max_token_length": 225, "text_encoder_layer_skip": 1},
        ]
        if kind == "sdxl":
            changed.append({"text_encoder_2_layer_skip": 1})
        families = [opened(model, kind, **settings) for settings in changed]
        assert len({family.text_fingerprint for family in families}) == len(changed)
        assert len({family.image_fingerprint for family in families}) == 1
        same = opened(model, kind, text_encoder_layer_skip=0, max_token_length=75)
        assert same.text_fingerprint == families[0].text_fingerprint


def test_skipped_layers_get_no_lora(sd15: Path, sdxl: Path) -> None:
    for model, kind, part, layers in (
        (sd15, "sd15", "text_encoder", [0, 1, 2]),
        (sdxl, "sdxl", "text_encoder", [0, 1]),
        # For its pooled output, it is used as a whole.
        (sdxl, "sdxl", "text_encoder_2", [0, 1, 2, 3]),
    ):
        encoder = opened(model, kind).text_encoder(part)
        names = select_text_layers(encoder, family=kind, part=part, skip=1)
        assert sorted({int(n.split("layers.")[1].split(".")[0]) for n in names}) == (
            layers
        )


# Long captions ------------------------------------------------------------------------


def reference_tokens(tokenizer: Any, text: str, chunks: int) -> list[list[int]]:
    """Chunks of sd-scripts, written out one token after another."""
    first, end, pad = (
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
    )
    words = tokenizer(text, add_special_tokens=False).input_ids[: 75 * chunks]
    line = [*words, end]
    line += [pad] * (75 * chunks + 1 - len(line))
    found = []
    for number in range(chunks):
        own = line[75 * number : 75 * (number + 1)]
        if pad == end:
            found.append([first, *own, end])
            continue
        closing = line[-1] if own[-1] in (end, pad) else end
        if own[0] == pad:
            own = [end, *own[1:]]
        found.append([first, *own, closing])
    return found


@pytest.mark.parametrize("length", [150, 225])
@pytest.mark.parametrize("text", [SHORT, LONG, ""], ids=["short", "long", "empty"])
def test_sd15_joins_chunks_as_sd_scripts(sd15: Path, text: str, length: int) -> None:
    chunks = length // 75
    encoder = CLIPTextModel.from_pretrained(sd15 / "text_encoder").eval()
    tokenizer = CLIPTokenizer.from_pretrained(sd15 / "tokenizer")
    lines = reference_tokens(tokenizer, text, chunks)
    with torch.no_grad():
        states = encoder(torch.tensor(lines)).last_hidden_state
    rows = [
        states[0, 0],
        *states[:, 1:76].reshape(-1, states.shape[-1]),
        states[-1, 76],
    ]
    found = opened(sd15, "sd15", max_token_length=length).encode_caption(text)
    assert found["embeds"].shape == (length + 2, states.shape[-1])
    torch.testing.assert_close(found["embeds"], torch.stack(rows), **CLOSE)


@pytest.mark.parametrize("text", [SHORT, LONG, ""], ids=["short", "long", "empty"])
def test_sdxl_joins_chunks_of_both_encoders(sdxl: Path, text: str) -> None:
    family = opened(sdxl, "sdxl", max_token_length=225)
    found = family.encode_caption(text)
    pieces, pooled = [], None
    for name, place, kind in (
        ("text_encoder", "tokenizer", CLIPTextModel),
        ("text_encoder_2", "tokenizer_2", CLIPTextModelWithProjection),
    ):
        encoder = kind.from_pretrained(sdxl / name).eval()
        tokenizer = CLIPTokenizer.from_pretrained(sdxl / place)
        lines = torch.tensor(reference_tokens(tokenizer, text, 3))
        with torch.no_grad():
            output = encoder(lines, output_hidden_states=True)
        states = output.hidden_states[-2]
        rows = [states[0, 0], *states[:, 1:76].flatten(0, 1), states[2, 76]]
        pieces.append(torch.stack(rows))
        pooled = output.text_embeds[0] if name.endswith("2") else None
    torch.testing.assert_close(found["embeds"], torch.cat(pieces, dim=-1), **CLOSE)
    torch.testing.assert_close(found["pooled"], pooled, **CLOSE)


def test_a_caption_that_fits_differs_only_in_its_padding(sd15: Path) -> None:
    short = opened(sd15, "sd15").encode_caption(SHORT)["embeds"]
    long = opened(sd15, "sd15", max_token_length=150).encode_caption(SHORT)["embeds"]
    torch.testing.assert_close(long[:76], short[:76], **CLOSE)


def test_batches_are_encoded_as_single_captions(sdxl: Path) -> None:
    family = opened(sdxl, "sdxl", max_token_length=150, text_encoder_layer_skip=1)
    texts = [LONG, SHORT]
    found = family.encode_captions(texts)
    for number, text in enumerate(texts):
        for name, expected in family.encode_caption(text).items():
            torch.testing.assert_close(found[name][number], expected, **CLOSE)


def test_chunks_of_the_second_encoder_end_where_the_words_end() -> None:
    words = torch.arange(10, 10 + 75)
    line = torch.cat(
        [torch.tensor([1]), words, torch.tensor([2]), torch.zeros(75).long()]
    )
    one, other = into_chunks(line[None], end=2, padding=0)
    assert one.tolist() == [1, *words.tolist(), 2]
    assert other.tolist() == [1, 2, *[0] * 75]
    empty = torch.tensor([[1, 2, *[0] * 150]])
    one, other = into_chunks(empty, end=2, padding=0)
    assert one.tolist() == [1, 2, *[0] * 75]
    assert other.tolist() == [1, 2, *[0] * 75]
    states = torch.arange(2 * 77.0).view(2, 77, 1)
    joined = joined_chunks(states, 2).flatten().tolist()
    assert joined == [*range(76), *range(78, 154)]
