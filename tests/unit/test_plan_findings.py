"""Every finding about text, tokens and training: when it fires, how often, and when it does not."""

from __future__ import annotations

import pytest

from tuneproof.data.encode import EncodedRow
from tuneproof.data.templates import parse_template
from tuneproof.plan.findings import (
    by_severity,
    double_bos,
    empty_section,
    eos_not_supervised,
    over_context,
    pad_is_eos,
    prompt_in_loss,
    prompt_mismatch,
    response_truncated,
    share,
    vocabulary_mismatch,
)
from tuneproof.recipe import Train
from tuneproof.records import Example, Finding

BOS, EOS = 1, 2
REFERENCE = Train(append_eos=False, loss_on="text", max_length=8)
MENDED = Train(append_eos=True, loss_on="response", max_length=8, over_length="shorten-context")


def encoded(
    *ids: int,
    n_prompt: int = 2,
    n_whole: int | None = None,
    start: int = 0,
    matches: bool = True,
    shortened: bool = False,
) -> EncodedRow:
    return EncodedRow(
        token_ids=ids,
        supervised=(min(start, len(ids)), len(ids)),
        n_prompt=n_prompt,
        n_whole=n_whole or len(ids),
        ends_with_eos=ids[-1] == EOS,
        prompt_matches=matches,
        context_shortened=shortened,
    )


def names(rows: list[EncodedRow]) -> list[str]:
    return [f"row-{i:05}" for i in range(len(rows))]


PLAIN = encoded(BOS, 5, 6, 7)
ENDED = encoded(BOS, 5, 6, EOS, start=2)
CUT = encoded(BOS, 5, 6, 7, 8, 9, 10, 11, n_prompt=4, n_whole=20, start=4)


def test_share_reads_well() -> None:
    assert share(220, 12008) == "220 of 12,008 (1.8 %)"
    assert share(12008, 12008) == "12,008 of 12,008 (100 %)"
    assert share(0, 0) == "0 of 0 (0 %)"


def test_errors_come_first() -> None:
    found = [
        Finding(id=s, severity=s, count=1, evidence="", remedy="")
        for s in ("note", "error", "warning", "error")
    ]
    assert [f.severity for f in by_severity(found)] == ["error", "error", "warning", "note"]


# --- EOS -------------------------------------------------------------------------------------


def test_eos_that_nobody_learns() -> None:
    finding = eos_not_supervised([PLAIN] * 3, REFERENCE, eos=EOS)
    assert finding is not None
    assert (finding.id, finding.severity, finding.count) == ("eos-not-supervised", "error", 3)
    assert "no EOS is in the text" in finding.evidence
    assert finding.remedy == "--set train.append_eos=true"


def test_eos_in_the_text_that_the_collator_masks() -> None:
    """The trap: a template that ends in </s>, and pad = EOS."""
    finding = eos_not_supervised([ENDED, PLAIN], REFERENCE, eos=EOS)
    assert finding is not None
    assert finding.count == 2
    assert "as padding" in finding.evidence
    padding = pad_is_eos([ENDED, PLAIN], REFERENCE, eos=EOS)
    assert padding is not None
    assert (padding.severity, padding.count) == ("error", 1)


def test_eos_that_is_learned() -> None:
    assert eos_not_supervised([ENDED] * 3, MENDED, eos=EOS) is None
    # A cut row has no end to teach.
    assert eos_not_supervised([ENDED, CUT], MENDED, eos=EOS) is None
    # An EOS in the template, and labels that are the rows' own.
    own = Train(append_eos=False, loss_on="response", max_length=8)
    assert eos_not_supervised([ENDED], own, eos=EOS) is None
    few = eos_not_supervised([ENDED] * 199 + [encoded(BOS, 5, 6, 7, start=2)], own, eos=EOS)
    assert few is not None
    assert (few.severity, few.count) == ("warning", 1)


def test_pad_is_eos_is_told_either_way() -> None:
    masked = pad_is_eos([PLAIN], REFERENCE, eos=EOS)
    kept = pad_is_eos([ENDED], MENDED, eos=EOS)
    assert masked is not None
    assert masked.severity == "warning"
    assert kept is not None
    assert kept.severity == "note"


# --- length ----------------------------------------------------------------------------------


def test_responses_cut_off() -> None:
    lost = encoded(BOS, 5, 6, 7, 8, 9, 10, 11, n_prompt=9, n_whole=20)
    rows = [PLAIN, CUT, lost, PLAIN]
    finding = response_truncated(rows, names(rows), REFERENCE)
    assert finding is not None
    assert (finding.severity, finding.count) == ("error", 2)
    assert "2 of 4 (50 %)" in finding.evidence
    assert "1 of them the whole response" in finding.evidence
    assert "row-00002" in finding.evidence
    assert "shorten-context" in finding.remedy


def test_few_cut_responses_are_a_warning() -> None:
    rows = [PLAIN] * 199 + [CUT]
    finding = response_truncated(rows, names(rows), REFERENCE)
    assert finding is not None
    assert finding.severity == "warning"
    # One response wholly lost is learned as a prompt without an answer.
    rows = [PLAIN] * 199 + [encoded(*range(8), n_prompt=9, n_whole=20)]
    finding = response_truncated(rows, names(rows), REFERENCE)
    assert finding is not None
    assert finding.severity == "error"
    # Where only responses are learned, such a row has no target and is left out.
    finding = response_truncated(rows, names(rows), MENDED)
    assert finding is not None
    assert finding.severity == "warning"
    assert "left out of training" in finding.evidence


def test_a_shortened_context_loses_nothing() -> None:
    fits = encoded(BOS, 5, 6, 7, 8, 9, 10, EOS, n_prompt=4, n_whole=20, shortened=True)
    assert fits.was_cut
    assert response_truncated([fits], ["row-00000"], MENDED) is None
    does_not = encoded(BOS, 5, 6, 7, 8, 9, 10, 11, n_prompt=4, n_whole=20, shortened=True)
    finding = response_truncated([does_not], ["row-00000"], MENDED)
    assert finding is not None
    assert "no context left" in finding.remedy


def test_dropped_rows_are_not_truncated() -> None:
    dropping = Train(over_length="drop", max_length=8)
    assert response_truncated([CUT], ["row-00000"], dropping) is None
    assert response_truncated([PLAIN], ["row-00000"], REFERENCE) is None


@pytest.mark.parametrize(
    ("max_length", "context", "fires"), [(1024, 4096, 0), (4096, 4096, 0), (4097, 4096, 1)]
)
def test_over_context(max_length: int, context: int, fires: int) -> None:
    finding = over_context(max_length, context)
    assert (finding is not None) == bool(fires)
    assert over_context(max_length, None) is None


# --- prompts ---------------------------------------------------------------------------------


def test_prompt_tokens_among_the_targets() -> None:
    rows = [encoded(BOS, 5, 6, 7, 8, n_prompt=3), encoded(BOS, 5, 6, n_prompt=9)]
    finding = prompt_in_loss(rows, REFERENCE)
    assert finding is not None
    # Of four and two targets, two and two are the prompt's: the first token is none.
    assert finding.count == 4
    assert "4 of 6 (66.7 %)" in finding.evidence
    assert prompt_in_loss(rows, MENDED) is None


def test_prompts_that_tokenize_otherwise() -> None:
    rows = [PLAIN] * 3 + [encoded(BOS, 5, 6, matches=False)]
    finding = prompt_mismatch(rows, names(rows))
    assert finding is not None
    assert (finding.severity, finding.count) == ("error", 1)
    assert "row-00003" in finding.evidence
    rare = prompt_mismatch(rows + [PLAIN] * 300, names(rows + [PLAIN] * 300))
    assert rare is not None
    assert rare.severity == "warning"
    assert prompt_mismatch([PLAIN], ["row-00000"]) is None


def test_two_bos() -> None:
    rows = [PLAIN, encoded(BOS, BOS, 5, 6)]
    finding = double_bos(rows, names(rows), bos=BOS)
    assert finding is not None
    assert (finding.severity, finding.count) == ("error", 1)
    assert double_bos([PLAIN], ["row-00000"], bos=BOS) is None
    assert double_bos(rows, names(rows), bos=None) is None


def test_sections_with_nothing_in_them() -> None:
    def example(i: int, context: str) -> Example:
        return Example(id=f"row-{i}", instruction="i", context=context, response="r", category=None)

    examples = [example(0, ""), example(1, "some"), example(2, "")]
    finding = empty_section(examples, parse_template("instruction-context-response"))
    assert finding is not None
    assert finding.count == 2
    optional = parse_template("instruction-optional-context-response")
    assert empty_section(examples, optional) is None
    assert empty_section(examples, parse_template("{instruction}\n{response}")) is None
    assert empty_section(examples[1:2], parse_template("instruction-context-response")) is None


def test_a_tokenizer_of_another_model() -> None:
    finding = vocabulary_mismatch(49152, 32000)
    assert finding is not None
    assert (finding.severity, finding.count) == ("error", 17152)
    assert vocabulary_mismatch(32000, 32000) is None
    assert vocabulary_mismatch(32000, None) is None
