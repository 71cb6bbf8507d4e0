"""Task samples: each is a pure function of (settings, split, seed, index), in any order, in any process."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, count
from random import Random
from typing import Literal, TypeAlias

from moe_hub.errors import ConfigError
from moe_hub.lambda_calculus.levels import LEVELS, Level, first_redex_is_linear, smallest_size, step_range
from moe_hub.lambda_calculus.named import ALPHABET, NamedTerm, named_tokens, with_names
from moe_hub.lambda_calculus.reduction import Trace, reduce
from moe_hub.lambda_calculus.sampling import random_term
from moe_hub.lambda_calculus.segments import segments
from moe_hub.lambda_calculus.splits import SPLITS, Split, split_of_term
from moe_hub.lambda_calculus.terms import Term, prefix
from moe_hub.lambda_calculus.vocabulary import ANSWER, KNOWN, REDUCTION, SEMANTIC, SYNTAX

Layout: TypeAlias = Literal["segments", "direct"]
LAYOUTS: tuple[Layout, ...] = ("segments", "direct")
LARGEST_SIZE = 30
MAX_DRAWS = 500_000


@dataclass(frozen=True)
class Sample:
    """One task. `prompt` and `answer` are tokens joined by single spaces, without <bos> and <eos>.

    `steps`: normal-order steps from the prompt's term to its normal form; `term`: its alpha-canonical prefix string.
    """

    index: int
    level: int
    steps: int
    prompt: str
    answer: str
    term: str


@dataclass(frozen=True)
class TaskSettings:
    """What to draw. Levels take turns over the indices; sizes are nodes, drawn evenly, terms uniform in each size.

    `max_tokens` bounds prompt and answer together, without <bos> and <eos>: a longer sample is drawn again, so none
    is ever cut. Raises `ConfigError` where a level cannot be drawn within the sizes.
    """

    levels: tuple[int, ...] = (1, 2, 3)
    min_size: int = 5
    max_size: int = 11
    layout: Layout = "segments"
    max_tokens: int = 126

    def __post_init__(self) -> None:
        if not self.levels or any(level not in LEVELS for level in self.levels):
            raise ConfigError(f"levels = {list(self.levels)}: allowed are one or more of {list(LEVELS)}")
        if self.layout not in LAYOUTS:
            raise ConfigError(f"layout = {self.layout!r}: allowed are {', '.join(LAYOUTS)}")
        if not 2 <= self.min_size <= self.max_size <= LARGEST_SIZE:
            raise ConfigError(
                f"min_size = {self.min_size} and max_size = {self.max_size}: allowed are 2 <= min_size <= max_size "
                f"<= {LARGEST_SIZE}"
            )
        for level in self.levels:
            if self.max_size < LEVELS[level].smallest_max_size:
                raise ConfigError(
                    f"max_size = {self.max_size} is too small for level {level} ({LEVELS[level].title}): raise it to "
                    f"{LEVELS[level].smallest_max_size} or more, or leave the level out"
                )
        if self.max_tokens < 24:
            raise ConfigError(f"max_tokens = {self.max_tokens}: allowed are 24 or more")


def make_sample(settings: TaskSettings, split: Split, seed: int, index: int) -> Sample:
    """Sample number `index` of a split. Raises `ConfigError` where the settings leave (almost) nothing to draw."""
    if split not in SPLITS:
        raise ConfigError(f"split = {split!r}: allowed are {', '.join(SPLITS)}")
    level = LEVELS[settings.levels[index % len(settings.levels)]]
    steps = step_range(level, settings.layout, index // len(settings.levels))
    smallest = smallest_size(level, settings.min_size, settings.max_size)
    rng = Random(f"{split} {seed} {index}")
    for _ in range(MAX_DRAWS):
        term = random_term(rng, rng.randint(smallest, settings.max_size))
        trace = _accepted_trace(term, level, steps, split)
        if trace is None:
            continue
        prompt, answer = render(trace, level, settings.layout, rng)
        if _fits(prompt, answer, settings.max_tokens):
            return Sample(index, level.number, trace.steps, prompt, answer, prefix(term))
    raise ConfigError(
        f"no {split} sample of level {level.number} ({level.title}) in {MAX_DRAWS} draws with sizes "
        f"{settings.min_size} to {settings.max_size} and max_tokens = {settings.max_tokens}; raise one of the two"
    )


def render(trace: Trace, level: Level, layout: Layout, rng: Random) -> tuple[str, str]:
    """Prompt and answer for a reduction; names are drawn from `rng` where the prompt is a named term."""
    term = trace.terms[0]
    if layout == "segments":
        return segments(_random_names(term, rng), trace)
    if level.named:
        return f"{SYNTAX} {named_tokens(_random_names(term, rng))} {ANSWER}", prefix(term)
    if level.number in (1, 2):
        return f"{REDUCTION} {prefix(term)} {ANSWER}", prefix(trace.terms[1])
    return f"{SEMANTIC} {prefix(term)} {ANSWER}", prefix(trace.terms[-1])


def _accepted_trace(term: Term, level: Level, steps: tuple[int, int], split: Split) -> Trace | None:
    if split_of_term(term) != split or (level.linear and not first_redex_is_linear(term)):
        return None
    trace = reduce(term, max_steps=steps[1])
    if trace.outcome != "normal" or trace.steps < steps[0]:
        return None
    if split == "train" and any(split_of_term(reduct) != "train" for reduct in trace.terms[1:]):
        return None
    return trace


def _random_names(term: Term, rng: Random) -> NamedTerm:
    """Different random letters for all binders; past 26 come names outside the vocabulary, so `_fits` refuses them."""
    letters = rng.sample(ALPHABET, len(ALPHABET))
    return with_names(term, chain(letters, (f"x{number}" for number in count(1))))


def _fits(prompt: str, answer: str, max_tokens: int) -> bool:
    tokens = [*prompt.split(), *answer.split()]
    return len(tokens) <= max_tokens and KNOWN.issuperset(tokens)
