from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stiefel_lora.data import cover_frame
from stiefel_lora.data.augmentation import Augmentation
from stiefel_lora.data.hashes import ContentHashes
from stiefel_lora.data.masks import read_mask
from stiefel_lora.data.tensor_store import TensorStore
from stiefel_lora.data.unreadable import UnreadableImage

LOOK = Augmentation(cover_frame((64, 32), (64, 32)))


def half_white(path: Path, width: int = 64, height: int = 32) -> Path:
    pixels = np.zeros((height, width), dtype=np.uint8)
    pixels[:, : width // 2] = 255
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("scale", [1, 2])
def test_mask_has_the_size_of_the_latents(tmp_path: Path, scale: int) -> None:
    path = half_white(tmp_path / "a-masklabel.png", 64 * scale, 32 * scale)
    mask = read_mask(path, LOOK, (4, 8), alpha=False)
    assert mask.shape == (1, 4, 8)
    assert mask.dtype == torch.float32
    assert mask[0].tolist() == [[1.0] * 4 + [0.0] * 4] * 4


@pytest.mark.parametrize(("value", "share"), [(65535, 1), (32896, 0.5), (255, 0)])
def test_16_bit_masks_are_scaled(tmp_path: Path, value: int, share: float) -> None:
    pixels = np.full((32, 64), value, dtype=np.uint16)
    for name in ("m.png", "m.tif"):
        Image.fromarray(pixels).save(tmp_path / name)
        mask = read_mask(tmp_path / name, LOOK, (4, 8), alpha=False)
        torch.testing.assert_close(
            mask, torch.full_like(mask, share), rtol=0, atol=1 / 255
        )


def test_mask_follows_mirror_and_crop(tmp_path: Path) -> None:
    path = half_white(tmp_path / "m.png")
    mirrored = Augmentation(LOOK.frame, mirrored=True)
    assert (
        read_mask(path, mirrored, (4, 8), False)[0, 0].tolist() == [0.0] * 4 + [1] * 4
    )
    left = Augmentation(cover_frame((64, 32), (32, 32), (0.0, 0.0)))
    assert read_mask(path, left, (4, 4), alpha=False).min() == 1


def test_a_latent_on_the_edge_counts_in_part(tmp_path: Path) -> None:
    mask = read_mask(half_white(tmp_path / "m.png"), LOOK, (1, 1), alpha=False)
    assert float(mask) == pytest.approx(0.5, abs=1 / 255)


def test_alpha_channel_is_a_mask(tmp_path: Path) -> None:
    image = Image.new("RGBA", (64, 32), (9, 9, 9, 0))
    image.paste((9, 9, 9, 255), (0, 0, 32, 32))
    image.save(tmp_path / "a.png")
    mask = read_mask(tmp_path / "a.png", LOOK, (4, 8), alpha=True)
    assert mask[0, 0].tolist() == [1.0] * 4 + [0.0] * 4
    image.convert("RGB").save(tmp_path / "b.png")
    assert read_mask(tmp_path / "b.png", LOOK, (4, 8), alpha=True).min() == 1


def test_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = half_white(tmp_path / "m.png", 32, 32)
    with pytest.raises(UnreadableImage, match="which is another aspect ratio"):
        read_mask(path, LOOK, (4, 8), alpha=False)
    path.write_bytes(b"no picture")
    with pytest.raises(UnreadableImage, match=r"its mask m\.png"):
        read_mask(path, LOOK, (4, 8), alpha=False)


def old(path: Path, content: bytes, seconds: int = 100) -> Path:
    path.write_bytes(content)
    os.utime(path, (1_000_000, 1_000_000 + seconds))
    return path


def test_files_are_hashed_once_until_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old(tmp_path / "a.png", b"one")
    first = ContentHashes(tmp_path / "cache").of(path)
    with monkeypatch.context() as patch:
        patch.setattr("stiefel_lora.data.hashes.sha256", lambda path: "read again")
        assert ContentHashes(tmp_path / "cache").of(path) == first
        old(path, b"two", seconds=200)
        assert ContentHashes(tmp_path / "cache").of(path) == "read again"
    old(path, b"one", seconds=300)
    assert ContentHashes(tmp_path / "cache").of(path) == first


def test_a_file_of_this_moment_is_not_remembered(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"one")
    ContentHashes(tmp_path / "cache").of(tmp_path / "a.png")
    assert not (tmp_path / "cache" / "hashes.jsonl").exists()


def test_damaged_lines_of_hashes_are_passed_over(tmp_path: Path) -> None:
    path = old(tmp_path / "a.png", b"one")
    first = ContentHashes(tmp_path).of(path)
    file = tmp_path / "hashes.jsonl"
    file.write_text("[1]\n7\n" + file.read_text() + '["cut o')
    assert ContentHashes(tmp_path).of(path) == first


def test_missing_image_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage):
        ContentHashes(tmp_path).of(tmp_path / "gone.png")


def test_entries_are_held_while_they_have_their_length(tmp_path: Path) -> None:
    store = TensorStore(tmp_path)
    assert not store.holds("ab12")
    store.write("ab12", {"x": torch.arange(5), "y": torch.zeros(2, 3)})
    assert store.holds("ab12")
    path = store.path("ab12")
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:4], b"", b"\xff" * 40, whole + b"x"):
        path.write_bytes(damaged)
        assert not store.holds("ab12")
    store.discard("ab12")
    store.discard("ab12")
    assert not path.exists()
