"""The fixed vocabulary of the lambda-calculus tasks: every token of every sample stands here once, its id is its place.

De Bruijn indices are one token each, 0 to 31. A closed term of n nodes has indices below n - 1 and the largest
generated term has 30 nodes; a sample whose reduction would need a larger index is drawn again. The same number tokens
serve for counts and Church numerals.
"""

from __future__ import annotations

from moe_hub.lambda_calculus.named import ALPHABET
from moe_hub.lambda_calculus.terms import ABSTRACTION, APPLICATION

PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"
SYNTAX, REDUCTION, SEMANTIC, PEDAGOGICAL = "<syn>", "<red>", "<sem>", "<ped>"
PHASE_MARKERS = (SYNTAX, REDUCTION, SEMANTIC, PEDAGOGICAL)
PHASES = ("syntax", "reduction", "semantic", "pedagogical")
SPECIAL = (PAD, BOS, EOS, UNK, *PHASE_MARKERS)

LARGEST_NUMBER = 31
NUMBERS = tuple(str(number) for number in range(LARGEST_NUMBER + 1))
ANSWER, SEPARATOR = "=", ";"
PUNCTUATION = ("λ", ".", "(", ")", ANSWER, SEPARATOR)
WORDS = (
    "is", "numeral", "true", "false",
    "at", "root", "body", "left", "right", "put", "for", "times", "normal", "after", "steps",
)  # fmt: skip

TOKENS: tuple[str, ...] = (*SPECIAL, APPLICATION, ABSTRACTION, *NUMBERS, *PUNCTUATION, *ALPHABET, *WORDS)
KNOWN = frozenset(TOKENS)
