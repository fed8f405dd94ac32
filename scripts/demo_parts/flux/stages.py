"""The stages of `make_demo.py` for FLUX; they start from the SDXL demo's folder."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from transformers import CLIPTextModel, CLIPTokenizer, T5Tokenizer

from demo_parts.captions import base_captions, token_table, tokenizer_corpus
from demo_parts.concepts import Concept, load_concepts
from demo_parts.flux.base_model import FluxBase, Tokenizers, pack
from demo_parts.flux.pack import assemble, write_pipeline
from demo_parts.flux.text import SHORT, train_t5
from demo_parts.flux.tokenizer import write_t5_tokenizer
from demo_parts.flux.training import encode, make_loss, start_run
from demo_parts.flux.vae import without_quant_convs
from demo_parts.image_set import base_concepts
from demo_parts.loop import train
from demo_parts.recipe import Recipe
from demo_parts.sheet import draw, lay_out, preview_prompts
from demo_parts.stages import Places, base_pixels
from demo_parts.text import coordinates
from demo_parts.vae import encode_means

PREVIEW_STEPS, PREVIEW_GUIDANCE = 20, 2.0


def make_vae(places: Places, seed: int) -> None:
    """Bring SDXL's autoencoder into FLUX's form and encode the images."""
    known = base_concepts(load_concepts(places.packages), seed)
    pixels = base_pixels(places, known)
    first = AutoencoderKL.from_pretrained(_sdxl(places) / "vae").float().eval()
    vae = without_quant_convs(first, pixels)
    vae.save_pretrained(_work(places) / "vae")
    shift, factor = vae.config["shift_factor"], vae.config["scaling_factor"]
    latents = (encode_means(vae, pixels) - shift) * factor
    torch.save(latents, _work(places) / "latents.pt")
    deviations = latents.std(dim=(0, 2, 3)).tolist()
    print(f"latents: shift {shift}, factor {factor}, std by channel {deviations}")


def make_text(places: Places, recipe: Recipe, base_recipe: Recipe) -> None:
    """Train T5, first on all single concepts, then on those of the base model."""
    concepts = load_concepts(places.packages)
    write_t5_tokenizer(tokenizer_corpus(concepts), _work(places) / "tokenizer_2")
    model = _untrained(places, recipe.seed)
    single = [concept for concept in concepts if concept.is_single]
    known = base_concepts(concepts, recipe.seed)
    for part, settings in ((single, recipe), (known, base_recipe)):
        ids = _tokens(_tokenizers(places).second, base_captions(part))
        targets = coordinates(base_pixels(places, part))
        share = train_t5(model.text_encoder_2, ids, targets, settings)
        print(f"text: {share:.1%} of {len(targets)} images' variance explained")
    torch.save(model.text_encoder_2.state_dict(), _work(places) / "t5.pt")


def make_transformer(places: Places, recipe: Recipe, *, compiled: bool) -> None:
    """Train or resume; previews are drawn at each checkpoint."""
    concepts = load_concepts(places.packages)
    pairs = base_captions(base_concepts(concepts, recipe.seed))
    tokenizers = _tokenizers(places)
    model = _with_text(places, recipe.seed).eval()
    first = token_table(tokenizers.first, pairs)
    latents = pack(torch.load(_needed(places, "latents.pt", "vae"), weights_only=True))
    data = encode(model, latents, first, _tokens(tokenizers.second, pairs))
    run = start_run(model.transformer, recipe.lr)
    prompts = preview_prompts(concepts, recipe.seed)

    def publish(done: int) -> None:
        shown = _finished(places, recipe.seed, run.result)
        images = draw(
            assemble(*shown),
            prompts,
            PREVIEW_STEPS,
            PREVIEW_GUIDANCE,
            max_sequence_length=SHORT,
        )
        captioned = list(zip(prompts, images, strict=True))
        page = lay_out([captioned[:12], captioned[12:]])
        page.save(_work(places) / f"preview_{done:06d}.png")

    loss_of = make_loss(model, data, recipe, compiled=compiled)
    checkpoint = _work(places) / "transformer.pt"
    loss = train(run, loss_of, recipe, checkpoint, publish)
    if loss is not None:
        print(f"transformer done: {recipe.steps} steps, last 100: loss {loss:.4f}")


def make_pack(places: Places, seed: int) -> None:
    """Write the final pipeline folder from the last checkpoint's mean weights."""
    checkpoint = _needed(places, "transformer.pt", "transformer")
    weights = torch.load(checkpoint, weights_only=True)["result"]
    size = write_pipeline(*_finished(places, seed, weights), places.model)
    print(f"pipeline: {places.model}, {size} bytes")


def _finished(
    places: Places, seed: int, weights: dict[str, torch.Tensor]
) -> tuple[FluxBase, AutoencoderKL, Tokenizers]:
    model = _with_text(places, seed).eval()
    model.transformer.load_state_dict(weights)
    vae = AutoencoderKL.from_pretrained(_work(places) / "vae").eval()
    return model, vae, _tokenizers(places)


def _with_text(places: Places, seed: int) -> FluxBase:
    model = _untrained(places, seed)
    state = torch.load(_needed(places, "t5.pt", "text"), weights_only=True)
    model.text_encoder_2.load_state_dict(state)
    return model


def _untrained(places: Places, seed: int) -> FluxBase:
    """The second CLIP encoder of the SDXL demo, which learnt to pool, and new parts."""
    clip = CLIPTextModel.from_pretrained(_sdxl(places) / "text_encoder_2").float()
    return FluxBase(clip, _tokenizers(places), seed)


def _tokenizers(places: Places) -> Tokenizers:
    return Tokenizers(
        CLIPTokenizer.from_pretrained(_sdxl(places) / "tokenizer"),
        T5Tokenizer.from_pretrained(_work(places) / "tokenizer_2"),
    )


def _tokens(tokenizer: T5Tokenizer, pairs: list[tuple[str, Concept]]) -> torch.Tensor:
    return token_table(tokenizer, pairs, SHORT)


def _needed(places: Places, name: str, stage: str) -> Path:
    path = _work(places) / name
    if not path.is_file():
        raise ValueError(f"{path} is missing. Run `make_demo.py flux-{stage}` first.")
    return path


def _work(places: Places) -> Path:
    folder = places.work / "flux"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _sdxl(places: Places) -> Path:
    return places.model.with_name("sdxl")
