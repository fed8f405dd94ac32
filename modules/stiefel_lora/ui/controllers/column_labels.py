"""Labels of the columns of a heat map."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["column_labels", "even_distance"]


def column_labels(names: Sequence[str], most: int) -> list[tuple[int, str]]:
    """Return places and names of at most ``most`` labels.

    They are at equal distances, and end at multiples of it: with names of 10, 20, 30,
    ..., the labels are 20, 40, ... or 50, 100, ....

    >>> column_labels(["10", "20", "30", "40"], 2)
    [(1, '20'), (3, '40')]
    """
    apart = even_distance(len(names), most)
    return [(at, names[at]) for at in range(apart - 1, len(names), apart)]


def even_distance(count: int, most: int) -> int:
    """Return the distance of labels so that at most ``most`` of ``count`` are shown.

    It is 1, 2 or 5 times a power of ten.

    >>> [even_distance(count, 6) for count in (1, 6, 7, 12, 13, 40, 1000)]
    [1, 1, 2, 2, 5, 10, 200]
    """
    power = 1
    while True:
        for factor in (1, 2, 5):
            if count <= most * factor * power:
                return factor * power
        power *= 10
