"""Settings of the site: `sphinx-build -W -c docs . build/site` in the checkout writes it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import attention_ref

project = "attention_ref"
version = release = attention_ref.__version__
project_copyright = "MIT license"

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb", "site_pages", "site_math"]
include_patterns = ["*.md", "docs/*.md", "notebooks/*.ipynb"]
root_doc = "README"
default_role = "code"
smartquotes_action = "D"

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_param = False
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"

html_theme = "furo"
html_title = "attention_ref"
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
