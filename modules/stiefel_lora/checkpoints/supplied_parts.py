"""Components that are not in single files: the scheduler and the CLIP tokenizer.

The vocabulary of the CLIP tokenizer is part of this package. The T5 tokenizer must be
set by the user.
"""

from __future__ import annotations

import gzip
import inspect
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import torch
import transformers

from .tokens import token_counts

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = [
    "ZERO_TERMINAL_SNR",
    "ClipTokenizer",
    "SettingsPart",
    "clip_token_counts",
    "with_zero_terminal_snr",
]

# Made by scripts/make_clip_merges.py; license and origin are next to it.
_MERGES = Path(__file__).with_name("clip_merges.txt.gz")
_PLACES = 77
_FIRST, _LAST = "<|startoftext|>", "<|endoftext|>"

ZERO_TERMINAL_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
"""Settings of the scheduler of a model with zero-terminal SNR."""


def with_zero_terminal_snr(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a scheduler, changed to zero-terminal SNR.

    Schedulers without this option, such as PNDM of SD 1.5, are replaced by DDIM.
    """
    changed = {**config, **ZERO_TERMINAL_SNR}
    kind: Any = getattr(diffusers, str(config.get("_class_name")), None)
    options = inspect.signature(kind.__init__).parameters if kind else {}
    if "rescale_betas_zero_snr" not in options:
        changed["_class_name"] = "DDIMScheduler"
    return changed


class SettingsPart:
    """Component that has settings, but no weights."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return dict(self._config)

    def load(self, loader: Any, dtype: torch.dtype | None) -> Any:
        """Create the component with ``from_config``."""
        return loader.from_config(self._config)

    def digest_into(self, digest: _Hash) -> None:
        """Update a hash with the settings."""
        digest.update(f"{sorted(self._config.items())}".encode())


class ClipTokenizer:
    """Tokenizer of the CLIP text encoders.

    Args:
        padding: padding token.
    """

    def __init__(self, padding: str) -> None:
        self._padding = padding

    def config(self) -> dict[str, Any]:
        """Return the settings of the tokenizer."""
        return {"pad_token": self._padding, "model_max_length": _PLACES}

    def load(self, loader: Any, dtype: torch.dtype | None) -> Any:
        """Create a ``transformers.CLIPTokenizer``."""
        merges = gzip.decompress(_MERGES.read_bytes()).decode("utf-8")
        with tempfile.TemporaryDirectory() as place:
            vocabulary, rules = Path(place, "vocab.json"), Path(place, "merges.txt")
            vocabulary.write_text(json.dumps(clip_vocabulary(merges)), encoding="utf-8")
            rules.write_text(merges, encoding="utf-8")
            return loader(str(vocabulary), str(rules), **self.config())

    def digest_into(self, digest: _Hash) -> None:
        """Update a hash with the padding token. The vocabulary is constant."""
        digest.update(f"clip/{self._padding}".encode())


def clip_token_counts(captions: Sequence[str]) -> list[int]:
    """Return the number of CLIP tokens of captions, without the first and last ones.

    The tokenizer is that of this package, so that no base model is needed.
    """
    tokenizer = ClipTokenizer(_LAST).load(transformers.CLIPTokenizer, None)
    return token_counts(tokenizer, captions)


def clip_vocabulary(merges: str) -> dict[str, int]:
    """Create the vocabulary of CLIP from its merges.

    Args:
        merges: line with the version, followed by lines with pairs of tokens.
    """
    # Printable bytes keep their letter and come first; others get letters from 256 on
    # (GPT-2's convention).
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable]
    letters += [chr(256 + number) for number in range(256 - len(printable))]
    pairs = [line.replace(" ", "") for line in merges.splitlines()[1:]]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *pairs]
    return {token: n for n, token in enumerate([*tokens, _FIRST, _LAST])}
