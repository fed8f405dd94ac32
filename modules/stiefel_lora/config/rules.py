"""Rules between settings, which types cannot express."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..families.catalogue import listed, records
from .path_text import path_problem
from .resolved import Settings
from .rules_family import FAMILY_RULES
from .rules_objective import OBJECTIVE_RULES
from .rules_text import TEXT_RULES
from .violation import Violation

__all__ = ["violations_of"]

# Names that Windows reserves for devices, with any extension.
RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
# A second run of the same name is called NAME-2, the tenth NAME-10.
_ROOM = 10


def _alpha_is_rank(config: Settings) -> Violation | None:
    entry = config.optimizer.method
    owns_scale = entry is not None and entry.alpha_policy == "rank"
    if not owns_scale or config.resolved_alpha == config.lora_rank:
        return None
    return Violation(
        "lora_alpha",
        f"must equal lora_rank={config.lora_rank}, not {config.lora_alpha:g}, with "
        f"{config.optimizer.name}, which sets the scale of the LoRA itself",
        f"Leave lora_alpha out or write {config.lora_rank}",
    )


def _warmup_fits(config: Settings) -> Violation | None:
    warmup = config.learning_rate_warmup_steps
    if warmup <= config.steps:
        return None
    return Violation(
        "learning_rate_warmup_steps",
        f"must not be more than steps={config.steps}, as {warmup} is",
        f"Write at most {config.steps}",
    )


def _formats_differ(config: Settings) -> Violation | None:
    formats = config.output_formats
    if len(set(formats)) == len(formats):
        return None
    double = next(name for name in formats if formats.count(name) > 1)
    return Violation("output_formats", f"names {double!r} twice", "Write it once")


def _run_name_is_a_folder(config: Settings) -> Violation | None:
    name = config.run_name
    too_long = path_problem(name + "x" * _ROOM)
    bad = FORBIDDEN.search(name) or RESERVED.match(name) or name.strip(" .") != name
    if too_long and not bad:
        return Violation(
            "run_name",
            f"{name!r} is too long for the name of a folder",
            f"Use at most {255 - _ROOM} bytes",
        )
    if not bad:
        return None
    return Violation(
        "run_name",
        f"{name!r} cannot be the name of a folder on every system",
        "Use letters, digits, spaces inside, - and _",
    )


def _stella_starts_stella(config: Settings) -> Violation | None:
    if config.lora_init != "stella" or config.optimizer.name == "stella":
        return None
    return Violation(
        "lora_init",
        f"'stella' belongs to the optimizer stella, not to {config.optimizer.name}",
        "Write auto or loi",
    )


def _loi_file_rank_fits(config: Settings) -> Violation | None:
    rank, most = config.loi_file_rank, 2 * config.lora_rank
    if rank is None or (config.lora_init == "loi" and rank <= most):
        return None
    if config.lora_init != "loi":
        return Violation(
            "loi_file_rank",
            f"{rank} needs lora_init='loi'; without it the file has the rank of the "
            f"LoRA",
            "Leave loi_file_rank out",
        )
    return Violation(
        "loi_file_rank",
        f"must be at most 2 x lora_rank = {most}, which already loses nothing, not "
        f"{rank}",
        f"Write at most {most}, or leave it out",
    )


def _dora_starts_at_the_model(config: Settings) -> Violation | None:
    if not config.use_dora or config.lora_init != "loi":
        return None
    return Violation(
        "use_dora",
        "does not work with lora_init='loi': two adapters, one of them a DoRA, do not "
        "add up to the base model at the start",
        "Leave one of them out",
    )


def _dora_over_int8_loses_its_scales(config: Settings) -> Violation | None:
    if not config.use_dora or config.weight_dtype != "int8":
        return None
    return Violation(
        "use_dora",
        "does not work with weight_dtype='int8': peft reads the norms of the rows "
        "without their scales",
        "Write weight_dtype nfloat4, or leave one of them out",
    )


def _early_stop_has_something_to_watch(config: Settings) -> Violation | None:
    if not config.early_stop_patience:
        return None
    missing = [] if config.validate_every else ["validate_every"]
    if not config.has_validation_images:
        missing.append("validation_split (or validation_concepts)")
    if not missing:
        return None
    return Violation(
        "early_stop_patience",
        f"{config.early_stop_patience} needs validate_every and validation images, "
        f"whose loss it monitors",
        f"Set {' and '.join(missing)}, or leave early_stop_patience out",
    )


def _split_is_measured(config: Settings) -> Violation | None:
    if not config.validation_split or config.validate_every:
        return None
    return Violation(
        "validation_split",
        f"{config.validation_split:g} has no effect while validate_every is 0: the "
        "images would not be used at all",
        "Set validate_every, or leave validation_split out",
    )


def _flash_needs_a_dispatcher(config: Settings) -> Violation | None:
    if config.attention_mechanism != "flash" or config.family.dispatches_attention:
        return None
    able = listed(r.short_label for r in records() if r.dispatches_attention)
    return Violation(
        "attention_mechanism",
        f"'flash' is for {able}; with model_type={config.model_type!r}, sdp uses "
        f"torch's own FlashAttention",
        "Write sdp or xformers",
    )


def _loi_has_one_rank(config: Settings) -> Violation | None:
    if config.lora_init != "loi":
        return None
    for key in ("rank_pattern", "conv_rank"):
        if getattr(config, key):
            return Violation(
                key,
                "does not work with lora_init='loi', which starts all layers at one "
                "rank",
                f"Leave {key} out, or write lora_init auto",
            )
    return None


def _optimizer_options_have_an_effect(config: Settings) -> Violation | None:
    entry = config.optimizer.method
    if entry is None:
        return None
    given = config.optimizer.arguments()
    for option, name, value in entry.idle(given):
        return Violation(
            f"optimizer.{option.name}",
            f"{given[option.name]!r} has no effect with "
            f"optimizer.{name}={given[name]!r}",
            f"Remove it, or write optimizer.{name}={value!r}",
        )
    return None


RULES: tuple[Callable[[Settings], Violation | None], ...] = (
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
    _split_is_measured,
    _flash_needs_a_dispatcher,
    *FAMILY_RULES,
    *OBJECTIVE_RULES,
    *TEXT_RULES,
)


def violations_of(config: Settings) -> list[Violation]:
    """Collect the rules that ``config`` breaks, at most one violation per rule."""
    return [found for rule in RULES if (found := rule(config))]
