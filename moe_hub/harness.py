"""`python -m moe_hub.harness ...`: lm-evaluation-harness with the architectures of this package registered.

All flags are those of `lm_eval`. A checkpoint is evaluated as any model of transformers:

    python -m moe_hub.harness run --model hf --model_args pretrained=CHECKPOINT --include_path configs/lm_eval \
        --tasks moe_hub_lambda --device cpu
"""

from __future__ import annotations

import sys


def main() -> int:
    """Runs lm_eval; exit code 2 where it is not installed, else its own."""
    try:
        from lm_eval.__main__ import cli_evaluate
    except ImportError:
        print("error: lm-evaluation-harness is not installed; pip install 'moe-hub[harness]'", file=sys.stderr)
        return 2
    import moe_hub  # noqa: F401  registers the architectures with transformers

    cli_evaluate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
