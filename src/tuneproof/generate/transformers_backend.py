"""Answers and likelihoods with transformers, in process: one set of base weights, adapters on it.

Which prompts go together, and with which settings, is decided in ``plan``.
"""

from __future__ import annotations

import bisect
import contextlib
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from tuneproof.data.sections import first_marker
from tuneproof.errors import ModelError
from tuneproof.generate.plan import PLACEBO, Respondent
from tuneproof.records import Answer, Arm, Stop

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tuneproof.generate.plan import Ask, Batch


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
        base = model.get_base_model()
        configured = getattr(getattr(base, "generation_config", None), "eos_token_id", None)
        ends = configured if isinstance(configured, list) else [configured]
        # What a model's folder suggests (repetition penalties, top-k) would fill every setting that
        # the recipe leaves alone, so that greedy would not be greedy.
        base.generation_config = GenerationConfig()  # type: ignore[no-untyped-call,assignment]
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
    def answer(self, batch: Batch) -> list[Answer]:
        """The answers to a batch, in its order; prompts are padded on the left.

        A prompt that leaves no room for ``max_new_tokens`` in the model's context is refused: its
        answer has ``stop`` ``error`` and says so.
        """
        new = batch.settings.max_new_tokens
        answers: dict[str, Answer] = {}
        fitting: list[tuple[Ask, str]] = []
        for ask, key in zip(batch.asks, batch.keys, strict=True):
            n = len(ask.token_ids)
            if self.context_length is not None and n + new > self.context_length:
                answers[key] = _answer(
                    batch,
                    ask,
                    key,
                    stop=Stop.ERROR,
                    error=f"prompt of {n} tokens and {new} new ones exceed the context of "
                    f"{self.context_length}",
                )
            else:
                fitting.append((ask, key))
        if fitting:
            generated = self._generate([ask.token_ids for ask, _ in fitting], batch)
            for (ask, key), ids in zip(fitting, generated, strict=True):
                text, stop, n_tokens = self._read(ids, batch)
                answers[key] = _answer(batch, ask, key, stop=stop, text=text, n_tokens=n_tokens)
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

    def _generate(self, prompts: Sequence[tuple[int, ...]], batch: Batch) -> list[list[int]]:
        settings = batch.settings
        width = max(map(len, prompts))
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        sampling = settings.temperature > 0
        config = GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=settings.max_new_tokens,
            do_sample=sampling,
            temperature=settings.temperature if sampling else None,
            top_p=settings.top_p if sampling else None,
            top_k=0 if sampling else None,
            pad_token_id=pad,
            eos_token_id=sorted({*self._ends, *batch.stops.token_ids}),
        )
        criteria = StoppingCriteriaList()
        if batch.stops.strings:
            criteria.append(_StopsAt(self._tokenizer, batch.stops.strings, width))
        torch.manual_seed(batch.seed)
        with self.weights_of(batch.who):
            out = self._model.generate(  # type: ignore[no-untyped-call]
                input_ids=ids.to(self._device),
                attention_mask=mask.to(self._device),
                generation_config=config,
                stopping_criteria=criteria,
            )
        return out[:, width:].tolist()  # type: ignore[no-any-return]

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


def _answer(
    batch: Batch,
    ask: Ask,
    key: str,
    *,
    stop: Stop,
    text: str = "",
    n_tokens: int = 0,
    error: str | None = None,
) -> Answer:
    return Answer(
        key=key,
        question_id=ask.prompt.question_id,
        benchmark=ask.prompt.benchmark,
        turn=ask.prompt.turn,
        arm=batch.who.arm,
        adapter=batch.who.adapter,
        sample=batch.sample,
        text=text,
        stop=stop,
        n_prompt_tokens=len(ask.token_ids),
        n_tokens=n_tokens,
        error=error,
    )


class _StopsAt(StoppingCriteria):
    """Ends a row as soon as a stop string is in what it has generated.

    Only the last tokens are looked at: a token is at least one byte, so a string that has just been
    completed lies within as many of them as it has bytes. The cut itself is made afterwards, in the
    whole text.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, strings: Sequence[str], n_prompt: int
    ) -> None:
        self._tokenizer, self._strings, self._n_prompt = tokenizer, strings, n_prompt
        self._window = max(len(s.encode("utf-8")) for s in strings) + 1

    def __call__(
        self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **_: Any
    ) -> torch.BoolTensor:
        begin = max(self._n_prompt, input_ids.shape[1] - self._window)
        texts = self._tokenizer.batch_decode(input_ids[:, begin:], skip_special_tokens=True)
        # The answer's first line counts as the beginning of one; a later window's does not.
        before = "\n" if begin == self._n_prompt else ""
        done = [any(s in before + text for s in self._strings) for text in texts]
        return torch.tensor(done, device=input_ids.device)  # type: ignore[return-value]
