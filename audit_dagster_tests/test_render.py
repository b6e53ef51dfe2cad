"""The escaping rules hold for any text, and no template forgets one."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import unicodedata
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2 import Environment, nodes

from audit_dagster.escaping import (
    file_name,
    json_comment,
    markdown_block,
    markdown_code,
    shell_comment,
    shell_flag_value,
    shell_word,
    visible,
)
from audit_dagster.render import duration, environment, number, percent, seconds, size, templates_dir

ANY_TEXT = st.text(alphabet=st.characters() | st.characters(categories=["Cs"]))
LOOK_ALIKES = [
    *(
        "",
        ".",
        "..",
        "a",
        "A",
        "a.",
        "a..",
        ".a",
        "~",
        "~~",
        "~a",
        "a b",
        "a_b",
        "a-b",
        "a/b",
        "a\\b",
        "a\0",
        "a\n",
        "a~",
    ),
    *(
        "con",
        "CON",
        "~con",
        "con.md",
        "com1",
        "lpt9",
        "com",
        "nul.",
        "aux",
        "prn ",
        "ab.",
        "\u00ab.",
        "41.",
        "A.",
        "~41.",
    ),
    *("é", "e\u0301", "É", "ß", "ss", "\ufb01", "fi", "\u0130", "i\u0307", "i", "\u0131", "\u017f", "s"),
    *("\u212a", "K", "k", "\u212b", "Å", "A\u030a", "…", "..."),
    *("\ud800", "?", "\ufffd", "x" * 99, "x" * 100, "x" * 101, "X" * 100, "x" * 100 + "~", "x" * 200, "x" * 199 + "y"),
    *("é" * 33, "é" * 34, "e\u0301" * 34, "." * 100, "." * 101, "con." + "x" * 100, "con." + "x" * 99 + "."),
]
TEXTS = st.lists(st.one_of(ANY_TEXT, st.sampled_from(LOOK_ALIKES), st.text("aA.~é_-cCoOnN41 /")), max_size=8)


# ---- File names ----


def as_file_systems_see(name: str) -> set[str]:
    forms = {unicodedata.normalize(form, name) for form in ("NFC", "NFD", "NFKC", "NFKD")}
    return {form.casefold() for form in forms}


def assert_names_differ(texts: list[str]) -> None:
    names = {text: file_name(text) for text in texts}
    for one, other in combinations(names, 2):
        assert as_file_systems_see(names[one]).isdisjoint(as_file_systems_see(names[other])), (one, other)


@given(TEXTS)
@example(LOOK_ALIKES)
def test_different_texts_have_different_file_names(texts: list[str]) -> None:
    assert_names_differ(texts)
    # What a name becomes is a text too: no text's name is what another text's name was made of.
    assert_names_differ([*texts, *(name for name in map(file_name, texts) if name not in texts)])


def test_short_texts_have_different_file_names() -> None:
    alphabet = "aA.~4é"
    texts = [first + second + third for first in alphabet for second in alphabet for third in ("", *alphabet)]
    assert_names_differ(texts)


@given(ANY_TEXT | st.sampled_from(LOOK_ALIKES) | st.text(min_size=90, max_size=130))
def test_file_names_are_safe(text: str) -> None:
    name = file_name(text)
    assert re.fullmatch(r"[a-z0-9_.~-]{1,100}", name)
    assert not re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)", name.split(".")[0])
    assert name not in {".", ".."}
    assert not name.startswith(".")
    assert name == file_name(text)


def test_file_names_do_not_end_in_a_dot() -> None:
    """Windows drops it, and two names become one."""
    assert [text for text in ("a.", "a..", ".", "..", "con.", "A.") if file_name(text).endswith(".")] == []


@pytest.mark.parametrize("text", ["sensing-data", "gridded_data", "v2.1", "x" * 100])
def test_ordinary_names_stay(text: str) -> None:
    assert file_name(text) == text


# ---- Shell ----

SHELL_TEXTS = [
    *(
        "",
        "plain",
        "Winter Turf - v3",
        "a'b",
        'a"b',
        "a`id`b",
        "$(id)",
        "${HOME}",
        "$HOME",
        "a\\b",
        "\\",
        "a\\",
        "!!",
        "a!b",
    ),
    *(
        "a\nb",
        "\n",
        "\n\n",
        "a\r\nb",
        "\t",
        " a ",
        "*",
        "?",
        "~",
        "~root",
        "[a]",
        "{a,b}",
        "a;b",
        "a|b",
        "a&b",
        "#a",
        "-n",
    ),
    *(
        "--",
        "-e \\n",
        "%s",
        "°",
        "日本",
        "\u202e",
        "\x1b[31m",
        "\x07",
        "\x7f",
        "e\u0301",
        "a" * 5000,
        '"$(id)"',
        "'$(id)'",
    ),
    *("$'\\n'", "\\n", "a\\\nb", "<(id)", "((1))", "=", "a=b", "\ufeff", "\x80", "\x01\x02"),
]


def in_bash(words: list[str]) -> list[str]:
    """What bash makes of words, in one call."""
    script = "printf '%s\\0' " + " \\\n".join(words) + "\n"
    done = subprocess.run(["bash"], input=script.encode(), capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode().split("\0")[:-1]


SHELL_SAFE = st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
SHELL_SAFE |= st.text(alphabet="\"'`$\\!\n a{}()*~#-%")


@settings(max_examples=15)
@given(st.lists(SHELL_SAFE, min_size=1, max_size=60))
@example(SHELL_TEXTS)
def test_shell_words_come_back_from_bash(texts: list[str]) -> None:
    assert in_bash([shell_flag_value(text) for text in texts]) == texts
    assert in_bash([shell_word(text) for text in texts]) == texts
    assert (
        in_bash([f"{shell_word(text)} # {shell_comment(text)}\nprintf '%s\\0' ''" for text in texts[:1]])[0] == texts[0]
    )


def test_flag_values_look_as_people_write_them() -> None:
    assert shell_flag_value("Winter Turf - v3") == '"Winter Turf - v3"'
    assert shell_flag_value(4) == '"4"'
    assert shell_flag_value("a$b") == "'a$b'"


@given(ANY_TEXT)
def test_a_shell_comment_is_one_line(text: str) -> None:
    comment = shell_comment(text)
    assert "\n" not in comment
    assert shlex.split(f"# {comment}\nnext", comments=True) == ["next"]


# ---- Terminal, CSV, Markdown, HTML comments ----

BIDI = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x061C, 0x200E, 0x200F}


@given(ANY_TEXT)
@example("".join(map(chr, range(0x2100))))
@example("".join(map(chr, (0xFEFF, 0xD800, 0xDFFF, 0x1F642))))
def test_visible_hides_nothing(text: str) -> None:
    shown = visible(text)
    assert not [character for character in shown if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}]
    assert not BIDI & set(map(ord, shown))
    assert len(shown.splitlines()) <= 1
    assert visible(shown) == shown
    shown.encode("utf-8")


@pytest.mark.parametrize("text", ["Winter Turf - v3", "20 °C", "日本語", "🙂", "e\u0301", "a\u00a0b"])
def test_visible_leaves_ordinary_text(text: str) -> None:
    assert visible(text) == text


@given(st.recursive(ANY_TEXT | st.none() | st.integers(), lambda inner: st.dictionaries(ANY_TEXT, inner, max_size=3)))
@example({"--><!--": "--!>"})
def test_a_json_comment_is_the_same_json_and_cannot_end_its_comment(value: object) -> None:

    text = json_comment({"value": value})
    assert json.loads(text) == {"value": value}
    assert not re.search(r"--|[<>\n\r]", text)


@pytest.mark.parametrize("text", ["", "a", "`", "``a`", "a`b``c```d", "```\nx\n```", "a\nb"])
def test_code_is_not_ended_by_what_it_holds(text: str) -> None:
    longest = max(map(len, re.findall("`+", text)), default=0)
    for made in (markdown_code(text), markdown_block(text, "bash")):
        fence = re.match("`+", made)
        assert fence
        assert len(fence[0]) > longest
        assert made.endswith(fence[0])
    assert "\n" not in markdown_code(text)


def test_numbers() -> None:
    assert [number(value) for value in (0, 15420, 1234567, 1234.56)] == ["0", "15,420", "1,234,567", "1,234.6"]
    assert [percent(11, 12), percent(1, 12), percent(0, 0), percent(1, 1)] == ["91.7%", "8.3%", "\u2013", "100.0%"]
    assert [seconds(value) for value in (45.7, 0.25, 0.0, 1234.56, None)] == [
        *("45.7s", "0.250s", "0.000s", "1,234.6s", "unknown")
    ]
    short, long = (None, 0.0, 0.25, 0.9996, 45.7), (59.96, 3599.4, 3599.6, 4000.0, 3_600_000.0)
    assert [duration(value) for value in short] == ["unknown", "0 ms", "250 ms", "1.0 s", "45.7 s"]
    assert [duration(value) for value in (1e-9, 0.0004, 0.0005, 0.0006)] == ["< 1 ms", "< 1 ms", "< 1 ms", "1 ms"]
    assert [duration(value) for value in long] == [
        *("1 min 0 s", "59 min 59 s", "1 h 0 min", "1 h 7 min", "1,000 h 0 min")
    ]
    assert [size(value) for value in (0, 999, 1000, 999_949, 999_950, 20_000_000, 5 * 10**15)] == [
        *("0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "20.0 MB", "5,000.0 TB")
    ]


# ---- Templates ----

RULES = {
    ".md.j2": {"md", "md_code", "md_facts", "json_comment", "number", "percent", "seconds", "duration"},
    ".html.j2": {"html", "html_block", "html_facts", "href", "script_hash", "number", "percent", "seconds", "duration"},
    ".sh.j2": {"sh", "sh_words", "sh_flag", "sh_flags", "sh_comment"},
}
TEMPLATES = sorted(path for path in templates_dir().iterdir() if path.name.endswith(".j2"))


def unescaped(source: str, rules: set[str]) -> Iterator[str]:
    """The expressions of a template whose value reaches the text without a rule."""
    for output in environment().parse(source).find_all(nodes.Output):
        for expression in output.nodes:
            if not (isinstance(expression, nodes.TemplateData) or is_escaped(expression, rules)):
                yield f"line {expression.lineno}: {expression}"


def is_escaped(expression: nodes.Node, rules: set[str]) -> bool:
    match expression:
        case nodes.Const():
            return True
        case nodes.CondExpr():
            return expression.expr2 is not None and all(
                is_escaped(part, rules) for part in (expression.expr1, expression.expr2)
            )
        case nodes.Or():
            return is_escaped(expression.left, rules) and is_escaped(expression.right, rules)
        case nodes.Filter(name="join"):
            return is_escaped_list(expression.node, rules) and all(isinstance(a, nodes.Const) for a in expression.args)
        case nodes.Filter():
            return expression.name in rules
    return False


def is_escaped_list(expression: nodes.Node | None, rules: set[str]) -> bool:
    """`names|map("md")`"""
    match expression:
        case nodes.Filter(name="map", args=[nodes.Const(value=name)]):
            return name in rules
    return False


def rules_of(name: str) -> set[str]:
    return next(rules for suffix, rules in RULES.items() if name.endswith(suffix))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_value_in_a_template_has_its_rule(path: Path) -> None:
    assert list(unescaped(path.read_text("utf-8"), rules_of(path.name))) == []


def test_text_in_a_page_is_escaped_once() -> None:
    rules = ("html", "html_block", "href")
    source = "".join(f"{{{{ x|{rule} }}}} " for rule in rules) + "{{ x }}{% set y = x|html %}{{ y }}{{ x|md }}"
    page = environment().from_string(f"{{% autoescape true %}}{source}{{% endautoescape %}}")
    once = "&lt;&amp;&gt;"
    assert page.render(x="<&>") == f"{once} {once} %3C%26%3E {once}{once}&amp;lt;&amp;&amp;gt;"
    assert environment().from_string("{{ x|html }}").render(x="<&>") == once, "without autoescape, too"


def test_every_rule_is_a_filter_of_the_environment() -> None:
    assert set().union(*RULES.values()) <= set(environment().filters)
    ours = set(environment().filters) - set(Environment(autoescape=True).filters)
    assert ours == set().union(*RULES.values())


@pytest.mark.parametrize(
    "source",
    [
        *("{{ x }}", "{{ x|upper }}", "{{ x|md|upper }}", "{{ x if y else 'a' }}", "{{ x|md if y }}", "{{ x|md ~ y }}"),
        *("{{ x|join(', ') }}", "{{ x|map('upper')|join }}", "{{ x|map('md')|join(y) }}", "{{ x|md or y }}"),
        *(
            "{% for a in b %}{{ a }}{% endfor %}",
            "{% if a %}{{ b }}{% endif %}",
            "{{ x|sh }}",
            "{{ x|safe }}",
            "{{ f(x) }}",
        ),
    ],
)
def test_the_checker_finds_what_has_no_rule(source: str) -> None:
    assert len(list(unescaped(source, RULES[".md.j2"]))) == 1


@pytest.mark.parametrize(
    "source",
    [
        *(
            "{{ x|md }}",
            "{{ x|upper|md }}",
            "{{ 'a' if x else 'b' }}",
            "{{ x|map('md')|join(', ') or 'none' }}",
            "text",
        ),
        *("{{ (x or 'none')|truncate(300)|md }}", "{{ (a - b)|percent(a) }}", "{{ x|md if x else '' }}"),
    ],
)
def test_the_checker_accepts_what_has_its_rule(source: str) -> None:
    assert list(unescaped(source, RULES[".md.j2"])) == []
