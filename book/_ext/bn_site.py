"""Send the theme's icons once.

The theme sends Font Awesome twice: as a web font (153 KiB) and as a script that draws the same icons (531 KiB
compressed). `static/scripts/fontawesome.js` takes the script's place and does nothing.
"""

from pathlib import Path


def add_static_files(app):
    app.config.html_static_path.append(str(Path(__file__).with_name("static")))


def setup(app):
    app.connect("builder-inited", add_static_files)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
