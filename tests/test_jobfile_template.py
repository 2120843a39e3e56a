"""The prompt template: fields of the row, literal braces, and no other syntax."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.errors import UsageError
from batchrunner.jobfile import RefusedError, Template


@pytest.mark.parametrize(
    ("text", "row", "prompt"),
    [
        ("Solve: {question}", {"question": "1+1?"}, "Solve: 1+1?"),
        ("{a}{b}{a}", {"a": "x", "b": "y", "c": "z"}, "xyx"),
        ('{{"answer": {n}}}', {"n": 5}, '{"answer": 5}'),
        ("{{{a}}}", {"a": "x"}, "{x}"),
        ("{{a}}", {}, "{a}"),
        ("no field", {}, "no field"),
        ("{my field}/{größe}/{0}", {"my field": "a", "größe": "b", "0": "c"}, "a/b/c"),
    ],
)
def test_fields_and_braces(text: str, row: dict[str, object], prompt: str) -> None:
    assert Template(text).render(row) == prompt


def test_values_that_are_no_strings_stand_as_json() -> None:
    row = {"a": None, "b": True, "c": 1.5, "d": ["é", {"x": 1}]}
    assert Template("{a} {b} {c} {d}").render(row) == 'null true 1.5 ["é", {"x": 1}]'


def test_values_are_not_looked_into() -> None:
    assert Template("{a}").render({"a": "{b} {{ {a.__class__}"}) == "{b} {{ {a.__class__}"


def test_fields_used_are_known_in_order() -> None:
    assert Template("{b} {a} {b} {{c}}").fields == ("b", "a")


def test_a_missing_field_is_named_with_those_there_are() -> None:
    with pytest.raises(
        RefusedError, match=r"^no field 'question' for the template; the line has 'Question', 'answer'$"
    ):
        Template("{question}").render({"Question": "x", "answer": "y"})


def test_the_list_of_fields_stays_short() -> None:
    with pytest.raises(RefusedError) as caught:
        Template("{q}").render({f"field_{number}": 1 for number in range(1000)})
    assert len(caught.value.cause) < 130
    assert caught.value.cause.endswith(", …")


@pytest.mark.parametrize(
    "text", ["{a.b}", "{row[x].y}", "{x[]}", "{x!r}", "{x:>3}", "{}", "{ x }", '{"answer": 1}', "{x.__class__}"]
)
def test_other_syntax_is_refused_saying_what_is_allowed(text: str) -> None:
    with pytest.raises(UsageError, match=r"not understood: a template takes \{name\}.*\{\{ or \}\}"):
        Template(f"Solve {text} now")


@pytest.mark.parametrize("text", ["{a", "a}", "{a}}", "{{a}", "{{{a}}", "{a{b}"])
def test_a_single_brace_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"single [{}] at character \d"):
        Template(text)


def test_half_characters_from_the_command_line_are_refused() -> None:
    with pytest.raises(UsageError, match="UTF-8"):
        Template("caf\udce9 {a}")


@given(st.text(max_size=30))
def test_escaped_text_comes_out_as_it_was(text: str) -> None:
    escaped = text.replace("{", "{{").replace("}", "}}")
    assert Template(escaped).render({}) == text


@given(st.text(alphabet="{}ab.!:[] ", max_size=20))
def test_any_text_is_a_template_or_a_usage_error(text: str) -> None:
    try:
        template = Template(text)
    except UsageError:
        return
    assert template.render(dict.fromkeys(template.fields, "x")).count("x") >= len(template.fields)
