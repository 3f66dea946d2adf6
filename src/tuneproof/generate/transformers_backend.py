"""Answers and likelihoods with transformers, in process: one set of weights, adapter on and off."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig

from tuneproof.records import Answer, Arm, Stop

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

    from tuneproof.generate.prompts import Batch
    from tuneproof.recipe import Generate


class TransformersBackend:
    """Both arms of one model: ``base`` is the model with its adapter switched off."""

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
    def arm(self, arm: Arm) -> Iterator[None]:
        """The weights of an arm, for the length of the block."""
        with self._model.disable_adapter() if arm is Arm.BASE else contextlib.nullcontext():
            yield

    @torch.inference_mode()
    def answer(self, batch: Batch, settings: Generate) -> list[Answer]:
        """The arm's answers to a batch, in its order; prompts are padded on the left.

        A prompt that leaves no room for ``max_new_tokens`` in the model's context is refused: its
        answer has ``stop`` ``error`` and says so.
        """
        answers: dict[str, Answer] = {}
        asked = []
        for prompt, key in zip(batch.prompts, batch.keys, strict=True):
            needed = len(prompt.token_ids) + settings.max_new_tokens
            if self.context_length is not None and needed > self.context_length:
                answers[key] = Answer(
                    key=key,
                    question_id=prompt.question_id,
                    benchmark=prompt.benchmark,
                    arm=batch.arm,
                    text="",
                    stop=Stop.ERROR,
                    n_prompt_tokens=len(prompt.token_ids),
                    n_tokens=0,
                    error=f"prompt of {len(prompt.token_ids)} tokens and {settings.max_new_tokens} "
                    f"new ones exceed the context of {self.context_length}",
                )
            else:
                asked.append((prompt, key))
        if asked:
            generated = self._generate([p.token_ids for p, _ in asked], batch, settings)
            for (prompt, key), ids in zip(asked, generated, strict=True):
                end = next((i for i, t in enumerate(ids) if t in self._ends), None)
                said = ids if end is None else ids[:end]
                answers[key] = Answer(
                    key=key,
                    question_id=prompt.question_id,
                    benchmark=prompt.benchmark,
                    arm=batch.arm,
                    text=str(self._tokenizer.decode(said, skip_special_tokens=True)).strip(),
                    stop=Stop.LENGTH if end is None else Stop.EOS,
                    n_prompt_tokens=len(prompt.token_ids),
                    n_tokens=len(said),
                )
        return [answers[key] for key in batch.keys]

    def _generate(
        self, prompts: Sequence[tuple[int, ...]], batch: Batch, settings: Generate
    ) -> list[list[int]]:
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
            eos_token_id=self._ends,
        )
        torch.manual_seed(batch.seed)
        with self.arm(batch.arm):
            out = self._model.generate(  # type: ignore[no-untyped-call]
                input_ids=ids.to(self._device),
                attention_mask=mask.to(self._device),
                generation_config=config,
            )
        return out[:, width:].tolist()  # type: ignore[no-any-return]

    @torch.inference_mode()
    def nll(self, rows: Sequence[Sequence[int]], arm: Arm) -> list[list[float]]:
        """For each row, the negative log likelihood in nats of each token but its first.

        Rows are padded on the right, where a causal model cannot see; the softmax is in float32.
        """
        width = max(map(len, rows))
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([[*r, *[pad] * (width - len(r))] for r in rows], device=self._device)
        lengths = torch.tensor([len(r) for r in rows], device=self._device)
        mask = (torch.arange(width, device=self._device) < lengths[:, None]).long()
        with self.arm(arm):
            logits = self._model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        ).view(len(rows), width - 1)
        return [losses[i, : len(r) - 1].tolist() for i, r in enumerate(rows)]
