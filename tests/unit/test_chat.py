"""Base and tuned side by side: what they say, what is kept, and what reaches the terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tests.terminal import Terminal, foreign, plain, widest
from tuneproof.chat.pair import Pair, load_pair
from tuneproof.chat.session import ChatTurn, Said, Session
from tuneproof.errors import StageError, UsageError
from tuneproof.generate.asking import Asked
from tuneproof.progress import SilentReporter
from tuneproof.recipe import Generate
from tuneproof.recipe_file import load_recipe
from tuneproof.records import Arm
from tuneproof.workspace import RunDir, read_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

TEMPLATE = "{instruction} {response}"


@pytest.fixture(scope="module")
def parts(tiny_model: Path) -> tuple[object, object]:
    """The tiny model with an adapter that says other things than it."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    tuned = get_peft_model(model, config)
    tuned.eval()
    return tuned, AutoTokenizer.from_pretrained(tiny_model)


def pair_of(parts: tuple[object, object], **settings: object) -> Pair:
    model, tokenizer = parts
    return Pair(
        model,  # type: ignore[arg-type]
        tokenizer,  # type: ignore[arg-type]
        template=TEMPLATE,
        settings=Generate.model_validate({"max_new_tokens": 12, **settings}),
        seed=5,
    )


def both(instruction: str) -> dict[Arm, Asked]:
    return {arm: Asked(instruction=instruction, context="") for arm in (Arm.BASE, Arm.TUNED)}


def test_each_says_what_generate_says(parts: tuple[object, object]) -> None:
    """Stepping one token of each in turn changes nothing: greedy answers are transformers' own."""
    model, tokenizer = parts
    *_, last = pair_of(parts).stream(both("red green blue"), turn=1)
    ids = tokenizer("red green blue ", return_tensors="pt")["input_ids"]  # type: ignore[operator]
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=12, do_sample=False, pad_token_id=2, eos_token_id=2
    )

    def generated() -> str:
        out = model.generate(input_ids=ids, generation_config=config)  # type: ignore[attr-defined]
        return str(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))  # type: ignore[attr-defined]

    assert last[Arm.TUNED].text == generated()
    with model.disable_adapter():  # type: ignore[attr-defined]
        assert last[Arm.BASE].text == generated()
    assert last[Arm.BASE].text != last[Arm.TUNED].text
    assert last[Arm.BASE].end in ("eos", "length")


def test_it_streams_and_a_drawn_answer_can_be_drawn_again(parts: tuple[object, object]) -> None:
    pair = pair_of(parts, temperature=1.0, top_p=0.9)
    states = list(pair.stream(both("one two"), turn=1))
    assert 2 <= len(states) <= 12
    assert [s[Arm.TUNED].n_tokens for s in states[:2]] == [1, 2]
    assert all(one.end is not None for one in states[-1].values())
    assert list(pair.stream(both("one two"), turn=1)) == states
    assert list(pair.stream(both("one two"), turn=2)) != states


def test_a_prompt_without_room_is_refused(parts: tuple[object, object]) -> None:
    with pytest.raises(UsageError, match="exceed the model's context of 256"):
        next(pair_of(parts).stream(both("red " * 300), turn=1))


class Scripted:
    """Says what it was given, and keeps what it was asked."""

    settings = Generate(max_new_tokens=8)

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[Mapping[Arm, Asked]] = []

    def stream(self, asked: Mapping[Arm, Asked], *, turn: int) -> Iterator[dict[Arm, Said]]:
        self.asked.append(asked)
        yield {arm: Said(text="…") for arm in asked}
        yield {arm: Said(text=f"{arm} {turn} {self.text}", n_tokens=3, end="eos") for arm in asked}


class Noted:
    """A screen that keeps lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def answers(self, stream: Iterator[dict[Arm, Said]]) -> dict[Arm, Said]:
        *_, last = stream
        return last

    def line(self, text: str) -> None:
        self.lines.append(text)


def test_a_conversation_goes_on_from_each_models_own_answers(tmp_path: Path) -> None:
    pair, screen = Scripted("said"), Noted()
    session = Session(pair, screen, tmp_path / "chat")
    for line in ("/save", "first", "", "second", "/nonsense", "/save"):
        assert session.say(line)
    assert pair.asked[1][Arm.BASE].earlier == (("first", "base 1 said"),)
    assert pair.asked[1][Arm.TUNED].earlier == (("first", "tuned 1 said"),)
    assert screen.lines[0] == "nothing was asked yet"
    assert screen.lines[1].startswith("no such command: /nonsense")
    (file,) = (tmp_path / "chat").glob("*.jsonl")
    saved = read_records(file, ChatTurn)
    assert [(t.turn, t.instruction, t.tuned.text) for t in saved] == [
        (1, "first", "tuned 1 said"), (2, "second", "tuned 2 said"),
    ]  # fmt: skip
    assert (saved[0].max_new_tokens, saved[0].tuned.end) == (8, "eos")
    session.say("third")
    session.say("/save")
    assert len(read_records(file, ChatTurn)) == 3  # the same file, whole
    session.say("/new")
    session.say("other")
    assert pair.asked[-1][Arm.BASE].earlier == ()
    session.say("/save")
    assert len(list((tmp_path / "chat").glob("*.jsonl"))) == 2
    assert not session.say("/quit")


HOSTILE_SCREEN = """
import sys
from tuneproof.chat.session import Said
from tuneproof.chat.show import Screen
from tuneproof.records import Arm
bad = "x\\x1b[2J\\x1b]0;owned\\x07\\x9b31m\\u202egnp\\r\\b[bold]markup[/bold] \\ud800 "
bad += "long " * 60
def stream():
    for n in range(3):
        yield {arm: Said(text=bad, n_tokens=n, end="eos" if n == 2 else None)
               for arm in (Arm.BASE, Arm.TUNED)}
screen = Screen()
screen.answers(stream())
screen.line("ours \\x1b[2J")
"""


@pytest.mark.parametrize("columns", [80, 160])
def test_hostile_text_is_only_text(columns: int) -> None:
    terminal = Terminal(columns=columns, program=("-c", HOSTILE_SCREEN))
    assert terminal.finish() == 0
    assert foreign(terminal.seen) == ""
    assert "\x1b[2J" not in terminal.seen
    assert "\x1b]" not in terminal.seen
    assert widest(terminal.seen) <= columns
    joined = "".join(plain(terminal.seen).split())
    assert "␛[2J" in joined
    assert "[bold]markup[/bold]" in joined
    piped = subprocess.run(
        [sys.executable, "-c", HOSTILE_SCREEN], capture_output=True, check=True
    ).stdout.decode("utf-8")
    assert foreign(piped) == ""
    assert "\x1b" not in piped
    assert piped.startswith("base (2 tokens, ended by itself)\nx␛[2J")


INTERRUPTED_SCREEN = """
import signal
from tuneproof.chat.session import Said
from tuneproof.chat.show import Screen
from tuneproof.records import Arm
def stream():
    yield {Arm.BASE: Said(text="all of it", n_tokens=3, end="eos"),
           Arm.TUNED: Said(text="half", n_tokens=5)}
    signal.raise_signal(signal.SIGINT)
    yield {}
said = Screen().answers(stream())
print("ends:", said[Arm.BASE].end, said[Arm.TUNED].end)
"""


def test_an_answer_that_ctrl_c_ended_says_so() -> None:
    terminal = Terminal(columns=80, program=("-c", INTERRUPTED_SCREEN))
    assert terminal.finish() == 0
    last = plain(terminal.seen).split("half")[-2]
    assert "3 tokens, ended by itself" in last
    assert "5 tokens, interrupted" in last
    assert "ends: eos interrupted" in plain(terminal.seen)
    piped = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_SCREEN], capture_output=True, check=True, text=True
    )
    assert piped.stdout == (
        "base (3 tokens, ended by itself)\nall of it\ntuned (5 tokens, interrupted)\nhalf\n"
        "ends: eos interrupted\n"
    )


def test_a_real_run(tmp_path: Path, tiny_recipe: Callable[..., Path]) -> None:
    """In a terminal, in a pipe, as JSON; saved in the run, which stays fresh."""
    run = tmp_path / "run"

    def tuneproof(*words: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tuneproof", *map(str, words)],
            input=stdin, capture_output=True, text=True, check=False,
        )  # fmt: skip

    with pytest.raises(StageError, match="train has not finished"):
        load_pair(load_recipe(tiny_recipe()), RunDir(run), SilentReporter())
    assert tuneproof("train", tiny_recipe(), "--run-dir", run).returncode == 0
    terminal = Terminal("chat", run, columns=80)
    terminal.wait_for("> ")
    terminal.type("red green")
    terminal.wait_for("> ")
    terminal.type("/save")
    terminal.wait_for("saved 1 turn")
    terminal.type("/quit")
    assert terminal.finish() == 0
    assert foreign(terminal.seen) == ""
    assert widest(terminal.seen) <= 80
    assert "tokens, " in plain(terminal.seen)
    (saved,) = (run / "chat").glob("*.jsonl")
    once = tuneproof("chat", run, "--prompt", "red green", "--json")
    assert [ChatTurn.model_validate_json(once.stdout)] == read_records(saved, ChatTurn)
    piped = tuneproof("chat", run, stdin="red green\nblue\n/nothing\n")
    assert piped.stdout.count("base (") == piped.stdout.count("tuned (") == 2
    assert "no such command: /nothing" in piped.stdout
    assert tuneproof("chat", run, "--json").returncode == 2
    status = json.loads(tuneproof("status", run, "--json").stdout)
    assert [s["state"] for s in status][:2] == ["fresh", "fresh"]
