"""What the report says for and against its own verdict: whether its rule was fixed beforehand, a
second opinion on its interval, alarms, the placebo, and what the judge's word is worth.

Labels, order and words for both outputs; computes and escapes nothing. Where a win rate comes from
is said beside it, in ``pairwise``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tuneproof.recipe import REFERENCE_JUDGE
from tuneproof.report import content
from tuneproof.report.content import METRICS, TITLES, Kind, pairwise_results
from tuneproof.report.numbers import Shown, count, number, parts
from tuneproof.report.pairwise import protocol_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tuneproof.results import (
        Alarm,
        ControlAccuracy,
        JudgeCheck,
        PairwiseResult,
        ReplyDrift,
        Results,
    )

NOT_RECORDED = (
    "The verdict is not pre-registered: the results hold no record of a rule that was fixed before "
    "judging."
)
OWN_RECORD = (
    "The record is a file of the run: it shows that what counts was fixed before the judgments "
    "that are there, and cannot show whether earlier ones were removed with it."
)
NOT_TESTED = "The judge was not tested on control pairs: what its word is worth is not known."
ALARMED = (
    "The answers themselves give cause for doubt. An alarm changes no number: it says that a "
    "preference may not mean what it seems to."
)
NO_ALARM = "No alarm was raised on the answers."
ALARMS_ABOVE = "Alarms were raised on the answers: they stand at the top of this report."
CONTROL_KINDS = {
    "other-question": "against the answer to another question",
    "truncated": "against a truncated answer",
    "empty": "against an empty answer",
}
"""What the right answer is shown against, by the kind of control."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Whether the verdict is pre-registered, in two words and in a sentence; ``changed`` lists what
    was changed since."""

    registered: bool
    sentence: str
    changed: tuple[str, ...] = ()

    @property
    def badge(self) -> str:
        """For the place beside the outcome."""
        return (
            "pre-registered, by the run's own record" if self.registered else "not pre-registered"
        )


@dataclass(frozen=True, kw_only=True)
class Placebo:
    """Tuned against an adapter that learned from shuffled responses."""

    sentence: str
    caption: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Controls:
    """The judge's accuracy on the control pairs of one kind, or on all of them."""

    name: str
    accuracy: Shown
    contradictions: str
    ties: str
    unparsed: str


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What was found of one judge under one protocol. ``refused`` is one that may not decide;
    ``sentence`` is empty where the report has said it before."""

    title: str
    sentence: str
    refused: bool
    controls: tuple[Controls, ...]
    cannot: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]


def standing(results: Results) -> Standing:
    """What is said of the verdict's rule. A list of changes is not repeated in its sentence."""
    found = results.registration
    if found is None:
        return Standing(registered=False, sentence=NOT_RECORDED)
    sentence = found.sentence
    if found.differences:
        sentence = sentence.removesuffix("; ".join(found.differences) + ".").rstrip()
    elif found.registered:
        sentence = f"{sentence} {OWN_RECORD}"
    return Standing(
        registered=found.registered,
        sentence=sentence,
        changed=found.differences,
    )


def beside_verdict(results: Results) -> str:
    """The second opinion and the detectable effect: ``by the bootstrap: 48.1 to 60.2 %; …``."""
    verdict = results.verdict
    kind = METRICS.get(verdict.metric, Kind(label=verdict.metric, unit="", better="higher"))
    signed = not kind.null
    said = []
    second = verdict.second_opinion
    if second is not None and second.low is not None and second.high is not None:
        unit = "" if not kind.percent else " points" if signed else " %"
        shown = parts(second, percent=kind.percent, signed=signed)
        said.append(f"{_by(second.method)}: {shown.interval}{unit}")
    detectable = parts(verdict.estimate, percent=kind.percent, signed=signed).detectable
    if detectable:
        said.append(f"detectable: {detectable}")
    return "; ".join(said)


def _by(method: str) -> str:
    if "bootstrap" in method:
        return "by the bootstrap"
    return "by Student's t" if method.startswith("t(") else f"by {method or 'another method'}"


def alarms(results: Results) -> list[str]:
    """Each alarm as a sentence that says whose answers it is about, and how many; what was raised
    on the answers of several is said once."""
    several = len(results.benchmarks) > 1
    groups: dict[tuple[str, str], list[Alarm]] = {}
    for it in results.alarms:
        what = it.text.removeprefix(f"{_told(it)} answers ")
        groups.setdefault((it.id, what), []).append(it)
    return [
        _alarm(found[0], several=several)
        if len(found) == 1
        else f"Answers {what.rstrip('.')}. {_listed(found)}."
        for (_, what), found in groups.items()
    ]


def _listed(found: Iterable[Alarm]) -> str:
    """``AlpacaEval 2: tuned 7 of 40, base 4 of 40; MT-Bench: …``."""
    by_benchmark: dict[str | None, list[str]] = {}
    for it in found:
        told = f"{it.arm} {_told(it)}" if it.arm else _told(it)
        by_benchmark.setdefault(it.benchmark, []).append(told)
    parts = []
    for name, told_of in by_benchmark.items():
        of = f"{TITLES.get(name, name)}: " if name is not None else ""
        parts.append(of + ", ".join(told_of))
    return "; ".join(parts)


def _told(alarm: Alarm) -> str:
    return f"{count(alarm.count)} of {count(alarm.of)}"


def _alarm(alarm: Alarm, *, several: bool) -> str:
    whose = alarm.arm[:1].upper() + alarm.arm[1:] if alarm.arm else ""
    if several and alarm.benchmark:
        title = TITLES.get(alarm.benchmark, alarm.benchmark)
        whose = f"{whose} ({title})" if whose else title
    text = alarm.text.rstrip(".")
    told = _told(alarm)
    if told not in text:
        text += f" ({told})"
    return f"{whose}: {text}." if whose else f"{text[:1].upper()}{text[1:]}."


def placebo(results: Results) -> Placebo | None:
    """The placebo's sentence and its two or three estimates; None where none was trained."""
    found = results.placebo
    if found is None:
        return None
    kind = METRICS.get(found.metric, Kind(label=found.metric, unit="", better="higher"))
    over = "Tuned over placebo"
    if found.tuned_gain is None and found.placebo_gain is None:
        over = "Tuned against placebo: win rate less one half"
    rows = (
        ("Gain of tuned over base", found.tuned_gain),
        ("Gain of placebo over base", found.placebo_gain),
        (over, found.over_placebo),
    )
    unit = "" if kind.percent or not kind.unit else f", {kind.unit}"
    return Placebo(
        sentence=found.sentence,
        caption=f"{kind.label}{unit}; above 0 is better",
        rows=tuple(
            (what, parts(e, percent=kind.percent, signed=True).full)
            for what, e in rows
            if e is not None
        ),
    )


# --- the judge -------------------------------------------------------------------------------


def judges(results: Results) -> list[Judged]:
    """One block for each judge and protocol, with what was found of them; none without a judge."""
    judged = [(n, r) for n, b in results.benchmarks.items() for r in pairwise_results(b)]
    groups: list[tuple[tuple[str, str, JudgeCheck | None], list[tuple[str, PairwiseResult]]]] = []
    for name, found in judged:
        key = (found.judge, found.protocol, found.check)
        same = next((members for k, members in groups if k == key), None)
        if same is None:
            groups.append((key, [(name, found)]))
        else:
            same.append((name, found))
    several = len(results.benchmarks) > 1
    blocks: list[Judged] = []
    for (judge, protocol, check), members in groups:
        rows = [
            row
            for name, found in members
            for row in _position(found, _of(name, found, several) if len(judged) > 1 else "")
        ]
        blocks.append(
            _judged(judge, protocol, check, [*_unparsed(results, judge, protocol), *rows])
        )
    blocks += [
        _judged(
            b.ratings.judge,
            b.ratings.protocol,
            None,
            _unparsed(results, b.ratings.judge, b.ratings.protocol),
        )
        for b in results.benchmarks.values()
        if b.ratings is not None
    ]
    return _said_once(blocks, content.reasons(results))


def _said_once(blocks: Iterable[Judged], said_above: Iterable[str]) -> list[Judged]:
    """The blocks, without the sentence of a judge that was not tested where it was said before."""
    said = set(said_above)
    told = []
    for it in blocks:
        again = it.sentence in said and not it.controls and not it.refused
        told.append(replace(it, sentence="") if again else it)
        said.add(it.sentence)
    return told


def _judged(
    judge: str, protocol: str, check: JudgeCheck | None, rows: list[tuple[str, str]]
) -> Judged:
    kinds = check.by_kind if check is not None else {}
    controls = [_controls(CONTROL_KINDS.get(kind, kind), found) for kind, found in kinds.items()]
    if check is not None and check.overall is not None and check.overall.n_controls:
        controls.append(_controls("all control pairs", check.overall))
    if check is not None:
        rows = [*rows, *_drift(check.drift), *_self_comparison(check)]
    return Judged(
        title=f"{judge}, with {protocol_name(protocol)}",
        sentence=check.sentence if check is not None and check.sentence else NOT_TESTED,
        refused=check is not None and check.passes is False,
        controls=tuple(controls),
        cannot=check.cannot if check is not None else (),
        rows=tuple(rows),
    )


def _unparsed(results: Results, judge: str, protocol: str) -> list[tuple[str, str]]:
    """How many of a judge's replies could not be read, and why."""
    found = next((r for r in results.replies if (r.judge, r.protocol) == (judge, protocol)), None)
    if found is None:
        return []
    why = "; ".join(f"{reason} ({count(n)})" for reason, n in found.unparsed.items())
    text = f"{count(sum(found.unparsed.values()))} of {count(found.n_replies)}"
    if found.n_cut:
        text += f" (with {count(found.n_cut)} on cut answers)"
    text += f": {why}" if why else ""
    return [("Replies that could not be read", text)]


def _of(name: str, found: PairwiseResult, several: bool) -> str:
    """Which result a row is about, where there are several."""
    title = f"{TITLES.get(name, name)}, " if several else ""
    return f" ({title}against {found.opponent})"


def _controls(name: str, found: ControlAccuracy) -> Controls:
    return Controls(
        name=name,
        accuracy=parts(found.accuracy, percent=True),
        contradictions=count(found.n_contradictions),
        ties=count(found.n_ties),
        unparsed=count(found.n_unparsed),
    )


def _position(found: PairwiseResult, suffix: str) -> Iterator[tuple[str, str]]:
    """What the order of the answers changes; nothing of a judge that is no model and sees none."""
    if found.judge == REFERENCE_JUDGE:
        return
    undecided = f"undecided: {' or '.join(['tied', *_without_reply(found)])}"
    first = parts(found.first_preferred, percent=True, rest=undecided)
    yield f"Answer shown first preferred{suffix}", first.text
    alone = f"without two replies: {' or '.join(_without_reply(found) or ['not judged'])}"
    agree = parts(
        found.order_agreement, percent=True, rest=alone if found.orders == 2 else "judged"
    )
    yield f"Both orders agree{suffix}", agree.text
    if found.orders == 2:
        yield f"Pairs whose two orders disagree{suffix}", count(found.n_inconsistent)


def _without_reply(found: PairwiseResult) -> list[str]:
    """Why a pair may have no reply that says anything of the judge."""
    told = (("not asked", found.n_not_asked), ("unparsed", found.n_unparsed))
    reasons = [why for why, n in told if n]
    # What has neither lacks an answer.
    return reasons + (["not judged"] if found.pairs.unscored and not found.n_unparsed else [])


def _drift(found: ReplyDrift | None) -> Iterator[tuple[str, str]]:
    if found is None or not found.n_repeated:
        return
    text = f"{count(found.n_repeated)}; no two replies could be compared"
    if found.n_compared:
        text = (
            f"{count(found.n_repeated)}; of {count(found.n_compared)} that could be compared, the "
            f"preferred answer changed on {count(found.n_changed)}"
        )
    if found.mean_shift is not None:
        text += f"; its probability moved by {number(found.mean_shift)} on the mean"
    yield "Requests sent twice", text


def _self_comparison(check: JudgeCheck) -> Iterator[tuple[str, str]]:
    if check.self_comparison is not None:
        shown = parts(check.self_comparison, percent=True).full
        yield "A second answer of tuned preferred to its first (A/A)", shown
