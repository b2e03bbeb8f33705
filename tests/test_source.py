"""`bnbook.source`: what the page shows is what the file says."""

import inspect

import pytest

from bnbook import source
from bnbook.foundations.forward import BatchNorm, batch_norm


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    monkeypatch.setattr(source, "display", lambda data, raw: outputs.append(data))
    return outputs


@pytest.mark.parametrize("thing", [batch_norm, BatchNorm, BatchNorm.forward])
def test_shows_the_text_of_the_file(shown, thing):
    source.show_source(thing)
    (output,) = shown
    with open(inspect.getsourcefile(thing), encoding="utf-8") as file:
        assert output["text/plain"] in file.read()
    assert output["text/plain"].lstrip().startswith((f"def {thing.__name__}(", f"class {thing.__name__}("))
    assert output["text/plain"] == output["text/plain"].rstrip()


def test_page_gets_it_as_a_block_of_python(shown):
    source.show_source(batch_norm)
    assert shown[0]["text/markdown"] == f"```python\n{shown[0]['text/plain']}\n```"


def test_shows_several_in_the_given_order(shown):
    source.show_source(batch_norm, BatchNorm)
    assert [output["text/plain"].split("(")[0] for output in shown] == ["def batch_norm", "class BatchNorm"]


def test_follows_a_change_of_the_file(shown, tmp_path):
    path = tmp_path / "made_up.py"
    for body in ("return 1", "return 2"):
        path.write_text(f"def f():\n    {body}\n", encoding="utf-8")
        space = {}
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), space)
        source.show_source(space["f"])
    assert [output["text/plain"][-1] for output in shown] == ["1", "2"]


def test_a_fence_inside_the_source_does_not_end_the_block(shown, tmp_path):
    path = tmp_path / "fenced.py"
    path.write_text('def g():\n    """Use\n\n```\nlike this\n```\n"""\n', encoding="utf-8")
    space = {}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), space)
    source.show_source(space["g"])
    assert shown[0]["text/markdown"].splitlines()[0] == "````python"
    assert shown[0]["text/markdown"].splitlines()[-1] == "````"


@pytest.mark.parametrize("thing", [len, 3, "batch_norm"])
def test_refuses_what_has_no_source(shown, thing):
    with pytest.raises(TypeError):
        source.show_source(thing)
    assert shown == []


def test_shows_nothing_if_one_of_several_has_no_source(shown):
    with pytest.raises(TypeError):
        source.show_source(batch_norm, len)
    assert shown == []
