"""A checkout of another program with names changed, consistent in itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["change_checkout"]


def change_checkout(
    root: Path, renamed: Mapping[str, str], moved: Mapping[str, str]
) -> None:
    """Rename and move in all files of a checkout, in place.

    Args:
        root: the checkout.
        renamed: pattern of whole words -> what stands there instead.
        moved: module -> where its file goes; imports follow.
    """
    patterns = {rf"\b{old}\b": new for old, new in renamed.items()}
    for old, new in moved.items():
        target = _file(root, new)
        target.parent.mkdir(exist_ok=True)
        _file(root, old).rename(target)
        before, _, name = old.rpartition(".")
        after, _, other = new.rpartition(".")
        patterns[rf"\b{re.escape(old)}\b"] = new
        patterns[rf"\bfrom {re.escape(before)} import {name}\b"] = (
            f"from {after} import {other} as {name}"
        )
    for path in sorted(root.rglob("*.py")):
        text = changed = path.read_text("utf-8")
        for pattern, new in patterns.items():
            changed = re.sub(pattern, new, changed)
        if changed != text:
            path.write_text(changed, "utf-8")


def _file(root: Path, module: str) -> Path:
    return root / (module.replace(".", "/") + ".py")
