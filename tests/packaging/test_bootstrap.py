"""The installer: quick when nothing changed, a message when something is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import _bootstrap
import _environment
from _bootstrap import install
from _environment import Checkout, InstallError
from _torch_build import TorchSource

SCRIPTS = Path(_bootstrap.__file__).parent


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A folder with a space in its name that holds what the stamp looks at."""
    root = tmp_path / "my checkout"
    for name in _environment.STAMPED_FILES:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
    return Checkout(root)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Extras of every build that would have happened."""
    calls: list[list[str]] = []

    def build(checkout: Checkout, extras: list[str], *_: object, **__: object) -> None:
        calls.append(extras)
        checkout.python.parent.mkdir(parents=True, exist_ok=True)
        checkout.python.touch()

    monkeypatch.setattr(_bootstrap, "_build", build)
    return calls


def test_second_call_builds_nothing(checkout: Checkout, builds: list) -> None:
    install(checkout, ["train"])
    install(checkout, ["train"])
    assert builds == [["train"]]


def test_extras_add_up(checkout: Checkout, builds: list) -> None:
    install(checkout, ["train", "test"])
    install(checkout, ["train"])
    install(checkout, ["docs"])
    assert builds == [["test", "train"], ["docs", "test", "train"]]


def test_changed_constraints_build_again(checkout: Checkout, builds: list) -> None:
    install(checkout, ["train"])
    (checkout.root / "constraints.txt").write_text("numpy==2\n", encoding="utf-8")
    install(checkout, ["train"])
    assert len(builds) == 2


def test_another_torch_index_builds_again(checkout: Checkout, builds: list) -> None:
    install(checkout, ["train"])
    other = TorchSource(index="https://index.invalid/cu130")
    install(checkout, ["train"], other)
    install(checkout, ["train"], other)
    install(checkout, ["train"])
    assert len(builds) == 2
    install(checkout, ["train"], TorchSource(backend="cpu"))
    assert len(builds) == 3


def test_damaged_stamp_builds_again(checkout: Checkout, builds: list) -> None:
    install(checkout, ["train"])
    checkout.stamp.write_text("{", encoding="utf-8")
    install(checkout, ["train"])
    assert len(builds) == 2


def test_full_disk_is_a_message(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_bootstrap, "_build", full)
    with pytest.raises(InstallError, match="The disk is full"):
        install(checkout, ["train"])
    assert not checkout.stamp.exists()


def test_missing_ensurepip_is_a_message(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        _bootstrap.importlib.util, "find_spec", lambda name: name == "venv"
    )
    with pytest.raises(InstallError, match=r"lacks the module ensurepip.*python3-venv"):
        install(checkout, ["train"])


@pytest.mark.timeout(900)  # ensurepip crawls on a busy machine
def test_unreachable_index_is_a_message_with_the_log(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real environment and a real pip, which finds nobody at the index."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(InstallError, match="cannot be reached") as caught:
        install(checkout, ["train"])
    assert str(checkout.log) in str(caught.value)
    assert "torch==" in checkout.log.read_text(encoding="utf-8")
    assert checkout.python.exists()
    assert not checkout.stamp.exists()


def test_a_folder_that_is_no_checkout_of_the_host_is_a_message(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "setup_host.py"), "sd-scripts", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert (
        "is not a checkout of sd-scripts: it does not contain sdxl_train" in done.stderr
    )
    assert not list(tmp_path.iterdir())


OUR_SCRIPTS = [
    "quickstart.py",
    "run_tests.py",
    "train.py",
    "batch_train.py",
    "setup_host.py",
]


@pytest.mark.parametrize("script", OUR_SCRIPTS)
def test_old_python_is_a_message(script: str) -> None:
    code = (
        "import runpy, sys\n"
        "sys.version_info = (3, 9, 1, 'final', 0)\n"
        f"sys.path.insert(0, {str(SCRIPTS)!r})\n"
        f"sys.argv = [{script!r}]\n"
        f"runpy.run_path({str(SCRIPTS / script)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(
        "stiefel-lora needs Python 3.10 or newer, but this is"
    )
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("code", [0, 1, 130])
def test_run_returns_the_exit_code(code: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", f"raise SystemExit({code})"]
    assert _environment.run(command, cwd=tmp_path) == code


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_leaves_the_child_its_time_to_save(tmp_path: Path) -> None:
    """Parent and child get SIGINT; the parent waits and passes on the exit code."""
    child = (
        "import pathlib, signal, sys, time\n"
        "def stop(*_):\n"
        "    time.sleep(1)\n"
        "    pathlib.Path('saved').touch()\n"
        "    sys.exit(130)\n"
        "signal.signal(signal.SIGINT, stop)\n"
        "pathlib.Path('ready').touch()\n"
        "time.sleep(60)\n"
    )
    parent = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\n"
        "from pathlib import Path\n"
        "from _environment import run\n"
        f"sys.exit(run([sys.executable, '-c', {child!r}], cwd=Path.cwd()))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent], cwd=tmp_path, start_new_session=True
    )
    _wait_for(tmp_path / "ready")
    os.killpg(process.pid, 2)
    assert process.wait(timeout=30) == 130
    assert (tmp_path / "saved").exists()


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)
