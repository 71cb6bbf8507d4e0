"""The quality report of a data source: what training on it would mean, before anything is trained."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_hub.config import Config
from moe_hub.data.corpus import open_corpus, open_sources
from moe_hub.data.file_kind import Reading, decoded_chunks, kind_of
from moe_hub.data.quality import bad_row_lines, hash_of, held_out_rows, random_split_leakage
from moe_hub.data.row_source import RowSource
from moe_hub.data.row_stream import longer_samples
from moe_hub.data.rows import BadRow
from moe_hub.data.shape import shape_of
from moe_hub.data.source import Progress, Source
from moe_hub.data.text_source import TextSource
from moe_hub.errors import DataError, MoeHubError

LINE_MATTERS = 20  # characters from which an equal line counts as a duplicate
LEAKAGE_MATTERS = 0.01


@dataclass
class Report:
    """`usable` says whether a training with this config would start; `problems` why not, `warnings` what to know."""

    source: str
    usable: bool = True
    kind: str = ""
    format: str = ""
    mapping: dict[str, Any] = field(default_factory=dict)
    rows: int = 0
    bad_rows: int = 0
    bad_by_kind: list[dict[str, Any]] = field(default_factory=list)
    first_bad_rows: list[dict[str, Any]] = field(default_factory=list)
    duplicates: dict[str, int] = field(default_factory=dict)
    leakage: dict[str, float] = field(default_factory=dict)
    lengths: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """One line."""
        if not self.usable:
            return "not usable as it is"
        return f"usable, with {len(self.warnings)} warning(s)" if self.warnings else "usable"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"verdict": self.verdict, **asdict(self)}


def inspect(config: Config, *, cache_dir: Path | None = None, progress: Progress | None = None) -> Report:
    """The report for the data section of a config. What is wrong with the data stands in it and is not raised.

    Tokens go to a temporary folder, or to the cache in `cache_dir`, where a training finds them.
    """
    tell = progress or (lambda what, share: None)
    report = Report(_named(config))
    try:
        sources = open_sources(config)
        if len(sources) == 1:
            _inspect_source(sources[0], report, tell)
        else:
            report = _together(config, [_inspect_source(source, Report(source.label), tell) for source in sources])
        if not report.problems:
            _inspect_tokens(config, report, cache_dir, tell)
    except MoeHubError as error:
        report.problems.append(str(error))
    report.usable = not report.problems
    return report


def _named(config: Config) -> str:
    data = config.data
    return str({"file": data.path, "hub": data.name, "mixture": data.mixture}.get(data.source) or data.source)


def _inspect_source(source: Source, report: Report, tell: Progress) -> Report:
    if isinstance(source, RowSource):
        _inspect_rows(source, report, tell)
    elif isinstance(source, TextSource):
        _inspect_text(source, report, tell)
    return report


def _together(config: Config, each: list[Report]) -> Report:
    """The report of a mixture: what is countable under the name of its source, all messages."""
    whole = Report(_named(config), kind="mixture", format=f"{len(each)} sources by weight")
    for part in each:
        name = Path(part.source).name
        whole.rows += part.rows
        whole.bad_rows += part.bad_rows
        whole.notes += [line.strip() for line in bad_row_lines(_bad_rows(part), part.source)]
        whole.duplicates |= {f"{name}: {what}": count for what, count in part.duplicates.items()}
        whole.notes += [f"{name}: {part.format}"] if part.format else []
        for texts, found in (
            (whole.notes, part.notes),
            (whole.warnings, part.warnings),
            (whole.problems, part.problems),
        ):
            texts += [f"{name}: {text}" for text in found]
    return whole


def _bad_rows(report: Report) -> list[BadRow]:
    return [BadRow(**row) for row in report.first_bad_rows]


def _inspect_rows(source: RowSource, report: Report, tell: Progress) -> None:
    report.kind = kind_of(source.path) if source.path else "hub"
    mapping = source.mapping
    found = source.survey_rows(tell)
    report.format, report.mapping = mapping.describe(), asdict(mapping)
    report.rows += found.good + found.bad
    report.bad_rows += found.bad
    report.notes += source.notes
    report.bad_by_kind += [
        {"column": column, "expected": expected, "rows": count}
        for (column, expected), count in found.bad_by_kind.most_common()
    ]
    report.first_bad_rows += [asdict(row) for row in found.first_bad]
    if found.good:
        report.duplicates = found.duplicates()
        report.lengths = histogram(found.lengths, "characters")
        _judge_duplicates(source, found.groups, report)
    if found.bad and (source.data.bad_rows == "refuse" or not found.good):
        fix = "correct them, or set data.bad_rows=skip" if found.good else "no row is left to train on"
        report.problems.append(f"{found.bad} of {found.good + found.bad} rows cannot be used; {fix}")
    elif found.bad:
        report.warnings.append(f"{found.bad} rows are skipped (data.bad_rows=skip)")


def _judge_duplicates(source: RowSource, groups: npt.NDArray[np.uint64], report: Report) -> None:
    share, counts = source.data.eval_fraction, report.duplicates
    held_out = held_out_rows(groups, share, source.data.num_eval_samples, source.label)
    leaking = float(np.isin(groups[held_out], groups[~held_out]).mean())
    random = random_split_leakage(groups, share)
    report.leakage = {"random_split": round(random, 4), "split_by_group": leaking}
    if random > LEAKAGE_MATTERS:
        report.warnings.append(
            f"a random split would leak: {random:.1%} of its held-out rows would have their question in training too "
            f"({counts['distinct_questions']} different questions in {counts['rows']} rows); rows are therefore held "
            "out by groups of equal questions"
        )
    if counts["questions_with_several_answers"] and source.mapping.has_answer:
        report.warnings.append(
            f"{counts['questions_with_several_answers']} questions have more than one answer: exact match cannot "
            "reach 1 on them"
        )


def _inspect_text(source: TextSource, report: Report, tell: Progress) -> None:
    report.kind, report.format = "text", "plain text: rows are cut from one stream, the last part is held out"
    lines: Counter[int] = Counter()
    sizes: list[int] = []
    text, number, characters = "", 0, 0
    reading, size = Reading(), source.path.stat().st_size
    for chunk in decoded_chunks(source.path, reading):
        tell(reading.described(source.path.name, size), reading.bytes_read / max(size, 1))
        *whole, text = (text + chunk).split("\n")
        for line in whole:
            number += 1
            sizes.append(len(line))
            if len(line) >= LINE_MATTERS:
                lines[hash_of(line)] += 1
        characters += len(chunk)
    sizes.append(len(text))
    report.rows += number + bool(text)
    report.lengths = histogram(np.array(sizes, np.int64), "characters of a line")
    report.duplicates = {
        "lines": report.rows,
        "characters": characters,
        "repeated_lines": sum(lines.values()) - len(lines),
    }


def _inspect_tokens(config: Config, report: Report, cache_dir: Path | None, tell: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix="moe-hub-inspect-") as folder:
        corpus = open_corpus(config, cache_dir=cache_dir or Path(folder), progress=tell)
        width, too_long = config.model.max_seq_len, longer_samples(corpus.store, config.model.max_seq_len)
        if too_long.any():  # what the data is like does not depend on the model: it is shown as if it fitted
            width = int(corpus.store.lengths[too_long].max())
            report.warnings.append(
                f"{int(too_long.sum())} of {len(too_long)} samples are longer than model.max_seq_len = "
                f"{config.model.max_seq_len} tokens; set model.max_seq_len={width} to train on all of them"
            )
        fitting = config.model_copy(update={"model": config.model.model_copy(update={"max_seq_len": width})})
        facts = shape_of(fitting, corpus).facts
        report.tokens = {
            "tokenizer": corpus.facts["tokenizer"],
            "vocab_size": corpus.facts["vocab_size"],
            "max_seq_len": width,
            "train": facts["tokens_per_epoch"],
            "held_out": facts["eval_tokens"],
            "padding_share": facts["padding_share"],
            **histogram(corpus.store.lengths, "tokens of a document"),
        }


def histogram(lengths: npt.NDArray[np.int64], unit: str) -> dict[str, Any]:
    """Median, 99th percentile, largest, and counts in bins that double: 1, 2-3, 4-7, ..."""
    if not len(lengths):
        raise DataError("no lengths to count: the data holds no rows")
    upper = max(1, int(lengths.max())).bit_length()
    edges = [0, *(1 << power for power in range(upper + 1))]
    counts, _ = np.histogram(lengths, edges)
    bins = [
        {"from": low, "to": high - 1, "count": int(count)}
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    return {
        "unit": unit,
        "median": int(np.median(lengths)),
        "p99": int(np.percentile(lengths, 99)),
        "largest": int(lengths.max()),
        "histogram": [entry for entry in bins if entry["count"]],
    }


def as_text(report: Report) -> str:
    """The report for a terminal."""
    lines = [f"{report.source}: {report.verdict}"]
    lines += [f"  problem: {text}" for text in report.problems]
    lines += [f"  warning: {text}" for text in report.warnings]
    lines += [f"  note: {text}" for text in report.notes]
    if report.format:
        lines += [f"kind         {report.kind}", f"format       {report.format}"]
    if report.rows:
        what = "lines" if report.kind == "text" else "rows"
        lines.append(f"{what:<13}{report.rows:,}, {report.bad_rows:,} unusable")
    lines += [
        f"  {entry['rows']:,} rows: column {entry['column'] or '-'}, expected {entry['expected']}"
        for entry in report.bad_by_kind
    ]
    lines += bad_row_lines(_bad_rows(report), report.source)
    lines += [f"  {name.replace('_', ' '):<31} {count:,}" for name, count in report.duplicates.items()]
    if report.leakage:
        random, ours = report.leakage["random_split"], report.leakage["split_by_group"]
        lines.append(
            f"leakage      {random:.1%} of the held-out rows of a random split, {ours:.1%} of those held out here"
        )
    lines += _length_lines(report.lengths)
    if report.tokens:
        tokens = report.tokens
        lines.append(
            f"tokens       {tokens['train']:,} to train on, {tokens['held_out']:,} held out; tokenizer "
            f"{tokens['tokenizer']} of {tokens['vocab_size']:,}; padding in rows of "
            f"{tokens['max_seq_len']:,}: {tokens['padding_share']:.2%}"
        )
        lines += _length_lines(tokens)
    return "\n".join(lines)


def _length_lines(lengths: dict[str, Any]) -> list[str]:
    if not lengths:
        return []
    most = max(entry["count"] for entry in lengths["histogram"])
    quantiles = f"median {lengths['median']:,}, 99 % {lengths['p99']:,}, largest {lengths['largest']:,}"
    lines = [f"lengths      {lengths['unit']}: {quantiles}"]
    for entry in lengths["histogram"]:
        bar = "#" * max(1, round(40 * entry["count"] / most))
        lines.append(f"  {entry['from']:>9,} to {entry['to']:<9,}{entry['count']:>10,}  {bar}")
    return lines
