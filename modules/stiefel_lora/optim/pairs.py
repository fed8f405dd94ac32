"""Detection of the factors B and A of LoRA layers among parameters.

Trainers may pass tensors without names to an optimizer. Pairs are found by the
following criteria, in this order:

1. names: the group's ``lora_param_names`` or torch's ``param_names``, then the
   attribute ``original_name`` (diffusion-pipe);
2. the attributes ``_is_lora_A`` and ``_is_lora_B`` (the adv_optm convention); 3. shape
and order within a group, if only one pairing is possible: adjacent tensors ``(r, in)``
and ``(out, r)``, always in the same order; 4. two groups of equal length, one with all
A and one with all B (LoRA+).

Parameters that are not part of a pair are trained with AdamW. This includes factors of
layers whose update is not B A (grouped convolutions, a matrix between A and B, one
factor in several layers).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from torch import Tensor, nn

from .._exceptions import PairingError
from ._pairs_by_shape import fits, pairs_across_groups, pairs_in_order
from ._peft_layers import SHARED, odd_factors
from .groups import Source, named_groups, names_of

__all__ = ["Odd", "Pair", "PairMap", "find_pairs", "odd_ones"]

Odd = tuple[Tensor, str]
"""Factor that cannot be trained as part of a pair, and the reason."""

# Role markers of PEFT, kohya / OneTrainer and old diffusers; PEFT adds the adapter.
_ROLE = re.compile(
    r"^(?P<block>.*?)\.?"
    r"(?:lora_(?P<role>[AB]|up|down)|lora(?:_linear_layer)?\.(?P<old>up|down))"
    r"(?:\.(?P<adapter>[^.]+))?(?:\.weight)?$"
)
_UP = {"B", "up"}

# Parameters between A and B: Tucker's core (LyCORIS), AdaLoRA's and KaSA's diagonal.
_BETWEEN = re.compile(
    r"^(?P<block>.*?)\.?lora_(?P<what>mid|E|diag)"
    r"(?:\.(?P<adapter>[^.]+))?(?:\.weight)?$"
)


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Factors B and A of one LoRA layer. Logs and charts call it a *block*.

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
        """Views of the parameters: B as ``(out, r)`` and A as ``(r, in * k * k)``."""
        return self.up.flatten(1), self.down.flatten(1)

    @property
    def sides(self) -> tuple[int, int]:
        """Number of outputs and inputs of the layer: rows of B and columns of A."""
        up, down = self.matrices
        return up.shape[0], down.shape[1]

    @property
    def too_wide(self) -> bool:
        """Return whether the rank exceeds the number of outputs or inputs."""
        return self.rank > min(self.sides)


@dataclasses.dataclass(frozen=True)
class PairMap:
    """Result of the pair detection: the pairs and the other parameters.

    Attributes:
        pairs: pairs in order of appearance.
        rest: ``(name, tensor)`` of all other parameters.
        reasons: id of a factor in ``rest`` -> reason why it is in no pair; only for
            recognized LoRA factors.
        odd: factors of layers whose update is not the product B A.
        waiting: whether only one factor of a layer is among the parameters so far.
    """

    pairs: list[Pair]
    rest: list[tuple[str, Tensor]]
    reasons: dict[int, str] = dataclasses.field(default_factory=dict)
    odd: list[Pair] = dataclasses.field(default_factory=list)
    waiting: bool = False

    def with_odd(self) -> PairMap:
        """Return a copy in which the factors in ``odd`` are treated as pairs."""
        taken = {id(p) for pair in self.odd for p in (pair.up, pair.down)}
        rest = [(name, p) for name, p in self.rest if id(p) not in taken]
        return dataclasses.replace(self, pairs=[*self.pairs, *self.odd], rest=rest)


def find_pairs(source: Source, odd: Iterable[Odd] = ()) -> PairMap:
    """Find the LoRA pairs of a model, of named parameters or of parameter groups.

    Args:
        source: a module (frozen parameters are ignored), tensors, ``(name, tensor)``
            pairs, or groups of either.
        odd: factors that are not part of a pair. The odd factors of a module are added.

    Raises:
        PairingError: If shapes contradict names, a rank is 0, or parameters without
            names cannot be paired in exactly one way.
    """
    if isinstance(source, nn.Module):
        odd = [*odd, *odd_ones(source)]
    finder = _Finder(odd)
    for group in named_groups(source):
        finder.read(group["params"], names_of(group))
    finder.match_groups()
    return finder.result()


def odd_ones(model: nn.Module) -> list[Odd]:
    """List the trainable factors of a model that are not in a pair, with reasons."""
    found = odd_factors(model)
    blocks: dict[str, list[Tensor]] = {}
    # With duplicates, to see a factor in each of the layers that share it.
    for name, parameter in model.named_parameters(remove_duplicate=False):
        match = _ROLE.match(name)
        if match is not None and 2 <= parameter.dim() <= 5:
            blocks.setdefault(_block(match), []).append(parameter)
    partners: dict[int, set[int]] = {}
    for factors in blocks.values():
        for factor in factors:
            others = {id(other) for other in factors if other is not factor}
            partners.setdefault(id(factor), set()).update(others)
    for factors in blocks.values():
        trained = [factor for factor in factors if factor.requires_grad]
        if any(len(partners[id(factor)]) > 1 for factor in factors):
            found += [(factor, SHARED) for factor in trained]
        elif len(factors) == 2 and len(trained) == 1:
            found.append((trained[0], "other factor frozen"))
    return found


def _block(match: re.Match[str]) -> str:
    """Return the name of a layer, with the adapter name if it is not the default."""
    adapter = match["adapter"]
    plain = adapter in (None, "default", "weight")
    return match["block"] if plain else f"{match['block']}[{adapter}]"


class _Finder:
    """Search for pairs in one group after another, with a list of unpaired factors."""

    def __init__(self, odd: Iterable[Odd]) -> None:
        self.order: dict[int, tuple[str, Tensor]] = {}
        self.pairs: list[Pair] = []
        self.open_groups: list[list[Tensor]] = []
        self.refused: list[PairingError] = []
        self.half: dict[str, tuple[bool, Tensor]] = {}
        self.reasons = {id(tensor): reason for tensor, reason in odd}
        self.odd_blocks: dict[str, str] = {}

    def read(self, params: list[Tensor], names: list[str] | None) -> None:
        for i, tensor in enumerate(params):
            name = names[i] if names else f"parameter.{len(self.order)}"
            self.order[id(tensor)] = (name, tensor)
        if names:
            for name, tensor in zip(names, params, strict=True):
                self._read_named(name, tensor)
            return
        params = [p for p in params if id(p) not in self.reasons]
        taken = self._read_tagged(params)
        left = [p for p in params if id(p) not in taken]
        try:
            found = pairs_in_order(left)
        except PairingError as error:
            # The other factor may be in another group.
            self.refused.append(error)
            found = []
        for up, down in found:
            self._add_unnamed(up, down)
            taken |= {id(up), id(down)}
        still = [p for p in left if id(p) not in taken]
        trained = [p for p in still if p.requires_grad]
        self.open_groups.append(trained or still)

    def _read_named(self, name: str, tensor: Tensor) -> None:
        between = _BETWEEN.match(name)
        if between is not None:
            what = f"lora_{between['what']} between A and B"
            self.odd_blocks.setdefault(_block(between), what)
        match = _ROLE.match(name)
        if match is None or not 2 <= tensor.dim() <= 5:
            return
        block = _block(match)
        if tensor.dim() in (3, 5):
            what = f"{tensor.dim() - 2}D convolution"
            self.odd_blocks.setdefault(block, what)
        is_up = (match["role"] or match["old"]) in _UP
        if id(tensor) in self.reasons:
            self.odd_blocks.setdefault(block, self.reasons[id(tensor)])
        if block not in self.half:
            self.half[block] = (is_up, tensor)
            return
        other_is_up, other = self.half.pop(block)
        if other_is_up == is_up:
            role = "B" if is_up else "A"
            raise PairingError(
                f"Two parameters are the {role} of {block!r}. Use a different name "
                "for each adapter."
            )
        up, down = (tensor, other) if is_up else (other, tensor)
        self._add_named(block, up, down)

    def _add_named(self, block: str, up: Tensor, down: Tensor) -> None:
        if _of_groups(up, down):
            self.odd_blocks.setdefault(block, "grouped convolution")
        if block not in self.odd_blocks:
            _check_shapes(block, up, down)
        self.pairs.append(Pair(block, up, down))

    def _read_tagged(self, params: list[Tensor]) -> set[int]:
        ups = [p for p in params if getattr(p, "_is_lora_B", False)]
        downs = [p for p in params if getattr(p, "_is_lora_A", False)]
        # Tags without a match are ignored, and shapes decide.
        if len(ups) != len(downs) or not all(map(fits, ups, downs)):
            return set()
        for up, down in zip(ups, downs, strict=True):
            self._add_unnamed(up, down)
        return {id(p) for p in (*ups, *downs)}

    def match_groups(self) -> None:
        found = pairs_across_groups(self.open_groups)
        for up, down in found:
            self._add_unnamed(up, down)
        taken = {id(p) for oriented in found for p in oriented}
        # A group that could not be paired by itself is no error if another group has
        # the partners of all its factors, as with LoRA+.
        if self.refused and not all(
            id(p) in taken for group in self.open_groups for p in group if p.dim() > 1
        ):
            raise self.refused[0]

    def _add_unnamed(self, up: Tensor, down: Tensor) -> None:
        self.pairs.append(Pair(f"pair.{len(self.pairs)}", up, down))

    def result(self) -> PairMap:
        pairs = [pair for pair in self.pairs if pair.name not in self.odd_blocks]
        odd = [pair for pair in self.pairs if pair.name in self.odd_blocks]
        for pair in odd:
            for factor in (pair.up, pair.down):
                self.reasons.setdefault(id(factor), self.odd_blocks[pair.name])
        waiting = False
        for block, (is_up, factor) in self.half.items():
            alone = id(factor) not in self.reasons and block not in self.odd_blocks
            waiting = waiting or alone
            missing = f"its {'A' if is_up else 'B'} is not among the parameters"
            reason = self.odd_blocks.get(block, missing)
            self.reasons.setdefault(id(factor), reason)
        taken = {id(p) for pair in pairs for p in (pair.up, pair.down)}
        rest = [entry for key, entry in self.order.items() if key not in taken]
        return PairMap(pairs, rest, self.reasons, odd, waiting)


def _of_groups(up: Tensor, down: Tensor) -> bool:
    """Return whether B belongs to a grouped convolution, by its number of columns."""
    if up.dim() != 4 or down.dim() != 4 or up.shape[2:].numel() != 1:
        return False
    rank, share = down.shape[0], up.shape[1]
    return 0 < share < rank and rank % share == 0 and up.shape[0] % (rank // share) == 0


def _check_shapes(block: str, up: Tensor, down: Tensor) -> None:
    if not fits(up, down):
        raise PairingError(
            f"The factors of {block!r} have shapes {tuple(up.shape)} (B) and "
            f"{tuple(down.shape)} (A), but they must be (out, r) and (r, in)."
        )
    if down.shape[0] == 0:
        raise PairingError(
            f"The factors of {block!r} have rank 0. Exclude the layer, or use a "
            "rank of at least 1."
        )
