"""Presets as data; an installed package finds them as ``stiefel_lora.presets``."""
