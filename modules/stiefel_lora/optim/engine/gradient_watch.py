"""Detection of invalid gradients on the device, without synchronizing.

If a gradient contains NaN or infinity, or its square overflows, the pair is left
unchanged: the update is computed for all pairs and discarded for these. Skipped steps
are counted on the device. The counts are read every 100 steps and when the state is
saved.

If B = 0 after the first step, the LoRA was merged into the base model. The pair skips
steps until this has been read on the CPU, and is then initialized again. If a trainer
sets a parameter to zero, its float32 copy is set to zero, too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..pairs import Pair
from ..rule import Rule
from .batching import Member, work_dtype
from .master_weights import State, values
from .stacking import bucketed
from .two_passes import ACCELERATOR, LAYOUTS

__all__ = ["SKIPPED", "Watch", "usable_gradient"]

log = logging.getLogger("stiefel_lora")

SKIPPED = "pair_skipped"
"""Name of a state of B: number of skipped steps of the pair, if any."""

EVERY = 100
"""Number of steps between two reads of the counts."""


def _limit(*tensors: Tensor) -> float:
    """Return the largest allowed gradient entry. Larger ones could cause overflow.

    Args:
        tensors: tensors whose dtypes determine the dtype of the computation.
    """
    return 1e-6 * min(torch.finfo(work_dtype(t)).max ** 0.5 for t in tensors)


class Watch:
    """Flags for invalid gradients, and counts of skipped steps of all pairs.

    Args:
        pairs: pairs of the optimizer, in order.
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = list(pairs)
        self._counts: dict[torch.device, Tensor] = {}
        self._reported = [0] * len(self._pairs)
        self._steps = 0
        self._flags: list[_Arrival] = []
        self._found: dict[torch.device, Tensor] = {}

    def look(self, state: State, members: Sequence[Member], rule: Rule) -> None:
        """Set the flag ``usable`` of every member, and count skipped steps."""
        self._steps += 1
        self._found = {}
        for same in bucketed(members, _dtypes):
            self._look(state, same, rule)
        # Reading the counts synchronizes, hence only once every EVERY steps.
        if self._steps % EVERY == 1 and self._steps > 1:
            self.report()

    def found(self, device: torch.device) -> Tensor | None:
        """Return 1.0 if any pair on the device skips this step, else 0.0."""
        return self._found.get(device)

    def _look(self, state: State, members: Sequence[Member], rule: Rule) -> None:
        tensors = [m.grad_up for m in members] + [m.grad_down for m in members]
        # Zeros are searched in B, and whatever is factorized must be finite.
        copied = [values(state, m.pair.up) for m in members]
        looked = rule.orthonormal_up or rule.factorizes
        tensors += copied if looked else []
        tensors += [values(state, m.pair.down) for m in members] if looked else []
        # Rows: gradients of B, gradients of A and, if looked at, B and A themselves.
        sizes = _sizes(tensors).view(-1, len(members))
        # Comparisons with NaN are false, so one test covers NaN, infinity and overflow.
        pair = members[0].pair
        usable = (sizes < _limit(pair.up, pair.down)).all(0)
        emptied = _follow_zeros([m.pair.up for m in members], copied)
        # One tensor for all pairs of a device: incrementing it is one launch, and it is
        # not read until EVERY steps have passed.
        counts = self._counts_on(usable.device)
        bad = usable.logical_not().to(counts.dtype)
        # Usually all pairs have gradients, in order: one addition for all of them.
        if len(members) == len(self._pairs):
            counts += bad
        else:
            own = counts.unbind()
            torch._foreach_add_([own[m.index] for m in members], list(bad.unbind()))
        if rule.orthonormal_up:
            zero = sizes[2] == 0 if emptied is None else (sizes[2] == 0) | emptied
            usable = usable & ~zero
            self._flags.append(_Arrival(zero, [m.index for m in members]))
        # As in torch's gradient scaler: the fused AdamW kernel reads it on the device,
        # so factors left to AdamW skip the step together with the pairs.
        found = usable.all().logical_not().float()
        if usable.device in self._found:
            found = torch.maximum(found, self._found[usable.device])
        self._found[usable.device] = found
        # Where reading does not synchronize, numbers are cheaper than tensors.
        skipped = counts.unbind() if _stacks_all(counts) else counts.tolist()
        # Masks cost as much as the matrix products of a step. Where reading the flags
        # does not synchronize, there are no masks while all pairs are usable.
        clear = not _stacks_all(usable) and bool(usable.numpy().all())
        for member, flag in zip(members, usable.unbind(), strict=True):
            member.usable = None if clear else flag
            member.skipped = skipped[member.index]

    def count_alone(self, index: int, usable: Tensor) -> None:
        """Count the step of a factor that is updated alone."""
        self._counts_on(usable.device)[index] += usable.logical_not()

    def _counts_on(self, device: torch.device) -> Tensor:
        if device not in self._counts:
            # The dtype is explicit: a bfloat16 default would not count past 256.
            count = len(self._pairs)
            zeros = torch.zeros(count, dtype=torch.float32, device=device)
            self._counts[device] = zeros
        return self._counts[device]

    def zeroed(self) -> list[int]:
        """Return the indices of pairs whose B was 0 at the last check.

        Reads the result of the previous step, which is usually already available.
        """
        found = [index for flag in self._flags for index in flag.read()]
        self._flags = []
        return found

    def read(self) -> list[int]:
        """Return the number of skipped steps of each pair (synchronizes)."""
        total = [0.0] * len(self._pairs)
        for counts in self._counts.values():
            total = [a + b for a, b in zip(total, counts.tolist(), strict=True)]
        return [round(number) for number in total]

    def report(self) -> None:
        """Log a warning about pairs with skipped steps since the last read."""
        counts = self.read()
        fresh = [i for i, n in enumerate(counts) if n > self._reported[i]]
        if not fresh:
            return
        shown = ", ".join(f"{self._pairs[i].name} ({counts[i]})" for i in fresh[:5])
        log.warning(
            "The gradients of %d LoRA %s contained NaN, infinity or numbers above "
            "%.0e. Number of skipped steps: %s%s. Lower the learning rate, or use "
            "bfloat16 or float32.",
            len(fresh),
            "pair" if len(fresh) == 1 else "pairs",
            min(_limit(self._pairs[i].up, self._pairs[i].down) for i in fresh),
            shown,
            ", ..." if len(fresh) > 5 else "",
        )
        self._reported = counts

    def save(self, state: State) -> None:
        """Write the counts into the state of the pairs that were skipped."""
        if not self._counts:
            return
        for pair, count in zip(self._pairs, self.read(), strict=True):
            if count:
                state[pair.up][SKIPPED] = torch.tensor(count, dtype=torch.float32)

    def load(self, state: Mapping[Any, dict[str, Any]]) -> None:
        """Read the counts of a loaded state."""
        self._counts, self._flags = {}, []
        self._reported = [
            round(float(state.get(pair.up, {}).get(SKIPPED, 0))) for pair in self._pairs
        ]
        for index, count in enumerate(self._reported):
            if count:
                self._counts_on(self._pairs[index].up.device)[index] = count

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_found": {}}


def _dtypes(member: Member) -> tuple[torch.device, torch.dtype, torch.dtype]:
    up, down = member.pair.up, member.pair.down
    return up.device, up.dtype, down.dtype


class _Arrival:
    """Flags that are being copied from the device to the CPU."""

    def __init__(self, flags: Tensor, indices: list[int]) -> None:
        self._indices = indices
        on_gpu = flags.device.type == "cuda"
        # A non-blocking copy needs pinned memory; into pageable memory it synchronizes.
        self._host = torch.empty(len(flags), dtype=torch.bool, pin_memory=on_gpu)
        self._host.copy_(flags, non_blocking=True)
        self._event = None
        if on_gpu:
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(flags.device))

    def __getstate__(self) -> dict[str, Any]:
        # An event is bound to its process, and pinned memory to its device.
        self._wait()
        return {**self.__dict__, "_event": None, "_host": self._host.clone()}

    def _wait(self) -> None:
        if self._event is not None:
            self._event.synchronize()

    def read(self) -> list[int]:
        """Return the indices of the pairs whose flag is set."""
        self._wait()
        flags = self._host.numpy()
        return [i for i, flag in zip(self._indices, flags, strict=True) if flag]


def usable_gradient(gradient: Tensor) -> Tensor:
    """Return whether a gradient and its squares are finite, bool ``()``."""
    size = torch.linalg.vector_norm(gradient, float("inf"))
    return size < _limit(gradient)


def _follow_zeros(factors: Sequence[Tensor], copies: Sequence[Tensor]) -> Tensor | None:
    """Set the float32 copies of parameters to zero that a trainer has set to zero.

    Otherwise, the copies would restore a LoRA that was merged into the base model.

    Returns:
        Mask of the zeroed copies on the device; None if parameters have no copies.
    """
    pairs = zip(factors, copies, strict=True)
    if all(copy is factor for factor, copy in pairs):
        return None
    empty = _sizes(factors) == 0
    # A copy below the smallest number of the parameter's dtype also rounds to zero.
    large = _sizes(copies) > torch.finfo(factors[0].dtype).smallest_normal
    emptied = empty & large
    # All copies are multiplied by 1 or 0, which leaves the others unchanged to the
    # bit. To select the emptied ones, the host would have to read the mask.
    torch._foreach_mul_(list(copies), list(emptied.logical_not().float().unbind()))
    return emptied


def _sizes(tensors: Sequence[Tensor]) -> Tensor:
    """Return the largest absolute entry of each tensor; NaN if it contains NaN."""
    if _stacks_all(tensors[0]):
        sizes = torch._foreach_norm(list(tensors), float("inf"))
    else:
        # Same value; torch's norm is 13 times slower on a CPU.
        ends = [torch.aminmax(tensor) for tensor in tensors]
        lows, highs = zip(*ends, strict=True)
        return torch.maximum(-_stacked(lows), _stacked(highs))
    return _stacked(sizes)


def _stacked(numbers: Sequence[Tensor]) -> Tensor:
    if len({number.dtype for number in numbers}) > 1:
        numbers = [number.double() for number in numbers]
    return torch.stack(list(numbers))


def _stacks_all(tensor: Tensor) -> bool:
    """Return whether the device of the tensor runs kernels asynchronously."""
    return LAYOUTS.get(tensor.device.type, ACCELERATOR).together
