"""How Sphinx builds the documentation: ``make docs``."""

import inspect
import sys
from importlib import import_module
from pathlib import Path

import sklearn_torch_gmm

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "sklearn-torch-gmm"
author = "The sklearn-torch-gmm developers"
project_copyright = author
version = release = sklearn_torch_gmm.__version__

extensions = [
    "mathml",
    "inherited_sources",
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "numpydoc",
    "outcomes",
    "signatures",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
# An unresolved reference is a warning, and warnings are errors.
nitpicky = True

# -- pages ----------------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"
copybutton_exclude = ".linenos, .gp, .go"

# -- the reference --------------------------------------------------------------------------------

autosummary_generate = True
# The link in an estimator's HTML representation is made of the module that its class is in.
autosummary_filename_map = {
    "sklearn_torch_gmm.mixture.BayesianGaussianMixture": (
        "sklearn_torch_gmm.bayesian_mixture.BayesianGaussianMixture"
    ),
    "sklearn_torch_gmm.GaussianMixture": "sklearn_torch_gmm.gaussian_mixture.GaussianMixture",
    "sklearn_torch_gmm.GaussianMixtureIC": "sklearn_torch_gmm.model_selection.GaussianMixtureIC",
}
autodoc_typehints = "none"
maximum_signature_line_length = 79


def properties_of(module: str, name: str) -> list[str]:
    """The documented properties of a class, which the template of its page asks for."""
    properties = inspect.getmembers(
        getattr(import_module(module), name), inspect.isdatadescriptor
    )
    return [
        n
        for n, value in properties
        if not n.startswith("_") and inspect.getdoc(value)
    ]


autosummary_context = {"properties_of": properties_of}
# A function in the context cannot be kept from one build to the next.
suppress_warnings = ["config.cache"]
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False

# The few names that the docstrings refer to. With the projects' own inventories a build would need
# the network, and fail with it.
intersphinx_mapping = {
    name: (address, f"inventories/{name}.inv")
    for name, address in {
        "lightning": "https://lightning.ai/docs/pytorch/stable/",
        "matplotlib": "https://matplotlib.org/stable/",
        "sklearn": "https://scikit-learn.org/stable/",
        "torch": "https://docs.pytorch.org/docs/stable/",
    }.items()
}

# -- plots and examples ----------------------------------------------------------------------------

# Each block of a Markdown page counts its plots from one: with several, each names its file
# (`:filename-prefix:`). A plot that two pages show has its code in docs/plots.
plot_formats = [("png", 120)]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_include_source = False
plot_rcparams = {"figure.constrained_layout.use": True, "font.size": 10}
plot_apply_rcparams = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "doc_module": ("sklearn_torch_gmm",),
    "reference_url": {"sklearn_torch_gmm": None},
    # The examples that use a class are listed on its page of the reference.
    "backreferences_dir": "gallery/backreferences",
    "download_all_examples": False,
    "show_memory": False,
    "write_computation_times": False,
    "show_signature": False,
    "remove_config_comments": True,
}

# -- the site -------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "sklearn-torch-gmm"
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_copy_source = False
html_show_sourcelink = False
html_context = {
    "github_user": "sklearn-torch-gmm",
    "github_repo": "sklearn-torch-gmm",
    "github_version": "main",
    "doc_path": "docs",
}
html_theme_options = {
    "github_url": "https://github.com/sklearn-torch-gmm/sklearn-torch-gmm",
    "logo": {
        "text": "sklearn-torch-gmm",
        "alt_text": "sklearn-torch-gmm, home page",
    },
    "header_links_before_dropdown": 6,
    "navigation_depth": 3,
    "show_toc_level": 2,
    "use_edit_page_button": True,
    # Pages that are generated during the build have no file to edit.
    "secondary_sidebar_items": {
        "*": ["page-toc", "edit-this-page"],
        "api/*": ["page-toc"],
        "gallery/*": ["page-toc", "sg_download_links"],
        "_modules/**": [],
    },
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version", "theme-version"],
}
# Pages without chapters need no list of them.
html_sidebars = {
    page: [] for page in ("index", "getting_started", "search", "genindex")
}
