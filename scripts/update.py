"""Update the checkout and its environment.

    python scripts/update.py

fetches the newest commit of the current branch (git pull --ff-only) and installs what
it requires into .venv. Runs, your own presets and an installed torch are kept.
update.sh and update.bat call this.
"""

# No __future__ import: the check of _bootstrap must run on a Python too old for it.
import shutil
import subprocess
import sys
from pathlib import Path

from _bootstrap import here, install
from _environment import Checkout, InstallError, output_of, run


def main() -> int:
    """Pull, then install in a new process, which runs the new installer."""
    checkout = here()
    if sys.argv[1:] == ["--install"]:
        return _install(checkout)
    if sys.argv[1:]:
        print(__doc__)
        return 0 if sys.argv[1:] in (["-h"], ["--help"]) else 2
    error = _pull(checkout)
    if error:
        print(error, file=sys.stderr)
        return 1
    return run([sys.executable, __file__, "--install"], cwd=checkout.root)


def _install(checkout: Checkout) -> int:
    try:
        # Extras of earlier installations are kept.
        install(checkout, ["train"])
    except InstallError as error:
        print(error, file=sys.stderr)
        return 1
    print("The environment is up to date.")
    return 0


def _pull(checkout: Checkout) -> str:
    """Update the files; return an error, or ""."""
    git = ["git", "-C", str(checkout.root)]
    if not shutil.which("git"):
        return "git was not found. Install it, or download the new version by hand."
    top = output_of([*git, "rev-parse", "--show-toplevel"])
    if not top or Path(top).resolve() != checkout.root.resolve():
        return (
            f"{checkout.root} is not a git clone, so it cannot be updated. Download "
            "the new version into a new folder; your runs stay in this one."
        )
    before = output_of([*git, "rev-parse", "HEAD"])
    done = subprocess.run(
        [*git, "pull", "--ff-only"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return (
            f"git pull failed, and nothing was changed:\n{done.stderr.strip()}\n"
            f"Files that you edited are listed by: git -C {checkout.root} status"
        )
    after = output_of([*git, "rev-parse", "HEAD"])
    if before == after:
        print("Already at the newest commit.", flush=True)
    else:
        count = output_of([*git, "rev-list", "--count", f"{before}..{after}"])
        commits = "1 commit" if count == "1" else f"{count} commits"
        print(f"Updated by {commits} to {after[:10]}. See CHANGELOG.md.", flush=True)
    return ""


if __name__ == "__main__":
    sys.exit(main())
