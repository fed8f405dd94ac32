"""The type of a parameter group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from torch import Tensor

__all__ = ["ParamGroup"]


class _Params(TypedDict):
    params: Tensor | Iterable[Tensor] | Iterable[tuple[str, Tensor]]


class ParamGroup(_Params, total=False):
    """A parameter group, as optimizers of the catalogue take it.

    Only ``params`` must be there: tensors, or ``(name, tensor)`` pairs, which settle
    what is a LoRA pair. A method refuses options that it does not have. Groups of
    plug-ins may hold more keys.
    """

    lr: float | Tensor
    name: str
    """For logs; hosts tell groups apart by it."""

    param_names: list[str]
    """Names of ``params`` where those are bare tensors."""

    weight_decay: float
    beta1: float
    beta2: float
    eps: float

    # Stiefel-LoRA
    step: str
    b_rule: str
    b_length: str
    retraction: str
    transport: bool
    a_rule: str
    angle_per_lr: float | None
    momentum: float
    nesterov: bool
    rest_lr_ratio: float | None
    decay_rule: str

    # StelLA
    base_rule: str
    s_form: str

    # LoRA-RITE
    escape: bool
    clip_norm: float
    skip_above: float

    # Riemannion
    momentum_form: str

    # LoRA+
    lr_ratio: float

    # Scaled AdamW
    damping: float
