"""Errors and warnings of the settings, by field."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from ..._exceptions import ConfigError, ModelError
from ...config import SettingsError, TrainConfig, Violation, remarks
from ...config.checks import missing_paths
from ...config.concept import enabled_of
from ...config.packages import missing_packages
from ...config.path_text import is_hub_name
from ...config.schema import DEFAULT_OPTIMIZER
from ...families.hub_models import cached_folder, download_note
from ...methods import find_record
from .pages import all_fields, optimizer_fields

__all__ = ["Findings", "examine", "field_of", "locks", "with_machine"]


@dataclasses.dataclass(frozen=True)
class Findings:
    """Messages by field. Training can only be started if there are no errors."""

    config: TrainConfig | None
    errors: dict[str, list[str]]
    remarks: dict[str, list[str]]

    @property
    def missing(self) -> list[str]:
        """Keys of settings that must be set before training."""
        if self.config is None:
            return []
        given = {
            "base_model_name": self.config.base_model_name,
            "concepts": enabled_of(self.config.concepts),
        }
        return [key for key, value in given.items() if not value]

    @property
    def ready(self) -> bool:
        """Return whether training can be started."""
        return not self.errors and not self.missing


def examine(data: Mapping[str, Any]) -> Findings:
    """Run the checks of training, including those of paths on disk."""
    from ...config import parse_config

    method = dict(data.get("optimizer", {})).get("name", DEFAULT_OPTIMIZER)
    try:
        config = parse_config(dict(data))
    except SettingsError as error:
        return Findings(None, _by_field(error.violations, method), {})
    except ConfigError as error:
        return Findings(None, {"": [str(error)]}, {})
    found = [*missing_paths(config), *missing_packages(config)]
    noted = [*remarks(config), *_download(config)]
    return Findings(config, _by_field(found, method), _by_field(noted, method))


def with_machine(
    findings: Findings, found: Mapping[str, list[dict[str, str]]], method: str
) -> Findings:
    """Add the errors and warnings of ``stiefel-lora validate --json``.

    Args:
        findings: errors and warnings of the settings.
        found: output of the command.
        method: name of the selected optimizer.
    """
    merged = []
    for old, name in ((findings.errors, "errors"), (findings.remarks, "warnings")):
        new = {key: list(texts) for key, texts in old.items()}
        for entry in found[name]:
            texts = new.setdefault(field_of(entry["key"], method), [])
            if entry["message"] not in texts:
                texts.append(entry["message"])
        merged.append(new)
    return Findings(findings.config, *merged)


def locks(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields that are determined by another setting, with the reasons."""
    name = data.get("optimizer", {}).get("name", DEFAULT_OPTIMIZER)
    entry = find_record(name)
    found = {}
    if entry is not None and entry.alpha_policy == "rank":
        found["lora_alpha"] = (
            f"Set to the rank, because {entry.label} controls the LoRA scale."
        )
    if data.get("epochs") is not None:
        found["steps"] = "Computed from epochs when the training is started."
    return found


def field_of(key: str, method: str) -> str:
    """Return the field in which ``key`` is edited, or "".

    Args:
        key: dotted key such as ``samples.0.prompt``, whose field is ``samples``.
        method: name of the selected optimizer.
    """
    head, _, option = key.partition(".")
    if head == "optimizer" and option in {f.key for f in optimizer_fields(method)}:
        return key
    return head if head in all_fields() else ""


def _download(config: TrainConfig) -> list[Violation]:
    """Return a note about the download of the base model, if it is not cached."""
    name = config.base_model_name
    if name is None or not is_hub_name(name):
        return []
    try:
        is_here = cached_folder(name) is not None
    except ModelError as error:
        return [Violation("base_model_name", str(error))]
    note = f"Is downloaded when training starts. {download_note(name)}"
    return [] if is_here else [Violation("base_model_name", note)]


def _by_field(violations: Iterable[Violation], method: str) -> dict[str, list[str]]:
    """Group messages by field. Hints for the command line are removed."""
    found: dict[str, list[str]] = {}
    for violation in violations:
        field = field_of(violation.key, method)
        shown = dataclasses.replace(violation, example="")
        text = violation.text if violation.key == field else str(shown)
        found.setdefault(field, []).append(text)
    return found
