"""Inside OneTrainer: its dropdown, config, layers, optimizer, curves, launcher.

Against a stand-in that calls what OneTrainer calls in its order; tests/hosts runs
OneTrainer itself.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from helpers.runs import assert_same_tensors
from stiefel_lora import ConfigError, OptionError, find_pairs
from stiefel_lora.geometry import orthogonality_error
from stiefel_lora.integrations.onetrainer import _imports, patch
from stiefel_lora.integrations.onetrainer._choices import OFFERED
from stiefel_lora.integrations.onetrainer._layers import adapters_of, named_parameters
from stiefel_lora.integrations.onetrainer._points import point
from stiefel_lora.methods import CATALOGUE

HOST = Path(__file__).parent / "onetrainer_host"
LABELS = list(OFFERED)
LAUNCH = [sys.executable, "-m", "stiefel_lora.integrations.onetrainer.launch"]


@pytest.fixture(scope="module")
def host() -> Iterator[Any]:
    """The stand-in, patched before anything of it is imported."""
    before, path, known = Path.cwd(), list(sys.path), set(sys.modules)
    os.chdir(HOST)
    sys.path[:0] = [str(HOST / "scripts"), str(HOST)]
    _imports._done.clear()
    patch()
    import stand_in
    from modules.ui import BaseOptimizerParamsWindowView as window
    from modules.util import create, optimizer_util
    from modules.util.config.TrainConfig import TrainConfig
    from modules.util.enum.Optimizer import Optimizer

    yield SimpleNamespace(
        Trainer=stand_in.Trainer,
        create=create,
        defaults=optimizer_util,
        window=window.BaseOptimizerParamsWindowView,
        TrainConfig=TrainConfig,
        Optimizer=Optimizer,
    )
    os.chdir(before)
    sys.path[:] = path
    for name in set(sys.modules) - known:
        if name.partition(".")[0] in ("modules", "stand_in"):
            del sys.modules[name]


def configured(host: Any, label: str, **changes: Any) -> Any:
    """A config in which the dropdown was set to a method."""
    config = host.TrainConfig.default_values()
    config.optimizer.optimizer = host.Optimizer[label]
    config.optimizer = host.defaults.change_optimizer(config)
    config.learning_rate = 1e-2
    for name, value in changes.items():
        setattr(config, name, value)
    return config


def started(
    host: Any, label: str, *backup: Any, fuse: bool = False, **changes: Any
) -> Any:
    trainer = host.Trainer(configured(host, label, **changes), fuse=fuse)
    trainer.start(*backup)
    return trainer


def factors(trainer: Any) -> dict[str, torch.Tensor]:
    layers = adapters_of(trainer.model.unet_lora)
    return {name: p.detach().clone() for name, p in named_parameters(layers)}


def test_the_dropdown_holds_every_method_beside_the_hosts(host: Any) -> None:
    shown = [str(member) for member in host.Optimizer]
    assert shown == ["ADAMW", "SGD", *LABELS]
    assert {"Stiefel LoRA", "StelLA", "LoRA-RITE", "Riemannion"} <= set(shown)
    for member in host.Optimizer:
        assert host.Optimizer[str(member)] is member
        assert host.Optimizer(str(member)) is member
        assert pickle.loads(pickle.dumps(member)) is member
    for alias in ("Stiefel_LoRA", "stiefel_lora"):
        assert str(host.Optimizer[alias]) == "Stiefel LoRA"


@pytest.mark.parametrize("label", LABELS)
def test_a_config_keeps_its_optimizer_and_options(host: Any, label: str) -> None:
    method = OFFERED[label]
    config = configured(host, label)
    saved = config.to_dict()
    for option in method.options:
        assert saved["optimizer"][f"{method.name}_{option.name}"] == option.default
    again = host.TrainConfig.default_values().from_dict(saved)
    assert again.to_dict() == saved


@pytest.mark.parametrize("direct", [False, True])
def test_an_unknown_optimizer_is_refused_and_the_rest_is_kept(
    host: Any, direct: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    config = host.TrainConfig.default_values()
    given = {"optimizer": "Stiefel_Lora"}
    if direct:
        config.optimizer.from_dict(given)
    else:
        config.from_dict({"optimizer": given, "lora_rank": 8})
        assert config.lora_rank == 8
    assert "There is no optimizer 'Stiefel_Lora'" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="did you mean Stiefel LoRA"):
        host.create.create_trainer(config, None, None).start()
    config.optimizer.from_dict({"optimizer": "ADAMW"})
    host.create.create_trainer(config, None, None).start()


class Components:
    """Records the widgets that a window asks for."""

    def __init__(self) -> None:
        self.made: dict[tuple[int, int], tuple[str, Any]] = {}

    def __getattr__(self, kind: str) -> Any:
        def make(master: Any, row: int, column: int, *rest: Any, **more: Any) -> None:
            assert (row, column) not in self.made
            self.made[row, column] = (kind, rest)

        return make


@pytest.mark.parametrize("label", LABELS)
def test_the_window_shows_every_option(host: Any, label: str) -> None:
    components = Components()
    controller = SimpleNamespace(config=configured(host, label))
    view = host.window(components)
    view.build_dynamic_content(None, controller, "state", lambda: None, None)
    options = OFFERED[label].options
    assert len(components.made) == 2 * len(options)
    for index, option in enumerate(options):
        row, column = index // 2 + 1, 3 * (index % 2)
        assert components.made[row, column][0] == "label"
        kind = components.made[row, column + 1][0]
        expected = "switch" if option.type is bool else "entry"
        assert kind == ("options" if option.choices else expected)


def test_the_hosts_own_optimizers_are_left_alone(host: Any) -> None:
    trainer = started(host, "ADAMW")
    assert type(trainer.model.optimizer) is torch.optim.AdamW
    for name, value in factors(trainer).items():
        assert bool(value.any()) == ("lora_down" in name)
    trainer.train(6)
    assert set(trainer.tensorboard) == {"lr/unet_lora"}
    assert trainer.config.lora_alpha == 1.0


def test_the_windows_alpha_is_kept_for_the_next_training(host: Any) -> None:
    config = configured(host, "Stiefel LoRA")
    host.Trainer(config).start()
    config.optimizer.optimizer = host.Optimizer["ADAMW"]
    trainer = host.Trainer(config)
    trainer.start()
    layers = adapters_of(trainer.model.unet_lora)
    assert {float(layer.alpha) for layer in layers} == {1.0}


@pytest.mark.parametrize("fuse", [False, True])
def test_layers_start_orthonormal_with_alpha_at_the_rank(
    host: Any, fuse: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = started(host, "Stiefel LoRA", fuse=fuse)
    assert "LoRA alpha is 1 and is taken as 4" in capsys.readouterr().out
    first, second, head = adapters_of(trainer.model.unet_lora)
    for layer in (first, second):
        assert float(layer.alpha) == 4
        assert orthogonality_error(layer.lora_up.weight.detach()) <= 1e-6
        assert not layer.lora_down.weight.any()
        assert layer.lora_up.weight._is_lora_B
        assert layer.lora_down.weight._is_lora_A
    # Narrower than the rank: as the host made it, and stepped by AdamW.
    assert not head.lora_up.weight.any()
    assert [pair.name for pair in trainer.model.optimizer.pairs] == [
        "unet.down_blocks.0.proj",
        "unet.down_blocks.1.proj",
    ]


@pytest.mark.parametrize("label", LABELS)
def test_its_steps_are_ours(host: Any, label: str) -> None:
    method = OFFERED[label]
    trainer = started(host, label)
    named = [(n, torch.nn.Parameter(v)) for n, v in factors(trainer).items()]
    alone = method.load()(named, lr=1e-2)
    inside = dict(named_parameters(adapters_of(trainer.model.unet_lora)))

    def step_alone(*_: Any) -> None:
        for name, parameter in named:
            parameter.grad = inside[name].grad.clone()
        alone.step()

    trainer.model.optimizer.register_step_pre_hook(step_alone)
    trainer.train(5)
    assert_same_tensors({n: p.detach() for n, p in named}, factors(trainer))


@pytest.mark.parametrize("decompose", [False, True])
@pytest.mark.parametrize("label", LABELS)
def test_a_resumed_run_ends_with_the_same_bits(
    host: Any, label: str, decompose: bool, tmp_path: Path
) -> None:
    whole = started(host, label, lora_decompose=decompose)
    whole.train(6)
    begun = started(host, label, lora_decompose=decompose)
    begun.train(3)
    saved = begun.backup(tmp_path / "optimizer.pt")
    resumed = started(host, label, saved, lora_decompose=decompose)
    resumed.train(3)
    assert_same_tensors(factors(whole), factors(resumed))
    kind = "_magnitudes" if decompose else ""
    assert f"lr/unet_lora{kind}" in whole.tensorboard


def test_embeddings_train_at_their_own_rate_and_resume(
    host: Any, tmp_path: Path
) -> None:
    changes = {"lora_decompose": True, "embedding_learning_rate": 1e-4}
    whole = started(host, "Stiefel LoRA", **changes)
    groups = {g["name"]: g for g in whole.model.optimizer.param_groups}
    assert groups["embeddings"]["rest_lr_ratio"] == 1.0
    whole.train(6)
    begun = started(host, "Stiefel LoRA", **changes)
    begun.train(3)
    saved = begun.backup(tmp_path / "optimizer.pt")
    resumed = started(host, "Stiefel LoRA", saved, **changes)
    resumed.model.embedding.data.copy_(begun.model.embedding)
    resumed.train(3)
    assert_same_tensors(factors(whole), factors(resumed))
    assert torch.equal(whole.model.embedding, resumed.model.embedding)


def test_state_of_another_optimizer_is_not_taken(host: Any, tmp_path: Path) -> None:
    begun = started(host, "LoRA-RITE", lora_alpha=4.0)
    begun.train(3)
    weights, state, step = begun.backup(tmp_path / "optimizer.pt")
    resumed = started(host, "Stiefel LoRA", (weights, state, step))
    resumed.train(1)
    pairs = resumed.model.optimizer.pairs
    assert all(orthogonality_error(pair.up.detach()) <= 1e-6 for pair in pairs)


def test_a_loaded_lora_keeps_its_product(host: Any, tmp_path: Path) -> None:
    begun = started(host, "ADAMW", lora_alpha=2.0)
    begun.train(3)
    weights, *_ = begun.backup(tmp_path / "optimizer.pt")
    before = {
        layer.prefix: layer.product() for layer in adapters_of(begun.model.unet_lora)
    }
    resumed = started(host, "Stiefel LoRA", (weights, None, 0))
    for layer in adapters_of(resumed.model.unet_lora):
        assert float(layer.alpha) == 4
        torch.testing.assert_close(layer.product(), before[layer.prefix])


def test_tensorboard_shows_the_ranks(host: Any) -> None:
    trainer = started(host, "Stiefel LoRA")
    trainer.train(12)
    curves = trainer.tensorboard
    assert [step for step, _ in curves["effective_rank.down_blocks.0/proj"]] == [
        1,
        6,
        11,
    ]
    assert curves["orthogonality/largest"][-1][1] <= 1e-5
    pairs = find_pairs(factors(trainer).items()).pairs
    assert len(pairs) == len([tag for tag in curves if tag.startswith("stable_rank.")])
    free = started(host, "LoRA-RITE")
    free.train(1)
    assert "effective_rank/mean" in free.tensorboard
    assert "orthogonality/largest" not in free.tensorboard


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"peft_type": "LOHA"}, "trains LoRA factors, and a LOHA has none"),
        ({"lora_weight_dtype": "BFLOAT_16"}, "needs the LoRA weight data type float32"),
    ],
)
def test_what_can_not_work_is_a_sentence(
    host: Any, changes: Any, sentence: str
) -> None:
    with pytest.raises((ConfigError, OptionError), match=sentence):
        started(host, "Stiefel LoRA", **changes)


def test_the_cloud_is_refused_when_training_starts(host: Any) -> None:
    config = configured(host, "Stiefel LoRA")
    config.cloud.enabled = True
    trainer = host.create.create_trainer(config, None, None)
    with pytest.raises(ConfigError, match="is not known on the cloud machine"):
        trainer.start()
    trainer.end()


def test_ema_is_spoken_of(host: Any, capsys: pytest.CaptureFixture[str]) -> None:
    started(host, "Stiefel LoRA", ema="CPU")
    assert "Leave EMA off" in capsys.readouterr().out


def test_without_lora_layers_the_method_is_refused(host: Any) -> None:
    config = configured(host, "Stiefel LoRA", training_method="FINE_TUNE")
    weight = torch.nn.Parameter(torch.ones(3, 3))
    group = {"name": "unet", "params": [weight], "lr": 1e-2, "initial_lr": 1e-2}
    groups = SimpleNamespace(parameters_for_optimizer=lambda _: [group])
    with pytest.raises(ConfigError, match="the training method is FINE_TUNE"):
        host.create.create_optimizer(groups, None, config)


def test_a_changed_host_is_met_with_the_missing_point(host: Any) -> None:
    with pytest.raises(ConfigError, match=r"no .*create\.make_optimizer.*tested with"):
        point(host.create, "make_optimizer")


def launch(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAUNCH, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def write(path: Path, optimizer: str, more: str = "") -> None:
    path.write_text(f'{{"optimizer": {{"optimizer": "{optimizer}"}}{more}}}', "utf-8")


def test_the_launcher_trains_with_a_method(tmp_path: Path) -> None:
    write(tmp_path / "my config.json", "Stiefel LoRA")
    done = launch(HOST, "train", "--config-path", "my config.json", cwd=tmp_path)
    assert "optimizer: StiefelLoRA" in done.stdout, done.stderr
    assert "effective_rank/mean" in done.stdout
    assert "The learning rate is 3e-06; Stiefel LoRA starts at" in done.stdout
    assert done.returncode == 0


def test_children_of_the_launcher_know_the_method(tmp_path: Path) -> None:
    write(tmp_path / "config.json", "StelLA", ', "multi_gpu": true')
    done = launch(HOST, "train", "--config-path=config.json", cwd=tmp_path)
    assert "child: StelLA" in done.stdout, done.stderr


def test_the_launcher_says_what_is_wrong(tmp_path: Path) -> None:
    write(tmp_path / "config.json", "Stifel LoRA")
    done = launch(HOST, "train", "--config-path", "config.json", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "There is no optimizer 'Stifel LoRA'; did you mean Stiefel LoRA?"
    )
    done = launch(tmp_path, "ui", cwd=tmp_path)
    assert done.returncode == 2
    assert "is no checkout of OneTrainer" in done.stderr


def test_the_dropin_works_without_the_launcher(tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "host"
    shutil.copytree(HOST, root, ignore=shutil.ignore_patterns("__pycache__"))
    write(root / "config.json", "Stiefel LoRA")
    before = sorted(root.rglob("*.py"))
    assert launch(root, "install-dropin", cwd=tmp_path).returncode == 0
    code = "import sys; sys.path.insert(0, '.'); import train; train.main()"
    command = [sys.executable, "-c", code, "--config-path", "config.json"]
    paths = os.pathsep.join([str(root / "scripts"), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert "optimizer: StiefelLoRA" in done.stdout, done.stderr
    write(root / "config.json", "Stifel LoRA")
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert "ConfigError: There is no optimizer 'Stifel LoRA'" in done.stderr
    assert launch(root, "remove-dropin", cwd=tmp_path).returncode == 0
    assert sorted(root.rglob("*.py")) == before
    done = launch(root, "remove-dropin", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_every_method_but_the_hosts_own_is_offered() -> None:
    assert len(OFFERED) == len(CATALOGUE) - 2
