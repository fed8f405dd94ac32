"""Detection of LoRA pairs among parameters without names, by shape and order.

The shape determines which tensors can be a B ``(out, r)`` with out >= r, and which can
be an A ``(r, in)`` with in >= r. Layers of equal shape can be paired in many ways, so
the order must be A, B, A, B, ... or B, A, B, A, ... from the first candidate to the
last. A list that matches neither order, or both, raises an error. Square factors raise
an error, too: LoKr has ``w1 (8, 8)`` next to ``w2_a (64, 8)``, which have the same
shapes as a LoRA of rank 8.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import Tensor

from .._exceptions import PairingError

__all__ = ["Oriented", "fits", "pairs_across_groups", "pairs_in_order"]

Oriented = tuple[Tensor, Tensor]
"""(B, A)."""
_Order = Literal["down_up", "up_down"]
_ORDERS: tuple[_Order, ...] = ("down_up", "up_down")
_Join = Literal["pair", "wide"] | None

# A parse is a linked list of places where a pair begins: (place, rest of the list).
_Chain = tuple[Any, ...]


def fits(up: Tensor, down: Tensor) -> bool:
    """Return whether B (out, r[, 1, 1]) and A (r, in[, k, k]) can be multiplied."""
    if up.dim() != down.dim() or up.dim() not in (2, 4):
        return False
    return up.shape[1] == down.shape[0] and up.shape[2:].numel() == 1


def pairs_in_order(params: Sequence[Tensor]) -> list[Oriented]:
    """Find the pairs in one list of parameters.

    Parameters between pairs are skipped, and so are layers that are smaller than
    their rank. Frozen weights in the list may belong to the base model or be
    factors: they are paired if the result agrees with the pairs of the trained
    parameters alone.

    Raises:
        PairingError: If no pairing, or more than one, contains all candidates.
    """
    params = [p for p in params if p.dim() in (2, 4)]
    trained = [p for p in params if p.requires_grad]
    if not trained or len(trained) == len(params):
        return _in_order(params)
    try:
        # First without the frozen tensors, which may be weights of the base model that
        # stand between the factors.
        found = _in_order(trained)
    except PairingError:
        return _in_order(params)
    try:
        whole = _in_order(params)
    except PairingError:
        if not found:
            raise
        return found
    kept = {(id(up), id(down)) for up, down in whole}
    # With the frozen tensors, a factor has another neighbor: either may be its partner.
    if any((id(up), id(down)) not in kept for up, down in found):
        raise _refusal(params, [True] * len(params))
    return [pair for pair in whole if any(factor.requires_grad for factor in pair)]


def _in_order(params: Sequence[Tensor]) -> list[Oriented]:
    chosen = _candidates(params)
    if not any(chosen):
        return []
    if any(take and _square(p) for p, take in zip(params, chosen, strict=True)):
        raise _refusal(params, chosen)

    def join(order: _Order) -> Callable[[int], _Join]:
        def joined(i: int) -> _Join:
            up, down = _oriented(params[i], params[i + 1], order)
            if not fits(up, down):
                return None
            if chosen[i] and chosen[i + 1]:
                return "pair" if _may_be_up(up) and _may_be_down(down) else None
            # One of the two is no candidate, because the rank exceeds a side of the
            # layer.
            return "wide" if chosen[i] != chosen[i + 1] else None

        return joined

    found = [
        (order, parse)
        for order in _ORDERS
        for parse in _parses(len(params), join(order), lambda i: not chosen[i])
    ]
    if len(found) != 1:
        raise _refusal(params, chosen)
    order, places = found[0]
    return [_oriented(params[i], params[i + 1], order) for i in places]


def pairs_across_groups(groups: Sequence[Sequence[Tensor]]) -> list[Oriented]:
    """Pair the members of two groups, one with all A and one with all B, as in LoRA+.

    Groups without a matching group are skipped.

    Raises:
        PairingError: If a group matches several other groups and their order is
            ambiguous.
    """
    lists = [[p for p in group if p.dim() in (2, 4)] for group in groups]
    lists = [group for group in lists if group]
    chosen = [
        any(_joins(*_sorted(lists, i, j)) for j in range(len(lists)) if j != i)
        for i in range(len(lists))
    ]
    if not any(chosen):
        return []
    for group, take in zip(lists, chosen, strict=True):
        if take and all(map(_square, group)):
            raise _refusal(group, [True] * len(group))

    def join(order: _Order) -> Callable[[int], _Join]:
        return lambda i: "pair" if order in _joins(lists[i], lists[i + 1]) else None

    found = [
        [(i, i + 1, order) for i in parse]
        for order in _ORDERS
        for parse in _parses(len(lists), join(order), lambda i: not chosen[i])
    ] or _only_partners(lists)
    if len(found) != 1:
        taken = [p for g, take in zip(lists, chosen, strict=True) if take for p in g]
        raise _refusal(taken, [True] * len(taken))
    return [
        _oriented(first, second, order)
        for i, j, order in found[0]
        for first, second in zip(lists[i], lists[j], strict=True)
    ]


def _only_partners(
    lists: Sequence[Sequence[Tensor]],
) -> list[list[tuple[int, int, _Order]]]:
    """Match groups if each fits exactly one other group, else return an empty list."""
    edges = [
        (i, j, order)
        for i in range(len(lists))
        for j in range(i + 1, len(lists))
        for order in _joins(lists[i], lists[j])
    ]
    uses = Counter(place for i, j, _ in edges for place in (i, j))
    return [edges] if set(uses.values()) == {1} else []


def _sorted(
    lists: Sequence[Sequence[Tensor]], i: int, j: int
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    return lists[min(i, j)], lists[max(i, j)]


def _joins(first: Sequence[Tensor], second: Sequence[Tensor]) -> list[_Order]:
    """Return the orders (A first, B first) in which the members of two groups match."""
    if len(first) != len(second):
        return []
    return [
        order
        for order in _ORDERS
        if all(
            fits(up, down) and _may_be_up(up) and _may_be_down(down)
            for up, down in (
                _oriented(a, b, order) for a, b in zip(first, second, strict=True)
            )
        )
    ]


def _oriented(first: Tensor, second: Tensor, order: _Order) -> Oriented:
    return (second, first) if order == "down_up" else (first, second)


def _parses(
    count: int, join: Callable[[int], _Join], optional: Callable[[int], bool]
) -> list[list[int]]:
    """Return up to two ways to split a sequence into adjacent pairs and skipped items.

    Args:
        count: length of the sequence.
        join: kind of the pair (i, i + 1). Pairs of the kind ``"wide"`` are skipped.
        optional: whether a single item may be skipped.

    Returns:
        For each way, a list with the index of the first item of every pair.
    """
    # From the end: ways[i] are the parses of everything from i on. As linked lists,
    # they share their tails.
    ways: list[list[_Chain]] = [[] for _ in range(count + 1)]
    ways[count] = [()]
    for i in reversed(range(count)):
        if optional(i):
            ways[i] += ways[i + 1]
        kind = join(i) if i + 1 < count else None
        if kind == "pair":
            ways[i] += [(i, rest) for rest in ways[i + 2]]
        elif kind == "wide":
            ways[i] += ways[i + 2]
        # Two ways already show that the order is ambiguous, and the number of all ways
        # can grow exponentially with the length.
        del ways[i][2:]
    return [_places(chain) for chain in ways[0]]


def _places(chain: _Chain) -> list[int]:
    places = []
    while chain:
        place, chain = chain
        places.append(place)
    return places


def _candidates(params: Sequence[Tensor]) -> list[bool]:
    """Return for each tensor whether it can form a pair with another tensor."""
    ups = Counter((p.dim(), p.shape[1]) for p in params if _may_be_up(p))
    downs = Counter((p.dim(), p.shape[0]) for p in params if _may_be_down(p))

    def has_partner(p: Tensor) -> bool:
        # A square tensor counts as a B and as an A, but is not its own partner.
        itself = int(_square(p))
        as_up = _may_be_up(p) and downs[p.dim(), p.shape[1]] > itself
        as_down = _may_be_down(p) and ups[p.dim(), p.shape[0]] > itself
        return as_up or as_down

    return [has_partner(p) for p in params]


def _may_be_up(tensor: Tensor) -> bool:
    return tensor.shape[2:].numel() == 1 and 0 < tensor.shape[1] <= tensor.shape[0]


def _may_be_down(tensor: Tensor) -> bool:
    return 0 < tensor.shape[0] <= tensor.numel() // max(1, tensor.shape[0])


def _square(tensor: Tensor) -> bool:
    return _may_be_up(tensor) and tensor.shape[0] == tensor.shape[1]


def _refusal(params: Sequence[Tensor], chosen: Sequence[bool]) -> PairingError:
    shapes = [tuple(p.shape) for p, take in zip(params, chosen, strict=True) if take]
    shown = ", ".join(map(str, shapes[:6])) + (", ..." if len(shapes) > 6 else "")
    return PairingError(
        f"params: {len(shapes)} parameters without names could be LoRA factors, but "
        "their shapes and order do not determine which A belongs to which B "
        f"({shown}). Pass the model, or pass named_parameters() instead of "
        "parameters(). LoKr is not supported."
    )
