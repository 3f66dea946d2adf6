"""What scoring a file costs: against alpaca_eval's own metric code, and at 100,000 judgments.

    python bench/score.py [FILE] [--venv DIR] [--json FILE] [--coverage N]

FILE is an annotations.json of alpaca_eval, not packed; without one, 805 rows of the same shape are
made up. alpaca_eval 0.6.6 is installed into a virtual environment of its own (``--venv`` keeps it;
``--no-peer`` leaves it out). ``--coverage N`` instead simulates N matches of six kinds and prints
how often the fitted length-controlled rate's interval covers the truth.

The peer's numbers are of its metric code after its imports: ``get_winrate`` on the rows in memory,
as a list and as a DataFrame, and from the file on. Ours from the file on does more: intervals, the
fitted length-controlled rate with its bootstrap, alarms.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PEER = "alpaca-eval==0.6.6"
REPEATS = 7
N_LARGE = 100_000

PEER_CODE = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
start = time.perf_counter()
import pandas as pd
import alpaca_eval.metrics as metrics
imported = time.perf_counter() - start

def best(work):
    found = []
    for _ in range(int(sys.argv[2])):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)

with open(sys.argv[1]) as file:
    rows = json.load(file)
frame = pd.read_json(sys.argv[1])
print(json.dumps({
    "win_rate": float(metrics.get_winrate(rows)["win_rate"]),
    "standard_error": float(metrics.get_winrate(rows)["standard_error"]),
    "import_s": imported,
    "rows_s": best(lambda: metrics.get_winrate(rows)),
    "frame_s": best(lambda: metrics.get_winrate(frame)),
    "file_s": best(lambda: metrics.get_winrate(pd.read_json(sys.argv[1]))),
}))
"""

LARGE_CODE = """
import json, resource, sys, time
from pathlib import Path
start = time.perf_counter()
if sys.argv[1] == "alpaca-eval":
    from tuneproof.score.alpaca_eval import score_alpaca_eval as score
else:
    from tuneproof.score.mt_bench import score_mt_bench as score
score(Path(sys.argv[2]))
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": seconds, "peak": peak}))
"""


def best(work: Callable[[], object]) -> float:
    """The shortest of several runs, in seconds."""
    found = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def wall(command: list[str]) -> float:
    """The shortest of three runs of a command, in seconds."""
    found = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        found.append(time.perf_counter() - start)
    return min(found)


def text(draw: random.Random, n: int) -> str:
    """About n characters of words."""
    return " ".join(draw.choice(("alpha", "beta", "gamma", "delta")) for _ in range(n // 6))


def annotation(draw: random.Random, i: int) -> dict[str, object]:
    """A row as large as a real one, its raw completion included."""
    tokens = [
        {"token": t, "bytes": [77], "logprob": -draw.random()} for t in ("M", "m", "The", "#", "*")
    ]
    return {
        "instruction": f"{text(draw, 160)} {i}",
        "output_1": text(draw, 2000),
        "generator_1": "reference",
        "dataset": draw.choice(("koala", "oasst", "vicuna")),
        "output_2": text(draw, draw.randint(100, 2500)),
        "generator_2": "model",
        "annotator": "judge",
        "preference": 1 + draw.random(),
        "raw_completion": {"logprobs": {"content": [{"token": "M", "top_logprobs": tokens}]}},
    }


def match(draw: random.Random, i: int) -> dict[str, object]:
    """A pairwise judgment as large as a real one, both prompts and replies included."""
    winners = ("model_1", "model_2", "tie")
    return {
        "question_id": 81 + i % 80,
        "model_1": "a",
        "model_2": f"m{i % 40}",
        "g1_winner": draw.choice(winners),
        "g2_winner": draw.choice(winners),
        "judge": ["judge", "pair-v2"],
        "g1_user_prompt": PROMPT,
        "g1_judgment": PROMPT[:900],
        "g2_user_prompt": PROMPT,
        "g2_judgment": PROMPT[:900],
        "turn": 1 + i % 2,
        "tstamp": 0.0,
    }


PROMPT = text(random.Random(0), 4800)


def write_array(path: Path, n: int) -> None:
    """An annotations file of n rows."""
    draw = random.Random(1)
    with path.open("w", encoding="utf-8") as file:
        for i in range(n):
            file.write(("[" if i == 0 else ",") + json.dumps(annotation(draw, i)) + "\n")
        file.write("]")


def write_lines(path: Path, n: int) -> None:
    """A pairwise judgments file of n rows."""
    draw = random.Random(1)
    with path.open("w", encoding="utf-8") as file:
        for i in range(n):
            file.write(json.dumps(match(draw, i)) + "\n")


def peer(path: Path, folder: Path) -> dict[str, float]:
    """The peer's times, from its own environment.

    Raises:
        subprocess.CalledProcessError: it could not be installed or run.
    """
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        # Its code asks for pkg_resources, which setuptools no longer has.
        install = [str(python), "-m", "pip", "install", "--quiet", PEER, "setuptools<81"]
        subprocess.run(install, check=True, capture_output=True, text=True)
    done = subprocess.run(
        [str(python), "-c", PEER_CODE, str(path), str(REPEATS)],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(path: Path, environment: Path | None) -> dict[str, object]:
    """Everything, as one table."""
    from tuneproof.score.alpaca_eval import score_alpaca_eval
    from tuneproof.score.annotations import read_annotations
    from tuneproof.stats.alpaca_eval import leaderboard_numbers

    preferences = [r.preference for r in read_annotations(path).rows if r.preference is not None]
    numbers = best(lambda: leaderboard_numbers(preferences))
    same = best(
        lambda: leaderboard_numbers([r.preference or 0.0 for r in read_annotations(path).rows])
    )
    whole = best(lambda: score_alpaca_eval(path))
    command = wall([sys.executable, "-m", "tuneproof", "score", "alpaca-eval", str(path)])
    rows: list[dict[str, object]] = [
        {"name": "ours: the leaderboard's numbers, rows in memory", "seconds": numbers},
        {"name": "ours: file to the same numbers", "seconds": same},
        {"name": "ours: file to everything (intervals, bootstrap, alarms)", "seconds": whole},
        {"name": "ours: the command, process start included", "seconds": command},
    ]
    ratios: dict[str, float] = {}
    if environment is not None:
        try:
            theirs = peer(path, environment)
        except subprocess.CalledProcessError as error:
            print(f"{PEER} does not install or run here: {error.stderr.strip()[-300:]}")
        else:
            mine = leaderboard_numbers(preferences)
            assert abs((mine.win_rate or 0) - theirs["win_rate"]) < 1e-9
            assert abs((mine.standard_error or 0) - theirs["standard_error"]) < 1e-9
            rows += [
                {"name": f"{PEER}: get_winrate, list of rows", "seconds": theirs["rows_s"]},
                {"name": f"{PEER}: get_winrate, DataFrame", "seconds": theirs["frame_s"]},
                {"name": f"{PEER}: read_json and get_winrate", "seconds": theirs["file_s"]},
                {
                    "name": f"{PEER}: a process that does this",
                    "seconds": theirs["import_s"] + theirs["file_s"],
                },
            ]
            ratios = {
                "metric_code_list": theirs["rows_s"] / numbers,
                "metric_code_frame": theirs["frame_s"] / numbers,
                "file_to_the_same_numbers": theirs["file_s"] / same,
                "file_to_everything_of_ours": theirs["file_s"] / whole,
                "process": (theirs["import_s"] + theirs["file_s"]) / command,
            }
    with tempfile.TemporaryDirectory() as scratch:
        for kind, write, name in (
            ("alpaca-eval", write_array, "annotations.json"),
            ("mt-bench", write_lines, "judge_pair.jsonl"),
        ):
            large = Path(scratch) / name
            write(large, N_LARGE)
            done = subprocess.run(
                [sys.executable, "-c", LARGE_CODE, kind, str(large)],
                check=True,
                capture_output=True,
                text=True,
            )
            found = json.loads(done.stdout)
            size = f"{large.stat().st_size / 1e6:.0f} MB"
            rows.append(
                {
                    "name": f"ours: {N_LARGE:,} {kind} judgments, {size}",
                    "seconds": found["seconds"],
                    "peak_memory_gib": found["peak"] / 2**30,
                }
            )
            large.unlink()
    machine = {"platform": platform.platform(), "python": platform.python_version()}
    return {"machine": machine, "rows": rows, "ratios": ratios, "ceiling": None}


def coverage(n_matches: int, n_questions: int = 300) -> None:
    """How often 95 % intervals of the fitted rate cover the rate at equal length."""
    import numpy as np

    from tuneproof.stats.length_control import LengthRow, fitted_rate

    kinds: dict[str, tuple[float, float, float, float, bool]] = {
        # θ, φ, shift of Δ in its own spread, spread of difficulty in log odds, preferences between
        "even": (0.0, -1.2, 0.0, 0.0, False),
        "longer, wins often": (1.2, -1.5, -1.7, 0.0, False),
        "shorter, wins rarely": (-2.2, -1.5, 1.0, 0.0, False),
        "much shorter, wins rarely": (-2.2, -1.5, 1.5, 0.0, False),
        "unequal difficulty, soft": (0.0, -1.2, 0.0, 1.5, True),
        "unequal difficulty, shorter, soft": (-2.2, -1.5, 1.0, 1.2, True),
    }
    for name, (theta, phi, shift, spread, soft) in kinds.items():
        draw = np.random.default_rng(7)
        truth = float((1 / (1 + np.exp(-theta - spread * draw.normal(0, 1, 400_000)))).mean())
        covered, errors = 0, []
        for _ in range(n_matches):
            differences = draw.normal(shift, 1, n_questions) + draw.exponential(0.3, n_questions)
            effect = phi * np.tanh(differences / differences.std(ddof=1))
            logits = theta + effect + spread * draw.normal(0, 1, n_questions)
            p = 1 / (1 + np.exp(-logits))
            q = draw.beta(0.3 * p, 0.3 * (1 - p)) if soft else (draw.random(n_questions) < p)
            rows = [
                LengthRow(question=str(i), preference=float(v), difference=float(d))
                for i, (v, d) in enumerate(zip(q, differences, strict=True))
            ]
            rate = fitted_rate(rows, level=0.95, seed=1).rate
            if rate.value is None or rate.low is None or rate.high is None:
                continue
            covered += rate.low <= truth <= rate.high
            errors.append(rate.value - truth)
        print(
            f"{name:<36} covers {covered / len(errors):.3f}, bias {np.mean(errors):+.4f} "
            f"(truth {truth:.3f}, {len(errors)} matches of {n_questions})"
        )


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--venv", type=Path, help="keep the peer's environment here")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--coverage", type=int, metavar="N")
    options = parser.parse_args()
    if options.coverage:
        coverage(options.coverage)
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = options.file or Path(scratch) / "annotations.json"
        if options.file is None:
            write_array(path, 805)
        environment = None if options.no_peer else options.venv or Path(scratch) / "peer"
        found = measure(path, environment)
    rows = found["rows"]
    assert isinstance(rows, list)
    for row in rows:
        memory = f"{row['peak_memory_gib']:8.2f} GiB" if "peak_memory_gib" in row else ""
        print(f"{row['name']:<62} {row['seconds'] * 1000:10.2f} ms {memory}")
    ratios = found["ratios"]
    assert isinstance(ratios, dict)
    for name, ratio in ratios.items():
        print(f"{name:<62} {ratio:10.1f} ×")
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
