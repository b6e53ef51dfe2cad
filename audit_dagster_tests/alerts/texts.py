"""Incidents to write about, hostile texts to put into them, and how a reader sees the outcome."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

from audit_dagster.alerts.message import Failure, Incident, Links, Message, alert_message
from audit_dagster_tests.conftest import make_entry
from audit_dagster_tests.reproduction.test_script import HOSTILE as SHELL_TEXTS

CHICAGO = ZoneInfo("America/Chicago")
LINKS = Links("https://reports.example.org/audit", "https://dagster.example.org/")
FIRST, LAST = datetime(2023, 6, 15, 19, 30, 22, tzinfo=UTC), datetime(2023, 6, 15, 19, 40, 1, tzinfo=UTC)

MARKUP = r"""<b>x</b> <script>alert(1)</script> <img·src=x·onerror=alert(1)> </li></ul><h1>x</h1> <!--·x·-->
    <!DOCTYPE·x> <![CDATA[x]]>
    <?php·x?> &lt;b&gt; &amp;amp; &#60;b&#62; &copy; *x* **x** _x_ __x__ ~~x~~ `x` ``x` [x](javascript:x)
    ![x](http://e/x) [x]: [x][y] <http://e/> <a@b.c> #·x ##·x x·# x·## ##·x·## -·x +·x 1.·x >·x *** --- === |a|b|
    ↵#·x ↵↵#·x ↵---↵ ↵===↵ ↵↵·····x ↵```↵ x··↵y \* \\* \` x\ x\\ $x$ $$x$$ :smile: {{x}} {%·x·%} {#·x·#} @everyone
    x↵Bcc:·eve@example.org x\r↵Bcc:·eve@example.org \r↵\r↵body x\rBcc:·eve@example.org =?utf-8?q?x?= ↵.↵QUIT ↵.
    <U+202E> ␀ x␀y ␛[31mred ␛]0;title␇ \ud800""".replace("\\r", "\r").replace("\\ud800", "\ud800")
_SIGNS = str.maketrans({"·": " ", "↵": "\n", "␛": "\x1b", "␀": "\0", "␇": "\a"})
HOSTILE = list(dict.fromkeys([*SHELL_TEXTS, *(word.translate(_SIGNS) for word in MARKUP.split())]))


def incident_with(text: str, kind: str = "first seen") -> Incident:
    """`text` in every place that a message tells of."""
    old = make_entry(parameters={"p": 1, text: 0, "old": 5}, git_commit_hash="a")
    entry = make_entry(
        success=False,
        tool_name=text,
        operation=text,
        user_name=text,
        error_message=text,
        git_commit_hash=text,
        command=["tool", text],
        parameters={"p": text, text: 1, "old": 5},
    )
    return Incident(kind, "f", text, text, text, 1, FIRST, LAST, Failure(entry, old), {"Place": text})


def message_about(*texts: str) -> Message:
    return alert_message("k", [incident_with(text) for text in texts], LINKS, CHICAGO)


class Page(HTMLParser):
    """The elements of an HTML text in their order, and the texts that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str | None] = []
        self.strange: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name == "href"]
        self.strange += [name for name, _ in attrs if name != "href"]

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.strange.append(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def spaced(text: str) -> str:
    """What HTML leaves of white space."""
    return re.sub(r"[ \t\n]+", " ", text).strip()
