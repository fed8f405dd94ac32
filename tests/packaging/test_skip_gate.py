"""A skip fails the run unless the list knows it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import _skip_gate

SKIPPING = (
    "import pytest\ndef test_a(): pytest.skip('needs CUDA')\ndef test_b(): pass\n"
)


def _pytest(
    folder: Path, test: str, allowed: str, *more: str
) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(test, encoding="utf-8")
    (folder / "skips.txt").write_text(allowed, encoding="utf-8")
    scripts = Path(_skip_gate.__file__).parent
    plugins = ["_skip_gate", "no:cacheprovider", "xdist.plugin"]
    command = [sys.executable, "-m", "pytest", *(f"-p{name}" for name in plugins)]
    # Other plugins that are installed would be imported by each process for nothing.
    alone = {"PYTHONPATH": str(scripts), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [*command, "--skip-list", "skips.txt", *more, "test_it.py"],
        cwd=folder,
        env={**os.environ, **alone},
        capture_output=True,
        text=True,
        check=False,
    )


def test_unlisted_skip_fails_and_is_printed(tmp_path: Path) -> None:
    done = _pytest(tmp_path, SKIPPING, "")
    assert done.returncode == 1
    assert "(NOT LISTED: a failure): test_it.py::test_a -- needs CUDA" in done.stdout


def test_listed_skip_passes_and_is_printed(tmp_path: Path) -> None:
    done = _pytest(tmp_path, SKIPPING, "# GPU\n*::test_a -- needs CUDA\n")
    assert done.returncode == 0
    assert "skip (listed): test_it.py::test_a -- needs CUDA" in done.stdout


def test_listed_test_with_another_reason_fails(tmp_path: Path) -> None:
    done = _pytest(tmp_path, SKIPPING, "*::test_a -- needs a GPU\n")
    assert done.returncode == 1


def test_module_that_skips_itself_is_seen(tmp_path: Path) -> None:
    test = "import pytest\npytest.importorskip('no_such_module')\n"
    done = _pytest(tmp_path, test, "")
    assert done.returncode == 1
    assert "NOT LISTED" in done.stdout


def test_expected_failure_is_no_skip(tmp_path: Path) -> None:
    test = "import pytest\n@pytest.mark.xfail\ndef test_a(): assert False\n"
    assert _pytest(tmp_path, test, "").returncode == 0


def test_line_without_reason_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "skips.txt"
    path.write_text("test_it.py::test_a\n", encoding="utf-8")
    with pytest.raises(ValueError, match="NODE-ID -- REASON"):
        _skip_gate.read_list(path)


@pytest.mark.slow
def test_skips_of_several_processes_are_seen_once(tmp_path: Path) -> None:
    workers = ("-n", "2", "--dist", "worksteal")
    done = _pytest(tmp_path, SKIPPING, "", *workers)
    assert done.returncode == 1
    line = "skip (NOT LISTED: a failure): test_it.py::test_a -- needs CUDA"
    assert done.stdout.count(line) == 1
    done = _pytest(tmp_path, SKIPPING, "*::test_a -- needs CUDA\n", *workers)
    assert done.returncode == 0
    assert done.stdout.count("skip (listed): test_it.py::test_a -- needs CUDA") == 1


def test_a_module_that_skips_itself_is_seen_in_several_processes(
    tmp_path: Path,
) -> None:
    test = "import pytest\npytest.importorskip('no_such_module')\n"
    done = _pytest(tmp_path, test, "", "-n", "2")
    assert done.returncode != 0
    assert done.stdout.count("NOT LISTED") == 1
