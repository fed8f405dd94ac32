"""Captions of BLIP and BLIP-2 (``Salesforce/blip-image-captioning-*``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from .._exceptions import ConfigError, ModelError

__all__ = ["BlipCaptioner"]

_SUPPORTED = ("blip", "blip-2")
# Captions of these models have about 10 to 20 tokens.
_MOST_TOKENS = 60
_BEAMS = 3


class BlipCaptioner:
    """Model of transformers whose captions are phrases.

    Captions are the same at every run: they are found by beam search.

    Args:
        folder: folder with the model and its processor.
        device: device of the model.

    Raises:
        ConfigError: If the device is not available.
        ModelError: If the folder does not contain a supported model.
    """

    def __init__(self, folder: Path, device: str) -> None:
        _check_kind(folder)
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self._device = _device(device)
        processor: Any = AutoProcessor
        model: Any = AutoModelForImageTextToText
        try:
            # The path is local: nothing is downloaded here.
            self._processor = processor.from_pretrained(folder, local_files_only=True)
            self._model = model.from_pretrained(folder, local_files_only=True)
        except Exception as error:
            # transformers raises several unrelated classes for incomplete folders.
            reason = str(error).strip().split("\n")[0]
            raise ModelError(
                f"--model: the model in {folder} cannot be loaded ({reason})."
            ) from error
        self._model.eval().to(self._device)

    @torch.inference_mode()
    def caption(self, image: Image.Image) -> str:
        """Return a phrase about an RGB image."""
        inputs = self._processor(images=image, return_tensors="pt").to(self._device)
        tokens = self._model.generate(
            **inputs, max_new_tokens=_MOST_TOKENS, num_beams=_BEAMS, do_sample=False
        )
        (text,) = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return " ".join(text.split())


def _check_kind(folder: Path) -> None:
    path = folder / "config.json"
    try:
        kind = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(
            f"--model: {path} is not a configuration of transformers."
        ) from error
    if kind not in _SUPPORTED:
        raise ModelError(
            f"--model: the model in {folder} is of the type {kind!r}. Supported types "
            f"are {' and '.join(_SUPPORTED)}, and taggers of the WD14 kind."
        )


def _device(name: str) -> torch.device:
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "xpu": torch.xpu.is_available(),
    }
    if name == "auto":
        return torch.device(next((kind for kind, on in present.items() if on), "cpu"))
    kind = name.partition(":")[0]
    if kind != "cpu" and not present.get(kind, False):
        raise ConfigError(
            f"--device: {name} is not available on this machine. Use auto or cpu."
        )
    return torch.device(name)
