"""Optimizers from a user's file or module: configuration, command line, schema."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import textwrap
from importlib import metadata

import pytest
from typer.testing import CliRunner

from helpers.plugin_methods import SIGN_LORA, forgetting_plugins, write_plugin
from stiefel_lora._commands import app
from stiefel_lora._exceptions import ConfigError
from stiefel_lora.config import dump_full, dump_lean, load_config, parse_config
from stiefel_lora.config.json_schema import json_schema_text
from stiefel_lora.config.optimizer import OptimizerConfig
from stiefel_lora.methods import CATALOGUE, plugins

CHOSEN = {"optimizer": {"name": "sign_lora"}}


@pytest.fixture(autouse=True)
def forget():
    with forgetting_plugins():
        yield


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def refusal(data, folder="."):
    with pytest.raises(ConfigError) as caught:
        parse_config(data, folder=folder)
    return str(caught.value)


def write_config(folder, **settings):
    path = folder / "cats.json"
    path.write_text(json.dumps({**CHOSEN, **settings}), encoding="utf-8")
    return path


def test_a_file_beside_the_config_adds_its_method(tmp_path):
    plugin = write_plugin(tmp_path)
    config = load_config(write_config(tmp_path, plugins=["my_sign.py"]))
    assert config.plugins == (str(plugin),)
    assert config.learning_rate == 1e-3
    assert config.optimizer.arguments() == {"momentum": 0.9}
    assert config.optimizer.method is CATALOGUE["sign_lora"]
    for text in (dump_lean(config), dump_full(config)):
        assert parse_config(json.loads(text)) == config


def test_the_option_counts_from_where_the_command_runs(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    plugin = write_plugin(tmp_path / "here")
    path = write_config(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "here")
    settings = ["optimizer.momentum=0.5"]
    config = load_config(path, settings, plugins=["my_sign.py", "./my_sign.py"])
    assert config.plugins == (str(plugin),)
    assert config.optimizer.arguments() == {"momentum": 0.5}


def test_its_options_are_checked_as_those_of_any_method(tmp_path):
    plugins = {"plugins": [str(write_plugin(tmp_path))]}
    wrong = {"name": "sign_lora", "momentum": 1.5}
    assert refusal({**plugins, "optimizer": wrong}) == (
        "optimizer.momentum: must be at most 1, but got 1.5."
    )
    assert "Did you mean optimizer.momentum?" in refusal(
        {**plugins, "optimizer": {"name": "sign_lora", "momentun": 0.5}}
    )


def test_a_changed_file_is_read_again(tmp_path):
    plugin = write_plugin(tmp_path)
    data = {**CHOSEN, "plugins": [str(plugin)]}
    first = parse_config(data).optimizer.method
    assert parse_config(data).optimizer.method is first
    write_plugin(tmp_path, SIGN_LORA.replace("1e-3", "2.5e-3"))
    assert parse_config(data).learning_rate == 2.5e-3
    write_plugin(tmp_path, SIGN_LORA.replace("Sign LoRA", "Other Sign"))
    assert "unknown optimizer 'sign_lora'" in refusal(data)
    assert parse_config(data | {"optimizer": {"name": "other_sign"}})


def test_schema_and_list_name_it(tmp_path):
    before = json_schema_text()
    plugin = write_plugin(tmp_path)
    listed = run("optimizers", "--plugin", plugin)
    assert listed.exit_code == 0, listed.stderr
    assert "sign_lora" in listed.stdout
    assert "momentum" in run("optimizers", "sign_lora", "--plugin", plugin).stdout
    printed = run("schema", "--plugin", plugin)
    assert printed.exit_code == 0
    schema = json.loads(printed.stdout)
    tags = schema["properties"]["optimizer"]["discriminator"]["mapping"]
    options = schema["$defs"][tags["sign_lora"].rpartition("/")[2]]["properties"]
    assert options["momentum"]["maximum"] == 1
    assert "sign_lora" not in json.loads(before)["properties"]["optimizer"]


@pytest.mark.parametrize("verb", ["validate", "train", "scan", "batch"])
def test_every_verb_that_reads_a_config_takes_the_option(verb, tmp_path):
    plugin = write_plugin(tmp_path)
    path = write_config(tmp_path, output_dir=str(tmp_path / "runs"))
    without = run(verb, path)
    assert without.exit_code == 2
    assert "unknown optimizer 'sign_lora'" in without.stderr
    assert "If it is defined in a plugin" in without.stderr
    found = run(verb, path, "--plugin", plugin)
    assert "optimizer" not in found.stderr
    if verb == "validate":
        assert "cats.json is valid: sign_lora" in found.stdout


BROKEN = {
    "def f(:\n": "has a syntax error in line 1 (invalid syntax). Fix that line.",
    "x = 1\ny = undefined\n": "cannot be imported, line 2 (NameError: name 'undefined'"
    " is not defined). Fix the plugin.",
    "import no_such_package_here\n": "cannot be imported, line 1 (ModuleNotFoundError:",
    "raise SystemExit(3)\n": "cannot be imported, line 1 (SystemExit: it exits the "
    "program: sys.exit(3)).",
    "x = 1\n": "registers no optimizer. Add the decorator @register(...)",
    SIGN_LORA.replace("Sign LoRA", "StelLA"): "'stella' is already used by the "
    "built-in optimizer StelLA (stiefel_lora.optim.stella:StelLA). Use another one "
    "for SignLoRA.",
    SIGN_LORA.replace("    label=", '    name="sign",\n    label=').replace(
        "Sign LoRA", "stiefel lora"
    ): "'stiefel lora' is already used by the built-in optimizer Stiefel LoRA",
    SIGN_LORA.replace("Sign LoRA", "Custom"): "'custom' is reserved for custom"
    " optimizer classes",
    SIGN_LORA.replace("(PairOptimizer)", ""): "SignLoRA is not a subclass of "
    "PairOptimizer. Derive it from stiefel_lora.PairOptimizer.",
    SIGN_LORA.replace("1e-3", "True"): "default_lr: must be a number",
    SIGN_LORA.replace('"Sign LoRA"', "3"): "label: must be a string, but got 3.",
    SIGN_LORA.replace('"Sign LoRA"', '" "'): "label: must be a string, but got ' '.",
    SIGN_LORA.replace(
        "Sign LoRA", "\u65b9\u6cd5"
    ): "name: no name can be derived from the label",
    SIGN_LORA.replace(
        '"Signs of the momentum of both factors."', "None"
    ): "summary: must be a string, but got None.",
    SIGN_LORA.replace('momentum."),)', 'momentum."))'): "options: must be a list or "
    "tuple of Option(...). Use options=(Option(...),), with a comma",
    SIGN_LORA.replace("(Option(", "('momentum', Option("): "options: must be a list or",
    SIGN_LORA.replace(
        'doc="Decay of the momentum."', "doc=3"
    ): "options: 'momentum' has doc=3, which is not a string.",
    SIGN_LORA.replace("low=0", 'low="0"'): "has low='0', which is not a number.",
    SIGN_LORA.replace(
        "low=0, high=1", "low=1, high=0"
    ): "has low=1, which is greater than high=0.",
    SIGN_LORA.replace(
        "0.9, low=0, high=1", '"a", choices="ab"'
    ): "has choices that are not a tuple of strings.",
    SIGN_LORA.replace("0.9, low=0", "1.9, low=0"): "has the default 1.9, which must be",
    SIGN_LORA.replace(
        "1e-3,", '1e-3, alpha_policy="ranks",'
    ): "alpha_policy: must be one of rank, free, but got 'ranks'.",
    SIGN_LORA.replace(
        "1e-3,", '1e-3, start="plain",'
    ): "start: must be one of stiefel, riemannion, lora, but got 'plain'.",
    SIGN_LORA.replace("1e-3,", '1e-3, separable="no",'): "separable: must be True or",
    SIGN_LORA.replace("1e-3,", "1e-3, separable=True,"): "separable: the rule of "
    "SignLoRA updates B and A together in update. Define factor_rules or adamw_roles",
    "import no_such_package_there.inner\n": "Install no_such_package_there, or fix",
    "x = 1\0\n": "has a syntax error (source code string cannot contain null bytes). ",
    SIGN_LORA.replace("momentum", "dict"): (
        "options: 'dict' cannot be used as a key of a configuration. Use another name."
    ),
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_bad_plugin_is_one_message(text, tmp_path):
    plugin = write_plugin(tmp_path, text)
    for _ in range(2):
        message = refusal({"plugins": [str(plugin)]})
        assert message.startswith("plugins: ")
        assert BROKEN[text] in message
        assert "\n" not in message
    assert refusal(CHOSEN).startswith("optimizer.name: unknown optimizer 'sign_lora'")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["gone.py"], "plugins: the file {}gone.py does not exist. Correct the path"),
        (
            ["no_such_module"],
            "plugins: the module no_such_module does not exist. Install",
        ),
        (["json.no_such"], "plugins: the module json.no_such does not exist. Install"),
        (["os.path.none"], "plugins: the module os.path.none does not exist. Install"),
        (["json"], "plugins: json registers no optimizer. Add the decorator"),
        (["my method"], "plugins: 'my method' is neither a file nor a module name"),
        ("my_sign.py", 'plugins: must be a list in [ ], but got "my_sign.py".'),
        ([3], "plugins.0: must be a string in double quotes, but got 3."),
        ([""], "plugins.0: must not be empty."),
    ],
)
def test_a_plugin_that_is_not_there(value, message, tmp_path):
    found = refusal({"plugins": value}, tmp_path)
    assert found.startswith(message.format(f"{tmp_path}{os.sep}"))


def test_no_option_hides_what_a_configuration_needs(tmp_path):
    names = [n for n in dir(OptimizerConfig) if not n.startswith("_")]
    assert "arguments" in names
    for name in names:
        text = SIGN_LORA.replace("momentum", name)
        plugin = write_plugin(tmp_path, text, name=f"with_{name}.py")
        message = refusal({"plugins": [str(plugin)]})
        assert (
            f"options: {name!r} cannot be used as a key of a configuration" in message
        )


def test_a_folder_or_another_file_is_no_plugin(tmp_path):
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "method.txt").write_text(SIGN_LORA)
    for name in ("./folder.py", "./method.txt"):
        error = refusal({"plugins": [name]}, tmp_path)
        assert error.endswith(
            f"{name[2:]} is not a Python file. Use the path of a file that ends in .py."
        )


def test_one_file_by_two_paths_is_one_plugin(tmp_path):
    plugin = write_plugin(tmp_path)
    (tmp_path / "link.py").symlink_to(plugin)
    assert parse_config({**CHOSEN, "plugins": [str(plugin), str(tmp_path / "link.py")]})


@pytest.mark.parametrize("name", ["my sign.py", "m\u00e9thode.py", "my.sign.v2.py"])
def test_a_class_of_any_file_can_be_pickled(name, tmp_path):
    plugin = write_plugin(tmp_path, name=name)
    parse_config({**CHOSEN, "plugins": [str(plugin)]})
    cls = CATALOGUE["sign_lora"].load()
    assert pickle.loads(pickle.dumps(cls)) is cls


def test_what_a_plugin_prints_is_in_no_output_of_a_command(tmp_path):
    plugin = write_plugin(tmp_path, "print('hello')\n" + SIGN_LORA)
    printed = run("schema", "--plugin", plugin)
    assert json.loads(printed.stdout)
    assert "hello" in printed.stderr


def test_entry_points_of_taken_names_are_reported(monkeypatch):
    entries = [
        metadata.EntryPoint(name, value, plugins.GROUP)
        for name, value in (
            ("stella", "evil.stella"),
            ("sign_lora", "one.sign"),
            ("sign_lora", "two.sign"),
        )
    ]
    monkeypatch.setattr(metadata, "entry_points", lambda group: entries)
    monkeypatch.setattr(plugins, "find_installed", lambda name: None)
    builtin, twice = plugins.load_installed()
    assert builtin == (
        "plugins: the entry point 'stella' of evil.stella is ignored, because the "
        "built-in optimizer has the same name. Rename it in the group "
        "stiefel_lora.methods of the package."
    )
    assert "'sign_lora' of one.sign is ignored, because that of two.sign" in twice


def test_two_plugins_cannot_share_a_name(tmp_path):
    one = write_plugin(tmp_path, name="one.py")
    two = write_plugin(tmp_path, name="two.py")
    message = refusal({"plugins": [str(one), str(two)]})
    assert (
        f"plugins: {two}: name: 'sign_lora' is already used by the optimizer" in message
    )


def test_a_module_may_import_what_another_registers(tmp_path, monkeypatch):
    package = tmp_path / "sign_methods"
    package.mkdir()
    write_plugin(package, name="inner.py")
    (package / "__init__.py").write_text("")
    (tmp_path / "front.py").write_text("from sign_methods.inner import SignLoRA\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("sign_methods.inner", "front"):
        assert parse_config({**CHOSEN, "plugins": [name]}).plugins == (name,)
    assert "sign_methods registers no" not in refusal({"plugins": ["json"]})


def test_config_and_list_import_no_torch_without_a_plugin():
    code = """
        import sys
        from stiefel_lora.config import parse_config
        from stiefel_lora._commands import app
        parse_config({"plugins": []})
        app(["optimizers"], standalone_mode=False)
        print("torch" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_resume_names_the_plugin_that_the_run_had(tmp_path):
    plugin = write_plugin(tmp_path)
    path = write_config(tmp_path, output_dir=str(tmp_path / "runs"))
    config = load_config(path, plugins=[str(plugin)])
    saved = config.run_dir / "checkpoints" / "step-2"
    saved.mkdir(parents=True)
    (saved / "state.json").write_text("{}")
    (config.run_dir / "config.json").write_text(dump_full(config))
    with forgetting_plugins():
        pass
    hint = f"The run was started with --plugin {plugin}."
    for place in ("last", config.run_dir, saved):
        found = run("train", path, "--resume", place)
        assert found.exit_code == 2
        assert hint in found.stderr
    plugin.unlink()
    found = run("train", config.run_dir / "config.json", "--resume")
    assert f"plugins: the file {plugin} does not exist. Correct" in found.stderr
