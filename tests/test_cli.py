from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from stiefel_lora import _commands, cli
from stiefel_lora._exceptions import CheckpointError, ModelError, NonFiniteError
from stiefel_lora._install import install_command
from stiefel_lora._version import __version__
from stiefel_lora.methods import CATALOGUE
from stiefel_lora.runs.run_lock import hold_run

MODULES = str(Path(cli.__file__).parents[1])
HEAVY = ("torch", "diffusers", "transformers", "peft", "numpy", "PIL")


def run(*args: object):
    return CliRunner().invoke(_commands.app, [str(arg) for arg in args])


@pytest.fixture
def config(tmp_path) -> Path:
    """A config file that could train."""
    (tmp_path / "sdxl").mkdir()
    (tmp_path / "cats").mkdir()
    path = tmp_path / "cats.json"
    data = {"base_model_name": "./sdxl", "concepts": "cats", "steps": 30}
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.fixture
def trainer(monkeypatch):
    """A stand-in for ``stiefel_lora.training`` that notes its calls."""
    calls: list[tuple] = []
    module = types.ModuleType("stiefel_lora.training")
    module.error = None
    module.result = types.SimpleNamespace(interrupted=False)

    def train(config, resume=None, check_every=0):
        calls.append((config, resume))
        if module.error:
            raise module.error
        return module.result

    module.train = train
    module.calls = calls
    monkeypatch.setitem(sys.modules, "stiefel_lora.training", module)
    monkeypatch.setattr("stiefel_lora.training", module, raising=False)
    return module


def test_train_hands_the_config_over(config, trainer):
    result = run("train", config, "--set", "steps=7", "--set", "optimizer.name=adamw")
    assert result.exit_code == 0, result.output
    ((settings, resume),) = trainer.calls
    assert settings.steps == 7
    assert settings.optimizer.name == "adamw"
    assert resume is None


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--resume"], "last"),
        (["--resume", "--set", "steps=7"], "last"),
        (["--resume", "last"], "last"),
        (["--resume", "runs/a/checkpoints/step-5"], "runs/a/checkpoints/step-5"),
        (["--resume=elsewhere"], "elsewhere"),
    ],
)
def test_resume_alone_means_last(config, trainer, args, expected):
    result = run("train", config, *args)
    assert result.exit_code == 0, result.output
    assert trainer.calls[0][1] == expected


def test_resume_before_the_config(config, trainer):
    assert run("train", "--resume", "--set", "steps=7", config).exit_code == 0
    assert trainer.calls[0][1] == "last"


@pytest.mark.parametrize("place", ["", "checkpoints/step-000005"])
def test_a_run_folder_is_enough_to_resume(config, trainer, tmp_path, place):
    folder = tmp_path / "runs" / "cats"
    (folder / "checkpoints" / "step-000005").mkdir(parents=True)
    (folder / "events.jsonl").touch()
    data = json.loads(config.read_text("utf-8"))
    data |= {"base_model_name": str(tmp_path / "sdxl"), "concepts": str(tmp_path)}
    (folder / "config.json").write_text(json.dumps({**data, "steps": 9}), "utf-8")
    assert run("train", "--resume", folder / place).exit_code == 0
    ((settings, resume),) = trainer.calls
    assert settings.steps == 9
    assert Path(resume) == folder / place


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "CONFIG: missing."),
        (["--resume"], "CONFIG: missing."),
        (["--resume", "nowhere"], "--resume nowhere: not the folder of a run"),
    ],
)
def test_without_config_there_must_be_a_run(trainer, args, message):
    result = run("train", *args)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert trainer.calls == []


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ModelError("This is a FLUX model."), 2, "This is a FLUX model."),
        (CheckpointError("It has rank 16."), 2, "It has rank 16."),
        (NonFiniteError("The loss is NaN."), 1, "The loss is NaN."),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (
            ModuleNotFoundError("no", name="diffusers.models"),
            2,
            "This requires the package diffusers, which is not installed. "
            f"Install it with: {install_command('train')}",
        ),
    ],
)
def test_failures_are_a_message_and_an_exit_code(config, trainer, error, code, message):
    trainer.error = error
    result = run("train", config)
    assert result.exit_code == code
    assert result.stderr == message + "\n"
    assert result.stdout == ""


def test_a_run_that_was_interrupted_and_saved(config, trainer):
    trainer.result = types.SimpleNamespace(interrupted=True)
    assert run("train", config).exit_code == 130


def test_a_module_of_our_own_that_is_missing_is_a_bug(config, trainer):
    trainer.error = ModuleNotFoundError("no", name="stiefel_lora.nothing")
    assert isinstance(run("train", config).exception, ModuleNotFoundError)


def test_nothing_to_train(trainer):
    result = run("train", "sdxl_adamw")
    assert result.exit_code == 2
    assert result.stderr.startswith("concepts: is not set. ")
    assert not trainer.calls


def test_validate():
    result = run("validate", "sdxl_adamw", "--set", "gradient_accumulation_steps=3")
    assert result.exit_code == 0
    assert result.stdout.startswith(
        "sdxl_adamw is valid: adamw, rank 32, 2000 steps of 6 images.\n"
    )


def test_validate_a_preset_by_name(monkeypatch, tmp_path):
    # Whatever this machine has downloaded.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    result = run("validate", "sdxl_stiefel_lora")
    assert result.exit_code == 0
    assert "sdxl_stiefel_lora is valid" in result.stdout
    assert "Note: concepts: is not set" in result.stdout
    assert (
        "Note: stabilityai/stable-diffusion-xl-base-1.0 is downloaded when training "
        "starts. About 13.9 GB, license: CreativeML Open RAIL++-M.\n"
    ) in result.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["demo_adamv"], "Did you mean the preset demo_adamw?"),
        (["sdxl_adamw", "--set", "lora_rnk=3"], "Did you mean lora_rank?"),
        (["sdxl_adamw", "--set", "steps"], "must have the form KEY=VALUE"),
        (["sdxl_stiefel_lora", "--set", "lora_alpha=1"], "Set lora_alpha to"),
        (["sdxl_adamw", "--set", "base_model_name=./no"], "does not exist"),
        (["sdxl_adamw", "--set", "base_model_name=no"], "does not exist"),
        (["sdxl_adamw", "--set", "base_model_name=o rg/no"], "nor a valid name"),
    ],
)
def test_bad_input(args, message):
    result = run("validate", *args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_presets():
    result = run("presets")
    assert result.exit_code == 0
    assert "demo_stiefel_lora" in result.stdout
    assert "SDXL" in result.stdout


def test_presets_of_a_family_and_optimizer():
    result = run("presets", "--family", "sdxl", "--optimizer", "adamw")
    assert result.exit_code == 0
    assert "sdxl_adamw" in result.stdout
    assert "stiefel_lora" not in result.stdout


def test_recommended_presets_come_first_and_presets_that_fit_can_be_listed():
    lines = run("presets", "--vram", "12").stdout.splitlines()
    names = [line.split("│")[1].strip() for line in lines if line.startswith("│")]
    names = [name for name in names if name]
    assert names.index("sdxl_stiefel_lora_12gb") < names.index("sdxl_adamw_12gb")
    assert names.index("demo_stiefel_lora") < names.index("demo_adamw")
    assert not [name for name in names if name.endswith(("16gb", "24gb"))]
    assert "recommended" in lines[-3] + lines[-2] + lines[-1]
    result = run("presets", "--family", "flux", "--optimizer", "stella", "--vram", "4")
    assert result.exit_code == 2
    assert "There is no preset for a GPU with 4 GB. Available: " in result.stderr


def test_presets_that_are_not_there():
    result = run("presets", "--family", "sd9")
    assert result.exit_code == 2
    assert result.stderr.startswith("There is no preset with the family 'sd9'. ")
    assert "SDXL" in result.stderr


def test_optimizers():
    listed = run("optimizers")
    assert listed.exit_code == 0
    assert all(name in listed.stdout for name in CATALOGUE)
    assert "alpha = rank" in listed.stdout
    assert "base_rule" in run("optimizers", "stella").stdout


def test_an_unknown_optimizer_names_the_nearest():
    result = run("optimizers", "stela")
    assert result.exit_code == 2
    assert "Did you mean 'stella'" in result.stderr


def test_schema(tmp_path):
    printed = run("schema")
    written = run("schema", "--output", tmp_path / "schema.json")
    assert (printed.exit_code, written.exit_code) == (0, 0)
    text = (tmp_path / "schema.json").read_text(encoding="utf-8")
    assert text == printed.stdout
    assert json.loads(text)["title"] == "TrainConfig"


def test_schema_into_a_folder_that_is_not_there(tmp_path):
    result = run("schema", "--output", tmp_path / "no" / "schema.json")
    assert result.exit_code == 2
    assert "schema.json cannot be written: " in result.stderr


def test_tell_writes_a_command_file(tmp_path):
    events = tmp_path / "events.jsonl"
    events.write_text('{"type": "start", "step": 0}\n{"type": "train", "step": 1}\n')
    result = run("tell", "sample", tmp_path)
    assert result.exit_code == 0
    assert f"{tmp_path.name} will sample after the current step." in result.stdout
    assert [path.name for path in (tmp_path / "commands").iterdir()] == ["sample"]


@pytest.mark.parametrize("last", ["end", "stop", "error"])
def test_tell_detects_a_run_that_has_ended(tmp_path, last):
    (tmp_path / "events.jsonl").write_text(f'{{"type": "{last}", "step": 1}}\n')
    result = run("tell", "stop", tmp_path)
    assert result.exit_code == 2
    assert (
        "has ended. Commands can only be sent to a running training." in result.stderr
    )
    result = run("tell", "stop", tmp_path / "no")
    assert result.exit_code == 2
    assert "is not a run folder: it contains no events.jsonl." in result.stderr


@pytest.mark.parametrize("events", ["", '{"type": "stop", "step": 1}\n'])
def test_tell_reaches_a_process_that_still_loads(tmp_path, events):
    folder = tmp_path / "my_run"
    folder.mkdir()
    if events:
        (folder / "events.jsonl").write_text(events)
    with hold_run(folder):
        result = run("tell", "stop", folder)
        assert result.exit_code == 0, result.stderr
        assert [path.name for path in (folder / "commands").iterdir()] == ["stop"]
    assert run("tell", "stop", folder).exit_code == 2


def test_the_verbs_and_their_options_are_frozen():
    surface = {
        info.name or info.callback.__name__: info.callback.__code__.co_varnames[
            : info.callback.__code__.co_argcount
        ]
        for info in _commands.app.registered_commands
    }
    assert surface == {
        "new": ("kind", "images", "vram", "family", "trigger", "output"),
        "import": ("words", "output", "family", "strict"),
        "doctor": ("as_json",),
        "sample": (
            "files",
            "model",
            "config",
            "prompt",
            "prompts",
            "weights",
            "together",
            "output",
            "steps",
            "guidance",
            "seed",
            "width",
            "height",
            "negative",
            "sampler",
            "overrides",
        ),
        "train": (
            "config",
            "overrides",
            "resume",
            "plugins",
            "processes",
            "check_processes",
        ),
        "validate": (
            "config",
            "overrides",
            "plugins",
            "decode",
            "processes",
            "as_json",
        ),
        "study": (
            "config",
            "optimizers",
            "rates",
            "seeds",
            "overrides",
            "jobs",
            "devices",
            "folder",
            "dry_run",
            "plugins",
        ),
        "scan": ("config", "overrides", "decode", "plugins"),
        "caption": (
            "folder",
            "model",
            "overwrite",
            "include_subdirectories",
            "download",
            "threshold",
            "character_threshold",
            "exclude",
            "extension",
            "device",
        ),
        "ui": ("config", "plugins"),
        "web": (
            "config",
            "host",
            "port",
            "names",
            "datasets",
            "runs",
            "models",
            "allow_custom_code",
            "open_browser",
            "plugins",
        ),
        "batch": (
            "configs",
            "sweeps",
            "overrides",
            "jobs",
            "devices",
            "folder",
            "dry_run",
            "plugins",
            "engine",
            "address",
            "cores",
        ),
        "optimizers": ("name", "plugins"),
        "presets": ("family", "optimizer", "vram"),
        "schema": ("output", "plugins"),
        "tell": ("order", "run"),
        "onetrainer": ("context", "checkout"),
    }


@pytest.mark.parametrize("args", [["validate"], ["bogus"]])
def test_misuse_is_bad_input(args):
    result = run(*args)
    assert result.exit_code == 2
    assert "Error: " in result.stderr


def test_version():
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"stiefel-lora {__version__}\n")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {MODULES!r})\n{code}"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("args", [["--help"], ["presets"], ["optimizers"], ["schema"]])
def test_nothing_heavy_is_imported(args):
    code = f"""
from stiefel_lora.cli import main
sys.argv = ["stiefel-lora", *{args!r}]
try:
    main()
except SystemExit as end:
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    print(f"{{end.code}} {{loaded}}", file=sys.stderr)
"""
    assert python(code).stderr == "0 []\n"


def test_help_imports_neither_schema_nor_rich():
    code = """
from stiefel_lora.cli import main
sys.argv = ["stiefel-lora", "--help"]
try:
    main()
except SystemExit:
    print([name for name in ("pydantic", "rich") if name in sys.modules])
"""
    assert python(code).stdout.splitlines()[-1] == "[]"


def test_without_typer_there_is_a_message():
    code = """
sys.modules["typer"] = None
from stiefel_lora.cli import main
main()
"""
    result = python(code)
    assert result.returncode == 2
    assert result.stderr == (
        "The command line requires the package typer, which is not installed. "
        f"Install it with: {install_command('train')}\n"
    )


def test_python_dash_m():
    assert importlib.util.find_spec("stiefel_lora.__main__")
    code = "import runpy; sys.argv = ['x', '--version']; "
    result = python(f"{code}runpy.run_module('stiefel_lora', run_name='__main__')")
    assert result.stdout == f"stiefel-lora {__version__}\n"


def test_onetrainer_is_started_by_its_launcher(tmp_path, capfd):
    result = run("onetrainer", tmp_path, "train", "--config-path", "x.json")
    assert result.exit_code == 2
    assert "is not a OneTrainer folder" in capfd.readouterr().err


def test_a_mistake_found_by_the_trainer_is_the_only_line(tmp_path):
    """Libraries have remarks of their own while they are imported."""
    (tmp_path / "empty").mkdir()
    command = ["train", "sdxl_adamw", "--set", f"base_model_name={tmp_path}"]
    command += ["--set", f"concepts={tmp_path / 'empty'}"]
    result = subprocess.run(
        [sys.executable, "-m", "stiefel_lora", *command],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=tmp_path,
        timeout=600,
        check=False,
    )
    assert result.returncode == 2
    assert "contains no images" in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr


@pytest.mark.parametrize("group", [(), ("lora",), ("queue",)])
def test_summaries_of_commands_are_whole(group):
    whole = CliRunner().invoke(_commands.app, [*group, "--help"]).output
    shown = whole.partition("Commands:")[2]
    assert "..." not in shown
    assert "…" not in shown
    commands = typer.main.get_command(_commands.app)
    for name in group:
        commands = commands.commands[name]
    words = " ".join(shown.split())
    for name, command in commands.commands.items():
        first = " ".join(command.help.split()).partition(". ")[0].rstrip(".")
        assert f"{name} {first}." in words
