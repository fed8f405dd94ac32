"""Count the files of the package and those that typical contributions touch.

    python scripts/count_house.py               # the working tree
    python scripts/count_house.py 5684123 .     # a commit of this repository, beside it
    python scripts/count_house.py . --files     # with the names of the files

An argument is a folder with a checkout, or a commit. The first table has lines,
comments and docstrings; the second one, files of each folder; the third one, the files
that six tasks of a contributor open and touch. Those are computed from the sources:
chains of calls by their syntax trees, and files that name a thing by the words in their
code. Nothing is imported.
"""

from __future__ import annotations

import ast
import collections
import dataclasses
import functools
import io
import subprocess
import sys
import tarfile
import tempfile
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "stiefel_lora"

# Options of a run that stand for "a config key": each with a reader outside of config.
KEYS = ("clip_grad_norm", "gradient_checkpointing", "ema_decay")
FAMILIES = ("sdxl", "sd15", "flux")
HOST = "musubi"
METHOD = ("lora_plus", "LoRAPlus")
KOHYA = ("lora_unet", "lora_te")

# Folders that read the keys and names of other programs: not part of any task.
IMPORTERS = "config/foreign/"

Functions = ast.FunctionDef | ast.AsyncFunctionDef
Place = tuple[str, str]
"""A file of the package and a name in it: ``f``, ``C`` or ``C.m``."""


@dataclasses.dataclass
class Source:
    """One file of the package."""

    name: str
    """Path below the package."""

    text: str
    tree: ast.Module
    imports: dict[str, tuple[str, str]]
    """Local name -> module and name that it was imported as; "" for the module."""

    top: dict[str, ast.stmt]
    """Functions, classes and assigned names of the module."""

    @property
    def module(self) -> str:
        """Dotted path below the package; "" for the package itself."""
        parts = self.name.removesuffix(".py").split("/")
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @functools.cached_property
    def words(self) -> set[str]:
        """Identifiers, and words in strings that are no docstrings."""
        found: set[str] = set()
        prose = {id(node) for node in _docstrings(self.tree)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set() if id(node) in prose else set(_words(node.value))
            elif isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.keyword | ast.arg) and node.arg:
                found.add(node.arg)
            elif isinstance(node, ast.alias):
                found |= set(node.name.split("."))
            elif isinstance(node, ast.ClassDef | Functions):
                found.add(node.name)
        return found


def _words(text: str) -> Iterator[str]:
    word = ""
    for letter in f"{text} ":
        if letter.isalnum() or letter == "_":
            word += letter
        elif word:
            yield word
            word = ""


def _docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    """Docstrings, and the strings below a field that document it."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            if isinstance(statement, ast.Expr) and isinstance(
                statement.value, ast.Constant
            ):
                yield statement.value


class House:
    """The package in a checkout, read once.

    Args:
        checkout: folder that holds ``modules/stiefel_lora``.
    """

    def __init__(self, checkout: Path) -> None:
        folder = checkout / "modules" / PACKAGE
        self.files: dict[str, Source] = {}
        for path in sorted(folder.rglob("*.py")):
            name = path.relative_to(folder).as_posix()
            text = path.read_text(encoding="utf-8")
            self.files[name] = _source(name, text)
        self.modules = {source.module: source for source in self.files.values()}

    def resolve(self, module: str, name: str) -> Place | None:
        """File that defines a name, through the imports of other files."""
        source = self.modules.get(module)
        if source is None:
            return None
        if name in source.top:
            return source.name, name
        if name in source.imports:
            return self.resolve(*source.imports[name])
        return None

    def find(self, name: str) -> Place | None:
        """The definition of a name, wherever it is."""
        for source in self.files.values():
            if name in source.top:
                return source.name, name
        return None

    def node(self, place: Place) -> ast.AST | None:
        """Syntax tree of a definition."""
        name, _, method = place[1].partition(".")
        top = self.files[place[0]].top.get(name)
        if not method or not isinstance(top, ast.ClassDef):
            return top
        return next(
            (n for n in top.body if isinstance(n, Functions) and n.name == method),
            None,
        )

    def ancestors(self, place: Place) -> Iterator[Place]:
        """A class and its bases in the package, nearest first."""
        yield place
        node = self.node(place)
        module = self.files[place[0]].module
        for base in node.bases if isinstance(node, ast.ClassDef) else ():
            known = isinstance(base, ast.Name)
            found = self.resolve(module, base.id) if known else None
            if found:
                yield from self.ancestors(found)

    def reachable(self, name: str) -> set[str]:
        """Files that a file imports, and those that they import."""
        seen, waiting = {name}, [name]
        while waiting:
            for module, imported in self.files[waiting.pop()].imports.values():
                place = self.resolve(module, imported)
                if place and place[0] not in seen:
                    seen.add(place[0])
                    waiting.append(place[0])
        return seen

    def named(self, words: Iterable[str]) -> list[str]:
        """Files in whose code one of the words is an identifier or in a string."""
        wanted = set(words)
        return [n for n, source in self.files.items() if wanted & source.words]

    def starting(self, prefixes: tuple[str, ...]) -> list[str]:
        """Files in whose code a word begins with one of the prefixes."""
        return [
            name
            for name, source in self.files.items()
            if any(word.startswith(prefixes) for word in source.words)
        ]


def _source(name: str, text: str) -> Source:
    tree = ast.parse(text)
    folder = name.split("/")[:-1]
    imports: dict[str, tuple[str, str]] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        path = (node.module or "").split(".") if node.module else []
        if node.level:
            path = folder[: len(folder) - node.level + 1] + path
        elif path[:1] == [PACKAGE]:
            path = path[1:]
        else:
            continue
        for alias in node.names:
            imports[alias.asname or alias.name] = (".".join(path), alias.name)
    top: dict[str, ast.stmt] = {}
    for statement in tree.body:
        if isinstance(statement, Functions | ast.ClassDef):
            top[statement.name] = statement
        elif isinstance(statement, ast.Assign):
            names = [t.id for t in statement.targets if isinstance(t, ast.Name)]
            top |= dict.fromkeys(names, statement)
        elif isinstance(statement, ast.AnnAssign) and isinstance(
            statement.target, ast.Name
        ):
            top[statement.target.id] = statement
    return Source(name, text, tree, imports, top)


class Calls:
    """Return the definitions that a definition uses, by name.

    A method that is called on anything but ``self`` can be that of every class within
    reach, which the files that the start imports are.

    Args:
        house: the package.
        start: the class that calls begin at.
    """

    def __init__(self, house: House, start: Place) -> None:
        self._house = house
        self._own = list(house.ancestors(start))
        self._methods: dict[str, list[Place]] = collections.defaultdict(list)
        for name in house.reachable(start[0]):
            for top, node in house.files[name].top.items():
                for part in node.body if isinstance(node, ast.ClassDef) else ():
                    if isinstance(part, Functions):
                        self._methods[part.name].append((name, f"{top}.{part.name}"))

    def method(self, name: str) -> Place | None:
        """The method of the class itself, from the nearest of its bases."""
        for file, top in self._own:
            if self._house.node((file, f"{top}.{name}")) is not None:
                return file, f"{top}.{name}"
        return None

    def used(self, place: Place) -> Iterator[Place]:
        """Definitions that one uses."""
        node = self._house.node(place)
        module = self._house.files[place[0]].module
        for part in ast.walk(node) if node is not None else ():
            if isinstance(part, ast.Name):
                found = self._house.resolve(module, part.id)
                yield from [found] if found and found != place else []
            elif isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
                called = part.func
                mine = isinstance(called.value, ast.Name) and called.value.id == "self"
                own = self.method(called.attr) if mine else None
                yield from [own] if own else self._methods.get(called.attr, [])

    def chain(self, start: Place, end: Place) -> list[Place]:
        """The way from one definition to another that enters the fewest files."""
        costs, before = {start: 0}, {start: start}
        waiting = collections.deque([start])
        while waiting:
            place = waiting.popleft()
            if place == end:
                way = [place]
                while way[-1] != start:
                    way.append(before[way[-1]])
                return way[::-1]
            for other in self.used(place):
                entered = int(other[0] != place[0])
                if costs[place] + entered < costs.get(other, sys.maxsize):
                    costs[other] = costs[place] + entered
                    before[other] = place
                    (waiting.append if entered else waiting.appendleft)(other)
        return []


def step_of_b(house: House) -> tuple[list[str], list[str]]:
    """Files from StiefelLoRA.step to the retraction, and those that are read for it.

    What is read: the chain, the rule of B with what it uses by name, and the contracts
    that its classes follow.
    """
    cls, retraction = house.find("StiefelLoRA"), house.find("nearest_orthonormal")
    turn, rule = house.find("TurnUp"), house.find("StiefelRule")
    if not (cls and retraction and turn and rule):
        return [], []
    calls = Calls(house, cls)
    start = calls.method("step")
    chain = calls.chain(start, retraction) if start else []
    files = _files([cls, *chain])
    read = [*house.ancestors(turn), *house.ancestors(rule)]
    waiting, seen = [turn], {turn}
    while waiting:
        # Helpers in the file of the rule are read on; of other files, what is named.
        for place in calls.used(waiting.pop()):
            read.append(place)
            if place not in seen and place[0] == turn[0]:
                waiting.append(place)
            seen.add(place)
    return files, _files([*((name, "") for name in files), *read])


def key_to_rule(house: House) -> list[str]:
    """Files from ``optimizer.momentum`` in JSON to the rule of StiefelLoRA."""
    found = [
        *(house.find(name) for name in ("STIEFEL_LORA", "OptimizerConfig")),
        _caller(house, "training/", "create_optimizer"),
        *(house.find(name) for name in ("create_optimizer", "StiefelLoRA")),
        house.find("StiefelRule"),
        _caller(house, "optim/", "numbers", "look"),
    ]
    config = [n for n in house.named(["CATALOGUE"]) if n.startswith("config/optimizer")]
    places = [place for place in found if place is not None]
    return _files([*places, *((name, "") for name in config)])


def _caller(house: House, folder: str, *called: str) -> Place | None:
    """The file of a folder that calls all of these."""
    for name, source in house.files.items():
        calls = {
            getattr(node.func, "attr", getattr(node.func, "id", ""))
            for node in ast.walk(source.tree)
            if isinstance(node, ast.Call)
        }
        if name.startswith(folder) and set(called) <= calls:
            return name, called[0]
    return None


def _files(places: Iterable[Place]) -> list[str]:
    return list(dict.fromkeys(name for name, _ in places))


def tasks(house: House) -> Iterator[tuple[str, list[str], list[str]]]:
    """Each task of a contributor with the files that are opened and touched."""
    chain, read = step_of_b(house)
    turn = house.find("TurnUp")
    yield "StiefelLoRA.step to the retraction", chain, []
    yield "change B's step", read, _files([turn] if turn else [])
    rule, register = house.find("Rule"), house.find("register")
    contract = _files(place for place in (rule, house.find("FactorRule")) if place)
    yield "add an optimizer to the package", contract, house.named(METHOD)
    outside = "register" in house.files.get("__init__.py", _source("x", "")).words
    yield (
        "add an optimizer from outside" + ("" if outside else " (not possible)"),
        _files([register] if register else []),
        [],
    )
    yield "optimizer.momentum to the rule", key_to_rule(house), []
    for key in KEYS:
        own = [n for n in house.named([key]) if not n.startswith(IMPORTERS)]
        fields = [n for n in own if n.startswith("config/")]
        yield f"a config key ({key})", own, fields
    for family in FAMILIES:
        words = [family, family.upper()]
        yield f"a family ({family})", house.named(words), house.named(words)
    host = [n for n in house.files if HOST in n or HOST in house.files[n].words]
    yield f"a host ({HOST})", host, host
    kohya = [n for n in house.starting(KOHYA) if n.startswith("files/")]
    yield "fix a kohya key", kohya, [n for n in kohya if "/tools/" not in n]


def lines(house: House) -> dict[str, float]:
    """Numbers of lines by kind, and sizes of files and functions."""
    counts: collections.Counter[str] = collections.Counter()
    for source in house.files.values():
        prose = {
            number
            for node in _docstrings(source.tree)
            if isinstance(node.value, str)
            for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        }
        code: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
            if token.type == tokenize.COMMENT:
                counts["comment lines"] += 1
            elif token.string.strip() and token.type != tokenize.ENDMARKER:
                code |= set(range(token.start[0], token.end[0] + 1))
        counts["docstring lines"] += len(prose)
        counts["code lines"] += len(code - prose)
    sizes = sorted(len(source.text.splitlines()) for source in house.files.values())
    stems = collections.Counter(
        Path(name).stem for name in house.files if not name.endswith("__init__.py")
    )
    return {
        "files": len(sizes),
        **counts,
        "comments per 100 lines of code": 100
        * counts["comment lines"]
        / counts["code lines"],
        "docstring lines per 100": 100
        * counts["docstring lines"]
        / counts["code lines"],
        "lines of a file, median": median(sizes),
        "lines of a file, 95 %": sizes[int(0.95 * (len(sizes) - 1))],
        "lines of a file, largest": sizes[-1],
        "file stems that occur twice": sum(count > 1 for count in stems.values()),
    }


def folders(house: House) -> dict[str, float]:
    """Files of each folder."""
    counts = collections.Counter(
        name.rpartition("/")[0] or "(package)" for name in house.files
    )
    return dict(sorted(counts.items()))


def table(title: str, names: Sequence[str], rows: Sequence[dict[str, object]]) -> None:
    """Print a row for each key with a column for each checkout."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    width = max(len(key) for key in keys)
    print(f"\n{title:<{width}}  " + "  ".join(f"{name:>12}" for name in names))
    for key in keys:
        cells = (row.get(key, "-") for row in rows)
        shown = (f"{c:.1f}" if isinstance(c, float) else str(c) for c in cells)
        print(f"{key:<{width}}  " + "  ".join(f"{cell:>12}" for cell in shown))


def read(argument: str) -> House:
    """Read a checkout, or a commit of this repository."""
    if Path(argument).is_dir():
        return House(Path(argument))
    command = ["git", "archive", argument, f"modules/{PACKAGE}"]
    packed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
        return House(Path(folder))


def main(arguments: Sequence[str]) -> int:
    """Print the tables of all arguments side by side; files with ``--files``."""
    names = [name for name in arguments if name != "--files"] or [str(ROOT)]
    houses = [read(name) for name in names]
    short = [name if len(name) <= 12 else f"..{name[-10:]}" for name in names]
    table("lines", short, [dict(lines(house)) for house in houses])
    table("files of a folder", short, [dict(folders(house)) for house in houses])
    found = [list(tasks(house)) for house in houses]
    counted: list[dict[str, object]] = [
        {
            task: f"{len(opened)} / {len(touched)}" if touched else str(len(opened))
            for task, opened, touched in rows
        }
        for rows in found
    ]
    table("files opened / touched", short, counted)
    if "--files" in arguments:
        for name, rows in zip(names, found, strict=True):
            for task, opened, _ in rows:
                print(f"\n{name}: {task}", *opened, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
