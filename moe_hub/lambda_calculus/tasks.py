"""Task samples: each is a pure function of (settings, split, seed, index), in any order, in any process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from itertools import count as count_from
from random import Random
from typing import Literal, TypeAlias

from moe_hub.errors import ConfigError
from moe_hub.lambda_calculus.expressions import random_expression
from moe_hub.lambda_calculus.levels import LEVELS, Level, first_redex_is_linear, smallest_size, step_range
from moe_hub.lambda_calculus.named import ALPHABET, NamedTerm, named_tokens, with_names
from moe_hub.lambda_calculus.named_reduction import step_captures, step_named, with_few_names
from moe_hub.lambda_calculus.reduction import Trace, reduce
from moe_hub.lambda_calculus.sampling import below, count, random_size, unrank, unrank_prefix
from moe_hub.lambda_calculus.segments import segments
from moe_hub.lambda_calculus.splits import SPLITS, Split, split_of, split_of_term
from moe_hub.lambda_calculus.terms import Term, binder_depth, prefix
from moe_hub.lambda_calculus.vocabulary import ANSWER, KNOWN, REDUCTION, SEMANTIC, SEPARATOR, SYNTAX

Layout: TypeAlias = Literal["segments", "direct"]
LAYOUTS: tuple[Layout, ...] = ("segments", "direct")
LARGEST_SIZE = 30
SMALLEST_MAX_TOKENS = 24
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
    """What to draw. Levels take turns over the indices; sizes are nodes, drawn as by `random_size`; in
    each size terms are uniform.

    `max_tokens` bounds prompt and answer together, without <bos> and <eos>: a longer sample is drawn again, so none
    is ever cut. `min_binder_depth` and `max_binder_depth` bound the nesting of binders. `mixed`: level 6 applies
    operators of one family to results of another. Raises `ConfigError` for values that leave nothing to draw.
    """

    levels: tuple[int, ...] = (1, 2, 3)
    min_size: int = 5
    max_size: int = 11
    layout: Layout = "segments"
    max_tokens: int = 126
    min_binder_depth: int = 0
    max_binder_depth: int = LARGEST_SIZE
    mixed: bool = False

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise ConfigError(problem)

    def _problems(self) -> Iterator[str]:
        if not self.levels or any(level not in LEVELS for level in self.levels):
            yield f"levels = {list(self.levels)}: allowed are one or more of {list(LEVELS)}"
            return
        if self.layout not in LAYOUTS:
            yield f"layout = {self.layout!r}: allowed are {', '.join(LAYOUTS)}"
        if not 2 <= self.min_size <= self.max_size <= LARGEST_SIZE:
            yield (
                f"min_size = {self.min_size}, max_size = {self.max_size}: allowed are 2 <= min_size <= max_size "
                f"<= {LARGEST_SIZE}"
            )
        if not 0 <= self.min_binder_depth <= self.max_binder_depth or self.max_binder_depth < 1:
            yield (
                f"min_binder_depth = {self.min_binder_depth}, max_binder_depth = {self.max_binder_depth}: allowed are "
                "0 <= min_binder_depth <= max_binder_depth, which is at least 1"
            )
        if self.max_tokens < SMALLEST_MAX_TOKENS:
            yield f"max_tokens = {self.max_tokens}: allowed are {SMALLEST_MAX_TOKENS} or more"
        for level in map(LEVELS.__getitem__, self.levels):
            if self.max_size < level.smallest_max_size:
                yield (
                    f"max_size = {self.max_size} is too small for level {level.number} ({level.title}): raise it to "
                    f"{level.smallest_max_size} or more, or leave the level out"
                )


def make_sample(settings: TaskSettings, split: Split, seed: int, index: int) -> Sample:
    """Sample number `index` of a split. Raises `ConfigError` where the settings leave (almost) nothing to draw."""
    if split not in SPLITS:
        raise ConfigError(f"split = {split!r}: allowed are {', '.join(SPLITS)}")
    return draw_sample(settings, split, seed, index)


def draw_sample(settings: TaskSettings, split: Split | None, seed: int, index: int) -> Sample:
    """As `make_sample`; a split of None draws from all terms, for sets that lie outside the training range anyway."""
    level = LEVELS[settings.levels[index % len(settings.levels)]]
    steps = step_range(level, settings.layout, index // len(settings.levels))
    rng = Random(f"{split} {seed} {index}")
    for _ in range(MAX_DRAWS):
        term = _candidate(level, settings, split, rng)
        if term is None or (settings.min_binder_depth and binder_depth(term) < settings.min_binder_depth):
            continue
        trace = _accepted_trace(term, level, steps, split)
        texts = trace and _texts(trace, level, settings.layout, rng)
        if trace and texts and _fits(*texts, settings.max_tokens):
            return Sample(index, level.number, trace.steps, *texts, prefix(term))
    raise ConfigError(
        f"no {split or ''} sample of level {level.number} ({level.title}) in {MAX_DRAWS} draws of {settings}; "
        "raise max_size or max_tokens"
    )


def _candidate(level: Level, settings: TaskSettings, split: Split | None, rng: Random) -> Term | None:
    """A term that may belong to the split; None for one that does not.

    Two of a hundred terms are held out for each split, so there the split is looked at before anything is made. Of
    training terms it refuses few, so there it comes last, when the other conditions have left few to look at.
    """
    if level.church:
        term = random_expression(rng, mixed=settings.mixed)
        return term if split in (None, "train") or split_of_term(term) == split else None
    depth = settings.max_binder_depth
    nodes = random_size(rng, smallest_size(level, settings.min_size, settings.max_size), settings.max_size, depth)
    rank = below(rng, count(nodes, 0, depth))
    if split not in (None, "train") and split_of(unrank_prefix(nodes, rank, 0, depth)) != split:
        return None
    return unrank(nodes, rank, 0, depth)


def _accepted_trace(term: Term, level: Level, steps: tuple[int, int], split: Split | None) -> Trace | None:
    """The reduction of a candidate that belongs to the level, the stratum and the split, else None.

    A training term's reducts must all be training terms too: no held-out term is ever seen, not even on the way.
    """
    if level.linear and not first_redex_is_linear(term):
        return None
    trace = reduce(term, max_steps=steps[1])
    if trace.outcome != "normal" or trace.steps < steps[0]:
        return None
    if split == "train" and any(split_of_term(reduct) != "train" for reduct in trace.terms):
        return None
    return trace


def _texts(trace: Trace, level: Level, layout: Layout, rng: Random) -> tuple[str, str] | None:
    """Prompt and answer; None where the drawn names do not put the first step of a capture level under pressure."""
    term = trace.terms[0]
    if layout == "direct" and level.question in ("step", "normal form", "trace"):
        return _prefix_texts(trace, level)
    named = with_few_names(term, rng) if level.capture else _with_random_names(term, rng)
    if level.capture and not step_captures(named):
        return None
    if layout == "segments":
        return segments(named, trace)
    if level.question == "parse":
        return f"{SYNTAX} {named_tokens(named)} {ANSWER}", prefix(term)
    following = step_named(named)
    assert following is not None, "a term that captures has a redex"
    return f"{REDUCTION} {named_tokens(named)} {ANSWER}", named_tokens(following)


def _prefix_texts(trace: Trace, level: Level) -> tuple[str, str]:
    source, *reducts = map(prefix, trace.terms)
    if level.question == "step":
        return f"{REDUCTION} {source} {ANSWER}", reducts[0]
    if level.question == "trace":
        return f"{REDUCTION} {source} {SEPARATOR}", f" {SEPARATOR} ".join(reducts)
    return f"{SEMANTIC} {source} {ANSWER}", reducts[-1]


def _with_random_names(term: Term, rng: Random) -> NamedTerm:
    """Different random letters for all binders; past 26 come names outside the vocabulary, so `_fits` refuses them."""
    return with_names(term, chain(_shuffled_letters(rng), (f"x{number}" for number in count_from(1))))


def _shuffled_letters(rng: Random) -> list[str]:
    """What `rng.sample(ALPHABET, 26)` gives, in less time: each is drawn from those left, the last takes its place."""
    pool, letters = list(ALPHABET), []
    for last in range(len(pool) - 1, -1, -1):
        drawn = below(rng, last + 1)
        letters.append(pool[drawn])
        pool[drawn] = pool[last]
    return letters


def _fits(prompt: str, answer: str, max_tokens: int) -> bool:
    tokens = [*prompt.split(), *answer.split()]
    return len(tokens) <= max_tokens and KNOWN.issuperset(tokens)
