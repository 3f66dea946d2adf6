"""How an arm is asked: from an instruction, and what was said before it, to token ids.

Base and tuned are asked with the training template. Fair-base is the base model at its best: with
its tokenizer's chat template where there is one, else with three worked examples before the
question; and its answer ends where a new section or turn begins. Nothing is generated here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from tuneproof.data.encode import encode_prompts, token_ids
from tuneproof.data.sections import section_starts
from tuneproof.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from tuneproof.data.templates import Template


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One turn to be asked. ``earlier`` holds (instruction, answer) of the turns before it."""

    instruction: str
    context: str
    earlier: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Stops:
    """What ends an answer besides the model's own end tokens: strings, and further tokens."""

    strings: tuple[str, ...] = ()
    token_ids: tuple[int, ...] = ()


class Asking(Protocol):
    """One way of asking. ``name`` is what reports call it."""

    @property
    def name(self) -> str:
        """In a few words."""

    @property
    def stops(self) -> Stops:
        """What ends an answer to a prompt of this kind."""

    def encode(self, asked: Sequence[Asked]) -> list[list[int]]:
        """Token ids of the prompts, in order."""


class TemplateAsking:
    """With the training template, as base and tuned are asked; the end is the model's own."""

    name = "training template"
    stops = Stops()

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: Template) -> None:
        self._tokenizer, self._template = tokenizer, template

    def encode(self, asked: Sequence[Asked]) -> list[list[int]]:
        """The prompt of a training row; of a later turn, the conversation so far."""
        firsts = [a for a in asked if not a.earlier]
        laters = [a for a in asked if a.earlier]
        first = iter(
            encode_prompts(
                self._tokenizer, self._template, [(a.instruction, a.context) for a in firsts]
            )
        )
        later = iter(
            token_ids(
                self._tokenizer,
                [self._template.conversation(a.earlier, a.instruction) for a in laters],
            )
        )
        return [next(later if a.earlier else first) for a in asked]


class ChatAsking:
    """With the tokenizer's own chat template, turns as messages.

    An answer also ends at any special token: a model that is no chat model may close its turn with
    the template's token, which is not its end of sequence, and begin the user's next one.
    """

    name = "its own chat template"

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.stops = Stops(token_ids=tuple(sorted(set(tokenizer.all_special_ids))))

    def encode(self, asked: Sequence[Asked]) -> list[list[int]]:
        """The template's own tokens, its BOS included and no second one.

        Raises:
            ModelError: the template refuses a conversation.
        """
        return [self._ids(a) for a in asked]

    def _ids(self, asked: Asked) -> list[int]:
        from jinja2 import TemplateError

        messages = []
        for instruction, answer in asked.earlier:
            messages.append({"role": "user", "content": instruction})
            messages.append({"role": "assistant", "content": answer})
        messages.append({"role": "user", "content": _with_context(asked)})
        try:
            ids: Any = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except TemplateError as error:
            raise ModelError(
                f"its chat template refuses a conversation: {error}",
                place="model.tokenizer",
                remedy="Leave fair-base out of evaluate.against, or mend the chat template.",
            ) from None
        return list(ids)


def _with_context(asked: Asked) -> str:
    return f"{asked.instruction}\n\n{asked.context}" if asked.context else asked.instruction


WORKED_EXAMPLES: Final = (
    (
        "Why does a metal spoon in hot tea feel warmer than a wooden one?",
        "Metal conducts heat well. The warmth of the tea moves quickly along the spoon to your "
        "fingers. Wood conducts heat poorly, so its handle stays close to room temperature.",
    ),
    (
        "Name three things to check before a long bicycle tour.",
        "1. Tyres: enough air, and no cuts in the tread.\n"
        "2. Brakes: the pads grip well before the lever reaches the handlebar.\n"
        "3. Chain: clean, oiled, and running smoothly through all gears.",
    ),
    (
        'Rewrite this sentence so that it is polite: "Send me the report now."',
        "Could you please send me the report as soon as you can?",
    ),
)
"""Shown to fair-base before the question: a fact, a list, a task. They name no benchmark's topic;
what they show is where an answer ends and how long it is."""


class ExamplesAsking:
    """With worked examples in the recipe's template before the question.

    The answer ends where the next section of the template begins.
    """

    name = "three worked examples"

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: Template) -> None:
        self._tokenizer, self._template = tokenizer, template
        self.stops = Stops(strings=section_starts(template))

    def encode(self, asked: Sequence[Asked]) -> list[list[int]]:
        """The examples, the conversation so far, and the prompt of the new turn."""
        return token_ids(self._tokenizer, [self.text(a) for a in asked])

    def text(self, asked: Asked) -> str:
        """The whole prompt as text."""
        template = self._template
        told = template.conversation((*WORKED_EXAMPLES, *asked.earlier), "")
        said = told.removesuffix(template.prompt("", ""))
        return said + template.prompt(asked.instruction, asked.context)


def fair_asking(tokenizer: PreTrainedTokenizerBase, template: Template) -> Asking:
    """How the base model is asked at its best."""
    if tokenizer.chat_template is not None:
        return ChatAsking(tokenizer)
    return ExamplesAsking(tokenizer, template)
