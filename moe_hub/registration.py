"""Makes the models known to transformers' Auto classes without importing transformers or torch by itself.

The dashboard imports `moe_hub` and must not pay for torch. So where transformers' Auto modules are loaded already our
classes are registered at once, else right after those modules are loaded. Our modules register themselves when they
are imported; here it is only made sure that they are.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

REGISTERED_BY = {
    "transformers.models.auto.configuration_auto": "moe_hub.models.configuration",
    "transformers.models.auto.modeling_auto": "moe_hub.models.language_model",
}


class _ThenOurs(importlib.abc.Loader):
    """A loader that imports our module once the other module is loaded."""

    def __init__(self, loader: Any, ours: str) -> None:
        self.loader = loader
        self.ours = ours

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self.loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        if self.ours not in sys.modules:  # else it is the one that asked, and registers itself when it is done
            importlib.import_module(self.ours)

    def __getattr__(self, name: str) -> Any:  # get_source and the like, for tracebacks
        return getattr(self.loader, name)


class _AutoClassFinder(importlib.abc.MetaPathFinder):
    """Finds transformers' Auto modules as usual and lets ours follow."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in REGISTERED_BY:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            spec.loader = _ThenOurs(spec.loader, REGISTERED_BY[fullname])
        return spec


def install() -> None:
    """Registers now what is loaded, and the rest when it is loaded; calling it twice changes nothing."""
    if not any(isinstance(finder, _AutoClassFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AutoClassFinder())
    for theirs, ours in REGISTERED_BY.items():
        if theirs in sys.modules:
            importlib.import_module(ours)
