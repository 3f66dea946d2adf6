"""Answers and likelihoods with transformers, in process: one set of base weights, adapters on it.

Which prompts go together, and with which settings, is decided in ``plan``; the loop over tokens is
``decoding``. What a model's folder suggests for generation (repetition penalties, top-k) is not
used, but for its end tokens.
"""

from __future__ import annotations

import bisect
import contextlib
from typing import TYPE_CHECKING, cast

import torch

from tuneproof.data.sections import first_marker
from tuneproof.errors import ModelError
from tuneproof.generate.answers import make_answer
from tuneproof.generate.decoding import decode
from tuneproof.generate.plan import PLACEBO, Respondent
from tuneproof.generate.rows import prepare_attention
from tuneproof.generate.sampling import Sampler
from tuneproof.records import Arm, Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tuneproof.generate.batch import Batch
    from tuneproof.records import Answer


def load_adapters(
    model: PreTrainedModel, folders: Sequence[Path], *, placebo: Path | None = None
) -> PeftModel:
    """The base model with its trained adapters, for inference; the first is called ``default``.

    Args:
        model: the base model.
        folders: the tuned model's adapters, in the order of their numbers.
        placebo: the placebo's, if there is one.

    Raises:
        ModelError: there is none.
    """
    from tuneproof.train.model import load_adapter

    if not folders:
        raise ModelError("there is no trained adapter", place="train")
    tuned = load_adapter(model, folders[0])
    others = {Respondent(Arm.TUNED, n): f for n, f in enumerate(folders[1:], start=2)}
    if placebo is not None:
        others[PLACEBO] = placebo
    for who, folder in others.items():
        tuned.load_adapter(str(folder), adapter_name=_adapter_name(who))
    tuned.eval()
    return tuned


def _adapter_name(who: Respondent) -> str:
    if who == PLACEBO:
        return "placebo"
    return "default" if who.adapter == 1 else f"adapter-{who.adapter}"


class TransformersBackend:
    """All arms of one model: those of the base are the model with its adapters switched off."""

    def __init__(self, model: PeftModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._device = next(model.parameters()).device
        self._base = base = cast("PreTrainedModel", model.get_base_model())
        configured = getattr(getattr(base, "generation_config", None), "eos_token_id", None)
        ends = configured if isinstance(configured, list) else [configured]
        prepare_attention(base)
        self._ends = sorted({e for e in [*ends, tokenizer.eos_token_id] if e is not None})
        self.context_length = getattr(model.config, "max_position_embeddings", None)

    @contextlib.contextmanager
    def weights_of(self, who: Respondent) -> Iterator[None]:
        """The weights of a respondent, for the length of the block."""
        if who.arm not in (Arm.TUNED, Arm.PLACEBO):
            with self._model.disable_adapter():
                yield
            return
        self._model.set_adapter(_adapter_name(who))
        yield

    @torch.inference_mode()
    def answer(
        self, batch: Batch, on_tokens: Callable[[int], None] = lambda _: None
    ) -> list[Answer]:
        """The answers to a batch, in its order; prompts are padded on the left.

        A prompt that leaves no room for ``max_new_tokens`` in the model's context is refused: its
        answer has ``stop`` ``error`` and says so.
        """
        new = batch.settings.max_new_tokens
        answers: dict[str, Answer] = {}
        fitting: list[int] = []
        for i, (ask, key) in enumerate(zip(batch.asks, batch.keys, strict=True)):
            n = len(ask.token_ids)
            if self.context_length is not None and n + new > self.context_length:
                answers[key] = make_answer(
                    batch,
                    ask,
                    key,
                    stop=Stop.ERROR,
                    error=f"prompt of {n} tokens and {new} new ones exceed the context of "
                    f"{self.context_length}",
                )
            else:
                fitting.append(i)
        if fitting:
            for i, ids in zip(fitting, self._generate(batch, fitting, on_tokens), strict=True):
                text, stop, n_tokens = self._read(ids, batch)
                key = batch.keys[i]
                answers[key] = make_answer(
                    batch, batch.asks[i], key, stop=stop, text=text, n_tokens=n_tokens
                )
        return [answers[key] for key in batch.keys]

    def _read(self, ids: Sequence[int], batch: Batch) -> tuple[str, Stop, int]:
        """An answer's text, why it stopped, and how many of the generated tokens belong to it."""
        ends = {*self._ends, *batch.stops.token_ids}
        end = next((i for i, t in enumerate(ids) if t in ends), None)
        said = list(ids if end is None else ids[:end])
        if end is None:
            stop = Stop.LENGTH
        else:
            stop = Stop.EOS if ids[end] in self._ends else Stop.STOP_STRING
        text = self._text(said)
        cut = first_marker(text, batch.stops.strings)
        if cut is None:
            return text.strip(), stop, len(said)
        # The tokens whose text lies before the cut.
        kept = bisect.bisect_right(
            range(len(said) + 1), cut, lo=1, key=lambda n: len(self._text(said[:n]))
        )
        return text[:cut].strip(), Stop.STOP_STRING, kept - 1

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def _generate(
        self, batch: Batch, places: Sequence[int], on_tokens: Callable[[int], None]
    ) -> list[list[int]]:
        """The generated tokens of the prompts at these places of the batch."""
        sampler = Sampler(
            [batch.temperatures[i] for i in places],
            [batch.names[i] for i in places],
            seed=batch.seed,
            top_p=batch.settings.top_p,
        )
        strings = batch.stops.strings
        with self.weights_of(batch.who):
            return decode(
                self._base,
                [batch.asks[i].token_ids for i in places],
                sampler,
                max_new_tokens=batch.settings.max_new_tokens,
                ends={*self._ends, *batch.stops.token_ids},
                stopped=_StopsAt(self._tokenizer, strings) if strings else None,
                on_tokens=on_tokens,
            )

    @torch.inference_mode()
    def nll(self, rows: Sequence[Sequence[int]], who: Respondent) -> list[list[float]]:
        """For each row, the negative log likelihood in nats of each token but its first.

        Rows are padded on the right, where a causal model cannot see; the softmax is in float32.
        """
        width = max(map(len, rows))
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([[*r, *[pad] * (width - len(r))] for r in rows], device=self._device)
        lengths = torch.tensor([len(r) for r in rows], device=self._device)
        mask = (torch.arange(width, device=self._device) < lengths[:, None]).long()
        with self.weights_of(who):
            logits = self._model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        ).view(len(rows), width - 1)
        return [losses[i, : len(r) - 1].tolist() for i, r in enumerate(rows)]


class _StopsAt:
    """Says of answers whether a stop string is in what was generated last.

    Only the last tokens are looked at: a token is at least one byte, so a string that has just been
    completed lies within as many of them as it has bytes. The cut itself is made afterwards, in the
    whole text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, strings: Sequence[str]) -> None:
        self._tokenizer, self._strings = tokenizer, strings
        self._window = max(len(s.encode("utf-8")) for s in strings) + 1

    def __call__(self, answers: Sequence[list[int]]) -> list[bool]:
        ends = [ids[-self._window :] for ids in answers]
        texts = self._tokenizer.batch_decode(ends, skip_special_tokens=True)
        # The answer's first line counts as the beginning of one; a later window's does not.
        shown = [
            text if len(ids) > self._window else "\n" + text
            for ids, text in zip(answers, texts, strict=True)
        ]
        return [any(s in text for s in self._strings) for text in shown]
