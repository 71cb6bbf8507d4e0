"""Which column means what, how rows become documents, and what is said about rows that cannot."""

from __future__ import annotations

from typing import Any

import pytest

from moe_hub.config import DataConfig
from moe_hub.data.formats import Document, Mapping, as_trained, detect, normalised, prompt_around, render
from moe_hub.data.rows import BadRow, Row
from moe_hub.errors import DataError

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"},
            {"role": "assistant", "content": "4"}, {"role": "user", "content": "3+3?"},
            {"role": "assistant", "content": "6"}]  # fmt: skip


def mapping_of(row: Any, **options: Any) -> Mapping:
    return detect([Row(1, row)], DataConfig(source="file", path="f", **options), "f")


def rendered(row: Any, **options: Any) -> Document:
    document = render(Row(1, row), mapping_of(row, **options))
    assert isinstance(document, Document), document
    return document


@pytest.mark.parametrize(
    ("row", "text_format", "columns"),
    [
        ({"text": "a"}, "text", {"text": "text"}),
        ({"Content": "a", "id": 3}, "text", {"text": "Content"}),
        ({"only": "a", "n": 1}, "text", {"text": "only"}),
        ({"question": "q", "answer": "a"}, "question_answer", {"prompt": "question", "answer": "answer"}),
        ({"Problem": "q", "solution": "a"}, "question_answer", {"prompt": "Problem", "answer": "solution"}),
        ({"instruction": "i", "output": "o"}, "instruction", {"prompt": "instruction", "answer": "output"}),
        (
            {"instruction": "i", "input": "x", "output": "o"},
            "instruction",
            {"prompt": "instruction", "input": "input", "answer": "output"},
        ),
        ({"prompt": "p", "completion": "c"}, "prompt_completion", {"prompt": "prompt", "answer": "completion"}),
        ({"prompt": "p", "messages": MESSAGES}, "messages", {"messages": "messages"}),
        ({"conversations": MESSAGES}, "messages", {"messages": "conversations"}),
    ],
)
def test_format_is_detected(row: dict[str, Any], text_format: str, columns: dict[str, str]) -> None:
    mapping = mapping_of(row)
    assert (mapping.text_format, mapping.columns) == (text_format, columns)
    for role, column in columns.items():
        assert f"{role} from {column!r}" in mapping.describe()


def test_columns_of_the_config_win() -> None:
    row = {"question": "q", "answer": "a", "reasoning": "r", "long": "l"}
    mapping = mapping_of(row, answer_column="reasoning")
    assert mapping.columns == {"prompt": "question", "answer": "reasoning"}
    assert mapping.unused == ("answer", "long")
    assert mapping_of(row, text_column="long").text_format == "text"
    assert mapping_of({"x": "1", "y": "2"}, prompt_column="x", answer_column="y").text_format == "question_answer"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompt_column": "nope"}, "data.prompt_column = 'nope' is no column"),
        ({"text_format": "messages"}, "needs a column for the messages"),
        ({"prompt_template": "{qestion}"}, "data.prompt_template reads {qestion}, which is no column"),
    ],
)
def test_wrong_mapping_is_explained(options: dict[str, str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        mapping_of({"question": "q", "answer": "a"}, **options)


def test_only_the_answer_is_learned() -> None:
    assert rendered({"question": "q", "answer": "a"}).parts == (("q\n", False), ("a", True))
    assert rendered({"prompt": "p ", "completion": "c"}).parts == (("p ", False), ("c", True))
    assert rendered({"instruction": "i", "input": "x", "output": "o"}).parts == (("i\nx\n", False), ("o", True))
    assert rendered({"instruction": "i", "input": "", "output": "o"}).parts == (("i\n", False), ("o", True))
    assert rendered({"text": "t"}).parts == (("t", True),)
    assert rendered("a line").parts == (("a line", True),)


def test_numbers_are_read_as_text() -> None:
    assert rendered({"question": 12, "answer": 1.5}).text == "12\n1.5"


def test_templates_fill_columns_and_keep_braces() -> None:
    row = {"question": "q", "reasoning": "r", "answer": "a"}
    document = rendered(row, prompt_template="Q: {question} {{x}}\nA: ", answer_template="{reasoning}\n#### {answer}")
    assert document.parts == (("Q: q {x}\nA: ", False), ("r\n#### a", True))


def test_only_the_assistant_is_learned() -> None:
    document = rendered({"messages": MESSAGES})
    assert document.text == "system: Be brief.\nuser: 2+2?\nassistant: 4\nuser: 3+3?\nassistant: 6\n"
    assert [text for text, learned in document.parts if learned] == ["4\n", "6\n"]
    assert document.group == "system: be brief. user: 2+2? assistant:"
    shared = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]
    told = rendered({"conversations": shared}, message_template="[{role}] {content}</s>")
    assert told.parts == (("[user] hi</s>", False), ("[assistant] ", False), ("yo</s>", True))


@pytest.mark.parametrize(
    ("row", "column", "expected", "found"),
    [
        ({"question": "q"}, "answer", "a text", "no such column"),
        ({"question": "q", "answer": None}, "answer", "a text", "null"),
        ({"question": "q", "answer": ""}, "answer", "a text", "an empty text"),
        ({"question": ["q"], "answer": "a"}, "question", "a text", "a list: ['q']"),
        ({"question": "q", "answer": True}, "answer", "a text", "true or false: True"),
        ({"question": "q", "answer": float("inf")}, "answer", "a text", "a number: inf"),
        ({"question": "q\ud800", "answer": "a"}, "question", "Unicode text", "half of a surrogate pair at character 2"),
    ],
)
def test_bad_rows_name_column_expected_and_found(row: dict[str, Any], column: str, expected: str, found: str) -> None:
    bad = render(Row(7, row), mapping_of({"question": "q", "answer": "a"}))
    assert isinstance(bad, BadRow)
    assert (bad.line, bad.field, bad.expected, bad.found) == (7, column, expected, found)
    assert bad.fix


@pytest.mark.parametrize(
    ("messages", "column"),
    [
        ([], "messages"),
        ("text", "messages"),
        ([{"role": "user", "content": "a"}], "messages"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": "a"}, "b"], "messages[1]"),
        ([{"role": None, "content": "a"}], "messages[0].role"),
    ],
)
def test_bad_messages_name_the_message(messages: Any, column: str) -> None:
    bad = render(Row(1, {"messages": messages}), Mapping("messages", {"messages": "messages"}))
    assert isinstance(bad, BadRow)
    assert bad.field == column


def test_an_assistant_that_calls_a_tool_may_say_nothing() -> None:
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": None}]
    assert rendered({"messages": said}).parts[-1] == ("\n", True)


def test_equal_questions_have_one_group() -> None:
    assert normalised("  Ｗhat\tIS ﬁne\n") == normalised("what is fine")
    one, same, other = (
        rendered({"question": question, "answer": "a"}).group for question in ("(λx.x) y", "( λq. q )  y", "(λx.x) z")
    )
    assert one == same != other


@pytest.mark.parametrize(
    ("row", "text", "options"),
    [
        ({"question": "what {is} it", "answer": "a"}, "what {is} it", {}),
        ({"instruction": "do it", "output": "o"}, "do it", {}),
        ({"instruction": "do it", "input": "", "output": "o"}, "do it", {}),
        ({"prompt": "once upon", "completion": " a time"}, "once upon", {}),
        ({"q": "why?", "a": "so"}, "why?", {"prompt_template": "{{Q}} {q}\nA: "}),
        ({"q": "why?", "a": "so"}, "why?", {"prompt_template": "{prompt} | {prompt}"}),
        ({"q": "", "a": "so", "n": "x"}, "x", {"prompt_column": "n", "prompt_template": "{q}[{n}]"}),
        ({"messages": MESSAGES[1:3]}, "2+2?", {}),
        ({"messages": MESSAGES[1:3]}, "2+2?", {"message_template": "<|{role}|>{{x}}\n{content}</s>"}),
    ],
)
def test_a_persons_text_stands_as_the_prompts_of_training_did(
    row: dict[str, Any], text: str, options: dict[str, Any]
) -> None:
    template = prompt_around(mapping_of(row, **options))
    assert as_trained(template, text) == rendered(row, **options).question


def test_a_text_to_go_on_from_stands_alone() -> None:
    assert prompt_around(mapping_of({"text": "a"})) == "{prompt}"
    assert as_trained("{prompt}", "{a} {{b}}") == "{a} {{b}}"
