"""The site: `make docs`. Its root is the repository, so that links between pages are those that a
code host follows too."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import minigpt  # noqa: E402
import weights  # noqa: E402
from recipes import play  # noqa: E402

project, author = "minigpt-interp", "the minigpt-interp authors"
version = release = minigpt.__version__
root_doc = "docs/index"
include_patterns = [
    *("README.md", "TERMS.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/*.md"),
    *("docs/**", "weights/ioi_mini/README.md", "tests/MUTANTS.md"),
]
exclude_patterns = ["docs/conf.py", "docs/play", "**/.ipynb_checkpoints"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton"]

# Lessons are texts, run when the site is made; one that fails, fails the site.
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build" / "lessons")
nb_execution_timeout = 180
nb_execution_raise_on_error = True
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

html_theme = "sphinx_book_theme"
html_title = "minigpt-interp"
html_theme_options = {
    "show_navbar_depth": 2,
    "home_page_in_toc": True,
    "use_download_button": False,
    "navbar_persistent": [],
}
html_copy_source = False


def plain(_app, _what, _name, _obj, _options, lines):
    """Docstrings here are sentences, not reStructuredText: what it would take for marks is text."""
    for i, line in enumerate(lines):
        text = re.sub(r"`+([^`]+)`+", "\0\\1\0", line)
        text = re.sub(r"([*|\\])", r"\\\1", text)
        text = re.sub(r"(\w)_(?=\W|$)", r"\1\\_", text)
        lines[i] = text.replace("\0", "``")


def with_the_model(app, error):
    """The page in which the model runs."""
    if error is None and app.builder.format == "html":
        play.write(Path(app.outdir) / "play", weights.load(play.MODEL))


def setup(app):
    """Docstrings as they are written, and a page that is no text."""
    app.connect("autodoc-process-docstring", plain)
    app.connect("build-finished", with_the_model)
