"""Encoding of image files and captions to tensors, with a cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._exceptions import DataError, ModelError
from ..config.alpha_background import WHITE
from .augmentation import Augmentation
from .color_profiles import conversion_of_file
from .decoding import read_image
from .folder import CaptionedImage
from .hashes import ContentHashes
from .masks import read_mask
from .tensor_store import TensorStore, cache_key

if TYPE_CHECKING:
    from ..checkpoints.tokens import Caption
    from ..families.protocol import Family

__all__ = ["Encoder", "encode_caption"]

# Entries kept in memory after their first use; others are read again from disk.
_MEMORY_BYTES = 1 << 30

_PLAIN = [1.0, 1.0, 1.0, 0.0]


class Encoder:
    """Encode images and captions, and cache the results.

    Items are encoded one by one, so that cached tensors do not depend on other items.

    Args:
        family: model family with the encoders, which are only loaded if cached tensors
            are missing.
        store: cache of encoded tensors.
        cached: whether images are cached. Captions are always cached.
    """

    def __init__(self, family: Family, store: TensorStore, cached: bool = True) -> None:
        self._family = family
        self._store = store
        self._hashes = ContentHashes(store.folder)
        self.cached = cached
        self._profiles: dict[str, str] = {}
        self._prepared: set[Caption] = set()
        self._memory: dict[str, dict[str, Tensor]] = {}
        self._used = 0

    def prepare_image(self, image: CaptionedImage, augmentation: Augmentation) -> None:
        """Encode an image if it is not in the cache.

        Raises:
            UnreadableImage: If the file cannot be decoded.
        """
        key = self._image_key(image.path, augmentation)
        if not self._store.holds(key):
            self._store.write(key, self._encode(image.path, augmentation))

    def prepare_caption(self, caption: Caption) -> None:
        """Encode a caption if it is not in the cache."""
        # The lines of a prompt file are captions of every image of a folder.
        if caption not in self._prepared:
            encode_caption(caption, self._family, self._store)
            self._prepared.add(caption)

    def image(
        self, image: CaptionedImage, augmentation: Augmentation
    ) -> dict[str, Tensor]:
        """Return an encoded image: ``latents`` ``(channels, h, w)``, other inputs."""
        if self.cached:
            return self._load(self._image_key(image.path, augmentation))
        # Loading a VAE may draw random numbers, only once in each process: without the
        # fork, a run with a full cache would draw others than one that fills it.
        with torch.random.fork_rng(devices=()):
            return self._encode(image.path, augmentation)

    def caption(self, caption: Caption) -> dict[str, Tensor]:
        """Return an encoded caption."""
        return self._load(_caption_key(caption, self._family))

    def mask(
        self,
        image: CaptionedImage,
        augmentation: Augmentation,
        latents: Tensor,
        alpha: bool,
    ) -> Tensor:
        """Return the mask of an image, ``(1, h, w)``. It is 1 if there is no mask.

        Raises:
            UnreadableImage: If the mask cannot be used.
        """
        height, width = latents.shape[-2:]
        if image.mask is None and not alpha:
            return torch.ones(1, height, width)
        path = image.mask or image.path
        key = cache_key(
            # Entries with "mask" alone are older and have clipped 16-bit masks.
            kind="mask, scaled" if image.mask else "alpha",
            content=self._hashes.of(path),
            look=augmentation.place,
            size=[height, width],
        )
        found = self._memory.get(key) or self._store.read(key)
        if found is None:
            found = {
                "mask": read_mask(
                    path, augmentation, (height, width), alpha=not image.mask
                )
            }
            self._store.write(key, found)
        return self._remember(key, found)["mask"]

    def _image_key(self, path: Path, augmentation: Augmentation) -> str:
        plain = augmentation.colors == _PLAIN
        background = augmentation.background
        content = self._hashes.of(path)
        if content not in self._profiles:
            self._profiles[content] = conversion_of_file(path).key
        profile = self._profiles[content]
        return cache_key(
            kind="picture",
            model=self._family.image_fingerprint,
            content=content,
            # Argument names are part of the key: renaming one invalidates the cache.
            look=augmentation.place,
            **({} if plain else {"colours": augmentation.colors}),
            # Images that are not converted keep the key from before profiles existed.
            **({"profile": profile} if profile else {}),
            **({} if background == WHITE else {"background": background}),
        )

    def _encode(self, path: Path, augmentation: Augmentation) -> dict[str, Tensor]:
        found = self._family.encode_image(
            read_image(path, augmentation), augmentation.frame
        )
        _check_finite(found, "VAE", f"the image {path}")
        return found

    def _load(self, key: str) -> dict[str, Tensor]:
        if key in self._memory:
            return self._memory[key]
        tensors = self._store.read(key)
        if tensors is None:
            self._store.discard(key)
            raise DataError(
                f"The cache file {self._store.path(key)} was deleted or damaged "
                "during training. Resume with --resume to create it again."
            )
        return self._remember(key, tensors)

    def _remember(self, key: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        size = sum(value.numel() * value.element_size() for value in tensors.values())
        # Nothing is evicted: all images are used about equally often, so that replacing
        # entries would not raise the number of hits.
        if key not in self._memory and self._used + size <= _MEMORY_BYTES:
            self._memory[key] = tensors
            self._used += size
        return tensors


def _check_finite(found: dict[str, Tensor], part: str, what: str) -> None:
    """Check that encoded tensors are finite before they are cached.

    Raises:
        ModelError: If a value is NaN or infinite.
    """
    if all(bool(tensor.isfinite().all()) for tensor in found.values()):
        return
    raise ModelError(
        f"The {part} of the base model returns NaN or infinity for {what}. Its "
        "weights are damaged, or they overflow in this dtype. Download or convert "
        f"the base model again, or use another {part}."
    )


def encode_caption(caption: Caption, family: Family, store: TensorStore) -> str:
    """Encode a caption or prompt if it is not in the cache, and return its key."""
    key = _caption_key(caption, family)
    if not store.holds(key):
        found = family.encode_caption(caption)
        _check_finite(found, "text encoder", f"the caption {str(caption)!r:.100}")
        store.write(key, found)
    return key


def _caption_key(caption: Caption, family: Family) -> str:
    if isinstance(caption, str):
        return cache_key(kind="text", model=family.text_fingerprint, caption=caption)
    return cache_key(
        kind="weighted text",
        model=family.text_fingerprint,
        lengths=[len(text) for text, _ in caption.pieces],
        caption=str(caption),
        weights=[weight for _, weight in caption.pieces],
        # Weights of sample prompts keep the key from before those of captions existed.
        **({} if caption.keeps_mean else {"keeps_mean": False}),
    )
