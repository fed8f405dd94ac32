"""Rules about combinations of settings."""

from __future__ import annotations

from collections.abc import Callable

from ..families.catalogue import listed, records
from ..methods import PackagedMethod, decay_excess
from .interval import is_in
from .parts import listed_twice
from .path_text import FORBIDDEN, RESERVED, path_problem
from .resolved import Settings
from .rules_family import FAMILY_RULES
from .rules_lora import LORA_RULES
from .rules_objective import OBJECTIVE_RULES
from .rules_text import TEXT_RULES
from .violation import Violation

__all__ = ["violations_of"]

# A second run of the same name is called NAME-2, the tenth NAME-10.
_ROOM = 10


def _alpha_is_rank(config: Settings) -> Violation | None:
    entry = config.optimizer.method
    owns_scale = entry is not None and entry.alpha_policy == "rank"
    if not owns_scale or config.resolved_alpha == config.lora_rank:
        return None
    return Violation(
        "lora_alpha",
        f"must be equal to lora_rank={config.lora_rank} because "
        f"{config.optimizer.name} controls the scale of the LoRA, but got "
        f"{config.lora_alpha:g}",
        f"Set lora_alpha to {config.lora_rank} or remove it",
    )


def _warmup_fits(config: Settings) -> Violation | None:
    warmup = config.learning_rate_warmup_steps
    # With epochs, this is checked once the steps are known. A share always fits.
    unknown = config.epochs is not None or isinstance(warmup, str)
    if unknown or warmup <= config.steps:
        return None
    return Violation(
        "learning_rate_warmup_steps",
        f"must be at most steps={config.steps}, but got {warmup}",
        f"Use at most {config.steps}",
    )


def _one_length(config: Settings) -> Violation | None:
    if config.epochs is None or "steps" not in config.model_fields_set:
        return None
    return Violation(
        "epochs",
        f"{config.epochs:g} is set together with steps={config.steps}, and both "
        "determine the length of the run",
        "Remove one of them",
    )


def _starts_once(config: Settings) -> Violation | None:
    if not config.lora_model_name or config.lora_init == "auto":
        return None
    return Violation(
        "lora_model_name",
        f"is not supported with lora_init={config.lora_init!r}, because both set the "
        "weights of the LoRA at step 0",
        "Set lora_init to auto, or remove lora_model_name",
    )


def _formats_differ(config: Settings) -> Violation | None:
    formats = config.output_formats
    if len(set(formats)) == len(formats):
        return None
    double = next(name for name in formats if formats.count(name) > 1)
    return Violation(
        "output_formats", f"contains {double!r} twice", "Remove one of them"
    )


def _output_dtypes_differ(config: Settings) -> Violation | None:
    known = [config.output_dtype]
    for name in config.extra_output_dtypes:
        if name in known:
            return Violation(
                "extra_output_dtypes",
                f"contains {name!r}, in which the LoRA is already saved",
                "Remove it",
            )
        known.append(name)
    return None


def _extra_resolutions_differ(config: Settings) -> Violation | None:
    extra = config.extra_resolutions
    if config.resolution in extra:
        return Violation(
            "extra_resolutions",
            f"contains {config.resolution}, which is also resolution",
            "Remove it",
        )
    return listed_twice("extra_resolutions", extra)


def _run_name_is_a_folder(config: Settings) -> Violation | None:
    name = config.run_name
    too_long = path_problem(name + "x" * _ROOM)
    bad = FORBIDDEN.search(name) or RESERVED.match(name) or name.strip(" .") != name
    if too_long and not bad:
        return Violation(
            "run_name",
            f"{name!r} is too long for a folder name",
            f"Use at most {255 - _ROOM} bytes",
        )
    if not bad:
        return None
    return Violation(
        "run_name",
        f"{name!r} is not a valid folder name on all operating systems",
        "Use letters, digits, - and _. Spaces are allowed inside the name",
    )


def _stella_starts_stella(config: Settings) -> Violation | None:
    if config.lora_init != "stella" or config.optimizer.name == "stella":
        return None
    return Violation(
        "lora_init",
        "'stella' is only supported by the optimizer stella, but the optimizer is "
        f"{config.optimizer.name}",
        "Use auto or loi",
    )


def _loi_file_rank_fits(config: Settings) -> Violation | None:
    rank, most = config.loi_file_rank, 2 * config.lora_rank
    if rank is None or (config.lora_init == "loi" and rank <= most):
        return None
    if config.lora_init != "loi":
        return Violation(
            "loi_file_rank",
            f"{rank} is only supported with lora_init='loi'. Without it, the saved "
            "file always has the rank of the LoRA",
            "Remove loi_file_rank",
        )
    return Violation(
        "loi_file_rank",
        f"must be at most 2 x lora_rank = {most}, but got {rank}. The conversion is "
        "already exact at this rank",
        f"Use at most {most}, or remove it",
    )


def _dora_starts_at_the_model(config: Settings) -> Violation | None:
    if not config.use_dora or config.lora_init != "loi":
        return None
    return Violation(
        "use_dora",
        "is not supported with lora_init='loi', because the sum of a DoRA and a "
        "second adapter is not the base model at the start of training",
        "Remove one of them",
    )


def _dora_over_int8_loses_its_scales(config: Settings) -> Violation | None:
    if not config.use_dora or config.weight_dtype != "int8":
        return None
    return Violation(
        "use_dora",
        "is not supported with weight_dtype='int8', because peft ignores the scales "
        "when it computes the weight norms",
        "Set weight_dtype to nfloat4, or remove one of them",
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
        f"{config.early_stop_patience} has no effect without validate_every and "
        "validation images",
        f"Set {' and '.join(missing)}, or remove early_stop_patience",
    )


def _early_stop_is_reproducible(config: Settings) -> Violation | None:
    if not config.early_stop_patience or not is_in(config.validate_every, "minutes"):
        return None
    return Violation(
        "validate_every",
        f"{config.validate_every!r} is not supported with early_stop_patience, because "
        "the step at which the run stops would depend on the speed of the machine",
        "Use steps or epochs",
    )


def _split_is_measured(config: Settings) -> Violation | None:
    if not config.validation_split or config.validate_every:
        return None
    return Violation(
        "validation_split",
        f"{config.validation_split:g} has no effect if validate_every is 0, and the "
        "images of the split would not be used",
        "Set validate_every, or remove validation_split",
    )


def _flash_needs_a_dispatcher(config: Settings) -> Violation | None:
    if config.attention_mechanism != "flash" or config.family.dispatches_attention:
        return None
    able = listed(r.short_label for r in records() if r.dispatches_attention)
    return Violation(
        "attention_mechanism",
        f"'flash' is only supported for {able}. With "
        f"model_type={config.model_type!r}, sdp uses the FlashAttention of torch",
        "Use sdp or xformers",
    )


def _loi_has_one_rank(config: Settings) -> Violation | None:
    if config.lora_init != "loi":
        return None
    for key in ("rank_pattern", "conv_rank"):
        if getattr(config, key):
            return Violation(
                key,
                "is not supported with lora_init='loi', which requires the same "
                "rank for all layers",
                f"Remove {key}, or set lora_init to auto",
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
            f"{given[option.name]!r} has no effect if optimizer.{name} is "
            f"{given[name]!r}",
            f"Remove it, or set optimizer.{name} to {value!r}",
        )
    return None


def _decay_keeps_the_sign(config: Settings) -> Violation | None:
    entry = config.optimizer.method
    # Their decay may be multiplied by an estimate instead.
    if entry is None or isinstance(entry, PackagedMethod):
        return None
    rate = config.learning_rate * max((1.0, *config.learning_rate_pattern.values()))
    rate = max((rate, *config.text_encoder_rates.values()))
    ranks = (config.lora_rank, config.conv_rank, *config.rank_pattern.values())
    rank = min((rank for rank in ranks if rank), default=None)
    found = decay_excess(entry, rate, config.optimizer.arguments(), rank)
    if found is None:
        return None
    message, _, fix = found.message.rpartition(". ")
    return Violation(f"optimizer.{found.option}", message, fix)


def _estimate_has_one_rate(config: Settings) -> Violation | None:
    entry = config.optimizer.method
    if not isinstance(entry, PackagedMethod) or not entry.one_rate:
        return None
    rate = config.learning_rate
    reason = f"because {entry.label} estimates one learning rate for all parameters"
    for part, other in config.text_encoder_rates.items():
        if other != rate:
            return Violation(
                f"{part}_learning_rate",
                f"must be equal to learning_rate={rate:g}, {reason}, but got {other:g}",
                "Remove it, or use the optimizer prodigy_plus_schedule_free",
            )
    if any(factor != 1 for factor in config.learning_rate_pattern.values()):
        return Violation(
            "learning_rate_pattern",
            f"is not supported, {reason}",
            "Remove it, or use the optimizer prodigy_plus_schedule_free",
        )
    return None


def _norms_are_limited_in_all_weights(config: Settings) -> Violation | None:
    entry, options = config.optimizer.method, config.optimizer.arguments()
    if not config.scale_weight_norms or not isinstance(entry, PackagedMethod):
        return None
    if not entry.is_schedule_free(options):
        return None
    return Violation(
        "scale_weight_norms",
        f"is not supported by {entry.label}, whose average would not be scaled",
        "Remove it, or use another optimizer",
    )


RULES: tuple[Callable[[Settings], Violation | None], ...] = (
    _run_name_is_a_folder,
    _one_length,
    _warmup_fits,
    _alpha_is_rank,
    _optimizer_options_have_an_effect,
    _decay_keeps_the_sign,
    _estimate_has_one_rate,
    _norms_are_limited_in_all_weights,
    _starts_once,
    _formats_differ,
    _output_dtypes_differ,
    _extra_resolutions_differ,
    _stella_starts_stella,
    _loi_file_rank_fits,
    _loi_has_one_rank,
    _dora_starts_at_the_model,
    _dora_over_int8_loses_its_scales,
    _early_stop_has_something_to_watch,
    _early_stop_is_reproducible,
    _split_is_measured,
    _flash_needs_a_dispatcher,
    *FAMILY_RULES,
    *LORA_RULES,
    *OBJECTIVE_RULES,
    *TEXT_RULES,
)


def violations_of(config: Settings) -> list[Violation]:
    """Collect the violations of all rules."""
    return [found for rule in RULES if (found := rule(config))]
