"""What a model takes in no request: the stage ends at the first refusal, with what mends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import Behaviour, ChatServer, Status
from tests.unit.judge_case import ask, judge
from tuneproof.endpoint.transport import Failed
from tuneproof.errors import EndpointError
from tuneproof.judge.refusals import limit_field_warning, refused_setting

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. "
    "Use 'max_completion_tokens' instead."
)
TEMPERATURE = (
    "Unsupported value: 'temperature' does not support 0.0 with this model. "
    "Only the default (1) value is supported."
)


def test_a_model_that_takes_no_max_tokens_ends_it_at_the_first_refusal(tmp_path: Path) -> None:
    def reply(request: dict[str, Any]) -> Behaviour | str:
        return Status(400, LIMIT, "unsupported_parameter") if "max_tokens" in request else "A"

    with ChatServer(reply) as server:
        with pytest.raises(EndpointError, match="does not take the max_tokens") as caught:
            ask(tmp_path, judge(server.url, concurrency=1), range(60))
        assert len(server.received) == 1
    assert "--set judge.limit_field=max_completion_tokens" in caught.value.remedy


@pytest.mark.parametrize(
    ("failed", "section", "remedy"),
    [
        (Failed("HTTP 400, unsupported_parameter", LIMIT), {}, "=max_completion_tokens"),
        (Failed("HTTP 400", LIMIT), {}, "=max_completion_tokens"),
        (
            Failed("HTTP 400", f'{{"error": {{"message": "{LIMIT}"}}}}'),
            {},
            "=max_completion_tokens",
        ),
        (
            Failed("HTTP 400", "'max_completion_tokens' is unknown; say 'max_tokens'"),
            {"limit_field": "max_completion_tokens"},
            "=max_tokens",
        ),
        (Failed("HTTP 400, unsupported_value", TEMPERATURE), {}, "judge.temperature=1"),
        (
            Failed("HTTP 400, unsupported_value", TEMPERATURE),
            {"temperature": 1.0},
            "Ask another model",
        ),
        (
            Failed("HTTP 400, unsupported_parameter", "'logprobs' is not supported"),
            {},
            "protocol=own",
        ),
    ],
)
def test_each_refusal_names_what_mends_it(
    failed: Failed, section: dict[str, Any], remedy: str
) -> None:
    error = refused_setting(judge("http://127.0.0.1/v1", **section), failed)
    assert error is not None
    assert remedy in error.remedy
    assert failed.detail in str(error)


@pytest.mark.parametrize(
    "failed",
    [
        Failed("HTTP 400, context_length_exceeded", "max_tokens is too large: 'max_tokens'"),
        Failed("HTTP 422", LIMIT),
        Failed("HTTP 500", LIMIT),
    ],
)
def test_other_failures_are_of_one_request(failed: Failed) -> None:
    assert refused_setting(judge("http://127.0.0.1/v1"), failed) is None


def test_the_plan_warns_of_openais_reasoning_models() -> None:
    openai = judge("https://api.openai.com/v1")
    for model in ("o1", "o3-mini", "gpt-5", "gpt-5-mini"):
        warned = limit_field_warning(openai.model_copy(update={"model": model}))
        assert warned is not None
        assert "judge.limit_field=max_completion_tokens" in warned
    other = {"model": "o1", "limit_field": "max_completion_tokens"}
    for update in ({"model": "gpt-4o"}, other, {"model": "o1", "base_url": "http://x/v1"}):
        assert limit_field_warning(openai.model_copy(update=update)) is None
