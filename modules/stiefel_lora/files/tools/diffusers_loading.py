"""Loading of a LoRA file with the installed version of diffusers.

``load_lora_weights`` is called for a pipeline on the meta device, whose adapted layers
have the shapes of the file. Then A, B and the scale of the adapters are read.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import inspect
import json
import logging
import warnings
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...families.catalogue import record_of
from ...families.record import FamilyRecord
from ..utf8_path import utf8_path
from ..weights import LoraFactors
from .layer_names import canonical_key
from .lora_file import LoraFile
from .respell import in_layout_of

__all__ = [
    "DIFFUSERS",
    "hollow_layer",
    "injected_factors",
    "is_loadable",
    "load_by_diffusers",
    "unexpected_keys",
    "without_notes",
]

DIFFUSERS = (
    f"diffusers {importlib.metadata.version('diffusers')} "
    f"with peft {importlib.metadata.version('peft')}"
)
"""Names and versions of the libraries."""

_ADAPTER = "checked"
# Text encoders are real, and so they are narrow.
_WIDTHS = {
    "vocab_size": 32,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_attention_heads": 2,
    "projection_dim": 8,
    "d_model": 64,
    "d_ff": 128,
    "num_heads": 4,
}
# Without them a pipeline remarks on parts that are left out here.
_OFF = ("requires_safety_checker", "add_watermarker")


def is_loadable(family: str) -> bool:
    """Return whether the default settings of all components are available."""
    record = record_of(family)
    parts = (record.denoiser, *record.text_readers)
    return all(_settings_file(record, part).is_file() for part in parts)


def load_by_diffusers(
    file: LoraFile,
) -> tuple[Mapping[str, LoraFactors], tuple[str, ...]]:
    """Load a LoRA file into models without weights.

    Args:
        file: LoRA file on disk.

    Returns:
        Applied factors by layer key, and the keys that diffusers does not expect.
    """
    with _quiet_transformers():
        return _loaded(file)


def _loaded(file: LoraFile) -> tuple[Mapping[str, LoraFactors], tuple[str, ...]]:
    # Those of loading are collected below.
    with without_notes():
        pipeline = _pipeline(str(file.family))
    parts = {
        name: part
        for name, part in pipeline.components.items()
        if isinstance(part, nn.Module)
    }
    for layer in in_layout_of(file, fused=False).layers:
        component, _, module = layer.name.partition(".")
        if component in parts:
            _reshape(parts[component], module, layer.factors)
    with _warnings() as messages, utf8_path(file.path) as path:
        pipeline.load_lora_weights(path, adapter_name=_ADAPTER)
    found: dict[str, LoraFactors] = {}
    for component, part in parts.items():
        for module, factors in injected_factors(part, _ADAPTER).items():
            if component.startswith("text_encoder") and module.startswith("encoder.l"):
                module = f"text_model.{module}"
            found[canonical_key(f"{component}.{module}")] = factors
    return found, tuple(key for line in messages for key in unexpected_keys(line))


def unexpected_keys(line: str) -> list[str]:
    """Return the keys in a warning of diffusers, or the warning if it contains none.

    >>> unexpected_keys("Loading led to unexpected keys found in the model: a.b, c. ")
    ['a.b', 'c']
    """
    if "unexpected keys" not in line.lower():
        return []
    listed = line.partition(": ")[2].strip().rstrip(".")
    keys = [key.strip(" []'\"") for key in listed.split(",")]
    return [key for key in keys if key] or [line]


def _reshape(model: nn.Module, path: str, factors: LoraFactors) -> None:
    """Replace a layer of a model by a layer with the shapes of the factors."""
    if path.startswith("text_model.") and not hasattr(model, "text_model"):
        path = path.removeprefix("text_model.")
    try:
        old = model.get_submodule(path)
    except AttributeError:
        return
    model.set_submodule(path, hollow_layer(factors, conv=isinstance(old, nn.Conv2d)))


def hollow_layer(factors: LoraFactors, *, conv: bool) -> nn.Module:
    """Create a layer on the CPU whose weight needs no memory.

    The meta device cannot be used, because adapters are created on the device of the
    layer.
    """
    outputs, (inputs, *kernel) = factors.up.shape[0], factors.down.shape[1:]
    height, width = kernel if len(kernel) == 2 else (1, 1)
    with torch.device("meta"):
        layer = (
            nn.Conv2d(inputs, outputs, (height, width), bias=False)
            if conv
            else nn.Linear(inputs, outputs, bias=False)
        )
    shape = (outputs, inputs, height, width) if conv else (outputs, inputs)
    empty = torch.zeros([1] * len(shape)).expand(shape)
    layer.weight = nn.Parameter(empty, requires_grad=False)
    return layer


def injected_factors(model: nn.Module, adapter: str) -> dict[str, LoraFactors]:
    """Return the factors of all peft layers by module path."""
    found = {}
    for path, module in model.named_modules():
        downs, scaling = getattr(module, "lora_A", None), getattr(module, "scaling", {})
        if not isinstance(downs, nn.ModuleDict) or adapter not in downs:
            continue
        down = _weight(downs[adapter])
        up = _weight(getattr(module, "lora_B")[adapter])  # noqa: B009
        lengths = getattr(module, "lora_magnitude_vector", {})
        magnitude = _weight(lengths[adapter]) if adapter in lengths else None
        alpha = float(scaling[adapter]) * down.shape[0]
        found[path] = LoraFactors(up, down, alpha, magnitude)
    return found


def _weight(module: Any) -> Tensor:
    return module.weight.detach()


def _settings_file(record: FamilyRecord, part: str) -> Path:
    return record.stock_folder / f"{part}.json"


def _pipeline(family: str) -> Any:
    """Create the pipeline of a family with its denoiser and text encoders."""
    record = record_of(family)
    model = record.load(record.model)
    parts: dict[str, Any] = {}
    for part in record.text_readers:
        # transformers loads adapters onto the device of the model, so this one is not
        # meta.
        encoder = model.text_models[part]
        known = json.loads(_settings_file(record, part).read_text(encoding="utf-8"))
        narrow = {key: width for key, width in _WIDTHS.items() if key in known}
        parts[part] = encoder(encoder.config_class(**{**known, **narrow}))
    known = json.loads(
        _settings_file(record, record.denoiser).read_text(encoding="utf-8")
    )
    with torch.device("meta"):
        parts[record.denoiser] = model.denoiser_class.from_config(known)
    taken = inspect.signature(model.pipeline).parameters.values()
    absent = {taker.name: None for taker in taken if taker.default is taker.empty}
    off = {taker.name: False for taker in taken if taker.name in _OFF}
    return model.pipeline(**{**absent, **off, **parts})


@contextlib.contextmanager
def without_notes() -> Generator[None, None, None]:
    """Suppress messages about optional packages while libraries are imported."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _quiet_transformers() -> Generator[None, None, None]:
    """Disable progress bars and messages of transformers."""
    from transformers.utils import logging as messages

    level, bars = messages.get_verbosity(), messages.is_progress_bar_enabled()
    messages.set_verbosity_error()
    messages.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        messages.set_verbosity(level)
        if bars:
            messages.enable_progress_bar()


@contextlib.contextmanager
def _warnings() -> Generator[list[str], None, None]:
    """Collect the warnings of diffusers and peft instead of printing them."""
    messages: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger = logging.getLogger("diffusers")
    handlers, propagates = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [], False
    logger.addHandler(Keep(logging.WARNING))
    try:
        yield messages
    finally:
        logger.handlers, logger.propagate = handlers, propagates
