"""Training and validation on packed sequences: the same optimizer steps, without padding.

``PackedSteps`` is transformers' ``Trainer`` with three things exchanged: a batch is one optimizer
step's sequences, packed; a training step sends them through the model micro-batch by micro-batch;
validation packs all rows. Order of rows, optimizer, schedule, logging, checkpoints and callbacks
are the Trainer's. The loss is the sum over the step's targets divided by their number, whatever the
micro-batches and whatever the number of processes.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from tuneproof.data.encode import IGNORED
from tuneproof.train.loss import LossWay, loss_inside
from tuneproof.train.lowrank import fewer_passes
from tuneproof.train.packing import pack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from peft import PeftModel
    from transformers import PreTrainedModel

Feature = dict[str, list[int]]
"""One sequence: ``input_ids``, and ``labels`` of the same length with −100 where none is wanted."""


# --- tensors ---------------------------------------------------------------------------------


def micro_batch(features: Sequence[Feature]) -> dict[str, Any]:
    """What the model is called with for these sequences, end to end in one row.

    ``logits_to_keep`` are the positions that predict a target and ``labels`` those targets, so that
    nothing else meets the vocabulary. No sequence at all gives one token and no target: a process
    with nothing to do still takes part in what the processes do together.
    """
    features = features or [{"input_ids": [0], "labels": [IGNORED]}]
    lengths = [len(f["input_ids"]) for f in features]
    ids: list[int] = []
    positions: list[int] = []
    kept: list[int] = []
    targets: list[int] = []
    for feature in features:
        labels = feature["labels"]
        # A position predicts the token after it; the last of a sequence predicts none.
        predicts = [i for i in range(len(labels) - 1) if labels[i + 1] != IGNORED]
        kept += [len(ids) + i for i in predicts]
        targets += [labels[i + 1] for i in predicts]
        ids += feature["input_ids"]
        positions += range(len(labels))
    starts = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "labels": torch.tensor([targets], dtype=torch.long),
        "logits_to_keep": torch.tensor(kept, dtype=torch.long),
        "cu_seq_lens_q": starts,
        "cu_seq_lens_k": starts,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        "use_cache": False,
    }


def count_targets(feature: Feature) -> int:
    """Tokens of a sequence that are predicted and count."""
    return sum(label != IGNORED for label in feature["labels"][1:])


@dataclass(frozen=True, kw_only=True)
class StepCollator:
    """Makes the batch of one optimizer step; of its micro-batches, those of process ``rank``."""

    budget: int
    processes: int = 1
    rank: int = 0

    def __call__(self, features: Sequence[Feature]) -> dict[str, Any]:
        """The micro-batches of this process, and tokens and targets of the whole step."""
        lengths = [len(f["input_ids"]) for f in features]
        packed = pack(lengths, budget=self.budget, parts=self.processes)
        mine = packed[self.rank :: self.processes]
        return {
            "micro_batches": [micro_batch([features[i] for i in rows]) for rows in mine],
            "n_tokens": sum(lengths),
            "n_targets": sum(count_targets(f) for f in features),
        }


def validation_batches(
    features: Sequence[Feature], *, budget: int, processes: int = 1, rank: int = 0
) -> list[tuple[dict[str, Any], torch.Tensor]]:
    """All rows, packed; and with each micro-batch the number of the row that each target is of."""
    packed = pack([len(f["input_ids"]) for f in features], budget=budget, parts=processes)
    return [
        (
            micro_batch([features[i] for i in rows]),
            torch.tensor(
                [i for i in rows for _ in range(count_targets(features[i]))], dtype=torch.long
            ),
        )
        for rows in packed[rank::processes]
    ]


def mean_of_padded_batches(
    sums: Sequence[float], counts: Sequence[int], *, rows_a_batch: int
) -> float:
    """The validation loss as the plain Trainer reports it, from each row's summed loss and targets.

    It takes the mean over the targets of each batch of consecutive rows, and then the mean of those
    weighted by rows; so it depends on the size of its batches.
    """
    total = 0.0
    for a in range(0, len(sums), rows_a_batch):
        batch = slice(a, a + rows_a_batch)
        total += sum(sums[batch]) / sum(counts[batch]) * len(sums[batch])
    return total / len(sums)


# --- the trainer -----------------------------------------------------------------------------


class PackedSteps(Trainer):
    """The Trainer over packed steps.

    Its ``per_device_train_batch_size`` counts all sequences of an optimizer step, over all
    processes; ``per_device_eval_batch_size`` only says which batches ``eval_loss`` is to be the
    mean of (``mean_of_padded_batches``). The model's forward must compute the loss
    (``loss_inside``).
    """

    token_budget: int

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Every process reads the whole step, and takes its share of the micro-batches.

        The Trainer's own would share out rows, and repeat some of them in a partial last step.
        """
        from accelerate.data_loader import prepare_data_loader

        features: Any = self.train_dataset
        loader: DataLoader[Any] = DataLoader(
            features,
            batch_size=self.args.per_device_train_batch_size,
            sampler=self._get_train_sampler(),
            collate_fn=StepCollator(
                budget=self.token_budget,
                processes=self.args.world_size,
                rank=self.args.process_index,
            ),
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )
        prepared: DataLoader[Any] = prepare_data_loader(
            loader,
            device=self.args.device,
            num_processes=1,
            process_index=0,
            put_on_device=True,
            rng_types=["generator"],
            use_seedable_sampler=True,
            data_seed=self.args.data_seed,
            non_blocking=self.args.dataloader_pin_memory,
        )
        return prepared

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Forward and backward of each micro-batch; gradients are exchanged after the last."""
        model.train()
        # Processes' gradients are averaged, and each has its share of the sum.
        processes = self.args.world_size
        total = torch.zeros((), device=self.args.device)
        last = len(inputs["micro_batches"]) - 1
        for i, batch in enumerate(inputs["micro_batches"]):
            apart = contextlib.nullcontext() if i == last else self.accelerator.no_sync(model)
            with apart:
                loss = model(**batch, num_items_in_batch=inputs["n_targets"]).loss * processes
                self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """The validation rows, packed once and brought to the device once: they are small."""
        if self._validation is None:
            features: Any = self.eval_dataset
            batches: Any = [
                {**self._prepare_inputs(batch), "rows": rows}
                for batch, rows in validation_batches(
                    features,
                    budget=self.token_budget,
                    processes=self.args.world_size,
                    rank=self.args.process_index,
                )
            ]
            self._validation = DataLoader(batches, batch_size=None, shuffle=False)
        return self._validation

    _validation: DataLoader[Any] | None = None

    def evaluation_loop(
        self, dataloader: DataLoader[Any], *_: Any, metric_key_prefix: str = "eval", **__: Any
    ) -> EvalLoopOutput:
        """Both means of the loss: ``eval_loss`` as the plain Trainer has it, and over tokens."""
        features: Any = self.eval_dataset
        assert isinstance(self.model, torch.nn.Module)
        model = self._wrap_model(self.model, training=False)
        if not self.accelerator._models and model is self.model:
            # As the Trainer does where nothing was trained before: autocast comes with it.
            model = self.accelerator.prepare_model(model, evaluation_mode=True)
        model.eval()
        found: list[torch.Tensor] = []
        rows: list[torch.Tensor] = []
        for batch in dataloader:
            inputs = dict(batch)
            rows.append(inputs.pop("rows"))
            with torch.no_grad():
                found.append(model(**inputs, each=True).loss)
            self.control = self.callback_handler.on_prediction_step(
                self.args, self.state, self.control
            )
        # On the CPU one after the other: a GPU would add in whatever order its threads come.
        sums = torch.zeros(len(features), dtype=torch.float64)
        if found:
            sums.index_add_(0, torch.cat(rows), torch.cat(found).cpu().double())
        if self.args.world_size > 1:
            sums = self.accelerator.reduce(sums.to(self.args.device), "sum")
        counts = [count_targets(f) for f in features]
        by_row = sums.tolist()
        means = {
            "loss": mean_of_padded_batches(
                by_row, counts, rows_a_batch=self.args.per_device_eval_batch_size
            ),
            "token_loss": sum(by_row) / sum(counts),
        }
        return EvalLoopOutput(
            predictions=None,  # type: ignore[arg-type]
            label_ids=None,
            metrics={f"{metric_key_prefix}_{name}": mean for name, mean in means.items()},
            num_samples=len(features),
        )

    def _track_num_input_tokens(self, inputs: dict[str, Any]) -> None:
        """Of the whole step, which every process knows."""
        self.state.num_input_tokens_seen += inputs["n_tokens"]

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """The Trainer's own estimate, over real tokens; it adds up the processes'."""
        model: Any = self.model
        n_parameters = int(model.num_parameters(exclude_embeddings=True))
        return 6 * int(inputs["n_tokens"]) * n_parameters // self.args.world_size  # type: ignore[no-any-return]


# --- which way -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How packed sequences are computed: the attention's name and the loss's.

    ``passed_over`` has the ways that were tried before and why they were not taken.
    """

    attention: str
    loss: LossWay
    passed_over: tuple[str, ...] = ()


def base_of(model: PeftModel) -> PreTrainedModel:
    """The model that the adapter is on."""
    return cast("PreTrainedModel", model.get_base_model())


@contextlib.contextmanager
def packed_model(model: PeftModel, packing: Packing) -> Iterator[None]:
    """For as long as the context lasts, the model attends and computes its loss that way."""
    base = base_of(model)
    before = base.config._attn_implementation
    base.set_attn_implementation(packing.attention)
    try:
        with loss_inside(base, packing.loss), fewer_passes(model):
            yield
    finally:
        base.set_attn_implementation(before)
