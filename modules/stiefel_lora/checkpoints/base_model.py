"""The base model in a folder or a file: checked, then read through one interface."""

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
    """The model at ``base_model_name``."""

    def part(self, name: str) -> PartSource | None:
        """Return the part, or None where the base model does not have it."""
        ...

    def settings(self, name: str) -> dict[str, Any]:
        """Return the settings for a file that replaces this part."""
        ...


def check_folder(
    folder: Path,
    facts: FamilyFacts,
    others: Sequence[FamilyFacts],
    elsewhere: Sequence[str] = (),
) -> None:
    """Check that a folder holds a whole model of this family.

    Args:
        folder: folder in the diffusers format.
        facts: facts of the configured family.
        others: facts of other families, to identify a wrong model.
        elsewhere: parts that are loaded from other places and may be missing.

    Raises:
        ModelError: If the folder is damaged, incomplete, of another family, or has
            another layout.
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
    """Reject relatives before complaining about parts that they do not have."""
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
    """A model in the diffusers format that has been checked."""

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
        """Return the settings of the folder, or the usual ones of such a model."""
        path = self._folder / name / "config.json"
        if path.is_file():
            return read_model_json(path)
        return known_settings(self._facts, name)


class FileBase:
    """A checkpoint in one file, identified by its header alone.

    Args:
        path: the file.
        facts: facts of the configured family.
        others: facts of other families, to identify a wrong model.
        elsewhere: parts that are loaded from other places.

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
        """Its tensors, a bundled tokenizer, or the settings of the family."""
        if name == "scheduler":
            known = known_settings(self._facts, name)
            return SettingsPart(self._facts.scheduler(known, self._header))
        if name in self._facts.clip_padding:
            return ClipTokenizer(self._facts.clip_padding[name])
        return self._in_file(name)

    def settings(self, name: str) -> dict[str, Any]:
        """Return the usual settings of such a model."""
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
    """Return the default settings of a model of this family."""
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
