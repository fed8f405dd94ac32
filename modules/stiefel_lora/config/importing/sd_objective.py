"""Rules of sd-scripts for noise, timesteps and loss."""

from __future__ import annotations

from typing import Any

from ..foreign import reasons as why
from .key_rules import (
    Result,
    Rule,
    Scope,
    ignore,
    left,
    not_for_flux,
    take,
    took,
    turned,
)

__all__ = ["FLUX_DEFAULTS", "OBJECTIVE"]

FLUX_DEFAULTS = {
    "timestep_sampling": "sigma",
    "guidance_scale": 3.5,
    "model_prediction_type": "sigma_scaled",
}
_SHIFT = 3.0
_MOST_TIMESTEPS = 1000
_ONLY_FLUX = "is only used for FLUX"


def _timestep(key: str) -> Rule:
    def rule(scope: Scope, value: Any) -> Result:
        share = float(value) / _MOST_TIMESTEPS
        if not share:
            return left("has no effect with this value", matters=False)
        return turned("a fraction of 1000 timesteps", {key: share})

    return rule


def _min_snr(scope: Scope, value: Any) -> Result:
    if not float(value):
        return left("has no effect with this value", matters=False)
    if scope.family == "flux":
        return left("is not used for FLUX", matters=False)
    note = "gamma of the loss weights"
    # The table of ratios there is made before the schedule is changed.
    rescaled = bool(scope.get("v_parameterization") and scope.get("zero_terminal_snr"))
    if rescaled:
        note += ". sd-scripts computes them without zero_terminal_snr"
    return turned(
        note,
        {"loss_weight_fn": "min_snr_gamma", "loss_weight_strength": float(value)},
        matters=rescaled,
    )


def _debiased(scope: Scope, value: Any) -> Result:
    if not value:
        return left("has no effect with this value", matters=False)
    if scope.family == "flux":
        return left("is not used for FLUX", matters=False)
    if scope.get("min_snr_gamma"):
        return left("only one weighting of the loss can be used; min_snr_gamma is kept")
    velocity = bool(scope.get("v_parameterization"))
    note = "with v-prediction, sd-scripts uses other weights, 1 / (SNR + 1)"
    sets = {"loss_weight_fn": "debiased_estimation"}
    return turned(note if velocity else "", sets, matters=velocity)


def _loss_type(scope: Scope, value: Any) -> Result:
    if value == "l2":
        return left("the squared error is the default", matters=False)
    if value == "l1":
        return turned("", {"mse_strength": 0.0, "mae_strength": 1.0})
    c = float(scope.get("huber_c", 0.1))
    note = "huber_delta is huber_c; the smooth formula of sd-scripts differs slightly"
    if scope.get("huber_schedule", "snr") != "constant":
        note += ", and there is no huber_schedule, so it is constant"
    return turned(
        note,
        {"mse_strength": 0.0, "huber_strength": 1.0, "huber_delta": c},
        matters=True,
    )


def _part_of_loss(scope: Scope, value: Any) -> Result:
    used = scope.get("loss_type", "l2") in ("huber", "smooth_l1")
    return left(
        "is described at loss_type" if used else "is only used by loss_type huber",
        matters=False,
    )


def _sampling(scope: Scope, value: Any) -> Result:
    if scope.family != "flux":
        return left(_ONLY_FLUX, matters=False)
    shift = float(scope.get("discrete_flow_shift", _SHIFT))
    spread = float(scope.get("sigmoid_scale", 1.0)) - 1
    normal: dict[str, Any] = {"timestep_distribution": "logit_normal"}
    if spread:
        normal["noising_weight"] = spread
    if value == "uniform":
        return turned("", {"timestep_distribution": "uniform"})
    if value == "sigmoid":
        return turned("the sigmoid of a normal distribution", normal)
    if value == "shift":
        return turned(
            "shift is discrete_flow_shift", {"timestep_shift": shift, **normal}
        )
    if value == "flux_shift":
        return turned(
            "the shift depends on the image size",
            {"dynamic_timestep_shifting": True, **normal},
        )
    if value != "sigma":
        return left(why.TIMESTEPS)
    return _sigma(scope, shift)


def _sigma(scope: Scope, shift: float) -> Result:
    scheme = scope.get("weighting_scheme", "uniform")
    if scheme == "mode":
        return left("weighting_scheme mode is not supported")
    if scheme != "logit_normal":
        return turned(
            "uniform, with discrete_flow_shift",
            {"timestep_distribution": "uniform", "timestep_shift": shift},
        )
    sets: dict[str, Any] = {
        "timestep_distribution": "logit_normal",
        "timestep_shift": shift,
    }
    # The density there is that of the index, which counts from the highest noise.
    mean, spread = scope.get("logit_mean", 0), scope.get("logit_std", 1)
    if float(mean):
        sets["noising_bias"] = -float(mean)
    if float(spread) != 1:
        sets["noising_weight"] = float(spread) - 1
    return turned("logit_mean has the opposite sign here", sets)


def _part_of_sampling(scope: Scope, value: Any) -> Result:
    note = "is part of timestep_sampling" if scope.family == "flux" else _ONLY_FLUX
    return left(note, matters=False)


def _scheme(scope: Scope, value: Any) -> Result:
    scaled = scope.get("model_prediction_type") == "sigma_scaled"
    if scope.family == "flux" and scaled and value in ("sigma_sqrt", "cosmap"):
        return left(why.LOSSES)
    return _part_of_sampling(scope, value)


def _prediction(scope: Scope, value: Any) -> Result:
    if scope.family != "flux":
        return left(_ONLY_FLUX, matters=False)
    if value == "raw":
        return left("predictions are always compared without scaling", matters=False)
    return left(
        "predictions are always compared without scaling (raw), as sd-scripts "
        "recommends for FLUX"
    )


def _guidance(scope: Scope, value: Any) -> Result:
    if scope.family != "flux":
        return left(_ONLY_FLUX, matters=False)
    return took("guidance_scale", float(value))


def _v_prediction(scope: Scope, value: Any) -> Result:
    if not value:
        return left("the prediction type is read from the model", matters=False)
    return turned("", {"prediction_type": "v_prediction"})


def _with(other: str, rule: Rule) -> Rule:
    """Return a rule for an option that is only used with another one."""

    def changed(scope: Scope, value: Any) -> Result:
        if not float(scope.get(other) or 0):
            return left(f"is only used with {other}", matters=False)
        return rule(scope, value)

    return changed


def _zero_terminal_snr(scope: Scope, value: Any) -> Result:
    if value and scope.family != "flux" and not scope.get("v_parameterization"):
        return left("is only supported with v_parameterization")
    return not_for_flux(take("zero_terminal_snr", bool))(scope, value)


OBJECTIVE: dict[str, Rule] = {
    "adaptive_noise_scale": not_for_flux(
        _with("noise_offset", take("adaptive_noise_scale", float))
    ),
    "debiased_estimation_loss": _debiased,
    "discrete_flow_shift": _part_of_sampling,
    "guidance_scale": _guidance,
    "huber_c": _part_of_loss,
    "huber_scale": ignore(why.LOSSES, (1, 1.0)),
    "huber_schedule": _part_of_loss,
    "ip_noise_gamma": take("ip_noise_gamma", float),
    "ip_noise_gamma_random_strength": _with(
        "ip_noise_gamma", take("ip_noise_gamma_random_strength", bool)
    ),
    "logit_mean": _part_of_sampling,
    "logit_std": _part_of_sampling,
    "loss_type": _loss_type,
    "max_timestep": not_for_flux(_timestep("max_noising_strength")),
    "min_snr_gamma": _min_snr,
    "min_timestep": not_for_flux(_timestep("min_noising_strength")),
    "mode_scale": _part_of_sampling,
    "model_prediction_type": _prediction,
    "multires_noise_discount": not_for_flux(
        _with("multires_noise_iterations", take("multires_noise_discount", float))
    ),
    "multires_noise_iterations": not_for_flux(take("multires_noise_iterations", int)),
    "noise_offset": not_for_flux(take("offset_noise_weight", float)),
    "noise_offset_random_strength": not_for_flux(
        _with("noise_offset", take("offset_noise_random_strength", bool))
    ),
    "sigmoid_scale": _part_of_sampling,
    "timestep_sampling": _sampling,
    "training_shift": _part_of_sampling,
    "v_parameterization": _v_prediction,
    "weighting_scheme": _scheme,
    "zero_terminal_snr": _zero_terminal_snr,
}
"""Rules by option."""
