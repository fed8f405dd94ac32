"""sd-scripts itself, unmodified, trains a tiny SDXL with the network module.

Needs a checkout and its environment; docs/integrations/sd-scripts.md says how to make
them:

    SD_SCRIPTS_ROOT=CHECKOUT python -m pytest tests/hosts -k sd_scripts
"""

from __future__ import annotations

from pathlib import Path

import pytest
from kohya_results import assert_file, assert_ranks_shown
from sd_scripts_run import HOST, MARKS, make_folder, train
from unmodified_host import assert_goes_on, replay

from stiefel_lora.files import read_tensors
from stiefel_lora.files.tensors import legacy_hash, tensor_hash

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
    assert f"--network_alpha differs from --network_dim in {layers} layers" in printed


def test_the_file_holds_orthonormal_factors(folder: Path, printed: str) -> None:
    assert_file(folder / "whole" / "whole.safetensors", LAYERS)


def test_its_metadata_is_that_of_the_hosts_own_network(
    folder: Path, printed: str
) -> None:
    tensors, metadata = read_tensors(folder / "whole" / "whole.safetensors")
    assert metadata["ss_network_module"] == "networks.lora"
    assert metadata["ss_network_alpha"] == "4"
    # The host's own hashes are those that we compute.
    assert metadata["sshs_model_hash"] == tensor_hash(tensors)
    assert metadata["sshs_legacy_hash"] == legacy_hash(tensors, metadata)


def test_its_tensorboard_shows_the_ranks(folder: Path, printed: str) -> None:
    blocks = assert_ranks_shown(folder / "whole" / "logs", LAYERS)
    assert all(tag.split("/")[0].rpartition(".")[2] != "other" for tag in blocks)


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
