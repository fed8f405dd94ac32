"""bitsandbytes is imported at its first use, and works then."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from stiefel_lora import _late_bitsandbytes as late

PACKAGE = "late_package_of_this_test"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package in place of bitsandbytes. It writes a file when it is imported."""
    folder = tmp_path / PACKAGE
    folder.mkdir()
    mark = tmp_path / "imported"
    text = f"open({str(mark)!r}, 'a').write('x')\nlayer = 7\n__version__ = '1.2'\n"
    (folder / "__init__.py").write_text(text)
    (folder / "optim.py").write_text("rate = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(late, "_NAME", PACKAGE)
    yield mark
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]


def test_looking_for_a_package_imports_nothing(package):
    late.postpone_bitsandbytes()
    held = importlib.import_module(PACKAGE)
    assert importlib.util.find_spec(PACKAGE).origin == held.__file__
    assert getattr(held, "__warningregistry__", None) is None
    assert not package.exists()


@pytest.mark.parametrize("name", ["layer", "__version__"])
def test_the_first_use_imports_it_once(package, name):
    late.postpone_bitsandbytes()
    held = importlib.import_module(PACKAGE)
    # Whoever kept the stand-in, and whoever imports the package again.
    found = getattr(held, name)
    assert (
        getattr(importlib.import_module(PACKAGE), name) == found == getattr(held, name)
    )
    assert package.read_text() == "x"
    with pytest.raises(AttributeError, match="nothing"):
        _ = held.nothing


def test_a_submodule_imports_its_package(package):
    late.postpone_bitsandbytes()
    assert importlib.import_module(f"{PACKAGE}.optim").rate == 3
    assert importlib.import_module(PACKAGE).layer == 7
    assert package.read_text() == "x"


def test_it_is_hidden_only_until_it_is_imported(package):
    late.postpone_bitsandbytes()
    with late.without_bitsandbytes():
        assert importlib.util.find_spec(PACKAGE) is None
        with pytest.raises(ImportError):
            importlib.import_module(PACKAGE)
    assert importlib.import_module(PACKAGE).layer == 7
    late.postpone_bitsandbytes()
    with late.without_bitsandbytes():
        assert importlib.import_module(PACKAGE).layer == 7


def test_nothing_happens_without_the_package(monkeypatch):
    monkeypatch.setattr(late, "_NAME", "no_package_of_this_name")
    late.postpone_bitsandbytes()
    with late.without_bitsandbytes():
        pass
    assert "no_package_of_this_name" not in sys.modules


REAL = """
import sys
from stiefel_lora._late_bitsandbytes import postpone_bitsandbytes
postpone_bitsandbytes()
import torch
import stiefel_lora.training.trainer
from peft import LoraConfig, inject_adapter_in_model
from stiefel_lora._late_bitsandbytes import without_bitsandbytes

class Net(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.a = kind(64, 64)
        self.is_loaded_in_4bit = kind is not torch.nn.Linear

def kind_of(net):
    with without_bitsandbytes():
        inject_adapter_in_model(LoraConfig(target_modules=["a"]), net)
    return type(net.a).__module__

assert kind_of(Net(torch.nn.Linear)) == "peft.tuners.lora.layer"
assert "torch._inductor.compile_fx" not in sys.modules
assert "bitsandbytes.nn" not in sys.modules
import bitsandbytes
assert kind_of(Net(bitsandbytes.nn.Linear4bit)) == "peft.tuners.lora.bnb"
"""


def test_training_imports_it_only_for_quantized_layers():
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    subprocess.run([sys.executable, "-c", REAL], check=True, capture_output=True)
