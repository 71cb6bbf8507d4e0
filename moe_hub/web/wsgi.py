"""The page for a WSGI server of your own, with the flags of `python -m moe_hub.web`:

gunicorn --workers 2 --threads 12 --bind 127.0.0.1:8050 'moe_hub.web.wsgi:application("--runs-dir", "runs")'
"""

from __future__ import annotations

from flask import Flask

from moe_hub.errors import ConfigError
from moe_hub.web.__main__ import build, build_parser, give_memory_back


def application(*flags: str) -> Flask:
    """The Flask app of these flags; raises `ConfigError` for those that are the server's own to say."""
    options = build_parser().parse_args(flags)
    if options.open or any(flag.partition("=")[0] in ("--host", "--port") for flag in flags):
        raise ConfigError("--host, --port and --open are the WSGI server's to say, such as gunicorn's --bind")
    give_memory_back()
    server: Flask = build(options).server
    return server
