"""The untyped lambda calculus as a test bed: terms, parsers, evaluator, samplers, tasks and their judge.

Standard library only.
"""

from moe_hub.lambda_calculus.tasks import Sample, TaskSettings, make_sample

__all__ = ["Sample", "TaskSettings", "make_sample"]
