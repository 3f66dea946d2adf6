"""A judge in this process, on a tiny model: its replies, their probabilities, and the stage."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.unit.judge_case import ask, recorded
from tuneproof.endpoint.transport import Failed
from tuneproof.errors import ModelError
from tuneproof.judge.clients import Reply, check, endpoint, make_client
from tuneproof.recipe import Judge, Model
from tuneproof.train.model import choose_dtype

if TYPE_CHECKING:
    from pathlib import Path

CHAT = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture
def chat_model(tiny_model: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "chat"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text(CHAT)
    # What a model's folder suggests must not leak into a judge's settings.
    path = folder / "generation_config.json"
    suggested = json.loads(path.read_text())
    path.write_text(
        json.dumps(suggested | {"do_sample": True, "top_k": 1, "repetition_penalty": 9.0})
    )
    return folder


def local(folder: Path) -> Judge:
    return Judge(kind="local", model=str(folder))


def loaded(folder: Path) -> Any:
    """The model in the type of numbers that this machine's judge computes in."""
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=choose_dtype(Model(id=str(folder))), attn_implementation="sdpa"
    )


def request(**more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "red green blue one two three"}]
    return {"messages": messages, "max_tokens": 12, "temperature": 0.0} | more


def say(folder: Path, *requests: dict[str, Any], key: str = "k") -> list[Reply | Failed]:
    async def go() -> list[Reply | Failed]:
        client = make_client(local(folder))
        said = [await client.ask(r, key=key) for r in requests]
        await client.close()
        return said

    return asyncio.run(go())


def test_greedy_is_what_the_model_says(chat_model: Path) -> None:
    (said,) = say(chat_model, request())
    assert isinstance(said, Reply)
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    model = loaded(chat_model)
    text = "<s>[user] red green blue one two three\n[assistant] "
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    # By hand, a token at a time.
    new: list[int] = []
    for _ in range(12):
        whole = torch.cat([ids, torch.tensor([new], dtype=torch.long)], dim=1)
        new.append(int(model(whole).logits[0, -1].argmax()))
        if new[-1] == tokenizer.eos_token_id:
            break
    assert said.completion_tokens == len(new)
    assert said.prompt_tokens == ids.shape[1]
    assert said.text == tokenizer.decode(new, skip_special_tokens=True)
    assert said.finish_reason == ("stop" if new[-1] == tokenizer.eos_token_id else "length")
    assert said.top_logprobs is None


def test_the_first_tokens_probabilities(chat_model: Path) -> None:
    wanted = request(max_tokens=1, temperature=1, logprobs=True, top_logprobs=5)
    (said,) = say(chat_model, wanted)
    assert isinstance(said, Reply)
    assert said.top_logprobs is not None
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    model = loaded(chat_model)
    text = "<s>[user] red green blue one two three\n[assistant] "
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    p = torch.softmax(model(ids).logits[0, -1].float(), dim=-1)
    best = torch.topk(p, 5)
    assert [t for t, _ in said.top_logprobs] == [tokenizer.decode([i]) for i in best.indices]
    assert [math.exp(v) for _, v in said.top_logprobs] == pytest.approx(
        best.values.tolist(), rel=1e-4
    )
    assert said.completion_tokens == 1


def test_sampling_depends_on_the_key_alone(chat_model: Path) -> None:
    hot = request(temperature=1.5)
    first, second = say(chat_model, hot, hot, key="a")
    torch.manual_seed(123)
    (later,) = say(chat_model, hot, key="a")
    assert first == second == later
    assert len({str(say(chat_model, hot, key=str(i))[0]) for i in range(4)}) > 1


def test_a_prompt_beyond_the_context_fails_and_is_not_cut(chat_model: Path) -> None:
    long = request(messages=[{"role": "user", "content": "red " * 300}])
    failed, fine = say(chat_model, long, request())
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.again) == ("longer than the judge's context", False)
    assert isinstance(fine, Reply)


def test_a_template_without_room_for_a_system_message(chat_model: Path) -> None:
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    system = {"role": "system", "content": "red"}
    user = {"role": "user", "content": "blue"}
    (chat_model / "chat_template.jinja").write_text(refuses + CHAT)
    asked = say(
        chat_model,
        request(messages=[system, user]),
        request(messages=[{"role": "user", "content": "red\n\nblue"}]),
    )
    assert asked[0] == asked[1]
    assert isinstance(asked[0], Reply)
    (chat_model / "chat_template.jinja").write_text("{{ raise_exception('never') }}")
    with pytest.raises(ModelError, match="refuses a question: never"):
        make_client(local(chat_model))


def test_a_model_that_is_no_judge(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no chat template"):
        make_client(local(tiny_model))
    with pytest.raises(ModelError, match=r"judge\.model"):
        check(local(tmp_path / "none"))


def test_other_weights_are_another_judge(chat_model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(chat_model, other)
    assert endpoint(local(other)) == endpoint(local(chat_model))
    replay = Judge(kind="replay", journal="j", base_url="local", model=str(chat_model))
    assert endpoint(replay) == endpoint(local(chat_model))
    third = tmp_path / "third"
    shutil.copytree(chat_model, third)
    (third / "tokenizer.json").write_text((third / "tokenizer.json").read_text() + "\n")
    assert endpoint(local(third)) != endpoint(local(chat_model))


def test_it_answers_through_ask_all(chat_model: Path, tmp_path: Path) -> None:
    asked = ask(tmp_path, local(chat_model), range(3))
    assert (asked.failures, asked.usd) == ({}, 0.0)
    rows = recorded(tmp_path)
    assert [r.key for r in rows] == ["k0", "k1", "k2"]
    assert ask(tmp_path, local(chat_model), range(3)).n_requests == 0
    assert all(r.completion_tokens for r in rows)
