"""Prompts for terms that people type, in the form in which the tasks put them."""

from __future__ import annotations

from moe_hub.errors import DataError
from moe_hub.lambda_calculus.judge import Asked, prefix_in_context, read_prompt
from moe_hub.lambda_calculus.named import named_tokens, to_named
from moe_hub.lambda_calculus.parser import is_prefix, parse, parse_named
from moe_hub.lambda_calculus.vocabulary import ANSWER, KNOWN, REDUCTION, SEMANTIC, SEPARATOR, SPECIAL, SYNTAX

_FRAMES: dict[Asked, tuple[str, str, bool]] = {  # marker, sign at the end, whether the term is named
    "segments": (SYNTAX, ANSWER, True),
    "parse": (SYNTAX, ANSWER, True),
    "step": (REDUCTION, ANSWER, False),
    "named step": (REDUCTION, ANSWER, True),
    "trace": (REDUCTION, SEPARATOR, False),
    "normal form": (SEMANTIC, ANSWER, False),
}


def prompt_for(text: str, asked: Asked) -> str:
    """The prompt that asks something about a term in either rendering, or about a prompt's own term.

    Names as typed are kept where they are letters of the vocabulary. Raises `DataError` where the text is no term, or
    holds a free name or an index that the vocabulary lacks.
    """
    marker, sign, named = _FRAMES[asked]
    term_text = read_prompt(text)[1]
    context: list[str] = []
    term = parse(term_text, context)
    if not named:
        tokens = prefix_in_context(term, context)
    else:
        tokens = named_tokens(to_named(term, context) if is_prefix(term_text) else parse_named(term_text))
        if not KNOWN.issuperset(tokens.split()):
            tokens = named_tokens(to_named(term, context))
    unknown = [token for token in tokens.split() if token not in KNOWN or token in SPECIAL]
    if unknown:
        raise DataError(f"term {term_text!r}: {unknown[0]!r} is not in the vocabulary; names are single letters a to z")
    return f"{marker} {tokens} {sign}"
