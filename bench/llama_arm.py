"""The llama.cpp arm of ``bench/generate.py``, through llama-cpp-python's bindings.

    python bench/llama_arm.py IN.gguf OUT.gguf    the same weights as bfloat16

One prompt at a time, and several sequences at once: each gets a place as soon as another is done,
which is how llama.cpp's server answers with ``--parallel``. Greedy; the end token does not count.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

PROMPT_TOKENS = 2048
"""Most tokens of one pass: the default of llama.cpp's server."""


def installed() -> bool:
    """Whether the bindings are there."""
    return importlib.util.find_spec("llama_cpp") is not None


class LlamaCpp:
    """A GGUF file's model, with places for ``parallel`` sequences of at most ``length`` tokens."""

    def __init__(self, gguf: Path, *, parallel: int, length: int, threads: int) -> None:
        import llama_cpp

        self._c: Any = llama_cpp
        self._parallel = parallel
        llama_cpp.llama_log_set(_no_log(llama_cpp), None)
        llama_cpp.llama_backend_init()
        settings = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(str(gguf).encode(), settings)
        if not self._model:
            raise OSError(f"llama.cpp cannot load {gguf}")
        self._vocabulary = llama_cpp.llama_vocab_n_tokens(
            llama_cpp.llama_model_get_vocab(self._model)
        )
        how = llama_cpp.llama_context_default_params()
        how.n_ctx, how.n_seq_max = parallel * length, parallel
        how.n_batch = PROMPT_TOKENS
        how.n_threads = how.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(self._model, how)
        if not self._context:
            raise MemoryError(f"llama.cpp has no room for {parallel} sequences")
        self._batch = llama_cpp.llama_batch_init(PROMPT_TOKENS, 0, 1)

    def answer(self, rows: Sequence[Sequence[int]], *, end: int, new: int) -> list[list[int]]:
        """The tokens after each prompt, without the end token, in the rows' order."""
        said: list[list[int]] = [[] for _ in rows]
        waiting = list(range(len(rows)))[::-1]
        places: dict[int, int] = {}  # sequence -> row
        unread: dict[int, list[int]] = {}  # sequence -> what the model has not seen yet
        while waiting or places:
            for sequence in range(self._parallel):
                if waiting and sequence not in places:
                    row = places[sequence] = waiting.pop()
                    unread[sequence] = list(rows[row])
            for sequence, token in self._pass(unread, places, rows, said):
                row = places[sequence]
                if token != end:
                    said[row].append(token)
                if token == end or len(said[row]) == new:
                    del places[sequence], unread[sequence]
                    memory = self._c.llama_get_memory(self._context)
                    self._c.llama_memory_seq_rm(memory, sequence, -1, -1)
                else:
                    unread[sequence] = [token]
        return said

    def _pass(
        self,
        unread: dict[int, list[int]],
        places: dict[int, int],
        rows: Sequence[Sequence[int]],
        said: Sequence[Sequence[int]],
    ) -> list[tuple[int, int]]:
        """One pass: of each sequence that has been read to its end, the next token."""
        import numpy as np

        batch, n, ends = self._batch, 0, []
        # Sequences that answer first, since each has one token only; prompts as far as they go.
        for sequence in sorted(unread, key=lambda s: len(unread[s])):
            row = places[sequence]
            taken, left = unread[sequence][: PROMPT_TOKENS - n], unread[sequence]
            first = len(rows[row]) + len(said[row]) - len(left)
            for i, token in enumerate(taken):
                last = i == len(left) - 1
                batch.token[n], batch.pos[n] = token, first + i
                batch.n_seq_id[n], batch.seq_id[n][0] = 1, sequence
                batch.logits[n] = last
                if last:
                    ends.append((sequence, n))
                n += 1
            unread[sequence] = left[len(taken) :]
        batch.n_tokens = n
        if self._c.llama_decode(self._context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        return [
            (
                sequence,
                int(
                    np.ctypeslib.as_array(
                        self._c.llama_get_logits_ith(self._context, place), (self._vocabulary,)
                    ).argmax()
                ),
            )
            for sequence, place in ends
        ]


def _no_log(llama_cpp: Any) -> Any:
    global _SILENCE  # the library keeps the pointer: it must outlive this call
    _SILENCE = llama_cpp.llama_log_callback(lambda level, text, data: None)
    return _SILENCE


_SILENCE: Any = None


def as_bfloat16(source: Path, target: Path) -> None:
    """Write a GGUF file with the same metadata, and its matrices as bfloat16."""
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
    from gguf.constants import GGUFValueType
    from gguf.quants import dequantize, quantize

    reader = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, architecture)
    skipped = ("GGUF.", "general.architecture", "general.file_type", "general.quantization_version")
    for name, field in reader.fields.items():
        if not name.startswith(skipped):
            kind = field.types[0]
            inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), kind, inner)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        if values.ndim < 2:
            writer.add_tensor(tensor.name, values)
            continue
        kind = GGMLQuantizationType.BF16
        writer.add_tensor(tensor.name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Write a GGUF file's weights as bfloat16."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    as_bfloat16(args.source, args.target)


if __name__ == "__main__":
    main()
