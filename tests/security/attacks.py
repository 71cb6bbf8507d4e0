"""What an attacker writes where a name, a path or a text is expected."""

from __future__ import annotations

from urllib.parse import quote

MARK = "TOP-SECRET-MARK"  # stands in every file that no request may show


def traversals(place: str) -> list[str]:
    """Ways to say the file `place` (an absolute path) that must not lead there; each is one text."""
    relative = place.lstrip("/")
    tail = "/".join(place.split("/")[-2:])  # what stands beside the folders of the dashboard
    dots = [f"{'../' * depth}{tail}" for depth in (1, 2, 3, 4)]
    return [
        place,
        f"/{place}",
        f"file://{place}",
        f"C:\\{relative}",
        f"\\\\host\\{relative}",
        f"{'../' * 12}{relative}",
        *dots,
        *[each.replace("/", "\\") for each in dots[:2]],
        *[each.replace("../", "..././") for each in dots[:2]],
        *[each.replace("../", "....//") for each in dots[:2]],
        *[each.replace("../", "..//") for each in dots[:2]],
        *[each.replace("../", "./../") for each in dots[:2]],
        *[quote(each, safe="") for each in dots[:2]],
        *[quote(quote(each, safe=""), safe="") for each in dots[:2]],
        *[each.replace("../", "%2e%2e/") for each in dots[:2]],
        *[each.replace("../", "%c0%ae%c0%ae/") for each in dots[:1]],
        *[each.replace("../", "%252e%252e%252f") for each in dots[:1]],
        *[each.replace(".", "\uff0e") for each in dots[:1]],  # fullwidth full stop
        *[each.replace("/", "\u2215") for each in dots[:1]],  # division slash
        *[each.replace("/", "\u2044") for each in dots[:1]],  # fraction slash
        dots[1] + "\0",
        dots[1] + "\0.jsonl",
        "\0" + dots[1],
        f"{dots[1]}.",
        f"{dots[1]}/.",
        f"{dots[1]}\n",
        f" {dots[1]}",
        f"~/{tail}",
        f"~root/{tail}",
        f"$HOME/{tail}",
        f"{dots[1]}@40",
        "..",
        ".",
        "",
        "...",
        ".hidden",
        ".trash",
        ".background",
        "a" * 5000,
        "../" * 5000,
        "\u202egnp.txt",
        "\ud7ff\U0001f600" * 50,
        "CON",
        "-rf",
        "--help",
        "runs\r\nSet-Cookie: a=b",
    ]


SHELL = [
    "$(touch {marker})",
    "`touch {marker}`",
    "; touch {marker}",
    "| touch {marker}",
    "&& touch {marker}",
    "\n touch {marker}",
    "'; touch {marker}; '",
    '"; touch {marker}; "',
    "${{IFS}}touch${{IFS}}{marker}",
    ">{marker}",
    "a\\'b $(touch {marker})",
    "!! * ? ~ # {{a,b}} [x]",
    "--set seed=1 --runs-dir /",
]

# An element of each would be found in the page, and each would set `window.owned` where it is not shown as text.
HTML = [
    "<img src=x onerror='window.owned=1' class=planted>",
    "<script class=planted>window.owned=1</script>",
    "</script><script class=planted>window.owned=1</script>",
    "\"><svg onload='window.owned=1' class=planted>",
    "<a class=planted href='javascript:window.owned=1'>click</a>",
    "<iframe class=planted srcdoc='<script>parent.owned=1</script>'></iframe>",
    "<b class=planted>bold</b>",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "[click](javascript:window.owned=1)",
]

FORMULAS = ["=cmd|'/C calc'!A0", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1"]
