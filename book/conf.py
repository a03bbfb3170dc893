"""Sphinx's settings for the book; `mtlcourse.course.book.build` puts the pages beside this file first."""

from mtlcourse import __version__

project, author, release = "mtlcourse", "The mtlcourse contributors", __version__
copyright = author
extensions = ["myst_nb", "sphinx_copybutton", "mtlcourse.course.book.mathml"]
html_theme = "pydata_sphinx_theme"
html_title = "Multi-task learning that does not hurt"
html_static_path, html_css_files = ["_static"], ["book.css"]
html_math_renderer = "mathml"
html_copy_source = html_show_sourcelink = html_show_sphinx = False
html_show_search_summary = False  # a browser lets no page read another file, so results are titles
html_permalinks_icon = "#"
html_context = {"default_mode": "auto"}  # light or dark as the reader's system has it
language = "en"

nb_execution_mode = "off"  # what is shown is what ran before
nb_ipywidgets_js: dict = {}  # live widgets need a kernel; a slider's states are pictures here
nb_merge_streams = True
nb_render_markdown_format = "myst"  # outputs in Markdown have tables and formulas, as lessons have
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors, myst_heading_slug_func = 3, "mtlcourse.course.book.build.anchor"
suppress_warnings = ["misc.highlighting_failure", "mystnb.unknown_mime_type"]
copybutton_exclude = ".linenos, .gp, .go"

html_theme_options = {
    "logo": {"text": "mtlcourse"}, "navigation_with_keys": False, "show_nav_level": 1,
    "header_links_before_dropdown": 5,
    "navbar_align": "left", "secondary_sidebar_items": ["page-toc"], "show_prev_next": True,
    "footer_start": ["copyright"], "footer_end": [], "article_header_start": ["breadcrumbs"],
    "pygments_light_style": "a11y-high-contrast-light", "pygments_dark_style": "a11y-high-contrast-dark",
}


def setup(app):
    """Tables that scroll can be scrolled by keyboard, too."""
    box = '<div class="pst-scrollable-table-container"'

    def reachable(app, pagename, templatename, context, doctree):
        context["body"] = context.get("body", "").replace(f"{box}>", f'{box} tabindex="0">')

    app.connect("html-page-context", reachable)
