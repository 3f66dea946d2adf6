"""What each of two processes runs for ``test_sharded_weights``: FSDP2 over gloo, by hand.

accelerate shards on accelerators only, so the Trainer's way to FSDP cannot be taken on a CPU. Here
PyTorch's ``fully_shard`` stands in its place, around the same model, loss, micro-batches and
collator.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.pipeline.test_packed import random_llama, sequences
from tuneproof.train import attention
from tuneproof.train.packed import Packing, StepCollator, packed_model

BUDGET = 64
STEPS = ([40, 30, 20, 10, 9], [50, 5], [33])
"""The last step has one sequence: the second process gets an empty micro-batch."""


def train(*, sharded: bool) -> torch.Tensor:
    """A few optimizer steps; the adapter's weights, whole."""
    attention.register()
    model: Any = random_llama().train()
    processes, rank = (dist.get_world_size(), dist.get_rank()) if sharded else (1, 0)
    with packed_model(model, Packing(attention=attention.SEGMENTS, loss="chunked")):
        if sharded:
            from torch.distributed.fsdp import fully_shard

            for layer in model.get_base_model().model.layers:
                fully_shard(layer)
            fully_shard(model)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
        collate = StepCollator(budget=BUDGET, processes=processes, rank=rank)
        for lengths in STEPS:
            step = collate(sequences(lengths))
            last = len(step["micro_batches"]) - 1
            for i, batch in enumerate(step["micro_batches"]):
                if sharded:
                    model.set_requires_gradient_sync(i == last)
                loss = model(**batch, num_items_in_batch=step["n_targets"]).loss * processes
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        weights = [p.detach() for p in model.parameters() if p.requires_grad]
        whole = [w.full_tensor() if sharded else w for w in weights]
        return torch.cat([w.flatten() for w in whole])


if __name__ == "__main__":
    import os

    os.environ["ACCELERATE_USE_FSDP"] = "true"  # as accelerate launch sets it
    dist.init_process_group("gloo")
    found = train(sharded=True)
    if dist.get_rank() == 0:
        torch.save(found, Path(sys.argv[1]))
    dist.destroy_process_group()
