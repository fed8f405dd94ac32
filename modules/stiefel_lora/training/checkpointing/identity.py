"""Check that a checkpoint and the current run have the same model and layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..._exceptions import CheckpointError
from ...config.paths import MODEL_SETTINGS
from ...data.tensor_store import cache_key
from ...runs.run_folder import NOTES_AND_PLACES

if TYPE_CHECKING:
    from ...config import TrainConfig
    from ...families.protocol import Family

__all__ = ["changed_settings", "check_identity", "run_identity"]

_WORDS = {
    "model_type": "model_type",
    "base_model": "a base model with the fingerprint",
    "rank": "lora_rank",
    "alpha": "lora_alpha",
    "rank_pattern": "rank_pattern",
    "conv_rank": "conv_rank",
    "rate_pattern": "learning_rate_pattern",
    "init": "lora_init",
    "dora": "use_dora",
    "text": "trained text encoders",
    "layers": "layers (layer_filter) with the fingerprint",
    "optimizer": "optimizer",
    "options": "optimizer options",
}
# The base model is compared by its fingerprint, independent of the location.
_INNOCENT = {*NOTES_AND_PLACES, "allow_pickled_weights", *MODEL_SETTINGS}


def run_identity(
    config: TrainConfig, family: Family, targets: Sequence[str]
) -> dict[str, Any]:
    """Return the settings that must be the same to load a checkpoint."""
    return {
        "model_type": config.model_type,
        "base_model": family.base_fingerprint[:12],
        "rank": config.lora_rank,
        "alpha": config.resolved_alpha,
        # None if nothing is set, as in checkpoints from before there were patterns.
        "rank_pattern": config.rank_pattern or None,
        "conv_rank": config.conv_rank,
        # The state of the optimizer is stored by parameter group.
        "rate_pattern": config.learning_rate_pattern or None,
        "init": config.lora_init,
        "dora": config.use_dora,
        "text": _text_identity(config, family),
        "layers": cache_key(names="\n".join(targets))[:12],
        "optimizer": getattr(config.optimizer, "class_path", config.optimizer.name),
        "options": config.optimizer.arguments(),
    }


def _text_identity(config: TrainConfig, family: Family) -> list[str] | None:
    """Return the identity of trained text encoders, or None if none is trained."""
    trained = [*config.text_encoder_rates]
    return [*trained, family.text_fingerprint[:12]] if trained else None


def check_identity(found: dict[str, Any], own: dict[str, Any], path: Path) -> None:
    """Check that a checkpoint has the same identity as this run.

    Raises:
        CheckpointError: If a value differs.
    """
    for key, value in own.items():
        if found.get(key) != value:
            raise CheckpointError(
                f"The checkpoint {path} has {_WORDS[key]} {found.get(key)!r}, but "
                f"this run has {value!r}. Resume with the settings of the "
                "checkpoint, or start a new run without --resume."
            )


def changed_settings(before: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """Return the settings of a resumed run that have been changed."""
    return {
        key: f"{before[key]} -> {value}"
        for key, value in now.items()
        if key in before and before[key] != value and key not in _INNOCENT
    }
