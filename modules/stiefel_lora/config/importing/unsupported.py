"""Model families of other programs that are not supported, and where to train them."""

from __future__ import annotations

from ..._exceptions import ConfigError
from ...families.catalogue import listed, records

__all__ = ["no_such_family"]

_PAGES = {
    "OneTrainer": "docs/integrations/onetrainer.md",
    "sd-scripts": "docs/integrations/sd-scripts.md",
    "kohya_ss": "docs/integrations/kohya_ss.md",
    "musubi-tuner": "docs/integrations/musubi-tuner.md",
    "ai-toolkit": "docs/integrations/python.md",
}


_HOSTS = {
    "Chroma": "OneTrainer",
    "FLUX.1 Kontext": "musubi-tuner",
    "HiDream": "OneTrainer",
    "Lumina 2": "sd-scripts",
    "Qwen-Image": "musubi-tuner",
    "Qwen-Image-Edit": "musubi-tuner",
    "Stable Diffusion 2": "OneTrainer",
    "Stable Diffusion 3": "sd-scripts",
    "Wan 2.1": "musubi-tuner",
    "Wan 2.2": "musubi-tuner",
    "Z-Image": "musubi-tuner",
}


def no_such_family(family: str, host: str) -> ConfigError:
    """Return the error about a family that is not supported.

    Args:
        family: name of the family, or of the kind of model.
        host: program in which its optimizers can be used, a key of ``_PAGES``. The
            optimizers cannot be used in ai-toolkit, so another program is named.
    """
    if host == "ai-toolkit":
        host = _HOSTS.get(family, host)
    able = listed((record.short_label for record in records()), "and")
    where = "in your own loop" if host == "ai-toolkit" else f"inside {host}"
    return ConfigError(
        f"The configuration is for {family}, but only LoRAs for {able} are trained "
        f"here. Use the optimizers {where} instead ({_PAGES[host]})."
    )
