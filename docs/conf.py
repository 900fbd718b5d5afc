"""Sphinx's configuration; `make docs` builds the site, and a warning is an error."""

import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import api_pages  # noqa: E402
import cli_pages  # noqa: E402
import configuration_pages  # noqa: E402
import drawings  # noqa: E402

project = "labelassemble"
author = "labelassemble contributors"
copyright = "labelassemble contributors"
version = release = version_of("labelassemble")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_ext", "_generated/*"]
default_role = "literal"
smartquotes = False  # -- begins an option

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False

html_theme = "furo"
html_title = f"labelassemble {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

# Written anew at each build, from the code that they describe.
GENERATED = HERE / "_generated"
GENERATED.mkdir(exist_ok=True)
(GENERATED / "configuration.md").write_text(configuration_pages.render(), encoding="utf-8")
(GENERATED / "cli.md").write_text(cli_pages.render(), encoding="utf-8")
(GENERATED / "api.rst").write_text(api_pages.render(), encoding="utf-8")
drawings.write_all(GENERATED)


def _escape_stars(_app: Any, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Keep [B, C, *spatial] from being read as emphasis, which our docstrings do not use."""
    for index, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[index] = re.sub(r"(?<![*\w`])\*(?=\w)", r"\\*", line)


def setup(app: Any) -> None:
    """Register what reads the docstrings before napoleon does, and a CSV as plain text."""
    app.add_lexer("csv", TextLexer)
    app.connect("autodoc-process-docstring", _escape_stars, priority=100)
