"""The shape of a model without its weights: from its configuration, else from a small table.

Counts come from the classes of transformers and PEFT on the meta device, whichever way the
configuration was had.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuneproof.errors import ModelError
from tuneproof.plan.known_models import KNOWN_MODELS, KnownModel, known_model
from tuneproof.plan.memory import Adapted, Shape
from tuneproof.train.model import add_lora, load_config, with_attention

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedConfig

    from tuneproof.recipe import Lora, Model

_LIKE_LLAMA = ("llama", "mistral", "qwen2", "qwen3")
"""Kinds of model whose memory ``plan.memory`` derives."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A model's shape and its counts with the adapter on it.

    ``shape`` is None where the configuration lacks the usual numbers, ``context`` where it names
    none. ``notes`` say what was assumed.
    """

    shape: Shape | None
    adapted: tuple[Adapted, ...]
    trainable: int
    total: int
    context: int | None
    from_table: bool
    notes: tuple[str, ...] = ()

    @property
    def frozen(self) -> int:
        """Parameters of the base model."""
        return self.total - self.trainable


def find_geometry(model: Model, lora: Lora) -> Geometry:
    """The model's shape, from its own configuration or, failing that, from the table.

    Raises:
        ModelError: the model cannot be had and is not in the table; no module matches
            ``target_modules``.
    """
    config, known = _configuration(model)
    tuned = build_on_meta(config, lora)
    trainable, total = tuned.get_nb_trainable_parameters()
    shape = shape_of(config)
    notes = []
    if known is not None:
        notes.append(
            f"The model's shape is from the built-in table ({known.source}): {model.id} could not "
            "be had here. Training needs the model itself."
        )
    if shape is None:
        notes.append(f"Memory is not estimated: a {config.model_type} names its sizes otherwise.")
    elif config.model_type not in _LIKE_LLAMA:
        notes.append(
            f"Activations are those of a Llama of this size; a {config.model_type} may differ."
        )
    return Geometry(
        shape=shape,
        adapted=adapted_modules(tuned),
        trainable=trainable,
        total=total,
        context=known.context if known else getattr(config, "max_position_embeddings", None),
        from_table=known is not None,
        notes=tuple(notes),
    )


def _configuration(model: Model) -> tuple[PreTrainedConfig, KnownModel | None]:
    try:
        return load_config(model), None
    except ModelError as error:
        known = known_model(model.id)
        if known is None:
            raise ModelError(
                error.problem,
                place=error.place,
                value=error.value,
                remedy=f"{error.remedy} Without the model, these can be planned: "
                f"{', '.join(k.ids[0] for k in KNOWN_MODELS)}.".strip(),
            ) from None
    return build_config(known), known


def build_config(known: KnownModel) -> PreTrainedConfig:
    """Transformers' configuration of an entry of the table."""
    from transformers import AutoConfig

    return AutoConfig.for_model(known.kind, **known.settings)


def build_on_meta(config: PreTrainedConfig, lora: Lora, **options: Any) -> PeftModel:
    """The model with its adapter on the meta device: shapes and no memory."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        bare = with_attention(AutoModelForCausalLM.from_config, config, **options)
        return add_lora(bare, lora)


def shape_of(config: PreTrainedConfig) -> Shape | None:
    """The numbers of a configuration that memory depends on; None where one has no known name.

    A model without grouped heads has as many key and value heads as heads, and one that names no
    intermediate size four times its hidden size.
    """
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")
    layers, hidden, heads, vocabulary = (getattr(config, name, None) for name in names)
    if not (layers and hidden and heads and vocabulary):
        return None
    return Shape(
        layers=layers,
        hidden=hidden,
        intermediate=getattr(config, "intermediate_size", None) or 4 * hidden,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or hidden // heads,
        vocabulary=vocabulary,
        normed_heads=config.model_type == "qwen3",
    )


def adapted_modules(tuned: PeftModel) -> tuple[Adapted, ...]:
    """The modules that carry an adapter, like ones together."""
    found: Counter[tuple[str, int, int]] = Counter()
    for name, module in tuned.named_modules():
        if hasattr(module, "lora_A") and hasattr(module, "in_features"):
            found[name.rpartition(".")[2], module.in_features, module.out_features] += 1
    return tuple(
        Adapted(name=name, n=n, n_in=n_in, n_out=n_out)
        for (name, n_in, n_out), n in sorted(found.items())
    )
