"""What is wrong with the settings, at the field where it is."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from ..._exceptions import ConfigError
from ...config import TrainConfig, check_paths, remarks
from ...config.errors import located_sentences
from ...methods import CATALOGUE
from .pages import all_fields

__all__ = ["Findings", "examine", "locks"]

_KEY = re.compile(r"^([a-z_]+)")
# The command line's way out is none in a window.
_COMMAND = re.compile(r",? (?:for example|or) --set [^ ]+?(?=\.?$)")
_MODULES = {"quant": "bitsandbytes", "xformers": "xformers"}


@dataclasses.dataclass(frozen=True)
class Findings:
    """Sentences by field; an error forbids Start, a remark does not."""

    config: TrainConfig | None
    errors: dict[str, list[str]]
    remarks: dict[str, list[str]]

    @property
    def missing(self) -> list[str]:
        """Keys that must be set before a training can start."""
        if self.config is None:
            return []
        return [
            key
            for key in ("base_model_name", "concepts")
            if not getattr(self.config, key)
        ]

    @property
    def ready(self) -> bool:
        """Whether a training could start."""
        return not self.errors and not self.missing


def examine(data: Mapping[str, Any]) -> Findings:
    """Check settings as a training would, the paths on disk included."""
    from ...config import parse_config

    try:
        config = parse_config(dict(data))
    except ConfigError as error:
        cause = error.__cause__
        if not isinstance(cause, ValidationError):
            return Findings(None, _by_key([str(error)]), {})
        return Findings(None, _located(cause), {})
    found: list[str] = []
    try:
        check_paths(config)
    except ConfigError as error:
        found = str(error).splitlines()
    found += _missing_packages(config)
    return Findings(config, _by_key(found), _by_key(remarks(config)))


def locks(data: Mapping[str, Any]) -> dict[str, str]:
    """Fields that another setting decides, each with the reason."""
    name = data.get("optimizer", {}).get("name", "stiefel_lora")
    entry = CATALOGUE.get(name)
    if entry is None or entry.alpha_policy != "rank":
        return {}
    return {
        "lora_alpha": f"Follows the rank: {entry.label} sets the scale of the LoRA "
        f"itself, so alpha is always the rank."
    }


def _missing_packages(config: TrainConfig) -> list[str]:
    entry = config.optimizer.method
    module = _MODULES.get(entry.extra or "") if entry else None
    if entry is None or module is None or importlib.util.find_spec(module):
        return []
    return [
        f"optimizer: {entry.label} needs the package {module}, which is not "
        f'installed: pip install "stiefel-lora[{entry.extra}]".'
    ]


def _located(error: ValidationError) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path, sentence in located_sentences(error, list(TrainConfig.model_fields)):
        if path:
            found.setdefault(_field_key(path), []).append(sentence)
        else:
            for key, texts in _by_key(sentence.splitlines()).items():
                found.setdefault(key, []).extend(texts)
    return found


def _field_key(path: str) -> str:
    head, _, rest = path.partition(".")
    return path if head == "optimizer" and rest else head


def _by_key(sentences: Iterable[str]) -> dict[str, list[str]]:
    """Sentences by the key that they begin with; "" for those that name none."""
    found: dict[str, list[str]] = {}
    known = all_fields()
    for sentence in sentences:
        start = _KEY.match(sentence)
        key = start[1] if start and start[1] in known else _key_inside(sentence)
        sentence = _COMMAND.sub("", sentence).replace(f"{key} is not", "It is not", 1)
        found.setdefault(key, []).append(sentence)
    return found


def _key_inside(sentence: str) -> str:
    words = re.findall(r"[a-z_]+", sentence)
    return next((word for word in words if word in all_fields()), "")
