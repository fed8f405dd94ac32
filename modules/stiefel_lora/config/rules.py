"""Rules that a type can not say: each is a function that gives a sentence or None."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from .enums import FLOW_MODELS
from .path_text import path_problem
from .rules_family import FAMILY_RULES
from .rules_objective import OBJECTIVE_RULES
from .rules_text import TEXT_RULES

if TYPE_CHECKING:
    from .schema import TrainConfig

__all__ = ["broken_rules"]

# Names that Windows keeps for devices, whatever their ending.
RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
# A second run of the same name gets -2 at its end, the tenth -10 and so on.
_ROOM = 10


def _alpha_is_rank(config: TrainConfig) -> str | None:
    entry = config.optimizer.method
    owns_scale = entry is not None and entry.alpha_policy == "rank"
    if not owns_scale or config.resolved_alpha == config.lora_rank:
        return None
    return (
        f"lora_alpha={config.lora_alpha:g} must equal lora_rank={config.lora_rank} "
        f"with {config.optimizer.name}, which sets the scale of the LoRA itself: leave "
        f"lora_alpha out or write {config.lora_rank}."
    )


def _warmup_fits(config: TrainConfig) -> str | None:
    if config.learning_rate_warmup_steps <= config.steps:
        return None
    return (
        f"learning_rate_warmup_steps={config.learning_rate_warmup_steps} must not be "
        f"more than steps={config.steps}."
    )


def _formats_differ(config: TrainConfig) -> str | None:
    formats = config.output_formats
    if len(set(formats)) == len(formats):
        return None
    double = next(name for name in formats if formats.count(name) > 1)
    return f"output_formats names {double!r} twice: write it once."


def _run_name_is_a_folder(config: TrainConfig) -> str | None:
    name = config.run_name
    too_long = path_problem(name + "x" * _ROOM)
    bad = FORBIDDEN.search(name) or RESERVED.match(name) or name.strip(" .") != name
    if too_long and not bad:
        return (
            f"run_name={name!r} is too long for the name of a folder: use at most "
            f"{255 - _ROOM} bytes."
        )
    if not bad:
        return None
    return (
        f"run_name={name!r} can not be the name of a folder on every system: use "
        f"letters, digits, spaces inside, - and _."
    )


def _stella_starts_stella(config: TrainConfig) -> str | None:
    if config.lora_init != "stella" or config.optimizer.name == "stella":
        return None
    return (
        f"lora_init='stella' belongs to the optimizer stella, not to "
        f"{config.optimizer.name}: write auto or loi."
    )


def _loi_file_rank_fits(config: TrainConfig) -> str | None:
    rank, most = config.loi_file_rank, 2 * config.lora_rank
    if rank is None or (config.lora_init == "loi" and rank <= most):
        return None
    if config.lora_init != "loi":
        return (
            f"loi_file_rank={rank} needs lora_init='loi'; without it the file has the "
            f"rank of the LoRA: leave loi_file_rank out."
        )
    return (
        f"loi_file_rank={rank} must be at most 2 x lora_rank = {most}, which already "
        f"loses nothing."
    )


def _dora_starts_at_the_model(config: TrainConfig) -> str | None:
    if not config.use_dora or config.lora_init != "loi":
        return None
    return (
        "use_dora=true does not go with lora_init='loi': two adapters of which one is "
        "a DoRA do not add up to the model at the start. Leave one of them out."
    )


def _dora_over_int8_loses_its_scales(config: TrainConfig) -> str | None:
    if not config.use_dora or config.weight_dtype != "int8":
        return None
    return (
        "use_dora=true does not go with weight_dtype='int8': peft reads the lengths of "
        "the rows in a way that loses their scales. Write nfloat4, or leave one out."
    )


def _early_stop_has_something_to_watch(config: TrainConfig) -> str | None:
    if not config.early_stop_patience:
        return None
    if config.validate_every and config.validation_concepts:
        return None
    return (
        f"early_stop_patience={config.early_stop_patience} needs validate_every and "
        f"validation_concepts, whose loss it watches."
    )


def _flash_is_for_flux(config: TrainConfig) -> str | None:
    if config.attention_mechanism != "flash" or config.model_type in FLOW_MODELS:
        return None
    return (
        "attention_mechanism='flash' is for FLUX; the attention of "
        f"model_type={config.model_type!r} takes torch's own FlashAttention with sdp: "
        "write sdp or xformers."
    )


def _loi_has_one_rank(config: TrainConfig) -> str | None:
    own = config.rank_pattern or config.conv_rank
    if config.lora_init != "loi" or not own:
        return None
    return (
        "lora_init='loi' starts all layers at one rank: leave rank_pattern and "
        "conv_rank out, or write lora_init auto."
    )


def _optimizer_options_have_an_effect(config: TrainConfig) -> str | None:
    entry = config.optimizer.method
    if entry is None:
        return None
    given = config.optimizer.arguments()
    for option, name, value in entry.idle(given):
        return (
            f"optimizer.{option.name}={given[option.name]!r} has no effect with "
            f"optimizer.{name}={given[name]!r}: remove it, or write "
            f"optimizer.{name}={value!r}."
        )
    return None


RULES: tuple[Callable[[TrainConfig], str | None], ...] = (
    _run_name_is_a_folder,
    _warmup_fits,
    _alpha_is_rank,
    _optimizer_options_have_an_effect,
    _formats_differ,
    _stella_starts_stella,
    _loi_file_rank_fits,
    _loi_has_one_rank,
    _dora_starts_at_the_model,
    _dora_over_int8_loses_its_scales,
    _early_stop_has_something_to_watch,
    _flash_is_for_flux,
    *FAMILY_RULES,
    *OBJECTIVE_RULES,
    *TEXT_RULES,
)


def broken_rules(config: TrainConfig) -> list[str]:
    """Collect the sentences of all rules that ``config`` breaks."""
    return [sentence for rule in RULES if (sentence := rule(config))]
