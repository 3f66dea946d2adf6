"""What the report adds to the benchmarks' results: AlpacaEval's official rate, and what to mind.

The official length-controlled rate is decided by ``score.official`` from the same rows that an
exported file has, so that the report and the score of that file cannot disagree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.judge.alpaca_eval import annotator_name
from tuneproof.judge.choice import needed_files
from tuneproof.judge.mt_bench import FASTCHAT_MAX_TOKENS
from tuneproof.recipe import AlpacaEval, MtBench
from tuneproof.records import Arm
from tuneproof.report.content import TITLES, pairwise_results
from tuneproof.score.annotations import Annotation, Annotations
from tuneproof.score.official import LengthControl, official_length_control
from tuneproof.stats.leaderboards import Pair, answered_pairs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuneproof.recipe import Recipe
    from tuneproof.records import Answer, Preference, Prompt
    from tuneproof.results import BenchmarkResult, PairwiseResult


def finished(
    recipe: Recipe,
    result: BenchmarkResult,
    *,
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
    preferences: Sequence[Preference],
) -> BenchmarkResult:
    """The result with AlpacaEval's official rate, or why there is none; with MT-Bench's lines as
    its mode has them.

    Raises:
        AssetError: a file of the benchmark on this machine is not what it should be.
    """

    def completed(found: PairwiseResult) -> PairwiseResult:
        if found.length_controlled is not None:
            asked = {p.question_id for p in prompts if p.benchmark == "alpaca_eval"}
            mine = [
                p for p in preferences if p.question_id in asked and p.opponent is found.opponent
            ]
            return _with_official(recipe, found, answered_pairs(prompts, answers, mine)[0])
        if found.mt_bench is not None and _leaves_out_the_baseline(recipe):
            lines = tuple(
                line
                for line in found.mt_bench.lines
                if line.model != recipe.model_name(found.opponent)
            )
            return found.model_copy(
                update={"mt_bench": found.mt_bench.model_copy(update={"lines": lines})}
            )
        return found

    return result.model_copy(
        update={
            "pairwise": completed(result.pairwise) if result.pairwise is not None else None,
            "others": {name: completed(found) for name, found in result.others.items()},
        }
    )


def _leaves_out_the_baseline(recipe: Recipe) -> bool:
    modes = [e.mode for e in recipe.evaluate if isinstance(e, MtBench)]
    return modes == ["pairwise-baseline"]


def _with_official(recipe: Recipe, found: PairwiseResult, pairs: Sequence[Pair]) -> PairwiseResult:
    assert found.length_controlled is not None
    by_adapter = {
        line.adapter: official_length_control(
            as_annotations(recipe, found, [p for p in pairs if p.adapter == line.adapter]),
            recipe.assets,
        )
        for line in found.alpaca_eval
    }
    lines = tuple(
        line.model_copy(
            update={
                "length_controlled_winrate": control.rate.value,
                "lc_standard_error": control.rate.standard_error,
            }
        )
        if (control := by_adapter[line.adapter]).rate is not None
        else line
        for line in found.alpaca_eval
    )
    whole = next(iter(by_adapter.values())) if len(by_adapter) == 1 else _of_all(by_adapter)
    return found.model_copy(
        update={
            "alpaca_eval": lines,
            "length_controlled": found.length_controlled.model_copy(
                update={
                    "official": whole.rate.value if whole.rate is not None else None,
                    "official_standard_error": whole.rate.standard_error
                    if whole.rate is not None
                    else None,
                    "source": whole.source,
                    "reason": whole.reason,
                }
            ),
        }
    )


def _of_all(by_adapter: Mapping[int, LengthControl]) -> LengthControl:
    """Of several adapters: none, for the reason of the first that has one."""
    reasons = [c.reason for c in by_adapter.values() if c.reason is not None]
    return LengthControl(rate=None, reason=reasons[0] if reasons else None)


def as_annotations(recipe: Recipe, found: PairwiseResult, pairs: Sequence[Pair]) -> Annotations:
    """The rows of one adapter against one opponent, as they are read from an exported file."""
    adapter = pairs[0].adapter if pairs else 1
    return Annotations(
        rows=tuple(
            Annotation(
                question=pair.prompt.instruction,
                dataset=pair.prompt.category,
                reference_length=len(pair.theirs.text),
                reference_digest=hash(pair.theirs.text),
                model_length=len(pair.ours.text),
                preference=pair.q,
                predicted=None,
            )
            for pair in pairs
        ),
        references=(recipe.model_name(found.opponent),),
        models=(recipe.model_name(Arm.TUNED, adapter),),
        judges=(annotator_name(found.protocol, found.judge, found.orders),),
        unscored={},
        lacking={},
        alarms=(),
    )


def judging_findings(recipe: Recipe, benchmarks: Mapping[str, BenchmarkResult]) -> list[str]:
    """What a reader should keep in mind of how the answers were judged, each as a sentence."""
    said = []
    for evaluation in recipe.evaluate:
        result = benchmarks.get(evaluation.benchmark)
        if result is None:
            continue
        title = TITLES[evaluation.benchmark]
        found = pairwise_results(result)
        used = {r.protocol for r in found}
        used |= {result.ratings.protocol} if result.ratings is not None else set()
        if any(name.startswith("tuneproof-") for name in used) and needed_files(evaluation):
            said.append(
                f"{title} was judged with this project's own prompt: the files of its own protocol "
                "could not be had (tuneproof assets list). The numbers are not those of the "
                "benchmark's own protocol."
            )
        if isinstance(evaluation, AlpacaEval) and evaluation.length_control == "official":
            said += [
                f"The recipe asks for AlpacaEval's length-controlled rate, and there is none "
                f"against {r.opponent}: {r.length_controlled.reason}."
                for r in found
                if r.length_controlled is not None and r.length_controlled.reason is not None
            ]
        if (
            isinstance(evaluation, MtBench)
            and any(name.startswith("mt-bench") for name in used)
            and evaluation.max_tokens != FASTCHAT_MAX_TOKENS
        ):
            said.append(
                f"MT-Bench's judge could reply with at most {evaluation.max_tokens} tokens; "
                f"FastChat's limit is {FASTCHAT_MAX_TOKENS}."
            )
        n_wrong = sum(r.mt_bench.n_known_wrong for r in found if r.mt_bench is not None)
        n_matches = sum(
            r.mt_bench.n_matches + r.mt_bench.n_dropped for r in found if r.mt_bench is not None
        )
        if n_wrong:
            said.append(
                f"{n_wrong} of {n_matches} MT-Bench matches rest on reference answers that are "
                "known to be wrong (evaluate.N.exclude_known_wrong leaves them out)."
            )
    return said
