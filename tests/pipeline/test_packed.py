"""Configurations that must train alike do, and packed sequences do not know of each other.

The module is long, being the one list of what must be equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import Trainer, set_seed

from tests.conftest import tiny_rows
from tuneproof.data.encode import EncodedRow, encode_rows
from tuneproof.data.templates import parse_template
from tuneproof.progress import SilentReporter
from tuneproof.recipe import Lora, Model, Monitor, Train
from tuneproof.records import Example
from tuneproof.train import attention
from tuneproof.train.checkpoint import Owner
from tuneproof.train.loss import linear_nll, loss_ways
from tuneproof.train.lowrank import fewer_passes, low_rank
from tuneproof.train.model import add_lora, load_model, load_tokenizer
from tuneproof.train.packed import (
    Packing,
    base_of,
    micro_batch,
    packed_model,
)
from tuneproof.train.proof import choose_packing, prove
from tuneproof.train.trainer import (
    make_collator,
    make_features,
    packed_features,
    run_training,
    training_arguments,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from peft import PeftModel
    from transformers import PreTrainedConfig

STEPS = 20
ROWS = 155
"""Of batches of 16: nine whole steps an epoch, and a partial one of 11."""

TRAIN: dict[str, Any] = {
    "epochs": 2.0,
    "batch_size": 16,
    "micro_batch_size": 2,
    "learning_rate": 5e-3,
    "max_length": 96,
    "eval_steps": 7,
}
MONITOR = Monitor(logging_steps=1)


def encoded(folder: Path, n: int, **settings: Any) -> list[EncodedRow]:
    """Tiny rows, every twelfth of them cut at 96 tokens."""
    rows = tiny_rows(n)
    for row in rows[::12]:
        row["context"] = "red green blue " * 40
    examples = [
        Example(
            id=str(i),
            category=None,
            instruction=str(r["instruction"]),
            context=str(r["context"]),
            response=str(r["response"]),
        )
        for i, r in enumerate(rows)
    ]
    chosen: dict[str, Any] = {"append_eos": True, "loss_on": "text", "max_length": 96} | settings
    return encode_rows(
        load_tokenizer(Model(id=str(folder))),
        parse_template("instruction-context-response"),
        examples,
        **chosen,
    )


def tiny(folder: Path, **lora: Any) -> PeftModel:
    set_seed(3)
    model = load_model(Model(id=str(folder), dtype="float32"))
    return add_lora(model, Lora(r=4, alpha=8, **({"dropout": 0.0} | lora)))


def adapter(model: PeftModel) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for n, p in model.named_parameters() if "lora_" in n])


def first_two(folder: Path) -> list[dict[str, list[int]]]:
    tokenizer = load_tokenizer(Model(id=str(folder)))
    return packed_features(Train(**TRAIN), tokenizer, encoded(folder, 2))


def trained(
    folder: Path, out: Path, **train: Any
) -> tuple[list[float], list[float], torch.Tensor, str]:
    """Training losses, validation losses, the kept adapter, and how it was packed."""
    model = tiny(folder, target_modules="all-linear")
    rows = encoded(folder, ROWS + 33)
    run = run_training(
        model,
        load_tokenizer(Model(id=str(folder))),
        Train(**(TRAIN | train)),
        MONITOR,
        seed=5,
        owner=Owner(digest="me"),
        rows=rows[:ROWS],
        validation=rows[ROWS:],
        out=out,
        last_good=out / "good",
        events=out / "events",
        reporter=SilentReporter(),
    )
    history = run.state.log_history
    return (
        [e["loss"] for e in history if "loss" in e],
        [e["eval_loss"] for e in history if "eval_loss" in e],
        adapter(model),
        run.packing,
    )


@pytest.fixture(scope="module")
def padded(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[float], list[float], torch.Tensor, str]:
    return trained(tiny_model, tmp_path_factory.mktemp("padded"), packing=False)


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"token_budget": 96},
        {"token_budget": 333},
        {"token_budget": 10_000},
        {"packing": False, "micro_batch_size": 16},
        {"packing": False, "micro_batch_size": 4},
        {"gradient_checkpointing": True},
    ],
    ids=lambda o: ", ".join(f"{k} {v}" for k, v in o.items()) or "packed",
)
def test_the_same_training(
    tmp_path: Path,
    tiny_model: Path,
    padded: tuple[list[float], list[float], torch.Tensor, str],
    other: dict[str, Any],
) -> None:
    """20 steps, two of them partial, in float32: losses and adapter are those of padding."""
    losses, validation, weights, _ = padded
    others, other_validation, other_weights, packing = trained(tiny_model, tmp_path, **other)
    assert len(losses) == len(others) == STEPS
    assert len(set(losses)) == STEPS, "a loss that stands still would prove nothing"
    assert losses[-1] < 0.9 * losses[0]
    assert others == pytest.approx(losses, abs=1e-5)
    assert (weights - other_weights).norm() < 1e-5 * weights.norm()
    if other.get("packing", True):
        assert packing == "attention tuneproof_segments, loss chunked"
        # The mean over the same batches, though they were never made.
        assert other_validation == pytest.approx(validation, abs=1e-5)


@pytest.mark.parametrize("micro_batch_size", [2, 8])
def test_validation_is_the_plain_trainers_number(
    tmp_path: Path, tiny_model: Path, micro_batch_size: int
) -> None:
    """33 rows: the last batch is partial, and the mean of batches is not that of tokens."""
    model, tokenizer = tiny(tiny_model), load_tokenizer(Model(id=str(tiny_model)))
    train = Train(**(TRAIN | {"micro_batch_size": micro_batch_size}))
    rows = encoded(tiny_model, 33)
    arguments = training_arguments(
        train, MONITOR, n_rows=33, seed=5, bf16=False, out=tmp_path / "plain"
    )
    plain = Trainer(
        model=model,
        args=arguments,
        data_collator=make_collator(train, tokenizer),
        eval_dataset=make_features(train, rows),
        processing_class=tokenizer,
    )
    expected = plain.evaluate()["eval_loss"]
    from tuneproof.train.packed import mean_of_padded_batches

    sums, counts = [], []
    model.eval()
    for row in rows:
        ids = torch.tensor([row.token_ids])
        counts.append(len(row.token_ids) - 1)
        with torch.no_grad():
            sums.append(model(input_ids=ids, labels=ids).loss.item() * counts[-1])
    by_hand = mean_of_padded_batches(sums, counts, rows_a_batch=micro_batch_size)
    assert by_hand == pytest.approx(expected, abs=1e-5)
    assert abs(sum(sums) / sum(counts) - expected) > 1e-3


def test_two_batches_by_hand() -> None:
    from tuneproof.train.packed import mean_of_padded_batches

    # (6 / 4) twice and (5 / 1) once.
    assert mean_of_padded_batches([2.0, 4.0, 5.0], [1, 3, 1], rows_a_batch=2) == (3 + 5) / 3


@pytest.mark.parametrize(
    "settings",
    [
        {"append_eos": False, "loss_on": "text"},
        {"append_eos": True, "loss_on": "text"},
        {"append_eos": True, "loss_on": "response"},
        {"append_eos": False, "loss_on": "response"},
    ],
    ids=lambda s: f"{s['loss_on']}, EOS {s['append_eos']}",
)
def test_packed_targets_are_those_of_the_collators(
    tiny_model: Path, settings: dict[str, Any]
) -> None:
    """An EOS in the middle of the text included, which the reference's collator takes out."""
    tokenizer = load_tokenizer(Model(id=str(tiny_model)))
    train = Train(**(TRAIN | settings))
    rows = encoded(tiny_model, 4, **settings)
    ids = list(rows[1].token_ids)
    ids[-3] = tokenizer.eos_token_id
    rows[1] = EncodedRow(
        token_ids=tuple(ids),
        supervised=rows[1].supervised,
        n_prompt=rows[1].n_prompt,
        n_whole=len(ids),
        ends_with_eos=False,
        prompt_matches=True,
    )
    collator = make_collator(train, tokenizer)
    features = packed_features(train, tokenizer, rows)
    for row, feature in zip(rows, features, strict=True):
        batch = collator(make_features(train, [row]))
        assert feature["labels"] == batch["labels"][0].tolist()
        packed = micro_batch([feature])
        shifted = batch["labels"][0, 1:]
        assert packed["labels"][0].tolist() == shifted[shifted != -100].tolist()
        assert packed["logits_to_keep"].tolist() == (shifted != -100).nonzero()[:, 0].tolist()


# --- isolation -------------------------------------------------------------------------------


def random_llama(kind: str = "llama", way: str = "sdpa", **changes: Any) -> PeftModel:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 300,
        "max_position_embeddings": 1024,
        "initializer_range": 0.3,
    }
    config: PreTrainedConfig = AutoConfig.for_model(kind, **(sizes | changes))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=way)  # type: ignore[no-untyped-call]
    lora = Lora(r=2, alpha=4, dropout=0.0, target_modules=("q_proj", "v_proj"))
    return add_lora(model, lora).eval()


def sequences(lengths: Sequence[int]) -> list[dict[str, list[int]]]:
    draw = torch.Generator().manual_seed(1)
    ids = [torch.randint(0, 300, (n,), generator=draw).tolist() for n in lengths]
    return [{"input_ids": i, "labels": i} for i in ids]


@pytest.mark.parametrize("way", [attention.SEGMENTS, attention.POSITIONS])
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {}),
        ("qwen2", {"num_attention_heads": 4}),
        ("qwen3", {"head_dim": 24}),
        ("mistral", {"sliding_window": 50}),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_packed_sequences_logits_are_those_of_the_sequence_alone(
    kind: str, changes: dict[str, Any], way: str
) -> None:
    """Sequences of 1 to 600 tokens, over more than one block of queries and over the window."""
    attention.register()
    model = random_llama(kind, **changes)
    features = sequences([7, 600, 1, 130, 257])
    batch = {k: v for k, v in micro_batch(features).items() if k not in ("labels",)}
    batch.pop("logits_to_keep")
    base = base_of(model)
    with torch.no_grad():
        base.set_attn_implementation(way)
        packed = model(**batch).logits[0]
        base.set_attn_implementation("eager")
        alone = [
            model(input_ids=torch.tensor([f["input_ids"]]), use_cache=False).logits[0]
            for f in features
        ]
    expected = torch.cat(alone)
    assert expected.std() > 0.5
    assert (packed - expected).abs().max() < 2e-5 * expected.abs().max()


@pytest.mark.parametrize("way", [attention.SEGMENTS, attention.POSITIONS])
def test_gradients_of_packed_attention(way: str) -> None:
    attention.register()
    model = random_llama().train()
    features = sequences([40, 300, 9])
    with packed_model(model, Packing(attention=way, loss="chunked")):
        model(**micro_batch(features), num_items_in_batch=346).loss.backward()
    packed = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    for feature in features:
        ids = torch.tensor([feature["input_ids"]])
        (model(input_ids=ids, labels=ids, num_items_in_batch=346).loss).backward()
    alone = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert alone.norm() > 0
    assert (packed - alone).norm() < 1e-5 * alone.norm()


def test_no_mask_is_made_and_no_boundary_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for one ends in a question to the device, at each forward pass."""
    from transformers import masking_utils

    def looked(*_: Any) -> None:
        raise AssertionError("transformers looks for boundaries in the positions")

    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", looked)
    attention.register()
    model = random_llama("mistral", sliding_window=20)
    with packed_model(model, Packing(attention=attention.SEGMENTS, loss="chunked")):
        loss = model(**micro_batch(sequences([40, 30])), num_items_in_batch=68).loss
    assert loss.isfinite()
    base_of(model).set_attn_implementation(attention.SEGMENTS)
    padded = torch.tensor([[1, 2, 3], [1, 2, 0]])
    with pytest.raises(NotImplementedError, match="does not say where its sequences begin"):
        model(input_ids=padded, attention_mask=padded.sign())


def leaky(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal over the whole micro-batch: every sequence sees those before it."""
    shared = query.shape[1] // key.shape[1]
    out = torch.nn.functional.scaled_dot_product_attention(
        query,
        key.repeat_interleave(shared, 1),
        value.repeat_interleave(shared, 1),
        is_causal=True,
        scale=scaling,
    )
    return out.transpose(1, 2), None


def test_an_attention_that_leaks_is_refused(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AttentionInterface

    from tuneproof.train import proof

    AttentionInterface.register("leaky", leaky)
    model = tiny(tiny_model)
    features = first_two(tiny_model)
    problem = prove(model, Packing(attention="leaky", loss="chunked"), features, longest=96)
    assert problem == "what stands in one sequence changes the loss of the next"
    monkeypatch.setattr(proof, "candidates", lambda _: ("leaky", "sdpa"))
    chosen = choose_packing(model, features, longest=96)
    assert isinstance(chosen, Packing)
    assert chosen.attention == "sdpa"
    assert chosen.passed_over == (f"leaky: {problem}",)


def test_no_way_to_pack_pads_and_says_so_once(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AttentionInterface

    from tuneproof.train import proof

    AttentionInterface.register("leaky", leaky)
    monkeypatch.setattr(proof, "candidates", lambda _: ("leaky",))
    *_, packing = trained(tiny_model, tmp_path, max_steps=1)
    assert packing.startswith("none, padding instead (not leaky: what stands in one sequence")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own, while it compiles
def test_an_attention_that_cannot_be_compiled_is_passed_over(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._inductor.config as inductor

    from tuneproof.train import proof

    monkeypatch.setattr(inductor.cpp, "cxx", ("/nonexistent/compiler",))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    monkeypatch.setattr(proof, "candidates", lambda _: (attention.FLEX, attention.POSITIONS))
    model = tiny(tiny_model)
    features = first_two(tiny_model)
    chosen = choose_packing(model, features, longest=96)
    assert isinstance(chosen, Packing)
    assert chosen.attention == attention.POSITIONS
    (why,) = chosen.passed_over
    assert why.startswith("flex_attention: ")
    assert "compiler" in why


def test_positions_that_do_not_restart_are_refused(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuneproof.train import proof

    whole = micro_batch

    def running_on(features: Any) -> dict[str, Any]:
        batch = whole(features)
        return batch | {"position_ids": torch.arange(batch["input_ids"].shape[1])[None]}

    monkeypatch.setattr(proof, "micro_batch", running_on)
    attention.register()
    # Rotary positions only count as differences: a model that knows where it is must be asked.
    model = random_llama("opt", ffn_dim=96, word_embed_proj_dim=64)
    problem = prove(
        model,
        Packing(attention=attention.SEGMENTS, loss="chunked"),
        sequences([30, 40]),
        longest=96,
    )
    assert problem is not None
    assert "the loss of a packed sequence is" in problem


@pytest.mark.parametrize(
    "changes", [{"final_logit_softcapping": 3.0}, {"attn_logit_softcapping": 3.0}]
)
def test_a_model_that_does_more_than_ours_is_computed_by_its_own_means(
    changes: dict[str, float],
) -> None:
    """Gemma 2 bends its logits, and its scores."""
    off: dict[str, Any] = {"final_logit_softcapping": None, "attn_logit_softcapping": None}
    model = random_llama("gemma2", "eager", head_dim=16, **(off | changes))
    chosen = choose_packing(model, sequences([30, 40]), longest=96)
    if "final_logit_softcapping" in changes:
        assert isinstance(chosen, Packing)
        assert (chosen.attention, chosen.loss) == (attention.SEGMENTS, "supervised logits")
    else:
        reasons = chosen.passed_over if isinstance(chosen, Packing) else chosen
        assert "the model's attention uses softcap" in reasons[0]


def test_an_adapter_on_the_head_is_trained_with_its_logits(tiny_model: Path) -> None:
    model = tiny(tiny_model, target_modules=("q_proj", "lm_head"))
    assert loss_ways(base_of(model)) == ("supervised logits",)
    features = first_two(tiny_model)
    chosen = choose_packing(model, features, longest=96)
    assert isinstance(chosen, Packing)
    assert chosen.loss == "supervised logits"


# --- the loss --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_in_pieces_is_cross_entropy(dtype: torch.dtype) -> None:
    """Over more than one chunk; in bfloat16 as precise as the logits allow."""
    torch.manual_seed(0)
    hidden = torch.randn(600, 32).to(dtype).requires_grad_()
    weight = (0.3 * torch.randn(1000, 32)).to(dtype)
    targets = torch.randint(0, 1000, (600,))
    scale = torch.rand(600)
    nll = linear_nll(hidden, weight, targets)
    (nll * scale).sum().backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None
    found = hidden.grad.clone()
    hidden.grad = None
    whole = torch.nn.functional.cross_entropy(
        torch.nn.functional.linear(hidden, weight).float(), targets, reduction="none"
    )
    (whole * scale).sum().backward()  # type: ignore[no-untyped-call]
    expected = hidden.grad
    assert expected is not None
    assert nll.dtype == torch.float32
    assert torch.allclose(nll, whole, atol=1e-5)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    assert (found.float() - expected.float()).norm() < tolerance * expected.float().norm()


def test_a_target_out_of_reach_has_a_finite_loss() -> None:
    """Its probability underflows; its logarithm does not."""
    hidden = torch.tensor([[1000.0]])
    nll = linear_nll(hidden, torch.tensor([[1.0], [-1.0]]), torch.tensor([1]))
    assert nll.item() == 2000.0


def test_nothing_to_learn_from_is_a_loss_of_zero_with_a_gradient_of_zero() -> None:
    """What a process without a micro-batch of its own runs."""
    model = random_llama().train()
    with packed_model(model, Packing(attention=attention.SEGMENTS, loss="chunked")):
        loss = model(**micro_batch([]), num_items_in_batch=10).loss
        loss.backward()
    assert loss.item() == 0
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g is not None and not g.any() for g in gradients)


def test_the_model_is_given_back_as_it_was(tiny_model: Path) -> None:
    model = tiny(tiny_model)
    ids = torch.tensor([[1, 5, 6, 7]])
    before = model(input_ids=ids, labels=ids).loss
    base = base_of(model)
    head = base.lm_head
    with packed_model(model, Packing(attention=attention.SEGMENTS, loss="chunked")):
        assert base.lm_head is not head
    assert base.lm_head is head
    assert base.config._attn_implementation == "sdpa"
    after = model(input_ids=ids, labels=ids)
    assert torch.equal(before, after.loss)
    assert after.logits.shape[-1] == base.config.vocab_size


# --- the adapter's part -----------------------------------------------------------------------


def test_the_adapters_part_is_pefts(tiny_model: Path) -> None:
    """Without dropout: outputs and all gradients of a trained adapter."""
    model = tiny(tiny_model, target_modules="all-linear")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    ids = torch.tensor([[1, *range(20, 60)]])

    def step() -> tuple[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        return loss, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    loss, gradient = step()
    with fewer_passes(model):
        again, found = step()
    assert again.item() == pytest.approx(loss.item(), abs=1e-6)
    assert (found - gradient).norm() < 1e-5 * gradient.norm()


def test_dropout_is_pytorchs_in_distribution() -> None:
    """Mean and variance of what is kept, its gradient at the same places, and a mask a call."""
    torch.manual_seed(0)
    p, n = 0.05, 400_000
    x = torch.ones(1, n // 100, 100, requires_grad=True)
    eye = torch.eye(100)
    out = low_rank(x, eye, eye, scaling=1.0, p=p)
    dropped = out == 0
    # Four standard errors of a share of 0.05 in 400,000.
    assert dropped.float().mean().item() == pytest.approx(p, abs=4 * (p * (1 - p) / n) ** 0.5)
    assert len(set(out[~dropped].tolist())) == 1
    assert out.max().item() == pytest.approx(1 / (1 - p), abs=1e-4)
    out.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert torch.equal(x.grad == 0, dropped)
    # Neighbours, and the next call, are independent: 0.0025 of both are dropped.
    flat = dropped.flatten()
    other = (low_rank(x, eye, eye, scaling=1.0, p=p) == 0).flatten()
    for both in (flat[1:] & flat[:-1], flat[4:] & flat[:-4], flat & other):
        assert both.float().mean().item() == pytest.approx(p * p, abs=4 * (p * p / n) ** 0.5)


def test_modules_that_do_more_are_left_to_peft(tiny_model: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = load_model(Model(id=str(tiny_model), dtype="float32"))
    model = get_peft_model(base, LoraConfig(use_dora=True, task_type="CAUSAL_LM"))
    with fewer_passes(model):
        assert not any("forward" in vars(m) for m in model.modules())
    plain = tiny(tiny_model)
    with fewer_passes(plain):
        assert sum("forward" in vars(m) for m in plain.modules()) == 4
    assert not any("forward" in vars(m) for m in plain.modules())
