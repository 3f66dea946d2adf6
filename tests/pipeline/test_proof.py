"""What the proof before a packed training refuses, and that it leaves no trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.pipeline.test_packed import (
    MONITOR,
    TRAIN,
    encoded,
    random_llama,
    sequences,
    trained,
)
from tuneproof.progress import SilentReporter
from tuneproof.recipe import Lora, Model, Train
from tuneproof.train import attention, lowrank, proof
from tuneproof.train.loss import linear_nll
from tuneproof.train.model import add_lora, load_model, load_tokenizer
from tuneproof.train.packed import Packing, packed_model
from tuneproof.train.proof import choose_packing, prove
from tuneproof.train.trainer import make_trainer, packing_for

if TYPE_CHECKING:
    from pathlib import Path

SEGMENTS = Packing(attention=attention.SEGMENTS, loss="chunked")


@pytest.fixture(autouse=True)
def ways() -> None:
    attention.register()


def test_attention_in_chunks_is_refused_by_configuration() -> None:
    """Llama 4's chunks are of the row: 48 tokens would not show it."""
    model = random_llama(
        "llama4_text",
        attention_chunk_size=64,
        intermediate_size_mlp=96,
        num_local_experts=2,
        moe_layers=[],
        head_dim=16,
    )
    refused = choose_packing(model, sequences([48, 48]), longest=96)
    assert refused == ("the model attends in chunks of 64 tokens, wherever a sequence begins",)


LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 8,
    "long_factor": [1.0 + i for i in range(8)],
    "factor": 8.0,
    "original_max_position_embeddings": 128,
}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}


@pytest.mark.parametrize(
    ("rope", "until"), [(LONG, 128), (DYNAMIC, 1024)], ids=["longrope", "dynamic"]
)
def test_positions_that_depend_on_the_batch_are_refused_where_rows_reach_them(
    rope: dict[str, Any], until: int
) -> None:
    model = random_llama(rope_parameters=dict(rope))
    assert isinstance(choose_packing(model, sequences([48, 48]), longest=until), Packing)
    refused = choose_packing(model, sequences([48, 48]), longest=until + 1)
    assert not isinstance(refused, Packing)
    assert f"beyond {until:,} tokens, and a row may have {until + 1:,}" in refused[0]


def windowless(*given: Any, **more: Any) -> tuple[torch.Tensor, None]:
    return attention.attend_segments(*given, **(more | {"sliding_window": None}))


def test_a_window_is_looked_beyond() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register("windowless", windowless)
    model = random_llama("mistral", sliding_window=60)
    way = Packing(attention="windowless", loss="chunked")
    problem = prove(model, way, sequences([20, 48]), longest=200)
    assert problem is not None
    assert "the loss of a packed sequence is" in problem
    # Rows that never get there need not know.
    assert prove(model, way, sequences([20, 48]), longest=60) is None
    assert prove(model, SEGMENTS, sequences([20, 48]), longest=200) is None


class FailingBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("No valid triton configs")


class NoNumberBackward(FailingBackward):
    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * float("nan")


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (FailingBackward, "No valid triton configs"),
        (NoNumberBackward, "the gradient of a training step is no finite number"),
    ],
)
def test_an_attention_without_a_backward_pass_is_passed_over(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, function: Any, why: str
) -> None:
    from transformers import AttentionInterface

    def forward_only(*given: Any, **more: Any) -> tuple[torch.Tensor, None]:
        return function.apply(attention.attend_segments(*given, **more)[0]), None

    AttentionInterface.register("forward_only", forward_only)
    monkeypatch.setattr(proof, "candidates", lambda _: ("forward_only", attention.SEGMENTS))
    *_, said = trained(tiny_model, tmp_path, max_steps=1)
    assert said == f"attention tuneproof_segments, loss chunked (not forward_only: {why})"


def test_a_loss_that_is_not_the_models_is_not_the_attentions_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model that bends its logits, were it not known to."""
    model = random_llama(
        "gemma2", "eager", head_dim=16, final_logit_softcapping=3.0, attn_logit_softcapping=None
    )
    monkeypatch.setattr(proof, "loss_ways", lambda _: ("chunked", "supervised logits"))
    chosen = choose_packing(model, sequences([30, 40]), longest=96)
    assert isinstance(chosen, Packing)
    assert (chosen.attention, chosen.loss) == (attention.SEGMENTS, "supervised logits")
    (why,) = chosen.passed_over
    assert why.startswith("tuneproof_segments, loss chunked: the loss of a packed sequence is")


def test_the_adapters_part_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_llama(initializer_range=0.1)
    assert prove(model, SEGMENTS, sequences([30, 40]), longest=96) is None
    whole = lowrank.low_rank
    monkeypatch.setattr(lowrank, "low_rank", lambda *a, **k: 9 * whole(*a, **k))
    problem = prove(model, SEGMENTS, sequences([30, 40]), longest=96)
    assert problem is not None


def test_the_proof_leaves_no_trace(tiny_model: Path) -> None:
    model = add_lora(load_model(Model(id=str(tiny_model), dtype="float32")), Lora(dropout=0.5))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model.train()
    torch.manual_seed(1)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert prove(model, SEGMENTS, sequences([30, 40]), longest=96) is None
    assert torch.equal(torch.rand(1), drawn)
    assert model.training
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None


def test_hidden_states_and_targets_that_are_not_as_many_are_refused() -> None:
    with pytest.raises(ValueError, match="3 hidden states for 2 targets"):
        linear_nll(torch.zeros(3, 4), torch.zeros(5, 4), torch.zeros(2, dtype=torch.long))


def test_validation_alone_is_validation_after_a_training_that_changed_nothing(
    tmp_path: Path, tiny_model: Path
) -> None:
    """In bfloat16: autocast is on in both, as in the plain Trainer."""
    found = []
    for trained_before in (False, True):
        torch.manual_seed(3)
        loaded = load_model(Model(id=str(tiny_model), dtype="bfloat16"))
        model = add_lora(loaded, Lora(r=4, alpha=8, dropout=0.0))
        tokenizer, rows = load_tokenizer(Model(id=str(tiny_model))), encoded(tiny_model, 40)
        train = Train(**(TRAIN | {"learning_rate": 1e-30, "max_steps": 1, "eval_steps": 1000}))
        packing, said = packing_for(model, tokenizer, train, rows, SilentReporter())
        assert packing is not None, said
        cast: list[bool] = []
        with packed_model(model, packing):
            trainer = make_trainer(
                model,
                tokenizer,
                train,
                MONITOR,
                seed=5,
                rows=rows,
                validation=rows,
                out=tmp_path / str(trained_before),
                packed=True,
            )
            trainer.args.save_strategy = trainer.args.eval_strategy = "no"
            trainer.args.load_best_model_at_end = False
            if trained_before:
                trainer.train()
            base: Any = model.get_base_model()
            hook = base.model.norm.register_forward_hook(
                lambda *_, cast=cast: cast.append(torch.is_autocast_enabled("cpu"))
            )
            found.append([trainer.evaluate()["eval_loss"] for _ in range(2)])
            hook.remove()
        assert cast
        assert all(cast)
    assert len({loss for pair in found for loss in pair}) == 1
