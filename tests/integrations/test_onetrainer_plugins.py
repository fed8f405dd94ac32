"""Methods of plugins in OneTrainer, on the stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from onetrainer_stand_in import HOST, patched_host
from test_onetrainer_launch import launch, write

from helpers.plugin_methods import forgetting_plugins, write_plugin
from stiefel_lora.integrations.onetrainer._choices import OFFERED, offer_methods


@pytest.fixture
def forget() -> Iterator[None]:
    with forgetting_plugins():
        yield
    offer_methods()


def test_the_dropdown_offers_what_the_variable_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget: None
) -> None:
    plugin = write_plugin(tmp_path)
    monkeypatch.setenv("STIEFEL_LORA_PLUGINS", str(plugin))
    hosts = patched_host()
    host = next(hosts)
    assert "Sign LoRA" in host.Optimizer.__members__
    assert "Sign LoRA" in OFFERED
    defaults = host.defaults.OPTIMIZER_DEFAULT_PARAMETERS
    assert defaults[host.Optimizer["Sign LoRA"]] == {"sign_lora_momentum": 0.9}
    next(hosts, None)


def test_a_plugin_that_is_gone_is_reported_and_the_host_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    forget: None,
) -> None:
    gone = tmp_path / "gone.py"
    monkeypatch.setenv("STIEFEL_LORA_PLUGINS", str(gone))
    hosts = patched_host()
    host = next(hosts)
    assert "Stiefel LoRA" in host.Optimizer.__members__
    message = f"stiefel-lora: plugins: the file {gone} does not exist. Correct the path"
    assert message in capsys.readouterr().out
    next(hosts, None)


@pytest.mark.parametrize(
    "more", ["", pytest.param(', "multi_gpu": true', marks=pytest.mark.slow)]
)
def test_the_launcher_trains_with_a_method_of_a_file(tmp_path: Path, more: str) -> None:
    write_plugin(tmp_path)
    write(tmp_path / "config.json", "Sign LoRA", more)
    options = ["--config-path", "config.json", "--plugin"]
    done = launch(HOST, "train", *options, "my_sign.py", cwd=tmp_path)
    shown = "child: SignLoRA" if more else "optimizer: SignLoRA"
    assert shown in done.stdout, done.stderr
    assert done.returncode == 0
    done = launch(HOST, "train", *options, "gone.py", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("plugins: the file ")
    done = launch(HOST, "train", *options, cwd=tmp_path)
    assert done.stderr.startswith("--plugin requires a file or a module.")
