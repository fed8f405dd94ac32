"""Set the version, date the changelog and fill in the address of the repository.

    python scripts/release.py 0.2.0 --repository https://example.org/stiefel-lora.git

changes files only; it prints the commands that commit, tag and build. Run it again with
another address or date to correct them.
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from pathlib import Path

__all__ = ["release"]

ROOT = Path(__file__).resolve().parent.parent
VERSION = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")
CLONE = re.compile(r"(?m)^(git clone \S+ stiefel-lora && )?cd stiefel-lora\b.*$")
"""First command of the README, without and with the address."""


def main() -> int:
    """Change the files and print the next steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("version", help="such as 0.2.0 or 0.2.0rc1")
    parser.add_argument("--repository", metavar="URL", help="address for git clone")
    parser.add_argument("--date", type=datetime.date.fromisoformat, help="YYYY-MM-DD")
    arguments = parser.parse_args()
    day = arguments.date or datetime.date.today()
    try:
        changed = release(ROOT, arguments.version, day, arguments.repository)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(f"changed {path.relative_to(ROOT)}" for path in changed))
    if "git clone" not in (ROOT / "README.md").read_text(encoding="utf-8"):
        print("README.md has no clone address yet: give --repository.")
    print(
        "\nNext:\n"
        "  python scripts/run_tests.py\n"
        f'  git commit -am "Release {arguments.version}"\n'
        f"  git tag v{arguments.version}\n"
        "  python -m pip wheel . --no-deps -w dist"
    )
    return 0


def release(
    root: Path, version: str, day: datetime.date, repository: str | None
) -> list[Path]:
    """Change the files of a checkout; return those that changed.

    Raises:
        ValueError: an invalid version or address, or nothing to release.
    """
    if not VERSION.fullmatch(version):
        raise ValueError(f"version: {version} is not valid. Write it like 0.2.0.")
    if repository is not None and not re.fullmatch(r"(https://|git@)\S+", repository):
        raise ValueError(
            f"--repository: {repository} is not valid. Write an address for git clone, "
            "such as https://example.org/stiefel-lora.git."
        )
    edits = {
        "modules/stiefel_lora/_version.py": lambda text: re.sub(
            r'(?m)^__version__ = ".*"$', f'__version__ = "{version}"', text
        ),
        "CHANGELOG.md": lambda text: dated(text, version, day),
        "CITATION.cff": lambda text: cited(text, version, day, repository),
        "README.md": lambda text: addressed(text, repository),
        "pyproject.toml": lambda text: linked(text, repository),
    }
    texts = {root / name: (root / name).read_text("utf-8") for name in edits}
    new = {
        path: edits[path.relative_to(root).as_posix()](texts[path]) for path in texts
    }
    changed = [path for path in texts if new[path] != texts[path]]
    for path in changed:
        path.write_text(new[path], encoding="utf-8")
    return changed


def dated(text: str, version: str, day: datetime.date) -> str:
    """Turn the entries under *Unreleased* into a version, or change its date.

    Raises:
        ValueError: neither has entries.
    """
    heading = rf"(?m)^## {re.escape(version)} - \S+$"
    if re.search(heading, text):
        return re.sub(heading, f"## {version} - {day}", text)
    unreleased = re.search(r"(?ms)^## Unreleased\n(.*?)(?=^## |\Z)", text)
    if unreleased is None or not unreleased[1].strip():
        raise ValueError("CHANGELOG.md: there are no entries under Unreleased.")
    return text.replace(
        "## Unreleased\n", f"## Unreleased\n\n## {version} - {day}\n", 1
    )


def cited(text: str, version: str, day: datetime.date, repository: str | None) -> str:
    """Set version, date and address of the citation."""
    values = {"version": version, "date-released": f"{day}"}
    if repository is not None:
        values["repository-code"] = f'"{web_page(repository)}"'
    for key, value in values.items():
        line = f"{key}: {value}\n"
        text, found = re.subn(rf"(?m)^{key}: .*\n", line, text)
        text += "" if found else line
    return text


def addressed(text: str, repository: str | None) -> str:
    """Make the first command one that clones the repository."""
    if repository is None:
        return text
    command = f"git clone {repository} stiefel-lora && cd stiefel-lora"
    return CLONE.sub(lambda _: command, text, count=1)


def linked(text: str, repository: str | None) -> str:
    """Set the links of the package's metadata."""
    if repository is None:
        return text
    page = web_page(repository)
    links = (
        "[project.urls]\n"
        f'Repository = "{page}"\n'
        f'Issues = "{page}/issues"\n'
        f'Changelog = "{page}/blob/main/CHANGELOG.md"\n\n'
    )
    text = re.sub(r"(?ms)^\[project\.urls\]\n.*?\n\n(?=\[)", "", text)
    return text.replace("[project.scripts]\n", links + "[project.scripts]\n", 1)


def web_page(repository: str) -> str:
    """Return the page of a clone address."""
    page = repository.removesuffix("/").removesuffix(".git")
    return re.sub(r"^git@([^:/]+):", r"https://\1/", page)


if __name__ == "__main__":
    sys.exit(main())
