"""Training settings and trigger words from the metadata of a LoRA file."""

from __future__ import annotations

import collections
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["frequent_tags", "training_notes", "trigger_words"]

# Metadata entry -> label in a report.
_TRAINING = {
    "modelspec.title": "title",
    "ss_output_name": "title",
    "modelspec.architecture": "architecture",
    "ss_base_model_version": "base version",
    "ss_sd_model_name": "base model",
    "ss_network_module": "network module",
    "ss_network_dim": "network dim",
    "ss_network_alpha": "network alpha",
    "ss_network_args": "network arguments",
    "ss_optimizer": "optimizer",
    "ss_learning_rate": "learning rate",
    "ss_steps": "steps",
    "ss_epoch": "epochs",
    "ss_num_train_images": "images",
    "ss_resolution": "resolution",
    "ss_training_comment": "comment",
    "modelspec.date": "date",
    "stiefel_lora_version": "stiefel-lora",
}
_FEW = 5


def training_notes(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the training settings by label."""
    found: dict[str, str] = {}
    for entry, name in _TRAINING.items():
        text = metadata.get(entry, "").strip()
        if text and text not in ("None", "{}"):
            found.setdefault(name, text)
    return found


def trigger_words(metadata: Mapping[str, str]) -> list[str]:
    """Return the trigger phrase of the metadata. Empty if there is none."""
    phrase = metadata.get("modelspec.trigger_phrase", "").strip()
    return [phrase] if phrase else []


def frequent_tags(metadata: Mapping[str, str]) -> list[str]:
    """Return the names of image folders and the five most frequent tags of captions.

    The names of folders in sd-scripts are ``<repeats>_<words>``. One of the words is
    often the trigger word.
    """
    counts: collections.Counter[str] = collections.Counter()
    words: list[str] = []
    for folder, tags in _object(metadata.get("ss_tag_frequency", "")).items():
        repeats, _, name = folder.partition("_")
        if repeats.isdigit() and name:
            words.append(name)
        for tag, count in (tags if isinstance(tags, dict) else {}).items():
            counts[tag.strip()] += count if isinstance(count, int) else 0
    tags = [tag for tag, _ in counts.most_common(_FEW)]
    return list(dict.fromkeys([*words, *tags]))


def _object(text: str) -> dict[str, Any]:
    """Parse a JSON object. Return an empty dict if it is invalid."""
    try:
        found = json.loads(text) if text else {}
    except (RecursionError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
