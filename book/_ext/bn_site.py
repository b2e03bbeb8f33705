"""Two corrections to how the site is put together.

The theme sends Font Awesome twice: as a web font (153 KiB) and as a script that draws the same icons (531 KiB
compressed). `static/scripts/fontawesome.js` takes the script's place and does nothing.

Sphinx copies a changed style sheet only when a page changed too; here it renders the pages anew.
"""

from pathlib import Path


def add_static_files(app):
    """Let our static files come last, so that they replace the theme's."""
    app.config.html_static_path.append(str(Path(__file__).with_name("static")))


def outdated_pages(app, env, added, changed, removed):
    """Name all pages if a static file of the book differs from its copy in the rendered site."""
    source, copies = Path(app.srcdir, "_static"), Path(app.outdir, "_static")
    for path in source.rglob("*"):
        copy = copies / path.relative_to(source)
        if path.is_file() and not (
            copy.is_file() and copy.read_bytes() == path.read_bytes()
        ):
            return list(env.found_docs)
    return []


def setup(app):
    """Register both."""
    app.connect("builder-inited", add_static_files)
    app.connect("env-get-outdated", outdated_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
