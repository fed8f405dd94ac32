"""Packaging of stiefel-lora: the source root is modules/, the presets come along."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent

# Floors are what the code needs to our knowledge; what was tested stands, version by
# version, in constraints.txt.
TRAIN = [
    "accelerate>=1.6",
    "diffusers>=0.35",
    "filelock>=3.18",
    "imagesize>=2.0.1",
    "Jinja2>=3.1",
    "numpy>=1.26",
    "peft>=0.17",
    "Pillow>=10.3",
    "psutil>=5.9",
    "pydantic>=2.11",
    "rich>=13.7",
    "safetensors>=0.4.5",
    "tensorboard>=2.17",
    "transformers>=4.54",
    "typer>=0.15",
]
EXTRAS = {
    "train": TRAIN,
    # PySide6 6.12.0 loses a reference to True at every emit: before Python 3.12, where
    # True can not die, that ends the process after some hundred of them.
    "ui": ["PySide6-Essentials>=6.8,!=6.12.0", "pyqtgraph>=0.13.7"],
    "quant": ["bitsandbytes>=0.45"],
    "xformers": ["xformers>=0.0.28"],
    "test": [
        "adv_optm==2.3.dev3",
        'bitsandbytes>=0.45; sys_platform != "darwin"',
        "hypothesis>=6.100",
        "packaging>=24",
        "pyrefly>=1.4",
        "pytest>=8.3",
        "pytest-qt>=4.4",
        "pytest-timeout>=2.3",
        "pytorch-optimizer==4.1.0",
        "ruff>=0.17",
        "setuptools>=77",
        "wheel>=0.43",
    ],
    "docs": ["furo>=2024.8.6", "myst-parser>=4", "sphinx>=8"],
}


def version() -> str:
    """Read the version without importing the package."""
    text = (ROOT / "modules/stiefel_lora/_version.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE)
    if found is None:
        raise RuntimeError("modules/stiefel_lora/_version.py holds no __version__ line")
    return found[1]


setup(
    name="stiefel-lora",
    version=version(),
    description="LoRA training for diffusion models on the Stiefel manifold",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    # The first torch whose AdamW is fused on the CPU too.
    install_requires=["torch>=2.4"],
    extras_require=EXTRAS,
    # The demo model and pictures are for the checkout; a wheel must stay small.
    packages=[
        *find_packages("modules", exclude=["stiefel_lora.demo", "stiefel_lora.demo.*"]),
        "stiefel_lora.presets",
    ],
    package_dir={"": "modules", "stiefel_lora.presets": "training_presets"},
    package_data={
        "stiefel_lora": ["py.typed", "jobs/*.jinja"],
        "stiefel_lora.checkpoints": ["clip_merges.txt.gz", "ATTRIBUTION.md"],
        "stiefel_lora.files.tools": ["loader_names.json.gz"],
        "stiefel_lora.families": ["known/*/*.json"],
        "stiefel_lora.presets": ["*.json", "**/*.json"],
    },
    entry_points={"console_scripts": ["stiefel-lora = stiefel_lora.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    zip_safe=False,
)
