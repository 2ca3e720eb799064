"""How Sphinx builds these pages: ``tools/docs`` runs it."""

import re

from sphinx.application import Sphinx

project = "pyxenevtchn"
project_copyright = "the pyxenevtchn authors"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
]
default_role = "code"  # the commands' help quotes with single backticks
smartquotes_action = "D"
nitpicky = True
# Python's own types have no page here, and no other site is searched for them.
nitpick_ignore_regex = [("py:.*", r"(?!pyxenevtchn).*")]

autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "pyxenevtchn"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_show_sphinx = False
pygments_dark_style = "github-dark"


def set_help(_app: Sphinx, _context: object, lines: list[str]) -> None:
    """Format as code the options in a command's help, and the text that click does not wrap."""
    pieces = re.split(r"((?:^\|.*\n?)+)", "\n".join(lines), flags=re.MULTILINE)
    pieces[1::2] = [
        "::\n\n" + re.sub(r"^\| ?", "    ", piece, flags=re.MULTILINE) for piece in pieces[1::2]
    ]
    pieces[::2] = [
        re.sub(r"(`[^`]*`|\.\. option::.*)|(--[a-z][\w-]*)", _set_option, piece)
        for piece in pieces[::2]
    ]
    lines[:] = "".join(pieces).split("\n")


def _set_option(match: re.Match[str]) -> str:
    return match[1] or f"``{match[2]}``"


def setup(app: Sphinx) -> None:
    """Register set_help for the parts of a command's help."""
    for part in ("description", "options", "epilog"):
        app.connect(f"sphinx-click-process-{part}", set_help)
