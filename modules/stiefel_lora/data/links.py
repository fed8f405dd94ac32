"""Symbolic links in image folders that are not followed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .._wording import counted

__all__ = ["Links", "find_links", "link_remarks"]

# Maximum number of links in a message.
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Links:
    """Symbolic links that are not used for training."""

    broken: list[Path]
    """Broken links, such as git-annex files whose content is missing."""

    folders: list[Path]
    """Links to folders, if subfolders are searched."""


def find_links(paths: Iterable[Path], *, deep: bool) -> Links:
    """Find broken links, and with ``deep`` also links to folders."""
    links = [path for path in paths if path.is_symlink()]
    return Links(
        # Not Path.exists, which raises if a folder on the way is not accessible.
        broken=[path for path in links if not os.path.exists(path)],
        folders=[path for path in links if deep and os.path.isdir(path)],
    )


def link_remarks(links: Links, folder: Path) -> Iterator[str]:
    """Return a message for each kind of link in ``folder``."""
    if links.broken:
        what = counted(
            len(links.broken),
            "broken symbolic link is skipped",
            "broken symbolic links are skipped",
        )
        yield (
            f"{folder}: {what} ({_some(links.broken, folder)}). Restore or correct "
            "the link targets."
        )
    if links.folders:
        what = counted(
            len(links.folders),
            "subfolder is a symbolic link and is not searched",
            "subfolders are symbolic links and are not searched",
        )
        yield (
            f"{folder}: {what} ({_some(links.folders, folder)}). Add the link "
            "targets as separate concepts."
        )


def _some(paths: Sequence[Path], folder: Path) -> str:
    names = ", ".join(str(path.relative_to(folder)) for path in paths[:_SHOWN])
    return names + (" ..." if len(paths) > _SHOWN else "")
