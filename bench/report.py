"""What the report of 885 questions costs: to build, to open, to filter.

    python bench/report.py [--data DIR] [--json FILE] [--keep DIR]

AlpacaEval's 805 questions and MT-Bench's 80 of two turns, two models, both orders judged; and the
same of the first 300 and 80. ``--data`` is a folder with real ones, as the original tools write
them: ``alpaca_eval/annotations/*.json.gz``, and in ``mt_bench`` ``question.jsonl``,
``model_answer/*.jsonl`` and ``model_judgment/*.jsonl``. Without it,
texts of the same lengths are made up of random words.

Building runs in a process of its own, from records in memory (``write_report``: page, Markdown,
figures, tables), imports included; ``estimates_s`` are the statistics before it. Opening and
filtering are measured in Debian's chromium (extra ``browser``); where it is missing, they are left
out. ``opens_s`` is from the start of the navigation until the answers can be used; ``filter_ms`` is
from a change of a filter or the search until the page is laid out again, the slowest of 90, half a
second after opening; ``filter_at_once_ms`` is the slowest of 30 that do not wait.
There is no peer: ``ratios`` are measured / what was aimed at.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

AIMS = {"build_s": 3.0, "peak_mb": 500.0, "opens_s": 1.0, "filter_ms": 50.0}
SMALL_PAGE_MB = 3.0
SIZES = {"300 + 80 questions": (300, 80), "805 + 80 questions": (805, 80)}
REPEATS = 3
Pair = tuple[str, list[str], list[str], list[str]]  # category, questions, answers, other answers


# --- texts -------------------------------------------------------------------------------------


def real_texts(data: Path) -> tuple[list[Pair], list[Pair], list[str]]:
    """AlpacaEval's pairs, MT-Bench's pairs, judges' replies."""
    annotated = sorted((data / "alpaca_eval/annotations").glob("*.json.gz"))[-1]
    with gzip.open(annotated, "rt", encoding="utf-8") as file:
        alpaca = [
            (row.get("dataset", ""), [row["instruction"]], [row["output_1"]], [row["output_2"]])
            for row in json.load(file)
        ]
    questions = read_lines(data / "mt_bench/question.jsonl")
    answers = [
        {row["question_id"]: row["choices"][0]["turns"] for row in read_lines(path)}
        for path in sorted((data / "mt_bench/model_answer").glob("*.jsonl"))[:2]
    ]
    mt = [
        (q["category"], q["turns"], *(by_id[q["question_id"]] for by_id in answers))
        for q in questions
    ]
    replies = [
        row[key]
        for path in (data / "mt_bench/model_judgment").glob("*.jsonl")
        for row in read_lines(path)
        for key in ("g1_judgment", "g2_judgment")
    ]
    return alpaca, mt, replies


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def made_up_texts() -> tuple[list[Pair], list[Pair], list[str]]:
    """Random words; answers of 2,050 characters on the mean, as those of AlpacaEval's baseline."""
    draw = random.Random(0)
    letters = "etaoinshrdlucmfwypvbgkqjxz"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(6000)]

    def text(mean: float) -> str:
        n = max(1, round(draw.gammavariate(2.0, mean / 2) / 6.5))
        return " ".join(draw.choices(words, k=n))

    def pairs(n: int, turns: int) -> list[Pair]:
        return [
            (
                draw.choice(words[:8]),
                [text(165) for _ in range(turns)],
                [text(2050) for _ in range(turns)],
                [text(1400) for _ in range(turns)],
            )
            for _ in range(n)
        ]

    return pairs(805, 1), pairs(80, 2), [text(900) for _ in range(160)]


# --- building, in a process of its own ---------------------------------------------------------


def build(texts_file: Path, out: Path) -> None:
    """Make records of the texts, write the report into ``out``, print what it took as JSON."""
    from tuneproof.recipe_file import load_recipe
    from tuneproof.records import (
        Answer,
        Arm,
        Judgment,
        Ledger,
        LossPoint,
        Preference,
        Prompt,
        Stop,
        TrainingSummary,
    )
    from tuneproof.results import Outcome, Results, Verdict

    recipe = load_recipe(Path(__file__).parents[1] / "recipes/smollm2-dolly.yaml")
    alpaca, mt, replies = json.loads(texts_file.read_text("utf-8"))
    draw = random.Random(1)
    prompts, answers, judgments, preferences = [], [], [], []
    for benchmark, pairs in (("alpaca_eval", alpaca), ("mt_bench", mt)):
        for number, (category, asked, ours, theirs) in enumerate(pairs):
            question = f"mt-{number + 81}" if benchmark == "mt_bench" else f"alpaca-{number}"
            for turn, instruction in enumerate(asked, start=1):
                at = {"question_id": question, "benchmark": benchmark, "turn": turn}
                prompts.append(
                    Prompt(**at, category=category, instruction=instruction, context="",
                           token_ids=None, reference=None, checkable=False)
                )  # fmt: skip
                for arm, said in ((Arm.BASE, theirs), (Arm.TUNED, ours)):
                    text = said[turn - 1]
                    answers.append(
                        Answer(**at, key=f"{question}/{turn}/{arm}", arm=arm, text=text,
                               stop=draw.choice([Stop.EOS, Stop.EOS, Stop.LENGTH]),
                               n_prompt_tokens=50, n_tokens=max(1, len(text) // 4))
                    )  # fmt: skip
                both = [draw.choice("AB") for _ in range(2)]
                for first, prefers in zip((Arm.BASE, Arm.TUNED), both, strict=True):
                    judgments.append(
                        Judgment(**at, key=f"{question}/{turn}/{first}", opponent=Arm.BASE,
                                 protocol="tuneproof-pairwise", judge="gpt-4o-mini", first=first,
                                 prefers=prefers, reply=draw.choice(replies))
                    )  # fmt: skip
                tuned = [float(both[0] == "B"), float(both[1] == "A")]
                preferences.append(
                    Preference(**at, opponent=Arm.BASE, protocol="tuneproof-pairwise", orders=2,
                               value=sum(tuned) / 2, n_judgments=2, n_unparsed=0,
                               orders_agree=tuned[0] == tuned[1])
                )  # fmt: skip
    curve = [
        LossPoint(step=step, epoch=step / 751, train_loss=1.25 + 1 / (1 + step / 50))
        for step in range(10, 2254, 10)
    ]

    start = time.perf_counter()
    from tuneproof.stats.summary import summarize

    summary = summarize(
        losses=[], prompts=prompts, answers=answers, similarities=[], judgments=judgments,
        preferences=preferences, judge=recipe.judge, level=0.95, seed=recipe.seed,
    )  # fmt: skip
    estimated = time.perf_counter() - start
    found = summary.benchmarks["alpaca_eval"].pairwise
    assert found is not None
    results = Results(
        name=recipe.name,
        verdict=Verdict(outcome=Outcome.INCONCLUSIVE, sentence="Inconclusive.", reasons=(),
                        metric="win_rate", benchmark="alpaca_eval", against=Arm.BASE,
                        estimate=found.win_rate),
        heldout_loss=None,
        benchmarks=summary.benchmarks,
        training=TrainingSummary(
            steps=2253, epochs=3, trainable_parameters=1, total_parameters=2, tokens=3,
            supervised_tokens_per_epoch=1, eos_supervised_rows=1, rows=1, rows_dropped=0,
            rows_cut=0, responses_lost=0, best_step=None, best_eval_loss=None,
            final_train_loss=1.25, duration_s=1.0, dtype="bfloat16", device="none"),
        ledger=Ledger(read=1, kept=1),
        rows={},
    )  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    from tuneproof.report import write_report

    write_report(
        results, recipe=recipe, recipe_text="", curve=curve, prompts=prompts, answers=answers,
        similarities=[], judgments=judgments, preferences=preferences, manifests={},
        findings=[], out=out,
    )  # fmt: skip
    print(
        json.dumps(
            {
                "build_s": time.perf_counter() - start,
                "estimates_s": estimated,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "before_mb": before,
                "text_mb": (sum(len(a.text) for a in answers)
                            + sum(len(j.reply) for j in judgments)) / 1e6,
                "page_mb": (out / "index.html").stat().st_size / 1e6,
            }
        )
    )  # fmt: skip


# --- opening and filtering ---------------------------------------------------------------------

FILTER = """([id, value]) => {
  const control = document.getElementById(id);
  const start = performance.now();
  control.value = value;
  control.dispatchEvent(new Event(control.tagName === "INPUT" ? "input" : "change"));
  void document.body.offsetHeight;
  return performance.now() - start;
}"""
CHANGES = [
    ("text", "the"), ("text", "the w"), ("text", "zzzz"), ("text", ""),
    ("result", "tuned"), ("result", "tie"), ("result", ""),
    ("orders", "true"), ("orders", ""), ("length", "longer"), ("length", ""),
    ("stop", "tuned:length"), ("stop", ""), ("benchmark", "mt_bench"), ("benchmark", ""),
]  # fmt: skip


def open_page(page_file: Path) -> dict[str, float] | None:
    """Seconds until it can be used, milliseconds a filter takes; None without a browser."""
    program = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        return None
    opened: list[float] = []
    filtered: list[float] = []
    at_once: list[float] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for _ in range(REPEATS + 1):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(page_file.as_uri())
            page.wait_for_selector("#browser[data-ready]")
            ready = "performance.getEntriesByName('answers')[0].startTime"
            opened.append(page.evaluate(ready) / 1000)
            if len(opened) > 1:
                page.wait_for_timeout(500)
            times = [page.evaluate(FILTER, change) for change in 2 * CHANGES]
            (filtered if len(opened) > 1 else at_once).extend(times)
            page.close()
        browser.close()
    return {
        "opens_s": max(opened),
        "opens_median_s": statistics.median(opened),
        "filter_ms": max(filtered),
        "filter_median_ms": statistics.median(filtered),
        "filter_at_once_ms": max(at_once),
    }


def main() -> None:
    """Build, open and filter the reports of all sizes, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="keep the reports in this folder")
    parser.add_argument("--build", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        build(*options.build)
        return
    alpaca, mt, replies = real_texts(options.data) if options.data else made_up_texts()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (n_alpaca, n_mt) in SIZES.items():
            out = (options.keep or Path(folder)) / name.replace(" ", "")
            out.mkdir(parents=True, exist_ok=True)
            texts = Path(folder) / "texts.json"
            texts.write_text(json.dumps([alpaca[:n_alpaca], mt[:n_mt], replies]), "utf-8")
            command = [sys.executable, __file__, "--build", str(texts), str(out)]
            runs = []
            for _ in range(REPEATS):
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                runs.append(json.loads(done.stdout))
            row = {"name": name, **min(runs, key=lambda run: run["build_s"])}
            row |= open_page(out / "index.html") or {}
            rows.append(row)
    for row in rows:
        print(row["name"])
        for key, value in row.items():
            if key != "name":
                aim = AIMS.get(key)
                print(f"  {key:18} {value:8.2f}" + (f"   aim {aim:g}" if aim else ""))
    large = rows[-1]
    ratios = {key: large[key] / aim for key, aim in AIMS.items() if key in large}
    ratios["page_mb"] = rows[0]["page_mb"] / SMALL_PAGE_MB
    print("ratios to the aims:", {key: round(value, 2) for key, value in ratios.items()})
    if options.json:
        machine = {"platform": platform.platform(), "python": platform.python_version()}
        machine["texts"] = "real" if options.data else "made up"
        found = {"machine": machine, "rows": rows, "ratios": ratios, "ceiling": AIMS}
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
