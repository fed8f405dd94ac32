"""Hashes of LoRA files, by the formulas of sd-scripts and A1111."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import safetensors.torch
import torch

from helpers.file_hashes import hashes_of_sd_scripts
from stiefel_lora.files.file_hashes import file_hashes


@pytest.mark.parametrize("entries", [1000, 400_000])
@pytest.mark.parametrize("notes", [{}, {"ss_tag": "Käse \u0007", "other": "x" * 99}])
def test_they_are_those_of_sd_scripts(
    tmp_path: Path, entries: int, notes: dict[str, str]
) -> None:
    path = tmp_path / "a.safetensors"
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "b": torch.randn(entries, generator=generator),
        "a": torch.randn(3, generator=generator).half(),
    }
    safetensors.torch.save_file(tensors, path, notes)
    found = file_hashes(path)
    assert (found.model, found.legacy) == hashes_of_sd_scripts(path)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.autov2 == found.sha256[:10]
    assert found.autov3 == found.model[:12]
    # A file below 1 MiB has nothing at the place of the legacy hash.
    assert (found.legacy == hashlib.sha256(b"").hexdigest()[:8]) == (entries == 1000)
