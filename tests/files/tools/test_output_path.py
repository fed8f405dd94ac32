"""Names of outputs: the suffix, and what may not be replaced."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from helpers.lora_files import dense, make, write
from stiefel_lora import _commands
from stiefel_lora._exceptions import ModelError, OutputError
from stiefel_lora.files import Part, Target, convert_lora, merge_lora, open_lora
from stiefel_lora.files import resize_lora as resize
from stiefel_lora.files.tools.output_path import check_output, with_suffix

_run = CliRunner().invoke


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("r8", "r8.safetensors"),
        ("style_v1.5", "style_v1.5.safetensors"),
        ("r8.", "r8.safetensors"),
        ("r8.txt", "r8.txt.safetensors"),
        ("r8.safetensors", "r8.safetensors"),
        ("R8.SafeTensors", "R8.SafeTensors"),
        ("r8.sft", "r8.sft"),
    ],
)
def test_the_suffix_is_appended_where_it_is_missing(given: str, used: str):
    found = with_suffix(Path("folder", given))
    assert found.path == Path("folder", used)
    assert bool(found.remarks) == (given != used)


@pytest.mark.parametrize("name", ["a.ckpt", "a.PT", "b.bin"])
def test_a_suffix_of_another_format_is_refused(tmp_path: Path, name: str):
    wanted = f"Use {tmp_path / name[0]}.safetensors."
    with pytest.raises(OutputError, match="has the suffix of another format") as error:
        check_output(tmp_path / name, [], overwrite=True)
    assert str(error.value).endswith(wanted)


def test_every_verb_appends_it_and_prints_that_once(tmp_path: Path):
    source = tmp_path / "a.safetensors"
    write(source, make())
    goals = {
        "resize": ["--rank", "1"],
        "merge": [str(source)],
        "convert": ["--to", "peft"],
    }
    for verb, options in goals.items():
        out = tmp_path / verb
        command = ["lora", verb, str(source), *options, "--output", str(out)]
        ran = _run(_commands.app, [*command, "--no-verify"])
        assert ran.exit_code == 0, ran.output
        line = f"--output: .safetensors was appended to {verb}."
        assert ran.stderr.count(line) == 1
        assert f"{out}.safetensors: " in ran.stdout
        assert not out.exists()
        assert open_lora(f"{out}.safetensors").layers
        again = _run(_commands.app, [*command, "--no-verify"])
        assert again.exit_code == 2
        assert f"{out}.safetensors already exists. Add --overwrite" in again.stderr
    page = ["lora", "inspect", str(source), "--html", str(tmp_path / "page")]
    ran = _run(_commands.app, page)
    assert ran.stderr.count(".html was appended to page.") == 1
    assert (tmp_path / "page.html").exists()


def test_the_functions_do_the_same(tmp_path: Path):
    file = write(tmp_path / "a.safetensors", make())
    saved = [
        resize(file, tmp_path / "r", Target(rank=1)).saved,
        merge_lora([Part(file)], tmp_path / "m").saved,
        convert_lora(file, tmp_path / "c", "PEFT"),
    ]
    for name, one in zip("rmc", saved, strict=True):
        assert one.file.path == tmp_path / f"{name}.safetensors"
        assert one.remarks[0] == f"--output: .safetensors was appended to {name}."
    with pytest.raises(OutputError, match="is an input"):
        resize(file, tmp_path / "a", Target(rank=1), overwrite=True)


def test_the_recorded_command_has_every_option(tmp_path: Path):
    write(tmp_path / "a.safetensors", make())
    write(tmp_path / "b.safetensors", make(seed=1))
    given = [f"{tmp_path}/a.safetensors:0.5", f"{tmp_path}/b.safetensors"]
    options = ["--section", "1:down_blocks.*=0.5", "--section", "2:*=2", "--rank", "3"]
    options += ["--method", "dare", "--density", "0.7", "--seed", "5"]
    options += ["--dtype", "float32"]
    out = tmp_path / "out.safetensors"
    command = ["lora", "merge", *given, *options, "--output", str(out), "--no-verify"]
    assert _run(_commands.app, command).exit_code == 0
    recorded = json.loads(open_lora(out).metadata["stiefel_lora_lineage"])["command"]
    words = shlex.split(recorded)
    assert words[:5] == [
        *("stiefel-lora", "lora", "merge", "a.safetensors:0.5", "b.safetensors:1")
    ]
    pairs = set(zip(options[::2], options[1::2], strict=True))
    assert set(zip(words[5::2], words[6::2], strict=True)) == pairs


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--rank", "3", "--dtype", "float16"], "--rank, --dtype"),
        (["--method", "norm"], "--method"),
    ],
)
def test_into_takes_the_exact_sum_only(tmp_path: Path, options, named):
    write(tmp_path / "a.safetensors", make())
    base = ["--into", str(tmp_path / "no.safetensors"), "--output", "x.safetensors"]
    command = ["lora", "merge", str(tmp_path / "a.safetensors"), *base, *options]
    ran = _run(_commands.app, command)
    assert ran.exit_code == 2
    assert ran.stderr.startswith(f"{named}: not supported with --into")


def test_unknown_keys_are_named_where_they_are_left_out(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    write(path, make() | {f"strange.{n}": torch.ones(1) for n in range(5)})
    names = "5 keys are not part of an adapter: strange.0, strange.1, strange.2 and 2"
    given = ["--allow-unknown", "--no-verify", "--output"]
    verbs = (["resize", str(path), "--rank", "1"], ["merge", str(path), str(path)])
    for words in (*verbs, ["convert", str(path), "--to", "peft"]):
        out = str(tmp_path / f"{words[0]}.safetensors")
        ran = _run(_commands.app, ["lora", *words, *given, out])
        assert ran.exit_code == 0
        assert f"a.safetensors: left out: {names} more." in ran.stderr
    ran = _run(_commands.app, ["lora", "inspect", str(path), "--allow-unknown"])
    assert ran.exit_code == 0
    assert names in ran.stdout


def test_no_file_is_written_into_a_folder_that_is_read(tmp_path: Path):
    folder = tmp_path / "lora"
    part = folder / "unet" / "adapter_model.safetensors"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"weights")
    link = tmp_path / "link"
    link.symlink_to(folder)
    for path in (part, folder / "new.safetensors", link / "unet" / part.name):
        with pytest.raises(
            OutputError, match=r"is in the input folder .*, which is never"
        ):
            check_output(path, [folder], overwrite=True)
    assert part.read_bytes() == b"weights"
    assert check_output(tmp_path / "lora.safetensors", [folder], overwrite=False)


def test_a_file_is_not_written_beside_the_settings_of_another(tmp_path: Path):
    """peft and open_lora would apply their alpha to the new file."""
    file = write(tmp_path / "in.safetensors", make("PEFT (own)"))
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 64}')
    out = folder / "adapter_model.safetensors"
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"adapter_config.json, whose alpha"):
            resize(file, out, Target(rank=1), overwrite=overwrite)
    assert not out.exists()
    other = resize(file, folder / "other.safetensors", Target(rank=1))
    first = resize(file, tmp_path / "in2.safetensors", Target(rank=1))
    found, wanted = dense(other.saved.file), dense(first.saved.file)
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("rank", [3, 5])
def test_settings_with_another_rank_belong_to_another_file(tmp_path: Path, rank: int):
    stem = "base_model.model.up_blocks.0.attentions.0.proj_in"
    path = tmp_path / "adapter_model.safetensors"
    tensors = {
        f"{stem}.lora_A.weight": torch.ones(4, 5),
        f"{stem}.lora_B.weight": torch.ones(6, 4),
    }
    settings = {"r": rank, "lora_alpha": 8}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=f"its rank is 4, but {rank} in the adapter"):
        write(path, tensors)
    settings["rank_pattern"] = {"proj_in": 4}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    assert write(path, tensors).layers[0].factors.scale == 2


def test_a_folder_that_does_not_exist_hides_no_input(tmp_path: Path):
    """``no/../in.safetensors`` does not exist, but is written to ``in.safetensors``."""
    given = tmp_path / "in.safetensors"
    file, base = write(given, make()), tmp_path / "base.safetensors"
    before = given.read_bytes()
    hidden = tmp_path / "no" / ".." / given.name
    for call in (
        lambda: resize(file, hidden, Target(rank=1), overwrite=True),
        lambda: convert_lora(file, hidden, "PEFT", overwrite=True),
        lambda: merge_lora([Part(file)], hidden, overwrite=True),
    ):
        with pytest.raises(OutputError, match="is an input file"):
            call()
    assert given.read_bytes() == before
    # Without --overwrite, other files are not replaced either.
    base.write_bytes(b"x")
    with pytest.raises(OutputError, match="already exists"):
        resize(file, tmp_path / "no" / ".." / base.name, Target(rank=1))
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="already exists"):
        convert_lora(file, tmp_path / "no" / ".." / "folder", "PEFT (own)")
    with pytest.raises(OutputError, match="is a folder"):
        resize(file, tmp_path / "no" / ".." / "folder", Target(rank=1))
    # A new file is found where it was written.
    new = tmp_path / "no" / ".." / "new.safetensors"
    assert resize(file, new, Target(rank=1)).saved.file.layers
    assert (tmp_path / "new.safetensors").is_file()
    convert_lora(file, tmp_path / "no" / ".." / "own", "PEFT (own)")
    assert (tmp_path / "own" / "adapter_config.json").is_file()
    assert not (tmp_path / "no").exists()
