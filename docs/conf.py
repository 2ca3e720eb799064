"""How Sphinx builds these pages: ``tools/docs`` runs it."""

project = "pyxenevtchn"
project_copyright = "the pyxenevtchn authors"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
]
exclude_patterns = ["_build"]
default_role = "code"  # the commands' help quotes with single backticks
smartquotes = False  # options start with two dashes
nitpicky = True
# Python's own types are not described here, and no other site is asked for them.
nitpick_ignore_regex = [("py:.*", r"(?!pyxenevtchn).*")]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "pyxenevtchn"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_show_sphinx = False
