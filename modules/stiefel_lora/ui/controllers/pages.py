"""Assignment of settings to the tabs of the GUI."""

from __future__ import annotations

import dataclasses
import functools

from ...config import TrainConfig
from ...config.optimizer import OPTIMIZER_MODELS, OptimizerConfig
from ...config.settings import SETTING_GROUPS
from .fields import Field, fields_of

__all__ = [
    "BASIC",
    "TABS",
    "Section",
    "all_fields",
    "label_of",
    "optimizer_fields",
    "sections",
]

TABS = ("General", "Data", "Training", "LoRA", "Optimizer", "Sampling")
"""Tabs with settings."""

_TOPICS = {
    "GeneralSettings": ("General", "Run"),
    "ModelSettings": ("General", "Model"),
    "SavingSettings": ("General", "Output"),
    "DataSettings": ("Data", "Images"),
    "OptimizationSettings": ("Training", "Batch size and steps"),
    "LoraSettings": ("LoRA", "LoRA"),
    "WatchingSettings": ("Training", "Logging and validation"),
}
# Settings that are shown elsewhere than their group, by key prefix.
_MOVED = (
    ("optimizer", ("Optimizer", "Optimizer")),
    ("plugins", ("Optimizer", "Plugins")),
    ("learning_rate", ("Optimizer", "Learning rate")),
    ("clip_grad_norm", ("Optimizer", "Learning rate")),
    ("sample", ("Sampling", "Sample images")),
)
_HIDDEN = ("schema_version",)
BASIC = (
    "run_name",
    "output_dir",
    "model_type",
    "base_model_name",
    "weight_dtype",
    "checkpoint_every",
    "output_formats",
    "concepts",
    "trigger_word",
    "resolution",
    "validation_split",
    "batch_size",
    "steps",
    "epochs",
    "gradient_checkpointing",
    "validate_every",
    "lora_rank",
    "lora_alpha",
    "layer_filter_preset",
    "learning_rate",
    "learning_rate_scheduler",
    "learning_rate_warmup_steps",
    "sample_every",
    "samples",
)
"""Settings that most users change, which come first in their sections. All others are
advanced."""


@dataclasses.dataclass(frozen=True)
class Section:
    """Group of fields on a tab, with a title."""

    tab: str
    title: str
    fields: tuple[Field, ...]


@functools.cache
def all_fields() -> dict[str, Field]:
    """Return all settings by key."""
    schema = TrainConfig.model_json_schema(by_alias=True, mode="serialization")
    found = fields_of(schema, schema.get("$defs", {}))
    return {field.key: field for field in found if field.key not in _HIDDEN}


def optimizer_fields(name: str) -> tuple[Field, ...]:
    """Return the options of an optimizer. Empty if its plugin is not available."""
    model = OPTIMIZER_MODELS.get(name)
    return () if model is None else _fields_of_model(model)


def label_of(key: str, method: str) -> str:
    """Return the label of a setting, or of an optimizer option of ``method``.

    >>> label_of("lora_rank", "adamw"), label_of("optimizer.eps", "adamw")
    ('LoRA rank', 'EPS')
    """
    head, _, option = key.partition(".")
    known = {field.key: field for field in optimizer_fields(method)}
    if option in known:
        return known[option].label
    return all_fields()[head].label if head in all_fields() else key


@functools.cache
def _fields_of_model(model: type[OptimizerConfig]) -> tuple[Field, ...]:
    schema = model.model_json_schema(by_alias=True, mode="serialization")
    return fields_of(schema, schema.get("$defs", {}))


@functools.cache
def sections() -> tuple[Section, ...]:
    """Return the sections with all fields: basic ones first, then as in the schema."""
    found: dict[tuple[str, str], list[Field]] = {}
    topics = _topic_of_key()
    for key, field in all_fields().items():
        found.setdefault(_place(key, topics[key]), []).append(field)
    return tuple(
        Section(tab, title, tuple(sorted(fields, key=_basic_first)))
        for (tab, title), fields in found.items()
    )


def _basic_first(field: Field) -> int:
    return BASIC.index(field.key) if field.key in BASIC else len(BASIC)


def _topic_of_key() -> dict[str, str]:
    return {
        key: group.__name__
        for group in SETTING_GROUPS
        for key in group.__annotations__
        if key in group.model_fields
    }


def _place(key: str, topic: str) -> tuple[str, str]:
    if key.endswith("_model_name") and key != "base_model_name":
        return "General", "Model component overrides"
    for start, place in _MOVED:
        if key.startswith(start):
            return place
    if topic in _TOPICS:
        return _TOPICS[topic]
    # A new group of the schema gets a section on the Training tab.
    return "Training", topic.removesuffix("Settings")
