"""The one Jinja2 environment, and how numbers are written in it.

A value in a template goes through a rule of `escaping.py`, named as a filter; a test reads the templates and refuses
one that does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from audit_dagster import escaping
from audit_dagster.errors import AuditError, ConfigurationError
from audit_dagster.settings import chosen_templates_dir

if TYPE_CHECKING:
    from jinja2 import Environment
    from jinja2.compiler import CodeGenerator

_PACKAGE = Path(__file__).parent
_PIECES_AT_ONCE = 1000
_MARKUP = ("html", "html_block", "html_facts", "href")  # the filters that give Markup


def templates_dir() -> Path:
    """The wheel carries the templates inside the package; a checkout has them beside it."""
    inside = _PACKAGE / "templates"
    return inside if inside.is_dir() else _PACKAGE.parent / "templates"


def environment() -> Environment:
    """The environment of every document: unknown names are errors, HTML is escaped, filters are `escaping.py`.

    Files of AUDIT_TEMPLATES_DIR win over the shipped ones of that name. Raises ConfigurationError where it is none.
    """
    own = chosen_templates_dir()
    if own is not None and not own.is_dir():
        raise ConfigurationError(f"AUDIT_TEMPLATES_DIR is '{own}': set it to a folder that exists")
    return environment_of(own)


@cache
def environment_of(own: Path | None) -> Environment:
    """The same with a lab's own folder, or with the shipped templates alone."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    made = Environment(
        loader=FileSystemLoader([*([own] if own else []), templates_dir()]),
        undefined=StrictUndefined,
        autoescape=select_autoescape(enabled_extensions=("html", "html.j2")),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.concat = _joined  # type: ignore[method-assign]
    made.code_generator_class = _code_generator()
    made.filters.update(
        md=escaping.markdown_text,
        md_code=escaping.markdown_code,
        md_facts=escaping.markdown_facts,
        json_comment=escaping.json_comment,
        sh=escaping.shell_word,
        sh_words=escaping.shell_words,
        sh_flag=escaping.shell_flag_value,
        sh_flags=escaping.shell_flag_values,
        sh_comment=escaping.shell_comment,
        html=escaping.html_text,
        html_block=escaping.html_block,
        html_facts=escaping.html_facts,
        href=escaping.html_href,
        script_hash=escaping.script_hash,
        number=number,
        percent=percent,
        seconds=seconds,
        duration=duration,
    )
    return made


def _code_generator() -> type[CodeGenerator]:
    """Jinja's own, but for what a rule has escaped: to look at that once more is a fifth of the time of a long page."""
    from jinja2 import nodes
    from jinja2.compiler import CodeGenerator

    def is_escaped(node: nodes.Expr) -> bool:
        return isinstance(node, nodes.Filter) and node.name in _MARKUP

    class Once(CodeGenerator):
        def _output_child_pre(self, node: nodes.Expr, frame: Any, finalize: Any) -> None:
            if not is_escaped(node):
                super()._output_child_pre(node, frame, finalize)

        def _output_child_post(self, node: nodes.Expr, frame: Any, finalize: Any) -> None:
            if not is_escaped(node):
                super()._output_child_post(node, frame, finalize)

    return Once


def render(template: str, **values: Any) -> str:
    """Fill `templates/<template>`. Raises AuditError that names file and line where a lab's own template is wrong."""
    with _told(template):
        return environment().get_template(template).render(**values)


def render_pieces(template: str, **values: Any) -> Iterator[str]:
    """As `render`, in pieces, for a document that is too long to be kept."""
    with _told(template):
        pieces = environment().get_template(template).generate(**values)
        yield from map("".join, _batches(pieces))


def compiled(template: str) -> None:
    """Raises AuditError as `render` does, where a template is no template."""
    with _told(template):
        environment().get_template(template)


@contextmanager
def _told(template: str) -> Iterator[None]:
    try:
        yield
    except (AuditError, MemoryError):
        raise
    except Exception as error:  # a template may do anything
        own = chosen_templates_dir()
        if own and isinstance(error, UnicodeDecodeError):
            raise AuditError(f"a template in {own} is not UTF-8: {template} needs it") from error
        if own and (place := _place_in(own, error)):
            raise AuditError(f"the template {place}: {' '.join(str(error).split()) or type(error).__name__}") from error
        raise


def _place_in(folder: Path, error: Exception) -> str | None:
    """FILE, line N: where in the folder's templates an error happened, None where it did not happen there."""
    from jinja2 import TemplateSyntaxError

    frames = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    if isinstance(error, TemplateSyntaxError):
        frames = [(error.filename or "", error.lineno)]
    places = [f"{name}, line {line}" for name, line in frames if Path(name).is_relative_to(folder)]
    return places[-1] if places else None


def _joined(pieces: Iterable[str]) -> str:
    """A long document has half a million pieces, which take three times its own memory where all are kept at once."""
    return "".join(map("".join, _batches(pieces)))


def _batches(pieces: Iterable[str]) -> Iterator[list[str]]:
    left = iter(pieces)
    return iter(lambda: list(islice(left, _PIECES_AT_ONCE)), [])


def number(value: float) -> str:
    """15,420"""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def change(now: float, before: float) -> str:
    """+1,225.0%, -10.0%; `before` is not zero."""
    return f"{100 * (now - before) / before:+,.1f}%"


def percent(part: int, whole: int) -> str:
    """91.7%; a dash of nothing."""
    return f"{100 * part / whole:.1f}%" if whole else "\u2013"


def size(value: int) -> str:
    """999 B, 1.5 kB, 20.0 MB"""
    amount, unit = float(value), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 999.95:
            break
        amount, unit = amount / 1000, larger
    return f"{value:,} B" if unit == "B" else f"{amount:,.1f} {unit}"


def seconds(value: float | None) -> str:
    """45.7s; milliseconds below one second; `unknown` where nobody measured."""
    if value is None:
        return "unknown"
    return f"{value:,.1f}s" if value >= 1 else f"{value:.3f}s"


def duration(value: float | None) -> str:
    """< 1 ms, 250 ms, 45.7 s, 1 min 10 s, 1 h 7 min; `unknown` where nobody measured."""
    if value is None:
        return "unknown"
    if value > 0 and not round(1000 * value):
        return "< 1 ms"
    if value < 0.9995:
        return f"{1000 * value:.0f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(value / 60)
    return f"{minutes // 60:,} h {minutes % 60} min"
