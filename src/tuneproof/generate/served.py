"""Answers from a server that speaks OpenAI's completions: vLLM, SGLang, llama.cpp, transformers.

The prompts are ours, as token ids or as text that was checked to become the same ids again. Each
question is asked turn after turn, and many questions at once: as many as the server keeps up with,
and what it turns away is sent again (``endpoint.pacing``). An answer is journaled as it comes; a
failure is counted, never journaled, and tried again by the next run; a server that only fails is
given up. Whether it has the weights that its names promise is for whoever started it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from tuneproof.data.sections import first_marker
from tuneproof.endpoint.pacing import Pace, Tries
from tuneproof.endpoint.transport import Failed
from tuneproof.errors import CredentialError, EndpointError
from tuneproof.generate.answers import Answers, make_answer, turn_asks
from tuneproof.generate.batch import draw_name, temperature_of
from tuneproof.generate.completions import CompletionsClient
from tuneproof.recipe import named_seed
from tuneproof.records import Answer, Arm, Prompt, Stop
from tuneproof.workspace import Journal, digest_value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from tuneproof.generate.answers import Interview
    from tuneproof.generate.batch import Ask
    from tuneproof.generate.completions import Completion
    from tuneproof.generate.plan import Respondent
    from tuneproof.progress import Reporter, Task
    from tuneproof.recipe import Generate, Server


IN_A_ROW: Final = 20
"""So many requests that failed one after another end the run; prompts that it does not take are
none of them."""

MISREAD: Final = "prompt changed by the server"

PATIENCE_S: Final = 600.0
"""A server that brings no reply for so long, try after try, is given up."""


def served_name(server: Server, who: Respondent) -> str:
    """What the server calls the model of a respondent.

    Raises:
        EndpointError: the recipe does not say.
    """
    if who.arm is Arm.PLACEBO:
        found = server.placebo
    elif who.arm is Arm.TUNED:
        found = server.adapters[who.adapter - 1] if who.adapter <= len(server.adapters) else None
    else:
        found = server.base
    if found is None:
        raise EndpointError(
            f"no name of the served model for {who.name}",
            place="generate.server." + ("placebo" if who.arm is Arm.PLACEBO else "adapters"),
            remedy="Give the names under which the server has the adapters, in their order.",
        )
    return found


# --- from a prompt to an answer --------------------------------------------------------------


def as_text(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str | None:
    """The text that becomes these ids again when a server tokenizes it; None where none does."""
    ids = list(token_ids)
    begin = list(tokenizer("")["input_ids"])
    own = ids[len(begin) :] if begin and ids[: len(begin)] == begin else ids
    text = str(tokenizer.decode(own, skip_special_tokens=False))
    return text if list(tokenizer(text)["input_ids"]) == ids else None


def request_of(
    interview: Interview,
    ask: Ask,
    generate: Generate,
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
) -> dict[str, Any] | Failed:
    """The body of a completion request; Failed where the prompt cannot be sent as text."""
    server = generate.server
    assert server is not None  # the recipe does not validate without it
    stops = interview.asking.stops
    prompt: object = list(ask.token_ids)
    strings, body = list(stops.strings), {}
    if server.prompts == "text":
        prompt = as_text(tokenizer, ask.token_ids)
        if prompt is None:
            return Failed(
                "not asked", "as text its prompt would become other token ids", unfit=True
            )
        strings += [str(tokenizer.decode([t])) for t in stops.token_ids]
    elif stops.token_ids:
        body["extra_body"] = {"stop_token_ids": list(stops.token_ids)}
    name = draw_name(ask.prompt, interview.who, interview.sample)
    return {
        "model": served_name(server, interview.who),
        "prompt": prompt,
        "max_tokens": generate.max_new_tokens,
        "temperature": temperature_of(ask.prompt, generate, by_category=interview.by_category),
        "top_p": generate.top_p,
        # 31 bits: what every server takes.
        "seed": named_seed(seed, "answer", *name) >> 32,
        **({"stop": strings} if strings else {}),
        **body,
    }


def read_completion(
    completion: Completion,
    stops: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    n_prompt: int,
) -> tuple[str, Stop, int] | Failed:
    """Text, why it stopped, and its tokens, counted as in process: without what ended it.

    A server that does not say which of the ends it met is taken to have met the model's own. What
    it says to another prompt than that of ``n_prompt`` tokens is no answer to this one.
    """
    usage = completion.usage
    read = usage.prompt_tokens if usage is not None else None
    if read and read != n_prompt:  # 0, said of an answer, says that nobody counted
        why = "it cuts prompts" if read < n_prompt else "it adds tokens, a second BOS perhaps"
        return Failed(MISREAD, f"of {n_prompt} tokens the server read {read}: {why}")
    choice = completion.choices[0]
    if choice.finish_reason not in ("stop", "length"):
        return Failed("no whole answer", f"finish_reason {choice.finish_reason!r}")
    stop = Stop.LENGTH if choice.finish_reason == "length" else Stop.EOS
    reason = choice.stop_reason
    if stop is Stop.EOS and reason is not None and reason != tokenizer.eos_token_id:
        stop = Stop.STOP_STRING
    text = choice.text
    cut = first_marker(text, stops)
    if cut is not None:
        text, stop = text[:cut], Stop.STOP_STRING
    n_tokens = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    told = usage.completion_tokens if usage is not None else None
    if stop is Stop.LENGTH and told is not None:
        n_tokens = told
    return text.strip(), stop, n_tokens


# --- all of them -----------------------------------------------------------------------------


def ask_server(
    interviews: Sequence[Interview],
    generate: Generate,
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
    journal_file: Path,
    reporter: Reporter,
) -> Answers:
    """Hold all interviews with a server; nothing that was answered is asked again.

    Raises:
        CredentialError: the key is missing or refused.
        EndpointError: the server cannot be reached, does not know a model, has no quota left, or
            fails again and again.
    """
    with Journal(journal_file, Answer) as journal:
        desk = _Desk(generate, tokenizer, seed=seed, journal=journal)
        return asyncio.run(desk.hold(interviews, reporter))


class _Desk:
    def __init__(
        self,
        generate: Generate,
        tokenizer: PreTrainedTokenizerBase,
        *,
        seed: int,
        journal: Journal[Answer],
    ) -> None:
        assert generate.server is not None
        self._generate, self._tokenizer = generate, tokenizer
        self._seed, self._journal = seed, journal
        self._server = server = generate.server
        self._pace = Pace(server.concurrency, slow_s=server.timeout_s / 4)
        self._door = asyncio.Lock()
        self._resumed = self._failed = self._resent = self._in_a_row = 0
        self._heard = self._answered = False
        self._tries_in_a_row, self._last_reply = 0, time.monotonic()

    async def hold(self, interviews: Sequence[Interview], reporter: Reporter) -> Answers:
        client = CompletionsClient(self._server)
        rows: list[Answer] = []
        try:
            with reporter.task(
                "answers", sum(len(i.prompts) for i in interviews), unit="answers"
            ) as task:
                async with asyncio.TaskGroup() as group:
                    asked = [
                        (interview, self._start(group, interview, client, task))
                        for interview in interviews
                    ]
            for interview, running in asked:
                said = {place: a for t in running for place, a in t.result().items()}
                rows += [said[p.question_id, p.turn] for p in interview.prompts]
        except* (CredentialError, EndpointError) as errors:
            # All requests meet the same end: the first says it for all.
            raise _first(errors) from None
        finally:
            await client.close()
        return Answers(rows=rows, resumed=self._resumed, failed=self._failed)

    def _start(
        self,
        group: asyncio.TaskGroup,
        interview: Interview,
        client: CompletionsClient,
        task: Task,
    ) -> list[asyncio.Task[dict[tuple[str, int], Answer]]]:
        questions: dict[tuple[str, str], list[Prompt]] = {}
        for prompt in interview.prompts:
            questions.setdefault((prompt.benchmark, prompt.question_id), []).append(prompt)
        return [
            group.create_task(self._question(interview, turns, client, task))
            for turns in questions.values()
        ]

    async def _question(
        self,
        interview: Interview,
        turns: Sequence[Prompt],
        client: CompletionsClient,
        task: Task,
    ) -> dict[tuple[str, int], Answer]:
        """All turns of one question, one after another."""
        said: dict[tuple[str, int], Answer] = {}
        for prompt in sorted(turns, key=lambda p: p.turn):
            asks, failed = turn_asks(interview, [prompt], said)
            if failed:
                answer = failed[0]
                self._failed += 1
                task.advance(note=self._note(interview))
            else:
                answer = await self._answer(interview, asks[0], client, task)
            said[prompt.question_id, prompt.turn] = answer
        return said

    async def _answer(
        self, interview: Interview, ask: Ask, client: CompletionsClient, task: Task
    ) -> Answer:
        request = request_of(interview, ask, self._generate, self._tokenizer, seed=self._seed)
        name = draw_name(ask.prompt, interview.who, interview.sample)
        key = digest_value(
            [self._server.base_url, interview.weights, ask.token_ids, name, str(request)]
        )
        known = self._journal.get(key)
        if known is not None:
            self._resumed += 1
            self._answered = True
            task.skip(1)
            return known
        read: tuple[str, Stop, int] | Failed
        if isinstance(request, Failed):
            read = request
        else:
            got = await self._send(request, key, client)
            read = (
                got
                if isinstance(got, Failed)
                else read_completion(
                    got,
                    interview.asking.stops.strings,
                    self._tokenizer,
                    n_prompt=len(ask.token_ids),
                )
            )
        self._failed += isinstance(read, Failed)
        if isinstance(read, Failed):
            task.advance(note=self._note(interview))
            self._check_health(read)
            return make_answer(interview, ask, key, stop=Stop.ERROR, error=str(read))
        self._in_a_row, self._answered = 0, True
        text, stop, n_tokens = read
        task.tokens(n_tokens)
        task.advance(note=self._note(interview))
        answer = make_answer(interview, ask, key, stop=stop, text=text, n_tokens=n_tokens)
        self._journal.append([answer])
        return answer

    async def _send(
        self, request: dict[str, Any], key: str, client: CompletionsClient
    ) -> Completion | Failed:
        """Send a request until it has a reply, or has failed for good; it keeps one place."""
        async with self._door:  # in the order in which they come
            await self._pace.enter()
        try:
            tries = Tries(key)
            while True:
                sent = time.monotonic()
                got = await client.complete(request)
                if not isinstance(got, Failed):
                    self._heard = True
                    self._tries_in_a_row, self._last_reply = 0, time.monotonic()
                    self._pace.replied(self._last_reply - sent)
                    return got
                self._check_try(got)
                if got.turned_away or got.timed_out:
                    self._pace.refused()
                pause_s = tries.pause_s(got)
                if pause_s is None:
                    return got
                await asyncio.sleep(pause_s)
                self._resent += 1
        finally:
            self._pace.leave()

    def _note(self, interview: Interview) -> str:
        resent = f", {self._resent:,} sent again" if self._resent else ""
        return f"{interview.who.name}, {self._failed} failed{resent}"

    # --- what ends the run ---

    def _check_try(self, failed: Failed) -> None:
        """Refuse a server that is not there when it is first asked, or brings nothing for long."""
        if failed.reason == "no connection" and not failed.may_cost and not self._heard:
            raise EndpointError(
                f"cannot be reached: {failed.detail}",
                place="generate.server.base_url",
                value=self._server.base_url,
                remedy="Start the server, or correct its address (which often ends in /v1).",
            )
        self._heard = True
        self._tries_in_a_row += 1
        waited = time.monotonic() - self._last_reply
        if self._tries_in_a_row >= IN_A_ROW and waited > PATIENCE_S:
            raise self._gave_up(f"no reply for {waited / 60:.0f} minutes", failed)

    def _check_health(self, failed: Failed) -> None:
        # A prompt that is cut is a matter of its length, unless each of them is.
        if failed.unfit or (failed.reason == MISREAD and self._answered):
            return
        self._in_a_row += 1
        if self._in_a_row >= IN_A_ROW:
            raise self._gave_up(f"{self._in_a_row} requests in a row failed", failed)

    def _gave_up(self, problem: str, last: Failed) -> EndpointError:
        return EndpointError(
            f"{problem}; the last: {last}",
            place=self._server.base_url,
            remedy="Every answer so far is kept. Put the server right and run again; a lower "
            "generate.server.concurrency or a higher timeout_s may help.",
        )


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
