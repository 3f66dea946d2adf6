"""Rows to look at: which ones, and what training makes of each of their tokens.

Roles come from the labels that the training's own collator gives, not from what the recipe says:
the reference's collator takes every EOS out of the loss, and that has to be seen here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from typing import TYPE_CHECKING

from tuneproof.data.encode import IGNORED, EncodedRow, encode_rows
from tuneproof.data.prepare import check_data, prepare
from tuneproof.errors import UsageError
from tuneproof.preview.tokens import token_texts
from tuneproof.progress import hush_transformers
from tuneproof.records import Split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from transformers import PreTrainedTokenizerBase

    from tuneproof.data.templates import Template
    from tuneproof.recipe import Recipe, Train
    from tuneproof.records import Example


class Role(StrEnum):
    """What training makes of a token.

    ``first`` is a row's first token where it is no BOS: nothing stands before it, so it is never
    predicted. BOS and EOS may be targets or not; ``PreviewToken.target`` says so.
    """

    BOS = "bos"
    FIRST = "first"
    SUPERVISED = "supervised"
    MASKED = "masked"
    EOS = "eos"
    CUT = "cut"


@dataclass(frozen=True, kw_only=True)
class PreviewToken:
    """One token. ``target`` says whether it is predicted and counts in the loss."""

    id: int
    text: str
    role: Role
    target: bool
    part: str


@dataclass(frozen=True, kw_only=True)
class PreviewRow:
    """One row: why it is shown, its counts, its tokens (those that were cut included).

    ``n_whole`` tokens without a limit; ``n_tokens`` are left, ``n_supervised`` of them targets, and
    ``n_cut`` are lost (a shortened context may also end in other tokens).
    ``left_out`` says why the row is not trained on at all, where it is not.
    """

    id: str
    split: str
    line: int
    why: tuple[str, ...]
    n_whole: int
    n_tokens: int
    n_supervised: int
    n_cut: int
    n_prompt: int
    prompt_matches: bool
    response_lost: bool
    context_shortened: bool
    ends_with_eos: bool
    left_out: str | None
    tokens: tuple[PreviewToken, ...]


@dataclass(frozen=True, kw_only=True)
class Preview:
    """The rows, and what of the recipe shaped them."""

    name: str
    split: str
    n_rows: int
    max_length: int
    over_length: str
    loss_on: str
    append_eos: bool
    rows: tuple[PreviewRow, ...]

    def to_json(self) -> dict[str, object]:
        """Everything, tokens as ``{id, text, role, target, part}``."""
        return asdict(self)


def make_preview(
    recipe: Recipe, *, n_rows: int = 5, split: str = "train", row_ids: Sequence[str] = ()
) -> Preview:
    """Choose ``n_rows`` rows of a split, or the rows with the given ids, and label their tokens.

    Raises:
        UsageError: there is no such row or split, or what the run itself would refuse.
    """
    from tuneproof.train.model import load_tokenizer
    from tuneproof.train.stage import usable

    hush_transformers()
    if split not in (Split.TRAIN, Split.VALIDATION):
        raise UsageError(
            "expected train or validation",
            place="--split",
            value=split,
            remedy="Rows of the test split are asked at evaluation, never trained on.",
        )
    template = check_data(recipe.data)
    splits = prepare(recipe.data, recipe.seed).splits
    examples = splits[Split(split)]
    tokenizer = load_tokenizer(recipe.model)
    if row_ids:
        asked = _by_id(splits, Split(split), row_ids)
        chosen = [(line, ["asked for with --row"]) for line in asked]
        encoded = dict(zip(asked, _encode(tokenizer, template, [examples[i] for i in asked],
                                          recipe.train), strict=True))  # fmt: skip
    else:
        rows = _encode(tokenizer, template, examples, recipe.train)
        chosen = choose(examples, rows, n_rows=n_rows, over_length=recipe.train.over_length)
        encoded = {i: rows[i] for i, _ in chosen}
    wholes = _encode(
        tokenizer, template, [examples[i] for i, _ in chosen], recipe.train, whole=True
    )
    shown = []
    for (i, why), whole in zip(chosen, wholes, strict=True):
        row = encoded[i]
        dropped = usable([row], recipe.train.over_length)[1].dropped
        tokens = _tokens(tokenizer, recipe.train, row, whole)
        shown.append(
            PreviewRow(
                id=examples[i].id,
                split=split,
                line=i + 1,
                why=tuple(why),
                n_whole=row.n_whole,
                n_tokens=len(row.token_ids),
                n_supervised=sum(t.target for t in tokens),
                n_cut=sum(t.role is Role.CUT for t in tokens),
                n_prompt=row.n_prompt,
                prompt_matches=row.prompt_matches,
                response_lost=row.response_lost,
                context_shortened=row.context_shortened,
                ends_with_eos=row.ends_with_eos,
                left_out=next(iter(dropped), None),
                tokens=tokens,
            )
        )
    return Preview(
        name=recipe.name,
        split=split,
        n_rows=len(examples),
        max_length=recipe.train.max_length,
        over_length=recipe.train.over_length,
        loss_on=recipe.train.loss_on,
        append_eos=recipe.train.append_eos,
        rows=tuple(shown),
    )


def _encode(
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    examples: Sequence[Example],
    train: Train,
    *,
    whole: bool = False,
) -> list[EncodedRow]:
    """The rows as training has them; ``whole``: as they would be without a limit."""
    return encode_rows(
        tokenizer,
        template,
        examples,
        max_length=None if whole else train.max_length,
        append_eos=train.append_eos,
        loss_on=train.loss_on,
        over_length=train.over_length,
    )


def _by_id(
    splits: Mapping[Split, Sequence[Example]], split: Split, row_ids: Sequence[str]
) -> list[int]:
    """Places of the rows in the split, in the order asked for."""
    places = {e.id: i for i, e in enumerate(splits[split])}
    for row_id in row_ids:
        if row_id in places:
            continue
        home = next((s for s, rows in splits.items() if any(e.id == row_id for e in rows)), None)
        raise UsageError(
            f"is in the {home} split" if home else "no such row",
            place="--row",
            value=row_id,
            remedy=f"--split {home}"
            if home is Split.TRAIN or home is Split.VALIDATION
            else f"Rows are named as in prepare/examples.jsonl: {splits[split][0].id}.",
        )
    return list(dict.fromkeys(places[row_id] for row_id in row_ids))


# --- which rows ------------------------------------------------------------------------------

_TOO_LONG = {
    "cut": ("is cut", "are cut"),
    "shorten-context": ("is too long", "are too long"),
    "drop": ("is dropped for its length", "are dropped for their length"),
}


_KINDS: tuple[tuple[Callable[[EncodedRow], bool], str, str], ...] = (
    (
        lambda row: row.context_shortened and not row.response_lost,
        "gives up context for its response",
        "give up context for their response",
    ),
    (lambda row: row.response_lost, "loses its whole response", "lose their whole response"),
    (
        lambda row: not row.prompt_matches,
        "is tokenized otherwise at inference, up to its response",
        "are tokenized otherwise at inference, up to their response",
    ),
)


def choose(
    examples: Sequence[Example], rows: Sequence[EncodedRow], *, n_rows: int, over_length: str
) -> list[tuple[int, list[str]]]:
    """Rows that teach, each with the reasons why it was chosen; then the next rows in order.

    The first row, the longest over the limit, one whose prompt is tokenized otherwise than at
    inference, one with a context and one without, a short one. A row that is there already stands
    for a later reason too.
    """
    chosen: dict[int, list[str]] = {}
    for fits, why in _lessons(examples, rows, over_length):
        here = next((i for i in chosen if fits(i)), None)
        place = here if here is not None else next((i for i in range(len(rows)) if fits(i)), None)
        if place is not None and (place in chosen or len(chosen) < n_rows):
            chosen.setdefault(place, []).append(why)
    for i in range(len(rows)):
        if len(chosen) >= n_rows:
            break
        if i not in chosen:
            chosen[i] = ["the next one in order"]
    return list(chosen.items())


def _lessons(
    examples: Sequence[Example], rows: Sequence[EncodedRow], over_length: str
) -> Iterator[tuple[Callable[[int], bool], str]]:
    """What a row can show: which rows do, and how that is said."""
    yield lambda i: i == 0, "the first row"
    cut = [i for i, row in enumerate(rows) if row.was_cut]
    if cut:
        longest = max(cut, key=lambda i: rows[i].n_whole)
        one, many = _TOO_LONG[over_length]
        said = f"the longest of {len(cut):,} that {many}" if len(cut) > 1 else _of(1, one, many)
        yield lambda i: i == longest, said
    for kind, one, many in _KINDS:
        those = {i for i, row in enumerate(rows) if kind(row)}
        if those:
            yield those.__contains__, _of(len(those), one, many)
    whole = [not row.was_cut for row in rows]
    yield lambda i: whole[i] and bool(examples[i].context), "one with a context"
    yield lambda i: whole[i] and not examples[i].context, "one without a context"
    shortest = min(range(len(rows)), key=lambda i: rows[i].n_whole)
    yield lambda i: i == shortest, "the shortest"


def _of(n: int, one: str, many: str) -> str:
    return f"one of {n:,} that {many}" if n > 1 else f"the only one that {one}"


# --- what becomes of each token --------------------------------------------------------------


def _tokens(
    tokenizer: PreTrainedTokenizerBase, train: Train, row: EncodedRow, whole: EncodedRow
) -> tuple[PreviewToken, ...]:
    """The row's tokens and, where they stood, those that it lost."""
    labels = collated_labels(tokenizer, train, row)
    places = _laid_out(row, whole)
    texts = token_texts(tokenizer, [token_id for token_id, _, _ in places])
    tokens = []
    for token_id, kept, in_whole in places:
        n_prompt = row.n_prompt if kept is not None else whole.n_prompt
        target = kept is not None and kept > 0 and labels[kept] != IGNORED
        tokens.append(
            PreviewToken(
                id=token_id,
                text=texts[token_id],
                role=_role(tokenizer, token_id, kept, target=target),
                target=target,
                part="prompt" if (in_whole if kept is None else kept) < n_prompt else "response",
            )
        )
    return tuple(tokens)


def collated_labels(tokenizer: PreTrainedTokenizerBase, train: Train, row: EncodedRow) -> list[int]:
    """The labels of the row as the training's collator gives them, one for each token."""
    from tuneproof.train.trainer import make_collator, make_features

    batch = make_collator(train, tokenizer)(make_features(train, [row]))
    labels: list[int] = batch["labels"][0].tolist()
    return labels


def _laid_out(row: EncodedRow, whole: EncodedRow) -> list[tuple[int, int | None, int]]:
    """Every token of the row as it was: its id, its place in the row that is left (None if it was
    cut), and its place in the whole row."""
    kept, all_ids = row.token_ids, whole.token_ids
    if not row.context_shortened:
        lost = [(all_ids[i], None, i) for i in range(len(kept), len(all_ids))]
        return [*((t, i, i) for i, t in enumerate(kept)), *lost]
    found: list[tuple[int, int | None, int]] = []
    matcher = SequenceMatcher(None, kept, all_ids, autojunk=False)
    for _, a, b, c, d in matcher.get_opcodes():
        if (a, b) != (c, d) and kept[a:b] != all_ids[c:d]:
            found += [(all_ids[i], None, i) for i in range(c, d)]
        found += [(kept[i], i, c) for i in range(a, b)]
    return found


def _role(
    tokenizer: PreTrainedTokenizerBase, token_id: int, kept: int | None, *, target: bool
) -> Role:
    if kept is None:
        return Role.CUT
    if token_id == tokenizer.bos_token_id and (kept == 0 or token_id != tokenizer.eos_token_id):
        return Role.BOS
    if kept == 0:
        return Role.FIRST
    if token_id == tokenizer.eos_token_id:
        return Role.EOS
    return Role.SUPERVISED if target else Role.MASKED
