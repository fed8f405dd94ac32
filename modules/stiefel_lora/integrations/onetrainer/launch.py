"""Launcher of OneTrainer with the optimizers of this package.

    python -m stiefel_lora.integrations.onetrainer.launch CHECKOUT ui
    python -m stiefel_lora.integrations.onetrainer.launch CHECKOUT train --config-path F
    python -m stiefel_lora.integrations.onetrainer.launch CHECKOUT install-dropin
    python -m stiefel_lora.integrations.onetrainer.launch CHECKOUT remove-dropin

``--plugin my_method.py`` after the command adds optimizers of a file or module. Use the
Python environment of OneTrainer. Arguments after ``train`` are passed to
``scripts/train.py`` of OneTrainer. Paths can be relative to the current folder.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from ..._exceptions import InputError, ModelError, StiefelLoraError
from ._choices import method_named
from ._hooks import check_hooks, warn_of_all
from ._names import named_in
from ._plugins import take_plugins
from ._points import TESTED
from .dropin import install, remove

__all__ = ["enter", "main"]

# Multi-GPU training starts this module again in every child, without our arguments.
_ROOT = "STIEFEL_LORA_ONETRAINER"

_SCRIPTS = {"ui": "train_ui_qt", "ui-ctk": "train_ui_ctk", "train": "train"}
_FILES = ("--config-path", "--preset-path", "--secrets-path")


def main(arguments: list[str]) -> int:
    """Run a command. Return 0 for success, 1 for failure, or 2 for invalid input."""
    try:
        return _run(arguments)
    except StiefelLoraError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1


def _run(arguments: list[str]) -> int:
    verbs = [*_SCRIPTS, "install-dropin", "remove-dropin"]
    if len(arguments) < 2 or arguments[1] not in verbs:
        print(__doc__, file=sys.stderr)
        return 2
    root, verb, rest = Path(arguments[0]).absolute(), arguments[1], arguments[2:]
    if not all((root / folder).is_dir() for folder in ("modules/util", "scripts")):
        raise ModelError(
            f"{root} is not a OneTrainer folder, because it has no modules/util and "
            "scripts."
        )
    if verb == "install-dropin":
        print(f"Installed {install(root)}")
        return 0
    if verb == "remove-dropin":
        print(f"Removed {remove(root)}")
        return 0
    script = root / "scripts" / f"{_SCRIPTS[verb]}.py"
    if not script.is_file():
        raise ModelError(
            f"This version of OneTrainer has no {script.relative_to(root)}. "
            f"stiefel-lora was tested with {TESTED}."
        )
    sys.argv = [str(script), *_absolute(take_plugins(rest))]
    os.environ[_ROOT] = str(root)
    enter(root)
    start = importlib.import_module(_SCRIPTS[verb])
    if verb == "train":
        _check_named(sys.argv[1:])
    else:
        warn_of_all()
    start.main()
    return 0


def _check_named(arguments: list[str]) -> None:
    """Check that the optimizer in the configuration is supported by this OneTrainer.

    The check is repeated when OneTrainer creates a trainer.
    """
    method = method_named(named_in(arguments))
    if method is not None:
        check_hooks(method, None)


def _absolute(arguments: list[str]) -> list[str]:
    """Make file paths absolute, because OneTrainer runs in its checkout."""
    result = list(arguments)
    for index, argument in enumerate(arguments):
        name, given, path = argument.partition("=")
        if name in _FILES and given:
            result[index] = f"{name}={Path(path).absolute()}"
        elif name in _FILES and index + 1 < len(arguments):
            result[index + 1] = str(Path(arguments[index + 1]).absolute())
    return result


def enter(root: Path) -> None:
    """Install the hooks and change to the OneTrainer folder."""
    from . import patch

    os.chdir(root)
    for folder in (root, root / "scripts"):
        sys.path.insert(0, str(folder))
    patch()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
elif __name__ == "__mp_main__" and _ROOT in os.environ:
    enter(Path(os.environ[_ROOT]))
