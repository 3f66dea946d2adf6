"""Which model is meant, and loading it.

``resolve_model`` is light: it finds the model and says what identifies its weights, without loading
a library that could load them. The ``load_*`` functions are where torch, transformers and PEFT come
in.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneproof.assets import ensure_model, find_asset
from tuneproof.errors import ModelError
from tuneproof.hub import commit_of
from tuneproof.processes import local_rank
from tuneproof.workspace import digest_file, digest_value

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from peft import PeftModel
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from tuneproof.progress import Reporter
    from tuneproof.recipe import Lora, Model


ATTENTION = "sdpa"
"""PyTorch's own, in training and at inference; see ``docs/log.md`` for what else was tried.

A few models refuse it, since they do more than it can: Gemma 2 bends its scores, gpt-oss adds sinks
to them. Those attend with transformers' plain products (``with_attention``).
"""


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """A model that was found: what to pass to ``from_pretrained``, and what identifies it."""

    name: str
    revision: str | None
    digest: str


def resolve_model(model: Model) -> ModelRef:
    """Find the model: an asset, a local folder, or a hub id.

    Raises:
        ModelError: there is no such asset or folder, or the hub does not know or give it.
    """
    return _resolve(model.id, model.revision, place="model.id")


def resolve_tokenizer(model: Model) -> ModelRef:
    """Find the tokenizer: the recipe's own, else the model's."""
    if model.tokenizer is None:
        return resolve_model(model)
    return _resolve(model.tokenizer, None, place="model.tokenizer")


@functools.cache  # one question to the hub and one reading of the weights for each process
def _resolve(name: str, revision: str | None, *, place: str) -> ModelRef:
    if name.startswith("asset:"):
        return ModelRef(name=name, revision=None, digest=find_asset(name).digest)
    folder = Path(name)
    if folder.is_dir():
        marker = "config.json" if place == "model.id" else "tokenizer_config.json"
        if not (folder / marker).is_file():
            raise ModelError(f"holds no {marker}", place=place, value=name)
        return ModelRef(name=name, revision=None, digest=_folder_digest(folder))
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError("no such folder", place=place, value=name)
    commit = commit_of(name, revision, kind="model", place=place)
    return ModelRef(name=name, revision=commit, digest=commit)


_WEIGHTS_AND_TOKENIZER = ("*.safetensors", "*.bin", "*.json", "*.model", "*.jinja", "*.txt")


def _folder_digest(folder: Path) -> str:
    files = sorted({p for pattern in _WEIGHTS_AND_TOKENIZER for p in folder.glob(pattern)})
    return digest_value({p.name: digest_file(p) for p in files})


# --- loading ---------------------------------------------------------------------------------


def _location(ref: ModelRef, reporter: Reporter | None) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for a resolved model or tokenizer."""
    if ref.name.startswith("asset:"):
        return {"pretrained_model_name_or_path": str(ensure_model(find_asset(ref.name), reporter))}
    return {"pretrained_model_name_or_path": ref.name, "revision": ref.revision or "main"}


def load_tokenizer(model: Model, reporter: Reporter | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer, with its pad token set to EOS as the reference does.

    Raises:
        ModelError: it cannot be loaded, or has no EOS token.
    """
    from transformers import AutoTokenizer

    ref = resolve_tokenizer(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(**_location(ref, reporter))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"its tokenizer cannot be loaded: {_first_line(error)}", place="model", value=ref.name
        ) from None
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "its tokenizer has no EOS token, so no answer could end",
            place="model.tokenizer",
            value=ref.name,
            remedy="Set eos_token in its tokenizer_config.json.",
        )
    if tokenizer("a")["input_ids"][-1:] == [tokenizer.eos_token_id]:
        raise ModelError(
            "its tokenizer ends every text with EOS, so every prompt would end before its answer",
            place="model.tokenizer",
            value=ref.name,
            remedy="Set add_eos_token to false in its tokenizer_config.json; train.append_eos adds "
            "EOS where it belongs.",
        )
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def choose_dtype(model: Model) -> torch.dtype:
    """The weights' type: the recipe's; else bfloat16 where the device has it, else float32."""
    import torch

    if model.dtype != "auto":
        return torch.bfloat16 if model.dtype == "bfloat16" else torch.float32
    if torch.cuda.is_available():
        return torch.bfloat16 if has_bf16() else torch.float32
    # Without these instructions bfloat16 on a CPU is emulated, and slower than float32.
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def has_bf16() -> bool:
    """Whether bfloat16 can be computed with here; a CPU without it can, slowly."""
    import torch

    return not torch.cuda.is_available() or bool(
        torch.cuda.is_bf16_supported(including_emulation=False)
    )


def arithmetic(model: Model) -> dict[str, str | bool]:
    """How this machine computes with the model's weights: part of what its answers depend on.

    ``attention`` is what the model is asked for; whether it refuses depends on the model alone.
    """
    import torch

    return {
        "dtype": str(choose_dtype(model)),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "tf32": model.tf32,
        "attention": ATTENTION,
    }


def with_attention(make: Callable[..., Any], /, *args: Any, **options: Any) -> PreTrainedModel:
    """``make`` a model that attends by ``ATTENTION``, or with plain products if its class refuses.

    Args:
        make: transformers' ``from_pretrained`` or ``from_config``; the rest is passed on to it.

    Raises:
        ValueError: and whatever else it raises for another reason.
    """
    try:
        model: PreTrainedModel = make(*args, attn_implementation=ATTENTION, **options)
    except ValueError:
        # Every class has these. If something else was wrong, it is said again.
        model = make(*args, attn_implementation="eager", **options)
    return model


def load_model(model: Model, reporter: Reporter | None = None) -> PreTrainedModel:
    """The base model in the chosen type, on the device it will compute on.

    Where it does not attend by ``ATTENTION``, that is said.

    Raises:
        ModelError: it cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = model.tf32
        torch.backends.cudnn.allow_tf32 = model.tf32
    ref = resolve_model(model)
    try:
        loaded = with_attention(
            AutoModelForCausalLM.from_pretrained,
            **_location(ref, reporter),
            dtype=choose_dtype(model),
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot be loaded: {_first_line(error)}", place="model.id", value=ref.name
        ) from None
    attention = loaded.config._attn_implementation
    if attention != ATTENTION and reporter is not None:
        reporter.stage(
            "model", f"attention {attention}: {type(loaded).__name__} has no {ATTENTION}"
        )
    if torch.cuda.is_available():
        loaded.to(torch.device("cuda", local_rank()))  # type: ignore[arg-type]
    return loaded


def add_lora(model: PreTrainedModel, lora: Lora) -> PeftModel:
    """Wrap the model with a fresh adapter as the recipe describes it.

    Raises:
        ModelError: ``target_modules`` matches no module of the model; lists those there are.
    """
    import torch
    from peft import LoraConfig, TaskType, get_peft_model

    targets = lora.target_modules
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(targets) if isinstance(targets, tuple) else targets,
        bias=lora.bias,
        task_type=TaskType.CAUSAL_LM,
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        linear = sorted(
            {
                n.rpartition(".")[2]
                for n, m in model.named_modules()
                if isinstance(m, torch.nn.Linear)
            }
        )
        raise ModelError(
            f"no adapter can be attached: {_first_line(error)}",
            place="lora.target_modules",
            value=str(targets),
            remedy=f"Linear modules of this model: {', '.join(linear)}.",
        ) from None


def parameter_counts(model: Model, lora: Lora) -> tuple[int, int]:
    """Trainable and total parameters with the adapter, from the configuration alone.

    Raises:
        ModelError: the configuration cannot be read, or no module matches ``target_modules``.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = load_config(model)
    with torch.device("meta"):
        shape = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
        return add_lora(shape, lora).get_nb_trainable_parameters()


def load_config(model: Model, reporter: Reporter | None = None) -> PreTrainedConfig:
    """The model's configuration.

    Raises:
        ModelError: it cannot be read.
    """
    from transformers import AutoConfig

    ref = resolve_model(model)
    try:
        return AutoConfig.from_pretrained(**_location(ref, reporter))  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise ModelError(
            f"its configuration cannot be read: {_first_line(error)}",
            place="model.id",
            value=ref.name,
        ) from None


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Wrap the model with a trained adapter, for inference."""
    from peft import PeftModel

    tuned = PeftModel.from_pretrained(model, folder)
    tuned.eval()
    return tuned


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
