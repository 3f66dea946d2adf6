"""How each arm is asked, and where an answer of fair-base ends."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from tests.unit.generate_case import batches_of
from tests.unit.test_generate import TUNED
from tuneproof.data.encode import encode_prompts, token_ids
from tuneproof.data.sections import first_marker, section_starts
from tuneproof.data.templates import Template, parse_template
from tuneproof.errors import ModelError
from tuneproof.generate.answers import Interview, turn_asks
from tuneproof.generate.asking import (
    WORKED_EXAMPLES,
    Asked,
    ChatAsking,
    ExamplesAsking,
    Stops,
    TemplateAsking,
    fair_asking,
)
from tuneproof.generate.plan import BASE, FAIR_BASE, Respondent
from tuneproof.generate.prompts import benchmark_prompts
from tuneproof.generate.transformers_backend import TransformersBackend, load_adapters
from tuneproof.recipe import Generate, Lora, Model
from tuneproof.records import Answer, Arm, Prompt, Stop
from tuneproof.train.model import add_lora, load_model, load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from tuneproof.data.questions import Question

BUILT_IN = parse_template("instruction-context-response")
CHAT = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture
def tokenizer(tiny_model: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(Model(id=str(tiny_model)))


def asked(instruction: str, context: str = "", earlier: tuple[tuple[str, str], ...] = ()) -> Asked:
    return Asked(instruction=instruction, context=context, earlier=earlier)


# --- the prompts -----------------------------------------------------------------------------


def test_first_turns_are_the_prompts_of_training_rows(tokenizer: PreTrainedTokenizerBase) -> None:
    asking = TemplateAsking(tokenizer, BUILT_IN)
    pairs = [("red green", ""), ("one", "two three")]
    assert asking.encode([asked(*p) for p in pairs]) == encode_prompts(tokenizer, BUILT_IN, pairs)
    assert asking.stops == Stops()


def test_later_turns_hold_the_conversation(tokenizer: PreTrainedTokenizerBase) -> None:
    asking = TemplateAsking(tokenizer, BUILT_IN)
    said = (("red", "green"), ("one", "two"))
    mixed = [asked("north", "", said), asked("up"), asked("down", "", said[:1])]
    texts = [
        "### Instruction:\nred\n\n### Context:\n\n\n### Response:\ngreen\n\n"
        "### Instruction:\none\n\n### Context:\n\n\n### Response:\ntwo\n\n"
        "### Instruction:\nnorth\n\n### Context:\n\n\n### Response:\n",
        "### Instruction:\nup\n\n### Context:\n\n\n### Response:\n",
        "### Instruction:\nred\n\n### Context:\n\n\n### Response:\ngreen\n\n"
        "### Instruction:\ndown\n\n### Context:\n\n\n### Response:\n",
    ]
    assert asking.encode(mixed) == token_ids(tokenizer, texts)


def test_a_chat_template_is_used_where_there_is_one(tokenizer: PreTrainedTokenizerBase) -> None:
    assert isinstance(fair_asking(tokenizer, BUILT_IN), ExamplesAsking)
    tokenizer.chat_template = CHAT
    asking = fair_asking(tokenizer, BUILT_IN)
    assert isinstance(asking, ChatAsking)
    (first, later) = asking.encode([asked("red", "blue"), asked("up", "", (("one", "two"),))])
    # Its own BOS, and not the tokenizer's as well.
    assert first.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(first) == "<s>[user] red\n\nblue\n[assistant] "
    assert tokenizer.decode(later) == "<s>[user] one\n[assistant] two\n[user] up\n[assistant] "
    # Any special token ends a turn; there is no marker of another template to look for.
    assert asking.stops.strings == ()
    assert set(asking.stops.token_ids) == {0, 1, 2}


def test_a_chat_template_that_refuses_is_named(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = "{{ raise_exception('no user, no talk') }}"
    with pytest.raises(ModelError, match="refuses a conversation: no user, no talk"):
        fair_asking(tokenizer, BUILT_IN).encode([asked("red")])


@pytest.mark.parametrize(
    "name", ["instruction-context-response", "instruction-optional-context-response"]
)
def test_worked_examples_stand_before_the_question(
    tokenizer: PreTrainedTokenizerBase, name: str
) -> None:
    template = parse_template(name)
    asking = ExamplesAsking(tokenizer, template)
    text = asking.text(asked("Why?", "Because.", (("red", "green"),)))
    for question, answer in WORKED_EXAMPLES:
        assert template.text(question, "", answer) + "\n" in text
    assert text.endswith(
        template.text("red", "", "green") + "\n" + template.prompt("Why?", "Because.")
    )
    assert text.count("### Instruction:") == len(WORKED_EXAMPLES) + 2
    (ids,) = asking.encode([asked("Why?", "Because.", (("red", "green"),))])
    assert ids == token_ids(tokenizer, [text])[0]


@pytest.mark.parametrize(
    ("template", "starts"),
    [
        (BUILT_IN, ("\n### Instruction:", "\n### Context:", "\n### Response:")),
        (
            parse_template("instruction-optional-context-response"),
            ("\n### Instruction:", "\n### Context:", "\n### Response:"),
        ),
        (parse_template("Q: {instruction}\nA: {response}\n"), ("\nQ:", "\nA:")),
        (
            parse_template(
                "Below is a task.\n\n### Task:\n{instruction}\n\n=>\n{response}\n---\nEnd"
            ),
            ("\nBelow is a task.", "\n### Task:", "\nEnd"),
        ),
        (parse_template("{instruction}\n{context}\n{response}\n"), ()),
    ],
    ids=["built-in", "optional", "letters", "lines", "none"],
)
def test_what_begins_a_section(template: Template, starts: tuple[str, ...]) -> None:
    assert section_starts(template) == starts


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Paris.\n\n### Instruction:\nAnd Rome?", "Paris.\n"),
        ("Paris.\n### Response:\nRome.\n\n### Instruction:\n", "Paris."),
        ("### Response:\nParis", ""),
        ("\n### Response:\nParis", ""),
        ("In Markdown, ### Instruction: is a heading.", None),
        ("Paris", None),
        ("", None),
    ],
)
def test_where_an_answer_is_cut(text: str, kept: str | None) -> None:
    cut = first_marker(text, section_starts(BUILT_IN))
    assert (None if cut is None else text[:cut]) == kept
    assert first_marker(text, ()) is None


# --- turns -----------------------------------------------------------------------------------


def mt_prompts(
    tokenizer: PreTrainedTokenizerBase, make: Callable[..., Question]
) -> tuple[Prompt, ...]:
    questions = [make("m1", "red", "blue"), make("m2", "one", "two")]
    return tuple(benchmark_prompts(tokenizer, BUILT_IN, questions))


@pytest.fixture
def make_question() -> Callable[..., Question]:
    from tuneproof.data.questions import Question

    def make(name: str, *turns: str) -> Question:
        return Question(id=name, benchmark="mt_bench", category="writing", turns=turns)

    return make


def said(question: str, text: str, *, error: str | None = None, turn: int = 1) -> Answer:
    return Answer(
        key=f"{question}/{turn}", question_id=question, benchmark="mt_bench", turn=turn,
        arm=Arm.TUNED, adapter=3, text=text, stop=Stop.ERROR if error else Stop.EOS,
        n_prompt_tokens=1, n_tokens=1, error=error,
    )  # fmt: skip


def test_a_later_turn_is_built_from_answers_or_not_at_all(
    tokenizer: PreTrainedTokenizerBase, make_question: Callable[..., Question]
) -> None:
    prompts = mt_prompts(tokenizer, make_question)
    assert [(p.question_id, p.turn, p.token_ids is None) for p in prompts] == [
        ("m1", 1, False), ("m1", 2, True), ("m2", 1, False), ("m2", 2, True),
    ]  # fmt: skip
    interview = Interview(
        who=Respondent(Arm.TUNED, 3),
        asking=TemplateAsking(tokenizer, BUILT_IN),
        prompts=prompts,
        weights="w",
    )
    asks, failed = turn_asks(interview, [p for p in prompts if p.turn == 1], {})
    assert [a.token_ids for a in asks] == [p.token_ids for p in prompts if p.turn == 1]
    assert failed == []
    answers = {("m1", 1): said("m1", "", error="boom"), ("m2", 1): said("m2", "three")}
    asks, failed = turn_asks(interview, [p for p in prompts if p.turn == 2], answers)
    (ask,) = asks
    conversation = BUILT_IN.conversation([("one", "three")], "two")
    assert list(ask.token_ids) == token_ids(tokenizer, [conversation])[0]
    (answer,) = failed
    assert (answer.question_id, answer.turn, answer.arm, answer.adapter) == ("m1", 2, Arm.TUNED, 3)
    assert (answer.stop, answer.text) == (Stop.ERROR, "")
    assert answer.error == "not asked: the answer to turn 1 failed (boom)"


# --- the plan --------------------------------------------------------------------------------


def test_what_a_key_covers(
    tokenizer: PreTrainedTokenizerBase, make_question: Callable[..., Question]
) -> None:
    """Who, turn, stops and the whole batch, which mixes benchmarks."""
    mine = [p for p in mt_prompts(tokenizer, make_question) if p.turn == 1]
    others = [p.model_copy(update={"benchmark": "heldout", "question_id": f"h{i}"})
              for i, p in enumerate(mine)]  # fmt: skip

    def keys(prompts: list[Prompt], who: Respondent = BASE, stops: Stops = Stops()) -> set[str]:  # noqa: B008
        batches = batches_of(prompts, Generate(batch_size=64), who=who, stops=stops)
        assert len(batches) == 1
        return set(batches[0].keys)

    second = [p.model_copy(update={"turn": 2}) for p in mine]
    kinds = [
        keys(mine),
        keys([*others, *mine]),
        keys(second),
        keys(mine, FAIR_BASE),
        keys(mine, TUNED),
        keys(mine, Respondent(Arm.TUNED, 2)),
        keys(mine, stops=Stops(strings=("\nx",))),
        keys(mine, stops=Stops(token_ids=(5,))),
    ]
    for left, right in itertools.combinations(kinds, 2):
        assert left.isdisjoint(right)


# --- the back end ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapters(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two saved adapters that do something, and not the same."""
    folders = []
    for seed in (3, 4):
        tuned = add_lora(
            load_model(Model(id=str(tiny_model), dtype="float32")),
            Lora(r=4, alpha=8, dropout=0.0, target_modules="all-linear"),
        )
        torch.manual_seed(seed)
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.3)
        folder = tmp_path_factory.mktemp("adapters") / str(seed)
        tuned.save_pretrained(str(folder))
        folders.append(folder)
    return folders


def backend_of(tiny_model: Path, folders: list[Path]) -> TransformersBackend:
    model = Model(id=str(tiny_model), dtype="float32")
    return TransformersBackend(load_adapters(load_model(model), folders), load_tokenizer(model))


def test_each_adapter_is_itself_and_base_is_none_of_them(
    tiny_model: Path, adapters: list[Path], tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = token_ids(tokenizer, ["red green blue", "north south east west"])
    both = backend_of(tiny_model, adapters)
    second = Respondent(Arm.TUNED, 2)
    alone = [backend_of(tiny_model, [folder]).nll(rows, TUNED) for folder in adapters]
    plain = backend_of(tiny_model, adapters[:1]).nll(rows, BASE)
    # In any order, since what was active before must not matter.
    for who, expected in ((second, alone[1]), (BASE, plain), (TUNED, alone[0]),
                          (FAIR_BASE, plain), (second, alone[1]), (BASE, plain)):  # fmt: skip
        assert both.nll(rows, who) == expected
    assert alone[0] != alone[1]
    with pytest.raises(ModelError, match="no trained adapter"):
        load_adapters(load_model(Model(id=str(tiny_model), dtype="float32")), [])


def test_stop_strings_cut_what_follows_and_change_nothing_else(
    tiny_model: Path, adapters: list[Path], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Sampled, since this model is greedy for one word; each row's draws stay the same."""
    backend = backend_of(tiny_model, adapters)
    words = ["red", "green", "blue", "one", "two", "three", "four", "north"]
    prompts = [
        Prompt(
            question_id=f"q{i}", benchmark="b", category=None, instruction="", context="",
            token_ids=tuple(token_ids(tokenizer, [" ".join(words[: i + 1])])[0]),
            reference=None, checkable=False,
        )
        for i in range(8)
    ]  # fmt: skip
    (batch,) = batches_of(
        prompts, Generate(batch_size=8, max_new_tokens=24, temperature=1.0), who=FAIR_BASE
    )

    def answers(stops: Stops) -> dict[str, Answer]:
        return {a.question_id: a for a in backend.answer(replace(batch, stops=stops))}

    whole = answers(Stops())
    assert {a.stop for a in whole.values()} == {Stop.LENGTH}
    # A string that some answers hold and others do not; longer ones span several tokens.
    texts = [a.text for a in whole.values()]
    pieces = {t[i : i + n] for t in texts for n in (9, 6, 4) for i in range(1, len(t) - n)}
    held = {p: sum(p in t for t in texts) for p in pieces}
    string = min((p for p, n in held.items() if 1 < n < len(texts)), key=lambda p: (-len(p), p))
    cut = answers(Stops(strings=(string,)))
    stopped = 0
    for question, answer in cut.items():
        before, found, _ = whole[question].text.partition(string)
        assert answer.text == before.strip()
        if found:
            stopped += 1
            assert answer.stop is Stop.STOP_STRING
            assert answer.stop.by_itself
            assert answer.n_tokens < whole[question].n_tokens
            # The tokens before the cut; tokenized again, its first word may be another one.
            again = len(token_ids(tokenizer, [" " + before])[0]) - 1  # the BOS
            assert abs(answer.n_tokens - again) <= 1
        else:
            assert (answer.stop, answer.n_tokens) == (Stop.LENGTH, 24)
    assert 1 < stopped < 8


def test_a_batch_ends_when_every_row_has_stopped(
    tiny_model: Path, adapters: list[Path], tokenizer: PreTrainedTokenizerBase
) -> None:
    model = Model(id=str(tiny_model), dtype="float32")
    loaded = load_adapters(load_model(model), adapters)
    steps = []
    loaded.get_base_model().register_forward_hook(lambda *_: steps.append(1))
    backend = TransformersBackend(loaded, tokenizer)
    (ids,) = token_ids(tokenizer, ["red green blue one two"])
    prompt = Prompt(
        question_id="q", benchmark="b", category=None, instruction="", context="",
        token_ids=tuple(ids), reference=None, checkable=False,
    )  # fmt: skip

    def answer(stops: Stops) -> tuple[Answer, int]:
        steps.clear()
        return backend.answer(replace(batch, stops=stops))[0], len(steps)

    (batch,) = batches_of([prompt], Generate(max_new_tokens=100, temperature=1.0), who=FAIR_BASE)

    whole, n_whole = answer(Stops())
    assert n_whole == 100
    third = whole.text.split()[2]
    cut, n_cut = answer(Stops(strings=(f" {third}",)))
    assert cut.stop is Stop.STOP_STRING
    assert n_cut < 40
    # A token can end an answer too: the one after the first.
    (second,) = token_ids(tokenizer, [whole.text])
    ended, n_ended = answer(Stops(token_ids=(second[3],)))
    assert (ended.stop, n_ended) == (Stop.STOP_STRING, ended.n_tokens + 1)
