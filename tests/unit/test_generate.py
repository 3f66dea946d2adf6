"""The batch plan, and what the transformers back end measures and says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from tests.unit.generate_case import batches_of
from tuneproof.data.encode import token_ids
from tuneproof.data.templates import parse_template
from tuneproof.generate.asking import Stops
from tuneproof.generate.decoding import decode
from tuneproof.generate.plan import BASE, Respondent, chunk_by_tokens
from tuneproof.generate.prompts import heldout_prompts
from tuneproof.generate.rows import GroupedRows, PaddedRows, open_rows, prepare_attention
from tuneproof.generate.sampling import Sampler, sample
from tuneproof.generate.transformers_backend import TransformersBackend
from tuneproof.recipe import Generate, Lora, Model
from tuneproof.records import Arm, Example, Stop
from tuneproof.train.model import add_lora, load_model, load_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from tuneproof.generate.batch import Batch
    from tuneproof.records import Prompt

TUNED = Respondent(Arm.TUNED)
WEIGHTS = {BASE: "b", TUNED: "t"}


def plan_batches(
    prompts: list[Prompt], settings: Generate, *, weights: dict[Respondent, str], seed: int
) -> list[Batch]:
    return [
        batch
        for who, digest in weights.items()
        for batch in batches_of(prompts, settings, who=who, weights=digest, seed=seed)
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


@pytest.mark.parametrize(
    ("temperature", "top_p"), [(0.0, 1.0), (1.0, 1.0), (1.0, 0.9)], ids=["greedy", "all", "nucleus"]
)
def test_in_float32_an_answer_is_the_same_in_every_batch(
    backend: TransformersBackend, prompts: list[Prompt], temperature: float, top_p: float
) -> None:
    """Alone, in small batches that fill and empty, and all together with another benchmark."""
    (end,) = load_ids(backend, " two")

    def answers(size: int, prompts: list[Prompt]) -> dict[tuple[Arm, str], tuple[str, Stop, int]]:
        settings = Generate(
            batch_size=size, max_new_tokens=24, temperature=temperature, top_p=top_p
        )
        return {
            (a.arm, a.question_id): (a.text, a.stop, a.n_tokens)
            for who, weights in WEIGHTS.items()
            for batch in batches_of(
                prompts,
                settings,
                who=who,
                weights=weights,
                stops=Stops(token_ids=(end,)),
                seed=5,
            )
            for a in backend.answer(batch)
            if a.benchmark == "heldout"
        }

    alone = answers(1, prompts)
    assert answers(5, prompts) == alone
    assert answers(12, prompts) == alone
    others = [
        p.model_copy(update={"benchmark": "other", "question_id": f"o{i}"})
        for i, p in enumerate(prompts)
    ]
    assert answers(64, [*others, *prompts]) == alone
    if temperature:
        # Rows left at different times, and no two rows have one stream of randomness.
        assert len({n for _, _, n in alone.values()}) > 4
        assert len({stop for _, stop, _ in alone.values()}) == 2
        assert len({text for text, _, _ in alone.values()}) > 13
        # The same question twice: the stream is named by the question, not by its text.
        assert len({alone[Arm.BASE, f"q{i}"] for i in (0, 8)}) == 2


def load_ids(backend: TransformersBackend, text: str) -> list[int]:
    return list(backend._tokenizer(text, add_special_tokens=False)["input_ids"])


def test_greedy_is_what_transformers_generates(
    backend: TransformersBackend, tiny_model: Path, prompts: list[Prompt]
) -> None:
    plain = load_model(Model(id=str(tiny_model), dtype="float32"))
    settings = Generate(max_new_tokens=12)
    (batch,) = plan_batches(prompts, settings, weights={BASE: "b"}, seed=5)
    for ask, answer in zip(batch.asks, backend.answer(batch), strict=True):
        out = plain.generate(  # type: ignore[operator]
            input_ids=torch.tensor([ask.token_ids]), max_new_tokens=12, do_sample=False
        )
        text = backend._text(out[0, len(ask.token_ids) :].tolist())
        assert answer.text == text.strip()


def test_rows_that_are_done_leave_the_batch(
    backend: TransformersBackend, prompts: list[Prompt]
) -> None:
    """The passes get smaller, and fewer rows go through them than answers × longest answer."""
    seen: list[int] = []
    (end,) = load_ids(backend, " two")
    (batch,) = batches_of(
        prompts, Generate(max_new_tokens=60, temperature=1.0), who=BASE, weights="b",
        stops=Stops(token_ids=(end,)), seed=5,
    )  # fmt: skip
    hook = backend._base.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    answers = backend.answer(batch)
    hook.remove()
    passes = seen[1:]  # all prompts fit one group
    assert passes == sorted(passes, reverse=True)
    needed = sum(min(a.n_tokens + 1, 60) - 1 for a in answers)
    assert needed <= sum(passes) < 13 * len(passes) * 0.8


def test_models_without_plain_layers_are_answered_alike(
    backend: TransformersBackend, tiny_model: Path, prompts: list[Prompt]
) -> None:
    """transformers' own cache, in one padded piece, serves what ``attend`` does not."""
    model = load_model(Model(id=str(tiny_model), dtype="float32"))
    rows = sorted((p.token_ids or () for p in prompts), key=len, reverse=True)
    (end,) = load_ids(backend, " two")

    def said() -> list[list[int]]:
        sampler = Sampler([1.0] * 13, [[i] for i in range(13)], seed=1, top_p=0.9)
        return decode(model, rows, sampler, max_new_tokens=30, ends={end})

    assert isinstance(open_rows(model, 1), PaddedRows)
    padded = said()
    prepare_attention(model)
    assert isinstance(open_rows(model, 1), GroupedRows)
    assert said() == padded
    model.config.sliding_window, model.config.layer_types = 8, ["sliding_attention"] * 2
    model.set_attn_implementation("sdpa")
    prepare_attention(model)
    assert isinstance(open_rows(model, 1), PaddedRows)


def test_groups_of_like_length_are_one_batch(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the groups: rows of 3 to 40 tokens, read in one piece and in many."""
    model = load_model(Model(id=str(tiny_model), dtype="float32"))
    prepare_attention(model)
    draw = torch.Generator().manual_seed(0)
    rows = [torch.randint(3, 300, (n,), generator=draw).tolist() for n in (40, 3, 3, 17, 30, 5)]
    (end,) = token_ids(load_tokenizer(Model(id=str(tiny_model))), ["two two"])[0][-1:]

    def said() -> list[list[int]]:
        sampler = Sampler([0.8] * 6, [[i] for i in range(6)], seed=1, top_p=1.0)
        return decode(model, rows, sampler, max_new_tokens=20, ends={end})

    together = said()
    monkeypatch.setattr("tuneproof.generate.rows.GROUP_TOKENS", 1)
    assert said() == together
    assert len({len(s) for s in together}) > 2


def test_a_draw_falls_where_the_distribution_says() -> None:
    """Probabilities 0.5, 0.3, 0.2 of tokens 2, 0, 1; by hand."""
    logits = torch.tensor([[0.3, 0.2, 0.5]]).log()

    def at(u: float, top_p: float = 1.0, temperature: float = 1.0) -> int:
        return int(sample(logits, [temperature], [u], top_p=top_p))

    # Without a nucleus, in the vocabulary's order: 0 below 0.3, 1 below 0.5, then 2.
    assert [at(u) for u in (0.0, 0.29, 0.31, 0.49, 0.51, 0.999999)] == [0, 0, 1, 1, 2, 2]
    # 0.5 and 0.3 hold 0.7: of 0.8, token 2 has the first 0.625.
    assert [at(u, 0.7) for u in (0.0, 0.62, 0.63, 0.999999)] == [2, 2, 0, 0]
    # The likeliest token holds 0.5 by itself.
    assert [at(u, 0.45) for u in (0.0, 0.999999)] == [2, 2]
    # Temperature 0.5 squares: 0.09, 0.04, 0.25 of 0.38.
    assert [at(u, 1.0, 0.5) for u in (0.23, 0.24, 0.34, 0.35)] == [0, 1, 1, 2]


def test_a_nucleus_beyond_the_likeliest_is_sorted_whole() -> None:
    """A flat distribution over 1,000 tokens: 900 of them hold 0.9."""
    torch.manual_seed(0)
    logits = torch.randn(1, 1000) * 1e-3
    order = logits[0].argsort(descending=True).tolist()
    chosen = [int(sample(logits, [1.0], [u], top_p=0.9)) for u in (0.0, 0.5, 0.999999)]
    places = [order.index(c) for c in chosen]
    assert places == pytest.approx([0, 450, 899], abs=2)


def test_shares_of_sampled_tokens() -> None:
    """2,000 rows of one distribution: each token within four standard errors of its share."""
    shares = torch.tensor([0.05, 0.15, 0.3, 0.5])
    sampler = Sampler([1.0] * 2000, [[i] for i in range(2000)], seed=3, top_p=1.0)
    chosen = sampler.choose(shares.log().expand(2000, 4), range(2000))
    for token, share in enumerate(shares.tolist()):
        error = (share * (1 - share) / 2000) ** 0.5
        assert abs(float((chosen == token).float().mean()) - share) < 4 * error


def test_mt_bench_categories_have_fastchats_temperatures(prompts: list[Prompt]) -> None:
    """And one batch: each row has its own."""
    categories = ["writing", "stem", "math", None]
    mixed = [
        p.model_copy(update={"benchmark": "mt_bench", "category": c})
        for p, c in zip(prompts, categories, strict=False)
    ] + prompts[4:]
    settings = Generate(temperature=0.5)

    def temperatures(by_category: bool) -> dict[str, float]:
        (batch,) = batches_of(mixed, settings, by_category=by_category)
        return {
            a.prompt.question_id: t for a, t in zip(batch.asks, batch.temperatures, strict=True)
        }

    found = temperatures(True)
    assert [found[f"q{i}"] for i in range(6)] == [0.7, 0.1, 0.0, 0.5, 0.5, 0.5]
    assert set(temperatures(False).values()) == {0.5}


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
