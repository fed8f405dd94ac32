"""The release script, on a copy of the files that it changes."""

from __future__ import annotations

import datetime
import shutil
import sys
from pathlib import Path

import pytest

import release

if sys.version_info >= (3, 11):
    import tomllib

ROOT = Path(__file__).resolve().parents[2]
DAY = datetime.date(2027, 1, 2)
ADDRESS = "https://example.org/us/stiefel-lora.git"
FILES = (
    "modules/stiefel_lora/_version.py",
    "CHANGELOG.md",
    "CITATION.cff",
    "README.md",
    "pyproject.toml",
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text("# Changelog\n\n## Unreleased\n\n### Added\n\n- a.\n")
    return tmp_path


def read(checkout: Path, name: str) -> str:
    return (checkout / name).read_text("utf-8")


def test_version_date_and_address_are_set_everywhere(checkout: Path) -> None:
    changed = release.release(checkout, "9.8.7", DAY, ADDRESS)
    assert {path.relative_to(checkout).as_posix() for path in changed} == set(FILES)
    assert '__version__ = "9.8.7"' in read(checkout, FILES[0])
    changelog = read(checkout, "CHANGELOG.md")
    assert "## Unreleased\n\n## 9.8.7 - 2027-01-02\n\n### Added" in changelog
    citation = read(checkout, "CITATION.cff")
    assert "\nversion: 9.8.7\n" in citation
    assert "\ndate-released: 2027-01-02\n" in citation
    assert '\nrepository-code: "https://example.org/us/stiefel-lora"\n' in citation
    command = f"\ngit clone {ADDRESS} stiefel-lora && cd stiefel-lora\n"
    assert command in read(checkout, "README.md")
    release.release(checkout, "9.8.7", DAY, "https://example.org/moved.git")
    text = read(checkout, "README.md")
    assert command.replace(ADDRESS, "https://example.org/moved.git") in text
    assert text.count("git clone") == 1


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is new in 3.11")
def test_metadata_has_links_once(checkout: Path) -> None:
    for address in (ADDRESS, "git@example.org:us/stiefel-lora.git"):
        release.release(checkout, "9.8.7", DAY, address)
        project = tomllib.loads(read(checkout, "pyproject.toml"))["project"]
        assert project["urls"]["Repository"] == "https://example.org/us/stiefel-lora"
        assert project["scripts"] == {"stiefel-lora": "stiefel_lora.cli:main"}


def test_a_second_call_only_corrects(checkout: Path) -> None:
    release.release(checkout, "9.8.7", DAY, None)
    release.release(checkout, "9.8.7", datetime.date(2027, 2, 3), ADDRESS)
    assert read(checkout, "CHANGELOG.md").count("## 9.8.7 - 2027-02-03") == 1
    assert read(checkout, "CITATION.cff").count("date-released") == 1


@pytest.mark.parametrize(
    ("version", "address", "words"),
    [
        ("next", ADDRESS, "version: next is not valid"),
        ("1.2", ADDRESS, "version: 1.2 is not valid"),
        ("1.2.3", "somewhere", "--repository: somewhere is not valid"),
    ],
)
def test_wrong_input_changes_nothing(
    checkout: Path, version: str, address: str, words: str
) -> None:
    before = {name: read(checkout, name) for name in FILES}
    with pytest.raises(ValueError, match=words):
        release.release(checkout, version, DAY, address)
    assert {name: read(checkout, name) for name in FILES} == before


def test_a_changelog_without_entries_is_refused(checkout: Path) -> None:
    (checkout / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n## 0.1.0\n")
    with pytest.raises(ValueError, match="no entries under Unreleased"):
        release.release(checkout, "9.8.7", DAY, None)
