"""A realistic run's records, written by hand, for the tests of the report."""

from __future__ import annotations

import math
from typing import Any, Literal

from tuneproof.judge.matches import Pair, preferences
from tuneproof.judge.own import OwnPairwise
from tuneproof.recipe import Data, Generate, Judge, Model, Recipe, Source, VerdictRule
from tuneproof.recipe_file import dump_recipe
from tuneproof.records import (
    Answer,
    Arm,
    Judgment,
    Ledger,
    LossPoint,
    Manifest,
    OutputFile,
    Preference,
    Prompt,
    Similarity,
    Stop,
    TrainingSummary,
)
from tuneproof.results import (
    ArmPair,
    BenchmarkResult,
    Estimate,
    HeldoutLoss,
    Measures,
    Outcome,
    PairwiseResult,
    Results,
    Tally,
    Verdict,
)

METHOD = "paired bootstrap over questions, 10,000 resamples"


def estimate(value: float, half: float, *, n: int = 96, unscored: int = 0) -> Estimate:
    return Estimate(
        value=value,
        low=value - half,
        high=value + half,
        n_scored=n,
        n_unscored=unscored,
        method=METHOD,
    )


def pair(base: float, tuned: float, half: float, *, n: int = 96) -> ArmPair:
    return ArmPair(
        base=estimate(base, half, n=n),
        tuned=estimate(tuned, half, n=n),
        difference=estimate(tuned - base, half * 0.7, n=n),
    )


def recipe() -> Recipe:
    return Recipe(
        name="smollm2-dolly",
        data=Data(source=Source(sample=True)),
        model=Model(id="HuggingFaceTB/SmolLM2-135M"),
        generate=Generate(max_new_tokens=256),
        judge=Judge(model="gpt-4o-mini"),
        verdict=VerdictRule(metric="heldout_loss", smallest_effect=0.05),
    )


def heldout_loss() -> HeldoutLoss:
    main = pair(2.1843, 1.7721, 0.094)
    lonely = ArmPair(
        base=Estimate(value=2.4, low=None, high=None, n_scored=1, n_unscored=0),
        tuned=Estimate(value=2.0, low=None, high=None, n_scored=1, n_unscored=0),
        difference=Estimate(
            value=None, low=None, high=None, n_scored=1, n_unscored=0, note="too few questions"
        ),
    )
    return HeldoutLoss(
        base=main.base,
        tuned=main.tuned,
        difference=main.difference,
        eos=pair(6.41, 0.22, 0.09),
        by_category={
            "brainstorming": pair(2.31, 1.99, 0.16, n=14),
            "classification": pair(1.74, 0.92, 0.27, n=16),
            "closed_qa": pair(1.61, 1.33, 0.19, n=13),
            "creative_writing": pair(2.72, 2.61, 0.14, n=9),
            "general_qa": pair(2.33, 1.98, 0.12, n=18),
            "open_qa": pair(2.40, 1.90, 0.11, n=25),
            "summarization": lonely,
        },
    )


def pairwise() -> PairwiseResult:
    return PairwiseResult(
        judge="gpt-4o-mini",
        protocol="tuneproof-pairwise",
        opponent=Arm.BASE,
        orders=2,
        win_rate=estimate(0.698, 0.083, n=94, unscored=2),
        questions=Tally(wins=59, losses=22, ties=13, unscored=2),
        pairs=Tally(wins=59, losses=22, ties=13, unscored=2),
        n_judgments=192,
        n_unparsed=4,
        order_agreement=estimate(0.787, 0.08, n=94, unscored=2),
        first_preferred=estimate(0.561, 0.07, n=94, unscored=2),
    )


def training() -> TrainingSummary:
    return TrainingSummary(
        steps=144,
        epochs=3.0,
        trainable_parameters=460_800,
        total_parameters=134_975_808,
        tokens=412_334,
        supervised_tokens_per_epoch=187_201,
        eos_supervised_rows=766,
        rows=768,
        rows_dropped=0,
        rows_cut=2,
        responses_lost=1,
        best_step=100,
        best_eval_loss=1.8012,
        final_train_loss=1.7433,
        duration_s=252.4,
        dtype="float32",
        device="cpu (2 threads)",
    )


def results(**changes: Any) -> Results:
    loss = heldout_loss()
    whole = Results(
        name="smollm2-dolly",
        verdict=Verdict(
            outcome=Outcome.BETTER,
            sentence="The tuned model is better: it finds the held-out responses more likely than "
            "the base model does, by 0.412 nats a token.",
            reasons=(
                "The whole interval lies below −0.05, the smallest effect that the recipe counts.",
                "No question was left unscored.",
            ),
            metric="heldout_loss",
            estimate=loss.difference,
        ),
        heldout_loss=loss,
        benchmarks={
            "heldout": BenchmarkResult(
                n_questions=96,
                n_turns=1,
                n_adapters=1,
                stopped=pair(0.0625, 0.949, 0.045),
                answer_tokens=pair(243.7, 61.2, 11.5),
                chrf=pair(0.182, 0.311, 0.027),
                exact_match=pair(0.0, 0.5625, 0.0, n=16).model_copy(
                    update={
                        "tuned": estimate(0.5625, 0.21, n=16),
                        "difference": estimate(0.5625, 0.22, n=16),
                    }
                ),
                pairwise=pairwise(),
            )
        },
        training=training(),
        ledger=Ledger(
            read=1000,
            kept=960,
            dropped={"empty response": 31, "duplicate": 9},
            cut={"response over 1,024 tokens": 2},
        ),
        rows={"train": 768, "validation": 96, "test": 96},
    )
    return whole.model_copy(update=changes)


def curve() -> list[LossPoint]:
    points = []
    for step in range(1, 145):
        noise = 0.07 * math.sin(step * 12.9898) * math.cos(step * 78.233)
        points.append(
            LossPoint(
                step=step,
                epoch=step / 48,
                train_loss=1.72 + 0.75 * math.exp(-step / 18) + noise,
                learning_rate=2e-4 * (1 - step / 144),
                grad_norm=0.8,
            )
        )
        if step % 20 == 0:
            overfit = 0.0000125 * max(0, step - 100) ** 2
            points.append(
                LossPoint(
                    step=step,
                    epoch=step / 48,
                    eval_loss=1.79 + 0.45 * math.exp(-step / 20) + overfit,
                )
            )
    return points


_QUESTIONS = (
    (
        "open_qa",
        "Why do leaves change colour in autumn?",
        "",
        "Days grow shorter, so trees stop making chlorophyll. As the green fades, yellow and "
        "orange pigments that were there all along become visible.",
    ),
    (
        "classification",
        "Say whether each is a fruit or a vegetable: apple.",
        "",
        "Fruit",
    ),
    (
        "closed_qa",
        "When did the bridge open?",
        "The old bridge over the river was begun in 1868. It opened to carts in 1874 and was the "
        "longest of its kind until 1890.",
        "1874",
    ),
    (
        "creative_writing",
        "Write two lines about the sea.",
        "",
        "The tide forgets each name we write in sand,\nand brings the shells back, one for each.",
    ),
)


def question_id(number: int) -> str:
    return f"row-{number * 7:05d}"


def prompts(n: int = 12) -> list[Prompt]:
    made = []
    for number in range(n):
        category, instruction, context, reference = _QUESTIONS[number % len(_QUESTIONS)]
        made.append(
            Prompt(
                question_id=question_id(number),
                benchmark="heldout",
                category=category,
                instruction=instruction,
                context=context,
                token_ids=(1, 2, 3),
                reference=reference,
                checkable=category == "classification",
            )
        )
    return made


def answers(n: int = 12) -> list[Answer]:
    made = []
    for number in range(n):
        instruction, reference = _QUESTIONS[number % len(_QUESTIONS)][1::2]
        runaway = f"{reference[:40]}\n\n### Instruction:\n{instruction}\n\n### Response:\n" * 9
        failed = number == 7
        made.append(
            answer(number, Arm.BASE, runaway, stop=Stop.LENGTH)
            if not failed
            else answer(number, Arm.BASE, "", stop=Stop.ERROR, error="out of memory")
        )
        made.append(answer(number, Arm.TUNED, reference))
    return made


def answer(
    number: int, arm: Arm, text: str, *, stop: Stop = Stop.EOS, error: str | None = None
) -> Answer:
    return Answer(
        key=f"{arm.value}-{number}",
        question_id=question_id(number),
        benchmark="heldout",
        arm=arm,
        text=text,
        stop=stop,
        n_prompt_tokens=41,
        n_tokens=256 if stop is Stop.LENGTH else len(text.split()),
        error=error,
    )


def similarities(n: int = 12) -> list[Similarity]:
    return [
        Similarity(
            question_id=question_id(number),
            arm=arm,
            category=_QUESTIONS[number % 4][0],
            chrf=0.18 if arm is Arm.BASE else 0.93,
            exact=(arm is Arm.TUNED) if number % 4 == 1 else None,
        )
        for number in range(n)
        for arm in (Arm.BASE, Arm.TUNED)
    ]


def judgment(
    number: int,
    first: Arm,
    prefers: Literal["A", "B", "tie"] | None,
    *,
    reply: str = "The second answer stops where it should. [[B]]",
) -> Judgment:
    return Judgment(
        key=f"{number}-{first.value}",
        question_id=question_id(number),
        benchmark="heldout",
        opponent=Arm.BASE,
        protocol="tuneproof-pairwise",
        judge="gpt-4o-mini",
        first=first,
        prefers=prefers,
        unparsed=None if prefers else "no verdict token in reply",
        reply=reply,
    )


def judgments(n: int = 12) -> list[Judgment]:
    made = []
    for number in range(n):
        if number % 4 == 3:  # the judge prefers whatever is shown second
            made += [judgment(number, Arm.BASE, "B"), judgment(number, Arm.TUNED, "B")]
        elif number == 4:
            made += [
                judgment(number, Arm.BASE, "A"),
                judgment(number, Arm.TUNED, None, reply="Both have their merits."),
            ]
        else:
            made += [judgment(number, Arm.BASE, "B"), judgment(number, Arm.TUNED, "A")]
    return made


def preferred(judged: list[Judgment], asked: list[Prompt]) -> list[Preference]:
    """What the judgments come to, as the judge stage makes it, for each pair that has any."""
    texts = {(p.question_id, p.turn): p for p in asked}
    places = dict.fromkeys((j.question_id, j.turn, j.opponent, j.adapter) for j in judged)
    pairs = [
        Pair(prompt=texts[question, turn], opponent=opponent, adapter=adapter)
        for question, turn, opponent, adapter in places
        if (question, turn) in texts
    ]
    return preferences(judged, pairs, OwnPairwise(orders=2))


def manifests() -> dict[str, Manifest]:
    made = {}
    for stage, seconds in (("prepare", 1.4), ("train", 252.4), ("generate", 611.0), ("judge", 88)):
        made[stage] = Manifest(
            stage=stage,
            version=1,
            key="0" * 64,
            key_parts={"stage": stage},
            inputs=(OutputFile(path="recipe.yaml", bytes=1480, sha256="a1" * 32),),
            outputs=(OutputFile(path=f"{stage}/rows.jsonl", bytes=1_048_576, sha256="b2" * 32),),
            packages={"torch": "2.8.0", "transformers": "5.0.1", "peft": "0.18.0"},
            tuneproof="0.1.0",
            commit="3f2a9c1d" * 5,
            dirty=stage == "judge",
            python="3.12.3",
            device="cpu (2 threads)",
            started="2025-11-03T14:02:11+00:00",
            duration_s=seconds,
            resumed=0,
        )
    return made


FINDINGS = (
    "underpowered: with 96 questions a difference in win rate below 10 points would go unseen.",
    "response-truncated: 2 rows were cut at 1,024 tokens and 1 lost its whole response.",
)


def arguments(**changes: Any) -> dict[str, Any]:
    """Everything that ``write_report`` takes but the results and the folder."""
    made: dict[str, Any] = {
        "recipe": recipe(),
        "recipe_text": dump_recipe(recipe()),
        "curve": curve(),
        "prompts": prompts(),
        "answers": answers(),
        "similarities": similarities(),
        "judgments": judgments(),
        "manifests": manifests(),
        "findings": FINDINGS,
    }
    made |= changes
    return {"preferences": preferred(made["judgments"], made["prompts"])} | made


# --- a benchmark of two turns, two opponents and two adapters ---------------------------------

TURNS = ("Write a line about rain.", "Now without the letter e.")


def two_turns(text: str = "It rains") -> dict[str, Any]:
    """One question of MT-Bench beside the held-out ones: prompts, answers, judgments."""
    asked = [
        Prompt(
            question_id="mt-81", benchmark="mt_bench", category="writing", turn=turn,
            instruction=instruction, context="", token_ids=None, reference=None, checkable=False,
        )
        for turn, instruction in enumerate(TURNS, start=1)
    ]  # fmt: skip
    who = [(Arm.BASE, 1), (Arm.FAIR_BASE, 1), (Arm.TUNED, 1), (Arm.TUNED, 2)]
    said = [
        Answer(
            key=f"{arm}/{adapter}/{turn}", question_id="mt-81", benchmark="mt_bench", turn=turn,
            arm=arm, adapter=adapter, text=f"{text} ({arm} {adapter}, turn {turn})",
            stop=Stop.STOP_STRING if arm is Arm.FAIR_BASE else Stop.EOS, n_prompt_tokens=9,
            n_tokens=7,
        )
        for arm, adapter in who
        for turn in (1, 2)
    ]  # fmt: skip
    # Adapter 1 beats base and loses to fair-base; adapter 2 the other way round.
    judged = [
        Judgment(
            key=f"{opponent}/{adapter}/{turn}/{first}", question_id="mt-81", benchmark="mt_bench",
            turn=turn, opponent=opponent, adapter=adapter, protocol="tuneproof-pairwise",
            judge="gpt-4o-mini", first=first,
            prefers="A" if (first is Arm.TUNED) == ((opponent is Arm.BASE) == (adapter == 1))
            else "B",
            reply=f"{text}: {adapter} against {opponent} at turn {turn}",
        )
        for opponent in (Arm.BASE, Arm.FAIR_BASE)
        for adapter in (1, 2)
        for turn in (1, 2)
        for first in (opponent, Arm.TUNED)
    ]  # fmt: skip
    return {
        "prompts": [*prompts(5), *asked],
        "answers": [
            *answers(5),
            *(a.model_copy(update={"adapter": 2, "key": f"{a.key}/2"})
              for a in answers(5) if a.arm is Arm.TUNED),
            *said,
        ],
        "judgments": [*judgments(5), *judged],
    }  # fmt: skip


def two_turn_results(name: str = "writing") -> Results:
    """Results with MT-Bench against two opponents; ``name`` is a category's."""

    def against(opponent: Arm, value: float) -> PairwiseResult:
        half = estimate(value, 0.1, n=2)
        return PairwiseResult(
            judge="gpt-4o-mini", protocol="tuneproof-pairwise", opponent=opponent, orders=2,
            win_rate=half, questions=Tally(wins=1, losses=1, ties=0, unscored=0),
            pairs=Tally(wins=3, losses=4, ties=1, unscored=0), n_judgments=16, n_unparsed=0,
            order_agreement=half, first_preferred=half,
            by_turn={"1": estimate(0.71, 0.1, n=2), "2": estimate(0.29, 0.1, n=2)},
            by_category={name: estimate(0.62, 0.1, n=1), "math": estimate(0.38, 0.1, n=1)},
            by_adapter={"1": estimate(0.55, 0.1, n=2), "2": estimate(0.45, 0.1, n=2)},
        )  # fmt: skip

    base = results()
    stops = pair(0.125, 0.875, 0.1, n=2)
    fair = pair(0.515, 0.875, 0.1, n=2)
    length = pair(243.7, 61.2, 11.5, n=2)
    mt_bench = BenchmarkResult(
        n_questions=2, n_turns=2, n_adapters=2, stopped=stops, answer_tokens=length, chrf=None,
        exact_match=None, pairwise=against(Arm.BASE, 0.774),
        others={"fair-base": against(Arm.FAIR_BASE, 0.331)},
        fair_base=Measures(stopped=fair, answer_tokens=length, chrf=None, exact_match=None),
    )  # fmt: skip
    return results(
        benchmarks={**base.benchmarks, "mt_bench": mt_bench},
        other_trainings=(training().model_copy(update={"seed": 43}),),
        verdict=base.verdict.model_copy(
            update={
                "metric": "win_rate",
                "benchmark": "mt_bench",
                "against": Arm.FAIR_BASE,
                "estimate": against(Arm.FAIR_BASE, 0.331).win_rate,
            }
        ),
    )
