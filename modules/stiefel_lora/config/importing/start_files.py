"""LoRA files from which a training of other programs starts.

A file defines the product (alpha / rank) B A. Here, the start is this product, whatever
``lora_alpha`` is: A is multiplied by the quotient of both scales. Other programs load
unchanged factors, and use their own scale or that of the file.
"""

from __future__ import annotations

from typing import Any

from .key_rules import Result, turned
from .optimizer_names import FoundOptimizer

__all__ = ["FILE_ALPHA", "OWN_ALPHA", "WHOLE_FILE", "start_file"]

_SAME = (
    "To get the same gradients, set lora_alpha so that lora_alpha / lora_rank is the "
    "quotient of the file (stiefel-lora lora inspect)"
)
FILE_ALPHA = (
    "the alpha of the file replaces lora_alpha there. Here, the start is the same, but "
    f"lora_alpha is used for training. {_SAME}"
)
"""The program uses alpha of the file and the rank of the configuration."""

WHOLE_FILE = (
    "rank and alpha of the file are used there. Here, the start is the same unless its "
    f"rank is above lora_rank, but lora_rank and lora_alpha are used. {_SAME}"
)
"""The program uses rank and alpha of the file."""

OWN_ALPHA = (
    "the alpha of the file is not used there. Here, the start is the product that the "
    "file defines, which is the same if alpha / rank of the file is that of this "
    "configuration"
)
"""The program uses rank and alpha of the configuration."""


def start_file(value: Any, alpha: str, found: FoundOptimizer) -> Result:
    """Return the result of a file from which the training starts.

    Args:
        value: path of the file.
        alpha: the alpha that the program uses, one of the constants.
        found: optimizer of the configuration.
    """
    sets = {"lora_model_name": [str(value)]}
    # The scale is not a factor of the gradient if the step is one of the product.
    if found.owns_scale and alpha != OWN_ALPHA:
        return turned("a list of files", sets)
    return turned(alpha, sets)
