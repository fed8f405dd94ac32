"""Optimizers for plain LoRA pairs. Needs only torch.

==================================  ================================================
a method and its mathematics        ``stiefel``, ``stella``, ``lora_rite``, ... : one
                                    file each; ``stiefel_product`` is an option of
                                    ``stiefel``
r x r work shared by methods        ``_gram_frames``
contract of a method                ``rule``; from outside the package ``register``
order of a step                     ``pair_optimizer``, with its parts in ``engine``
detection of B and A                ``pairs``, on the groups from ``groups``
initialization of an adapter        ``init``, ``loi``; orthonormal B: ``gauge``
norms of the products               ``product_norms``
LoRA alpha                          ``alpha``
creation by name, common base       ``factory``, ``lora_optimizer``
other packages and trainers         ``foreign``, ``host_points``
==================================  ================================================
"""

from __future__ import annotations

from .adamw import AdamW
from .alpha import fold_alpha_
from .factory import create_optimizer
from .groups import ParamGroup
from .init import (
    init_lora_,
    init_riemannion_,
    init_stella_,
    init_stiefel_,
    orthonormalize_,
)
from .loi import Loi, init_loi_
from .lora_muon import LoRAMuon
from .lora_optimizer import LoraOptimizer
from .lora_plus import LoRAPlus
from .lora_rite import LoRARITE
from .lora_tsd import LoRATSD
from .pair_optimizer import PairOptimizer
from .pairs import Pair, PairMap, find_pairs
from .polora import PoLoRA
from .register import register
from .riemannion import Riemannion
from .rule import PairBatch, Rule
from .scaled_adamw import ScaledAdamW
from .stella import StelLA
from .stiefel import PAPER_OPTIONS, PULL_REQUEST_OPTIONS, StiefelLoRA
from .whitened_lora import WhitenedLoRA

__all__ = [
    "PAPER_OPTIONS",
    "PULL_REQUEST_OPTIONS",
    "AdamW",
    "LoRAMuon",
    "LoRAPlus",
    "LoRARITE",
    "LoRATSD",
    "Loi",
    "LoraOptimizer",
    "Pair",
    "PairBatch",
    "PairMap",
    "PairOptimizer",
    "ParamGroup",
    "PoLoRA",
    "Riemannion",
    "Rule",
    "ScaledAdamW",
    "StelLA",
    "StiefelLoRA",
    "WhitenedLoRA",
    "create_optimizer",
    "find_pairs",
    "fold_alpha_",
    "init_loi_",
    "init_lora_",
    "init_riemannion_",
    "init_stella_",
    "init_stiefel_",
    "orthonormalize_",
    "register",
]
