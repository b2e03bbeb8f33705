"""The link checker finds what is broken on small made-up sites, and nothing on a sound one."""

import check_links
import pytest

SOUND = {
    "index.html": '<meta http-equiv="refresh" content="0; url=intro.html">',
    "intro.html": '<link rel="stylesheet" href="_static/a.css?v=1"><link rel="next" href="part/one.html">'
                  '<a href="part/one.html#eq%201">one</a> <a href="#top">top</a> <a href="">here</a>'
                  '<p id="top"></p>'
                  '<a href="https://example.org/elsewhere">out</a> <a href="mailto:a@example.org">write</a>'
                  '<img src="data:image/png;base64,AAAA"> <script>const url = "https://example.org/x.js"</script>',
    "part/one.html": '<a href="../intro.html">back</a> <h2 id="eq 1"></h2>'
                     '<img src="../_images/a.png" srcset="../_images/a.png 2x">',
    "_static/a.css": "/* url(nowhere.png) */ @font-face { src: url('a.woff2?v=3') } @import 'b.css';",
    "_static/b.css": "p { background: url(#gradient) }",
    "_static/a.woff2": "",
    "_images/a.png": "",
    "_sources/notes.html": '<a href="nowhere.html">not a page of the book</a>',
}


def make(folder, changed=None):
    for name, text in {**SOUND, **(changed or {})}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return check_links.check(folder)


def test_a_sound_site_has_no_problem(tmp_path):
    pages, checked, problems = make(tmp_path)
    assert problems == []
    assert (pages, checked) == (3, 15)


@pytest.mark.parametrize(("name", "text", "expected"), [
    ("a.html", '<a href="nowhere.html">', "a.html:1: nowhere.html: no such file"),
    ("a.html", '\n<a href="part/one.html#x">', "a.html:2: part/one.html#x: no anchor #x in part/one.html"),
    ("a.html", '<a href="#nothing">', "a.html:1: #nothing: no anchor #nothing in a.html"),
    ("a.html", '<a href="part/">', "a.html:1: part/: no such file"),
    ("a.html", '<a href="/intro.html">', "a.html:1: /intro.html: an absolute path"),
    ("a.html", '<a href="../../x">', "a.html:1: ../../x: leads out of the book"),
    ("a.html", '<a href="file:///x/y">', "a.html:1: file:///x/y: leads to a file of the machine"),
    ("a.html", '<meta http-equiv="Refresh" content="0; url=gone.html">', "a.html:1: gone.html: no such file"),
    ("a.html", '<script src="https://example.org/x.js"></script>', "a.html:1: https://example.org/x.js: is"),
    ("a.html", '<script src="//example.org/x.js"></script>', "a.html:1: //example.org/x.js: is loaded"),
    ("a.html", '<link rel="preload" href="https://example.org/f">', "https://example.org/f: is loaded"),
    ("a.html", '<p style="background: url(https://example.org/p)">', "https://example.org/p: is loaded"),
    ("a.html", "<style>@import 'https://example.org/p.css';</style>", "https://example.org/p.css: is loaded"),
    ("a.html", '<img src="lost.png" srcset="lost2.png 2x">', "a.html:1: lost2.png: no such file"),
    ("_static/b.css", "@font-face { src: url(https://example.org/f) }", "b.css: https://example.org/f: is"),
    ("_static/b.css", "p { background: url(lost.png) }", "_static/b.css: lost.png: no such file"),
])
def test_what_is_broken_is_named(tmp_path, name, text, expected):
    _, _, problems = make(tmp_path, {name: text})
    assert any(expected in problem for problem in problems), problems


def test_a_site_without_pages_fails_with_advice(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["check_links.py", str(tmp_path)])
    assert check_links.main() == 1
    assert "run `make book` first" in capsys.readouterr().out
