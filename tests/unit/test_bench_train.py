"""What bench/train.py gives its arms; the measuring itself is left to people."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

bench: Any = importlib.import_module("bench.train")


def test_an_arms_process_is_called_to_mean_the_same() -> None:
    """Whatever way the command was written."""
    words = ["--json", "./out.json", "--rows=32", "--data=./dolly.jsonl", "--threads", "2"]
    given = bench.parse([*words, "--model", "m", "--tokenizer", "./t", "--random-weights"])
    assert str(given.out) == "out.json"
    again = bench.parse([*bench.words_of(given), "--child", "3,0"])
    for name in ("model", "tokenizer", "random_weights", "data", "steps", "rounds", "threads"):
        assert getattr(again, name) == getattr(given, name)
    assert given.steps == 2


def test_rows_are_whole_steps_and_never_fewer_than_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bench.parse(["--model", "m", "--rows", "20"]).steps == 2
    assert "--rows 20: 32, whole optimizer steps of 16" in capsys.readouterr().err
    assert bench.parse(["--model", "m", "--rows", "16"]).steps == 1
    assert capsys.readouterr().err == ""


def test_random_weights_without_a_tokenizer_say_what_to_give(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        bench.parse(["--model", "meta-llama/Llama-2-7b-hf", "--random-weights"])
    assert "give --tokenizer the folder of Llama-2's" in capsys.readouterr().err


@pytest.mark.parametrize("flash", [False, True])
@pytest.mark.parametrize("kind", sorted({a.kind for a in bench.ARMS if a.needs}))
def test_a_peers_step_is_sixteen_rows_and_no_mask_spans_several(kind: str, flash: bool) -> None:
    told = bench.peer_settings(kind, flash=flash)
    by, times = told["per_device_train_batch_size"], told["gradient_accumulation_steps"]
    if told.get("packing"):
        # TRL's packing is free of padding: it joins the rows of a device under one mask.
        assert by == 1
        assert told["max_length"] * times == 4096
    else:
        assert by * times == 16
    assert flash or not told.get("padding_free")
    assert told.get("gradient_checkpointing", True) == (kind == "trl")
