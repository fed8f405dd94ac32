from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from stiefel_lora._exceptions import OutputError
from stiefel_lora.files import LoraFactors, load_lora, save_kohya
from stiefel_lora.files.atomic import atomic_write

POSIX = pytest.mark.skipif(os.name != "posix", reason="limits and signals of POSIX")


NAME = "unet.mid_block.attentions.0.proj_in"


def factors(out: int, rank: int) -> LoraFactors:
    return LoraFactors(torch.ones(out, rank), torch.ones(rank, out), float(rank))


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix == ".part"]


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another Python with our package on its path."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=os.environ | path, stdout=pipe, stderr=pipe, text=True
    )


def test_writes_into_a_new_folder(tmp_path):
    target = tmp_path / "a" / "b" / "file.bin"
    with atomic_write(target) as part:
        assert part.parent == target.parent
        part.write_bytes(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert leftovers(target.parent) == []


def test_an_exception_leaves_the_old_file(tmp_path):
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")

    def save() -> None:
        with atomic_write(target) as part:
            part.write_bytes(b"half")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        save()
    assert target.read_bytes() == b"old"
    assert leftovers(tmp_path) == []


def test_a_full_disk_is_one_message(tmp_path):
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")

    def save() -> None:
        with atomic_write(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError, match=r"could not be written: .*not changed"):
        save()
    assert target.read_bytes() == b"old"
    assert leftovers(tmp_path) == []


def test_a_folder_that_can_not_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError), atomic_write(tmp_path / "file" / "x.bin"):
        pass


def test_a_target_that_is_a_folder(tmp_path):
    (tmp_path / "x.bin" / "inside").mkdir(parents=True)
    with pytest.raises(OutputError), atomic_write(tmp_path / "x.bin") as part:
        part.write_bytes(b"new")
    assert leftovers(tmp_path) == []


@POSIX
def test_an_unwritable_folder(tmp_path):
    if os.geteuid() == 0:
        # root may write anywhere, but not in the process table.
        folder = Path("/proc/self")
    else:
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o500)
    with pytest.raises(OutputError), atomic_write(folder / "x.bin") as part:
        part.write_bytes(b"new")


def test_two_writers_do_not_meet(tmp_path):
    target = tmp_path / "file.bin"
    with atomic_write(target) as first:
        first.write_bytes(b"first")
        with atomic_write(target) as second:
            assert second != first
            second.write_bytes(b"second")
        assert target.read_bytes() == b"second"
    assert target.read_bytes() == b"first"


def test_what_a_killed_writer_left_goes_when_it_is_old(tmp_path):
    target = tmp_path / "file.bin"
    old, young = (tmp_path / f".file.bin.{n}.part" for n in (0, 1))
    old.write_bytes(b"")
    young.write_bytes(b"")
    os.utime(old, (time.time() - 86400,) * 2)
    with atomic_write(target) as part:
        part.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    assert leftovers(tmp_path) == [young.name]


def test_a_link_stays_a_link(tmp_path):
    real, link = tmp_path / "real.bin", tmp_path / "link.bin"
    real.write_bytes(b"old")
    try:
        link.symlink_to(real)
    except OSError:
        pytest.skip("this system makes no links")
    with atomic_write(link) as part:
        part.write_bytes(b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


@POSIX
def test_a_real_limit_of_the_system_in_the_middle_of_a_save(tmp_path):
    resource = pytest.importorskip("resource")
    target = tmp_path / "lora.safetensors"
    save_kohya(target, {NAME: factors(out=8, rank=2)})
    before = target.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.raises(OutputError, match=r"^.*could not be written.*$"):
            save_kohya(target, {NAME: factors(out=9000, rank=16)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert leftovers(tmp_path) == []
    assert target.read_bytes() == before
    assert load_lora(target)[NAME].rank == 2


@POSIX
def test_kill_in_the_middle_of_a_save(tmp_path):
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")
    code = """
        import sys, time
        from stiefel_lora.files.atomic import atomic_write
        with atomic_write(sys.argv[1]) as part, part.open("wb") as handle:
            handle.write(b"half of it")
            handle.flush()
            print("half", flush=True)
            time.sleep(60)
    """
    process = python(code, target)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.communicate()
    assert target.read_bytes() == b"old"
    with atomic_write(target) as part:
        part.write_bytes(b"new")
    assert target.read_bytes() == b"new"


@POSIX
def test_kills_at_any_time_leave_a_whole_file(tmp_path):
    """Saves in a loop, killed after ever longer waits: old or new, never torn."""
    target = tmp_path / "file.bin"
    code = """
        import itertools, sys
        from stiefel_lora.files.atomic import atomic_write
        for n in itertools.count():
            with atomic_write(sys.argv[1]) as part:
                part.write_bytes(bytes([n % 256]) * 2_000_000)
            print(n, flush=True)
    """
    for wait in (0.0, 0.003, 0.007, 0.013, 0.021):
        process = python(code, target)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait)
        process.kill()
        process.communicate()
        data = target.read_bytes()
        assert len(data) == 2_000_000
        assert data == data[:1] * len(data)
