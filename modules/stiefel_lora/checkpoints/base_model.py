"""The two kinds of base model, a folder and a file, asked in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .._exceptions import ModelError
from .facts import FamilyFacts
from .file_part import FilePart, find_part
from .folder_part import FolderPart
from .header import Header, read_header
from .model_files import read_model_json
from .relatives import check_relative
from .settings_part import SettingsPart
from .tokenizers import ClipTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .source import PartSource

__all__ = ["Base", "FileBase", "FolderBase", "known_settings"]


class Base(Protocol):
    """What ``base_model_name`` leads to."""

    def part(self, name: str) -> PartSource | None:
        """The part, or None where the base model does not have it."""
        ...

    def settings(self, name: str) -> dict[str, Any]:
        """Settings for a file that takes the place of this part."""
        ...


class FolderBase:
    """A model in diffusers layout, checked before."""

    def __init__(
        self, folder: Path, facts: FamilyFacts, *, allow_pickled: bool = False
    ) -> None:
        self._folder = folder
        self._facts = facts
        self._allow_pickled = allow_pickled

    def part(self, name: str) -> PartSource | None:
        """One of its folders, examined."""
        found = FolderPart(self._folder, name, allow_pickled=self._allow_pickled)
        found.check(self._facts)
        return found

    def settings(self, name: str) -> dict[str, Any]:
        """Those of the folder, or those that such a model usually has."""
        path = self._folder / name / "config.json"
        if path.is_file():
            return read_model_json(path)
        return known_settings(self._facts, name)


class FileBase:
    """A checkpoint in one file, told from its table alone.

    Args:
        path: the file.
        facts: of the family that the configuration says.
        others: of families that a wrong model may be of.
        elsewhere: parts that are not taken from the file.

    Raises:
        ModelError: not of this family.
    """

    def __init__(
        self,
        path: Path,
        facts: FamilyFacts,
        others: Sequence[FamilyFacts],
        elsewhere: Sequence[str] = (),
    ) -> None:
        self._facts = facts
        self._header = read_header(path)
        if facts.denoiser not in elsewhere:
            check_relative(path, facts, self._header.entries)
        _check_family(self._header, facts, others)

    def part(self, name: str) -> PartSource | None:
        """Its tensors, a bundled tokenizer, or the settings of the family."""
        if name == "scheduler":
            known = known_settings(self._facts, name)
            return SettingsPart(self._facts.scheduler(known, self._header))
        if name in self._facts.clip_padding:
            return ClipTokenizer(self._facts.clip_padding[name])
        return self._in_file(name)

    def settings(self, name: str) -> dict[str, Any]:
        """Those that such a model usually has."""
        return known_settings(self._facts, name)

    def _in_file(self, name: str) -> FilePart | None:
        facts = self._facts.files.get(name)
        if facts is None:
            return None
        found = find_part(name, self._header, facts, self.settings(name))
        if found is not None:
            found.check()
        return found


def known_settings(facts: FamilyFacts, part: str) -> dict[str, Any]:
    """Settings that a model of this family has when nothing else is said."""
    return read_model_json(facts.record.stock_folder / f"{part}.json")


def _check_family(
    header: Header, facts: FamilyFacts, others: Sequence[FamilyFacts]
) -> None:
    if facts.is_file(header):
        return
    other = next((family for family in others if family.is_file(header)), None)
    if other is None:
        raise ModelError(
            f"{header.path} holds no {facts.label} model; give a checkpoint of "
            f"{facts.label} or a folder in diffusers layout."
        )
    raise ModelError(
        f"{header.path} is a model of {other.label}, but model_type is {facts.name!r}; "
        f"give a model of {facts.label}, or write model_type {other.name!r}."
    )
