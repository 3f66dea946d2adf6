"""Do 95 % intervals cover, and does the verdict keep its word? Simulated matches with known truths.

    python bench/coverage.py                        the whole table (a quarter of an hour)
    python bench/coverage.py --repeats 200          the same, coarser
    python bench/coverage.py --only methods         which bootstrap: all of them side by side
    python bench/coverage.py --only speed           10,000 questions × 2 judges × 10,000 draws

Prints Markdown. The worlds are those of ``tests/simulated.py``; intervals, verdicts and parts are
the product's own functions. With 2,000 repeats a share of 95 % has a standard error of 0.5 %.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.simulated import (
    MadeWorld,
    World,
    covered,
    draw,
    draw_made,
    preferences_of,
    true_parts,
    true_win_rate,
    verdict_of,
)

from tuneproof.recipe import VerdictRule
from tuneproof.results import Outcome
from tuneproof.stats.bootstrap import Column, bootstrap_mean, bootstrap_means
from tuneproof.stats.decomposition import decompose
from tuneproof.stats.distributions import t_quantile
from tuneproof.stats.estimates import SHARE
from tuneproof.stats.pairwise import win_rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from tuneproof.records import Preference
    from tuneproof.results import Estimate

SEED = 42
LEVEL = 0.95

RATES: dict[str, World] = {
    "even, 8 questions": World(n_questions=8),
    "even, 20 questions": World(n_questions=20),
    "even, 80 questions": World(),
    "even, 300 questions": World(n_questions=300),
    "0.70, 20 questions": World(n_questions=20, effect=1.2),
    "0.70, 80 questions": World(effect=1.2),
    "0.83, 20 questions": World(n_questions=20, effect=2.2),
    "0.83, 80 questions": World(effect=2.2),
    "0.83, 300 questions": World(n_questions=300, effect=2.2),
    "0.92, 80 questions": World(effect=3.2),
    "0.92, 300 questions": World(n_questions=300, effect=3.2),
    "0.82, one order, 80 questions": World(orders=1, effect=2.1),
    "0.82, one order, 300 questions": World(orders=1, effect=2.1, n_questions=300),
    "two turns, 80 questions": World(n_turns=2, question_sd=2.2, turn_sd=1.0, effect=0.5),
    "two turns, 300 questions": World(n_questions=300, n_turns=2, turn_sd=1.0, effect=0.5),
    "position bias, both orders": World(position=1.0, effect=0.5),
    "position bias, one order": World(position=1.0, orders=1, effect=0.5),
    "ties and position bias": World(tie=0.7, position=0.5, effect=0.5),
    "MT-Bench: its rule, ties, two turns": World(
        n_turns=2, tie=0.5, position=0.5, settle="mt-bench", effect=0.5
    ),
    "unparsed at random, 2 % of replies": World(n_questions=300, unparsed=0.02, effect=0.5),
    "unparsed where tuned loses, 1 % of pairs": World(
        n_questions=300, unparsed=0.014, unparsed_where="tuned loses", effect=0.5
    ),
}

NULLS: dict[str, World] = {
    "even, 20 questions": World(n_questions=20, question_sd=3),
    "even, 80 questions": World(question_sd=3),
    "even, 300 questions": World(n_questions=300, question_sd=3),
    "one order": World(orders=1),
    "two turns": World(n_turns=2, question_sd=3, turn_sd=1),
    "position bias 0.5": World(position=0.5, question_sd=3),
    "position bias 3: the judge goes by order": World(position=3.0, question_sd=1),
    "ties": World(tie=1.0, question_sd=3),
    "unparsed at random, 1 % of pairs": World(n_questions=300, question_sd=3, unparsed=0.005),
    "unparsed where tuned loses, 1 % of pairs": World(
        n_questions=300, question_sd=3, unparsed=0.012, unparsed_where="tuned loses"
    ),
    "unparsed where tuned loses, 2 % of pairs": World(
        n_questions=300, question_sd=3, unparsed=0.024, unparsed_where="tuned loses"
    ),
    "unparsed where tuned loses, 10 % of pairs": World(
        n_questions=300, question_sd=3, unparsed=0.12, unparsed_where="tuned loses"
    ),
}

MADE: dict[str, MadeWorld] = {
    "all three parts, 300 questions": MadeWorld(),
    "all three parts, 80 questions": MadeWorld(n_questions=80),
    "all three parts, 16 questions": MadeWorld(n_questions=16),
    "two turns": MadeWorld(n_questions=80, n_turns=2),
    "stopping alone": MadeWorld(length=0, content=0),
    "length alone": MadeWorld(stopping=0, content=0, length=1.0),
    "content alone": MadeWorld(stopping=0, length=0, content=1.0),
    "few run on (5 %)": MadeWorld(runs_on=0.05),
    "3 % unscored after a cut": MadeWorld(unscored_after_cut=0.03),
}


def generator(name: str) -> np.random.Generator:
    """A stream of its own for each cell."""
    return np.random.default_rng([SEED, *name.encode()])


def percent(share: float) -> str:
    """One decimal, and no minus nought."""
    return f"{round(100 * share, 1) + 0.0:.1f}"


def resampled(preferences: list[Preference], *, seed: int, draws: int) -> Estimate:
    """The bootstrap's win rate, over questions as the product's."""
    by_question: dict[str, list[float]] = {}
    for p in preferences:
        if p.value is not None:
            by_question.setdefault(p.question_id, []).append(p.value)
    column = Column(
        values=[sum(vs) / len(vs) for vs in by_question.values()],
        clusters=list(by_question),
        bounds=SHARE,
    )
    return bootstrap_mean(column, level=LEVEL, seed=seed, n_draws=draws)


def coverage_table(repeats: int, draws: int) -> list[dict[str, object]]:
    """Win rates: how often the t interval of the product covers, and the bootstrap's."""
    rows = []
    print(f"### Win rates: coverage of 95 % intervals ({repeats:,} evaluations a row)\n")
    print(
        "| world | truth | mean found | t covers | too high / too low | BCa covers | width t, BCa |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, world in RATES.items():
        stream, truth = generator(name), true_win_rate(world)
        found, drawn = [], []
        for i in range(repeats):
            preferences = preferences_of(world, draw(world, stream))
            found.append(win_rate(preferences, world.questions, level=LEVEL))
            drawn.append(resampled(preferences, seed=i, draws=draws))
        t, bca = ([(e.low, e.high) for e in each] for each in (found, drawn))
        above = np.mean([low is not None and low > truth for low, _ in t])
        below = np.mean([high is not None and high < truth for _, high in t])
        mean = float(np.mean([e.value for e in found if e.value is not None]))
        widths = [float(np.mean([e.width for e in each])) for each in (found, drawn)]
        row = {"name": name, "truth": truth, "mean": mean, "t": covered(t, truth)}
        row |= {"bca": covered(bca, truth)}
        rows.append(row)
        print(
            f"| {name} | {percent(truth)} | {percent(mean)} | {percent(covered(t, truth))} | "
            f"{percent(float(above))} / {percent(float(below))} | {percent(covered(bca, truth))} | "
            f"{percent(widths[0])}, {percent(widths[1])} |",
            flush=True,
        )
    return rows


def verdict_table(repeats: int) -> list[dict[str, object]]:
    """Where both models are equally good: how often the verdict says otherwise.

    As a run makes it, by the bootstrap, guards included; ``by t``: how often Student's interval
    leaves one half out, without guards.
    """
    rows = []
    print(f"\n### Verdicts where there is no difference ({repeats:,} evaluations a row)\n")
    print(
        "| world | better | worse | false alarms | without guards | … by t | stopped by a guard |"
    )
    print("|---|---|---|---|---|---|---|")
    rule = VerdictRule(metric="win_rate", level=LEVEL)
    free = rule.model_copy(update={"max_unscored": 1.0, "min_order_agreement": 0.0})
    for name, world in NULLS.items():
        stream = generator(name)
        counts = dict.fromkeys(Outcome, 0)
        n_free = n_guarded = n_t = 0
        for i in range(repeats):
            drawn = draw(world, stream)
            verdict = verdict_of(world, drawn, rule, seed=i)
            counts[verdict.outcome] += 1
            unguarded = verdict_of(world, drawn, free, seed=i)
            n_free += unguarded.outcome is not Outcome.INCONCLUSIVE
            e = win_rate(preferences_of(world, drawn), world.questions, level=LEVEL)
            n_t += e.low is not None and e.high is not None and not e.low <= 0.5 <= e.high
            n_guarded += any(r.startswith("Measured all the same") for r in verdict.reasons)
        better, worse = (counts[o] / repeats for o in (Outcome.BETTER, Outcome.WORSE))
        row = {"name": name, "false_alarms": better + worse, "free": n_free / repeats}
        rows.append(row | {"t": n_t / repeats})
        print(
            f"| {name} | {percent(better)} | {percent(worse)} | {percent(better + worse)} | "
            f"{percent(n_free / repeats)} | {percent(n_t / repeats)} | "
            f"{percent(n_guarded / repeats)} |",
            flush=True,
        )
    return rows


def decomposition_table(repeats: int) -> list[dict[str, object]]:
    """Wins made of known parts: how often each part's interval covers, and what is found."""
    rows = []
    print(
        f"\n### Decomposition: points planted → found, coverage ({repeats:,} evaluations a row)\n"
    )
    print("| world | whole | stopping | length | what remains |")
    print("|---|---|---|---|---|")
    for name, world in MADE.items():
        stream, truths = generator(name), true_parts(world)
        found = [decompose(draw_made(world, stream), level=LEVEL, seed=i) for i in range(repeats)]
        cells = []
        row: dict[str, object] = {"name": name}
        for part, truth in zip(("whole", "stopping", "length", "remaining"), truths, strict=True):
            estimates = [getattr(f, part) for f in found]
            hits = covered([(e.low, e.high) for e in estimates], truth)
            mean = float(np.mean([e.value for e in estimates]))
            cells.append(f"{percent(truth)} → {percent(mean)}, {percent(hits)}")
            row[part] = hits
        rows.append(row)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    return rows


def methods_table(repeats: int, draws: int) -> list[dict[str, object]]:
    """The bootstraps that could have been chosen, on one and the same samples."""
    samples: dict[str, tuple[Callable[[np.random.Generator, int], object], float, bool]] = {
        "normal": (lambda g, n: g.normal(0, 1, n), 0.0, False),
        "exponential": (lambda g, n: g.exponential(1, n), 1.0, False),
        "won at 0.5": (lambda g, n: (g.random(n) < 0.5).astype(float), 0.5, True),
        "won at 0.83": (lambda g, n: (g.random(n) < 0.83).astype(float), 0.83, True),
        "won at 0.95": (lambda g, n: (g.random(n) < 0.95).astype(float), 0.95, True),
    }
    rows: list[dict[str, object]] = []
    print(f"\n### Which interval ({repeats:,} samples a row; coverage, and mean width)\n")
    print("| sample | questions | t | percentile | studentized | BCa, widened |")
    print("|---|---|---|---|---|---|")
    for name, (sample, truth, bounded) in samples.items():
        for n in (20, 80, 300):
            stream = generator(f"{name}{n}")
            ends: dict[str, list[tuple[float, float]]] = {
                m: [] for m in ("t", "percentile", "studentized", "bca")
            }
            for i in range(repeats):
                values = np.asarray(sample(stream, n), dtype=float)
                for method, end in _all_methods(values, draws, seed=i, bounded=bounded).items():
                    ends[method].append(end)
            row: dict[str, object] = {"name": name, "n": n}
            cells = []
            for method, each in ends.items():
                hits = covered(each, truth)
                width = float(np.mean([high - low for low, high in each]))
                cells.append(f"{percent(hits)} ({width:.3f})")
                row[method] = hits
            rows.append(row)
            print(f"| {name} | {n} | {' | '.join(cells)} |", flush=True)
    return rows


def _all_methods(
    values: np.ndarray, draws: int, *, seed: int, bounded: bool
) -> dict[str, tuple[float, float]]:
    n, mean = len(values), float(values.mean())
    bounds = SHARE if bounded else None
    column = Column(values=values.tolist(), clusters=[str(i) for i in range(n)], bounds=bounds)
    own = bootstrap_mean(column, level=LEVEL, seed=seed, n_draws=draws)
    assert own.low is not None
    assert own.high is not None
    bca = (own.low, own.high)
    if values.min() == values.max():
        return dict.fromkeys(("t", "percentile", "studentized", "bca"), bca)
    error = float(values.std(ddof=1)) / n**0.5
    drawn = values[np.random.default_rng(seed).integers(0, n, (draws, n))]
    means = drawn.mean(axis=1)
    errors = drawn.std(axis=1, ddof=1) / n**0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(errors > 1e-12, (means - mean) / errors, np.copysign(np.inf, means - mean))
    tail = (1 - LEVEL) / 2
    half = t_quantile(1 - tail, n - 1) * error
    low_t, high_t = np.quantile(t, [tail, 1 - tail], method="inverted_cdf")
    found = {
        "t": (mean - half, mean + half),
        "percentile": tuple(np.quantile(means, [tail, 1 - tail])),
        "studentized": (mean - high_t * error, mean - low_t * error),
        "bca": bca,
    }
    if bounded:
        found = {m: (max(low, 0.0), min(high, 1.0)) for m, (low, high) in found.items()}
    return {m: (float(low), float(high)) for m, (low, high) in found.items()}


def speed(n_questions: int = 10_000, n_draws: int = 10_000) -> list[dict[str, object]]:
    """The bootstrap of two judges, two games a question."""
    stream = np.random.default_rng(SEED)
    questions = [f"q{i}" for i in range(n_questions)] * 2
    columns = {
        f"judge {j}": Column(
            values=(stream.random(len(questions)) < 0.6).astype(float).tolist(),
            clusters=questions,
            bounds=SHARE,
        )
        for j in (1, 2)
    }
    start = time.perf_counter()
    bootstrap_means(columns, level=LEVEL, seed=SEED, n_draws=n_draws)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    name = f"{n_questions:,} questions × 2 judges × {n_draws:,} draws"
    print(f"\n{name}: {seconds:.2f} s; peak of this process {peak:.2f} GiB")
    return [{"name": name, "seconds": seconds, "peak_memory_gib": peak}]


def main() -> None:
    """Parse, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=2000, help="of each bootstrap")
    parser.add_argument(
        "--only", choices=("rates", "verdicts", "decomposition", "methods", "speed")
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    tables: dict[str, Callable[[], list[dict[str, object]]]] = {
        # First, while the process is small.
        "speed": speed,
        "rates": lambda: coverage_table(options.repeats, options.draws),
        "verdicts": lambda: verdict_table(options.repeats),
        "decomposition": lambda: decomposition_table(options.repeats),
        "methods": lambda: methods_table(options.repeats, options.draws),
    }
    rows = []
    for name, table in tables.items():
        if options.only in (None, name):
            rows += [{"table": name, **row} for row in table()]
    if options.json:
        machine = {"platform": platform.platform(), "python": platform.python_version()}
        found = {"machine": machine, "rows": rows, "ratios": {}, "ceiling": None}
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
