"""From a line to a request: accepted forms, defaults, identity, and what is refused before it costs anything."""

import io
import json
from dataclasses import FrozenInstanceError
from hashlib import blake2b
from typing import Any

import pytest

from batchrunner.errors import UsageError
from batchrunner.jobfile import (
    MAX_BODY_BYTES,
    Defaults,
    Line,
    LineError,
    Shaper,
    Template,
    derived_id,
    parse_settings,
    read_lines,
)
from batchrunner.model import Request

DEFAULTS = Defaults(model="claude-haiku-4-5", max_tokens=1024)
HELLO = [{"role": "user", "content": "Hello"}]
TAIL = {"model": "claude-haiku-4-5", "max_tokens": 1024}


def request(row: Any, defaults: Defaults = DEFAULTS, template: str | None = None) -> Request:
    data = row if isinstance(row, bytes) else json.dumps(row).encode()
    return Shaper(defaults, None if template is None else Template(template)).request(Line(7, 1000, data))


def body(row: Any, defaults: Defaults = DEFAULTS, template: str | None = None) -> Any:
    return json.loads(request(row, defaults, template).params)


def cause(row: Any, defaults: Defaults = DEFAULTS, template: str | None = None) -> str:
    with pytest.raises(LineError) as caught:
        request(row, defaults, template)
    assert caught.value.line == 7
    return caught.value.cause


# Forms


@pytest.mark.parametrize(
    "row",
    [
        "Hello",
        {"prompt": "Hello"},
        {"messages": HELLO},
        {"messages": HELLO, **TAIL},
        {"params": {"messages": HELLO}},
        {"custom_id": "a", "params": {"messages": HELLO, **TAIL}},
    ],
)
def test_every_form_comes_to_the_same_body(row: Any) -> None:
    assert request(row).params == json.dumps({"messages": HELLO, **TAIL}, separators=(",", ":"))


def test_keys_keep_their_order_and_defaults_are_appended() -> None:
    row = {"temperature": 0.5, "id": "a", "prompt": "Hello", "max_tokens": 5, "top_k": 1}
    assert list(body(row)) == ["temperature", "messages", "max_tokens", "top_k", "model"]


def test_a_row_wins_over_defaults() -> None:
    defaults = Defaults("claude-haiku-4-5", 1024, "Be brief.", {"temperature": 0, "stream": False})
    row = {
        "prompt": "Hello",
        "model": "claude-sonnet-5",
        "max_tokens": 5,
        "system": "Be long.",
        "temperature": 1,
        "stream": True,
    }
    found = request(row, defaults)
    assert json.loads(found.params) == {"messages": HELLO} | {key: row[key] for key in row if key != "prompt"}
    assert (found.model, found.max_tokens, found.stream) == ("claude-sonnet-5", 5, True)


def test_defaults_fill_batch_lines_too() -> None:
    defaults = Defaults("claude-haiku-4-5", 1024, "Be brief.")
    assert body({"params": {"messages": HELLO, "max_tokens": 5}}, defaults) == {
        "messages": HELLO,
        "max_tokens": 5,
        "model": "claude-haiku-4-5",
        "system": "Be brief.",
    }


def test_one_row_leaves_no_trace_in_the_next() -> None:
    shaper = Shaper(Defaults("m", 5, extra={"thinking": {"type": "adaptive"}}))
    first = shaper.request(Line(1, 0, b'{"prompt": "a", "model": "x"}'))
    second = shaper.request(Line(2, 30, b'{"prompt": "a"}'))
    assert (first.model, second.model) == ("x", "m")


def test_params_of_a_batch_line_pass_untouched() -> None:
    params = {"messages": HELLO, **TAIL, "brand_new": {"a": None}, "metadata": {"user_id": "u"}, "system": None}
    found = request({"custom_id": "a", "params": params, "metadata": {"topic": "x"}, "timeout_s": 3})
    assert json.loads(found.params) == params
    assert found.metadata == '{"topic":"x"}'
    assert found.timeout_s == 3.0


def test_null_means_not_given_outside_params() -> None:
    row = {"prompt": "Hello", "system": None, "model": None, "custom_id": None, "metadata": None, "timeout_s": None}
    found = request(row)
    assert json.loads(found.params) == {"messages": HELLO, **TAIL}
    assert found.custom_id == derived_id(found.line_hash)
    assert found.metadata is None


def test_content_blocks_and_any_parameter_of_the_api_pass() -> None:
    row = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
        "system": [{"type": "text", "text": "Brief."}],
        "tools": [{"name": "t", "input_schema": {"type": "object"}}],
        "output_config": {"effort": "low"},
        "stop_sequences": ["."],
    }
    assert body(row) == row | TAIL


def test_text_is_kept_as_characters_and_nul_as_an_escape() -> None:
    found = request({"prompt": "é\u2028\u202e\U0001f600\0\x7f"})
    assert "é\u2028\u202e\U0001f600\\u0000\x7f" in found.params
    assert "\0" not in found.params


def test_integers_beyond_64_bits_stay_whole() -> None:
    found = request({"prompt": "Hello", "metadata": {"n": 2**70}})
    assert found.metadata == f'{{"n":{2**70}}}'


def test_half_characters_are_replaced_on_request() -> None:
    shaper = Shaper(DEFAULTS, surrogates="replace")
    found = shaper.request(Line(1, 0, rb'{"prompt": "a\ud800", "id": "\udc00", "metadata": {"k": "\ud800"}}'))
    assert (json.loads(found.params)["messages"][0]["content"], found.custom_id) == ("a\ufffd", "\ufffd")
    assert found.metadata == '{"k":"\ufffd"}'


# Metadata


def test_metadata_of_a_row_is_for_the_export_and_not_sent() -> None:
    found = request({"prompt": "Hello", "metadata": {"topic": "é", "user_id": "u"}})
    assert found.metadata == '{"topic":"é","user_id":"u"}'
    assert "metadata" not in json.loads(found.params)


def test_metadata_of_user_id_alone_is_the_parameter_of_the_api() -> None:
    found = request({"messages": HELLO, "metadata": {"user_id": "u"}})
    assert found.metadata is None
    assert json.loads(found.params)["metadata"] == {"user_id": "u"}


def test_a_user_id_that_the_api_would_refuse_is_an_error() -> None:
    assert "takes a string" in cause({"prompt": "Hello", "metadata": {"user_id": 5}})


def test_empty_metadata_is_none() -> None:
    assert request({"prompt": "Hello", "metadata": {}}).metadata is None


# Identity


@pytest.mark.parametrize("key", ["custom_id", "id"])
@pytest.mark.parametrize(
    ("given", "custom_id"), [("a", "a"), ("x" * 256, "x" * 256), (17, "17"), (-1, "-1"), ("ä b/c", "ä b/c")]
)
def test_an_id_is_a_text_or_an_integer(key: str, given: Any, custom_id: str) -> None:
    assert request({key: given, "prompt": "Hello"}).custom_id == custom_id
    assert request({key: given, "params": {"messages": HELLO}}).custom_id == custom_id
    assert request({key: given, "q": "Hello"}, template="{q}").custom_id == custom_id


@pytest.mark.parametrize("given", ["", "x" * 257, 1.0, True, ["a"], {"a": 1}, "a\0b", 10**300])
def test_other_ids_are_refused(given: Any) -> None:
    for row in ({"prompt": "Hello"}, {"params": {"messages": HELLO}}):
        assert "the id" in cause({"custom_id": given, **row})
    assert "the id" in cause({"id": given, "q": "Hello"}, template="{q}")


def test_two_ids_are_refused() -> None:
    assert cause({"custom_id": "a", "id": "b", "prompt": "Hello"}) == "both custom_id and id: keep one of them"


def test_the_derived_id_comes_from_the_line_as_given_not_from_its_number() -> None:
    data = b'{"prompt": "Hello"}'
    first, second = (Shaper(DEFAULTS).request(Line(number, 5, data)) for number in (1, 2))
    assert first.custom_id == second.custom_id == "h-" + blake2b(data, digest_size=10).hexdigest()
    assert (first.line, second.line) == (1, 2)
    assert request(b'{"prompt":"Hello"}').custom_id != first.custom_id


def test_line_ends_and_the_mark_do_not_change_the_derived_id() -> None:
    unix, dos = b'"a"\n"b"\n', b'\xef\xbb\xbf"a"\r\n\r\n"b"'
    ids = [[Shaper(DEFAULTS).request(line).custom_id for line in read_lines(io.BytesIO(data))] for data in (unix, dos)]
    assert ids[0] == ids[1]


def test_hashes_are_those_of_line_and_completed_params() -> None:
    found = request({"prompt": "é"})
    assert found.params_hash == blake2b(found.params.encode(), digest_size=10).hexdigest()
    other = request({"prompt": "é"}, Defaults("claude-sonnet-5", 1024))
    assert other.line_hash == found.line_hash
    assert other.params_hash != found.params_hash


# Templates


def test_a_row_becomes_prompt_id_and_metadata() -> None:
    found = request({"id": 5, "question": "1+1?", "answer": "2", "level": None}, template="Solve: {question}")
    assert json.loads(found.params) == {"messages": [{"role": "user", "content": "Solve: 1+1?"}], **TAIL}
    assert found.custom_id == "5"
    assert found.metadata == '{"answer":"2","level":null}'


def test_no_field_of_a_row_is_a_parameter() -> None:
    row = {"q": "Hello", "model": "gpt", "prompt": 5, "metadata": 1, "params": {}, "body": 1, "url": 2, "stream": 3}
    found = request(row, template="{q}")
    assert found.model == "claude-haiku-4-5"
    assert json.loads(found.metadata or "") == {key: value for key, value in row.items() if key != "q"}


def test_of_two_ids_in_a_row_the_other_is_metadata() -> None:
    found = request({"q": "a", "id": "i", "custom_id": "c"}, template="{q}")
    assert (found.custom_id, found.metadata) == ("c", '{"id":"i"}')


def test_the_id_may_stand_in_the_template_too() -> None:
    found = request({"id": 5}, template="Number {id}")
    assert (found.custom_id, found.metadata) == ("5", None)


def test_rows_that_give_no_prompt_are_refused() -> None:
    assert "must be an object, not a string" in cause("Hello", template="{q}")
    assert "no field 'q'" in cause({"Q": "Hello"}, template="{q}")
    assert cause({"q": ""}, template="{q}") == "the prompt is empty"


# Refusals


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (5, "must be an object or a string (the prompt), not an integer"),
        (None, "not null"),
        ([{"prompt": "Hello"}], "not a list"),
        ("", "the prompt is empty"),
        ({"prompt": " \n"}, "the prompt is empty"),
        ({"prompt": 5}, "the prompt must be a string, not an integer"),
        ({}, "no prompt and no messages"),
        ({"custom_id": "a", "prompt": None}, "no prompt and no messages"),
        ({"prompt": "Hello", "messages": HELLO}, "both prompt and messages"),
        ({"messages": []}, "messages must not be empty"),
        ({"messages": "Hello"}, "messages must be a list, not a string"),
        ({"messages": ["Hello"]}, "message 1 must be an object"),
        ({"messages": [*HELLO, {"content": "x"}]}, "message 2 needs a role"),
        ({"messages": [{"role": "user"}]}, "message 1 needs a content"),
        ({"messages": [{"role": "user", "content": 5}]}, "message 1 needs a content"),
        ({"params": {}}, "params have no messages"),
        ({"params": []}, "params must be an object, not a list"),
        ({"params": {"prompt": "Hello"}}, "params have no messages"),
        ({"params": {"messages": HELLO, "stream": None}}, "stream must be true or false"),
        ({"params": {"messages": HELLO, "model": None}}, "model must be a string, not null"),
        ({"prompt": "Hello", "max_tokens": True}, "max_tokens must be an integer, not a boolean"),
        ({"prompt": "Hello", "max_tokens": "5"}, "max_tokens must be an integer, not a string"),
        ({"prompt": "Hello", "max_tokens": 5.0}, "max_tokens must be an integer, not a decimal number"),
        ({"prompt": "Hello", "max_tokens": 0}, "max_tokens must be at least 1"),
        ({"prompt": "Hello", "model": ""}, "model must not be empty"),
        ({"prompt": "Hello", "model": ["a"]}, "model must be a string, not a list"),
        ({"prompt": "Hello", "model": "a\0"}, "NUL"),
        ({"prompt": "Hello", "stream": 1}, "stream must be true or false"),
        ({"prompt": "Hello", "timeout_s": 0}, "timeout_s must be a finite number"),
        ({"prompt": "Hello", "timeout_s": "5"}, "timeout_s must be a number of seconds, not a string"),
        ({"prompt": "Hello", "timeout_s": True}, "timeout_s must be a number of seconds, not a boolean"),
        ({"prompt": "Hello", "timeout_s": 10**400}, "timeout_s must be a finite number"),
        ({"prompt": "Hello", "metadata": "x"}, "metadata must be an object, not a string"),
        ({"params": {"messages": HELLO}, "metadata": []}, "metadata must be an object, not a list"),
    ],
)
def test_what_could_never_be_sent_is_refused(row: Any, expected: str) -> None:
    assert expected in cause(row)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "Hello", "max_token": 5}, "unknown key 'max_token' in a line (did you mean \"max_tokens\"?)"),
        ({"promt": "Hello", "custom_id": "a"}, "unknown key 'promt' in a line (did you mean \"prompt\"?)"),
        ({"zzz": 1, "messages": HELLO, "modle": "m"}, "unknown key 'modle' in a line (did you mean \"model\"?)"),
        ({"prompt": "Hello", "topic": "x"}, "unknown key 'topic' in a line; keys of your own belong into \"metadata\""),
        ({"question": "x", "answer": "y"}, "unknown keys 'question', 'answer': rows of a table need a template"),
        ({"params": {"messages": HELLO}, "model": "m"}, "unknown key 'model' beside \"params\""),
        ({"params": {"messages": HELLO}, "timeout": 5}, '(did you mean "timeout_s"?)'),
        ({"prompt": "Hello", "max_completion_tokens": 5}, '(did you mean "max_tokens"?)'),
        ({"prompt": "Hello", "extra_headers": {}}, "unknown key 'extra_headers'"),
    ],
)
def test_unknown_keys_are_named_with_the_nearest_known(row: Any, expected: str) -> None:
    assert expected in cause(row)


def test_a_line_of_countless_or_endless_unknown_keys_gets_a_short_message() -> None:
    many = {f"field {number}": number for number in range(100_000)}
    assert len(cause({"prompt": "Hello", **many})) < 200
    assert len(cause(many)) < 200
    assert len(cause({"prompt" * 200_000: 1})) < 200


def test_model_and_max_tokens_must_come_from_somewhere() -> None:
    assert cause("Hello", Defaults(max_tokens=5)) == "no model: give --model or a model in the line"
    assert cause("Hello", Defaults("m")) == "no max_tokens: give --max-tokens or max_tokens in the line"


def test_a_body_above_the_limit_of_the_api_is_refused() -> None:
    fits = MAX_BODY_BYTES - len(request("x").params) + 1
    assert len(request("x" * fits).params) == MAX_BODY_BYTES
    assert "the API takes at most" in cause("x" * (fits + 1))


def test_a_fault_of_the_reader_is_the_error_of_the_line() -> None:
    with pytest.raises(LineError, match=r"^line 3: too long$"):
        Shaper(DEFAULTS).request(Line(3, 0, b"", "too long"))


def test_offsets_count_from_the_start_of_the_file() -> None:
    lines = list(read_lines(io.BytesIO(b'\xef\xbb\xbf"a"\n\n"b\xff"')))
    with pytest.raises(LineError) as caught:
        Shaper(DEFAULTS).request(lines[1])
    assert (caught.value.line, caught.value.offset) == (3, 10)


# Defaults


def test_settings_are_json_or_text_and_the_later_one_counts() -> None:
    settings = [
        "temperature=1",
        "temperature=0.5",
        "model=claude-haiku-4-5",
        'thinking={"type":"adaptive"}',
        "system=a=b",
        "system=",
    ]
    assert parse_settings(settings) == {
        "temperature": 0.5,
        "model": "claude-haiku-4-5",
        "thinking": {"type": "adaptive"},
        "system": "",
    }


@pytest.mark.parametrize("value", ["NaN", "[1", '{"a":1,"a":2}', "1e999", "\udce9"])
def test_a_setting_that_is_not_strict_json_is_a_text(value: str) -> None:
    assert parse_settings([f"system={value}"]) == {"system": value}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("max_token=5", 'did you mean "max_tokens"'),
        ("temperature", "write key=value, such as max_tokens=2000"),
        ("messages=[]", "no parameter"),
        ("=5", "no parameter"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_settings([setting])


def test_settings_win_over_the_named_defaults_and_null_takes_one_away() -> None:
    defaults = Defaults("m", 1024, "Be brief.", parse_settings(["max_tokens=16000", "system=null"]))
    assert defaults.body() == {"model": "m", "max_tokens": 16000}


def test_the_order_of_settings_does_not_show_in_the_hash() -> None:
    one, other = (
        Defaults("m", 5, extra=parse_settings(texts)) for texts in (["top_p=1", "top_k=2"], ["top_k=2", "top_p=1"])
    )
    assert request("Hello", one).params_hash == request("Hello", other).params_hash


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"max_tokens": True},
        {"model": ""},
        {"system": "caf\udce9"},
        {"extra": {"max_tokens": "many"}},
        {"extra": {"stream": "yes"}},
        {"extra": {"messages": []}},
        {"extra": {"top_p": float("nan")}},
        {"extra": {"tools": {object()}}},
    ],
)
def test_defaults_that_could_never_be_sent_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Defaults(**wrong)


def test_defaults_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        DEFAULTS.model = "x"  # type: ignore[misc]
