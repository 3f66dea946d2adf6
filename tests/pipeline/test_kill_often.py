"""SIGKILL at ten random moments of a stage, one after another; then the bytes of a run left alone.

The moments are drawn over the whole of the stage, by what has reached its journals.
"""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import benchmark_file, shared
from tests.fakes import ChatServer, Garbage, Says, Status, shown
from tests.pipeline.test_pipeline import execute, make_run
from tuneproof.benchmark_files import MT_BENCH_QUESTIONS
from tuneproof.records import Answer, BatchPlan, Judgment, SequenceLoss
from tuneproof.workspace import RunDir, digest_file, read_records

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.fakes import Behaviour

KILLS = 10

# Children of a process that has the imports behind it: a kill then costs no ten seconds.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.pipeline.killed_stages"])


def work(recipe: Path, folder: Path, until: str) -> None:
    execute(make_run(recipe, folder), until=until)


def lines(paths: Sequence[Path]) -> int:
    return sum(p.read_bytes().count(b"\n") for p in paths if p.exists())


def kill_ten_times(recipe: Path, folder: Path, stage: str, journals: list[Path], n: int) -> None:
    """Let ten processes begin the stage and kill each, with more and more of ``n`` lines there."""
    draw = random.Random(29)
    # Not the last lines: a process that has written these may end before it is killed.
    moments = sorted(draw.randrange(int(n * 0.9)) for _ in range(KILLS))
    killed_at = []
    for moment in moments:
        before = lines(journals)
        child = FORKS.Process(target=work, args=(recipe, folder, stage))
        child.start()
        deadline = time.monotonic() + 60
        while lines(journals) < max(moment, before + 1):
            assert child.is_alive(), f"it ended by itself at {lines(journals)} of {n} lines"
            assert time.monotonic() < deadline, "what was waited for never came"
            time.sleep(0.0005)
        time.sleep(draw.random() / 200)
        child.kill()
        child.join()
        assert child.exitcode == -9
        # In the middle: begun, something written, and not done.
        assert (folder / stage / "begun.json").exists()
        assert RunDir(folder).manifest(stage) is None
        assert before < lines(journals) < n
        killed_at.append(lines(journals))
    # The moments lie all over the stage.
    assert len(killed_at) == KILLS
    assert killed_at[0] < n * 0.4
    assert killed_at[-1] > n * 0.6


@pytest.mark.parametrize("turns", [1, 2])
def test_while_answering(
    tmp_path: Path,
    tiny_recipe: Callable[..., Path],
    roomy_model: Path,
    turns: int,
) -> None:
    """Sampled answers; with MT-Bench, second turns beside first ones."""
    sections: dict[str, Any] = {}
    if turns == 2:
        benchmark_file(MT_BENCH_QUESTIONS)
        sections = {
            # Not in the environment: the children have that of the server they are forked from.
            "assets": str(shared("mt_bench").parent),
            # MT-Bench has no reference to be scored by; nobody is asked here.
            "judge": {"base_url": "http://127.0.0.1:9/v1", "api_key_env": None},
            "model": {"id": str(roomy_model), "dtype": "float32"},
            "evaluate": [
                {"benchmark": "heldout", "questions": 20},
                {"benchmark": "mt_bench", "questions": 18, "temperatures": "category"},
            ],
        }
    recipe = tiny_recipe(
        n_rows=200,
        generate={"max_new_tokens": 24, "batch_size": 4, "temperature": 0.8, "top_p": 0.9},
        **sections,
    )
    folder, alone = tmp_path / "killed", tmp_path / "alone"
    execute(make_run(recipe, folder), until="train")
    shutil.copytree(folder, alone)
    execute(make_run(recipe, alone), until="generate")
    n_losses = len(read_records(alone / "generate/heldout_loss.jsonl", SequenceLoss))
    n_answers = len(read_records(alone / "generate/answers.jsonl", Answer))
    assert (n_losses, n_answers) == ((120, 120) if turns == 1 else (40, 112))

    journals = [folder / f"generate/{n}.journal.jsonl" for n in ("losses", "answers")]
    kill_ten_times(recipe, folder, "generate", journals, n_losses + n_answers)
    plan = (folder / "generate/plan.json").read_bytes()
    execute(make_run(recipe, folder), until="generate")

    assert (folder / "generate/plan.json").read_bytes() == plan
    for name in ("plan.json", "answers.jsonl", "heldout_loss.jsonl", "prompts.jsonl",
                 "answers.journal.jsonl", "losses.journal.jsonl"):  # fmt: skip
        assert digest_file(folder / "generate" / name) == digest_file(alone / "generate" / name)
    keys = [a.key for a in read_records(journals[1], Answer)]
    assert len(set(keys)) == len(keys) == n_answers
    mixed = [
        b for b in BatchPlan.model_validate_json(plan).batches if len({n for _, n in b.turns}) > 1
    ]
    assert bool(mixed) == (turns == 2)


def test_while_judging(tmp_path: Path, tiny_recipe: Callable[..., Path]) -> None:
    """By an endpoint that fails now and then; what was recorded is never asked for again."""
    moods = random.Random(3)
    bad: list[Behaviour] = []

    def reply(request: dict[str, Any]) -> Behaviour:
        if moods.random() < 0.1:
            failures: list[Behaviour] = [Status(429), Status(500), Garbage()]
            bad.append(moods.choice(failures))
            return bad[-1]
        a, b = (len(shown(request, f"answer-{letter}")) for letter in "AB")
        return Says(f"VERDICT: {'TIE' if a == b else 'A' if a > b else 'B'}")

    folder, alone = tmp_path / "killed", tmp_path / "alone"
    with ChatServer(reply) as server:
        recipe = tiny_recipe(
            n_rows=200,
            judge={
                "base_url": server.url, "api_key_env": None, "model": "m", "concurrency": 4,
                "decompose": False, "checks": {"controls": 0, "repeats": 0},
            },
        )  # fmt: skip
        execute(make_run(recipe, folder), until="generate")
        shutil.copytree(folder, alone)
        execute(make_run(recipe, alone), until="judge")
        n = len(read_records(alone / "judge/judgments.jsonl", Judgment))
        assert n == 120
        server.received.clear()
        bad.clear()
        journal = folder / "judge/journal.jsonl"
        kill_ten_times(recipe, folder, "judge", [journal], n)
        execute(make_run(recipe, folder), until="judge")
        # One that had its reply recorded is not among those: at most four were in flight each time.
        assert n < len(server.received) <= n + len(bad) + KILLS * 4
    for name in ("judgments.jsonl", "preferences.jsonl"):
        assert digest_file(folder / "judge" / name) == digest_file(alone / "judge" / name)
    keys = [j.key for j in read_records(journal, Judgment)]
    assert len(set(keys)) == len(keys) == n
