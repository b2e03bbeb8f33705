"""Exercise: standardize three splits."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def standardize_splits(
    train: np.ndarray, validation: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardize three parts of a dataset as a network should see them.

    Args:
        train: examples to learn from, (N, D).
        validation: examples to choose by, (K, D).
        test: examples to report on, (L, D).

    Returns:
        The three arrays, each feature moved and scaled so that it has mean 0 and biased
        variance 1 in training, and by the same map in the other two. A feature that is
        constant in training is moved only.
    """
    mean, std = train.mean(axis=0), train.std(axis=0)
    std = np.where(np.ptp(train, axis=0) == 0, 1.0, std)
    return (train - mean) / std, (validation - mean) / std, (test - mean) / std


def _by(source, parts, ddof=0):
    mean, std = source.mean(axis=0), source.std(axis=0, ddof=ddof)
    std = np.where(np.ptp(source, axis=0) == 0, 1.0, std)
    return tuple((part - mean) / std for part in parts)


def own_statistics(train, validation, test):
    """You standardize each part by its own statistics. A shift between the parts disappears, and the
    network sees another function of the features than in training: use those of the training part."""
    return tuple(_by(part, [part])[0] for part in (train, validation, test))


def all_statistics(train, validation, test):
    """You take the statistics of all examples. The test set then has a say in the input of training;
    use those of the training part alone."""
    whole = np.concatenate([train, validation, test])
    return _by(whole, (train, validation, test))


def unbiased(train, validation, test):
    """You divide by N − 1 in the variance. The exercise asks for the biased one, np.std without ddof."""
    return _by(train, (train, validation, test), ddof=1)


def one_for_all_features(train, validation, test):
    """You take one mean and one deviation for all features. Each column has its own: axis=0."""
    mean, std = train.mean(), train.std()
    return (train - mean) / std, (validation - mean) / std, (test - mean) / std


def divided_by_zero(train, validation, test):
    """You divide by the deviation of a constant feature, which is 0 or a rounding error. Move such a
    feature and leave its scale."""
    mean, std = train.mean(axis=0), train.std(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (train - mean) / std, (validation - mean) / std, (test - mean) / std


def epsilon_under_the_root(train, validation, test):
    """You add an ε to the variance, as batch normalization does. The variance is then below 1, and a feature
    that is constant in training is blown up by 1/√ε elsewhere: divide by the deviation itself, and by 1
    where the feature is constant."""
    mean, std = train.mean(axis=0), np.sqrt(train.var(axis=0) + 1e-5)
    return (train - mean) / std, (validation - mean) / std, (test - mean) / std


def epsilon_beside_the_root(train, validation, test):
    """You add a small number to the deviation. A feature that is constant in training is divided by that
    number, and so blown up wherever it varies: divide by 1 there, and elsewhere by the deviation itself."""
    mean, std = train.mean(axis=0), train.std(axis=0) + 1e-8
    return (train - mean) / std, (validation - mean) / std, (test - mean) / std


def only_moved(train, validation, test):
    """You subtract the mean and leave the scale. Divide by the standard deviation."""
    mean = train.mean(axis=0)
    return train - mean, validation - mean, test - mean


def variance_for_deviation(train, validation, test):
    """You divide by the variance. Divide by its root, so that the variance becomes 1."""
    mean, var = train.mean(axis=0), train.var(axis=0)
    var = np.where(np.ptp(train, axis=0) == 0, 1.0, var)
    return (train - mean) / var, (validation - mean) / var, (test - mean) / var


def constant_dropped_to_zero(train, validation, test):
    """You set a feature that is constant in training to 0 everywhere. Elsewhere it may vary; move it by
    the training mean."""
    constant = np.ptp(train, axis=0) == 0
    return tuple(
        np.where(constant, 0.0, part)
        for part in standardize_splits(train, validation, test)
    )


def column_by_column(train, validation, test):
    """The same, one column at a time."""
    results = [part.astype(float) for part in (train, validation, test)]
    for j in range(train.shape[1]):
        center = sum(train[:, j]) / len(train)
        spread = np.sqrt(np.mean((train[:, j] - center) ** 2))
        if (train[:, j] == train[0, j]).all():
            spread = 1.0
        for result in results:
            result[:, j] = (result[:, j] - center) / spread
    return tuple(results)


_rng = np.random.default_rng(504)


def _parts(mean, std, shift=0.0):
    return tuple(
        _rng.normal(mean, std, size=(count, len(mean))) + moved
        for count, moved in ((9, 0.0), (5, shift), (4, shift))
    )


_constant = tuple(part.copy() for part in _parts([1.0, 5.0, -2.0], [1.0, 1.0, 3.0]))
_constant[0][:, 1] = 5.0

EXERCISE = FunctionExercise(
    id="higgs-standardize",
    chapter="training/higgs",
    title="Standardize three splits",
    level="warm-up",
    reference=standardize_splits,
    why="Validation and test stand for data that training has not seen, so they may not enter the "
    "statistics; and they must go through the same map, or the network meets other features than it learned.",
    mistakes=variants(
        own_statistics,
        all_statistics,
        unbiased,
        one_for_all_features,
        divided_by_zero,
        epsilon_under_the_root,
        epsilon_beside_the_root,
        only_moved,
        variance_for_deviation,
        constant_dropped_to_zero,
    ),
    alternatives=(column_by_column,),
    hints=(
        "Compute mean and standard deviation once, from the training part, with axis=0.",
        "Where a feature is constant in training, divide by 1 in place of its deviation: "
        "np.where(np.ptp(train, axis=0) == 0, 1.0, std).",
    ),
    cases=(
        Case("9, 5 and 4 examples", _parts([3.0, -1.0, 8.0], [2.0, 0.5, 4.0])),
        Case(
            "parts that differ",
            _parts([0.0, 10.0], [1.0, 2.0], shift=3.0),
            "validation and test lie elsewhere than the training part.",
        ),
        Case(
            "a feature that is constant in training",
            _constant,
            "the second feature is constant in training, and varies elsewhere.",
        ),
    ),
    returns=("train", "validation", "test"),
)
