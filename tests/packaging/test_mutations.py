"""helpers/mutations changes a function by its name, not by its text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.mutations import Call, Given, Mutation, Result, Returns, Value, mutated

PLAIN = '''
class Shop:
    rate = 2.0

    def price(self, count, *, discount=0.0):
        """Price of ``count`` pieces."""
        if count < 0:
            raise ValueError("count: negative. Use 0 or more.")
        total = self.rate * abs(count)

        def rounded(value):
            return round(value, 2)

        return rounded(total * (1 - discount))

    def prices(self, counts):
        for count in counts:
            yield self.price(count)
'''
REWORDED = '''
class Shop:
    """Lorem ipsum."""

    rate = 2.0

    def price(
        self,
        count,
        *,
        discount=0.0,
    ):
        # Dolor sit amet.
        if (count < 0):
            raise ValueError(f"consectetur {count}")
        total = (self . rate) * (  abs(
            count
        ))
        def rounded(value): return round(value, 2)
        return rounded(total*(1-discount))

    def prices(self, counts):
        """Adipiscing elit."""
        for count in counts: yield self.price(count)
'''


def use(root: Path, name: str, mutation: Mutation) -> Callable[..., Any]:
    _, text = mutated(root, f"shop.{name}", mutation)
    names: dict[str, Any] = {}
    exec(text, names)
    return getattr(names["Shop"](), name.rpartition(".")[2])


@pytest.fixture(params=[PLAIN, REWORDED], ids=["plain", "reworded"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "_till.py").write_text(request.param, "utf-8")
    (tmp_path / "shop" / "__init__.py").write_text(
        "from shop._till import Shop\n", "utf-8"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("mutation", "price"),
    [
        (Returns("count + 100"), 103),
        (Given("discount", "1.0"), 0),
        (Given("count", "10"), 10),
        (Result("-result"), -3),
        (Value("self.rate", "8.0"), 12),
        (Call("abs", "5"), 5),
    ],
    ids=str,
)
def test_each_mutation(root: Path, mutation: Mutation, price: float) -> None:
    assert use(root, "_till.Shop.price", mutation)(3, discount=0.5) == price


def test_a_generator_and_an_imported_name(root: Path) -> None:
    assert [*use(root, "Shop.prices", Result("0"))([1, 2])] == [0, 0]
    assert [*use(root, "Shop.prices", Call("self.price", "7"))([1])] == [7]


@pytest.mark.parametrize(
    "mutation",
    [Given("size", "1"), Value("self.price", "1"), Call("bs", "1")],
    ids=str,
)
def test_a_mutation_that_changes_nothing_is_an_error(
    root: Path, mutation: Mutation
) -> None:
    with pytest.raises(LookupError, match="holds nothing"):
        mutated(root, "shop.Shop.price", mutation)


def test_a_function_that_moved_is_pointed_to(root: Path) -> None:
    with pytest.raises(LookupError, match=r"there is shop\._till\.Shop\.price"):
        mutated(root, "shop.cashier.Shop.price", Returns())
    with pytest.raises(LookupError, match="nor one of that name"):
        mutated(root, "shop.Shop.pay", Returns())
