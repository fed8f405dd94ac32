"""Symbolic links in folders of images that are not followed, and sentences on them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .wording import counted

__all__ = ["Links", "find_links", "link_remarks"]

# Links that a sentence names.
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Links:
    """Links that nothing is learned from."""

    broken: list[Path]
    """To nothing, as those of git-annex whose content was not fetched."""

    folders: list[Path]
    """To folders, where folders inside are searched."""


def find_links(paths: Iterable[Path], *, deep: bool) -> Links:
    """Find links to nothing, and with ``deep`` those to folders."""
    links = [path for path in paths if path.is_symlink()]
    return Links(
        # Not Path.exists, which raises where a folder on the way is closed.
        broken=[path for path in links if not os.path.exists(path)],
        folders=[path for path in links if deep and os.path.isdir(path)],
    )


def link_remarks(links: Links, folder: Path) -> Iterator[str]:
    """Give a sentence on each kind of link in ``folder``."""
    if links.broken:
        what = counted(
            len(links.broken),
            "link leads to nothing that is there and is passed over",
            "links lead to nothing that is there and are passed over",
        )
        yield (
            f"{folder}: {what} ({_some(links.broken, folder)}). Fetch what they link "
            f"to, or correct them."
        )
    if links.folders:
        what = counted(
            len(links.folders),
            "folder inside is a link and is not searched",
            "folders inside are links and are not searched",
        )
        yield (
            f"{folder}: {what} ({_some(links.folders, folder)}). Name what they link "
            f"to as concepts of their own."
        )


def _some(paths: Sequence[Path], folder: Path) -> str:
    names = ", ".join(str(path.relative_to(folder)) for path in paths[:_SHOWN])
    return names + (" ..." if len(paths) > _SHOWN else "")
