"""Change the behavior of one function of the package, whatever its text is.

A function is found by its dotted name and changed in its syntax tree, so that the
wording, the layout and the comments of its file may change freely.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["Call", "Given", "Mutation", "Result", "Returns", "Value", "mutated"]

Function = ast.FunctionDef | ast.AsyncFunctionDef
Swap = Callable[[ast.expr], ast.expr | None]


class Mutation(Protocol):
    """A change of a function; its text is Python, its names are the function's."""

    def apply(self, function: Function) -> bool:
        """Change ``function`` in place; False: nothing in it could be changed."""
        ...


@dataclass(frozen=True)
class Returns:
    """The function does nothing and returns this."""

    value: str = "None"

    def apply(self, function: Function) -> bool:
        """Replace the body."""
        function.body = [ast.Return(_parse(self.value))]
        return True


@dataclass(frozen=True)
class Given:
    """A parameter has this value, whatever the caller passed."""

    parameter: str
    value: str

    def apply(self, function: Function) -> bool:
        """Assign it before the first statement."""
        arguments = function.args
        names = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        if self.parameter not in [name.arg for name in names]:
            return False
        assign = ast.parse(f"{self.parameter} = {self.value}").body
        function.body = [*assign, *function.body]
        return True


@dataclass(frozen=True)
class Result:
    """What the function returns or yields becomes this, made from ``result``."""

    value: str

    def apply(self, function: Function) -> bool:
        """Change every ``return`` and ``yield`` that is the function's own."""
        changed = False
        for node in _own_nodes(function):
            if isinstance(node, ast.Return | ast.Yield) and node.value is not None:
                change = _parse(f"(lambda result: {self.value})(None)")
                assert isinstance(change, ast.Call)
                change.args = [node.value]
                node.value, changed = change, True
        return changed


@dataclass(frozen=True)
class Value:
    """An expression, as ``config.steps``, has this value wherever it is read."""

    expression: str
    value: str

    def apply(self, function: Function) -> bool:
        """Replace each expression that is equal, spaces and quotes aside."""
        wanted = ast.dump(_parse(self.expression))

        def swap(node: ast.expr) -> ast.expr | None:
            return _parse(self.value) if ast.dump(node) == wanted else None

        return _replace(function, swap)


@dataclass(frozen=True)
class Call:
    """A call is not made and has this value, whatever its arguments are.

    ``callee`` is the end of the called name: ``sink.add`` is ``self.sink.add`` too.
    """

    callee: str
    value: str = "None"

    def apply(self, function: Function) -> bool:
        """Replace each call of it."""

        def swap(node: ast.expr) -> ast.expr | None:
            if not isinstance(node, ast.Call):
                return None
            name = f".{ast.unparse(node.func)}"
            return _parse(self.value) if name.endswith(f".{self.callee}") else None

        return _replace(function, swap)


def mutated(root: Path, name: str, mutation: Mutation) -> tuple[Path, str]:
    """File of a function, and its source with the function changed.

    Args:
        root: folder that holds the top package.
        name: dotted name of the function, also one under which a module imports it.
        mutation: the change.

    Raises:
        LookupError: no such function, or nothing in it that could be changed.
    """
    path, inside = _located(root, name)
    tree = ast.parse(path.read_text("utf-8"))
    functions = _functions(tree, inside)
    # Of a property, the getter; of an overloaded function, what is run.
    function = next(f for f in functions if not _is_overload(f))
    if not mutation.apply(function):
        raise LookupError(f"{name} holds nothing for {mutation}")
    return path, ast.unparse(ast.fix_missing_locations(tree))


def _located(root: Path, name: str) -> tuple[Path, str]:
    """File that defines ``name``, and the name inside it; imports are followed."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        stem = root.joinpath(*parts[:length])
        for path in (stem.with_suffix(".py"), stem / "__init__.py"):
            if not path.is_file():
                continue
            tree, inside = ast.parse(path.read_text("utf-8")), ".".join(parts[length:])
            if _functions(tree, inside):
                return path, inside
            source = _import_of(tree, parts[length])
            if source:
                return _located(root, ".".join((source, *parts[length + 1 :])))
    raise LookupError(f"no function {name}; {_others(root, name)}")


def _others(root: Path, name: str) -> str:
    """Functions of that name elsewhere, for whoever moved one."""
    for tail in (name.split(".")[-2:], name.split(".")[-1:]):
        inside = ".".join(tail)
        found = [
            ".".join((*path.relative_to(root).with_suffix("").parts, inside))
            for path in sorted(root.rglob("*.py"))
            if f"def {tail[-1]}(" in path.read_text("utf-8")
            and _functions(ast.parse(path.read_text("utf-8")), inside)
        ]
        if found:
            return f"there is {', '.join(found)}"
    return "nor one of that name elsewhere"


def _functions(tree: ast.Module, inside: str) -> list[Function]:
    scope: list[ast.stmt] = list(tree.body)
    *classes, last = inside.split(".")
    for name in classes:
        scope = [
            statement
            for node in scope
            if isinstance(node, ast.ClassDef) and node.name == name
            for statement in node.body
        ]
    return [n for n in scope if isinstance(n, Function) and n.name == last]


def _import_of(tree: ast.Module, name: str) -> str | None:
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return f"{node.module}.{alias.name}"
    return None


def _is_overload(function: Function) -> bool:
    return any("overload" in ast.unparse(d) for d in function.decorator_list)


def _own_nodes(function: Function) -> list[ast.AST]:
    """Nodes of the body, without those of functions defined inside."""
    found: list[ast.AST] = []
    left: list[ast.AST] = [*function.body]
    while left:
        node = left.pop()
        found.append(node)
        if not isinstance(node, (*Function.__args__, ast.Lambda, ast.ClassDef)):
            left += ast.iter_child_nodes(node)
    return found


def _replace(function: Function, swap: Swap) -> bool:
    """Put what ``swap`` returns in place of each expression of the body."""
    swapper = _Swapper(swap)
    function.body = [swapper.visit(statement) for statement in function.body]
    return swapper.changed


class _Swapper(ast.NodeTransformer):
    def __init__(self, swap: Swap) -> None:
        self._swap, self.changed = swap, False

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.expr):
            new = self._swap(node)
            if new is not None:
                self.changed = True
                return new
        return super().generic_visit(node)


def _parse(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body
