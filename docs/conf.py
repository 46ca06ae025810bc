"""Sphinx configuration."""

import os

# Executed code shows its own output, not TensorFlow's log.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

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
# The page of evidence waits for the full runs of benchmarks/evidence_*.py.
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"tfpes {version}"

myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
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
