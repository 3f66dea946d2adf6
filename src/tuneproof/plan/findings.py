"""What looks wrong: the findings about text, tokens and training.

Each is a small pure function that counts on the data it is given and returns a finding or None.
Those about repeated rows are in ``repeats``, those about judging and verdict in ``evaluation``.

What the severities mean stands with ``Finding``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.records import SEVERITIES, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tuneproof.data.encode import EncodedRow
    from tuneproof.data.templates import Template
    from tuneproof.recipe import Train
    from tuneproof.records import Example


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first; within a severity as they come."""
    return sorted(findings, key=lambda f: SEVERITIES.index(f.severity))


def tally(findings: Iterable[Finding]) -> str:
    """``2 errors, 1 note``; ``none``."""
    found = [f.severity for f in findings]
    counts = {s: found.count(s) for s in SEVERITIES}
    return ", ".join(f"{n} {s}{'' if n == 1 else 's'}" for s, n in counts.items() if n) or "none"


def share(part: int, whole: int) -> str:
    """``220 of 12,008 (1.8 %)``."""
    percent = f"{100 * part / whole:.1f}".removesuffix(".0") if whole else "0"
    return f"{part:,} of {whole:,} ({percent} %)"


def for_example(ids: Sequence[str], most: int = 2) -> str:
    """``, for example row-00001 and row-00002``: where to look."""
    return f", for example {' and '.join(ids[:most])}" if ids else ""


TOLERATED = 0.01
"""Share of rows below which a defect weakens a result and does not decide it: it can move a rate
by one point at most, less than any benchmark here can tell (805 questions: five points)."""


# --- EOS and padding -------------------------------------------------------------------------


def masks_pads(train: Train) -> bool:
    """Whether the collator takes every pad token out of the loss, and with pad = EOS every EOS.

    That is ``DataCollatorForLanguageModeling``, which the trainer uses for the reference's case;
    otherwise labels are the rows' own.
    """
    return train.loss_on == "text" and not train.append_eos


def _targets(row: EncodedRow) -> tuple[int, ...]:
    start, end = row.supervised
    return row.token_ids[max(start, 1) : end]


def eos_not_supervised(rows: Sequence[EncodedRow], train: Train, *, eos: int) -> Finding | None:
    """Rows that do not teach where an answer ends.

    A row cut at ``max_length`` has no end to teach; those alone are no finding of this kind.
    """
    without = sum(
        masks_pads(train) or eos not in _targets(row)
        for row in rows
        if not (train.append_eos and row.was_cut and not row.ends_with_eos)
    )
    if not without:
        return None
    ends = any(eos in row.token_ids[1:] for row in rows)
    why = (
        "no EOS is in the text"
        if not ends
        else "the collator takes EOS out of the loss as padding"
        if masks_pads(train)
        else "their EOS is no target"
    )
    return Finding(
        id="eos-not-supervised",
        severity="error" if without > TOLERATED * len(rows) else "warning",
        count=without,
        evidence=f"{share(without, len(rows))} rows have no EOS among their targets: {why}. The "
        "model never learns to stop, and its answers run to generate.max_new_tokens.",
        remedy="--set train.append_eos=true",
    )


def pad_is_eos(rows: Sequence[EncodedRow], train: Train, *, eos: int) -> Finding | None:
    """The pad token is EOS (as the reference has it, and as ``load_tokenizer`` always sets it)."""
    lost = sum(eos in row.token_ids[1:] for row in rows) if masks_pads(train) else 0
    if lost:
        return Finding(
            id="pad-is-eos",
            severity="error",
            count=lost,
            evidence=f"{share(lost, len(rows))} rows hold an EOS, which the collator takes for "
            "padding and leaves out of the loss.",
            remedy="--set train.append_eos=true, and no EOS in data.template: labels then are the "
            "rows' own.",
        )
    if masks_pads(train):
        return Finding(
            id="pad-is-eos",
            severity="warning",
            count=len(rows),
            evidence="The pad token is EOS, and the collator leaves every pad token out of the "
            "loss: an EOS written into the text would not be learned either.",
            remedy="--set train.append_eos=true: labels then are the rows' own.",
        )
    return Finding(
        id="pad-is-eos",
        severity="note",
        count=len(rows),
        evidence="The pad token is EOS. Padding is masked by position here, not by token, so an "
        "EOS at the end of a row stays a target.",
        remedy="Nothing to do.",
    )


# --- length ----------------------------------------------------------------------------------


def response_truncated(
    rows: Sequence[EncodedRow], ids: Sequence[str], train: Train
) -> Finding | None:
    """Rows that are trained on with a part of their response cut off, or all of it."""
    if train.over_length == "drop":
        return None
    cut = [(row, id_) for row, id_ in zip(rows, ids, strict=True) if _lost_its_end(row, train)]
    if not cut:
        return None
    # Where only the response is learned, a row without one has no target and is left out.
    lost = [id_ for row, id_ in cut if row.response_lost]
    harmful = bool(lost) and train.loss_on == "text"
    remedies = {
        "cut": "--set train.over_length=shorten-context (or drop), or a larger train.max_length",
        "shorten-context": "These have no context left to shorten: a larger train.max_length, or "
        "--set train.over_length=drop",
    }
    left_out = "" if harmful or not lost else " (left out of training)"
    return Finding(
        id="response-truncated",
        severity="error" if harmful or len(cut) > TOLERATED * len(rows) else "warning",
        count=len(cut),
        evidence=f"{share(len(cut), len(rows))} rows lose a part of their response at "
        f"{train.max_length:,} tokens, {len(lost):,} of them the whole response{left_out}"
        f"{for_example(lost or [id_ for _, id_ in cut])}.",
        remedy=remedies[train.over_length],
    )


def _lost_its_end(row: EncodedRow, train: Train) -> bool:
    if row.context_shortened:
        # It fits now, unless it fills the limit without an end.
        whole = row.ends_with_eos or len(row.token_ids) < train.max_length
        return not whole
    return row.was_cut


def over_context(max_length: int, context: int | None) -> Finding | None:
    """Rows longer than what the model was made for."""
    if context is None or max_length <= context:
        return None
    return Finding(
        id="over-context",
        severity="error",
        count=1,
        evidence=f"train.max_length is {max_length:,}, and the model's context {context:,} tokens.",
        remedy=f"--set train.max_length={context}",
    )


# --- prompts ---------------------------------------------------------------------------------


def prompt_in_loss(rows: Sequence[EncodedRow], train: Train) -> Finding | None:
    """Targets that belong to the prompt."""
    if train.loss_on != "text":
        return None
    targets = sum(row.n_targets for row in rows)
    of_prompt = sum(max(0, min(row.n_prompt, len(row.token_ids)) - 1) for row in rows)
    if not of_prompt:
        return None
    return Finding(
        id="prompt-in-loss",
        severity="warning",
        count=of_prompt,
        evidence=f"{share(of_prompt, targets)} target tokens are of the prompt, which is given at "
        "inference: the loss is mostly about what need not be learned."
        if of_prompt > targets / 2
        else f"{share(of_prompt, targets)} target tokens are of the prompt, which is given at "
        "inference.",
        remedy="--set train.loss_on=response",
    )


def prompt_mismatch(rows: Sequence[EncodedRow], ids: Sequence[str]) -> Finding | None:
    """Rows whose tokens do not begin with the tokens of the prompt that is asked at inference."""
    found = [id_ for row, id_ in zip(rows, ids, strict=True) if not row.prompt_matches]
    if not found:
        return None
    return Finding(
        id="prompt-mismatch",
        severity="error" if len(found) > TOLERATED * len(rows) else "warning",
        count=len(found),
        evidence=f"{share(len(found), len(rows))} rows are tokenized otherwise than their prompt "
        f"alone{for_example(found)}: what is asked at inference was not seen in training.",
        remedy="Let the prompt in data.template end with a newline instead of a space or letters.",
    )


def double_bos(
    rows: Sequence[EncodedRow], ids: Sequence[str], *, bos: int | None
) -> Finding | None:
    """Rows that begin with two BOS: one in the text, one by the tokenizer."""
    found = [id_ for row, id_ in zip(rows, ids, strict=True) if row.token_ids[:2] == (bos, bos)]
    if bos is None or not found:
        return None
    return Finding(
        id="double-bos",
        severity="error",
        count=len(found),
        evidence=f"{share(len(found), len(rows))} rows begin with two BOS tokens"
        f"{for_example(found)}: the tokenizer adds one to the one in the text.",
        remedy="Take BOS out of data.template.",
    )


def empty_section(examples: Sequence[Example], template: Template) -> Finding | None:
    """Rows with a heading for a context and nothing under it."""
    if not template.keeps_empty_context:
        return None
    found = [e.id for e in examples if not e.context]
    if not found:
        return None
    return Finding(
        id="empty-section",
        severity="warning",
        count=len(found),
        evidence=f"{share(len(found), len(examples))} rows have no context, and a Context section "
        f"all the same{for_example(found)}: the model learns to read past an empty heading.",
        remedy="--set data.template=instruction-optional-context-response",
    )


def vocabulary_mismatch(n_tokens: int, vocabulary: int | None) -> Finding | None:
    """A tokenizer that knows more tokens than the model has embeddings."""
    if vocabulary is None or n_tokens <= vocabulary:
        return None
    return Finding(
        id="vocabulary-mismatch",
        severity="error",
        count=n_tokens - vocabulary,
        evidence=f"The tokenizer has {n_tokens:,} tokens, the model embeddings for {vocabulary:,}.",
        remedy="Set model.tokenizer to the model's own tokenizer.",
    )
