"""A judge in this process: a chat model of transformers, asked one request at a time.

For those who have no endpoint. It answers the same requests as any other judge, by the model's own
chat template; each reply depends on its request alone, since a request that samples brings a seed
named by its key. torch and transformers are imported here and nowhere else in this package.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from tuneproof.endpoint.transport import Failed
from tuneproof.errors import ModelError
from tuneproof.judge.clients import Reply
from tuneproof.progress import hush_transformers
from tuneproof.recipe import Model, named_seed
from tuneproof.train.model import load_model, load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedTokenizerBase

    from tuneproof import recipe
    from tuneproof.records import TopLogprobs


class _FirstToken(LogitsProcessor):
    """Keeps the log probabilities of the first new token, as the model gives them."""

    def __init__(self) -> None:
        self.logprobs: torch.Tensor | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if self.logprobs is None:
            self.logprobs = torch.log_softmax(scores[0].float(), dim=-1)
        return scores


class LocalClient:
    """A chat model with its weights in this process; see ``clients.Client``.

    Raises:
        ModelError: it cannot be loaded, or has no chat template that can be used.
    """

    def __init__(self, judge: recipe.Judge) -> None:
        hush_transformers()
        section = Model(id=judge.model)
        self._tokenizer = load_tokenizer(section)
        if not self._tokenizer.chat_template:
            raise ModelError(
                "has no chat template, so it cannot be asked as a judge",
                place="judge.model",
                value=judge.model,
                remedy="Name a chat (instruct) model.",
            )
        self._takes_system = _takes_system(self._tokenizer, judge.model)
        self._model = load_model(section)
        self._model.eval()  # type: ignore[no-untyped-call]
        configured = self._model.generation_config
        ends = getattr(configured, "eos_token_id", None)
        ends = ends if isinstance(ends, list) else [ends]
        self._ends = sorted({e for e in [*ends, self._tokenizer.eos_token_id] if e is not None})
        # What the model's folder suggests (penalties, top-k) would fill what a request leaves open.
        self._model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
        self._context = getattr(self._model.config, "max_position_embeddings", None)

    async def ask(self, request: Mapping[str, Any], *, key: str) -> Reply | Failed:
        """Answer one request; see ``Client.ask``."""
        return await asyncio.to_thread(self._answer, request, key)

    @torch.inference_mode()
    def _answer(self, request: Mapping[str, Any], key: str) -> Reply | Failed:
        ids = self._tokenizer.apply_chat_template(
            self._messages(request), add_generation_prompt=True, return_tensors="pt",
            return_dict=False,
        )  # fmt: skip
        assert isinstance(ids, torch.Tensor)
        n, new = ids.shape[1], int(request["max_tokens"])
        if self._context is not None and n + new > self._context:
            return Failed(
                "longer than the judge's context",
                f"{n} tokens and {new} new ones exceed the {self._context} of the model",
            )
        temperature = float(request.get("temperature", 1.0))
        sampled = {"temperature": temperature, "top_p": float(request.get("top_p", 1.0))}
        first = _FirstToken()
        with torch.random.fork_rng():
            torch.manual_seed(named_seed(0, "local judge", key))
            out = self._model.generate(
                ids.to(self._model.device),
                attention_mask=torch.ones_like(ids).to(self._model.device),
                generation_config=GenerationConfig(
                    max_new_tokens=new,
                    do_sample=temperature > 0,
                    eos_token_id=self._ends,
                    pad_token_id=self._tokenizer.pad_token_id,
                    **(sampled if temperature > 0 else {}),
                ),
                logits_processor=LogitsProcessorList([first]),
            )
        said = out[0, n:].tolist()
        ended = bool(said) and said[-1] in self._ends
        text = self._tokenizer.decode(said[:-1] if ended else said, skip_special_tokens=True)
        assert isinstance(text, str)
        return Reply(
            text=text,
            finish_reason="stop" if ended else "length",
            top_logprobs=self._likeliest(first.logprobs, request),
            prompt_tokens=n,
            completion_tokens=len(said),
        )

    def _messages(self, request: Mapping[str, Any]) -> list[dict[str, str]]:
        """The request's messages; the system's words begin the user's where it may say none."""
        messages = [dict(m) for m in request["messages"]]
        if self._takes_system or messages[0]["role"] != "system":
            return messages
        system, first, *rest = messages
        return [first | {"content": f"{system['content']}\n\n{first['content']}"}, *rest]

    def _likeliest(
        self, logprobs: torch.Tensor | None, request: Mapping[str, Any]
    ) -> TopLogprobs | None:
        """The likeliest first tokens, where the request asks for them."""
        if logprobs is None or not request.get("logprobs"):
            return None
        best = torch.topk(logprobs, int(request.get("top_logprobs", 0)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return tuple((str(self._tokenizer.decode([token])), value) for token, value in pairs)

    async def close(self) -> None:
        """Let the weights go."""
        del self._model


def _takes_system(tokenizer: PreTrainedTokenizerBase, name: str) -> bool:
    """Whether the chat template has room for a system message; Gemma's and Mistral's have not.

    Raises:
        ModelError: it refuses a plain question too.
    """
    from jinja2 import TemplateError

    question = [{"role": "user", "content": "?"}]
    for messages in ([{"role": "system", "content": "!"}, *question], question):
        try:
            tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        except TemplateError as error:
            said = str(error)
        else:
            return len(messages) == 2
    raise ModelError(
        f"its chat template refuses a question: {said}", place="judge.model", value=name
    )
