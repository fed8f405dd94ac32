"""Search for the components of the base model of a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .._exceptions import ModelError
from ..config.settings.model import PART_SETTINGS
from .base_model import Base, FileBase, FolderBase, check_folder
from .facts import FamilyFacts
from .fits import check_fits, check_tokenizer
from .folder_part import FolderPart
from .hub import model_from_hub
from .separate import separate_part
from .source import ModelSource, PartSource
from .supplied_parts import SettingsPart, with_zero_terminal_snr

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["find_model"]


def find_model(
    config: TrainConfig,
    facts: FamilyFacts,
    others: Sequence[FamilyFacts],
    *,
    download: bool,
) -> ModelSource | None:
    """Find and check the components of the base model. Weights are not read.

    Args:
        config: configuration with the base model and overrides of components.
        facts: properties of the family.
        others: properties of other families, to identify another model.
        download: whether to download missing files from the Hugging Face Hub. If False,
            None is returned.

    Raises:
        ModelError: If a component is missing, damaged, incomplete or of another family.
    """
    named = _named_parts(config, facts)
    base = _open_base(config, facts, others, list(named), download)
    if base is None:
        return None
    parts: dict[str, PartSource | None] = {}
    for part in facts.parts:
        if part not in named:
            parts[part] = base.part(part)
            continue
        settings = {} if part.startswith("tokenizer") else base.settings(part)
        found = separate_part(
            part,
            named[part],
            facts,
            settings,
            download=download,
            allow_pickled=config.allow_pickled_weights,
        )
        if found is None:
            return None
        parts[part] = found
    complete = _complete(config, parts, facts.sources)
    check_fits(facts.fits, {part: complete[part].config() for part in facts.files})
    _check_tokenizers(facts, complete)
    complete["scheduler"] = _scheduler(config, complete["scheduler"])
    return ModelSource(str(config.base_model_name), complete)


def _scheduler(config: TrainConfig, found: PartSource) -> PartSource:
    """Return the scheduler with the settings of the configuration.

    Raises:
        ModelError: If zero-terminal SNR is set for a model that predicts the noise.
    """
    if config.prediction_type == "auto" and not config.zero_terminal_snr:
        return found
    changed = found.config()
    if config.prediction_type != "auto":
        changed["prediction_type"] = config.prediction_type
    if config.zero_terminal_snr:
        kind = changed.get("prediction_type", "epsilon")
        if kind != "v_prediction":
            raise ModelError(
                f"zero_terminal_snr: the base model {config.base_model_name} has the "
                f"prediction type {kind!r}, but only v-prediction models are "
                "supported. Set prediction_type to v_prediction if it is one, or "
                "remove zero_terminal_snr."
            )
        changed = with_zero_terminal_snr(changed)
    return SettingsPart(changed)


def _check_tokenizers(facts: FamilyFacts, parts: Mapping[str, PartSource]) -> None:
    """Check that tokenizers match their text encoders.

    Raises:
        ModelError: If a tokenizer does not match its text encoder or the other
            tokenizer.
    """
    lengths: dict[str, int] = {}
    for part, loader in facts.tokenizers.items():
        encoder = parts[part.replace("tokenizer", "text_encoder")].config()
        if isinstance(parts[part], FolderPart):
            tokenizer = parts[part].load(loader, None)
            check_tokenizer(part, tokenizer, encoder)
            length = tokenizer.model_max_length
        else:
            length = parts[part].config()["model_max_length"]
        # T5 has no positions; its output is never concatenated with CLIP's.
        if "max_position_embeddings" in encoder:
            lengths[part] = length
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{part} makes {n}" for part, n in lengths.items())
        raise ModelError(
            f"{facts.label} uses the same sequence length for all text encoders, "
            f"but {found}. Correct model_max_length in tokenizer_config.json, or "
            "download it again."
        )


def _named_parts(config: TrainConfig, facts: FamilyFacts) -> dict[str, str]:
    """Return the overrides of components in a configuration."""
    given = {part: getattr(config, f"{part}_model_name") for part in PART_SETTINGS}
    named = {part: name for part, name in given.items() if name}
    strange = next((part for part in named if part not in facts.parts), None)
    if strange is not None:
        raise ModelError(
            f"{strange}_model_name is set, but {facts.label} models have no "
            f"{strange}. Remove it."
        )
    return named


def _open_base(
    config: TrainConfig,
    facts: FamilyFacts,
    others: Sequence[FamilyFacts],
    named: Sequence[str],
    download: bool,
) -> Base | None:
    name = config.base_model_name
    if not name:
        raise ModelError(
            "base_model_name is not set. Use a .safetensors checkpoint, a diffusers "
            "folder, or a model on the Hugging Face Hub."
        )
    path = Path(name)
    if path.is_file():
        return FileBase(path, facts, others, named)
    folder = path if path.is_dir() else model_from_hub(name, download=download)
    if folder is None:
        return None
    check_folder(folder, facts, others, named)
    return FolderBase(folder, facts, allow_pickled=config.allow_pickled_weights)


def _complete(
    config: TrainConfig,
    parts: Mapping[str, PartSource | None],
    sources: Mapping[str, str],
) -> dict[str, PartSource]:
    missing = [part for part, found in parts.items() if found is None]
    if not missing:
        return {part: found for part, found in parts.items() if found is not None}
    keys = " and ".join(f"{part}_model_name" for part in missing)
    has = "them" if len(missing) > 1 else "it"
    hint = "".join(f". {text}" for part, text in sources.items() if part in missing)
    raise ModelError(
        f"{config.base_model_name} contains no {', '.join(missing)}. Set {keys} to "
        f"a file, folder or model on the Hugging Face Hub that contains {has}{hint}."
    )
