"""Encode weighted prompts with sd-scripts' own functions; runs in its environment.

    python sd_scripts_prompts.py SD_SCRIPTS_ROOT MODEL PROMPTS OUTPUT

PROMPTS is a JSON list. OUTPUT is a file of torch: by prompt, what its parser finds, and
the states and the pooled output of both encoders, and those of a caption of training.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import loadable_torchvision  # noqa: F401
import torch
from safetensors.torch import load_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizerFast,
)

ENDS = ("", "_2")


def main(root: Path, model: Path, prompts: list[str], output: Path) -> None:
    """Write the results of all prompts."""
    sys.path.insert(0, str(root))
    # Each of them imports the other one; only this order works.
    from library import train_util  # noqa: F401, I001
    from library import sdxl_lpw_stable_diffusion as host

    found: dict[str, Any] = {}
    kinds = (CLIPTextModel, CLIPTextModelWithProjection)
    for number, (end, kind) in enumerate(zip(ENDS, kinds, strict=True)):
        pipe = SimpleNamespace(
            tokenizer=CLIPTokenizerFast.from_pretrained(model / f"tokenizer{end}"),
            text_encoder=_encoder(model / f"text_encoder{end}", kind),
            device=torch.device("cpu"),
        )
        for prompt in prompts:
            with torch.no_grad():
                states, pooled, *_ = host.get_weighted_text_embeddings(
                    pipe,
                    prompt,
                    no_boseos_middle=True,
                    is_sdxl_text_encoder2=bool(number),
                )
            entry = found.setdefault(
                prompt, {"pieces": host.parse_prompt_attention(prompt)}
            )
            entry[f"states{end}"] = states[0]
            if pooled is not None:
                entry["pooled"] = pooled[0]
    encoders = [
        _encoder(model / f"text_encoder{end}", kind)
        for end, kind in zip(ENDS, kinds, strict=True)
    ]
    for prompt in prompts:
        entry = found[prompt]
        entry["caption"] = _caption(prompt, model, encoders, len(entry["states"]) - 2)
    torch.save(found, output)


def _caption(
    text: str, model: Path, encoders: list[Any], length: int
) -> list[torch.Tensor]:
    """Encode a caption as --weighted_captions does."""
    from library.strategy_sdxl import SdxlTextEncodingStrategy, SdxlTokenizeStrategy

    # Its constructor loads the tokenizers by the names of their hub repositories, and
    # sets the padding of the second one, which is that of the file here.
    tokenize = object.__new__(SdxlTokenizeStrategy)
    for number, end in enumerate(ENDS, start=1):
        tokenizer = CLIPTokenizerFast.from_pretrained(model / f"tokenizer{end}")
        setattr(tokenize, f"tokenizer{number}", tokenizer)
    tokenize.max_length = length + 2
    with torch.no_grad():
        states = SdxlTextEncodingStrategy().encode_tokens_with_weights(
            tokenize, encoders, *tokenize.tokenize_with_weights([text])
        )
    return [state[0] for state in states]


def _encoder(folder: Path, kind: Any) -> Any:
    encoder = kind(CLIPTextConfig.from_pretrained(folder))
    weights = load_file(folder / "model.safetensors")
    # transformers 5 saves a text encoder without this part of its names.
    prefix = "" if any(name.startswith("text_model.") for name in weights) else True
    if prefix:
        weights = {
            name if name.startswith("text_projection") else f"text_model.{name}": value
            for name, value in weights.items()
        }
    missing, unexpected = encoder.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    assert not [name for name in missing if "position_ids" not in name], missing
    return encoder.eval()


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        json.loads(Path(sys.argv[3]).read_text("utf-8")),
        Path(sys.argv[4]),
    )
