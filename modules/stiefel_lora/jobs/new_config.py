"""A first configuration from three answers: what to learn, images, GPU memory.

Values are common practice unless their reason names another source
(docs/questions/advice.md).
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal, get_args

from .._exceptions import ConfigError
from .._wording import counted
from ..config import Concept, TrainConfig, load_config
from ..config.path_text import path_problem, safe_name
from ..config.presets import Preset, list_presets
from ..config.trigger import with_trigger
from ..data.folder import scan_concepts
from ..families.catalogue import DEFAULT

__all__ = ["KINDS", "Kind", "Proposal", "propose"]

Kind = Literal["style", "character", "concept"]
KINDS: tuple[Kind, ...] = get_args(Kind)

OPTIMIZER = "stiefel_lora"
# Number of times that each image is used, and the highest rank.
_VISITS: dict[Kind, int] = {"style": 60, "character": 100, "concept": 100}
_RANK: dict[Kind, int] = {"style": 32, "character": 16, "concept": 16}
# Learning rates of Stiefel LoRA for up to _FEW steps (docs/evidence.md: 120 and 400
# steps on small models). Longer runs use that of the preset.
_RATE: dict[Kind, float] = {"style": 0.02, "character": 0.04, "concept": 0.04}
_FEW = 1000
_WARMUP = "5 %"
_FEWEST_STEPS = 300
# Rounds of samples and checkpoints in a run.
_ROUNDS = 8
# Images from which a tenth can be spared for validation.
_ENOUGH = 20
_RARE_WORD = "ohwx"


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A configuration file and the reasons for its values."""

    data: dict[str, Any]
    """Content of the file. It extends a preset, by name."""

    reasons: dict[str, str]
    """Key -> one line: its value and why."""

    name: str
    """Name for the file and the run, from the name of the folder."""


def propose(
    kind: Kind,
    folder: Path,
    *,
    vram: int,
    family: str = DEFAULT,
    trigger_word: str | None = None,
) -> Proposal:
    """Propose a configuration.

    Args:
        kind: what the LoRA is to learn.
        folder: folder with the training images.
        vram: GPU memory in GB.
        family: family of the base model.
        trigger_word: word that calls up the LoRA. If None, one is chosen for
            characters and concepts.

    Raises:
        ConfigError: If no preset fits, or the folder cannot be part of a path.
        DataError: If the folder contains no images, or captions cannot be read.
    """
    preset = _preset_for(family, vram)
    base = load_config(preset.path)
    folder = _resolved(folder)
    scan = scan_concepts([Concept(path=folder)])
    images = len(scan.images)
    steps, about_steps = _steps(kind, images, base)
    rank = min(base.lora_rank, _RANK[kind])
    word, about_word = _word(kind, trigger_word)
    rate = _RATE[kind] if steps <= _FEW else base.learning_rate
    every = max(10, round(steps / _ROUNDS / 10) * 10)
    split = images >= _ENOUGH
    data: dict[str, Any] = {
        "schema_version": base.schema_version,
        "comment": f"{kind.capitalize()} from {counted(images, 'image', 'images')}, "
        "made by stiefel-lora new.",
        "extends": preset.name,
        "concepts": [{"path": str(folder)}],
        **({"trigger_word": word} if word else {"samples": _without_word(base)}),
        **({"validation_split": 0.1} if split else {}),
        "resolution": base.resolution,
        "steps": steps,
        "learning_rate": rate,
        "learning_rate_warmup_steps": _WARMUP,
        "layer_filter_preset": base.layer_filter_preset,
        "lora_rank": rank,
        "validate_every": every if split else 0,
        "sample_every": every,
        "checkpoint_every": every,
    }
    reasons = _reasons(kind, preset, base, data) | {
        "steps": about_steps,
        "trigger_word": about_word,
    }
    order = ("extends", "steps")
    reasons = {key: reasons[key] for key in (*order, *reasons) if key in reasons}
    return Proposal(data, reasons, safe_name(folder.name))


def _resolved(folder: Path) -> Path:
    problem = path_problem(str(folder))
    if problem:
        raise ConfigError(f"images: {problem}, but got {str(folder)!a}.")
    try:
        return folder.expanduser().resolve()
    # A home folder of an unknown user, or links in a circle before Python 3.13.
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"images: {folder} cannot be opened ({error}). Give another folder."
        ) from None


def _reasons(
    kind: Kind, preset: Preset, base: TrainConfig, data: dict[str, Any]
) -> dict[str, str]:
    """Return the reasons for all values but steps and trigger word."""
    rank, rate, every = (
        data[key] for key in ("lora_rank", "learning_rate", "sample_every")
    )
    if rank < _RANK[kind]:
        about_rank = "that of the preset, for the memory"
    elif kind == "style":
        about_rank = "a style changes more than a subject, common practice"
    else:
        about_rank = "enough for one subject, and a small file, common practice"
    learned = "a style" if kind == "style" else "new concepts"
    return {
        "extends": f"{preset.name}: the largest preset for this memory; its base "
        f"model is {base.base_model_name}",
        "lora_rank": f"{rank}: {about_rank}",
        "layer_filter_preset": f"{base.layer_filter_preset}: attention and "
        "feed-forward layers, the usual choice of other trainers",
        "resolution": f"{base.resolution}: that of the base model, or less where the "
        "memory requires it",
        "optimizer": f"{OPTIMIZER}: a lower validation loss than AdamW on the demos "
        "(docs/evidence.md)",
        "learning_rate": f"{rate:g}: "
        + (
            f"the best for {learned} on small models (docs/evidence.md); halve it if "
            "samples are broken"
            if data["steps"] <= _FEW
            else f"as in the preset, for more than {_FEW} steps"
        ),
        "learning_rate_warmup_steps": f"{_WARMUP} of the steps, common practice",
        "validation_split": "0.1: a tenth of the images shows when the LoRA overfits"
        if "validation_split" in data
        else f"0: fewer than {_ENOUGH} images, so all are needed for training",
        "sample_every": f"{every}: {_ROUNDS} rounds of samples and checkpoints",
    }


def _preset_for(family: str, vram: int) -> Preset:
    """Return the preset for the largest GPU that is not larger than the given one."""
    known = [
        preset
        for preset in list_presets()
        if preset.family.lower() == family.lower()
        and preset.optimizer == OPTIMIZER
        and preset.memory_gb is not None
    ]
    if not known:
        families = sorted({p.family.lower() for p in list_presets() if p.memory_gb})
        raise ConfigError(
            f"family: must be one of {', '.join(families)}, but got {family!r}."
        )
    fitting = [preset for preset in known if (preset.memory_gb or 0) <= vram]
    if not fitting:
        least = min(preset.memory_gb or 0 for preset in known)
        raise ConfigError(
            f"GPU memory (vram): must be at least {least} GB for {family.lower()}, but "
            f"got {vram}. "
            "Use a smaller base model, or write a configuration by hand."
        )
    return max(fitting, key=lambda preset: preset.memory_gb or 0)


def _steps(kind: Kind, images: int, base: TrainConfig) -> tuple[int, str]:
    batch = base.batch_size * base.gradient_accumulation_steps
    visits = _VISITS[kind]
    wanted = math.ceil(images * visits / batch / 10) * 10
    steps = min(max(wanted, _FEWEST_STEPS), base.steps)
    limit = ""
    if wanted < steps:
        limit = f", at least {_FEWEST_STEPS}"
    elif wanted > steps:
        limit = f", at most the {base.steps} of the preset"
    return steps, (
        f"{steps}: {counted(images, 'image', 'images')} x {visits} times / {batch} per "
        f"step{limit}, common practice"
    )


def _without_word(base: TrainConfig) -> list[dict[str, Any]]:
    """Return the sample prompts of the preset without the placeholder of the word."""
    return [
        sample.model_dump(exclude_unset=True)
        | {"prompt": with_trigger(sample.prompt, None)}
        for sample in base.samples
    ]


def _word(kind: Kind, given: str | None) -> tuple[str | None, str]:
    if given:
        return given, f"{given}: as given; it is put into captions and sample prompts"
    if kind == "style":
        return None, "unset: the style is to apply to every prompt"
    return _RARE_WORD, (
        f"{_RARE_WORD}: a rare word, which the base model does not connect with "
        "anything (as in DreamBooth)"
    )
