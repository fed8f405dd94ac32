"""Weighted prompts beside sd-scripts' parser and encoding, on a tiny SDXL.

Needs what tests/hosts/test_sd_scripts.py needs.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from sd_scripts_run import HERE, HOST, MARKS
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from helpers.tiny_sdxl import build_tiny_sdxl, text_config
from stiefel_lora._prompt_weights import parse_weights, read_weights
from stiefel_lora.config import parse_config
from stiefel_lora.families import open_family

pytestmark = MARKS

PROMPTS = [
    "a red cat",
    "a (red:1.3) cat",
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
    "[[a cat], b",
    r"a \(red\) (cat\\:1.4)",
    "a:1.2) (b:c) d] 10:30",
    "(a (b [c:2] (d:0.3) e:1.7",
    "(word:-0.5) and (one more",
    ", ".join(f"(thing:1.{number % 10}) of [kind]" for number in range(9)),
]


def _model(folder: Path) -> Path:
    """Twelve layers, because sd-scripts reads the eleventh of the first encoder."""
    build_tiny_sdxl(folder)
    kinds = (CLIPTextModel, CLIPTextModelWithProjection)
    for name, kind in zip(("text_encoder", "text_encoder_2"), kinds, strict=True):
        before = kind.from_pretrained(folder / name).config
        config = text_config(before.hidden_size, before.vocab_size)
        config.num_hidden_layers = 12
        torch.manual_seed(len(name))
        kind(config).save_pretrained(folder / name)
    return folder


def test_prompts_are_parsed_and_encoded_as_in_sd_scripts(tmp_path: Path) -> None:
    model = _model(tmp_path / "model")
    (tmp_path / "prompts.json").write_text(json.dumps(PROMPTS), encoding="utf-8")
    output = tmp_path / "output.pt"
    HOST.run(
        HERE / "sd_scripts_prompts.py",
        HOST.root,
        model,
        tmp_path / "prompts.json",
        output,
    )
    found = torch.load(output, weights_only=True)
    families = {
        length: open_family(
            parse_config(
                {
                    "base_model_name": str(model),
                    "weight_dtype": "float32",
                    "max_token_length": length,
                }
            ),
            torch.device("cpu"),
        )
        for length in (75, 150, 225)
    }
    lengths = set()
    for prompt in PROMPTS:
        expected, parsed = found[prompt], parse_weights(prompt)
        assert [list(piece) for piece in parsed.pieces] == expected["pieces"]
        states = torch.cat([expected["states"], expected["states_2"]], dim=-1)
        own = families[len(states) - 2].encode_caption(parsed)
        lengths.add(len(states) - 2)
        torch.testing.assert_close(own["embeds"], states, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            own["pooled"], expected["pooled"], atol=1e-5, rtol=1e-5
        )
        caption = read_weights(prompt, keeps_mean=False)
        own = families[len(states) - 2].encode_caption(caption)
        first, second, pooled = expected["caption"]
        torch.testing.assert_close(
            own["embeds"], torch.cat([first, second], -1), atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(own["pooled"], pooled, atol=1e-5, rtol=1e-5)
    assert len(lengths) > 1


@pytest.mark.parametrize("prompt", ["(a: 1.2)", "(a:1.2.3)"])
def test_only_spaces_and_bad_numbers_differ(prompt: str) -> None:
    """A1111 ignores the space; sd-scripts ends with an error for the second one."""
    weights = [weight for _, weight in parse_weights(prompt).pieces]
    assert weights == ([1.2] if " " in prompt else [1.1])
