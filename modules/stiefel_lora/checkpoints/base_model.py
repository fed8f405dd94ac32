"""Base models in a folder or a single file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .._exceptions import ModelError
from .facts import FamilyFacts
from .file_part import FilePart, find_part
from .folder_part import FolderPart, has_weights
from .header import Header, read_header
from .model_files import read_model_json
from .relatives import check_relative
from .supplied_parts import ClipTokenizer, SettingsPart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .source import PartSource

__all__ = ["Base", "FileBase", "FolderBase", "check_folder", "known_settings"]


class Base(Protocol):
    """Base model at ``base_model_name``."""

    def part(self, name: str) -> PartSource | None:
        """Return a component, or None if the base model does not contain it."""
        ...

    def settings(self, name: str) -> dict[str, Any]:
        """Return the settings that are used for a file that replaces a component."""
        ...


def check_folder(
    folder: Path,
    facts: FamilyFacts,
    others: Sequence[FamilyFacts],
    elsewhere: Sequence[str] = (),
) -> None:
    """Check that a folder contains a complete model of the family.

    Args:
        folder: folder in the diffusers format.
        facts: properties of the configured family.
        others: properties of other families, to identify another model.
        elsewhere: components that are loaded from other files and may be missing.

    Raises:
        ModelError: If the folder is damaged, incomplete, of another family, or not in
            the diffusers format.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise ModelError(
            f"The base model folder {folder} has no model_index.json, so it is not "
            "in the diffusers format. Use the folder that contains unet, vae and "
            "text_encoder."
        )
    kind = read_model_json(index).get("_class_name")
    if facts.denoiser not in elsewhere:
        _check_denoiser(folder, facts)
    if not isinstance(kind, str):
        raise ModelError(f"{index} is damaged: it has no _class_name.")
    if not facts.is_pipeline(kind):
        other = next((family for family in others if family.is_pipeline(kind)), None)
        what = f"a {other.label} model" if other else "a model of another architecture"
        raise ModelError(
            f"The base model {folder} is {what} ({kind}), but model_type is "
            f"{facts.name!r}. Use a {facts.label} model."
        )
    for part in facts.parts:
        if part not in elsewhere:
            _check_part(folder, part)


def _check_denoiser(folder: Path, facts: FamilyFacts) -> None:
    """Check that the denoiser is not that of a similar unsupported model."""
    settings = folder / facts.denoiser / "config.json"
    if settings.is_file():
        check_relative(folder, facts, {}, read_model_json(settings))


def _check_part(folder: Path, part: str) -> None:
    inside = folder / part
    if not inside.is_dir():
        raise ModelError(
            f"The base model {folder} is incomplete: the folder {part} is missing."
        )
    if part.startswith("tokenizer"):
        return
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    read_model_json(inside / name)
    if part != "scheduler" and not has_weights(inside):
        raise ModelError(
            f"The base model {folder} is incomplete: the folder {part} contains no "
            "weights."
        )


class FolderBase:
    """Base model in the diffusers format."""

    def __init__(
        self, folder: Path, facts: FamilyFacts, *, allow_pickled: bool = False
    ) -> None:
        self._folder = folder
        self._facts = facts
        self._allow_pickled = allow_pickled

    def part(self, name: str) -> PartSource | None:
        """Return the component in a subfolder after checking it."""
        found = FolderPart(self._folder, name, allow_pickled=self._allow_pickled)
        found.check(self._facts)
        return found

    def settings(self, name: str) -> dict[str, Any]:
        """Return the settings of a component, or the default settings of the family."""
        path = self._folder / name / "config.json"
        if path.is_file():
            return read_model_json(path)
        return known_settings(self._facts, name)


class FileBase:
    """Base model in a single file. Only its header is read.

    Args:
        path: path of the file.
        facts: properties of the configured family.
        others: properties of other families, to identify another model.
        elsewhere: components that are loaded from other files.

    Raises:
        ModelError: If the checkpoint is of another family.
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
        """Return a component from the file, or a bundled tokenizer or scheduler."""
        if name == "scheduler":
            known = known_settings(self._facts, name)
            return SettingsPart(self._facts.scheduler(known, self._header))
        if name in self._facts.clip_padding:
            return ClipTokenizer(self._facts.clip_padding[name])
        return self._in_file(name)

    def settings(self, name: str) -> dict[str, Any]:
        """Return the default settings of the family."""
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
    """Return the default settings of a component of the family."""
    return read_model_json(facts.record.stock_folder / f"{part}.json")


def _check_family(
    header: Header, facts: FamilyFacts, others: Sequence[FamilyFacts]
) -> None:
    if facts.is_file(header):
        return
    other = next((family for family in others if family.is_file(header)), None)
    if other is None:
        raise ModelError(
            f"{header.path} is not a {facts.label} model. Use a {facts.label} "
            "checkpoint or a diffusers folder."
        )
    raise ModelError(
        f"{header.path} is a {other.label} model, but model_type is {facts.name!r}. "
        f"Use a {facts.label} model, or set model_type to {other.name!r}."
    )
