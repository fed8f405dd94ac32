"""LoRA files that browsers may choose, and places for results."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helpers.written_run import WrittenRun
from stiefel_lora.ui.web.context import WebContext

pytestmark = pytest.mark.usefixtures("own_home")


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    found = WrittenRun(tmp_path / "runs" / "cats")
    found.start()
    touch(found.root / "lora" / "cats.safetensors")
    return found.root


def test_files_below_the_given_folders_are_listed(tmp_path: Path, run: Path) -> None:
    models, outside = tmp_path / "models", tmp_path / "outside"
    touch(
        models / "base.safetensors",
        models / "sub" / "style.safetensors",
        models / "diffusers" / "model_index.json",
        models / "notes.txt",
        models / ".hidden" / "a.safetensors",
        models / "1" / "2" / "3" / "4" / "deep.safetensors",
        outside / "secret.safetensors",
    )
    if sys.platform != "win32":
        (models / "link").symlink_to(outside)
        (models / "link.safetensors").symlink_to(outside / "secret.safetensors")
    loras = WebContext((), (run.parent,), (models,)).loras
    assert sorted(loras.files().values()) == [
        "cats: cats.safetensors",
        "models: base.safetensors",
        "models: sub/style.safetensors",
    ]
    assert sorted(loras.checkpoints().values()) == [
        "models: base.safetensors",
        "models: diffusers",
        "models: sub/style.safetensors",
    ]


def test_results_are_written_to_runs_or_to_one_folder(
    tmp_path: Path, own_home: Path, run: Path
) -> None:
    touch(tmp_path / "models" / "base.safetensors")
    context = WebContext((), (run.parent,), (tmp_path / "models",))
    loras = context.loras
    first = loras.output(run / "lora" / "cats.safetensors", "merged")
    assert first == run / "lora" / "cats-merged.safetensors"
    touch(first)
    second = loras.output(run / "lora" / "cats.safetensors", "merged")
    assert second.name == "cats-merged-2.safetensors"
    (url,) = loras.downloads(first).values()
    assert url == context.runs.url_of(first)
    # Folders with models are not written to.
    other = loras.output(tmp_path / "models" / "base.safetensors", "peft", folder=True)
    assert other == own_home.resolve() / "lora-files" / "base-peft"
    touch(other / "adapter_model.safetensors", other / "adapter_config.json")
    assert loras.downloads(other) == {
        "adapter_config.json": "/lora-files/download/base-peft/adapter_config.json",
        "adapter_model.safetensors": (
            "/lora-files/download/base-peft/adapter_model.safetensors"
        ),
    }
    assert str(other / "adapter_model.safetensors") in loras.files()
