"""Sphinx configuration."""

import os

# Executed code shows its own output, not TensorFlow's log.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

import tfpes

project = "tfpes"
author = "The tfpes developers"
copyright = f"2026, {author}"
version = release = tfpes.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_math_renderer = "mathml"
html_title = f"tfpes {version}"

myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_render_markdown_format = "myst"  # tables too
nb_output_stderr = "remove"
suppress_warnings = ["mystnb.unknown_mime_type"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}
napoleon_attr_annotations = False
napoleon_custom_sections = [("Call arguments", "params_style")]
nitpick_ignore_regex = [
    # Types of other projects: their inventories would need the network.
    ("py:.*", r"(keras|tensorflow|tf|numpy|np|ase|rich|collections|pathlib|os)\..*"),
    ("py:.*", r"(Any|NDArray|Mapping|Sequence|Iterable|ArrayLike|Fraction|Path)"),
    ("py:.*", r"(keras\.src|optional|callable|dict|tuple|list)\b.*"),
]


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _displayed(translator: Any, node: nodes.math_block) -> None:
    formula = convert(node.astext(), display="block")
    translator.body.append(f'<div class="math">{formula}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Write formulas as browsers read them: no script, nothing from the network."""
    app.add_html_math_renderer("mathml", (_inline, None), (_displayed, None))
