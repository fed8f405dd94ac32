"""Rebuild the demo models and the demo images from pinned packages.

    python scripts/make_demo.py all

runs the stages in order; each can be run alone. `fetch` and `pictures` download and
draw the data; `vae`, `fold`, `text`, `unet`, `pack` and `sheet` make the SDXL base;
`flux-vae`, `flux-text`, `flux-transformer`, `flux-pack` and `flux-sheet` make the FLUX
base, which takes its autoencoder and its CLIP from the SDXL folder. `vae`, `unet` and
`flux-transformer` resume from their last checkpoint. The last two can take several
processes, which then wait for each other less than threads do:

    torchrun --nproc-per-node 2 scripts/make_demo.py unet --threads 1

Besides the package's `train` extra it needs `resvg-py`, `npm` for `fetch`, and a C++
compiler for `flux-transformer` (or `--no-compile`).
Licenses: see ATTRIBUTION.md in the demo folder.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from demo_parts import image_set, packages
from demo_parts.concepts import load_concepts

if TYPE_CHECKING:
    from demo_parts.stages import Places

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "modules" / "stiefel_lora" / "demo"
SEED = 0


def main() -> int:
    """Run the stage named on the command line; returns the exit code."""
    arguments = _parser().parse_args()
    stages = STAGES if arguments.stage == "all" else (arguments.stage,)
    try:
        for stage in stages:
            _run(stage, arguments)
    except ValueError as error:
        print(f"make_demo.py: {error}", file=sys.stderr)
        return 2
    return 0


SDXL_STAGES = ("vae", "fold", "text", "unet", "pack", "sheet")
FLUX_STAGES = ("flux-vae", "flux-text", "flux-transformer", "flux-pack", "flux-sheet")
STAGES = ("fetch", "pictures", *SDXL_STAGES, *FLUX_STAGES)


def _run(stage: str, arguments: argparse.Namespace) -> None:
    if stage == "fetch":
        return packages.fetch(arguments.packages)
    if stage == "pictures":
        target = DEMO / "pictures"
        return image_set.write_images(arguments.packages, target, SEED)
    return _run_model_stage(stage, arguments)


def _run_model_stage(stage: str, arguments: argparse.Namespace) -> None:
    """Stages that need torch; it is imported here to keep --help quick."""
    import torch

    from demo_parts import stages
    from demo_parts.recipe import Recipe

    torch.set_num_threads(arguments.threads)
    places = stages.Places(
        packages=arguments.packages,
        work=arguments.work,
        model=DEMO / "sdxl",
        images=DEMO / "pictures",
        sheet=ROOT / "docs" / "images" / "demo_base.png",
    )
    if stage == "vae":
        stages.make_vae(places, steps=arguments.vae_steps, batch=8, lr=2e-3, seed=SEED)
    elif stage == "fold":
        stages.make_fold(places, SEED)
    elif stage == "text":
        recipe = Recipe(arguments.text_steps, batch=128, lr=1e-3, seed=SEED)
        base = Recipe(arguments.text_base_steps, batch=128, lr=1e-3, seed=SEED)
        stages.make_text(places, recipe, base)
    elif stage == "unet":
        recipe = Recipe(arguments.unet_steps, arguments.batch, arguments.lr, SEED)
        stages.make_unet(places, recipe)
    elif stage == "pack":
        stages.make_pack(places, SEED)
    elif stage.startswith("flux-"):
        _run_flux_stage(stage.removeprefix("flux-"), arguments, places)
    else:
        _write_sheet("StableDiffusionXLPipeline", places)


def _run_flux_stage(stage: str, arguments: argparse.Namespace, sdxl: Places) -> None:
    """Stages of the FLUX base, which starts from parts of the SDXL one."""
    from dataclasses import replace

    from demo_parts.flux import stages
    from demo_parts.recipe import Recipe

    sheet = sdxl.sheet.with_name("demo_base_flux.png")
    places = replace(sdxl, model=DEMO / "flux", sheet=sheet)
    if stage == "vae":
        stages.make_vae(places, SEED)
    elif stage == "text":
        recipe = Recipe(arguments.t5_steps, batch=128, lr=4e-3, seed=SEED)
        base = Recipe(arguments.t5_base_steps, batch=128, lr=4e-3, seed=SEED)
        stages.make_text(places, recipe, base)
    elif stage == "transformer":
        steps, batch, lr = arguments.flux_steps, arguments.batch, arguments.lr
        recipe = Recipe(steps, batch, lr, SEED)
        stages.make_transformer(places, recipe, compiled=arguments.compile)
    elif stage == "pack":
        stages.make_pack(places, SEED)
    else:
        # Padding to the pipeline's 512 tokens would take eight times as long.
        _write_sheet("FluxPipeline", places, max_sequence_length=32)


def _write_sheet(pipeline: str, places: Places, **settings: int) -> None:
    from demo_parts.sheet import sheet_concepts, write_sheet

    chosen = sheet_concepts(load_concepts(places.packages), SEED)
    write_sheet(pipeline, places.model, chosen, places.sheet, **settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=(*STAGES, "all"))
    work = ROOT / "build" / "demo"
    add = parser.add_argument
    add("--work", type=Path, default=work, help="folder for caches and checkpoints")
    add("--packages", type=Path, default=work / "packages", help="package folder")
    add("--threads", type=int, default=os.cpu_count() or 1, help="threads of torch")
    add("--vae-steps", type=int, default=4000, help="steps of the autoencoder")
    add("--text-steps", type=int, default=2000, help="steps of the text encoders")
    add("--text-base-steps", type=int, default=500, help="and on the base's captions")
    add("--unet-steps", type=int, default=5000, help="steps of the UNet")
    add("--t5-steps", type=int, default=300, help="steps of FLUX's T5 encoder")
    add("--t5-base-steps", type=int, default=1000, help="and on the base's captions")
    add("--flux-steps", type=int, default=4000, help="steps of the transformer")
    add(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compile the transformer",
    )
    add("--batch", type=int, default=32, help="images a step of UNet, transformer")
    add("--lr", type=float, default=2e-3, help="learning rate of these")
    return parser


if __name__ == "__main__":
    sys.exit(main())
