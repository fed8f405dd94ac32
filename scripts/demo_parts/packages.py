"""Pinned image packages: download, check and unpack them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """One npm package: its exact version and the SHA-256 of its archive."""

    name: str
    version: str
    sha256: str

    @property
    def stem(self) -> str:
        """Archive name without the suffix, as `npm pack` writes it."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}"


TWEMOJI = Package(
    "@discordapp/twemoji",
    "16.0.1",
    "2278fd609501e20dc646a546c1d7bbcab86a4c38010ded12b45e61f9687b9d0a",
)
NOTO = Package(
    "@iconify-json/noto",
    "1.2.9",
    "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
)
FLUENT = Package(
    "@lobehub/fluent-emoji-3d",
    "1.1.0",
    "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
)
EMOJILIB = Package(
    "emojilib",
    "4.0.3",
    "7f9a6b43cff31d18985b7d65d11faba5bd971cbcc60020cf6d09322fbaaaf303",
)
PACKAGES = (TWEMOJI, NOTO, FLUENT, EMOJILIB)


def fetch(folder: Path, packages: Iterable[Package] = PACKAGES) -> None:
    """Put every package into `folder/<stem>/package`, checking its hash."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in packages:
        archive = folder / f"{package.stem}.tgz"
        if not archive.is_file():
            _download(package, folder)
        check(archive, package)
        target = folder / package.stem
        if not (target / "package").is_dir():
            with tarfile.open(archive) as tar:
                tar.extractall(target, filter="data")
        print(f"{package.name} {package.version}: {target}")


def check(archive: Path, package: Package) -> None:
    """Compare the archive with the pinned hash.

    Raises:
        ValueError: if the archive is missing or has another SHA-256.
    """
    if not archive.is_file():
        raise ValueError(
            f"{archive} is missing. `npm pack {package.name}@{package.version}` in "
            f"{archive.parent} writes it."
        )
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != package.sha256:
        raise ValueError(
            f"{archive} has SHA-256 {found}, but {package.sha256} is pinned. "
            "Delete the file and run `make_demo.py fetch` again."
        )


def content(folder: Path, package: Package) -> Path:
    """Return the unpacked folder of `package`.

    Raises:
        ValueError: if it was not fetched into `folder`.
    """
    path = folder / package.stem / "package"
    if not path.is_dir():
        raise ValueError(
            f"Package {package.name} {package.version} is not in {folder}. "
            "Run `python scripts/make_demo.py fetch` first, or name the folder that "
            "holds it with --packages."
        )
    return path


def _download(package: Package, folder: Path) -> None:
    """Let npm write the archive; nothing is installed and no script is run."""
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(
            f"`npm` is not on the PATH, and {package.stem}.tgz is not in {folder}. "
            "Install Node.js, or put the four archives there by hand."
        )
    subprocess.run(
        [npm, "pack", f"{package.name}@{package.version}"], cwd=folder, check=True
    )
