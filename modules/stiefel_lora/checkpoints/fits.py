"""Checks that the components of a model match, according to their settings.

Components can be valid, but belong to different models, such as a VAE of FLUX.1 and a
U-Net of SDXL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .._exceptions import ModelError
from .tokens import tokens_of

__all__ = ["Fit", "check_fits", "check_tokenizer", "latents_fit", "width_of"]

Settings = Mapping[str, Any]
_FEW = 16
Fit = tuple[str, str, str, Callable[[Mapping[str, Settings]], tuple[Any, Any]]]
"""Constraint: names of two components, and functions that return the size in common."""


def latents_fit(denoiser: str, patch: int = 1) -> Fit:
    """Create the constraint that the denoiser has the latent channels of the VAE.

    Args:
        denoiser: name of the denoiser.
        patch: height and width of a token in latents.
    """

    def sizes(parts: Mapping[str, Settings]) -> tuple[Any, Any]:
        own, latents = (
            parts[denoiser].get("in_channels"),
            parts["vae"].get("latent_channels"),
        )
        return own, latents * patch**2 if isinstance(latents, int) else None

    return denoiser, "vae", "channels of latents", sizes


def width_of(denoiser: str, key: str, encoder: str, *keys: tuple[str, str]) -> Fit:
    """Create the constraint that a denoiser setting is the sum of encoder widths.

    Args:
        denoiser: name of the denoiser.
        key: name of the setting.
        encoder: name of the text encoder for error messages.
        keys: names of the component and setting of each width.
    """

    def sizes(parts: Mapping[str, Settings]) -> tuple[Any, Any]:
        widths = [parts[part].get(setting) for part, setting in keys]
        known = [width for width in widths if isinstance(width, int)]
        whole = sum(known) if len(known) == len(widths) else None
        return parts[denoiser].get(key), whole

    return denoiser, encoder, "numbers a token", sizes


def check_fits(fits: Iterable[Fit], parts: Mapping[str, Settings]) -> None:
    """Check all constraints whose settings are known.

    Raises:
        ModelError: If a component belongs to another model.
    """
    for denoiser, other, what, sizes in fits:
        own, theirs = sizes(parts)
        if isinstance(own, int) and isinstance(theirs, int) and own != theirs:
            raise ModelError(
                f"{other}_model_name: the {other} does not match the {denoiser}. "
                f"The {denoiser} expects {own} {what}, but the {other} has "
                f"{theirs}. Use the {other} of this model."
            )


def check_tokenizer(part: str, tokenizer: Any, encoder: Settings) -> None:
    """Check that the tokens of a tokenizer are supported by its text encoder.

    Args:
        part: name of the tokenizer.
        tokenizer: tokenizer of transformers.
        encoder: settings of the text encoder.

    Raises:
        ModelError: If the tokenizer returns no tokens, too many, or unknown tokens.
    """
    # T5 has no positions and takes any length, which its family chooses.
    places = encoder.get("max_position_embeddings")
    length = tokenizer.model_max_length if isinstance(places, int) else _FEW
    if not isinstance(length, int):
        raise ModelError(
            f"The {part} has model_max_length={str(length)[:40]!a}, which is not an "
            "integer. Download tokenizer_config.json again."
        )
    if isinstance(places, int) and not 0 < length <= places:
        raise ModelError(
            f"The {part} has model_max_length={length:.3g}, but its text encoder "
            f"supports {places} tokens. Download tokenizer_config.json again."
        )
    try:
        most = int(tokens_of(tokenizer, ["a"], length).max())
    except Exception as error:
        # Tokenizers use their settings unchecked, in Python and in Rust.
        raise ModelError(
            f"The {part} failed to tokenize a caption ({type(error).__name__}: "
            f"{str(error)[:100]!r}). Download it again."
        ) from error
    known = encoder.get("vocab_size")
    if isinstance(known, int) and most >= known:
        raise ModelError(
            f"The {part} returns the token {most}, but its text encoder has a "
            f"vocabulary of {known}. Use the {part} of this model."
        )
