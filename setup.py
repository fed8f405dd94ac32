"""Choose the packages; everything else is in pyproject.toml."""

from __future__ import annotations

from setuptools import find_packages, setup

setup(
    # The demo model and images are for the checkout; a wheel must stay small.
    packages=[
        *find_packages("modules", exclude=["stiefel_lora.demo", "stiefel_lora.demo.*"]),
        "stiefel_lora.presets",
    ],
)
