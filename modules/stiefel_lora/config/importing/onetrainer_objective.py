"""Rules of OneTrainer for noise, timesteps and loss."""

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
    only_for,
    take,
    took,
    turned,
)

__all__ = ["OBJECTIVE"]


def _loss_weight(scope: Scope, value: Any) -> Result:
    name = str(value).lower()
    forced = ("force_v_prediction", "rescale_noise_scheduler_to_zero_terminal_snr")
    if name == "debiased_estimation":
        note = "with v-prediction, OneTrainer uses other weights, 1 / sqrt(SNR + 1)"
        velocity = any(scope.get(key) for key in forced)
        return turned(note, {"loss_weight_fn": name}, matters=velocity)
    if name in ("constant", "min_snr_gamma", "sigma"):
        return turned("", {"loss_weight_fn": name})
    return left(why.LOSSES)


def _gamma(scope: Scope, value: Any) -> Result:
    if scope.get("loss_weight_fn") != "MIN_SNR_GAMMA":
        return left("is only used with MIN_SNR_GAMMA", matters=False)
    return took("loss_weight_strength", float(value))


_EARLIER = (
    "OneTrainer gives the transformer of FLUX a timestep that is 1 of 1000 lower than "
    "the noise level. Here, it is the noise level, as in sampling"
)


def _distribution(scope: Scope, value: Any) -> Result:
    if value == "BETA":
        return left(why.TIMESTEPS)
    sets = {"timestep_distribution": str(value).lower()}
    note = _shift_note(scope, str(value))
    if note or scope.family != "flux":
        return turned(note, sets, matters=bool(note))
    # bfloat16 rounds the timestep by more.
    rounded = scope.get("train_dtype") == "BFLOAT_16"
    note = f"{_EARLIER}, which is less than the rounding of bfloat16"
    return turned(note if rounded else _EARLIER, sets, matters=not rounded)


def _shift_note(scope: Scope, name: str) -> str:
    """Return how OneTrainer shifts a distribution in another way, or ""."""
    if name not in ("COS_MAP", "SIGMOID", "INVERTED_PARABOLA"):
        return ""
    dynamic = scope.family == "flux" and scope.get("dynamic_timestep_shifting")
    if float(scope.get("timestep_shift", 1)) == 1 and not dynamic:
        return ""
    if name == "SIGMOID":
        return "OneTrainer shifts this distribution twice, and this package once"
    low = float(scope.get("min_noising_strength", 0))
    high = float(scope.get("max_noising_strength", 1))
    if (low, high) == (0, 1):
        return ""
    return "OneTrainer shifts this distribution within its range, and others as a whole"


def _flag(sets: dict[str, Any]) -> Rule:
    def rule(scope: Scope, value: Any) -> Result:
        if not value:
            return left("has no effect with this value", matters=False)
        return turned("", sets)

    return rule


def _zero_terminal_snr(scope: Scope, value: Any) -> Result:
    if not value:
        return left("has no effect with this value", matters=False)
    if scope.family == "flux":
        return left("is not used for FLUX", matters=False)
    sets = {"zero_terminal_snr": True, "prediction_type": "v_prediction"}
    return turned("OneTrainer also forces v-prediction", sets)


OBJECTIVE: dict[str, Rule] = {
    "dynamic_timestep_shifting": only_for(
        "flux", "FLUX", take("dynamic_timestep_shifting", bool)
    ),
    "force_circular_padding": ignore(why.NOISE),
    "force_epsilon_prediction": not_for_flux(_flag({"prediction_type": "epsilon"})),
    "force_v_prediction": not_for_flux(_flag({"prediction_type": "v_prediction"})),
    "huber_delta": take("huber_delta", float),
    "huber_strength": take("huber_strength", float),
    "loss_scaler": ignore(why.LOSSES, ("NONE",)),
    "loss_weight_fn": _loss_weight,
    "loss_weight_strength": _gamma,
    "mae_strength": take("mae_strength", float),
    "masked_prior_preservation_weight": take("masked_prior_preservation_weight", float),
    "masked_training": take("masked_training", bool),
    "max_noising_strength": take("max_noising_strength", float),
    "min_noising_strength": take("min_noising_strength", float),
    "mse_strength": take("mse_strength", float),
    "noising_bias": take("noising_bias", float),
    "noising_weight": take("noising_weight", float),
    "normalize_masked_area_loss": take("normalize_masked_area_loss", bool),
    "offset_noise_weight": take("offset_noise_weight", float),
    "perturbation_noise_weight": take("perturbation_noise_weight", float),
    "rescale_noise_scheduler_to_zero_terminal_snr": _zero_terminal_snr,
    "timestep_distribution": _distribution,
    "timestep_shift": take("timestep_shift", float),
    "unmasked_probability": take("unmasked_probability", float),
    "unmasked_weight": take("unmasked_weight", float),
    "vb_loss_strength": ignore("no family here has such a loss", matters=False),
}
"""Rules by key."""
