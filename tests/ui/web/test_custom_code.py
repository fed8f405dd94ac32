"""Plugins and optimizer classes cannot be set from a browser, wherever one tries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stiefel_lora._exceptions import ConfigError
from stiefel_lora.config import load_config, parse_config
from stiefel_lora.config.custom_code import forbid_custom_code, permit_custom_code
from stiefel_lora.config.presets import find_config
from stiefel_lora.ui.web import ServerOptions
from stiefel_lora.ui.web.context import WebContext

CUSTOM = {"optimizer": {"name": "custom", "class": "torch.optim.RAdam"}}


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A plugin that leaves a trace when it is run."""
    path = tmp_path / "plugin.py"
    trace = tmp_path / "trace"
    path.write_text(f"open({str(trace)!r}, 'w').close()\n")
    return path


@pytest.fixture
def forbidden() -> Iterator[None]:
    forbid_custom_code()
    yield
    permit_custom_code()


def _ways(context: WebContext, data: dict[str, Any], folder: Path) -> Iterator[Any]:
    """All ways by which settings come to the server."""

    def form() -> None:
        for key, value in data.items():
            context.document.set(key, value)
        context.start()

    def undo() -> None:
        context.document.data = dict(data)
        context.start()

    path = folder / "settings.json"
    path.write_text(json.dumps(data))
    yield form
    yield undo
    yield lambda: context.take_settings(data)
    yield lambda: context.load_settings(path)
    yield lambda: context.document.load(path)
    yield lambda: parse_config(data)
    yield lambda: load_config(path)


@pytest.mark.parametrize("way", range(7))
@pytest.mark.parametrize("kind", ["plugin", "class", "class without name", "module"])
@pytest.mark.usefixtures("forbidden")
def test_no_way_runs_code(plugin: Path, tmp_path: Path, kind: str, way: int) -> None:
    data: dict[str, Any] = {
        "plugin": {"plugins": [str(plugin)]},
        "class": CUSTOM,
        "class without name": {"optimizer": {"class": "plugin.Plugin"}},
        "module": {"plugins": ["antigravity"]},
    }[kind]
    context = WebContext()
    with pytest.raises(ConfigError):
        [*_ways(context, data, tmp_path)][way]()
    assert context.trainings.jobs() == []
    assert not (tmp_path / "trace").exists()
    # The form shows the error at the field.
    context.document.data = dict(data)
    context.document._become(context.document.data)
    errors = context.findings().errors
    assert any("--allow-custom-code" in text for e in errors.values() for text in e)
    assert not (tmp_path / "trace").exists()


@pytest.mark.usefixtures("forbidden")
def test_settings_of_an_earlier_session_run_no_code(
    own_home: Path, plugin: Path, tmp_path: Path
) -> None:
    own_home.mkdir()
    state = {"data": {"plugins": [str(plugin)]}, "source": ""}
    (own_home / "web.json").write_text(json.dumps(state))
    context = WebContext()
    context.restore()
    assert not context.findings().ready
    assert not (tmp_path / "trace").exists()


@pytest.mark.usefixtures("forbidden")
def test_optimizers_of_the_catalogue_are_not_custom_code() -> None:
    for name in ("stiefel_lora", "adamw", "prodigy"):
        assert parse_config({"optimizer": {"name": name}}).optimizer.name == name
    load_config(find_config("demo_stiefel_lora"))


def test_without_the_rule_the_settings_are_valid() -> None:
    assert parse_config(CUSTOM).optimizer.name == "custom"


@pytest.mark.usefixtures("forbidden")
def test_files_of_the_server_cannot_be_read_as_settings(tmp_path: Path) -> None:
    context = WebContext()
    path = tmp_path / "secret.json"
    path.write_text('{"password_of_a_user": 1}')
    for base in (str(path), "secret.json", "../secret", ["sdxl_adamw"], 1):
        with pytest.raises(ConfigError) as caught:
            context.take_settings({"extends": base})
        assert "password" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        context.load_settings(path)
    assert "password" not in str(caught.value)
    context.take_settings({"extends": "sdxl_adamw"})
    assert context.document.optimizer == "adamw"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", 'pretrained_model_name_or_path = "x"\nsample_prompts = "{path}"\n'),
        ("a.toml", 'pretrained_model_name_or_path = "x"\ndataset_config = "{path}"\n'),
        ("a.txt", "sdxl_train_network.py --sample_prompts={path}"),
        ("a.json", '{{"LoRA_type": "Standard", "sample_prompts": "{path}"}}'),
        ("a.json", '{{"training_method": "LORA", "concept_file_name": "{path}"}}'),
    ],
)
@pytest.mark.parametrize("kind", [".txt", ".toml", ".json"])
def test_uploaded_settings_name_no_file_of_the_server(
    tmp_path: Path, name: str, text: str, kind: str
) -> None:
    secret = "the-secret-of-another-file"
    path = tmp_path / f"secret{kind}"
    path.write_text(
        {
            ".txt": secret,
            ".toml": f'[general]\n"{secret}" = "{secret}"\n',
            ".json": json.dumps([{"path": secret, "prompt": secret, secret: secret}]),
        }[kind]
    )
    context = WebContext()
    try:
        report = context.import_settings(name, text.format(path=path))
    except ConfigError as error:
        report = [str(error)]
    assert secret not in "".join(report)
    assert secret not in json.dumps(context.document.data)


@pytest.mark.parametrize(
    "name",
    ["../../a.json", "/etc/a.json", "..\\a.json", "a\0.json", "a" * 500 + ".json"],
)
def test_names_of_uploaded_settings_are_no_paths(name: str) -> None:
    context = WebContext()
    context.import_settings(name, '{"lora_rank": 24}')
    assert context.document.value("lora_rank") == 24
    with pytest.raises(ConfigError) as caught:
        context.import_settings("own.json", '{"lora_rnk": 24}')
    assert "lora_rnk" in str(caught.value)
    assert "stiefel_lora_" not in str(caught.value)


def test_a_configuration_of_the_command_line_may_name_code(tmp_path: Path) -> None:
    pytest.importorskip("nicegui", reason="nicegui is not installed")
    from stiefel_lora.ui.web.server import make_context

    path = tmp_path / "own.json"
    images = tmp_path / "images"
    images.mkdir()
    path.write_text(json.dumps({"concepts": str(images)}))
    try:
        context = make_context(path, ServerOptions())
        # Its folders are shown, but not those that a browser sets.
        assert context.images.contains(images.resolve())
        context.document.set("concepts", [{"path": "/"}])
        assert not context.images.contains(Path("/etc"))
        assert not context.images.contains(images / ".." / "..")
        assert context.images.url_of(images / ".." / "own.json") is None
        (concept,) = load_config(path).concepts
        assert context.images.serves(concept)
        elsewhere = concept.model_copy(update={"prompt_path": tmp_path / "own.json"})
        assert not context.images.serves(elsewhere)
        with pytest.raises(ConfigError, match="--allow-custom-code"):
            parse_config(CUSTOM)
        make_context(path, ServerOptions(allow_custom_code=True))
    finally:
        permit_custom_code()
