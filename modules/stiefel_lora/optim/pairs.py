"""Find which parameters are the A and the B of one LoRA layer.

Trainers hand bare tensors to an optimizer, so the pairs are found by, in this order:

1. names: the group's ``lora_param_names`` or torch's ``param_names``, then the
   attribute ``original_name`` (diffusion-pipe);
2. the attributes ``_is_lora_A`` and ``_is_lora_B`` (the adv_optm convention);
3. position and shape: neighbours ``(r, in)`` and ``(out, r)``, in either order;
4. two groups of equal length whose members fit one by one (LoRA+ splits A from B).

Whatever stays without a partner is not an error: it is trained with AdamW.
"""

from __future__ import annotations

import dataclasses
import re

from torch import Tensor

from .._exceptions import PairingError
from ._groups import Source, named_groups, names_of

__all__ = ["Pair", "PairMap", "find_pairs"]

# Role markers of PEFT, kohya / OneTrainer and old diffusers; PEFT adds the adapter.
_ROLE = re.compile(
    r"^(?P<block>.*?)\.?"
    r"(?:lora_(?P<role>[AB]|up|down)|lora(?:_linear_layer)?\.(?P<old>up|down))"
    r"(?:\.(?P<adapter>[^.]+))?(?:\.weight)?$"
)
_UP = {"B", "up"}


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """B and A of one LoRA layer (a *block* in logs and charts).

    Attributes:
        name: path of the layer, such as
            ``down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q``.
        up: B, ``(out, r)`` or ``(out, r, 1, 1)``.
        down: A, ``(r, in)`` or ``(r, in, k, k)``.
    """

    name: str
    up: Tensor
    down: Tensor

    @property
    def rank(self) -> int:
        """Number of columns of B."""
        return self.up.shape[1]

    @property
    def matrices(self) -> tuple[Tensor, Tensor]:
        """B as ``(out, r)`` and A as ``(r, in * k * k)``, views of the parameters."""
        return self.up.flatten(1), self.down.flatten(1)

    @property
    def too_wide(self) -> bool:
        """Whether the rank exceeds one side of the layer, so that B can not be full."""
        up, down = self.matrices
        return self.rank > min(up.shape[0], down.shape[1])


@dataclasses.dataclass(frozen=True)
class PairMap:
    """All pairs in order of appearance, and ``(name, tensor)`` of the rest."""

    pairs: list[Pair]
    rest: list[tuple[str, Tensor]]


def find_pairs(source: Source) -> PairMap:
    """Find the LoRA pairs of a model, of named parameters or of parameter groups.

    Args:
        source: a module (frozen parameters are ignored), tensors, ``(name, tensor)``
            pairs, or groups of either.

    Raises:
        PairingError: shapes that contradict names, or square neighbours without names
            that fit both ways round.
    """
    groups = named_groups(source)
    finder = _Finder()
    for group in groups:
        finder.read(group["params"], names_of(group))
    finder.match_groups()
    return finder.result()


class _Finder:
    """Collects pairs group by group and remembers what stays open in each."""

    def __init__(self) -> None:
        self.order: dict[int, tuple[str, Tensor]] = {}
        self.pairs: list[Pair] = []
        self.open_groups: list[list[Tensor]] = []
        self.half: dict[str, tuple[bool, Tensor]] = {}

    def read(self, params: list[Tensor], names: list[str] | None) -> None:
        for i, tensor in enumerate(params):
            name = names[i] if names else f"parameter.{len(self.order)}"
            self.order[id(tensor)] = (name, tensor)
        if names:
            for name, tensor in zip(names, params, strict=True):
                self._read_named(name, tensor)
            return
        tagged = self._read_tagged(params)
        paired = self._read_neighbours([p for p in params if id(p) not in tagged])
        taken = tagged | paired
        self.open_groups.append([p for p in params if id(p) not in taken])

    def _read_named(self, name: str, tensor: Tensor) -> None:
        match = _ROLE.match(name)
        if match is None or tensor.dim() not in (2, 4):
            return
        adapter = match["adapter"]
        plain = adapter in (None, "default", "weight")
        block = match["block"] if plain else f"{match['block']}[{adapter}]"
        is_up = (match["role"] or match["old"]) in _UP
        if block not in self.half:
            self.half[block] = (is_up, tensor)
            return
        other_is_up, other = self.half.pop(block)
        if other_is_up == is_up:
            role = "B" if is_up else "A"
            raise PairingError(
                f"Two parameters claim to be the {role} of {block!r}; give every "
                "adapter its own name."
            )
        up, down = (tensor, other) if is_up else (other, tensor)
        if not _fits(up, down):
            raise PairingError(
                f"The factors of {block!r} have shapes {tuple(up.shape)} (B) and "
                f"{tuple(down.shape)} (A); B must be (out, r) and A (r, in)."
            )
        self.pairs.append(Pair(block, up, down))

    def _read_tagged(self, params: list[Tensor]) -> set[int]:
        ups = [p for p in params if getattr(p, "_is_lora_B", False)]
        downs = [p for p in params if getattr(p, "_is_lora_A", False)]
        if len(ups) != len(downs) or not all(map(_fits, ups, downs)):
            return set()
        for up, down in zip(ups, downs, strict=True):
            self._add_unnamed(up, down)
        return {id(p) for p in (*ups, *downs)}

    def _read_neighbours(self, params: list[Tensor]) -> set[int]:
        taken: set[int] = set()
        i = 0
        while i + 1 < len(params):
            found = _orient(params[i], params[i + 1])
            if found is None:
                i += 1
                continue
            self._add_unnamed(*found)
            taken |= {id(params[i]), id(params[i + 1])}
            i += 2
        return taken

    def match_groups(self) -> None:
        groups = [[p for p in g if p.dim() in (2, 4)] for g in self.open_groups]
        groups = [group for group in groups if group]
        for i, first in enumerate(groups):
            for second in groups[i + 1 :]:
                if not second or len(first) != len(second):
                    continue
                found = [_orient(a, b) for a, b in zip(first, second, strict=True)]
                if all(found):
                    for oriented in found:
                        self._add_unnamed(*oriented)  # type: ignore[misc]
                    second.clear()
                    break

    def _add_unnamed(self, up: Tensor, down: Tensor) -> None:
        self.pairs.append(Pair(f"pair.{len(self.pairs)}", up, down))

    def result(self) -> PairMap:
        taken = {id(p) for pair in self.pairs for p in (pair.up, pair.down)}
        rest = [entry for key, entry in self.order.items() if key not in taken]
        return PairMap(self.pairs, rest)


def _fits(up: Tensor, down: Tensor) -> bool:
    """Whether B (out, r[, 1, 1]) and A (r, in[, k, k]) can be multiplied."""
    if up.dim() != down.dim() or up.dim() not in (2, 4):
        return False
    return up.shape[1] == down.shape[0] and up.shape[2:].numel() == 1


def _orient(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor] | None:
    """Order two unnamed neighbours as (up, down), or None if they are no pair."""
    fitting = [
        (up, down)
        for up, down in ((second, first), (first, second))
        if _fits(up, down) and not Pair("", up, down).too_wide
    ]
    if len(fitting) < 2:
        return fitting[0] if fitting else None
    raise PairingError(
        f"Neighbouring parameters of shapes {tuple(first.shape)} and "
        f"{tuple(second.shape)} could be A, B or B, A; pass named_parameters() "
        "instead of parameters()."
    )
