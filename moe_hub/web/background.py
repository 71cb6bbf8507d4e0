"""What runs background callbacks: processes of this machine through diskcache, or Celery workers through Redis."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from moe_hub.errors import ConfigError
from moe_hub.workbench.private_folder import private_folder

FOLDER = ".background"
RESULTS_KEPT_S = 3600


def manager(data_dir: Path, celery_url: str | None = None) -> Any:
    """Dash's manager; raises `ConfigError`.

    Without an address: processes of this machine and diskcache in a folder under `data_dir` that only this user can
    open, because it unpickles. With one: Celery workers (`python -m moe_hub.web.worker`), which take JSON alone.
    """
    if celery_url:
        from dash import CeleryManager

        return CeleryManager(celery_app(celery_url))
    import diskcache
    from dash import DiskcacheManager

    return DiskcacheManager(diskcache.Cache(str(private_folder(data_dir / FOLDER))))


def celery_app(url: str) -> Any:
    """The Celery app of an address such as redis://host:6379/0; raises `ConfigError` where it is none."""
    if urlsplit(url).scheme not in ("redis", "rediss"):
        raise ConfigError(f"--celery {url!r}: an address such as redis://127.0.0.1:6379/0 is needed")
    try:
        import celery
        import redis  # noqa: F401  which Celery imports at its first task only
    except ImportError:
        raise ConfigError("the package celery is not installed; pip install 'moe-hub[celery]'") from None
    app = celery.Celery("moe_hub", broker=url, backend=url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],  # no pickle from whoever can write to the broker
        result_expires=RESULTS_KEPT_S,
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
        task_ignore_result=False,
    )
    return app
