"""Rules about noise, timesteps and loss."""

from __future__ import annotations

from ..families.catalogue import listed, records
from .resolved import Settings
from .violation import Violation

__all__ = ["BIASED", "NOISE_NEEDS", "OBJECTIVE_RULES", "SHAPED", "idle_objective"]

_STRENGTHS = ("mse_strength", "mae_strength", "huber_strength")
# Weightings that are defined for one kind of model only.
_FLOW_WEIGHTS = {"sigma"}
_DIFFUSION_WEIGHTS = {"min_snr_gamma", "debiased_estimation"}
# Timestep distributions with a weight and with a bias.
SHAPED = ("logit_normal", "heavy_tail", "sigmoid", "inverted_parabola")
BIASED = ("logit_normal", "sigmoid", "inverted_parabola")
NOISE_NEEDS = {
    "offset_noise_random_strength": "offset_noise_weight",
    "adaptive_noise_scale": "offset_noise_weight",
    "multires_noise_discount": "multires_noise_iterations",
    "ip_noise_gamma_random_strength": "ip_noise_gamma",
}
"""Settings of the noise that only have an effect with another one."""


def _weight_fits_the_family(config: Settings) -> Violation | None:
    flow = config.family.predicts_flow
    weight = config.loss_weight_fn
    if weight not in (_DIFFUSION_WEIGHTS if flow else _FLOW_WEIGHTS):
        return None
    other = "sigma" if flow else "min_snr_gamma or debiased_estimation"
    return Violation(
        "loss_weight_fn",
        f"{weight!r} is not supported for model_type={config.model_type!r}",
        f"Use constant or {other}",
    )


def _flow_settings_need_a_flow(config: Settings) -> Violation | None:
    if config.family.predicts_flow:
        return None
    flows = listed(r.short_label for r in records() if r.predicts_flow)
    for name, default in (("dynamic_timestep_shifting", False), ("guidance_scale", 1)):
        value = getattr(config, name)
        if value != default:
            return Violation(
                name,
                f"{_shown(value)} has no effect for "
                f"model_type={config.model_type!r}. It is only supported for {flows}",
                "Remove it",
            )
    return None


def _one_shift(config: Settings) -> Violation | None:
    if not config.dynamic_timestep_shifting or config.timestep_shift == 1:
        return None
    return Violation(
        "timestep_shift",
        f"{config.timestep_shift:g} has no effect if dynamic_timestep_shifting is true",
        "Remove one of them",
    )


def _range_is_not_empty(config: Settings) -> Violation | None:
    low, high = config.min_noising_strength, config.max_noising_strength
    if low < high:
        return None
    # At its default, min_noising_strength is below all but max_noising_strength=0.
    if low == type(config).model_fields["min_noising_strength"].default:
        key, rule = "max_noising_strength", f"above min_noising_strength={low:g}"
    else:
        key, rule = "min_noising_strength", f"below max_noising_strength={high:g}"
    return Violation(
        key,
        f"must be {rule}, but got {getattr(config, key):g}. Otherwise no noise "
        "level is left to train on",
    )


def _some_loss(config: Settings) -> Violation | None:
    if any(getattr(config, name) for name in _STRENGTHS):
        return None
    # The first one defaults to 1, so the user set it to 0.
    key, *others = _STRENGTHS
    return Violation(
        key,
        f"is 0, and {' and '.join(others)} are 0 too",
        "Set one of them to a value above 0",
    )


OBJECTIVE_RULES = (
    _weight_fits_the_family,
    _flow_settings_need_a_flow,
    _one_shift,
    _range_is_not_empty,
    _some_loss,
)


def idle_objective(config: Settings) -> list[Violation]:
    """Return the settings that have no effect because of other settings."""
    kind = config.resolved_timestep_distribution
    idle = {
        "noising_weight": config.noising_weight != 0 and kind not in SHAPED,
        "noising_bias": config.noising_bias != 0 and kind not in BIASED,
        "huber_delta": config.huber_delta != 1 and not config.huber_strength,
        "loss_weight_strength": config.loss_weight_strength != 5
        and config.loss_weight_fn != "min_snr_gamma",
        **{
            key: getattr(config, key) != type(config).model_fields[key].default
            and not getattr(config, other)
            for key, other in NOISE_NEEDS.items()
        },
    }
    needed = {
        "noising_weight": f"timestep_distribution {kind}",
        "noising_bias": f"timestep_distribution {kind}",
        "huber_delta": "huber_strength 0",
        "loss_weight_strength": f"loss_weight_fn {config.loss_weight_fn}",
        **{key: f"{other} 0" for key, other in NOISE_NEEDS.items()},
    }
    return [
        Violation(name, f"has no effect with {needed[name]}")
        for name, is_idle in idle.items()
        if is_idle
    ]


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
