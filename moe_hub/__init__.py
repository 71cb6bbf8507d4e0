"""MoE Hub: a workbench for research on mixtures of experts that talk to each other.

`import moe_hub` registers the models with transformers' Auto classes on their first use there, and imports
neither torch nor a web library by itself where transformers is not already in use.
"""

from __future__ import annotations

__version__ = "0.1.0"

from moe_hub import registration as _registration

_registration.install()
