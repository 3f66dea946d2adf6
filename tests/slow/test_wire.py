"""A real OpenAI-compatible server on loopback, with a real (and weak) model behind it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import benchmark_file, shared
from tuneproof.assets import ensure_model, find_asset
from tuneproof.audit.audit import audit_file
from tuneproof.benchmark_files import ALPACA_EVAL_PROMPT
from tuneproof.data.questions import Question
from tuneproof.data.templates import parse_template
from tuneproof.export.write import export_run
from tuneproof.generate.answers import Interview
from tuneproof.generate.asking import TemplateAsking
from tuneproof.generate.plan import BASE, Respondent
from tuneproof.generate.prompts import benchmark_prompts
from tuneproof.generate.served import ask_server
from tuneproof.progress import SilentReporter
from tuneproof.recipe import Generate, Model, Server
from tuneproof.records import Arm, Judgment
from tuneproof.results import Outcome, Results
from tuneproof.score.alpaca_eval import score_alpaca_eval
from tuneproof.score.mt_bench import score_mt_bench
from tuneproof.train.model import load_tokenizer
from tuneproof.workspace import RunDir, read_records

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@contextmanager
def served(model: Path) -> Iterator[str]:
    """``transformers serve`` on a free port; yields its base URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = Path(sys.executable).with_name("transformers")
    process = subprocess.Popen(
        [str(command), "serve", str(model), "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    try:
        deadline = time.monotonic() + 180
        while True:
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server did not come up"
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def test_dolly_judged_by_a_weak_judge_is_inconclusive(tmp_path: Path) -> None:
    dolly = shared("databricks-dolly-15k.jsonl")
    judge = ensure_model(find_asset("smollm2-135m-instruct"))
    arguments = [
        f"data.source.path={dolly}",
        "train.max_steps=10",
        "train.eval_rows=40",
        "train.max_length=256",
        "evaluate=[{benchmark: heldout, questions: 12}]",
        "generate.max_new_tokens=48",
        "judge.api_key_env=null",
        f"judge.model={judge}",
        "judge.max_tokens=96",
        "judge.concurrency=2",
    ]
    with served(judge) as url:
        done = subprocess.run(
            [sys.executable, "-m", "tuneproof", "run", str(ROOT / "recipes/smollm2-dolly.yaml"),
             "--run-dir", str(tmp_path / "run"), "--json",
             *(x for a in [*arguments, f"judge.base_url={url}"] for x in ("--set", a))],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = Results.model_validate_json(done.stdout)
    assert results.verdict.outcome is Outcome.INCONCLUSIVE, results.verdict
    assert results.rows == {"train": 12_008, "validation": 1_501, "test": 1_502}
    judgments = read_records(tmp_path / "run/judge/judgments.jsonl", Judgment)
    assert len(judgments) == 24
    assert all(j.completion_tokens for j in judgments)
    assert json.loads((tmp_path / "run/judge/manifest.json").read_text())["unfinished"] == 0


def test_dolly_on_both_benchmarks_by_their_own_protocols(tmp_path: Path) -> None:
    """AlpacaEval's binary protocol and FastChat's pairs; tables, exported files, their score."""
    benchmark_file(ALPACA_EVAL_PROMPT)
    judge = ensure_model(find_asset("smollm2-135m-instruct"))
    arguments = [
        f"assets={shared('mt_bench').parent}",
        f"data.source.path={shared('databricks-dolly-15k.jsonl')}",
        "train.max_steps=4",
        "train.eval_rows=16",
        "train.max_length=256",
        "evaluate.0.questions=2",
        "evaluate.1.questions=12",
        "evaluate.1.protocol=binary",
        "evaluate.2.questions=4",
        "evaluate.2.max_tokens=128",
        "generate.max_new_tokens=64",
        "judge.api_key_env=null",
        f"judge.model={judge}",
        "judge.max_tokens=64",
        "judge.orders=1",
        "judge.concurrency=1",
        "judge.timeout_s=600",
    ]
    folder = tmp_path / "run"
    with served(judge) as url:
        done = subprocess.run(
            [sys.executable, "-m", "tuneproof", "run", str(ROOT / "recipes/smollm2-dolly.yaml"),
             "--run-dir", str(folder), "--json",
             *(x for a in [*arguments, f"judge.base_url={url}"] for x in ("--set", a))],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = Results.model_validate_json(done.stdout)
    pairwise = {n: b.pairwise for n, b in results.benchmarks.items() if b.pairwise is not None}
    assert {n: p.protocol for n, p in pairwise.items()} == {
        "heldout": "tuneproof-pairwise",
        "alpaca_eval": "alpaca-eval-binary",
        "mt_bench": "mt-bench-pairwise",
    }
    (line,) = pairwise["alpaca_eval"].alpaca_eval
    assert line.n_total + line.n_unscored + line.n_without_answers == 12
    assert line.n_total > 0, "the judge named neither m nor M"
    matches = pairwise["mt_bench"].mt_bench
    assert matches is not None
    assert matches.n_matches + matches.n_dropped + matches.n_without_answers == 8
    assert audit_file(folder / "report/report.md").problems == []

    exported = export_run(RunDir(folder), tmp_path / "out")
    (annotations,) = [p for p in exported.files if p.name == "annotations.json"]
    said = score_alpaca_eval(annotations).as_dict()
    for column in ("win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total",
                   "discrete_win_rate", "avg_length", "n_unscored"):  # fmt: skip
        assert said[column] == getattr(line, column), column
    (pairs,) = [p for p in exported.files if p.parent.name == "model_judgment"]
    table = score_mt_bench(pairs).pairs
    assert table is not None
    assert (table.n_matches, table.n_dropped) == (matches.n_matches, matches.n_dropped)
    for one in matches.lines:
        assert table.models[one.model].win_rate_adjusted == one.win_rate_adjusted


def test_answers_come_from_transformers_serve(tmp_path: Path) -> None:
    """Its completions take text alone, and one model, which answers for both arms here."""
    folder = ensure_model(find_asset("smollm2-135m-instruct"))
    tokenizer = load_tokenizer(Model(id=str(folder)))
    template = parse_template("instruction-context-response")
    question = Question(
        id="q", benchmark="mt_bench", category="math",
        turns=("Name three colours.", "And three more."),
    )  # fmt: skip
    prompts = tuple(benchmark_prompts(tokenizer, template, [question]))
    asking = TemplateAsking(tokenizer, template)
    journal = tmp_path / "answers.journal.jsonl"
    with served(folder) as url:
        answers = ask_server(
            [
                Interview(who=who, asking=asking, prompts=prompts, weights=who.name)
                for who in (BASE, Respondent(Arm.TUNED))
            ],
            Generate(
                max_new_tokens=16,
                backend="completions",
                server=Server(
                    base_url=url, base=str(folder), adapters=(str(folder),), prompts="text"
                ),
            ),
            tokenizer,
            seed=1,
            journal_file=journal,
            reporter=SilentReporter(),
        )
    assert answers.failed == 0, [a.error for a in answers.rows]
    assert [(a.turn, a.arm) for a in answers.rows] == [
        (1, Arm.BASE), (2, Arm.BASE), (1, Arm.TUNED), (2, Arm.TUNED),
    ]  # fmt: skip
    assert all(a.text and 0 < a.n_tokens <= 16 for a in answers.rows)
    # Greedy, so both arms say the same.
    assert [a.text for a in answers.rows[:2]] == [a.text for a in answers.rows[2:]]
