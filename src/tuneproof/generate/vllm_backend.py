"""Answers with vLLM in this process: one engine, adapters as its LoRA requests.

Needs the extra ``vllm`` and a GPU. Tests run it against a double: no machine of ours has both.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Final

from tuneproof.assets import ensure_model, find_asset
from tuneproof.data.sections import first_marker
from tuneproof.errors import ModelError, RecipeError
from tuneproof.generate.answers import make_answer
from tuneproof.recipe import named_seed
from tuneproof.records import Answer, Stop
from tuneproof.train.model import resolve_model, resolve_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from tuneproof.generate.batch import Batch
    from tuneproof.generate.plan import Respondent
    from tuneproof.recipe import Model, Recipe
    from tuneproof.train.model import ModelRef


LORA_RANKS: Final = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes for the highest rank of an adapter (its ``MaxLoRARanks``); its default is 16."""


def check_vllm(recipe: Recipe) -> None:
    """Find out, without loading it, that vLLM is there and takes the recipe's adapters.

    Raises:
        ModelError: vLLM is not installed.
        RecipeError: the adapters' rank is beyond what it takes.
    """
    if importlib.util.find_spec("vllm") is None:
        raise ModelError(
            "vLLM is not installed",
            place="generate.backend",
            value="vllm",
            remedy="Install the extra: pip install 'tuneproof[vllm]'",
        )
    if recipe.lora.r > LORA_RANKS[-1]:
        raise RecipeError(
            f"vLLM takes adapters of rank {LORA_RANKS[-1]} at most",
            place="lora.r",
            value=recipe.lora.r,
            remedy="Answer with another back end: --set generate.backend=transformers",
        )


class VllmBackend:
    """All arms of one model, by vLLM's own scheduling within each batch; see ``check_vllm``.

    Args:
        folders: the adapters of those respondents that have one.
        rank: the adapters' rank.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: PreTrainedTokenizerBase,
        folders: Mapping[Respondent, Path],
        *,
        rank: int,
    ) -> None:
        import vllm
        from vllm.lora.request import LoRARequest

        self._vllm: Any = vllm
        self._tokenizer = tokenizer
        self._loras = {
            who: LoRARequest(who.name, n, str(folder))
            for n, (who, folder) in enumerate(folders.items(), start=1)
        }
        weights, words = resolve_model(model), resolve_tokenizer(model)
        self._engine = vllm.LLM(
            model=_location(weights),
            revision=weights.revision,
            tokenizer=_location(words),
            tokenizer_revision=words.revision,
            dtype=model.dtype,
            enable_lora=bool(folders),
            max_loras=max(len(folders), 1),
            max_lora_rank=next(r for r in LORA_RANKS if r >= rank),
            generation_config="vllm",
        )

    def answer(self, batch: Batch, on_tokens: Callable[[int], None]) -> list[Answer]:
        """The answers to a batch, in its order; a prompt beyond the context is a failed answer."""
        limit = self._engine.llm_engine.model_config.max_model_len
        new = batch.settings.max_new_tokens
        fits = [len(ask.token_ids) + new <= limit for ask in batch.asks]
        places = [i for i, fit in enumerate(fits) if fit]
        outs = self._engine.generate(
            [{"prompt_token_ids": list(batch.asks[i].token_ids)} for i in places],
            [
                self._vllm.SamplingParams(
                    max_tokens=new,
                    temperature=batch.temperatures[i],
                    top_p=batch.settings.top_p,
                    seed=named_seed(batch.seed, "answer", *batch.names[i]) >> 32,
                    stop=list(batch.stops.strings) or None,
                    stop_token_ids=list(batch.stops.token_ids) or None,
                )
                for i in places
            ],
            lora_request=self._loras.get(batch.who),
            use_tqdm=False,
        )
        said = dict(zip(places, outs, strict=True))
        on_tokens(sum(len(out.outputs[0].token_ids) for out in outs))
        return [
            self._read(batch, i, said[i].outputs[0])
            if fits[i]
            else make_answer(
                batch,
                ask,
                batch.keys[i],
                stop=Stop.ERROR,
                error=f"prompt of {len(ask.token_ids)} tokens and {new} new ones exceed the "
                f"context of {limit}",
            )
            for i, ask in enumerate(batch.asks)
        ]

    def _read(self, batch: Batch, place: int, out: Any) -> Answer:
        stop = Stop.LENGTH if out.finish_reason == "length" else Stop.EOS
        if stop is Stop.EOS and out.stop_reason not in (None, self._tokenizer.eos_token_id):
            stop = Stop.STOP_STRING
        text = str(out.text)
        cut = first_marker(text, batch.stops.strings)
        if cut is not None:
            text, stop = text[:cut], Stop.STOP_STRING
        n_tokens = len(out.token_ids)
        if stop is not Stop.LENGTH:
            n_tokens = len(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        return make_answer(
            batch, batch.asks[place], batch.keys[place], stop=stop, text=text.strip(),
            n_tokens=n_tokens,
        )  # fmt: skip


def _location(ref: ModelRef) -> str:
    if ref.name.startswith("asset:"):
        return str(ensure_model(find_asset(ref.name)))
    return ref.name
