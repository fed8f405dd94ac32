"""Component of a base model in a safetensors file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from torch import Tensor

from .._exceptions import ModelError
from .examine import check_weights, wanted_of
from .facts import InFiles
from .float8 import check_scales, unscaled
from .from_pretrained import build
from .header import Header
from .layouts import Layout, Tensors
from .model_files import sample_tensors
from .setting_values import check_setting_values

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["FilePart", "find_part"]

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


class FilePart:
    """Component of a base model in a safetensors file.

    Args:
        part: name of the component.
        header: header of the file.
        prefix: prefix of the tensor names.
        layout: naming scheme of the tensors.
        facts: format of the component.
        config: settings of the component.
    """

    def __init__(
        self,
        part: str,
        header: Header,
        prefix: str,
        layout: Layout,
        facts: InFiles,
        config: dict[str, Any],
    ) -> None:
        self._part = part
        self._path = header.path
        self._layout = layout
        self._loader = facts.loader
        self._config = facts.adapt(config, header, prefix)
        self._prefix = prefix
        self._entries = {
            name: entry
            for name, entry in header.entries.items()
            if name.startswith(prefix)
        }

    def config(self) -> dict[str, Any]:
        """Return the settings of the component."""
        return self._config

    def check(self) -> None:
        """Check the names and shapes of the tensors. Values are not read.

        Raises:
            ModelError: If the weights are incomplete, belong to another model, or use
                an unsupported quantization.
        """
        check_scales(self._path, self._entries)
        # For a file that replaces a folder's part, the settings are that folder's.
        check_setting_values(self._path, self._loader, self._config)
        check_weights(
            self._path,
            self._part,
            self._loader,
            self._config,
            self._layout,
            {name[len(self._prefix) :]: e for name, e in self._entries.items()},
            whole="Use a checkpoint that contains all parts of the model",
            such="such a model",
        )

    def load(self, loader: Any, dtype: torch.dtype | None) -> Any:
        """Load the component tensor by tensor, without a second copy in memory.

        Tensors that already have the requested dtype stay memory-mapped.

        Raises:
            ModelError: If the file was changed or damaged after it was checked.
        """
        wanted = dtype or torch.float32
        with _damage(self._path, self._part):
            # Only weights: buffers that a class computes are in no file.
            with init_empty_weights(include_buffers=False):
                model = build(loader, self._config)
            tensors = self._layout.convert(unscaled(self._numbers(), wanted), model)
            state = {name: tensors.pop(name) for name in wanted_of(model)}
            del tensors
            _cast(state, wanted, _kept_precise(loader, wanted))
            model.load_state_dict(state, assign=True, strict=False)
            if hasattr(model, "tie_weights"):
                model.tie_weights()
        return model.eval()

    def digest_into(self, digest: _Hash) -> None:
        """Update a hash with the settings, names and samples of the values."""
        digest.update(f"{self._part}/{sorted(self._config.items())}".encode())
        sample_tensors(self._path, self._entries, len(self._prefix), digest)

    def _numbers(self) -> Tensors:
        with safe_open(str(self._path), framework="pt") as file:
            return {
                name[len(self._prefix) :]: file.get_tensor(name)
                for name, entry in self._entries.items()
                if entry.dtype in _DTYPES
            }


def find_part(
    part: str, header: Header, facts: InFiles, config: dict[str, Any]
) -> FilePart | None:
    """Find a component in a file. None if the file does not contain it."""
    for prefix in (*facts.prefixes, ""):
        for layout in facts.layouts:
            if header.any(prefix + layout.start):
                return FilePart(part, header, prefix, layout, facts, config)
    return None


def _cast(state: Tensors, dtype: torch.dtype, precise: tuple[str, ...]) -> None:
    """Cast tensors in place. Shared tensors stay shared."""
    done: dict[int, Tensor] = {}
    for name, tensor in state.items():
        keep = any(piece in name for piece in precise)
        if id(tensor) not in done:
            done[id(tensor)] = tensor.to(torch.float32 if keep else dtype)
        state[name] = done[id(tensor)]


def _kept_precise(loader: Any, dtype: torch.dtype) -> tuple[str, ...]:
    """Return the layers that must stay in float32, as declared by their class."""
    kept = getattr(loader, "_keep_in_fp32_modules", None) or ()
    return tuple(kept) if dtype == torch.float16 else ()


@contextlib.contextmanager
def _damage(path: Any, part: str) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"The {part} in {path} cannot be read ({reason}). Download the file again."
        ) from error
