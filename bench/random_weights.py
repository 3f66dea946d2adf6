"""A known geometry with random weights, for machines that no published weights can reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForCausalLM, set_seed

from tuneproof.plan.geometry import build_config
from tuneproof.plan.known_models import known_model
from tuneproof.train.model import ATTENTION

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LLAMA_2_7B = "meta-llama/Llama-2-7b-hf"


def random_model(model_id: str, *, seed: int = 42) -> PreTrainedModel:
    """In bfloat16, on the GPU where there is one."""
    known = known_model(model_id)
    if known is None:
        raise SystemExit(f"{model_id}: no geometry that is known here; try {LLAMA_2_7B}")
    set_seed(seed)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            build_config(known), attn_implementation=ATTENTION, dtype=torch.bfloat16
        )
    return model
