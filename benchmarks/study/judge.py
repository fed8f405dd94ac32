"""A judge of samples: two small networks that name the concept and the style.

    python benchmarks/study judge          # trains it, and prints its accuracy

The concept network never sees a Fluent 3D drawing in training: it learns 1,324 concepts
from five other sets of drawings, and is tested on the Fluent 3D drawings of the 160
validation concepts. The style network learns to tell Fluent 3D from the other sets on
concepts outside the validation set, and is tested on the validation concepts. Both are
tested on the original drawings and on drawings that a VAE has encoded and decoded,
since samples are decoded by it as well. Half of the training images are decoded, too,
by the VAE of one of the two demo models.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from demo_runs import ROOT
from PIL import Image
from tasks import PACKAGES, all_concepts, validation_drawings
from torch import Tensor, nn

from demo_parts import packages
from demo_parts.concepts import Concept
from demo_parts.rasters import SIDE, load_image, render_icon

__all__ = [
    "BAR",
    "STYLED",
    "WEIGHTS",
    "Judge",
    "accuracy",
    "least_accuracy",
    "load_judge",
    "train_judge",
]

WEIGHTS = Path(__file__).with_name("judge.safetensors")
BAR = 0.9
"""Lowest accuracy on real images with which samples are judged."""

DEMO = ROOT / "modules" / "stiefel_lora" / "demo"
# Sets of icons by other artists. Their icons are found by code point or Noto's name.
FLAT = packages.Package(
    "@iconify-json/fluent-emoji-flat",
    "1.2.6",
    "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
)
NOTO_V1 = packages.Package(
    "@iconify-json/noto-v1",
    "1.2.5",
    "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
)
EMOJIONE = packages.Package(
    "@iconify-json/emojione",
    "1.2.3",
    "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
)
ICONS = {"flat": FLAT, "noto_v1": NOTO_V1, "emojione": EMOJIONE}
TARGET = "fluent"
OTHERS = ("noto", "twemoji", *ICONS)
BASE_STYLES = ("noto", "twemoji")
"""Those that the demo models were pretrained on, which draw every concept."""

STYLED = 0.5
STEPS = {"concept": 2500, "style": 2000}
BATCH, RATE, SEED = 64, 2e-3, 0


class Judge(nn.Module):
    """Both networks.

    Args:
        concepts: number of concepts that the first network distinguishes.
    """

    def __init__(self, concepts: int) -> None:
        super().__init__()
        self.concept = _network((32, 64, 96, 160), concepts)
        self.style = _network((24, 32, 48, 64), 1)

    @torch.no_grad()
    def scores(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Probability of each concept, and of the style Fluent 3D.

        Args:
            images: (n, 3, 64, 64), 0 to 1.

        Returns:
            (n, concepts) and (n,).
        """
        self.eval()
        concepts = self.concept(images * 2 - 1).softmax(1)
        return concepts, self.style(images * 2 - 1)[:, 0].sigmoid()


def _network(widths: Sequence[int], outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    before = 3
    for width in widths:
        for stride in (2, 1):
            layers += [
                nn.Conv2d(before, width, 3, stride, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            before = width
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2))
    return nn.Sequential(*layers, *head, nn.Linear(before, outputs))


def train_judge() -> None:
    """Train both networks, print their accuracy on real images, and write WEIGHTS."""
    from safetensors.torch import save_file

    torch.manual_seed(SEED)
    concepts = all_concepts()
    judge = Judge(len(concepts))
    _fit(judge.concept, _labeled_concepts(), "concept", F.cross_entropy)
    validation = _validation_places()
    _fit(
        judge.style,
        _labeled_styles(),
        "style",
        lambda logits, labels: F.binary_cross_entropy_with_logits(
            logits[:, 0], labels.float()
        ),
    )
    # Samples are only of the validation concepts, in the order of their drawings.
    final = judge.concept[-1]
    final.weight.data = final.weight.data[validation]
    final.bias.data = final.bias.data[validation]
    state = {key: value.half() for key, value in judge.state_dict().items()}
    save_file(state, WEIGHTS)
    print(json.dumps(accuracy(load_judge()), indent=1))


def load_judge() -> Judge:
    """The judge as committed."""
    from safetensors.torch import load_file

    state = {key: value.float() for key, value in load_file(WEIGHTS).items()}
    judge = Judge(len(state["concept.27.bias"]))
    judge.load_state_dict(state)
    return judge.eval()


def accuracy(judge: Judge) -> dict[str, float]:
    """Accuracy on drawings of the validation concepts, none of them trained on.

    That of the style is the mean of the accuracies on Fluent 3D and on other sets.
    """
    found = {}
    places = _validation_places()
    for view, seen in {"original": _same, **_decoders()}.items():
        target, _ = _drawings(TARGET)
        scored, styled = judge.scores(seen(target[places]))
        right = scored.argmax(1) == torch.arange(len(places))
        found[f"concept, {view}"] = right.float().mean().item()
        parts = {TARGET: (styled > STYLED).float().mean().item()}
        for style in BASE_STYLES:
            _, styled = judge.scores(seen(_drawings(style)[0][places]))
            parts[style] = (styled <= STYLED).float().mean().item()
        others = sum(parts[style] for style in BASE_STYLES) / len(BASE_STYLES)
        found[f"style, {view}"] = (parts[TARGET] + others) / 2
        found |= {f"style, {view}, {style}": share for style, share in parts.items()}
    return {key: round(value, 3) for key, value in found.items()}


def least_accuracy(judge: Judge) -> float:
    """The lowest of the accuracies of concept and style in all views."""
    return min(v for key, v in accuracy(judge).items() if key.count(",") == 1)


def _same(images: Tensor) -> Tensor:
    return images


@functools.cache
def _drawings(style: str) -> tuple[Tensor, Tensor]:
    """Images (concepts, 3, 64, 64), and whether the style draws the concept."""
    concepts = all_concepts()
    cache = ROOT / "build" / "judge" / f"{style}.npy"
    if not cache.exists():
        packages.fetch(PACKAGES, ICONS.values())
        icons = _Icons(ICONS[style]) if style in ICONS else None
        images = [_drawing(concept, style, icons) for concept in concepts]
        blank = Image.new("RGB", (SIDE, SIDE))
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.save(cache, np.stack([np.asarray(image or blank) for image in images]))
    pixels = torch.from_numpy(np.load(cache))
    known = pixels.flatten(1).amax(1) > 0
    return pixels.permute(0, 3, 1, 2).float() / 255, known


def _drawing(concept: Concept, style: str, icons: _Icons | None) -> Image.Image | None:
    if icons:
        return icons.draw(concept)
    key = concept.image(style)
    return None if key is None else load_image(PACKAGES, style, key)


class _Icons:
    """One of the sets in ICONS."""

    def __init__(self, package: packages.Package) -> None:
        content = packages.content(PACKAGES, package)
        table = json.loads((content / "icons.json").read_text("utf-8"))
        self._bodies = {name: icon["body"] for name, icon in table["icons"].items()}
        self._side = table.get("height", 16)
        codes = json.loads((content / "chars.json").read_text("utf-8"))
        self._names = {code.replace("-fe0f", ""): name for code, name in codes.items()}

    def draw(self, concept: Concept) -> Image.Image | None:
        """Image of a concept, or None if the set lacks it."""
        code = "-".join(f"{point:x}" for point in concept.points)
        name = self._names.get(code) or concept.image("noto")
        body = self._bodies.get(name or "")
        return None if body is None else render_icon(body, self._side)


def _validation_places() -> list[int]:
    """Place of the concept of each validation drawing."""
    places = {concept.stem: place for place, concept in enumerate(all_concepts())}
    return [places[path.stem] for path in validation_drawings()]


Data = tuple[Tensor, Tensor]
"""Images and labels."""


def _labeled_concepts() -> Data:
    images, labels = [], []
    for style in OTHERS:
        for pixels, known in (_drawings(style), _decoded_drawings(style)):
            images.append(pixels[known])
            labels.append(torch.nonzero(known)[:, 0])
    return torch.cat(images), torch.cat(labels)


def _labeled_styles() -> Data:
    images, labels, unseen = [], [], set(_validation_places())
    for style in (*OTHERS, TARGET):
        for pixels, known in (_drawings(style), _decoded_drawings(style)):
            kept = [i for i in range(len(pixels)) if known[i] and i not in unseen]
            # As many images of Fluent 3D as of all other sets together.
            kept *= len(OTHERS) if style == TARGET else 1
            images.append(pixels[kept])
            labels.append(torch.full((len(kept),), int(style == TARGET)))
    return torch.cat(images), torch.cat(labels)


@functools.cache
def _decoded_drawings(style: str) -> Data:
    """`_drawings` after a VAE: that of SDXL for every second concept, or FLUX's."""
    pixels, known = _drawings(style)
    cache = ROOT / "build" / "judge" / f"{style}_decoded.npy"
    if not cache.exists():
        views = list(_decoders().values())
        found = torch.zeros_like(pixels)
        for first, view in enumerate(views):
            for part in range(first, len(pixels), 2 * BATCH):
                places = slice(part, part + 2 * BATCH, len(views))
                found[places] = view(pixels[places])
        np.save(cache, (found * 255).round().byte().numpy())
    return torch.from_numpy(np.load(cache)).float() / 255, known


def _fit(
    network: nn.Sequential, data: Data, name: str, loss_of: Callable[..., Tensor]
) -> None:
    # So that each network can be trained alone with the same result.
    torch.manual_seed(SEED)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.05)
    steps = STEPS[name]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    network.train()
    for step, (images, labels) in enumerate(_batches(data, steps)):
        logits = network(images * 2 - 1)
        loss = loss_of(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"{name}: step {step} of {steps}, loss {loss.item():.3f}", flush=True)


def _batches(data: Data, steps: int) -> Iterator[Data]:
    """Augmented batches of original and of decoded images."""
    images, labels = data
    rng = random.Random(SEED)
    order: list[int] = []
    for _ in range(steps):
        if len(order) < BATCH:
            order = list(range(len(images)))
            rng.shuffle(order)
        batch, order = order[:BATCH], order[BATCH:]
        yield _augmented(images[batch]), labels[batch]


def _augmented(images: Tensor) -> Tensor:
    """Mirrored, scaled, moved, slightly recolored and blurred."""
    count = len(images)
    theta = torch.zeros(count, 2, 3)
    scale = torch.empty(count).uniform_(0.85, 1.2)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    theta[:, 0, 0], theta[:, 1, 1] = scale * mirror, scale
    theta[:, :, 2] = torch.empty(count, 2).uniform_(-0.12, 0.12)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    # The background is white: sample the distance from it, since padding is zero.
    moved = 1 - F.grid_sample(1 - images, grid, align_corners=False)
    gain = torch.empty(count, 3, 1, 1).uniform_(0.85, 1.15)
    moved = 1 - (1 - moved) * gain
    blurred = F.avg_pool2d(F.pad(moved, (1, 1, 1, 1), mode="replicate"), 3, 1)
    share = torch.rand(count, 1, 1, 1) * (torch.rand(count, 1, 1, 1) < 0.5)
    return (moved + share * (blurred - moved)).clamp(0, 1)


@functools.cache
def _decoders() -> dict[str, Callable[[Tensor], Tensor]]:
    """Functions that encode and decode images with the VAE of each demo model."""
    from diffusers import AutoencoderKL

    found = {}
    for base in ("sdxl", "flux"):
        vae = AutoencoderKL.from_pretrained(DEMO / base / "vae").eval()
        found[f"decoded by the VAE of {base}"] = functools.partial(_decoded, vae)
    return found


@torch.no_grad()
def _decoded(vae: Any, images: Tensor) -> Tensor:
    latents = vae.encode(images * 2 - 1).latent_dist.mean
    decoded = vae.decode(latents).sample
    return ((decoded + 1) / 2).clamp(0, 1)
