"""The templates of the pages, and how they are filled."""

from functools import cache

import jinja2

from labelassemble.report.format import (
    breakable,
    cosine,
    count_text,
    difference,
    duration,
    interval_text,
    number,
    p_text,
    percent,
    signed,
    with_interval,
)
from labelassemble.report.plots import strip_ticks
from labelassemble.report.subgroups import gap_sentences
from labelassemble.report.text import cautions, leakage_sentences


def page(template: str, **values: object) -> str:
    """Return a page: a template of this package, filled. Every text is escaped."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("labelassemble.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number,
        percent=percent,
        interval=interval_text,
        count=count_text,
        duration=duration,
        p=p_text,
        signed=signed,
        cosine=cosine,
        cautions=cautions,
        breakable=breakable,
        sentences=leakage_sentences,
        gaps=gap_sentences,
    )
    environment.globals.update(
        strip_ticks=strip_ticks,
        with_interval=with_interval,
        difference=difference,
    )
    return environment
