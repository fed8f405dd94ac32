"""Rules of OneTrainer for the optimizer and its learning rates."""

from __future__ import annotations

import math
from typing import Any

from ...methods import PACKAGED
from .key_rules import Result, Rule, Scope, ignore, left, took, turned
from .optimizer_names import FoundOptimizer, find_optimizer

__all__ = ["OPTIMIZER", "optimizer_of", "rate_rule", "scaled"]

# Options by optimizer, and their names in its package. Several are one tuple.
_ADAM = {"weight_decay": "weight_decay", "eps": "eps"}
_TAKEN: dict[str, dict[str, str]] = {
    "ADAM": _ADAM,
    "ADAM_8BIT": _ADAM,
    "LION_8BIT": {"weight_decay": "weight_decay"},
    "RMSPROP": {**_ADAM, "alpha": "alpha", "momentum": "momentum"},
    "SGD": {key: key for key in ("momentum", "dampening", "nesterov", "weight_decay")},
}
# Names here of optimizers that are created by the same class.
_PACKAGED = {name.upper(): name for name in PACKAGED if name != "schedule_free_radam"}
# Options of these classes that have no setting here, by the flag that enables
# them. "" marks flags.
_OTHERS = {
    "use_AdEMAMix": "",
    "alpha": "use_AdEMAMix",
    "beta3_ema": "use_AdEMAMix",
    "Simplified_AdEMAMix": "",
    "alpha_grad": "Simplified_AdEMAMix",
    "kourkoutas_beta": "",
    "orthogonal_gradient": "",
    "auto_kappa_p": "",
    "use_adopt": "",
    "use_cautious": "",
    "use_grams": "",
    "use_orthograd": "",
}
# Values that OneTrainer uses where a file has none, if the class has others.
_ABSENT: dict[str, dict[str, Any]] = {
    "ADAMW_ADV": {"beta1": 0.0, "beta2": 0.99},
    "ADOPT_ADV": {"beta1": 0.0},
    "PRODIGY_ADV": {"beta1": 0.0, "beta2": 0.99, "slice_p": 1},
    "SIGNSGD_ADV": {"momentum": 0.0},
    "SCHEDULE_FREE_ADAMW": {"weight_decay": 0.01},
    "SCHEDULE_FREE_SGD": {"momentum": 0.0},
}
_OWN = ("ADAMW", "ADAMW_8BIT", "Stiefel_LoRA")
_BETAS = ("ADAM", "ADAM_8BIT", "LION_8BIT")
_USUAL_BETAS = {"LION_8BIT": (0.9, 0.99)}
# Options that only change speed, memory or rounding.
_TECHNICAL = frozenset(
    [
        "block_wise",
        "capturable",
        "compile",
        "differentiable",
        "foreach",
        "fsdp_in_use",
        "fused",
        "fused_back_pass",
        "is_paged",
        "log_every",
        "maximize",
        "min_8bit_size",
        "optim_bits",
        "percentile_clipping",
        "quant_block_size",
        "split_groups",
        "split_groups_mean",
        "use_triton",
        "weight_decay_by_lr",
        "muon_adam_config",
        "muon_hidden_layers",
        "factored",
        "factored_fp32",
    ]
)
# Values in a complete file, of options that the optimizer does not read.
_DEFAULT_TRUE = frozenset(
    [
        "stochastic_rounding",
        "use_schedulefree",
        "d_limiter",
        "use_stableadamw",
        "rms_rescaling",
    ]
)


def name_of(scope: Scope) -> str:
    """Return the name of the optimizer in OneTrainer."""
    if scope.get("use_stiefel"):
        return "Stiefel_LoRA"
    found = scope.source.get("optimizer")
    if isinstance(found, str):
        return found
    return str(scope.get("optimizer.optimizer"))


def optimizer_of(scope: Scope) -> FoundOptimizer:
    """Return the optimizer with the options that it reads."""
    name = name_of(scope)
    options = _options(scope, name)
    if name == "ADAFACTOR":
        relative = bool(scope.get("optimizer.relative_step", False))
        scaled = bool(scope.get("optimizer.scale_parameter", False))
        options |= {"relative_step": relative, "scale_parameter": scaled}
    found = find_optimizer(name, options)
    if name == "Stiefel_LoRA":
        # The rate of adv_optm's Stiefel_LoRA has another unit.
        return FoundOptimizer({"name": found.setting["name"]}, is_same=False)
    return found


def _options(scope: Scope, name: str) -> dict[str, Any]:
    given = scope.source.get("optimizer")
    options = dict(given) if isinstance(given, dict) else {}
    found: dict[str, Any] = {}
    if name in _OWN:
        return {
            key: options[key]
            for key in ("beta1", "beta2", "eps", "weight_decay")
            if options.get(key) is not None and name != "Stiefel_LoRA"
        }
    if name in _PACKAGED:
        return _options_of_package(name, options)
    for key, other in _TAKEN.get(name, {}).items():
        if options.get(key) is not None:
            found[other] = options[key]
    betas = [options.get("beta1"), options.get("beta2")]
    if name in _BETAS and any(beta is not None for beta in betas):
        usual = _USUAL_BETAS.get(name, (0.9, 0.999))
        found["betas"] = [
            default if beta is None else beta
            for beta, default in zip(betas, usual, strict=True)
        ]
    return found


def _options_of_package(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of an optimizer that has the same class here."""
    known = {option.name for option in PACKAGED[_PACKAGED[name]].options}
    if name in ("ADAMW_ADV", "ADOPT_ADV") and given.get("beta3") is not None:
        given = {**given, "beta3_ema": given["beta3"]}
    found = {key: given[key] for key in known if given.get(key) is not None}
    absent = _ABSENT.get(name, {})
    found |= {key: value for key, value in absent.items() if key not in found}
    if name in ("CAME", "LION", "ADAFACTOR"):
        return found
    for key, flag in _OTHERS.items():
        value = given.get(key)
        needed = name.endswith("ADV") or key.startswith("use_")
        if value and needed and key not in known and (not flag or given.get(flag)):
            found[key] = value
    return found


def _optimizer(scope: Scope, value: Any) -> Result:
    found = optimizer_of(scope)
    note = found.note
    matters = not found.is_same
    if name_of(scope) == "Stiefel_LoRA":
        note, matters = "its learning rate has another unit; the default is used", True
    return turned(note, {"optimizer": found.setting}, matters=matters)


def _option(key: str) -> Rule:
    def rule(scope: Scope, value: Any) -> Result:
        setting = optimizer_of(scope).setting
        name = name_of(scope)
        if key in setting:
            return took(f"optimizer.{key}", setting[key])
        options = setting.get("options", {})
        if key in _TAKEN.get(name, {}) and key in options:
            return took(f"optimizer.options.{key}", options[key])
        if key in ("beta1", "beta2") and "betas" in options:
            return turned("", {"optimizer.options.betas": options["betas"]})
        if name in _PACKAGED and key in options:
            return took(f"optimizer.options.{key}", options[key])
        if key in _TECHNICAL or (key in _DEFAULT_TRUE and value is True):
            return left("only changes speed or rounding", matters=False)
        if value in (False, 0, "", {}, math.inf):
            return left("has no effect with this value", matters=False)
        return left(f"the optimizer {setting['name']} has no such option")

    return rule


_OPTIONS = [
    "Simplified_AdEMAMix",
    "MuonWithAuxAdam",
    "accelerated_ns",
    "adam_debias",
    "adam_w_mode",
    "adanorm",
    "alpha",
    "alpha_grad",
    "ams_bound",
    "amsgrad",
    "approx_mars",
    "auto_kappa_p",
    "beta1",
    "beta1_warmup",
    "beta2",
    "beta2_normuon",
    "beta3",
    "beta3_ema",
    "bias_correction",
    "block_wise",
    "capturable",
    "cautious",
    "cautious_wd",
    "centered",
    "clip_threshold",
    "compile",
    "d0",
    "d_coef",
    "d_limiter",
    "dampening",
    "decay_rate",
    "decouple",
    "decoupled_decay",
    "degenerated_to_sgd",
    "differentiable",
    "eps",
    "eps2",
    "factored",
    "factored_fp32",
    "fixed_decay",
    "foreach",
    "fsdp_in_use",
    "fused",
    "fused_back_pass",
    "growth_rate",
    "initial_accumulator",
    "initial_accumulator_value",
    "is_paged",
    "k",
    "kourkoutas_beta",
    "log_every",
    "low_rank_ortho",
    "lr_decay",
    "max_unorm",
    "maximize",
    "min_8bit_size",
    "min_beta1",
    "momentum",
    "muon_adam_config",
    "muon_adam_lr",
    "muon_adam_regex",
    "muon_hidden_layers",
    "muon_te1_adam_lr",
    "muon_te2_adam_lr",
    "n_sma_threshold",
    "nesterov",
    "nnmf_factor",
    "no_prox",
    "normuon_variant",
    "ns_steps",
    "optim_bits",
    "ortho_rank",
    "orthogonal_gradient",
    "percentile_clipping",
    "prodigy_steps",
    "quant_block_size",
    "r",
    "rectify",
    "relative_step",
    "rms_rescaling",
    "safeguard_warmup",
    "scale_parameter",
    "schedulefree_c",
    "slice_p",
    "split_groups",
    "split_groups_mean",
    "stochastic_rounding",
    "use_AdEMAMix",
    "use_adopt",
    "use_atan2",
    "use_bias_correction",
    "use_cautious",
    "use_grams",
    "use_orthograd",
    "use_schedulefree",
    "use_speed",
    "use_stableadamw",
    "use_triton",
    "warmup_init",
    "weight_decay",
    "weight_decay_by_lr",
    "weight_lr_power",
    "xi",
]

OPTIMIZER: dict[str, Rule] = {
    "optimizer.__version": ignore("the version of the file", matters=False),
    "optimizer.optimizer": _optimizer,
    **{f"optimizer.{key}": _option(key) for key in _OPTIONS},
}
"""Rules of the optimizer."""


def rate_rule(key: str) -> Rule:
    """Return a rule for a learning rate, which the batch size can scale."""

    def rule(scope: Scope, value: Any) -> Result:
        if not optimizer_of(scope).is_same:
            return left("its unit is that of another optimizer")
        factor = _factor(scope)
        if factor == 1:
            return took(key, float(value))
        name = scope.get("learning_rate_scaler")
        note = f"times {factor:.6g}, the square root of learning_rate_scaler {name}"
        return turned(note, {key: scaled(scope, value)})

    return rule


def scaled(scope: Scope, value: Any) -> float:
    """Return a learning rate that is scaled as in OneTrainer."""
    return float(value) * _factor(scope)


def _factor(scope: Scope) -> float:
    """Return the square root of the number of images that the rates are scaled by."""
    name = str(scope.get("learning_rate_scaler", "NONE"))
    images = 1
    if name.endswith(("BATCH", "BOTH")):
        images *= int(scope.get("batch_size", 1) or 1)
    if name == "GRADIENT_ACCUMULATION" or name.endswith("BOTH"):
        images *= int(scope.get("gradient_accumulation_steps", 1) or 1)
    return math.sqrt(images)
