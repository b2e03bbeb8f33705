"""Images from folders that the tests write, and images made up on the fly."""

import numpy as np
import pytest
import torch
from PIL import Image

from bnbook.data.image_folder import (
    MEAN,
    STD,
    ImageFolder,
    centre_box,
    random_box,
)
from bnbook.data.synthetic_images import SyntheticImages


@pytest.fixture
def folder(tmp_path):
    """Two classes: three images of several modes and endings, and one."""
    rng = np.random.default_rng(0)
    for name, mode, shape in (
        ("owl/b.png", "RGB", (20, 30, 3)),
        ("owl/a.JPG", "L", (16, 16)),
        ("owl/c.jpeg", "RGB", (40, 16, 3)),
        ("ant/x.png", "RGBA", (9, 9, 4)),
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        values = rng.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(values, mode=None).convert(mode).save(path)
    (tmp_path / "owl" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "readme.txt").write_text("no class")
    return tmp_path


def test_hidden_files_and_folders_are_left_out(folder):
    (folder / "owl" / "._a.JPG").write_bytes(b"of macOS")
    (folder / "owl" / "z.jpg").mkdir()
    assert len(ImageFolder(folder, 8, train=False)) == 4


def test_sixteen_bits_are_scaled(tmp_path):
    (tmp_path / "owl").mkdir()
    values = np.linspace(0, 65535, 256).reshape(16, 16)
    for name, wide in (("a", values.astype(np.uint16)), ("b", values / 257)):
        wide = wide if name == "a" else np.round(wide).astype(np.uint8)
        Image.fromarray(wide).save(tmp_path / "owl" / f"{name}.png")
    one, other = (x for x, _ in ImageFolder(tmp_path, 8, train=False))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_order_classes_and_shapes(folder):
    data = ImageFolder(folder, 8, train=False)
    assert data.classes == ("ant", "owl") and len(data) == 4
    assert [path.name for path, _ in data.files] == [
        "x.png",
        "a.JPG",
        "b.png",
        "c.jpeg",
    ]
    assert [data[i][1] for i in range(4)] == [0, 1, 1, 1]
    for i in range(4):
        image = data[i][0]
        assert image.shape == (3, 8, 8) and image.dtype == torch.float32
    low, high = (np.array([0, 1])[:, None] - MEAN) / STD
    assert all(
        (data[i][0].amin((1, 2)).numpy() >= low - 1e-6).all()
        and (data[i][0].amax((1, 2)).numpy() <= high + 1e-6).all()
        for i in range(4)
    )


def test_a_known_image_comes_out_standardized(folder):
    Image.new("RGB", (32, 48), (255, 0, 51)).save(folder / "ant" / "x.png")
    wanted = (np.array([1.0, 0.0, 0.2]) - MEAN) / STD
    for train in (False, True):
        image, _ = ImageFolder(folder, 4, train=train)[0]
        np.testing.assert_allclose(
            image.numpy(), np.tile(wanted[:, None, None], (4, 4)), 1e-5
        )


def test_draws_belong_to_seed_epoch_and_number(folder):
    data, same = (ImageFolder(folder, 8, train=True, seed=3) for _ in range(2))
    assert all(torch.equal(data[i][0], same[i][0]) for i in (3, 0, 2))
    first = data[2][0]
    data.epoch = 1
    assert not torch.equal(data[2][0], first)
    data.epoch = 0
    assert torch.equal(data[2][0], first)
    other = ImageFolder(folder, 8, train=True, seed=4)
    assert not torch.equal(other[2][0], first)
    still = ImageFolder(folder, 8, train=False)
    before = still[2][0]
    still.epoch = 1
    assert torch.equal(still[2][0], before)


def test_boxes_lie_within_the_image():
    assert centre_box(70, 40) == (17.5, 2.5, 52.5, 37.5)
    rng = np.random.default_rng(1)
    areas = []
    for _ in range(300):
        width, height = rng.integers(1, 400, 2)
        left, top, right, bottom = random_box(width, height, rng)
        assert 0 <= left < right <= width + 1e-9 and 0 <= top < bottom <= height + 1e-9
        areas.append((right - left) * (bottom - top) / (width * height))
    assert 0.08 <= min(areas) < 0.2 and 0.9 < max(areas) <= 1
    assert random_box(1000, 1, rng) == (0, 0, 1000, 1)  # nothing fits


def test_bad_folders(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*missing; it should hold"):
        ImageFolder(tmp_path / "missing", 8, train=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="has no subfolders"):
        ImageFolder(empty, 8, train=True)
    (empty / "cat").mkdir()
    (empty / "cat" / "cat.gif").write_bytes(b"")
    with pytest.raises(ValueError, match=r"the class cat in .* has no image.*\.png"):
        ImageFolder(empty, 8, train=True)
    with pytest.raises(ValueError, match="size must be at least 1"):
        ImageFolder(folder, 0, train=True)


def test_damaged_files_are_named(folder):
    whole = (folder / "owl" / "b.png").read_bytes()
    for content in (b"", b"no image", whole[: len(whole) // 2]):
        (folder / "owl" / "b.png").write_bytes(content)
        data = ImageFolder(folder, 8, train=True)
        with pytest.raises(ValueError, match=r"b\.png is damaged or no image"):
            data[2]


def test_synthetic_images_belong_to_their_number():
    data = SyntheticImages(20, 5, 8, seed=1)
    again = SyntheticImages(20, 5, 8, seed=1)
    assert len(data) == 20 and len(data.classes) == 5
    for i in (7, 0, 19):
        assert torch.equal(data[i][0], again[i][0]) and data[i][1] == i % 5
    image = data[3][0]
    assert image.shape == (3, 8, 8) and image.dtype == torch.float32
    later = SyntheticImages(4, 5, 8, seed=1, first=3)
    assert torch.equal(later[0][0], image) and later[0][1] == 3
    assert not torch.equal(SyntheticImages(20, 5, 8, seed=2)[3][0], image)


def test_synthetic_images_refuse_bad_input():
    for options in ({"count": 0}, {"classes": 0}, {"size": 0}, {"noise": -1.0}):
        with pytest.raises(ValueError, match="must be at least"):
            SyntheticImages(**{"count": 2} | options)
    for index in (-1, 2):
        with pytest.raises(IndexError, match="there are 2 images"):
            SyntheticImages(2)[index]
