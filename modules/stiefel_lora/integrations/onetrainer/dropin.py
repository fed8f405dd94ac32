"""Drop-in file for OneTrainer folders that are started by other launchers."""

from __future__ import annotations

from pathlib import Path

from ..._exceptions import OutputError
from ._choices import names

__all__ = ["install", "remove"]

# OneTrainer imports every file of this folder; git ignores untracked ones.
_PLACE = Path("modules", "modelSetup", "stiefel_lora_dropin.py")

_TEXT = '''\
"""Puts the optimizers of stiefel-lora into OneTrainer; delete this file to undo."""

import re
import sys
from pathlib import Path

NAMES = {names}

try:
    from stiefel_lora.integrations.onetrainer import patch
except ImportError as error:
    print(
        f"stiefel_lora_dropin: {{error}}; run: pip install stiefel-lora (in "
        "OneTrainer's environment), or delete this file.",
    )
    # OneTrainer alone would take ADAMW for these, and keep their learning rate.
    for argument in sys.argv[1:]:
        path = Path(argument.removeprefix("--config-path="))
        text = path.read_text("utf-8") if path.suffix == ".json" else ""
        for name in re.findall(r'"optimizer"\\s*:\\s*"([^"]*)"', text):
            if name in NAMES:
                sys.exit(f"{{path}}: the optimizer {{name!r}} is not installed.")
else:
    patch()
'''


def install(root: Path) -> Path:
    """Write the file to the OneTrainer folder ``root`` and return its path.

    Raises:
        OutputError: If the OneTrainer folder is not writable.
    """
    path = root / _PLACE
    try:
        path.write_text(_TEXT.format(names=names()), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
    return path


def remove(root: Path) -> Path:
    """Delete the file and return its path.

    Raises:
        OutputError: If the file does not exist or cannot be deleted.
    """
    path = root / _PLACE
    try:
        path.unlink()
    except OSError as error:
        raise OutputError(f"{path} cannot be removed: {error.strerror}.") from error
    return path
