"""Rules about noise, noise levels and loss: what fits a family and what adds up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .enums import FLOW_MODELS

if TYPE_CHECKING:
    from .schema import TrainConfig

__all__ = ["OBJECTIVE_RULES", "idle_objective"]

_STRENGTHS = ("mse_strength", "mae_strength", "huber_strength")
# Weights of a noise level that make sense for one kind of model only.
_FLOW_WEIGHTS = {"sigma"}
_DIFFUSION_WEIGHTS = {"min_snr_gamma", "debiased_estimation"}
_SHAPED = ("logit_normal", "heavy_tail", "sigmoid", "inverted_parabola")
_BIASED = ("logit_normal", "sigmoid", "inverted_parabola")


def _weight_fits_the_family(config: TrainConfig) -> str | None:
    flow = config.model_type in FLOW_MODELS
    weight = config.loss_weight_fn
    if weight not in (_DIFFUSION_WEIGHTS if flow else _FLOW_WEIGHTS):
        return None
    other = "sigma" if flow else "min_snr_gamma or debiased_estimation"
    return (
        f"loss_weight_fn={weight!r} is not for model_type={config.model_type!r}: write "
        f"constant or {other}."
    )


def _flow_settings_need_a_flow(config: TrainConfig) -> str | None:
    if config.model_type in FLOW_MODELS:
        return None
    for name, default in (("dynamic_timestep_shifting", False), ("guidance_scale", 1)):
        value = getattr(config, name)
        if value != default:
            return (
                f"{name}={_shown(value)} does nothing for "
                f"model_type={config.model_type!r}, it is for FLUX: leave it out."
            )
    return None


def _one_shift(config: TrainConfig) -> str | None:
    if not config.dynamic_timestep_shifting or config.timestep_shift == 1:
        return None
    return (
        f"timestep_shift={config.timestep_shift:g} does nothing with "
        f"dynamic_timestep_shifting=true: leave one of them out."
    )


def _range_is_not_empty(config: TrainConfig) -> str | None:
    low, high = config.min_noising_strength, config.max_noising_strength
    if low < high:
        return None
    return (
        f"min_noising_strength={low:g} must be below max_noising_strength={high:g}: "
        f"nothing is left to learn from."
    )


def _some_loss(config: TrainConfig) -> str | None:
    if any(getattr(config, name) for name in _STRENGTHS):
        return None
    return f"{', '.join(_STRENGTHS)} are all 0: one of them must be above 0."


OBJECTIVE_RULES = (
    _weight_fits_the_family,
    _flow_settings_need_a_flow,
    _one_shift,
    _range_is_not_empty,
    _some_loss,
)


def idle_objective(config: TrainConfig) -> list[str]:
    """Sentences about settings that do nothing beside the others."""
    kind = config.resolved_timestep_distribution
    idle = {
        "noising_weight": config.noising_weight != 0 and kind not in _SHAPED,
        "noising_bias": config.noising_bias != 0 and kind not in _BIASED,
        "huber_delta": config.huber_delta != 1 and not config.huber_strength,
        "loss_weight_strength": config.loss_weight_strength != 5
        and config.loss_weight_fn != "min_snr_gamma",
    }
    needed = {
        "noising_weight": f"timestep_distribution {kind}",
        "noising_bias": f"timestep_distribution {kind}",
        "huber_delta": "huber_strength 0",
        "loss_weight_strength": f"loss_weight_fn {config.loss_weight_fn}",
    }
    return [
        f"{name} has no effect with {needed[name]}."
        for name, is_idle in idle.items()
        if is_idle
    ]


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
