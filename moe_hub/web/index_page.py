"""The HTML frame around the Dash app: names each stylesheet and script of assets/ with its fingerprint."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

# In the order in which they must load.
STYLES = ("vendor/bootstrap.min.css", "tokens.css", "workbench.css", "live.css")
SCRIPTS = (
    "core.js", "address.js", "figure.js", "status.js", "runs.js", "form.js", "tabs.js", "sweeps.js", "analysis.js",
    "inference.js", "compare.js", "models.js", "upload.js", "report.js", "data.js", "live.js",
)  # fmt: skip
PLOTLY_2D, PLOTLY_3D = "vendor/plotly-cartesian.min.js", "vendor/plotly-gl3d.min.js"

_FRAME = """<!DOCTYPE html>
<html lang="en" data-prefix="{prefix}" data-plotly-2d="{plotly_2d}" data-plotly-3d="{plotly_3d}">
  <head>
    {{%metas%}}
    <meta name="color-scheme" content="light dark">
    <title>{{%title%}}</title>
    <link rel="icon" type="image/svg+xml" href="{icon}">
    <script src="{theme}"></script>
    <link rel="preload" as="fetch" crossorigin href="{prefix}_dash-layout">
    <link rel="preload" as="fetch" crossorigin href="{prefix}_dash-dependencies">
    <link rel="preload" as="script" href="{plotly_2d}">
    {{%css%}}
    {styles}
  </head>
  <body>
    {{%app_entry%}}
    <footer>
      {{%config%}}
      {{%scripts%}}
      {scripts}
      {{%renderer%}}
    </footer>
  </body>
</html>
"""


def index_string(prefix: str, assets: Path) -> str:
    """Dash's index template, with the files of `assets` under the prefix."""

    def address(name: str) -> str:
        path = assets / name
        return f"{prefix}assets/{name}?v={_digest(path, path.stat().st_mtime_ns)}"

    return _FRAME.format(
        prefix=prefix,
        plotly_2d=address(PLOTLY_2D),
        plotly_3d=address(PLOTLY_3D),
        icon=address("icon.svg"),
        theme=address("theme.js"),
        styles="\n    ".join(f'<link rel="stylesheet" href="{address(name)}">' for name in STYLES),
        scripts="\n      ".join(f'<script src="{address(name)}"></script>' for name in SCRIPTS),
    )


@cache
def _digest(path: Path, modified_ns: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
