"""A small table of well-known models, for planning where the model itself cannot be had.

Numbers are those of the models' published ``config.json`` files; a test builds each one and
compares its parameters with the published total. Nothing but the plan uses this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """One geometry: the hub ids that share it, transformers' settings of it, and their source.

    ``context`` is the length that the model was trained for, where its configuration allows more;
    ``parameters`` the published total.
    """

    ids: tuple[str, ...]
    kind: str
    settings: dict[str, Any]
    context: int
    parameters: int
    source: str


def known_model(model_id: str) -> KnownModel | None:
    """The entry for a hub id; upper and lower case are one."""
    wanted = model_id.casefold()
    return next((k for k in KNOWN_MODELS if wanted in map(str.casefold, k.ids)), None)


# Hidden, intermediate, layers, heads, key-value heads, vocabulary, context.
_Sizes = tuple[int, int, int, int, int, int, int]


def _entry(
    ids: str, kind: str, sizes: _Sizes, parameters: int, source: str, **more: Any
) -> KnownModel:
    hidden, intermediate, layers, heads, kv_heads, vocabulary, context = sizes
    settings = {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
    }
    return KnownModel(
        ids=tuple(ids.split()),
        kind=kind,
        settings=settings | more,
        context=context,
        parameters=parameters,
        source=f"{source}, and config.json",
    )


_LLAMA2 = "arXiv:2307.09288"
_LLAMA3 = "arXiv:2407.21783"
_MISTRAL = "arXiv:2310.06825"
_QWEN25 = "arXiv:2412.15115"
_QWEN3 = "arXiv:2505.09388"
_SMOLLM2 = "arXiv:2502.02737"

KNOWN_MODELS = (
    _entry(
        "meta-llama/Llama-2-7b-hf meta-llama/Llama-2-7b-chat-hf",
        "llama",
        (4096, 11008, 32, 32, 32, 32000, 4096),
        6_738_415_616,
        _LLAMA2,
    ),
    _entry(
        "meta-llama/Llama-2-13b-hf meta-llama/Llama-2-13b-chat-hf",
        "llama",
        (5120, 13824, 40, 40, 40, 32000, 4096),
        13_015_864_320,
        _LLAMA2,
    ),
    _entry(
        "meta-llama/Llama-2-70b-hf meta-llama/Llama-2-70b-chat-hf",
        "llama",
        (8192, 28672, 80, 64, 8, 32000, 4096),
        68_976_648_192,
        _LLAMA2,
    ),
    _entry(
        "meta-llama/Meta-Llama-3-8B meta-llama/Meta-Llama-3-8B-Instruct",
        "llama",
        (4096, 14336, 32, 32, 8, 128256, 8192),
        8_030_261_248,
        _LLAMA3,
    ),
    _entry(
        "mistralai/Mistral-7B-v0.1 mistralai/Mistral-7B-Instruct-v0.1",
        "mistral",
        (4096, 14336, 32, 32, 8, 32000, 32768),
        7_241_732_096,
        _MISTRAL,
        sliding_window=4096,
    ),
    _entry(
        "mistralai/Mistral-7B-v0.3 mistralai/Mistral-7B-Instruct-v0.3",
        "mistral",
        (4096, 14336, 32, 32, 8, 32768, 32768),
        7_248_023_552,
        _MISTRAL,
        sliding_window=None,
    ),
    _entry(
        "Qwen/Qwen2.5-0.5B Qwen/Qwen2.5-0.5B-Instruct",
        "qwen2",
        (896, 4864, 24, 14, 2, 151936, 32768),
        494_032_768,
        _QWEN25,
        tie_word_embeddings=True,
    ),
    _entry(
        "Qwen/Qwen2.5-1.5B Qwen/Qwen2.5-1.5B-Instruct",
        "qwen2",
        (1536, 8960, 28, 12, 2, 151936, 32768),
        1_543_714_304,
        _QWEN25,
        tie_word_embeddings=True,
    ),
    _entry(
        "Qwen/Qwen2.5-7B Qwen/Qwen2.5-7B-Instruct",
        "qwen2",
        (3584, 18944, 28, 28, 4, 152064, 32768),
        7_615_616_512,
        _QWEN25,
    ),
    _entry(
        "Qwen/Qwen3-0.6B Qwen/Qwen3-0.6B-Base",
        "qwen3",
        (1024, 3072, 28, 16, 8, 151936, 32768),
        596_049_920,
        _QWEN3,
        head_dim=128,
        tie_word_embeddings=True,
    ),
    _entry(
        "Qwen/Qwen3-1.7B Qwen/Qwen3-1.7B-Base",
        "qwen3",
        (2048, 6144, 28, 16, 8, 151936, 32768),
        1_720_574_976,
        _QWEN3,
        head_dim=128,
        tie_word_embeddings=True,
    ),
    _entry(
        "Qwen/Qwen3-4B Qwen/Qwen3-4B-Base",
        "qwen3",
        (2560, 9728, 36, 32, 8, 151936, 32768),
        4_022_468_096,
        _QWEN3,
        head_dim=128,
        tie_word_embeddings=True,
    ),
    _entry(
        "Qwen/Qwen3-8B Qwen/Qwen3-8B-Base",
        "qwen3",
        (4096, 12288, 36, 32, 8, 151936, 32768),
        8_190_735_360,
        _QWEN3,
        head_dim=128,
    ),
    _entry(
        "HuggingFaceTB/SmolLM2-135M HuggingFaceTB/SmolLM2-135M-Instruct",
        "llama",
        (576, 1536, 30, 9, 3, 49152, 8192),
        134_515_008,
        _SMOLLM2,
        tie_word_embeddings=True,
    ),
    _entry(
        "HuggingFaceTB/SmolLM2-360M HuggingFaceTB/SmolLM2-360M-Instruct",
        "llama",
        (960, 2560, 32, 15, 5, 49152, 8192),
        361_821_120,
        _SMOLLM2,
        tie_word_embeddings=True,
    ),
    _entry(
        "HuggingFaceTB/SmolLM2-1.7B HuggingFaceTB/SmolLM2-1.7B-Instruct",
        "llama",
        (2048, 8192, 24, 32, 32, 49152, 8192),
        1_711_376_384,
        _SMOLLM2,
        tie_word_embeddings=True,
    ),
)
