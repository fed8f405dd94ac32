"""Float32 copies of factors in half precision (master weights).

In bfloat16, updates that are smaller than the spacing of the numbers are lost, and B is
orthonormal to 4e-3 at best. Therefore, float32 copies of both factors are updated. They
are stored in the state of the optimizer, and the parameters are their rounded values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..pairs import Pair

__all__ = [
    "MASTER",
    "State",
    "forget",
    "open_masters",
    "round_masters",
    "values",
    "work_pair",
]

State = Mapping[Tensor, dict[str, Any]]
"""``Optimizer.state``: parameter -> name -> tensor."""

MASTER = "master"
"""Name of a state: float32 copy of a factor in half precision, of the same shape."""

_FULL = (torch.float32, torch.float64)


def open_masters(state: State, pair: Pair) -> None:
    """Create the float32 copies of a pair. Replace those of changed parameters."""
    for factor in (pair.up, pair.down):
        if factor.dtype in _FULL:
            # A factor that was cast up is moved itself; its copy is outdated.
            if factor in state:
                state[factor].pop(MASTER, None)
            continue
        # The comparison below synchronizes, so only pairs whose factors may have
        # changed since their last step (see Settling) come here.
        master = state[factor].get(MASTER)
        # The parameter is the rounding of its copy unless something else wrote to it.
        if master is None or not torch.equal(master.to(factor.dtype), factor):
            state[factor][MASTER] = factor.detach().float()


def forget(state: State, pair: Pair) -> bool:
    """Remove the states of a pair except for float32 copies, if there are any.

    Returns:
        Whether there were any states.
    """
    found = False
    for factor in (pair.up, pair.down):
        own = state.get(factor, {})
        # The copies hold the factors themselves, not their past.
        for key in [key for key in own if key != MASTER]:
            del own[key]
            found = True
    return found


def values(state: State, factor: Tensor) -> Tensor:
    """Return the tensor to update: the float32 copy if it exists, else the factor."""
    if factor.dtype in _FULL or factor not in state:
        return factor
    return state[factor].get(MASTER, factor)


def work_pair(state: State, pair: Pair) -> Pair:
    """Return the pair with float32 copies in place of its parameters."""
    return Pair(pair.name, values(state, pair.up), values(state, pair.down))


def round_masters(state: State, factors: Iterable[Tensor]) -> None:
    """Copy the float32 values into the half-precision parameters."""
    copied = [factor for factor in factors if values(state, factor) is not factor]
    if copied:
        torch._foreach_copy_(copied, [state[factor][MASTER] for factor in copied])
