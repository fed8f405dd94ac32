"""sd-scripts itself, unmodified, trains a tiny SDXL with the network module.

Needs a checkout and its environment; docs/integrations/sd-scripts.md says how to make
them:

    SD_SCRIPTS_ROOT=CHECKOUT python -m pytest tests/hosts -k sd_scripts
"""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file
from sd_scripts_run import HOST, MARKS, make_folder, train
from unmodified_host import assert_goes_on, replay

from stiefel_lora.geometry import orthogonality_error

STEPS, LAYERS, TEXT_LAYERS = 10, 722, 84

pytestmark = MARKS


@pytest.fixture(scope="module")
def changes_before() -> str:
    return HOST.changes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, changes_before: str) -> Path:
    return make_folder(tmp_path_factory.mktemp("sd_scripts"))


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    return train(
        folder,
        "whole",
        max_train_steps=STEPS,
        lr_scheduler="cosine",
        save_state=True,
        log_with="tensorboard",
        logging_dir=folder / "whole" / "logs",
    )


def test_alpha_becomes_the_rank_with_a_warning(printed: str) -> None:
    layers = LAYERS + TEXT_LAYERS
    assert f"--network_alpha was not --network_dim in {layers} layers" in printed


def test_the_file_holds_orthonormal_factors(folder: Path, printed: str) -> None:
    path = folder / "whole" / "whole.safetensors"
    weights = load_file(path)
    ups = [value for name, value in weights.items() if name.endswith("lora_up.weight")]
    assert len(ups) == LAYERS
    assert all(orthogonality_error(up.flatten(1).float()) <= 1e-5 for up in ups)
    downs = [v for name, v in weights.items() if name.endswith("lora_down.weight")]
    assert all(down.any() for down in downs)
    assert {float(v) for name, v in weights.items() if name.endswith("alpha")} == {4.0}
    with safe_open(path, "pt") as file:
        assert float(file.metadata()["ss_network_alpha"]) == 4


def test_its_tensorboard_shows_the_ranks(folder: Path, printed: str) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = (folder / "whole" / "logs").rglob("events.*")
    found = EventAccumulator(str(events), size_guidance={"scalars": 0})
    found.Reload()
    tags = found.Tags()["scalars"]
    blocks = [tag for tag in tags if tag.startswith("effective_rank.")]
    assert len(blocks) == LAYERS
    assert all(tag.split("/")[0].rpartition(".")[2] != "other" for tag in blocks)
    assert [event.step for event in found.Scalars("effective_rank/mean")] == [5, 10]
    assert found.Scalars("orthogonality/largest")[-1].value <= 1e-5
    assert "loss/current" in tags


def test_its_steps_are_ours(folder: Path, printed: str) -> None:
    assert replay(folder / "whole.pt", lr=1e-2) == (STEPS, LAYERS)


def test_a_resumed_run_goes_on_from_its_state(folder: Path, printed: str) -> None:
    (state,) = (folder / "whole").glob("*-state")
    # Without the flag the host takes the steps of the epoch it stopped in once more.
    train(
        folder,
        "more",
        resume=state,
        skip_until_initial_step=True,
        max_train_steps=STEPS + 2,
        lr_scheduler="cosine",
    )
    assert assert_goes_on(folder / "whole.pt", folder / "more.pt") == 2


def test_the_checkout_is_as_it_was(printed: str, changes_before: str) -> None:
    assert HOST.changes() == changes_before
