"""A copy of the stand-in in which names have changed, trained in this process."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from onetrainer_stand_in import HOST, forget

from helpers.changed_checkout import change_checkout
from stiefel_lora.integrations.onetrainer import launch

__all__ = ["Changed"]


class Changed:
    """A host that is consistent in itself, and not the one that was tested.

    Args:
        root: where the copy goes.
        renamed: as :func:`helpers.changed_checkout.change_checkout`.
        moved: likewise.
    """

    def __init__(
        self,
        root: Path,
        renamed: Mapping[str, str] | None = None,
        moved: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root / "host"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(HOST, self.root, ignore=ignored)
        change_checkout(self.root, renamed or {}, moved or {})

    def train(self, optimizer: str, *more: str, **config: Any) -> int:
        """Train through the launcher; its exit code."""
        settings = {"optimizer": optimizer, **config.pop("settings", {})}
        path = self.root / "config.json"
        path.write_text(json.dumps({"optimizer": settings, **config}), "utf-8")
        with self.entered():
            arguments = [str(self.root), "train", "--config-path", str(path), *more]
            return launch.main(arguments)

    def train_by_dropin(self, optimizer: str, **config: Any) -> None:
        """Train with the drop-in and the host's own script."""
        settings = {"optimizer": optimizer, **config.pop("settings", {})}
        path = self.root / "config.json"
        path.write_text(json.dumps({"optimizer": settings, **config}), "utf-8")
        assert launch.main([str(self.root), "install-dropin"]) == 0
        with self.entered():
            os.chdir(self.root)
            sys.path[:0] = [str(self.root), str(self.root / "scripts")]
            sys.argv = ["train.py", "--config-path", str(path)]
            importlib.import_module("train").main()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Leave this process as it was before the host was imported."""
        before = Path.cwd(), list(sys.path), set(sys.modules), list(sys.argv)
        forget()
        try:
            yield
        finally:
            forget()
            os.environ.pop(launch._ROOT, None)
            os.chdir(before[0])
            sys.path[:], sys.argv[:] = before[1], before[3]
            for name in set(sys.modules) - before[2]:
                if name.partition(".")[0] in ("modules", "stand_in", "train"):
                    del sys.modules[name]
            importlib.invalidate_caches()
