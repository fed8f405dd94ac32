"""A tiny SDXL as folder and as single file, and what bad files get."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.single_file import SDXL, known_from, write_single_file
from helpers.tiny_sdxl import build_tiny_sdxl
from stiefel_lora import ModelError
from stiefel_lora.checkpoints import ModelSource, file_part
from stiefel_lora.config import TrainConfig, parse_config
from stiefel_lora.families import check_model, record

__all__ = ["Twins", "found", "refusal", "settings", "twins"]


@dataclasses.dataclass(frozen=True)
class Twins:
    """The same model twice."""

    folder: Path
    file: Path


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """Replace the known settings of SDXL by the tiny model's meanwhile."""
    root = tmp_path_factory.mktemp("single")
    folder = build_tiny_sdxl(root / "folder", real_words=True)
    file = write_single_file(folder, root / "model.safetensors", SDXL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "KNOWN", known_from(folder, root / "known", "sdxl"))
        yield Twins(folder, file)


def settings(model: Path, **changes: Any) -> TrainConfig:
    texts = {key: str(value) for key, value in changes.items()}
    return parse_config({"base_model_name": str(model), **texts})


def found(model: Path, **changes: Any) -> ModelSource:
    source = check_model(settings(model, **changes))
    assert source is not None
    return source


def refusal(model: Path, **changes: Any) -> str:
    """Return the error message; values of the file must not have been read for it."""

    def read(*args: Any, **options: Any) -> None:
        raise AssertionError("numbers were read before the file was checked")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_part, "safe_open", read)
        with pytest.raises(ModelError) as error:
            check_model(settings(model, **changes))
    return str(error.value)
