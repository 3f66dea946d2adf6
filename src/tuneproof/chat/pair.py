"""Base and tuned answering at once: one set of weights, its adapter off for the one and on for the
other, a token of each in turn, so that both can be read as they are written.

They are asked with the training template, as in the generate stage, and by its settings. Nothing
said here is an answer of the run: what is measured is the generate stage's.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from tuneproof.chat.session import Said
from tuneproof.data.templates import parse_template
from tuneproof.errors import StageError, UsageError
from tuneproof.generate.asking import Asked, TemplateAsking
from tuneproof.progress import hush_transformers
from tuneproof.recipe import named_seed
from tuneproof.records import Arm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

    from tuneproof.progress import Reporter
    from tuneproof.recipe import Generate, Recipe
    from tuneproof.workspace import RunDir


class Pair:
    """Two models in one."""

    def __init__(
        self,
        model: PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        template: str,
        settings: Generate,
        seed: int,
    ) -> None:
        self._model, self._tokenizer, self._seed = model, tokenizer, seed
        self._asking = TemplateAsking(tokenizer, parse_template(template))
        self.settings = settings
        own = getattr(model.get_base_model(), "generation_config", None)
        configured = getattr(own, "eos_token_id", None)
        ends = configured if isinstance(configured, list) else [configured]
        self._ends = {e for e in [*ends, tokenizer.eos_token_id] if e is not None}
        self._context = getattr(model.config, "max_position_embeddings", None)

    def stream(self, asked: Mapping[Arm, Asked], *, turn: int) -> Iterator[dict[Arm, Said]]:
        """What both have said, after every token of each; at last both have ended.

        Raises:
            UsageError: a prompt leaves no room for an answer in the model's context.
        """
        prompts = dict(zip(asked, self._asking.encode(list(asked.values())), strict=True))
        for arm, ids in prompts.items():
            room = None if self._context is None else self._context - len(ids)
            if room is not None and room < self.settings.max_new_tokens:
                raise UsageError(
                    f"{len(ids)} tokens of prompt and {self.settings.max_new_tokens} of answer "
                    f"exceed the model's context of {self._context}",
                    place=f"chat, {arm}",
                    remedy="Begin a new conversation with /new, or ask a shorter question.",
                )
        voices = {
            arm: _Voice(ids, seed=named_seed(self._seed, "chat", turn, arm.value))
            for arm, ids in prompts.items()
        }
        while any(voice.said.end is None for voice in voices.values()):
            for arm, voice in voices.items():
                if voice.said.end is None:
                    with self._weights(arm), torch.inference_mode():
                        self._step(voice)
            yield {arm: voice.said for arm, voice in voices.items()}

    def _weights(self, arm: Arm) -> contextlib.AbstractContextManager[None]:
        if arm is Arm.BASE:
            return self._model.disable_adapter()
        return contextlib.nullcontext()

    def _step(self, voice: _Voice) -> None:
        device = next(self._model.parameters()).device
        ids = torch.tensor([voice.unread], device=device)
        out = self._model(
            input_ids=ids, past_key_values=voice.past, use_cache=True, logits_to_keep=1
        )
        voice.past = out.past_key_values
        token = self._choose(out.logits[:, -1].float(), voice)
        if token in self._ends:
            voice.said = Said(text=voice.said.text, n_tokens=len(voice.ids), end="eos")
            return
        voice.ids.append(token)
        voice.unread = [token]
        text = str(self._tokenizer.decode(voice.ids, skip_special_tokens=True))
        full = len(voice.ids) >= self.settings.max_new_tokens
        if text.endswith("\ufffd") and not full:
            text = voice.said.text  # in the middle of a character
        voice.said = Said(text=text, n_tokens=len(voice.ids), end="length" if full else None)

    def _choose(self, logits: torch.Tensor, voice: _Voice) -> int:
        settings = self.settings
        if settings.temperature == 0:
            return int(logits.argmax())
        from transformers import TopPLogitsWarper

        scores = logits / settings.temperature
        if settings.top_p < 1:
            scores = TopPLogitsWarper(settings.top_p)(None, scores)
        shares = torch.softmax(scores, dim=-1).cpu()
        return int(torch.multinomial(shares, 1, generator=voice.draw))


class _Voice:
    """One model in the middle of an answer: what it has yet to read, and what it has read."""

    def __init__(self, prompt: list[int], *, seed: int) -> None:
        self.unread = list(prompt)
        self.past: Any = None
        self.ids: list[int] = []
        self.said = Said()
        self.draw = torch.Generator().manual_seed(seed)


def load_pair(recipe: Recipe, run: RunDir, reporter: Reporter) -> Pair:
    """The run's base model with its (first) adapter.

    Raises:
        StageError: training has not finished.
        ModelError: the model, its tokenizer or the adapter cannot be loaded.
    """
    from tuneproof.train.model import load_adapter, load_model, load_tokenizer

    if run.manifest("train") is None:
        raise StageError(
            "train has not finished, so there is no tuned model to talk to",
            place=str(run.path),
            remedy=f"Finish it: tuneproof train RECIPE --run-dir {run.path}",
        )
    hush_transformers()
    tokenizer = load_tokenizer(recipe.model, reporter)
    model = load_adapter(load_model(recipe.model, reporter), run.stage("train") / "adapter")
    return Pair(
        model,
        tokenizer,
        template=recipe.data.template,
        settings=recipe.generate,
        seed=recipe.seed,
    )
