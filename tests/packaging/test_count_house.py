"""The chains of files that a contributor follows are as short as promised."""

from __future__ import annotations

from pathlib import Path

import pytest

import count_house

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def house() -> count_house.House:
    return count_house.House(ROOT)


def test_a_step_reaches_its_retraction_in_four_files(house):
    chain, read = count_house.step_of_b(house)
    assert chain[0] == "optim/stiefel.py"
    assert chain[-1] == "geometry/stiefel.py"
    assert len(chain) <= 4
    assert set(chain) < set(read)


def test_a_key_reaches_its_rule_in_six_files(house):
    files = count_house.key_to_rule(house)
    assert files[0] == "methods/_stiefel.py"
    assert {"config/optimizer.py", "optim/stiefel.py"} < set(files)
    assert len(files) <= 6


def test_every_task_of_a_contributor_opens_a_file(house):
    found = {task: opened for task, opened, _ in count_house.tasks(house)}
    assert len(found) >= 10
    assert not [task for task, opened in found.items() if not opened]


def test_chains_are_followed_through_imports_and_methods(tmp_path):
    package = tmp_path / "modules" / "stiefel_lora"
    (package / "optim").mkdir(parents=True)
    files = {
        "optim/base.py": "from .work import work\n\n\nclass Base:\n"
        "    def step(self):\n        work(self.rule)\n",
        "optim/work.py": "def work(rule):\n    rule.move()\n",
        "optim/stiefel.py": "from .ends import end\nfrom .base import Base\n\n\n"
        "class Rule:\n    def move(self):\n        end()\n\n\n"
        "class Own(Base):\n    rule = Rule()\n",
        "optim/ends.py": "def end():\n    '''The end.'''\n",
    }
    for name, text in files.items():
        (package / name).write_text(text, encoding="utf-8")
    house = count_house.House(tmp_path)
    calls = count_house.Calls(house, ("optim/stiefel.py", "Own"))
    start = calls.method("step")
    assert start == ("optim/base.py", "Base.step")
    chain = calls.chain(start, ("optim/ends.py", "end"))
    assert [name for name, _ in chain] == [
        f"optim/{n}.py" for n in ("base", "work", "stiefel", "ends")
    ]
    assert count_house.lines(house)["docstring lines"] == 1


@pytest.mark.slow
def test_a_commit_is_read_as_a_folder_is():
    assert "optim/stiefel.py" in count_house.read("HEAD").files
