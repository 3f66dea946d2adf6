"""The template: the one place where instruction, context and response become text.

The prompt is the text up to the response, so a training text begins with exactly the prompt that
is asked at inference. Fields are inserted in one pass: what looks like a placeholder inside a field
stays what it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tuneproof.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Sequence

_WITHOUT_CONTEXT = "### Instruction:\n{instruction}\n\n### Response:\n{response}\n"

BUILT_IN = {
    "instruction-context-response": (
        "### Instruction:\n{instruction}\n\n### Context:\n{context}\n\n### Response:\n{response}\n"
    ),
}
"""The reference's template: all three sections always, one newline after the response."""

OPTIONAL_CONTEXT = "instruction-optional-context-response"
"""The reference's template where there is a context, without that section where there is none."""

_PLACEHOLDER = re.compile(r"\{(instruction|context|response)\}")


@dataclass(frozen=True)
class Template:
    """A parsed template: literals and field names of the prompt, and what follows the response.

    ``pieces_without_context`` are those of a prompt whose context is empty.
    """

    name: str
    pieces: tuple[str, ...]
    pieces_without_context: tuple[str, ...]
    suffix: str

    def prompt(self, instruction: str, context: str) -> str:
        """The text that a model is asked to continue."""
        fields = {"instruction": instruction, "context": context}
        pieces = self.pieces if context else self.pieces_without_context
        # Odd places hold field names: re.split alternates literal, name, literal, …
        return "".join(fields[p] if i % 2 else p for i, p in enumerate(pieces))

    @property
    def keeps_empty_context(self) -> bool:
        """Whether a context that is empty still has its section in the prompt."""
        return "context" in self.pieces_without_context[1::2]

    def conversation(self, turns: Sequence[tuple[str, str]], instruction: str) -> str:
        """The prompt of a later turn: what was asked and answered, then the new instruction.

        Each earlier turn is the text of a training row, with a blank line after it.
        """
        said = [self.text(asked, "", answered) + "\n" for asked, answered in turns]
        return "".join(said) + self.prompt(instruction, "")

    def text(self, instruction: str, context: str, response: str) -> str:
        """The text that is trained on: prompt, response, suffix."""
        return self.prompt(instruction, context) + response + self.suffix


def parse_template(name_or_text: str) -> Template:
    """A built-in template by name, or a text with the three placeholders.

    Raises:
        RecipeError: the name is unknown, or the text does not hold ``{instruction}`` and then one
            ``{response}``.
    """
    if name_or_text == OPTIONAL_CONTEXT:
        full = parse_template("instruction-context-response")
        short = parse_template(_WITHOUT_CONTEXT)
        return replace(full, name=OPTIONAL_CONTEXT, pieces_without_context=short.pieces)
    text = BUILT_IN.get(name_or_text)
    place = "data.template"
    if text is None:
        text = name_or_text
        if "{" not in text:
            raise RecipeError(
                "no such template",
                place=place,
                value=text,
                remedy=f"Built in: {', '.join((*BUILT_IN, OPTIONAL_CONTEXT))}. Or give a text with "
                "{instruction}, {context} and {response}.",
            )
    found = _PLACEHOLDER.findall(text)
    if found.count("response") != 1 or found[-1] != "response":
        problem = "has no {response}" if "response" not in found else "must end with one {response}"
        raise RecipeError(
            problem,
            place=place,
            value=repr(text),
            remedy="What stands before {response} is the prompt; it is asked at inference.",
        )
    if "instruction" not in found:
        raise RecipeError("has no {instruction}", place=place, value=repr(text))
    *pieces, _, suffix = _PLACEHOLDER.split(text)
    name = name_or_text if name_or_text in BUILT_IN else "custom"
    return Template(
        name=name, pieces=tuple(pieces), pieces_without_context=tuple(pieces), suffix=suffix
    )
