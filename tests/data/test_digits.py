"""The handwritten digits."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from bnbook.data.digits import digits


def test_sizes_and_types():
    data = digits()
    assert [len(p.x) for p in data.parts().values()] == [1079, 359, 359]
    assert len(data.features) == 64 == data.train.x.shape[1]
    assert data.classes == 10
    assert (data.train.x.min(), data.train.x.max()) == (0, 16)
    for part in data.parts().values():
        assert np.bincount(part.t, minlength=10).min() >= 20


def test_the_names_are_those_of_the_pixels():
    data = digits()
    at = data.features.index("pixel_2_5")
    images = {image.tobytes() for image in load_digits().data.astype(np.float32)}
    assert data.train.x[0].tobytes() in images
    assert at == 2 * 8 + 5


def test_the_seed_decides():
    np.testing.assert_array_equal(digits().train.x, digits(0).train.x)
    assert (digits(1).train.t != digits(0).train.t).any()


def test_the_constant_pixels_do_no_harm():
    data = digits().standardized()
    constant = np.ptp(data.train.x, axis=0) == 0
    assert constant.sum() >= 3
    assert all(np.isfinite(p.x).all() for p in data.parts().values())


def test_labels_belong_to_images():
    data = digits().standardized()
    model = LogisticRegression(max_iter=300).fit(data.train.x, data.train.t)
    assert model.score(data.test.x, data.test.t) > 0.93
