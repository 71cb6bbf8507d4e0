"""The untyped lambda calculus as a test bed: terms, parsers, evaluator, samplers, tasks and their judge.

Standard library only. One concept a file: terms, parser, named (rendering), reduction, named_reduction, church,
sampling, splits, levels, expressions, segments, vocabulary, tasks, ood, judge, prompts, imported.
"""

from moe_hub.lambda_calculus.imported import Audit, JudgedRow, audit, judge_row, judge_rows
from moe_hub.lambda_calculus.judge import Verdict
from moe_hub.lambda_calculus.levels import LEVELS
from moe_hub.lambda_calculus.named import compact, named_tokens, to_named
from moe_hub.lambda_calculus.ood import OOD_SETS, make_ood_sample, ood_settings
from moe_hub.lambda_calculus.parser import parse
from moe_hub.lambda_calculus.prompts import prompt_for
from moe_hub.lambda_calculus.reduction import Trace, reduce, step
from moe_hub.lambda_calculus.tasks import Sample, TaskSettings, make_sample
from moe_hub.lambda_calculus.terms import Term, prefix
from moe_hub.lambda_calculus.vocabulary import TOKENS

__all__ = [
    "LEVELS",
    "OOD_SETS",
    "TOKENS",
    "Audit",
    "JudgedRow",
    "Sample",
    "TaskSettings",
    "Term",
    "Trace",
    "Verdict",
    "audit",
    "compact",
    "judge_row",
    "judge_rows",
    "make_ood_sample",
    "make_sample",
    "named_tokens",
    "ood_settings",
    "parse",
    "prefix",
    "prompt_for",
    "reduce",
    "step",
    "to_named",
]
