"""Loading of optimizer plugins: files, modules and installed packages.

A plugin is Python code that calls :func:`~stiefel_lora.optim.register.register`. It is
imported when it is named in a configuration or command. Installed packages provide
plugins as entry points of the group ``stiefel_lora.methods``. The name of the entry
point is the name of the method.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import stat
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from .._exceptions import ConfigError, InputError, OptionError, reason_of
from ._catalogue import BUILT_IN, CATALOGUE, name_plugin, remove_method, suggestion
from ._packaged import PACKAGED
from ._types import Method

__all__ = [
    "GROUP",
    "TYPO",
    "find_installed",
    "is_file_name",
    "load_installed",
    "load_plugin",
    "method",
]

GROUP = "stiefel_lora.methods"
"""Entry point group. An entry is ``name of the method = module``."""

TYPO = 0.8
"""Minimum difflib ratio of a misspelled name and a known name."""

_Stamp = tuple[int, int]
# File -> its modification time and size when it was run, and the error if that failed.
_files: dict[Path, tuple[_Stamp, ConfigError | None]] = {}


def method(name: str) -> Method:
    """Look up a method by name, including installed plugins.

    Raises:
        OptionError: If no method has this name. The message suggests the nearest one.
        ConfigError: If the installed plugin with this name cannot be imported.
    """
    if not isinstance(name, str):
        own = getattr(name, "method", None)
        raise OptionError(
            f"The optimizer must be the name of a method, but got {_kind(name)}. "
            f"Use {own if isinstance(own, str) else 'stiefel_lora'!r}, as a string."
        )
    if name in PACKAGED:
        entry = PACKAGED[name]
        raise OptionError(
            f"{name!r} is {entry.class_path}, which is only created by "
            "name in a training configuration. Create the class itself."
        )
    if name not in CATALOGUE:
        find_installed(name)
    if name in CATALOGUE:
        return CATALOGUE[name]
    known = [*CATALOGUE, *_entry_points()]
    message = f"Unknown optimizer {name!r}. {suggestion(name, known)}"
    if not difflib.get_close_matches(name, known, n=1, cutoff=TYPO):
        message += (
            " If it is defined in a plugin, import its module first, or pass its "
            "file or module with --plugin."
        )
    raise OptionError(message)


def _kind(given: object) -> str:
    if isinstance(given, type):
        return f"the class {given.__name__}"
    return "None" if given is None else f"an object of type {type(given).__name__}"


def is_file_name(text: str) -> bool:
    """Return whether an entry of ``plugins`` is the path of a file."""
    return text.endswith(".py") or "/" in text or "\\" in text or text.startswith("~")


def load_plugin(text: str) -> list[Method]:
    """Import a plugin. A file is not executed again if it is unchanged.

    Args:
        text: path of a Python file, or name of a module or package.

    Returns:
        The methods that it registers.

    Raises:
        ConfigError: If the file or module does not exist, cannot be imported, or does
            not register a method.
    """
    if is_file_name(text):
        path = Path(os.path.abspath(os.path.expanduser(text)))
        module = _run_file(path)
        found = _methods_of(module)
        plugin, shown = str(path), str(path)
    else:
        module = _import(text)
        found = _methods_of(module)
        plugin, shown = module, text
    if not found:
        raise ConfigError(
            f"plugins: {shown} registers no optimizer. Add the decorator "
            "@register(...) from stiefel_lora to its class."
        )
    for name in found:
        name_plugin(name, plugin)
    return [CATALOGUE[name] for name in found]


def find_installed(name: str) -> None:
    """Import the installed plugin that provides a method, if there is one.

    Raises:
        ConfigError: If the plugin cannot be imported, or does not register the method.
    """
    entry = _entry_points().get(name)
    if entry is None:
        return
    load_plugin(entry.module)
    if name not in CATALOGUE:
        raise ConfigError(
            f"plugins: the entry point {name!r} of {_package(entry)} registers no "
            f"optimizer with this name. Correct its name in the group {GROUP}."
        )


def load_installed() -> list[str]:
    """Import all installed plugins.

    Returns:
        A message for each plugin that cannot be imported, or is ignored because its
        name is already in use.
    """
    problems = []
    found = _entry_points()
    for entry in importlib.metadata.entry_points(group=GROUP):
        name, other = entry.name, found[entry.name]
        taken = f"that of {_package(other)}"
        if name in BUILT_IN:
            taken = "the built-in optimizer"
        if name in BUILT_IN or other.value != entry.value:
            problems.append(
                f"plugins: the entry point {name!r} of {_package(entry)} is "
                f"ignored, because {taken} has the same name. Rename it in the "
                f"group {GROUP} of the package."
            )
    for name in found:
        if name not in CATALOGUE:
            try:
                find_installed(name)
            except ConfigError as error:
                problems.append(str(error))
    return problems


def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}


def _package(entry: importlib.metadata.EntryPoint) -> str:
    return f"the package {entry.dist.name}" if entry.dist else entry.value


def _methods_of(module: str) -> list[str]:
    """Return the methods whose class is in a module, its submodules or imports."""
    values = vars(sys.modules[module]).values() if module in sys.modules else ()
    classes = {id(value) for value in values if isinstance(value, type)}
    return [
        name
        for name, entry in CATALOGUE.items()
        if entry.implementation is not None
        and (
            f"{entry.target.partition(':')[0]}.".startswith(f"{module}.")
            or id(entry.implementation) in classes
        )
    ]


def _import(name: str) -> str:
    """Import a module, directly or by its entry point, and return its name."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(
            f"plugins: {name!r} is neither a file nor a module name. Use a path "
            "that ends in .py, or a name such as my_package.my_method."
        )
    missing = _missing_module(name)
    if missing is not None:
        entry = _entry_points().get(name)
        if entry is None or entry.module == name:
            raise ConfigError(
                f"plugins: the module {missing} does not exist. Install its "
                f"package, or use the path of a file such as {name}.py."
            )
        return _import(entry.module)
    _guarded(name, lambda: importlib.import_module(name))
    return name


def _missing_module(name: str) -> str | None:
    """Return the first part of a dotted name that does not exist, or None."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        part = ".".join(parts[:end])
        if part in sys.modules:
            continue
        if end > 1:
            parent = ".".join(parts[: end - 1])
            _guarded(parent, lambda parent=parent: importlib.import_module(parent))
        try:
            spec = importlib.util.find_spec(part)
        except (ImportError, ValueError):
            # The part before it is not a package.
            return part
        if spec is None:
            return part
    return None


def _run_file(path: Path) -> str:
    """Import a file as a module and return the name of the module."""
    try:
        status, real = path.stat(), path.resolve()
    except (OSError, ValueError):
        raise ConfigError(
            f"plugins: the file {_visible(path)} does not exist. Correct the path."
        ) from None
    if path.suffix != ".py" or not stat.S_ISREG(status.st_mode):
        raise ConfigError(
            f"plugins: {_visible(path)} is not a Python file. Use the path of a "
            "file that ends in .py."
        )
    # One file by two paths, such as a link, is one module.
    stem = "".join(letter if letter.isalnum() else "_" for letter in real.stem)
    name = f"{stem}_{hashlib.sha256(str(real).encode()).hexdigest()[:8]}"
    stamp = status.st_mtime_ns, status.st_size
    before, error = _files.get(real, (None, None))
    if before != stamp:
        error = None
        for method_name in _methods_of(name):
            remove_method(method_name)
        try:
            _guarded(str(path), lambda: _execute(path, name))
        except ConfigError as problem:
            error = problem
            for method_name in _methods_of(name):
                remove_method(method_name)
        _files[real] = stamp, error
    if error is not None:
        raise error
    return name


def _visible(path: Path) -> str:
    return str(path) if str(path).isprintable() else ascii(str(path))


def _execute(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _guarded(shown: str, work: Callable[[], object]) -> None:
    """Import a plugin, converting all exceptions to ConfigError.

    Raises:
        ConfigError: If the plugin raises an error. The message contains the line.
    """
    try:
        # The output of a command is read by programs: a schema, JSON.
        with contextlib.redirect_stdout(sys.stderr):
            work()
    except SyntaxError as error:
        line = f" in line {error.lineno}" if error.lineno else ""
        raise ConfigError(
            f"plugins: {error.filename or shown} has a syntax error{line} "
            f"({error.msg}). Fix {'that line' if line else 'the file'}."
        ) from error
    except InputError as error:
        raise ConfigError(f"plugins: {shown}: {error}") from error
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        fix = f"Install {missing.partition('.')[0]}, or fix" if missing else "Fix"
        raise ConfigError(
            f"plugins: {shown} cannot be imported{_line(shown, error)} "
            f"({type(error).__name__}: {reason_of(error)}). {fix} the plugin."
        ) from error


def _line(shown: str, error: BaseException) -> str:
    """Return the last line in the file of the plugin that led to an error."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == shown]
    return f", line {lines[-1]}" if lines else ""
