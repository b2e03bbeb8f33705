"""MNIST, read from files in the real format that the tests write."""

import gzip
import struct

import numpy as np
import pytest

from bnbook.data import images as named
from bnbook.data.images import images
from bnbook.data.mnist import load_idx, mnist

NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def idx(array):
    """The bytes of an IDX file, by the format's description."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        part: (rng.integers(0, 256, (count, 28, 28)), rng.integers(0, 10, count))
        for part, count in (("train", 60), ("test", 10))
    }


@pytest.fixture
def folder(tmp_path, arrays):
    for part, names in NAMES.items():
        for name, array in zip(names, arrays[part], strict=True):
            (tmp_path / name).write_bytes(idx(array))
    return tmp_path


class TestMnist:
    def test_parts(self, folder, arrays):
        data = mnist(folder, train=30, validation=20, seed=3)
        assert [len(p.x) for p in data.parts().values()] == [30, 20, 10]
        assert len(data.features) == 784 and data.name == "MNIST"
        x, t = arrays["test"]
        np.testing.assert_array_equal(data.test.x, x.reshape(10, 784))
        np.testing.assert_array_equal(data.test.t, t)
        at = data.features.index("pixel_3_5")
        np.testing.assert_array_equal(data.test.x[:, at], x[:, 3, 5])

    def test_training_and_validation_are_different_examples_of_the_file(
        self, folder, arrays
    ):
        data = mnist(folder, train=30, validation=20)
        x, t = arrays["train"]
        known = {
            image.astype(np.float32).tobytes(): label
            for image, label in zip(x, t, strict=True)
        }
        drawn = [
            *zip(data.train.x, data.train.t, strict=True),
            *zip(data.validation.x, data.validation.t, strict=True),
        ]
        assert len({image.tobytes() for image, _ in drawn}) == 50
        assert all(known[image.tobytes()] == label for image, label in drawn)

    def test_the_seed_decides(self, folder):
        draw = lambda seed: mnist(folder, train=30, validation=20, seed=seed).train.t
        np.testing.assert_array_equal(draw(1), draw(1))
        assert (draw(1) != draw(2)).any()

    def test_packed_files_and_the_other_spelling(self, folder):
        expected = mnist(folder, train=30, validation=20)
        for path in list(folder.iterdir()):
            content = gzip.compress(path.read_bytes())
            path.unlink()
            path.with_name(path.name.replace("-idx", ".idx") + ".gz").write_bytes(
                content
            )
        got = mnist(folder, train=30, validation=20)
        np.testing.assert_array_equal(got.train.x, expected.train.x)

    @pytest.mark.parametrize("sizes", [(0, 20), (30, 0), (41, 20)])
    def test_refuses_sizes(self, folder, sizes):
        with pytest.raises(ValueError, match="together at most 60"):
            mnist(folder, train=sizes[0], validation=sizes[1])

    def test_names_what_is_missing(self, folder):
        with pytest.raises(FileNotFoundError, match="t10k-images-idx3-ubyte"):
            mnist(folder / "elsewhere")
        (folder / NAMES["test"][1]).unlink()
        with pytest.raises(FileNotFoundError, match="neither t10k-labels"):
            mnist(folder, train=30, validation=20)

    def damaged(self, folder, name, content, match):
        (folder / name).write_bytes(content)
        with pytest.raises(ValueError, match=match):
            mnist(folder, train=30, validation=20)

    def test_exchanged_files(self, folder, arrays):
        self.damaged(folder, NAMES["train"][0], idx(arrays["train"][1]), "exchanged")

    def test_fewer_labels_than_images(self, folder, arrays):
        self.damaged(
            folder,
            NAMES["train"][1],
            idx(arrays["train"][1][:-1]),
            "60 images .* 59 labels",
        )

    def test_no_images(self, folder):
        empty = np.zeros((0, 28, 28))
        (folder / NAMES["test"][1]).write_bytes(idx(np.zeros(0)))
        self.damaged(folder, NAMES["test"][0], idx(empty), "at least one")

    def test_a_label_that_is_no_digit(self, folder, arrays):
        labels = arrays["train"][1].copy()
        labels[7] = 10
        self.damaged(folder, NAMES["train"][1], idx(labels), "label 7, is 10")

    def test_images_of_two_sizes(self, folder):
        self.damaged(
            folder, NAMES["test"][0], idx(np.ones((10, 8, 8))), "one set of files"
        )


class TestIdx:
    def load(self, tmp_path, content):
        path = tmp_path / "file"
        path.write_bytes(content)
        return load_idx(path)

    def test_any_number_of_dimensions(self, tmp_path):
        for shape in ((5,), (2, 3), (2, 3, 4, 2)):
            array = np.random.default_rng(1).integers(0, 256, shape)
            np.testing.assert_array_equal(self.load(tmp_path, idx(array)), array)

    whole = idx(np.ones((4, 4)))

    @pytest.mark.parametrize(
        ("content", "match"),
        [
            (b"", "starts with nothing"),
            (b"<html>", "no IDX file: it starts with 3c 68"),
            (b"\0\0\x0d\x01" + whole[4:], "type 0x0d"),
            (b"\0\0\x08\x00", "0 dimensions"),
            (whole[:9], "ends within its header"),
            (whole[:-1], "16 bytes, and holds 15"),
            (whole + b"x", "and holds 17"),
            (gzip.compress(whole)[:-6], "damaged gzip"),
            (gzip.compress(whole)[:-8] + bytes(8), "damaged gzip"),
            (b"\x1f\x8bxx", "damaged gzip"),
        ],
    )
    def test_damage(self, tmp_path, content, match):
        with pytest.raises(ValueError, match=match):
            self.load(tmp_path, content)

    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            load_idx(tmp_path / "nothing")


class TestImages:
    @pytest.fixture(autouse=True)
    def fresh(self, monkeypatch):
        monkeypatch.delenv(named.FOLDER, raising=False)
        images.cache_clear()
        yield
        images.cache_clear()

    def test_digits_need_nothing(self):
        assert images("digits", 1).name == "digits" and images().name == "digits"

    def test_mnist_from_the_folder_named(self, folder, monkeypatch):
        monkeypatch.setenv(named.FOLDER, str(folder))
        monkeypatch.setattr(
            named, "mnist", lambda f, seed: mnist(f, train=30, validation=20, seed=seed)
        )
        assert images("mnist", 2).train.x.shape == (30, 784)

    def test_refusals(self):
        with pytest.raises(ValueError, match="--folder"):
            images("mnist")
        with pytest.raises(ValueError, match="'cifar'"):
            images("cifar")
