"""Pages of HTML from templates. Text of documents and models is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render_page(template: Path, **values: object) -> str:
    """Return the page of a template. It may include templates of its own folder and of this module's.

    Raises:
        jinja2.UndefinedError: the template uses a name that `values` lacks.
    """
    return _environment(template.parent).get_template(template.name).render(**values)


@cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["duration"] = _duration
    return environment


def _duration(seconds: float) -> str:
    """Return seconds as text.

    >>> _duration(95), _duration(7260)
    ('1 min 35 s', '2 h 01 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
