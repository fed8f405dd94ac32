"""Component of a base model in a folder in the diffusers format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import torch
import transformers

from .._exceptions import ModelError
from .examine import check_weights
from .float8 import check_scales
from .from_pretrained import load_part
from .header import Header, refuse_stand_in
from .model_files import WEIGHT_SUFFIXES, read_model_json, sample_file
from .relatives import check_relative
from .setting_values import check_setting_values
from .weight_files import WeightFiles, find_weights, table_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from hashlib import _Hash

    from .facts import FamilyFacts
    from .header import Entry
    from .layouts import Layout

__all__ = ["FolderPart", "has_weights"]

# Files that make up a tokenizer; without any of them, an empty one would be built.
_VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("spiece.model",))
_MOST_TIMESTEPS = 100_000


class FolderPart:
    """Component of a base model in a folder in the diffusers format.

    Args:
        parent: parent folder.
        part: name of the component.
        name: name of the folder. The default is ``part``.
        allow_pickled: whether to load weights from a pickle file if there is no other
            file.
    """

    def __init__(
        self,
        parent: Path,
        part: str,
        name: str | None = None,
        *,
        allow_pickled: bool = False,
    ) -> None:
        self._part = part
        self._parent = parent
        self._name = name or part
        self._allow_pickled = allow_pickled
        self._tokenizer: Any = None

    @property
    def folder(self) -> Path:
        """Folder of the component."""
        return self._parent / self._name

    def config(self) -> dict[str, Any]:
        """Read ``config.json``, or ``scheduler_config.json``."""
        name = "scheduler_config.json" if self._part == "scheduler" else "config.json"
        return read_model_json(self.folder / name)

    def check(self, facts: FamilyFacts) -> None:
        """Check settings, tensor names and shapes. Values are not read.

        Raises:
            ModelError: If a file is damaged, incomplete, of another model, or a pickle.
        """
        if self._part in facts.files:
            self._check_weights(facts)
        elif self._part in facts.tokenizers:
            self._check_tokenizer(facts.tokenizers[self._part])
        else:
            self._check_scheduler(facts)

    def load(self, loader: Any, dtype: torch.dtype | None) -> Any:
        """Load the component with ``from_pretrained``."""
        if self._tokenizer is not None:
            return self._tokenizer
        options: dict[str, Any] = {}
        if issubclass(loader, torch.nn.Module):
            found = self._weights(loader)
            options = {"variant": found.variant, "use_safetensors": not found.pickled}
        return load_part(self._parent, loader, self._name, dtype, **options)

    def digest_into(self, digest: _Hash) -> None:
        """Update a hash with the settings, vocabularies and samples of the weights."""
        for path in sorted(self.folder.rglob("*")):
            # READMEs and licenses do not affect the model.
            if path.is_file() and path.suffix in (".json", ".txt", *WEIGHT_SUFFIXES):
                size = path.stat().st_size
                digest.update(f"{self._part}/{path.name}/{size}".encode())
                sample_file(path, digest)

    def _weights(self, loader: Any) -> WeightFiles:
        in_transformers = issubclass(loader, transformers.PreTrainedModel)
        stem = "model" if in_transformers else "diffusion_pytorch_model"
        return find_weights(
            self.folder, self._part, stem, allow_pickled=self._allow_pickled
        )

    def _check_weights(self, facts: FamilyFacts) -> None:
        in_files, config = facts.files[self._part], self.config()
        entries = table_of(self._weights(in_files.loader))
        if self._part == facts.denoiser:
            check_relative(self.folder, facts, entries, config)
            if not facts.is_file(Header(self.folder, entries, {})):
                raise ModelError(
                    f"{self.folder} is not a {self._part} of {facts.label}. Use a "
                    "folder that contains one."
                )
        check_setting_values(self.folder, in_files.loader, config)
        if config.get("quantization_config") is not None:
            # Packed weights have their own shapes, known only to their library.
            return
        check_scales(self.folder, entries)
        check_weights(
            self.folder,
            self._part,
            in_files.loader,
            config,
            self._layout(in_files.layouts, entries),
            entries,
            whole="Download the weights again",
            such="its config.json",
            own_settings=True,
        )

    def _layout(
        self, layouts: tuple[Layout, ...], entries: Mapping[str, Entry]
    ) -> Layout:
        known = [
            layout
            for layout in layouts
            if any(name.startswith(layout.start) for name in entries)
        ]
        read = [layout for layout in known if layout.in_folders]
        if known and not read:
            raise ModelError(
                f"{self.folder} is not in the diffusers format: its weights have "
                "the names of a single-file checkpoint. Use that file instead."
            )
        # If no name is known, all of them are missing.
        return (read or [layout for layout in layouts if layout.in_folders])[0]

    def _check_tokenizer(self, loader: Any) -> None:
        for path in sorted(self.folder.iterdir()):
            if path.is_file():
                refuse_stand_in(path)
        if not any(
            all((self.folder / name).is_file() for name in names)
            for names in _VOCABULARIES
        ):
            raise ModelError(
                f"{self.folder} contains no vocabulary. It requires tokenizer.json, "
                "spiece.model, or vocab.json and merges.txt. Download them again."
            )
        # Loaded for the examination and kept, since loading is most of its cost.
        self._tokenizer = self.load(loader, None)

    def _check_scheduler(self, facts: FamilyFacts) -> None:
        config = self.config()
        kind = config.get("_class_name")
        loader = getattr(diffusers, kind, None) if isinstance(kind, str) else None
        if not (
            isinstance(loader, type) and issubclass(loader, diffusers.SchedulerMixin)
        ):
            raise ModelError(
                f"{self.folder}: _class_name={kind!a} is not a scheduler of "
                f"diffusers {diffusers.__version__}. Download scheduler_config.json "
                "again."
            )
        steps = config.get("num_train_timesteps", 1000)
        if not isinstance(steps, int) or not 1 <= steps <= _MOST_TIMESTEPS:
            raise ModelError(
                f"{self.folder}: num_train_timesteps must be an integer from 1 to "
                f"{_MOST_TIMESTEPS}, but got {steps!a}. Download "
                "scheduler_config.json again."
            )
        noise = getattr(self.load(loader, None), "alphas_cumprod", ())
        if facts.has_betas and len(noise) != steps:
            raise ModelError(
                f"{self.folder}: the scheduler {kind} has no {steps} betas, which "
                f"{facts.label} requires. Flow matching and EDM models are not "
                "supported. Use a model with a beta schedule."
            )


def has_weights(folder: Path) -> bool:
    """Return whether a folder exists and contains weights."""
    return folder.is_dir() and any(
        path.suffix in WEIGHT_SUFFIXES for path in folder.iterdir()
    )
