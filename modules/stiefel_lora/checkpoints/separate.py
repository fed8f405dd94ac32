"""Overrides of components: a file, a folder or a name on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._exceptions import ModelError
from .facts import FamilyFacts
from .file_part import find_part
from .folder_part import FolderPart, has_weights
from .header import read_header
from .hub import part_from_hub
from .relatives import check_relative

if TYPE_CHECKING:
    from .source import PartSource

__all__ = ["separate_part"]


def separate_part(
    part: str,
    name: str,
    facts: FamilyFacts,
    settings: dict[str, Any],
    *,
    download: bool,
    allow_pickled: bool = False,
) -> PartSource | None:
    """Find a component by the value of its setting.

    Args:
        part: name of the component.
        name: path of a file, of a folder of this component or of a complete model, or
            name on the Hugging Face Hub.
        facts: properties of the family.
        settings: settings of the component, which are used for files.
        download: whether to download missing files from the Hugging Face Hub. If False,
            None is returned.
        allow_pickled: whether to load weights of a folder from a pickle file if there
            is no other file.

    Raises:
        ModelError: If the component is missing, damaged, or of another type.
    """
    path = Path(name)
    if path.is_file():
        return _from_file(part, path, facts, settings)
    folder = path if path.is_dir() else part_from_hub(part, name, download=download)
    if folder is None:
        return None
    found_part = _from_folder(part, folder, allow_pickled)
    found_part.check(facts)
    return found_part


def _from_file(
    part: str, path: Path, facts: FamilyFacts, settings: dict[str, Any]
) -> PartSource:
    in_files = facts.files.get(part)
    if in_files is None:
        raise ModelError(
            f"{part}_model_name: {path} is a file, but the {part} must be a folder."
        )
    header = read_header(path)
    if part == facts.denoiser:
        check_relative(path, facts, header.entries)
    found = find_part(part, header, in_files, settings)
    if found is None or (part == facts.denoiser and not facts.is_file(header)):
        raise ModelError(
            f"{part}_model_name: {path} contains no {part} for {facts.label}. Use a "
            "file that contains one."
        )
    found.check()
    return found


def _from_folder(part: str, folder: Path, allow_pickled: bool) -> FolderPart:
    for inside in (folder / part, folder):
        is_tokenizer = part.startswith("tokenizer")
        has = any(inside.glob("*token*")) if is_tokenizer else has_weights(inside)
        if has:
            name = inside.name
            return FolderPart(inside.parent, part, name, allow_pickled=allow_pickled)
    raise ModelError(
        f"{part}_model_name: the folder {folder} contains no {part}. Use the folder "
        f"of the {part}, or a complete model in the diffusers format."
    )
