"""The benchmarks' own columns and tables of a run: AlpacaEval's lines, MT-Bench's matches.

The formulas are those of ``alpaca_eval``, ``length_control`` and ``mt_bench``; here the run's
records become what these take. The official length-controlled rate needs files of the benchmark and
is left to the report stage. A row of a benchmark is a pair of answers, as the original tools count;
estimates by question are in ``pairwise``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tuneproof.data.questions import KNOWN_WRONG_REFERENCES, mt_bench_number
from tuneproof.records import Answer, Arm, Stop
from tuneproof.results import (
    AlpacaEvalLine,
    LengthControlled,
    MtBenchLine,
    MtBenchMatches,
)
from tuneproof.stats.alpaca_eval import average_length, leaderboard_numbers, share_of
from tuneproof.stats.length_control import LengthRow, fitted_rate
from tuneproof.stats.mt_bench import PairMatch, Winner, pair_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.records import Judgment, Preference, Prompt

ModelName = Callable[[Arm, int], str]
"""What tables call the model of an arm and adapter."""

MODE = "community"
"""The leaderboard's word for results that its keepers did not make; alpaca_eval writes it, too."""

SEED = 42
"""Of the bootstrap behind the fitted rate's interval: the same as when a file is scored, so that
an exported file gives the report's own numbers."""


def arm_name(arm: Arm, adapter: int = 1) -> str:
    """``tuned``, ``tuned-2``: names of models where no recipe gives better ones."""
    return arm.value + (f"-{adapter}" if adapter > 1 else "")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Both answers to one prompt, and what the judge preferred: q, or None where unscored."""

    prompt: Prompt
    opponent: Arm
    adapter: int
    theirs: Answer
    ours: Answer
    preference: Preference

    @property
    def q(self) -> float | None:
        """P(tuned is better), as it comes back from a file in which 1 + q is stored."""
        return None if self.preference.value is None else share_of(1 + self.preference.value)


def answered_pairs(
    prompts: Sequence[Prompt], answers: Sequence[Answer], preferences: Sequence[Preference]
) -> tuple[list[Pair], int]:
    """The pairs with two answers, in the order of the preferences; and how many lack one."""
    texts = {(p.question_id, p.turn): p for p in prompts}
    said = {
        (a.question_id, a.turn, a.arm, a.adapter): a for a in answers if a.stop is not Stop.ERROR
    }
    pairs = []
    for p in preferences:
        theirs = said.get((p.question_id, p.turn, p.opponent, 1))
        ours = said.get((p.question_id, p.turn, Arm.TUNED, p.adapter))
        if theirs is not None and ours is not None:
            pairs.append(
                Pair(
                    prompt=texts[p.question_id, p.turn],
                    opponent=p.opponent,
                    adapter=p.adapter,
                    theirs=theirs,
                    ours=ours,
                    preference=p,
                )
            )
    return pairs, len(preferences) - len(pairs)


# --- AlpacaEval ------------------------------------------------------------------------------


def alpaca_eval_lines(
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
    preferences: Sequence[Preference],
    *,
    model_name: ModelName = arm_name,
) -> tuple[AlpacaEvalLine, ...]:
    """The leaderboard's columns against one opponent, a line for each adapter.

    The length-controlled rate is left open.
    """
    lines = []
    for adapter in sorted({p.adapter for p in preferences}):
        mine = [p for p in preferences if p.adapter == adapter]
        pairs, n_without = answered_pairs(prompts, answers, mine)
        scored = [pair.q for pair in pairs if pair.q is not None]
        numbers = leaderboard_numbers(scored)
        lines.append(
            AlpacaEvalLine(
                model=model_name(Arm.TUNED, adapter),
                reference=model_name(mine[0].opponent, 1),
                adapter=adapter,
                win_rate=numbers.win_rate,
                standard_error=numbers.standard_error,
                n_wins=numbers.n_wins,
                n_wins_base=numbers.n_wins_base,
                n_draws=numbers.n_draws,
                n_total=numbers.n_total,
                discrete_win_rate=numbers.discrete_win_rate,
                avg_length=average_length([len(pair.ours.text) for pair in pairs]),
                mode=MODE,
                n_unscored=len(pairs) - len(scored),
                n_without_answers=n_without,
            )
        )
    return tuple(lines)


def fitted_length_control(
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
    preferences: Sequence[Preference],
    *,
    level: float,
) -> LengthControlled:
    """The win rate at equal length, fitted to the match against one opponent.

    Pairs of all adapters are rows of one match. The official rate is left open.
    """
    pairs, _ = answered_pairs(prompts, answers, preferences)
    rows = [
        LengthRow(
            question=pair.prompt.instruction,
            preference=pair.q,
            difference=len(pair.theirs.text) - len(pair.ours.text),
        )
        for pair in pairs
        if pair.q is not None
    ]
    asked = {pair.prompt.instruction for pair in pairs}
    fitted = fitted_rate(
        rows, level=level, seed=SEED, n_unscored=len(asked - {row.question for row in rows})
    )
    return LengthControlled(
        official=None,
        fitted=fitted.rate,
        length_effect=fitted.length_effect,
        n_longer=fitted.n_longer,
        n_shorter=fitted.n_shorter,
    )


# --- MT-Bench --------------------------------------------------------------------------------


def mt_bench_matches(
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
    judgments: Sequence[Judgment],
    preferences: Sequence[Preference],
    *,
    level: float,
    n_excluded: int = 0,
    model_name: ModelName = arm_name,
) -> MtBenchMatches:
    """FastChat's table of the matches against one opponent: tuned's lines, then the opponent's."""
    pairs, n_without = answered_pairs(prompts, answers, preferences)
    matches = games(pairs, judgments, model_name=model_name)
    table = pair_table(matches, level=level)
    opponent = model_name(preferences[0].opponent, 1)
    order = sorted(table.models, key=lambda name: (name == opponent, name))
    rests_on_references = preferences[0].protocol.startswith("mt-bench")
    return MtBenchMatches(
        lines=tuple(
            MtBenchLine(
                model=name,
                win=row.win,
                loss=row.loss,
                tie=row.tie,
                win_rate=row.win_rate,
                loss_rate=row.loss_rate,
                win_rate_adjusted=row.win_rate_adjusted,
            )
            for name, row in ((name, table.models[name]) for name in order)
        ),
        n_matches=table.n_matches,
        n_dropped=table.n_dropped,
        n_without_answers=n_without,
        n_excluded=n_excluded,
        n_inconsistent=table.n_inconsistent,
        n_contradictory=table.n_contradictory,
        n_known_wrong=sum(m.question_id in KNOWN_WRONG_REFERENCES for m in matches)
        if rests_on_references
        else 0,
    )


def games(
    pairs: Sequence[Pair], judgments: Sequence[Judgment], *, model_name: ModelName = arm_name
) -> list[PairMatch]:
    """FastChat's matches: tuned is model_1, which the first game shows first."""
    said = {(j.question_id, j.turn, j.opponent, j.adapter, j.first): j for j in judgments}

    def winner(pair: Pair, first: Arm) -> Winner:
        prompt = pair.prompt
        place = (prompt.question_id, prompt.turn, pair.opponent, pair.adapter, first)
        return game_winner(said.get(place))

    return [
        PairMatch(
            question_id=mt_bench_number(pair.prompt.question_id),
            turn=pair.prompt.turn,
            model_1=model_name(Arm.TUNED, pair.adapter),
            model_2=model_name(pair.opponent, 1),
            g1_winner=winner(pair, Arm.TUNED),
            g2_winner=winner(pair, pair.opponent),
        )
        for pair in pairs
    ]


def game_winner(judgment: Judgment | None) -> Winner:
    """Who won a game; ``error`` where there is no reply, or none that could be read."""
    if judgment is None or judgment.prefers is None:
        return "error"
    if judgment.prefers == "tie":
        return "tie"
    sides: tuple[Literal["model_1"], Literal["model_2"]] = ("model_1", "model_2")
    tuned_won = (judgment.prefers == "A") == (judgment.first is Arm.TUNED)
    return sides[0] if tuned_won else sides[1]
