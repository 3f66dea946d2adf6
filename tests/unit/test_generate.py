"""The batch plan, and what the transformers back end measures and says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from tuneproof.data.templates import parse_template
from tuneproof.generate.asking import Stops
from tuneproof.generate.plan import BASE, Ask, Batch, Respondent, chunk_by_tokens
from tuneproof.generate.plan import plan_batches as plan_for
from tuneproof.generate.prompts import heldout_prompts
from tuneproof.generate.transformers_backend import TransformersBackend
from tuneproof.recipe import Generate, Lora, Model
from tuneproof.records import Arm, Example, Stop
from tuneproof.train.model import add_lora, load_model, load_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from tuneproof.records import Prompt

TUNED = Respondent(Arm.TUNED)
WEIGHTS = {BASE: "b", TUNED: "t"}


def asks_of(prompts: list[Prompt]) -> list[Ask]:
    return [Ask(prompt=p, token_ids=p.token_ids or ()) for p in prompts]


def plan_batches(
    prompts: list[Prompt], settings: Generate, *, weights: dict[Respondent, str], seed: int
) -> list[Batch]:
    return [
        batch
        for who, digest in weights.items()
        for batch in plan_for(
            asks_of(prompts), settings, who=who, weights=digest, stops=Stops(), seed=seed
        )
    ]


@pytest.fixture(scope="module")
def backend(tiny_model: Path) -> TransformersBackend:
    """The tiny model with an adapter that does something: its B matrices are not zero."""
    model = Model(id=str(tiny_model), dtype="float32")
    tuned = add_lora(
        load_model(model), Lora(r=4, alpha=8, dropout=0.0, target_modules="all-linear")
    )
    torch.manual_seed(3)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    tuned.eval()
    return TransformersBackend(tuned, load_tokenizer(model))


@pytest.fixture(scope="module")
def prompts(tiny_model: Path) -> list[Prompt]:
    words = ["red", "green", "blue", "one", "two", "three", "four", "north"]
    examples = [
        Example(id=f"q{i}", category=None, instruction=" ".join(words[: i % 8 + 1]),
                context="", response="red")
        for i in range(13)
    ]  # fmt: skip
    tokenizer = load_tokenizer(Model(id=str(tiny_model)))
    return heldout_prompts(tokenizer, parse_template("{instruction}\n{response}\n"), examples)


def test_chunks_hold_every_row_once_within_the_budget() -> None:
    rows = [[0] * n for n in (5, 1, 9, 3, 3, 20, 2)]
    chunks = chunk_by_tokens(rows, 10)
    assert sorted(i for c in chunks for i in c) == list(range(7))
    assert chunks == [[5], [2], [0, 3], [4, 6, 1]]
    assert chunk_by_tokens(rows, 10, most=2) == [[5], [2], [0, 3], [4, 6], [1]]


def test_the_plan_depends_on_prompts_settings_weights_and_seed(prompts: list[Prompt]) -> None:
    plan = plan_batches(prompts, Generate(batch_size=4), weights=WEIGHTS, seed=1)
    again = plan_batches(prompts[::-1], Generate(batch_size=4), weights=WEIGHTS, seed=1)
    assert plan == again
    keys = {k for b in plan for k in b.keys}
    assert len(keys) == 2 * 13
    for other in (
        plan_batches(prompts, Generate(batch_size=5), weights=WEIGHTS, seed=1),
        plan_batches(prompts, Generate(batch_size=4, temperature=1), weights=WEIGHTS, seed=1),
        plan_batches(prompts, Generate(batch_size=4), weights=WEIGHTS, seed=2),
        plan_batches(prompts[:12], Generate(batch_size=4), weights=WEIGHTS, seed=1)[-1:],
    ):
        assert keys.isdisjoint(k for b in other for k in b.keys)
    changed = plan_batches(prompts, Generate(batch_size=4), weights={**WEIGHTS, TUNED: "n"},
                           seed=1)  # fmt: skip
    kept = keys & {k for b in changed for k in b.keys}
    assert kept == {k for b in plan if b.who == BASE for k in b.keys}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_same_batch_gives_the_same_answers(
    backend: TransformersBackend, prompts: list[Prompt], temperature: float
) -> None:
    settings = Generate(batch_size=13, max_new_tokens=12, temperature=temperature)
    for batch in plan_batches(prompts, settings, weights=WEIGHTS, seed=5):
        first = backend.answer(batch)
        torch.rand(7)  # ambient randomness must not matter
        assert backend.answer(batch) == first
        assert [a.question_id for a in first] == [a.prompt.question_id for a in batch.asks]


def test_greedy_answers_do_not_depend_on_the_batch_in_float32(
    backend: TransformersBackend, prompts: list[Prompt]
) -> None:
    """Left padding must change nothing."""

    def answers(size: int) -> dict[tuple[Arm, str], str]:
        settings = Generate(batch_size=size, max_new_tokens=12)
        return {
            (a.arm, a.question_id): a.text
            for batch in plan_batches(prompts, settings, weights=WEIGHTS, seed=5)
            for a in backend.answer(batch)
        }

    assert answers(1) == answers(5) == answers(13)


def test_both_arms_are_what_they_are_called(
    backend: TransformersBackend, tiny_model: Path, prompts: list[Prompt]
) -> None:
    """The base arm is the plain model, loaded without any adapter."""
    rows = [p.token_ids or () for p in prompts]
    plain = load_model(Model(id=str(tiny_model), dtype="float32"))
    base, tuned = backend.nll(rows, BASE), backend.nll(rows, TUNED)
    for row, measured, other in zip(rows, base, tuned, strict=True):
        ids = torch.tensor([row])
        with torch.no_grad():
            logits = plain(input_ids=ids).logits[0, :-1]
        expected = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        # Also: a row's loss is its own, whatever it was padded with.
        assert measured == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-5)
        assert measured != pytest.approx(other, rel=1e-2)


def test_what_a_models_folder_suggests_does_not_leak_in(
    tiny_model: Path, prompts: list[Prompt], backend: TransformersBackend
) -> None:
    """Greedy is greedy, and sampling is the recipe's, whatever generation_config.json says."""
    model = Model(id=str(tiny_model), dtype="float32")
    loaded = load_model(model)
    loaded.generation_config.repetition_penalty = 5.0
    loaded.generation_config.top_k = 1
    loaded.generation_config.no_repeat_ngram_size = 1
    plain = TransformersBackend(add_lora(loaded, Lora(dropout=0.0)), load_tokenizer(model))
    for settings in (
        Generate(batch_size=13, max_new_tokens=12),
        Generate(batch_size=13, max_new_tokens=12, temperature=1.0),
    ):
        batch = plan_batches(prompts, settings, weights=WEIGHTS, seed=5)[0]
        assert batch.who == BASE
        assert plain.answer(batch) == backend.answer(batch)


def test_why_an_answer_stopped(backend: TransformersBackend, prompts: list[Prompt]) -> None:
    settings = Generate(batch_size=13, max_new_tokens=12)
    for batch in plan_batches(prompts, settings, weights=WEIGHTS, seed=5):
        for answer in backend.answer(batch):
            assert answer.error is None
            assert (answer.stop is Stop.LENGTH) == (answer.n_tokens == 12)
            assert answer.n_prompt_tokens > 0
