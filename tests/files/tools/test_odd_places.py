"""Pipes, links, signals, several writers, and texts that reach the terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from helpers.lora_files import make, write
from stiefel_lora import _commands
from stiefel_lora._exceptions import ModelError, OptionError, OutputError
from stiefel_lora._wording import printable
from stiefel_lora.files import (
    Checkpoint,
    Part,
    Target,
    add_into_checkpoint,
    convert_lora,
    merge_lora,
    open_lora,
)
from stiefel_lora.files import resize_lora as resize
from stiefel_lora.files.atomic import atomic_write, sigterm_raises

STEM = "lora_unet_input_blocks_4_1_proj_in"
OWN = "down_blocks.1.attentions.0.proj_in.weight"
run = CliRunner().invoke
TO_1 = Target(rank=1)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_pipe_is_no_input(tmp_path: Path):
    pipe = tmp_path / "pipe.safetensors"
    os.mkfifo(pipe)
    for path in (pipe, Path(os.devnull)):
        with pytest.raises(ModelError, match="is a pipe or a device"):
            open_lora(path)
        with pytest.raises(ModelError, match="is a pipe or a device"):
            Checkpoint(path)


def test_a_pipe_a_device_and_a_link_to_itself_are_no_outputs(tmp_path: Path):
    file = write(tmp_path / "in.safetensors", make())
    pipe, loop = tmp_path / "pipe.safetensors", tmp_path / "loop.safetensors"
    device = tmp_path / "device.safetensors"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    device.symlink_to(os.devnull)
    before = _names(tmp_path)
    for out, text in ((pipe, "pipe"), (device, "pipe"), (loop, "cannot be used")):
        for overwrite in (False, True):
            with pytest.raises(OutputError, match=text):
                resize(file, out, TO_1, overwrite=overwrite)
    assert _names(tmp_path) == before
    assert pipe.is_fifo()
    assert loop.is_symlink()


def test_a_link_to_a_new_file_is_written_through(tmp_path: Path):
    file = write(tmp_path / "in.safetensors", make())
    link = tmp_path / "link.safetensors"
    link.symlink_to(tmp_path / "new.safetensors")
    resize(file, link, TO_1)
    assert link.is_symlink()
    assert open_lora(tmp_path / "new.safetensors").layers


def test_a_file_that_appears_while_writing_is_not_replaced(tmp_path: Path, monkeypatch):
    """Several programs write one new file: the first one that is ready wins."""
    from stiefel_lora.files.tools import save_lora

    file = write(tmp_path / "in.safetensors", make())
    real, out = save_lora._read_back, tmp_path / "out.safetensors"

    def late(part, path, writer):
        path.write_bytes(b"other")
        return real(part, path, writer)

    monkeypatch.setattr(save_lora, "_read_back", late)
    for call in (
        lambda: resize(file, out, TO_1),
        lambda: convert_lora(file, out, "PEFT"),
        lambda: merge_lora([Part(file)], out),
    ):
        with pytest.raises(OutputError, match="was created by another program"):
            call()
        assert out.read_bytes() == b"other"
        assert _names(tmp_path) == ["in.safetensors", "out.safetensors"]
        out.unlink()
    resize(file, out, TO_1, overwrite=True)
    assert open_lora(out).layers


def test_one_of_several_writers_wins(tmp_path: Path):
    target, failed = tmp_path / "x", []
    barrier = threading.Barrier(3)

    def write_one(number: int) -> None:
        try:
            with atomic_write(target, overwrite=False) as part:
                part.write_text(str(number))
                barrier.wait()
        except OutputError:
            failed.append(number)

    threads = [threading.Thread(target=write_one, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failed) == 2
    assert int(target.read_text()) not in failed
    assert _names(tmp_path) == ["x"]


def test_without_links_of_the_file_system_a_file_is_kept_too(tmp_path, monkeypatch):
    def no_link(*_arguments) -> None:
        raise PermissionError(1, "not supported")

    monkeypatch.setattr(os, "link", no_link)
    with atomic_write(tmp_path / "x", overwrite=False) as part:
        part.write_text("1")
    with (
        pytest.raises(OutputError, match="was created by another program"),
        atomic_write(tmp_path / "x", overwrite=False) as part,
    ):
        part.write_text("2")
    assert (tmp_path / "x").read_text() == "1"
    assert _names(tmp_path) == ["x"]


def test_a_peft_folder_that_exists_is_not_mixed(tmp_path: Path):
    from stiefel_lora.files.tools.converting import converted
    from stiefel_lora.files.tools.peft_folder import save_peft_folder

    file = write(tmp_path / "in.safetensors", make())
    out = tmp_path / "out"
    out.mkdir()
    (out / "x").write_text("other")
    with pytest.raises(OutputError, match="out could not be created: File exists"):
        save_peft_folder(out, converted(file, "PEFT (own)"))
    assert _names(out) == ["x"]


_KILLED = """
import os, signal, sys
from pathlib import Path
from stiefel_lora.files.atomic import atomic_write, sigterm_raises
import tempfile
folder = Path(sys.argv[1])
if sys.argv[2] == "file":
    with atomic_write(folder / "x") as part:
        part.write_text("half")
        os.kill(os.getpid(), signal.SIGTERM)
else:
    with sigterm_raises(), tempfile.TemporaryDirectory(dir=folder) as name:
        os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_sigterm_leaves_no_temporary_file(tmp_path: Path, kind):
    command = [sys.executable, "-c", _KILLED, str(tmp_path), kind]
    assert subprocess.run(command, check=False).returncode == 128 + signal.SIGTERM
    assert _names(tmp_path) == []


def test_a_handler_of_the_program_is_kept():
    seen = []
    old = signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        with sigterm_raises():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)
        assert seen == [1]
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with sigterm_raises():
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, old)


def test_a_broken_link_in_a_base_folder_is_named(tmp_path: Path):
    base = tmp_path / "base"
    base.mkdir()
    safetensors.torch.save_file({OWN: torch.ones(7, 6)}, base / "x.safetensors")
    (base / "notes.txt").symlink_to(tmp_path / "missing.txt")
    only = {key: t for key, t in make().items() if key.startswith(STEM)}
    file = write(tmp_path / "in.safetensors", only)
    with pytest.raises(
        OutputError, match=r"notes.txt cannot be copied to .*No such"
    ) as e:
        add_into_checkpoint(file, Checkpoint(base), tmp_path / "out")
    assert "disk space" not in str(e.value)
    assert _names(tmp_path) == ["base", "in.safetensors"]


def test_the_missing_size_has_digits(tmp_path: Path):
    only = {key: t for key, t in make().items() if key.startswith(STEM)}
    file = write(tmp_path / "in.safetensors", only)
    message = r"--size: rank 1 in the layer already requires 0\.00\d+ MB more"
    with pytest.raises(OptionError, match=message):
        resize(file, tmp_path / "out.safetensors", Target(size=1e-6))


@pytest.mark.parametrize("odd", [1e-42, 1e-30, 1e30])
def test_one_odd_alpha_does_not_become_that_of_all(tmp_path: Path, odd):
    tensors = make() | {f"{STEM}.alpha": torch.tensor(odd)}
    file = write(tmp_path / "in.safetensors", tensors)
    saved = resize(file, tmp_path / "out.safetensors", Target(rank=9)).saved
    alphas = {layer.factors.alpha for layer in saved.file.layers}
    assert len(alphas) == 1
    assert alphas <= {1.0, 3.0}
    assert saved.deviation < (1e-6 if odd != 1e-42 else 1.1)


def test_a_file_without_lora_has_no_statistics(tmp_path: Path):
    shapes = {"w1_a": (7, 2), "w1_b": (2, 6), "w2_a": (7, 2), "w2_b": (2, 6)}
    tensors = {f"{STEM}.hada_{key}": torch.ones(shape) for key, shape in shapes.items()}
    write(tmp_path / "in.safetensors", tensors)
    ran = run(_commands.app, ["lora", "inspect", str(tmp_path / "in.safetensors")])
    assert ran.exit_code == 0
    assert "LoHa" in ran.stdout
    assert "largest sigma_1" not in ran.stdout


def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path: Path):
    evil = "\x1b[31mX\x1b]0;title\x07\x9b2J"
    path = tmp_path / "in.safetensors"
    stem = f"diffusion_model.layers.3.{evil}.to_q"
    pair = {f"{stem}.lora_A.weight": torch.ones(1, 3)}
    pair |= {f"{stem}.lora_B.weight": torch.full((3, 1), float("nan"))}
    tensors = make() | pair | {f"strange{evil}": torch.ones(1)}
    notes = {"modelspec.trigger_phrase": evil, "ss_tag_frequency": f'{{"1_{evil}": 3}}'}
    write(path, tensors, **notes)
    out = str(tmp_path / "out.safetensors")
    words = ["--output", out, "--overwrite", "--no-verify", "--allow-unknown"]
    for command in (
        ["inspect", str(path)],
        ["inspect", str(path), "--layers", "--allow-unknown"],
        ["inspect", str(path), str(path), "--layers"],
        ["resize", str(path), "--rank", "1", *words],
        ["convert", str(path), "--to", "peft", *words],
        ["merge", str(path), *words],
        ["verify", str(path), "--allow-unknown"],
        ["verify", str(path)],
        ["overlap", str(path), str(path), "--allow-unknown"],
    ):
        ran = run(_commands.app, ["lora", *command])
        shown = ran.stdout + ran.stderr
        assert not set(shown) & set("\x1b\x07\x9b"), command
    assert r"\x1b[31mX" in run(_commands.app, ["lora", "inspect", str(path)]).stdout


def test_escapes_of_control_characters():
    assert printable("a\tb\nc \udcff ä") == "a\tb\nc \udcff ä"
    assert printable("\x00\r\x7f\x85") == r"\x00\x0d\x7f\x85"
