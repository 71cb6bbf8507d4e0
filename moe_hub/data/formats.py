"""What a row means: which columns hold text, question and answer, and how they become what the model reads.

Detection looks at the columns of the first rows; each column can be set in the config instead. Formats with an answer
are learned on the answer only, messages on those of the assistant only.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from moe_hub.config import DataConfig
from moe_hub.data.rows import BadRow, Row, shortened
from moe_hub.data.tokenizer import TEXT_ALONE
from moe_hub.errors import DataError
from moe_hub.lambda_calculus.judge import prefix_in_context
from moe_hub.lambda_calculus.parser import parse

TEXT_NAMES = ("text", "content", "body", "document", "story", "code", "sentence", "abstract")
MESSAGES_NAMES = ("messages", "conversations", "conversation", "chat", "dialog", "dialogue")
QUESTION_NAMES = ("question", "query", "problem", "q")
PROMPT_NAMES = ("prompt", "source", "input", "context")
ANSWER_NAMES = ("answer", "output", "response", "completion", "solution", "target", "label", "a")
SPEAKERS = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "prompter": "user"}

PROMPT_TEMPLATES = {
    "question_answer": "{prompt}\n",
    "instruction": "{prompt}\n{input}\n",
    "prompt_completion": "{prompt}",
}
MESSAGE_TEMPLATE = "{role}: {content}\n"
LONGEST_TERM = 1000  # characters; a longer question is compared as text
PLACE = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")


@dataclass(frozen=True)
class Mapping:
    """How rows are read. `columns`: role (text, prompt, input, answer, messages) to column; templates as in the config.

    `unused`: columns that no role and no template reads.
    """

    text_format: str
    columns: dict[str, str]
    prompt_template: str = ""
    answer_template: str = "{answer}"
    message_template: str = MESSAGE_TEMPLATE
    unused: tuple[str, ...] = ()

    @property
    def has_answer(self) -> bool:
        """Whether only a part of each sample, the answer, is learned."""
        return self.text_format != "text"

    def describe(self) -> str:
        """One line: `question_answer: prompt from 'question', answer from 'answer'; not used: reasoning`."""
        roles = ", ".join(f"{role} from {column!r}" for role, column in self.columns.items()) or "each row is a text"
        return f"{self.text_format}: {roles}" + (f"; not used: {', '.join(self.unused)}" if self.unused else "")


@dataclass(frozen=True)
class Document:
    """A sample as text: parts with whether they are learned; `group` is what must not stand on both sides of a split.

    `steps` and `level` are known for lambda tasks only. `held_out` is fixed by the generator, None elsewhere.
    """

    parts: tuple[tuple[str, bool], ...]
    group: str
    steps: int = -1
    level: int = 0
    held_out: bool | None = field(default=None, compare=False)

    @property
    def text(self) -> str:
        """All parts as one text."""
        return "".join(part for part, _ in self.parts)

    @property
    def is_text(self) -> bool:
        """Whether all of it is learned."""
        return all(learned for _, learned in self.parts)

    @property
    def question(self) -> str:
        """What comes before the first learned part; the text, where all is learned."""
        return "".join(part for part, _ in takewhile(lambda part: not part[1], self.parts)) or self.text


def detect(rows: Sequence[Row], data: DataConfig, where: str) -> Mapping:
    """The mapping for a source from its first rows and the config; raises `DataError` where none fits."""
    if all(isinstance(row.value, str) for row in rows):
        return Mapping("text", {})
    tables = [row.value for row in rows if isinstance(row.value, dict)]
    names = list(dict.fromkeys(name for table in tables for name in table))
    columns = _chosen_columns(data, names, where)
    text_format = data.text_format if data.text_format != "auto" else _detect_format(columns, names, tables)
    if not text_format:
        raise DataError(
            f"{where}: no known format in the columns {shortened(', '.join(names), 200)}; say which column holds what, "
            "as in data.text_column=body, or data.prompt_column=q and data.answer_column=a"
        )
    columns = _complete(text_format, columns, names, tables)
    return _with_templates(text_format, columns, data, names, where)


def render(row: Row, mapping: Mapping) -> Document | BadRow:
    """A row as a document, or what is wrong with it."""
    if isinstance(row.value, str):
        values: AnyMapping[str, Any] = {"text": row.value}
        mapping = mapping if mapping.columns.get("text") == "text" else Mapping("text", {"text": "text"})
    else:
        values = row.value
    if mapping.text_format == "messages":
        return _render_messages(row.line, values, mapping)
    texts: dict[str, str] = {}
    for role, column in mapping.columns.items():
        found = _text_of(row.line, values, column, optional=role == "input")
        if isinstance(found, BadRow):
            return found
        texts[role] = found
    if mapping.text_format == "text":
        return Document(((texts["text"], True),), normalised(texts["text"]))
    return _render_answer(row.line, values, mapping, texts)


def prompt_around(mapping: Mapping) -> str:
    """The template of a prompt with one place, `{prompt}`, for what a person writes; other columns are left empty.

    For messages: what the user says, and what leads to the assistant's answer.
    """
    if mapping.text_format == "text":
        return TEXT_ALONE
    if mapping.text_format == "messages":
        said = "".join(text for text, _ in _message_parts("user", "{prompt}", _doubled(mapping.message_template)))
        return said + _message_parts("assistant", "", _doubled(mapping.message_template))[0][0]
    template = mapping.prompt_template.replace("{input}\n", "")
    places = [match[1] for match in PLACE.finditer(template) if match[1]]
    own = {"prompt", mapping.columns.get("prompt")} & set(places) or set(places[:1])
    filled = PLACE.sub(lambda match: "{prompt}" if match[1] in own else match[0] if not match[1] else "", template)
    return filled if own else TEXT_ALONE


def as_trained(template: str, text: str) -> str:
    """A person's text in the template of `prompt_around`."""
    return PLACE.sub(lambda match: text if match[1] == "prompt" else match[0][0], template)


def _doubled(template: str) -> str:
    """A template in which escaped braces stay escaped when it is filled once."""
    return template.replace("{{", "{{{{").replace("}}", "}}}}")


def normalised(text: str) -> str:
    """A text in the form in which duplicates are looked for: NFKC, without case, blanks as one space."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def group_of(question: str, prompt: str) -> str:
    """What equal questions have in common: for a lambda term its form without bound names, else the normal text."""
    if "λ" in question and len(question) <= LONGEST_TERM:
        context: list[str] = []
        try:
            return f"λ {prefix_in_context(parse(question, context), context)}"
        except (DataError, RecursionError):
            pass
    return normalised(prompt)


def _chosen_columns(data: DataConfig, names: list[str], where: str) -> dict[str, str]:
    chosen = {
        role: column
        for role in ("text", "prompt", "input", "answer", "messages")
        if (column := getattr(data, f"{role}_column"))
    }
    for role, column in chosen.items():
        if column not in names:
            raise DataError(
                f"{where}: data.{role}_column = {column!r} is no column; columns: {shortened(', '.join(names), 200)}"
            )
    return chosen


def _detect_format(columns: dict[str, str], names: list[str], tables: list[dict[str, Any]]) -> str:
    if "messages" in columns or (not columns and _messages_column(names, tables)):
        return "messages"
    if "text" in columns:
        return "text"
    answer = columns.get("answer") or _first(ANSWER_NAMES, names)
    if columns.get("prompt") and answer:
        return "instruction" if "input" in columns else "question_answer"
    if answer and _first(("instruction",), names):
        return "instruction"
    if answer and _first(QUESTION_NAMES, names):
        return "question_answer"
    if answer and _first(PROMPT_NAMES, names):
        return "prompt_completion"
    return "text" if _first(TEXT_NAMES, names) or _only_text_column(names, tables) else ""


def _complete(
    text_format: str, columns: dict[str, str], names: list[str], tables: list[dict[str, Any]]
) -> dict[str, str]:
    if text_format == "messages":
        found = {"messages": _messages_column(names, tables)}
    elif text_format == "text":
        found = {"text": _first(TEXT_NAMES, names) or _only_text_column(names, tables)}
    else:
        known = {"instruction": ("instruction", *PROMPT_NAMES), "question_answer": (*QUESTION_NAMES, *PROMPT_NAMES)}
        found = {
            "prompt": _first((*known.get(text_format, PROMPT_NAMES), *QUESTION_NAMES), names),
            "input": _first(("input", "context"), names) if text_format == "instruction" else "",
            "answer": _first(ANSWER_NAMES, names),
        }
    merged = {role: columns.get(role) or column for role, column in found.items()}
    if merged.get("input") == merged.get("prompt"):
        merged.pop("input", None)
    return {role: column for role, column in merged.items() if column}


def _with_templates(
    text_format: str, columns: dict[str, str], data: DataConfig, names: list[str], where: str
) -> Mapping:
    needed = {"text": ["text"], "messages": ["messages"]}.get(text_format, ["prompt", "answer"])
    by_template = {"prompt": data.prompt_template, "answer": data.answer_template}
    for role in needed:
        if role not in columns and not by_template.get(role):
            raise DataError(
                f"{where}: format {text_format} needs a column for the {role}; columns: "
                f"{shortened(', '.join(names), 200)}; set data.{role}_column or another data.text_format"
            )
    default = PROMPT_TEMPLATES.get(text_format, "")
    if text_format == "instruction" and "input" not in columns:
        default = "{prompt}\n"
    mapping = Mapping(
        text_format,
        columns,
        default if data.prompt_template is None else data.prompt_template,
        data.answer_template or "{answer}",
        data.message_template or MESSAGE_TEMPLATE,
    )
    used = set(columns.values()) | (_check_templates(mapping, names, where) - set(columns))
    return Mapping(**{**vars(mapping), "unused": tuple(name for name in names if name not in used)})


def _check_templates(mapping: Mapping, names: list[str], where: str) -> set[str]:
    """Names that the templates read; an unknown one is a `DataError`."""
    templates = {"prompt_template": mapping.prompt_template, "answer_template": mapping.answer_template}
    known = [*mapping.columns, *names]
    if mapping.text_format == "messages":
        templates, known = {"message_template": mapping.message_template}, ["role", "content"]
    elif mapping.text_format == "text":
        templates = {}
    used: set[str] = set()
    for option, template in templates.items():
        places = {match[1] for match in PLACE.finditer(template) if match[1]}
        for place in places - set(known):
            raise DataError(f"{where}: data.{option} reads {{{place}}}, which is no column; known: {', '.join(known)}")
        used |= places
    return used


def _render_answer(
    line: int, values: AnyMapping[str, Any], mapping: Mapping, texts: dict[str, str]
) -> Document | BadRow:
    filled: list[str] = []
    for template in (mapping.prompt_template, mapping.answer_template):
        found = _fill(line, template, values, texts)
        if isinstance(found, BadRow):
            return found
        filled.append(found)
    prompt, answer = filled
    if not answer.strip():
        return BadRow(
            line, mapping.columns.get("answer", "answer"), "a text", "nothing", "fill it in or leave the row out"
        )
    return Document(((prompt, False), (answer, True)), group_of(texts.get("prompt", prompt), prompt))


def _fill(line: int, template: str, values: AnyMapping[str, Any], texts: dict[str, str]) -> str | BadRow:
    """The template with its places filled; a line that holds nothing but an empty place is left out."""
    found = dict(texts)
    for match in PLACE.finditer(template):
        name = match[1]
        if name and name not in found:
            text = _text_of(line, values, name, optional=True)
            if isinstance(text, BadRow):
                return text
            found[name] = text
    if found.get("input") == "":
        template = template.replace("{input}\n", "")
    return PLACE.sub(lambda match: found[match[1]] if match[1] else match[0][0], template)


def _render_messages(line: int, values: AnyMapping[str, Any], mapping: Mapping) -> Document | BadRow:
    column = mapping.columns["messages"]
    messages = values.get(column)
    fix = 'write a list of {"role": "user", "content": "..."}'
    if not isinstance(messages, list) or not messages:
        return BadRow(line, column, "a list of messages", _named(messages), fix)
    parts: list[tuple[str, bool]] = []
    for number, message in enumerate(messages):
        said = _role_and_content(line, f"{column}[{number}]", message, fix)
        if isinstance(said, BadRow):
            return said
        parts.extend(_message_parts(*said, mapping.message_template))
    if not any(learned for _, learned in parts):
        return BadRow(line, column, "a message of the assistant", "none", "add an answer or leave the row out")
    first = next(number for number, (_, learned) in enumerate(parts) if learned)
    return Document(tuple(parts), normalised("".join(text for text, _ in parts[:first])))


def _role_and_content(line: int, place: str, message: Any, fix: str) -> tuple[str, str] | BadRow:
    if not isinstance(message, dict):
        return BadRow(line, place, "role and content", _named(message), fix)
    role_name = "role" if "role" in message else "from"
    content_name = "value" if "value" in message and "content" not in message else "content"
    role = _text_of(line, message, role_name)
    content = _text_of(line, message, content_name, optional=content_name in message)
    for name, found in ((role_name, role), (content_name, content)):
        if isinstance(found, BadRow):
            return BadRow(line, f"{place}.{name}", found.expected, found.found, fix)
    speaker = str(role).strip().lower()
    return SPEAKERS.get(speaker, speaker), str(content)


def _message_parts(role: str, content: str, template: str) -> list[tuple[str, bool]]:
    """What leads to a message, and the message with its ending, which is learned where the assistant speaks."""
    before, place, after = template.partition("{content}")
    lead = _place_role(before, role)
    body = (content if place else "") + _place_role(after, role)
    return [(lead, False), (body, True)] if role == "assistant" else [(lead + body, False)]


def _place_role(template: str, role: str) -> str:
    return PLACE.sub(lambda match: (role if match[1] == "role" else "") if match[1] else match[0][0], template)


def _text_of(line: int, values: AnyMapping[str, Any], column: str, *, optional: bool = False) -> str | BadRow:
    value = values.get(column)
    if optional and value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(value)
    if not isinstance(value, str):
        fix = f"write text into {column!r}, or choose another column"
        return BadRow(line, column, "a text", "no such column" if column not in values else _named(value), fix)
    if not optional and not value.strip():
        return BadRow(line, column, "a text", "an empty text", "fill it in or leave the row out")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        found = f"half of a surrogate pair at character {error.start + 1}"
        return BadRow(line, column, "Unicode text", found, "write the character whole")
    return value


def _named(value: Any) -> str:
    names = {type(None): "null", bool: "true or false", dict: "a nested object", list: "a list", float: "a number"}
    kind = names.get(type(value), type(value).__name__)
    return kind if value is None else f"{kind}: {shortened(value, 40)}"


def _first(wanted: Sequence[str], names: Sequence[str]) -> str:
    by_lower = {name.lower(): name for name in reversed(names)}
    return next((by_lower[name] for name in wanted if name in by_lower), "")


def _messages_column(names: Sequence[str], tables: list[dict[str, Any]]) -> str:
    def holds_messages(name: str) -> bool:
        values = [table[name] for table in tables if table.get(name)]
        return bool(values) and all(isinstance(v, list) and isinstance(v[0], dict) for v in values)

    return next((name for name in names if name.lower() in MESSAGES_NAMES and holds_messages(name)), "")


def _only_text_column(names: Sequence[str], tables: list[dict[str, Any]]) -> str:
    texts = [name for name in names if any(isinstance(table.get(name), str) for table in tables)]
    return texts[0] if len(texts) == 1 else ""
