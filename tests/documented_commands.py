"""The commands that the documents show, and how each is run in a test.

`RULES` is the table: a command is run as it stands, in a short form, or, where it would need the network, another
machine or hours, with `--help` or as a dry run. The first rule that matches counts. A command that no rule knows fails
a test, and so does a rule without a command, so what the documents show can always be typed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from moe_hub.web.guide import inline_tokens, tokens_of

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
PROGRAMS = (
    "make|python3?|moe-hub|pip|pip-audit|gunicorn|curl|ls|df|ssh|source|torchrun|tensorboard|wandb|hf|srun|sbatch|"
    r"\.venv/bin/\w+"
)
COMMAND = re.compile(rf"^(?:[A-Z_]+=\S+ )*(?:{PROGRAMS}) \S")
SHELL = ("sh", "bash", "shell", "console")
TINY = (
    "--set train.max_steps=4 --set train.batch_size=2 --set train.log_every=1 --set train.eval_every=4 "
    "--set train.eval_batches=1 --set train.checkpoint_every=2 --set data.num_train_samples=40 "
    "--set data.num_eval_samples=8 --set train.threads=1"
)


@dataclass(frozen=True)
class Rule:
    """`pattern` matches whole commands. `short` is what is run instead, with groups of the pattern as in `re.sub`.

    `kind`: `plain` commands of the package need no torch and `training` ones do; `live` ones go to a run that is being
    trained; `server` ones serve until they are told to end; `dry` are other programs, run with `make -n`, `--help`
    and the like.
    """

    pattern: str
    kind: str
    short: str = r"\g<0>"
    code: int = 0

    def matches(self, command: str) -> bool:
        return re.fullmatch(self.pattern, command) is not None

    def shortened(self, command: str) -> str:
        return re.sub(f"^(?:{self.pattern})$", self.short, command)


HUB = r"(moe-hub|python -m moe_hub)"
CHECKPOINT = r"(runs/RUN_ID|RUN_[AB])/checkpoints/step_\d{8}"
RULES = (
    # --- make: the target is there and every line of it can be expanded
    Rule(r"make (\w+)( \w+=(\S+|\"[^\"]*\"))*", "dry", r"make -n \1"),
    # --- named alone
    Rule(rf"{HUB} COMMAND", "plain", r"\1 --help"),
    Rule(r"moe-hub (presets|runs)", "plain"),
    Rule(r"moe-hub (\w+)", "plain", r"moe-hub \1 --help"),
    Rule(r"python -m (moe_hub\.(train|data|evaluate|generate|experiments|sweeps|export|checkpoint|web\.worker))",
         "plain", r"python -m \1 --help"),
    Rule(r"python -m moe_hub", "plain", code=2),  # no terminal, so it prints its help
    Rule(r"python -m moe_hub\.harness", "dry", r"python -m moe_hub.harness --help"),
    # --- terminal
    Rule(r"moe-hub runs( --json| --sort val-loss| --state \w+)+", "plain"),
    Rule(r"moe-hub (diff RUN_ID RUN_ID|tag RUN_ID baseline|completion bash)", "plain"),
    Rule(r"moe-hub (pause|resume|save|stop) latest", "live"),
    Rule(r"moe-hub watch latest( --once)?", "live", "moe-hub watch latest --once"),
    # --- data
    Rule(r"python -m moe_hub\.data (inspect|prepare) rows\.jsonl", "plain"),
    Rule(r"python -m moe_hub\.data (inspect|prepare) hub:owner/name", "plain", r"python -m moe_hub.data \1 --help"),
    Rule(r"python -m moe_hub\.data cache (list|purge)", "plain"),
    Rule(r"python -m moe_hub\.data lambda --out (\S+) --num \d+( .*)?", "plain",
         r"python -m moe_hub.data lambda --out \1 --num 5\2"),
    # --- training
    Rule(r"python -m moe_hub\.train --preset (\w+) --print-config", "plain"),
    Rule(r"python -m moe_hub\.train --preset (\w+) --dry-run", "training", rf"\g<0> {TINY}"),
    # tests/train/test_parallel.py trains with several processes
    Rule(r"python -m moe_hub\.train --preset geometric_lambda --set train\.parallel\.processes=2", "plain",
         r"\g<0> --print-config"),
    Rule(r"python -m moe_hub\.train --preset (\w+)( --set [\w.]+=[\w.]+)*", "training",
         rf"\g<0> {TINY}"),
    Rule(r"python -m moe_hub\.train --fork RUN_ID@\d+ --set (train\.learning_rate)=5e-4", "training",
         r"python -m moe_hub.train --fork RUN_ID@2 --set \1=5e-4"),
    Rule(r"python -m moe_hub\.train --fork RUN_ID@\d+ --set train\.max_steps=900", "training",
         "python -m moe_hub.train --fork RUN_ID@2 --set train.max_steps=5"),
    Rule(r"python -m moe_hub\.train --resume latest", "training", "python -m moe_hub.train --resume STOPPED"),
    Rule(r"torchrun .* -m moe_hub\.train .*", "dry", "torchrun --help"),
    Rule(r"sbatch (examples/slurm/\w+\.sbatch) .*", "dry", r"bash -n \1"),
    # --- checkpoints
    Rule(rf"python -m moe_hub\.evaluate ({CHECKPOINT})( {CHECKPOINT})?( --num \d+)?( --json)?", "training",
         r"\g<0> --num 4"),
    Rule(rf"python -m moe_hub\.evaluate ({CHECKPOINT})( --num \d+)? --ood (\w+)( \w+)*", "training", r"\g<0> --num 4"),
    Rule(rf"python -m moe_hub\.evaluate ({CHECKPOINT}) --data rows\.jsonl", "training",
         "python -m moe_hub.evaluate FILE_CHECKPOINT --data rows.jsonl"),
    Rule(rf"python -m moe_hub\.generate ({CHECKPOINT}) --prompt .*", "training", r"\g<0> --max-new-tokens 4"),
    Rule(rf"python -m moe_hub\.checkpoint convert ({CHECKPOINT})", "training"),
    Rule(r"python -m moe_hub\.export (tensorboard|model) latest", "training", r"python -m moe_hub.export \1 RUN_ID"),
    Rule(r"python -m moe_hub\.export wandb latest", "plain", r"python -m moe_hub.export wandb --help"),
    # tests/export/test_model.py runs the harness on a checkpoint, which takes a minute
    Rule(r"python -m moe_hub\.harness run .*", "dry", "python -m moe_hub.harness run --help"),
    # --- experiments, sweeps: hours; what is done is printed from an empty folder
    Rule(r"python -m moe_hub\.experiments (plan|run) (configs/experiments/\w+\.yaml)", "plain",
         r"python -m moe_hub.experiments plan \2"),
    Rule(r"python -m moe_hub\.experiments table (configs/experiments/\w+\.yaml)( --document \S+)?", "plain",
         r"python -m moe_hub.experiments table \1", code=1),  # no run has finished
    Rule(r"python -m moe_hub\.experiments report (\S+) --out report\.html", "plain", code=1),
    Rule(r"python -m moe_hub\.sweeps (run|table) configs/sweeps/rates\.yaml", "plain",
         "python -m moe_hub.sweeps table configs/sweeps/rates.yaml", code=1),  # no trial is complete
    # --- the page
    Rule(r"python -m moe_hub\.web( --port \d+)?( --runs-dir runs --data-dir data)?( --url-base-path /moe/)?", "server"),
    Rule(r"(MOE_HUB_TOKEN=)\.\.\. (python -m moe_hub\.web( --url-base-path /moe/| --host 0\.0\.0\.0)?)", "server",
         r"\1correct-horse-battery \2"),
    Rule(r"python -m moe_hub\.web --host 0\.0\.0\.0", "plain", code=2),  # it asks for a token
    Rule(r"python -m moe_hub\.web(\.worker)? --celery \S+", "plain", r"\g<0> --help"),
    # tests/security/test_gunicorn.py serves with it
    Rule(r"gunicorn .*", "dry", "python -m gunicorn --version"),
    # tests/security/test_embedding.py drives the site
    Rule(r"\.venv/bin/flask --app examples\.flask_site (add-user ada|run --port 8060)", "dry",
         "python -m flask --app examples.flask_site --help"),
    # --- benchmarks: minutes to an hour each
    Rule(r"python -m benchmarks --only .*", "dry", "python -m benchmarks --help"),
    Rule(r"python -m (benchmarks\.\w+) .*", "dry", r"python -m \1 --help"),
    # --- other programs
    Rule(r"pip install 'moe-hub\[(\w+)\]'", "dry", r"extra \1"),
    Rule(r"python -m pip config list|python3 --version", "dry"),
    Rule(r"python -m pip install pip-audit|pip-audit .*", "dry", "python -m pip --version"),  # asks the network
    Rule(r"python -c ['\"](import dash|import moe_hub|import secrets; .*)['\"]", "dry"),
    Rule(r"ls runs/RUN_ID/checkpoints(/step_\d{8})?", "training"),
    Rule(r"df -h runs", "dry", "df -h ."),
    Rule(r"curl http://127\.0\.0\.1:8050/healthz", "dry", "curl --version"),
    Rule(r"ssh -L 8050:127\.0\.0\.1:8050 HOST", "dry", "true"),  # another machine
    Rule(r"source \.venv/bin/activate", "dry", "true"),  # the Makefile makes it
    Rule(r"tensorboard --logdir tensorboard", "dry", "python -m tensorboard.main --version"),
    Rule(r"wandb sync", "dry", "python -m wandb --version"),
)  # fmt: skip


@cache
def commands() -> dict[str, str]:
    """Every command of the documents -> the first document that shows it."""
    found: dict[str, str] = {}
    for document in DOCUMENTS:
        for command in _commands_of(document.read_text(encoding="utf-8")):
            found.setdefault(command, document.name)
    return found


def rule_of(command: str) -> Rule | None:
    """The first rule that knows the command."""
    return next((rule for rule in RULES if rule.matches(command)), None)


def to_run(kind: str) -> dict[str, Rule]:
    """Short forms of a kind, each once, with their rules."""
    pairs = [(command, rule_of(command)) for command in sorted(commands())]
    return {rule.shortened(command): rule for command, rule in pairs if rule is not None and rule.kind == kind}


def python_blocks() -> list[tuple[str, str]]:
    """(document, program) of every block of Python."""
    return [
        (document.name, token.content)
        for document in DOCUMENTS
        for token in tokens_of(document.read_text(encoding="utf-8"))
        if token.type == "fence" and token.info.strip() == "python"
    ]


def _commands_of(text: str) -> Iterator[str]:
    tokens = tokens_of(text)
    for token in tokens:
        if token.type == "fence":
            shell = token.info.strip() in SHELL
            for line in token.content.replace("\\\n", " ").splitlines():
                command = " ".join(re.sub(r"\s+#.*$", "", line).split())
                if command and not command.startswith("#") and (shell or COMMAND.match(command)):
                    yield command
    for token in inline_tokens(tokens):
        if token.type == "code_inline" and COMMAND.match(token.content):
            yield " ".join(token.content.split())
