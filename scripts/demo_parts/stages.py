"""The stages of `make_demo.py`: what each reads and writes under the work folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from transformers import CLIPTokenizer

from demo_parts import text as text_stage
from demo_parts import vae as vae_stage
from demo_parts.base_model import BaseModel, Tokenizers
from demo_parts.captions import (
    BASE_STYLES,
    base_captions,
    token_table,
    tokenizer_corpus,
)
from demo_parts.concepts import Concept, load_concepts
from demo_parts.image_set import base_concepts
from demo_parts.loop import train
from demo_parts.pack import assemble, write_pipeline
from demo_parts.rasters import load_all_rasters
from demo_parts.recipe import Recipe
from demo_parts.sheet import draw, lay_out, preview_prompts
from demo_parts.tokenizer import END, write_tokenizers
from demo_parts.training import encode_captions, loss_of_step, start_run
from demo_parts.vae_fold import fold

PREVIEW_STEPS = 20


@dataclass(frozen=True)
class Places:
    """Folders: the packages, the work folder (not in git), what is committed."""

    packages: Path
    work: Path
    model: Path
    images: Path
    sheet: Path


def make_vae(places: Places, *, steps: int, batch: int, lr: float, seed: int) -> None:
    """Train or resume the autoencoder on the images of all three styles."""
    rasters = _rasters(places)
    pixels = np.concatenate([array for _, array in rasters.values()])
    recipe = Recipe(steps, batch, lr, seed, every=100)
    vae_stage.train_vae(pixels, places.work / "vae_raw", recipe)


def make_fold(places: Places, seed: int) -> None:
    """Fold the autoencoder, save it, and encode the images of the base model."""
    raw = places.work / "vae_raw"
    if not (raw / "config.json").is_file():
        raise ValueError(f"{raw} holds no config.json. Run `make_demo.py vae` first.")
    vae = AutoencoderKL.from_pretrained(raw).eval()
    known = base_concepts(load_concepts(places.packages), seed)
    base = base_pixels(places, known)
    factor = fold(vae, base)
    vae.save_pretrained(places.work / "vae")
    means = vae_stage.encode_means(vae, base) * factor
    torch.save(means, places.work / "latents.pt")
    print(f"latents {tuple(means.shape)}, std {means.std():.3f}, factor {factor}")


def make_text(places: Places, recipe: Recipe, base_recipe: Recipe) -> None:
    """Train the text encoders in the base model's styles.

    First on all single concepts, so that words are learned from many images, then on
    those of the base model, until a code describes most of its image: the UNet learns
    anything else slowly.
    """
    concepts = load_concepts(places.packages)
    tokenizers = _tokenizers(places, write=True)
    model = BaseModel(tokenizers, recipe.seed).train()
    _teach(places, model, [c for c in concepts if c.is_single], tokenizers, recipe)
    teach_base(places, model, tokenizers, base_recipe)


def teach_base(
    places: Places, model: BaseModel, tokenizers: Tokenizers, recipe: Recipe
) -> None:
    """Second part of the text stage; writes the encoders."""
    known = base_concepts(load_concepts(places.packages), recipe.seed)
    _teach(places, model, known, tokenizers, recipe)
    encoders = (model.text_encoder, model.text_encoder_2)
    torch.save([part.state_dict() for part in encoders], places.work / "text.pt")


def _teach(
    places: Places,
    model: BaseModel,
    concepts: list[Concept],
    tokenizers: Tokenizers,
    recipe: Recipe,
) -> None:
    tokens = _tokens(tokenizers, base_captions(concepts))
    targets = text_stage.coordinates(base_pixels(places, concepts))
    share = text_stage.train_text(model, tokens, targets, recipe)
    print(f"text: {share:.1%} of {len(targets)} images' variance explained")


def make_unet(places: Places, recipe: Recipe) -> None:
    """Train or resume; a full pipeline folder is refreshed at each checkpoint."""
    concepts = load_concepts(places.packages)
    pairs = base_captions(base_concepts(concepts, recipe.seed))
    latents_file = places.work / "latents.pt"
    if not latents_file.is_file():
        raise ValueError(f"{latents_file} is missing. Run `make_demo.py fold` first.")
    latents = torch.load(latents_file, weights_only=True)
    tokenizers = _tokenizers(places, write=False)
    model = BaseModel(tokenizers, recipe.seed)
    _load_text(places, model)
    data = encode_captions(model.eval(), latents, _tokens(tokenizers, pairs))
    model.train()
    vae = AutoencoderKL.from_pretrained(places.work / "vae").eval()
    prompts = preview_prompts(concepts, recipe.seed)

    def publish(done: int) -> None:
        model.eval()
        write_pipeline(model, vae, tokenizers, places.work / "preview")
        images = draw(assemble(model, vae, tokenizers), prompts, PREVIEW_STEPS)
        captioned = list(zip(prompts, images, strict=True))
        page = lay_out([captioned[:12], captioned[12:]])
        page.save(places.work / f"preview_{done:06d}.png")
        model.train()

    run = start_run(model.unet, recipe.lr)
    loss_of = partial(loss_of_step, model, data, recipe)
    loss = train(run, loss_of, recipe, places.work / "unet.pt", publish)
    if loss is not None:
        print(f"unet done: {recipe.steps} steps, loss of the last 100: {loss:.4f}")


def make_pack(places: Places, seed: int) -> None:
    """Write the final pipeline folder from the last checkpoint of the UNet."""
    checkpoint = places.work / "unet.pt"
    if not checkpoint.is_file():
        raise ValueError(f"{checkpoint} is missing. Run `make_demo.py unet` first.")
    tokenizers = _tokenizers(places, write=False)
    model = BaseModel(tokenizers, seed).eval()
    _load_text(places, model)
    model.unet.load_state_dict(torch.load(checkpoint, weights_only=True)["result"])
    vae = AutoencoderKL.from_pretrained(places.work / "vae").eval()
    size = write_pipeline(model, vae, tokenizers, places.model)
    print(f"pipeline: {places.model}, {size} bytes")


def _rasters(places: Places) -> dict[str, tuple[list[Concept], np.ndarray]]:
    concepts = load_concepts(places.packages)
    return load_all_rasters(places.packages, places.work / "cache", concepts)


def base_pixels(places: Places, concepts: list[Concept]) -> np.ndarray:
    """The images that `base_captions` names for these concepts, in its order."""
    rasters = _rasters(places)
    known = set(concepts)
    parts = []
    for style in BASE_STYLES:
        drawn, pixels = rasters[style]
        parts.append(pixels[[concept in known for concept in drawn]])
    return np.concatenate(parts)


def _load_text(places: Places, model: BaseModel) -> None:
    path = places.work / "text.pt"
    if not path.is_file():
        raise ValueError(f"{path} is missing. Run `make_demo.py text` first.")
    states = torch.load(path, weights_only=True)
    model.text_encoder.load_state_dict(states[0])
    model.text_encoder_2.load_state_dict(states[1])


def _tokens(tokenizers: Tokenizers, pairs: list[tuple[str, Concept]]) -> torch.Tensor:
    both = (tokenizers.first, tokenizers.second)
    return torch.stack([token_table(tokenizer, pairs) for tokenizer in both])


def _tokenizers(places: Places, *, write: bool) -> Tokenizers:
    first, second = places.work / "tokenizer", places.work / "tokenizer_2"
    if write:
        corpus = tokenizer_corpus(load_concepts(places.packages))
        write_tokenizers(corpus, {first: END, second: "!"})
    load = CLIPTokenizer.from_pretrained
    return Tokenizers(load(first), load(second))
