"""Detection of pairs that cannot take a step, on the device without synchronizing.

A pair whose gradient is NaN or infinite, or so large that its square overflows, is left
unchanged: the step is computed for all pairs and kept for the usable ones. Skipped
steps are counted on the device. The counts are read every 100 steps and when a state is
saved. B = 0 after the first step means that a LoRA was merged into its base: the pair
skips a step until the flag has reached the host, and then starts again. If a trainer
sets a parameter to zero, its float32 copy follows.
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
"""State of B: number of steps that its pair has skipped, if any."""

EVERY = 100
"""Steps between two reads of the counts."""


def _limit(tensor: Tensor) -> float:
    """Largest allowed gradient entry: sums of squares of momenta stay finite below it.

    Args:
        tensor: tensor whose dtype determines the dtype of the computation.
    """
    return 1e-6 * torch.finfo(work_dtype(tensor)).max ** 0.5


class Watch:
    """Flags and counts of the pairs of one optimizer.

    Args:
        pairs: pairs of the optimizer, in its order.
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = list(pairs)
        self._counts: dict[torch.device, Tensor] = {}
        self._reported = [0] * len(self._pairs)
        self._steps = 0
        self._flags: list[_Arrival] = []
        self._found: dict[torch.device, Tensor] = {}

    def look(self, state: State, members: Sequence[Member], rule: Rule) -> None:
        """Set a flag, bool ``()`` on its device, for every member. Count the others."""
        self._steps += 1
        self._found = {}
        for same in bucketed(members, lambda m: (m.pair.up.device, m.pair.up.dtype)):
            self._look(state, same, rule)
        # Reading the counts synchronizes, hence only once every EVERY steps.
        if self._steps % EVERY == 1 and self._steps > 1:
            self.report()

    def found(self, device: torch.device) -> Tensor | None:
        """1.0 if any pair on the device skips this step, like torch's ``found_inf``."""
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
        usable = (sizes < _limit(members[0].pair.up)).all(0)
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
        on_cpu = counts.device.type == "cpu"
        skipped = counts.tolist() if on_cpu else counts.unbind()
        # Masks cost as much as the matrix products of a step. Where reading the flags
        # does not synchronize, there are no masks while all pairs are usable.
        clear = not _stacks_all(usable) and bool(usable.numpy().all())
        for member, flag in zip(members, usable.unbind(), strict=True):
            member.usable = None if clear else flag
            member.skipped = skipped[member.index]

    def count_alone(self, index: int, usable: Tensor) -> None:
        """Count a factor that is stepped alone."""
        self._counts_on(usable.device)[index] += usable.logical_not()

    def _counts_on(self, device: torch.device) -> Tensor:
        if device not in self._counts:
            self._counts[device] = torch.zeros(len(self._pairs), device=device)
        return self._counts[device]

    def zeroed(self) -> list[int]:
        """Return the indices of pairs whose B was 0 at the last check.

        Reads what the previous step sent, which the device finished long ago.
        """
        found = [index for flag in self._flags for index in flag.read()]
        self._flags = []
        return found

    def read(self) -> list[int]:
        """Return the number of skipped steps of each pair (synchronizes the device)."""
        total = [0.0] * len(self._pairs)
        for counts in self._counts.values():
            total = [a + b for a, b in zip(total, counts.tolist(), strict=True)]
        return [round(number) for number in total]

    def report(self) -> None:
        """Warn of pairs that were skipped since the last read of the counts."""
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
            min(_limit(self._pairs[i].up) for i in fresh),
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
                state[pair.up][SKIPPED] = torch.tensor(float(count))

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


class _Arrival:
    """Flags in transit from the device to the host."""

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
        """Return the indices whose flag is set."""
        self._wait()
        flags = self._host.numpy()
        return [i for i, flag in zip(self._indices, flags, strict=True) if flag]


def usable_gradient(gradient: Tensor) -> Tensor:
    """Return whether a gradient and its squares are finite, bool ``()``."""
    size = torch.linalg.vector_norm(gradient, float("inf"))
    return size < _limit(gradient)


def _follow_zeros(factors: Sequence[Tensor], copies: Sequence[Tensor]) -> Tensor | None:
    """Zero the float32 copies whose parameters a trainer set to zero.

    Otherwise the next rounding of the copy would restore a product that was merged.

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
    # All copies are multiplied by 1 or 0, which leaves the others as they are to the
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
    """Return whether launches are expensive there and reading a number synchronizes."""
    return LAYOUTS.get(tensor.device.type, ACCELERATOR).together
