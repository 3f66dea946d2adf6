"""A run's records with all that speaks for and against its verdict, written by hand."""

from __future__ import annotations

from typing import Any

from tests.unit.report_case import heldout_loss, pairwise, results
from tuneproof.records import Arm
from tuneproof.results import (
    Alarm,
    ControlAccuracy,
    Decomposition,
    Estimate,
    JudgeCheck,
    Outcome,
    PlaceboResult,
    Registered,
    ReplyDrift,
    Results,
    Verdict,
)

DIGEST = "5d41c0de77aa" + "9e" * 26


def effect(value: float, low: float, high: float, **more: Any) -> Estimate:
    """With a detectable effect of 1.43 half widths."""
    fields: dict[str, Any] = {"n_scored": 94, "n_unscored": 2, "method": "t(93)"} | more
    detectable = round(1.43 * (high - low) / 2, 4)
    return Estimate(value=value, low=low, high=high, detectable=detectable, **fields)


def decomposition(**changes: Any) -> Decomposition:
    """Of 19.8 points, 14.1 are stopping, length takes 2.1 away, 7.8 remain."""
    whole = Decomposition(
        whole=effect(0.198, 0.115, 0.281),
        stopping=effect(0.141, 0.082, 0.2),
        length=effect(-0.021, -0.066, 0.024),
        remaining=effect(0.078, -0.004, 0.16),
        n_pairs=94,
        n_left_out=2,
        n_lost_to_cuts=1,
        n_rejudged=123,
        shortened_tuned=17,
        shortened_opponent=46,
        sentence="Of 20 points above one half, 14 are stopping, −2 are length, 8 "
        "remain, on 94 questions.",
    )
    return whole.model_copy(update=changes)


def accuracy(right: int, n: int, low: float, high: float, **counts: int) -> ControlAccuracy:
    share = Estimate(value=right / n, low=low, high=high, n_scored=n, n_unscored=0, method="Wilson")
    none = {"n_unparsed": 0, "n_contradictions": 0, "n_ties": 0}
    return ControlAccuracy(accuracy=share, n_controls=n, n_right=right, **(none | counts))


def check(**changes: Any) -> JudgeCheck:
    whole = JudgeCheck(
        protocol="tuneproof-pairwise",
        passes=True,
        sentence="The judge may decide: it named the better answer in both orders on 67 of 71 "
        "control pairs (95 % lower bound 0.864, at least 0.8).",
        overall=accuracy(67, 71, 0.864, 0.978, n_contradictions=1, n_ties=2, n_unparsed=1),
        by_kind={
            "other-question": accuracy(29, 30, 0.833, 0.994, n_contradictions=1),
            "truncated": accuracy(8, 11, 0.434, 0.903, n_ties=2, n_unparsed=1),
            "empty": accuracy(30, 30, 0.886, 1.0),
        },
        cannot=("19 of kind truncated: only 11 of 96 known answers have at least 24 words",),
        drift=ReplyDrift(n_repeated=10, n_compared=9, n_changed=1, mean_shift=0.0437),
        self_comparison=effect(0.512, 0.431, 0.593, n_scored=40),
    )
    return whole.model_copy(update=changes)


def placebo(**changes: Any) -> PlaceboResult:
    whole = PlaceboResult(
        metric="heldout_loss",
        tuned_gain=effect(0.412, 0.346, 0.478),
        placebo_gain=effect(0.091, 0.044, 0.138),
        over_placebo=effect(0.321, 0.261, 0.381),
        beaten=True,
        placebo_is_better=False,
        sentence="Better than placebo, by 0.321 nats: what was learned is more than the format.",
    )
    return whole.model_copy(update=changes)


ALARMS = (
    Alarm(
        id="verdict-tokens", benchmark="heldout", arm="tuned", count=7, of=96,
        text="7 of 96 answers carry a judge's verdict",
    ),
    Alarm(
        id="length-drift", benchmark="heldout", count=91, of=96,
        text="the opponent's answers are 4.0 times as long as the tuned ones on the mean",
    ),
)  # fmt: skip

REGISTERED = Registered(
    registered=True,
    digest=DIGEST,
    sentence="The verdict is pre-registered: its rule, the 96 questions, opponents and judge were "
    f"recorded before anything was judged ({DIGEST[:12]}), and are as they were.",
)


def full_results(**changes: Any) -> Results:
    """A verdict on a win rate, with everything that the report can say of it."""
    base = results()
    found = pairwise().model_copy(
        update={
            "win_rate": effect(0.698, 0.615, 0.781),
            "n_inconsistent": 20,
            "decomposition": decomposition(),
            "check": check(),
        }
    )
    verdict = Verdict(
        outcome=Outcome.BETTER,
        sentence="Better, for this adapter: the judge prefers its answers on 69.8 % of questions.",
        reasons=("The whole interval lies on one side of no effect.",),
        metric="win_rate",
        benchmark="heldout",
        against=Arm.BASE,
        estimate=found.win_rate,
        second_opinion=Estimate(
            value=0.698, low=0.608, high=0.774, n_scored=94, n_unscored=2,
            method="BCa bootstrap of 10,000, clustered by question",
        ),
    )  # fmt: skip
    loss = heldout_loss()
    whole = results(
        verdict=verdict,
        heldout_loss=loss.model_copy(update={"difference": effect(-0.412, -0.478, -0.346)}),
        benchmarks={"heldout": base.benchmarks["heldout"].model_copy(update={"pairwise": found})},
        registration=REGISTERED,
        placebo=placebo(),
        alarms=ALARMS,
    )
    return whole.model_copy(update=changes)
