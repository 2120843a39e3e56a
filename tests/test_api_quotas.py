"""What headers and refusals say of the limits; whatever a gateway puts there, nothing breaks."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batchrunner.api.quotas import limit_named, quotas_of
from batchrunner.model import LimitKind, Quota

PREFIX = "anthropic-ratelimit-"
WHOLE = {
    f"{PREFIX}requests-limit": "4000",
    f"{PREFIX}requests-remaining": "3999",
    f"{PREFIX}input-tokens-limit": "400000",
    f"{PREFIX}input-tokens-remaining": "0",
    f"{PREFIX}output-tokens-limit": "80000",
}


def test_each_limit_is_read_with_what_is_left_of_it() -> None:
    assert quotas_of(WHOLE) == {
        LimitKind.REQUESTS: Quota(4000, 3999),
        LimitKind.INPUT_TOKENS: Quota(400_000, 0),
        LimitKind.OUTPUT_TOKENS: Quota(80_000, None),
    }


def test_a_response_without_such_headers_tells_nothing() -> None:
    assert quotas_of({}) is None
    assert quotas_of({"content-type": "text/html", f"{PREFIX}requests-remaining": "5"}) is None


@pytest.mark.parametrize(
    "forged",
    ["", " ", "0", "-5", "4000.5", "4e3", "inf", "nan", "four", "٤٠٠٠", "4,000", "9" * 16, "9" * 100_000, "1\n2"],
)
def test_a_forged_or_blank_limit_is_left_out_and_a_forged_rest_unknown(forged: str) -> None:
    assert quotas_of({f"{PREFIX}requests-limit": forged}) is None
    if forged != "0":
        found = quotas_of({f"{PREFIX}requests-limit": "50", f"{PREFIX}requests-remaining": forged})
        assert found == {LimitKind.REQUESTS: Quota(50, None)}


def test_blanks_around_a_number_do_no_harm() -> None:
    assert quotas_of({f"{PREFIX}requests-limit": " 50 "}) == {LimitKind.REQUESTS: Quota(50, None)}


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(WHOLE)) | st.text(max_size=20), st.text(max_size=30)), st.text())
def test_no_header_and_no_text_raises(headers: dict[str, str], text: str) -> None:
    quotas = quotas_of(headers)
    assert quotas is None or all(0 < quota.limit < 10**15 for quota in quotas.values())
    named = limit_named(text, quotas)
    assert named is None or named in LimitKind


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("this request would exceed your organization's rate limit of 50 requests per minute", LimitKind.REQUESTS),
        ("... rate limit of 40,000 input tokens per minute", LimitKind.INPUT_TOKENS),
        ("... rate limit of 8,000 output tokens per minute", LimitKind.OUTPUT_TOKENS),
        ("slow down", None),
        ("", None),
        ("input tokens or output tokens, who knows", None),
    ],
)
def test_a_refusal_is_about_the_limit_that_it_names(text: str, expected: LimitKind | None) -> None:
    assert limit_named(text, None) is expected


def test_where_none_is_named_it_is_the_only_one_that_is_used_up() -> None:
    used_up = {kind: Quota(100, 0 if kind is LimitKind.OUTPUT_TOKENS else 5) for kind in LimitKind}
    assert limit_named("slow down", used_up) is LimitKind.OUTPUT_TOKENS
    assert limit_named("slow down", {kind: Quota(100, 0) for kind in LimitKind}) is None
    assert limit_named("slow down", {kind: Quota(100, None) for kind in LimitKind}) is None
    assert limit_named("too many input tokens", used_up) is LimitKind.INPUT_TOKENS
