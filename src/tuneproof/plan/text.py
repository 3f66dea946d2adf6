"""The plan for people: sections of aligned lines, a histogram and bars, colour on a terminal."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from tuneproof.plan.findings import tally
from tuneproof.progress import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.text import Text

    from tuneproof.plan.build import Plan
    from tuneproof.plan.cards import GpuTime

WIDTH = 100
_LABEL = 15
_BAR = 40
_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def show_plan(plan: Plan) -> None:
    """Print the plan to standard output."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for line in plan_text(plan):
        console.print(line)


def plan_text(plan: Plan) -> list[Text]:
    """The plan as lines, styled; ``Text.plain`` is the line without its style."""
    from rich.text import Text

    lines = [Text(f"plan of {plan.name}, {printable(plan.model)}", style="bold")]
    for title, body in (
        ("Data", _data(plan)),
        ("Tokens", _tokens(plan)),
        ("Model", _model(plan)),
        ("Steps", _steps(plan)),
        ("Memory", _memory(plan)),
        ("Time", _time(plan)),
        ("Judge", _judge(plan)),
        ("Disk", _disk(plan)),
    ):
        lines += [Text(""), Text(title, style="bold cyan")]
        lines += [Text(line) for line in body]
    lines += [Text(""), Text.assemble(("Findings", "bold cyan"), f"  {tally(plan.findings)}")]
    for finding in plan.findings:
        style = _STYLES[finding.severity]
        lines.append(Text(""))
        head = f"  {finding.severity:<{_LABEL - 2}}"
        lines.append(Text.assemble((head, style), (finding.id, "bold"), f"  {finding.count:,}"))
        lines += [Text(line) for line in _wrapped("", finding.evidence)]
        lines += [Text(line, style="green") for line in _wrapped("", f"→ {finding.remedy}")]
    if plan.notes:
        lines += [Text(""), Text("Notes", style="bold cyan")]
        lines += [Text(line) for note in plan.notes for line in _wrapped("", note)]
    return lines


def _wrapped(label: str, text: str) -> list[str]:
    """A label and its text, lines after the first indented to the text."""
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=f"  {label:<{_LABEL - 2}}",
        subsequent_indent=" " * _LABEL,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _bar(value: float, most: float) -> str:
    """A bar against the longest; a sliver for what is too little, none for nothing."""
    if not value:
        return ""
    return "█" * round(_BAR * value / most) or "▏"


def _named(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts)


def _counted(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in counts)


# --- sections --------------------------------------------------------------------------------


def _data(plan: Plan) -> Iterator[str]:
    ledger = plan.ledger
    yield from _wrapped(
        "rows",
        f"{ledger.read:,} read, {ledger.kept:,} kept: {_counted(plan.rows.items())}",
    )
    if ledger.dropped:
        yield from _wrapped("dropped", _counted(ledger.dropped.items()))
    found = plan.repeats
    looked = (
        f"; {found.overlapping_questions:,} of {found.questions_checked:,} benchmark questions "
        "asked are in the training rows"
        if found.questions_checked
        else ""
    )
    yield from _wrapped(
        "repeats",
        f"{found.alike_pairs:,} pairs of {found.rows_compared:,} rows are alike{looked}",
    )


def _tokens(plan: Plan) -> Iterator[str]:
    t, v = plan.tokens, plan.validation_tokens
    yield from _wrapped(
        "an epoch",
        f"{t.real:,} tokens, {t.padded:,} with padding ({t.padded / t.real:.2f}×), "
        f"{t.supervised:,} targets",
    )
    yield from _wrapped(
        "validation",
        f"{v.real:,} tokens of {v.rows:,} rows each time, {v.padded:,} with padding "
        f"({v.padded / v.real:.2f}×)",
    )
    yield from _wrapped(
        "too long",
        f"{t.truncated_rows:,} rows, the whole response lost in {t.responses_lost:,}; "
        f"{t.contexts_shortened:,} contexts shortened, {t.rows_dropped:,} rows left out",
    )
    yield from _wrapped("EOS", f"learned from {t.eos_supervised_rows:,} rows")
    yield from _wrapped(
        "lengths",
        f"mean {t.mean:g}, median {t.median:,}, p95 {t.p95:,}, longest {t.longest:,} "
        "(before cutting)",
    )
    most = max(b.rows for b in t.histogram)
    for b in t.histogram:
        yield f"  {f'{b.start:,}–{b.end:,}':>16}  {b.rows:>7,}  {_bar(b.rows, most)}"


def _model(plan: Plan) -> Iterator[str]:
    context = f", context {plan.context:,} tokens" if plan.context else ""
    yield from _wrapped(
        "parameters",
        f"{plan.trainable_parameters:,} trainable of {plan.total_parameters:,} "
        f"({plan.trainable_percent} %){context}",
    )


def _steps(plan: Plan) -> Iterator[str]:
    each = f", for each of {plan.adapters} adapters" if plan.adapters > 1 else ""
    if plan.placebo_adapters:
        each += ", the placebo included"
    yield from _wrapped(
        "optimizer", f"{plan.optimizer_steps:,} steps, {plan.warmup_steps:,} of warm-up{each}"
    )
    yield from _wrapped(
        "evaluations",
        f"{plan.evaluations:,}, and as many checkpoints, of which two are kept",
    )


def _memory(plan: Plan) -> Iterator[str]:
    if plan.memory_gib is None:
        yield from _wrapped("", "not estimated, see the notes")
        return
    parts = plan.memory_gib.model_dump()
    most = max(value for name, value in parts.items() if name != "total")
    for name, value in parts.items():
        bar = "" if name == "total" else f"  {_bar(value, most)}"
        yield f"  {name:<14}{value:>9.2f} GiB{bar}"
    if plan.answering_gib is not None:
        a = plan.answering_gib
        yield from _wrapped(
            "answering",
            f"{a.total:.2f} GiB: weights {a.weights:.2f}, keys and values {a.keys_and_values:.2f}, "
            f"reading {a.activations:.2f}; a batch of {a.rows:,} prompts of up to {a.width:,} "
            "tokens",
        )
    fits = [name for name, yes in plan.fits.items() if yes]
    too_small = [name for name, yes in plan.fits.items() if not yes]
    yield from _wrapped("fits", ", ".join(fits) or "none of the cards known here")
    if too_small:
        yield from _wrapped("does not fit", ", ".join(too_small))
    for name, tokens in plan.fits_with_batch_tokens.items():
        yield from _wrapped(
            "", f"{name} can train, and answers with --set generate.batch_tokens={tokens}"
        )


def _time(plan: Plan) -> Iterator[str]:
    time = plan.time
    yield from _wrapped(time.source, time.how)
    if not time.by_gpu:
        evaluation = (
            "" if time.evaluation_s is None else f", evaluations {_duration(time.evaluation_s)}"
        )
        yield from _wrapped(
            "training",
            f"{_duration(time.training_s)}{evaluation} at {time.tokens_per_s:,.0f} tokens/s"
            f"{_usd(time.usd)}",
        )
        return
    shown = [name for name in time.by_gpu if plan.fits.get(name, True)] or list(time.by_gpu)
    for name in shown:
        yield _gpu_line(name, time.by_gpu[name])


def _gpu_line(name: str, time: GpuTime) -> str:
    return (
        f"  {name:<16} {_duration(time.total_s):>10}: training {_duration(time.training_s)}, "
        f"evaluations {_duration(time.evaluation_s)}, {time.tokens_per_s:,.0f} tokens/s"
        f"{_usd(time.usd)}"
    )


def _judge(plan: Plan) -> Iterator[str]:
    cost = plan.cost
    parts = (
        ("of the placebo", cost.placebo_answers),
        ("second ones of the tuned model", cost.second_answers),
    )
    extra = _counted((name, n) for name, n in parts if n)
    of_them = f", of them {extra}" if extra else ""
    yield from _wrapped("answers", f"{cost.answers:,}{of_them}")
    if not cost.judge_calls:
        yield from _wrapped("calls", f"none: {cost.how}")
        return
    at_most = cost.judge_calls_total + cost.rejudged_at_most
    more = f", at most {at_most:,}" if cost.rejudged_at_most else ""
    yield from _wrapped("calls", f"{cost.judge_calls_total:,}{more}")
    yield from _wrapped("benchmarks", _named(cost.judge_calls.items()))
    checks = cost.check_calls
    if checks.controls:
        yield from _wrapped("controls", f"{_named(checks.controls.items())}, asked first")
    others = (
        ("against the placebo", checks.placebo),
        ("second answers against first ones", checks.self_comparison),
        ("requests sent again", checks.repeats),
    )
    if any(n for _, n in others):
        yield from _wrapped("beside them", _named((name, n) for name, n in others if n))
    if cost.rejudged_at_most:
        yield from _wrapped(
            "cut answers",
            f"at most {cost.rejudged_at_most:,} calls more: only matches that a cut changes are "
            "judged again, and which these are the answers will show",
        )
    yield from _wrapped(
        "tokens",
        f"{cost.prompt_tokens:,} read and {cost.completion_tokens:,} written, at most "
        f"{cost.upper.prompt_tokens:,} and {cost.upper.completion_tokens:,}",
    )
    price = cost.price
    if price is None or cost.usd is None or cost.upper.usd is None:
        yield from _wrapped("price", "not known, see the notes")
    else:
        dated = f" of {price.dated}" if price.dated else ""
        yield from _wrapped(
            "price",
            f"{cost.usd:.2f} USD, at most {cost.upper.usd:.2f}: {price.model} at {price.input:.2f} "
            f"and {price.output:.2f} USD a million tokens, {price.source}{dated}",
        )
    yield from _wrapped("assumed", cost.how)


def _disk(plan: Plan) -> Iterator[str]:
    disk = plan.disk_gib
    yield from _wrapped(
        "GiB",
        f"{disk.total:.2f}: model {disk.model_cache:.2f}, adapters {disk.adapter:.3f}, checkpoints "
        f"{disk.checkpoints:.3f} while training",
    )


def _usd(usd: float | None) -> str:
    return "" if usd is None else f", {usd:,.2f} USD"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "under 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
