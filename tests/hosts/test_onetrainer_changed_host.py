"""OneTrainer itself with names changed: ours is refused, its own optimizers train.

ONETRAINER_ROOT=CHECKOUT python -m pytest tests/hosts -k onetrainer_changed_host
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from onetrainer_runs import Runs
from unmodified_host import UnmodifiedHost

from helpers.changed_checkout import change_checkout
from stiefel_lora.integrations.onetrainer.dropin import install

HERE = Path(__file__).parent
HOST = UnmodifiedHost("ONETRAINER_ROOT")
RATE = {"learning_rate": 0.02, "epochs": 1}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not HOST.given, reason="ONETRAINER_ROOT names no checkout"),
]


@pytest.fixture
def copy(tmp_path: Path) -> UnmodifiedHost:
    """A copy of the checkout with the same environment, to be changed."""
    copied = UnmodifiedHost("ONETRAINER_ROOT")
    copied.root = tmp_path / "OneTrainer"
    ignored = shutil.ignore_patterns(".git", ".venv", "__pycache__")
    shutil.copytree(HOST.root, copied.root, ignore=ignored)
    (copied.root / ".venv").symlink_to(HOST.root / ".venv")
    return copied


def changed(copy: UnmodifiedHost, renamed: Any, moved: Any) -> Runs:
    change_checkout(copy.root / "modules", renamed, {})
    change_checkout(copy.root, {}, moved)
    runs = Runs(copy, copy.root.parent)
    runs.make_model("sd15")
    return runs


def by_dropin(runs: Runs, name: str, optimizer: str, code: int) -> str:
    """Train with the host's own script, without our launcher."""
    install(runs.host.root)
    config = runs.config(name, optimizer, **RATE)
    start = f"import sys; sys.path[:0] = [{str(HERE)!r}, 'scripts']; "
    start += "import loadable_torchvision, train; train.main()"
    return runs.host.run("-c", start, "--config-path", config, code=code)


def test_a_renamed_create_optimizer_never_trains_adamw_at_our_rate(
    copy: UnmodifiedHost,
) -> None:
    runs = changed(copy, {"create_optimizer": "make_optimizer"}, {})
    refused = by_dropin(runs, "ours", "Stiefel LoRA", code=1)
    assert "has no modules.util.create.create_optimizer, which stiefel" in refused
    assert not runs.path("ours").exists()
    by_dropin(runs, "theirs", "ADAMW", code=0)
    assert runs.path("theirs").exists()


MOVED = {
    "enum": {"modules.util.enum.Optimizer": "modules.util.enum.OptimizerKind"},
    "layers": {"modules.module.LoRAModule": "modules.module.Adapters"},
    "averages": {"modules.module.EMAModule": "modules.module.Averages"},
}


@pytest.mark.parametrize("case", MOVED)
def test_a_moved_file_is_refused_by_name_before_the_model_is_loaded(
    copy: UnmodifiedHost, case: str
) -> None:
    runs = changed(copy, {}, MOVED[case])
    more = {"ema": "CPU", "base_model_name": "there is no such model", **RATE}
    refused = runs.refuse("ours", "Stiefel LoRA", **more)
    (module,) = MOVED[case]
    assert f"no module {module}" in refused
    assert "Traceback" not in refused
    runs.train("theirs", "ADAMW", epochs=1)
    assert runs.path("theirs").exists()


def test_without_a_cosmetic_point_both_train(copy: UnmodifiedHost) -> None:
    renamed = {"report_to_tensorboard": "report_numbers"}
    moved = {"modules.ui.BaseLoraTabView": "modules.ui.BaseAdapterTabView"}
    runs = changed(copy, renamed, moved)
    printed = runs.train("ours", "Stiefel LoRA", **RATE)
    for name in ("BaseModelSetup.report_to_tensorboard", "module modules.ui.BaseLora"):
        assert printed.count(f"This version of OneTrainer has no {name}") == 1
    assert "Stiefel LoRA trains 120 LoRA pairs" in printed
    printed = runs.train("theirs", "ADAMW", epochs=1)
    assert "stiefel-lora" not in printed
    assert runs.path("theirs").exists()
