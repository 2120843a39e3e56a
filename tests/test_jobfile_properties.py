"""What holds for every line: a request whose params are what was asked for, or a line error, and nothing else."""

import io
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchrunner.jobfile import MESSAGES_PARAMETERS, Defaults, LineError, Shaper, Template, parse_settings, read_lines

DEFAULTS = Defaults("claude-haiku-4-5", 1024, extra={"temperature": 0.5})
_FREE = sorted(MESSAGES_PARAMETERS - {"model", "max_tokens", "messages", "stream", "metadata"})

_TEXT = st.text(max_size=20)
_SOLID = _TEXT.filter(lambda text: bool(text.strip()))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)
_CHECKED = {
    "model": st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=20),
    "max_tokens": st.integers(1, 10**6),
    "stream": st.booleans(),
}
_GIVEN = _JSON.filter(lambda x: x is not None)
# As a text it is OpenAI's; the Messages API has an object there.
_OWN = {"tool_choice": _GIVEN.filter(lambda x: not isinstance(x, str))}
_PARAMETERS = st.fixed_dictionaries({}, optional=_CHECKED | dict.fromkeys(_FREE, _GIVEN) | _OWN)
_MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.just("user"), "content": _TEXT | st.lists(_JSON)}), min_size=1, max_size=3
)
_METADATA = st.dictionaries(_TEXT, _JSON, min_size=1, max_size=3).filter(lambda data: data.keys() != {"user_id"})
_RELAXED = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def shape(row: Any, *, ascii_only: bool = False, template: Template | None = None) -> Any:
    data = b"\n" + json.dumps(row, ensure_ascii=ascii_only).encode() + b"\r\n"
    (line,) = read_lines(io.BytesIO(data), block_bytes=7)
    return Shaper(DEFAULTS, template).request(line)


def filled(body: dict[str, Any]) -> dict[str, Any]:
    return body | {key: value for key, value in DEFAULTS.body().items() if key not in body}


@_RELAXED
@given(_PARAMETERS, _SOLID, st.booleans())
def test_a_prompt_with_parameters_comes_back_as_the_expected_body(
    parameters: dict[str, Any], prompt: str, ascii_only: bool
) -> None:
    found = shape({"prompt": prompt} | parameters, ascii_only=ascii_only)
    expected = filled({"messages": [{"role": "user", "content": prompt}]} | parameters)
    assert json.loads(found.params) == expected
    assert list(json.loads(found.params)) == list(expected)
    assert (found.model, found.max_tokens) == (expected["model"], expected["max_tokens"])
    assert found.stream == expected.get("stream", False)


@_RELAXED
@given(_PARAMETERS, _MESSAGES, _METADATA, st.booleans())
def test_batch_lines_and_bare_parameters_make_the_same_body(
    parameters: dict[str, Any], messages: list[Any], metadata: dict[str, Any], ascii_only: bool
) -> None:
    body = parameters | {"messages": messages}
    bare = shape(body | {"metadata": metadata}, ascii_only=ascii_only)
    batch = shape({"params": body, "metadata": metadata}, ascii_only=ascii_only)
    assert json.loads(bare.params) == filled(body)
    assert (batch.params, batch.params_hash, batch.metadata) == (bare.params, bare.params_hash, bare.metadata)
    assert json.loads(bare.metadata) == metadata


@_RELAXED
@given(st.dictionaries(_TEXT, _JSON, max_size=5), _SOLID)
def test_a_row_of_a_table_is_all_prompt_id_and_metadata(row: dict[str, Any], question: str) -> None:
    row = {key: value for key, value in row.items() if key not in {"id", "custom_id"}} | {"q": question, "id": 5}
    found = shape(row, template=Template("Solve: {q}"))
    assert json.loads(found.params)["messages"][0]["content"] == f"Solve: {question}"
    assert json.loads(found.metadata or "{}") == {key: value for key, value in row.items() if key not in {"q", "id"}}
    assert found.custom_id == "5"


_NAMES = [*sorted(MESSAGES_PARAMETERS), "prompt", "params", "id", "custom_id", "timeout_s", "body", "url", "other", ""]
_ROWS = st.dictionaries(st.sampled_from(_NAMES), _JSON | _MESSAGES, max_size=5)


@_RELAXED
@given(_JSON | _ROWS | st.builds(lambda row: {"params": row}, _ROWS), st.sampled_from([None, Template("{prompt}{id}")]))
def test_any_value_is_a_storable_request_or_a_line_error(value: Any, template: Template | None) -> None:
    try:
        found = shape(value, template=template)
    except LineError as error:
        identity, stored = "", [str(error)]
    else:
        identity, stored = found.custom_id + found.model, [found.params, found.metadata or "{}"]
        assert found.model == json.loads(found.params)["model"]
        assert 1 <= len(found.custom_id) <= 256
        assert [type(json.loads(text)) for text in stored] == [dict, dict]
    assert "\0" not in identity
    assert not any("\n" in text for text in stored)
    "".join([identity, *stored]).encode()


@_RELAXED
@given(st.lists(st.binary(max_size=30) | st.just(b'{"prompt": "Hello"}') | st.just(b'"\xff"'), max_size=8))
def test_one_bad_line_takes_no_other_with_it(parts: list[bytes]) -> None:
    data = b'"first"\n' + b"\n".join(parts) + b'\n"last"'
    prompts = []
    shaper = Shaper(DEFAULTS)
    for line in read_lines(io.BytesIO(data)):
        try:
            prompts.append(json.loads(shaper.request(line).params)["messages"][0]["content"])
        except LineError as error:
            prompts.append(error.line)
    assert (prompts[0], prompts[-1]) == ("first", "last")
    assert len(prompts) == sum(1 for piece in data.split(b"\n") if piece.strip())


@_RELAXED
@given(st.text(max_size=20) | _JSON.map(json.dumps))
def test_a_setting_is_its_json_value_or_its_text(text: str) -> None:
    value = parse_settings([f"system={text}"])["system"]
    assert value == text or json.dumps(value) == json.dumps(json.loads(text))
