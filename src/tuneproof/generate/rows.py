"""The rows of a batch inside the model: their keys and values, and one forward pass over them all.

On a CPU a batch is read in groups of like length. Each group keeps its own keys and values, so that
no short prompt attends over a long one's padding, while every other product has all rows at once.
Elsewhere a batch is one group. Models whose layers keep more than plain keys and values (sliding
windows, states) go through transformers' own cache. What becomes of the logits is left to
``decoding``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import torch
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from tuneproof.generate.plan import chunk_by_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

ATTENTION: Final = "tuneproof_groups"
"""The name under which transformers knows ``attend``."""

GROUP_TOKENS: Final = 1024
"""Padded prompt tokens that are read at once on a CPU. Twice as many read a fifth slower and take
twice the memory; half as many read no faster, and smaller groups attend slower."""


class Rows(Protocol):
    """The rows of one batch, in the order in which ``read`` got them."""

    def read(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits (rows, vocabulary) of the token after each prompt."""

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of the next token, after one more (rows) of each row."""

    def keep(self, rows: Sequence[int]) -> None:
        """Let all rows go but these, by their ascending places."""


def open_rows(model: PreTrainedModel, capacity: int) -> Rows:
    """Place for rows of which each is answered with at most ``capacity`` tokens."""
    if model.config._attn_implementation == ATTENTION:
        return GroupedRows(model, capacity)
    return PaddedRows(model)


def prepare_attention(model: PreTrainedModel) -> None:
    """Let a model use ``attend``, where all its layers keep plain keys and values."""
    config = model.config.get_text_config()
    layers = DynamicCache(config=config).layers
    plain = len(layers) > 0 and all(type(layer) is DynamicLayer for layer in layers)
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    if plain and not capped and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(ATTENTION, attend)
        AttentionMaskInterface.register(ATTENTION, sdpa_mask)
        model.set_attn_implementation(ATTENTION)


# --- groups ----------------------------------------------------------------------------------


class Group:
    """Rows of like length: how wide their prompts are, and where padding is.

    ``bias`` (rows, 1, capacity) is minus infinity on the padding, at the left, and 0 elsewhere;
    None where there is no padding.
    """

    def __init__(self, lengths: Sequence[int], capacity: int, device: torch.device) -> None:
        self.n, self.width = len(lengths), max(lengths)
        self.capacity = self.width + capacity
        self.bias = None
        if min(lengths) < self.width:
            pads = torch.tensor([self.width - n for n in lengths], device=device)
            padding = torch.arange(self.capacity, device=device) < pads[:, None]
            self.bias = torch.zeros(padding.shape, device=device).masked_fill_(padding, -torch.inf)
            self.bias.unsqueeze_(1)

    def keep(self, rows: torch.Tensor) -> None:
        """Let the other rows go."""
        self.n = len(rows)
        self.bias = None if self.bias is None else self.bias[rows]


class Stored:
    """Keys or values of all groups, each (rows · heads, capacity, size of a head).

    A layer's cache hands it through the layer to ``attend``. ``steps`` tokens follow each prompt.
    """

    def __init__(self, groups: list[Group]) -> None:
        self.groups = groups
        self.parts: list[torch.Tensor] = []
        self.steps = 0

    def open(self, states: torch.Tensor) -> None:
        """Take the prompts of the group that comes next."""
        group = self.groups[len(self.parts)]
        rows = states.flatten(0, 1)
        kept = rows.new_empty(len(rows), group.capacity, rows.shape[-1])
        kept[:, : group.width] = rows
        self.parts.append(kept)

    def add(self, states: torch.Tensor) -> None:
        """Take one more token of every row of all groups."""
        news = torch.split(states.squeeze(2), [g.n for g in self.groups])
        for group, kept, new in zip(self.groups, self.parts, news, strict=True):
            kept[:, group.width + self.steps] = new.flatten(0, 1)
        self.steps += 1

    def keep(self, places: Sequence[torch.Tensor]) -> None:
        """Let rows go, before their groups do."""
        self.parts = [
            torch.unflatten(kept, 0, (group.n, -1))[rows].flatten(0, 1)
            for group, kept, rows in zip(self.groups, self.parts, places, strict=True)
            if len(rows)
        ]


class GroupedLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer's keys and values."""

    def __init__(self, groups: list[Group]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stored = (Stored(groups), Stored(groups))
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing: a group's memory is taken when its prompts are read."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Store a group's prompts, as long as one is to come; then one token of every row."""
        keys, values = self.stored
        if len(keys.parts) < len(keys.groups):
            keys.open(key_states)
            values.open(value_states)
            return key_states, value_states
        keys.add(key_states)
        values.add(value_states)
        return keys, values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """As of an empty cache: a group's prompts see themselves alone."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """Every pass is given its positions; none is derived from here."""
        return 0

    def get_max_length(self) -> int:
        """No limit of its own."""
        return -1


class GroupedRows:
    """Rows in groups; the model must attend through ``attend``."""

    def __init__(self, model: PreTrainedModel, capacity: int) -> None:
        self._model, self._capacity = model, capacity
        self._groups: list[Group] = []
        n_layers = model.config.get_text_config().num_hidden_layers
        self._layers = [GroupedLayer(self._groups) for _ in range(n_layers)]
        self._cache = Cache(layers=list(self._layers))
        self._positions = torch.empty(0)

    def read(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """See ``Rows``; the prompts come longest first."""
        device = self._model.device
        budget = GROUP_TOKENS if device.type == "cpu" else sum(map(len, prompts)) * len(prompts)
        logits = []
        for chunk in chunk_by_tokens(prompts, budget):
            rows = [prompts[i] for i in chunk]
            self._groups.append(Group([len(r) for r in rows], self._capacity, device))
            logits.append(_read(self._model, rows, self._cache))
        self._positions = torch.tensor([[len(p)] for p in prompts], device=device)
        return torch.cat(logits)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """See ``Rows``."""
        out = self._model(
            input_ids=tokens[:, None],
            # Four dimensions: made ready, so that transformers makes none. ``attend`` has its own.
            attention_mask=torch.empty(1, 1, 1, 1, device=tokens.device),
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._positions = self._positions + 1
        return out.logits[:, -1]  # type: ignore[no-any-return]

    def keep(self, rows: Sequence[int]) -> None:
        """See ``Rows``."""
        device = self._positions.device
        places, first = [], 0
        for group in self._groups:
            inside = [r - first for r in rows if first <= r < first + group.n]
            places.append(torch.tensor(inside, dtype=torch.long, device=device))
            first += group.n
        for layer in self._layers:
            for stored in layer.stored:
                stored.keep(places)
        for group, inside_group in zip(self._groups, places, strict=True):
            group.keep(inside_group)
        self._groups[:] = [g for g in self._groups if g.n]
        self._positions = self._positions[torch.tensor(rows, device=device)]


def _read(model: PreTrainedModel, prompts: Sequence[Sequence[int]], cache: Cache) -> torch.Tensor:
    """One pass over prompts, padded on the left; logits after their last tokens."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=model.device)
    mask = torch.tensor(
        [[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device
    )
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return out.logits[:, -1]  # type: ignore[no-any-return]


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor | Stored,
    value: torch.Tensor | Stored,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over the stored keys of each group; over plain tensors, PyTorch's own.

    On a CPU it is two batched products, with the stored tensors on the left of the first: with
    SmolLM2's heads in bfloat16 that takes half the time of PyTorch's kernel for one query.

    Args:
        query: (rows, heads, 1, size) where ``key`` and ``value`` are ``Stored``.

    Returns:
        (rows, 1, heads, size), and no weights.
    """
    if not (isinstance(key, Stored) and isinstance(value, Stored)):
        assert isinstance(key, torch.Tensor)
        assert isinstance(value, torch.Tensor)
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    outs = []
    groups, keys, values = key.groups, key.parts, value.parts
    queries = torch.split(query.squeeze(2), [g.n for g in groups])
    for group, q, k, v in zip(groups, queries, keys, values, strict=True):
        length = group.width + key.steps
        heads = len(k) // group.n
        # The query heads of one key head together: (rows · key heads, heads of each, size).
        q = torch.unflatten(q, 1, (heads, -1))
        bias = None if group.bias is None else group.bias[..., :length]
        if q.device.type == "cpu":
            out = _products(q.flatten(0, 1), k[:, :length], v[:, :length], bias, scale, heads)
        else:
            out = torch.nn.functional.scaled_dot_product_attention(
                q,
                torch.unflatten(k[:, :length], 0, (-1, heads)),
                torch.unflatten(v[:, :length], 0, (-1, heads)),
                attn_mask=None if bias is None else bias[:, None].to(q.dtype),
                scale=scale,
            )
        outs.append(out.reshape(group.n, 1, -1, v.shape[-1]))
    return torch.cat(outs), None


def _products(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    heads: int,
) -> torch.Tensor:
    """Softmax(q k) v of (rows · heads, …) tensors, the softmax in float32."""
    scores = torch.bmm(k, q.transpose(1, 2)).transpose(1, 2).float()
    scores *= scale
    if bias is not None:
        torch.unflatten(scores, 0, (-1, heads)).add_(bias[:, None])
    return torch.bmm(torch.softmax(scores, -1).to(v.dtype), v)


# --- any model -------------------------------------------------------------------------------


class PaddedRows:
    """Rows padded to the longest prompt, in transformers' own cache for the model."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._cache = DynamicCache(config=model.config)
        self._mask = self._positions = torch.empty(0)

    def read(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """See ``Rows``."""
        width, device = max(map(len, prompts)), self._model.device
        self._mask = torch.tensor(
            [[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device
        )
        self._positions = torch.tensor([[len(p)] for p in prompts], device=device)
        return _read(self._model, prompts, self._cache)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """See ``Rows``."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], 1)
        out = self._model(
            input_ids=tokens[:, None],
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._positions = self._positions + 1
        return out.logits[:, -1]  # type: ignore[no-any-return]

    def keep(self, rows: Sequence[int]) -> None:
        """See ``Rows``."""
        places = torch.tensor(rows, device=self._mask.device)
        self._cache.batch_select_indices(places)
        self._mask, self._positions = self._mask[places], self._positions[places]
