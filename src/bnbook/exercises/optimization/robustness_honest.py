"""Exercise: the accuracy of what was selected, and not the best of all."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def honest_accuracy(validation: np.ndarray, test: np.ndarray) -> tuple[float, float]:
    """Choose a learning rate and an epoch by validation, and report the test.

    For each run, the epoch with the highest validation accuracy is kept, the first of equals.
    The learning rate is the one whose mean over the seeds of those highest accuracies is the
    largest.

    Args:
        validation: validation accuracies, (rates, seeds, epochs).
        test: the test accuracies of the same runs, (rates, seeds, epochs).

    Returns:
        peak: the mean over the seeds, at the chosen rate, of the highest validation accuracy;
        honest: the mean over the seeds, at that rate, of the test accuracy in the kept
        epochs.
    """
    rate = validation.max(axis=2).mean(axis=1).argmax()
    epoch = validation[rate].argmax(axis=1)
    kept = test[rate, np.arange(len(epoch)), epoch]
    return float(validation[rate].max(axis=1).mean()), float(kept.mean())


def _at(rate, validation, test):
    """Both results at one rate."""
    epoch = validation[rate].argmax(axis=1)
    kept = test[rate, np.arange(len(epoch)), epoch]
    return float(validation[rate].max(axis=1).mean()), float(kept.mean())


def best_test_epoch(validation, test):
    """You take the best epoch of the test set. Then the test set has chosen, and its accuracy is a
    peak as well."""
    rate = validation.max(axis=2).mean(axis=1).argmax()
    return float(validation[rate].max(axis=1).mean()), float(
        test[rate].max(axis=1).mean()
    )


def rate_by_test(validation, test):
    """You choose the rate by the test accuracy. The test set is looked at when everything is chosen."""
    epoch = validation.argmax(axis=2)
    kept = np.take_along_axis(test, epoch[..., None], 2)[..., 0].mean(axis=1)
    rate = kept.argmax()
    return float(validation[rate].max(axis=1).mean()), float(kept[rate])


def rate_by_mean_epoch(validation, test):
    """You choose the rate by the validation accuracy averaged over the epochs too. That asks how fast a
    run gets there. What is kept of a run is its best epoch: take the highest value over the epochs, then
    the mean over the seeds."""
    return _at(validation.mean(axis=(1, 2)).argmax(), validation, test)


def rate_by_last_epoch(validation, test):
    """You choose the rate by the validation accuracy of the last epoch. What is kept of a run is its best
    epoch, and the rate is judged by what is kept."""
    return _at(validation[:, :, -1].mean(axis=1).argmax(), validation, test)


def last_of_equals(validation, test):
    """Where several epochs share the highest validation accuracy, you keep the last of them. The first is
    asked for, which is the one that `argmax` returns."""
    rate = validation.max(axis=2).mean(axis=1).argmax()
    epoch = validation.shape[2] - 1 - validation[rate, :, ::-1].argmax(axis=1)
    kept = test[rate, np.arange(len(epoch)), epoch]
    return float(validation[rate].max(axis=1).mean()), float(kept.mean())


def mean_of_equals(validation, test):
    """Where several epochs share the highest validation accuracy, you average over them. Only one network
    can be kept: the first of equals."""
    rate = validation.max(axis=2).mean(axis=1).argmax()
    best = validation[rate] == validation[rate].max(axis=1, keepdims=True)
    kept = (test[rate] * best).sum(axis=1) / best.sum(axis=1)
    return float(validation[rate].max(axis=1).mean()), float(kept.mean())


def rate_for_each_seed(validation, test):
    """You choose another rate for each seed. A rate is a decision made once, for all seeds; letting
    each seed have its own is one selection more."""
    rate = validation.max(axis=2).argmax(axis=0)
    seeds = np.arange(validation.shape[1])
    v, t = validation[rate, seeds], test[rate, seeds]
    kept = t[seeds, v.argmax(axis=1)]
    return float(v.max(axis=1).mean()), float(kept.mean())


def last_epoch(validation, test):
    """You report the test accuracy of the last epoch. The epoch is chosen by validation too."""
    rate = validation.max(axis=2).mean(axis=1).argmax()
    return float(validation[rate].max(axis=1).mean()), float(test[rate, :, -1].mean())


def one_epoch_for_all(validation, test):
    """You choose one epoch for all seeds, by the mean curve. Each run keeps its own best epoch."""
    mean = validation.mean(axis=1)
    rate, epoch = np.unravel_index(mean.argmax(), mean.shape)
    return float(mean[rate, epoch]), float(test[rate, :, epoch].mean())


def luckiest_run(validation, test):
    """You choose the rate by its best seed. That rewards rates whose results vary: take the mean over
    the seeds."""
    return _at(validation.max(axis=(1, 2)).argmax(), validation, test)


def exchanged(validation, test):
    """You return the two the other way round."""
    return honest_accuracy(validation, test)[::-1]


def by_loops(validation, test):
    """The same, run by run."""
    best = (-1.0, 0.0)
    for runs, tests in zip(validation, test, strict=True):
        peaks, kept = [], []
        for run, of_test in zip(runs, tests, strict=True):
            epoch = int(np.argmax(run))
            peaks.append(run[epoch])
            kept.append(of_test[epoch])
        if np.mean(peaks) > best[0]:
            best = (float(np.mean(peaks)), float(np.mean(kept)))
    return best


_rng = np.random.default_rng(823)
_level = np.array([0.64, 0.7, 0.72])[:, None, None]


def _runs(seeds, spread):
    """Accuracies around a level of each rate; validation and test fluctuate on their own."""
    shape = (3, seeds, 6)
    return tuple(
        _level + spread * _rng.normal(size=shape) * np.array([1, 1.6, 1])[:, None, None]
        for _ in range(2)
    )


def _whole_percents(seed):
    """Five rates of one level: each way to choose takes another one, and two epochs share a peak."""
    rng = np.random.default_rng(seed)
    return tuple(np.round(0.7 + 0.03 * rng.normal(size=(5, 4, 6)), 2) for _ in range(2))


EXERCISE = FunctionExercise(
    id="robustness-honest",
    chapter="optimization/robustness",
    title="The price of a peak",
    level="core",
    reference=honest_accuracy,
    why="The highest of several noisy accuracies is too high on average. Other examples, of which none took "
    "part in the choice, say what the chosen network can do.",
    mistakes=variants(
        best_test_epoch,
        rate_by_test,
        rate_by_mean_epoch,
        rate_by_last_epoch,
        last_of_equals,
        mean_of_equals,
        rate_for_each_seed,
        last_epoch,
        one_epoch_for_all,
        luckiest_run,
        exchanged,
    ),
    alternatives=(by_loops,),
    hints=(
        "The rate first: `validation.max(axis=2)` has one number a run, and its mean over the seeds one a rate.",
        "At that rate, `validation[rate].argmax(axis=1)` is the epoch that each seed keeps; index `test` by it.",
    ),
    cases=(
        Case(
            "5 rates, 4 seeds, 6 epochs",
            _whole_percents(2940),
            "at the chosen rate two epochs of a seed share the highest accuracy.",
        ),
        Case("3 rates, 5 seeds, 6 epochs", _runs(5, 0.06)),
        Case("3 rates, 2 seeds, 6 epochs", _runs(2, 0.04)),
    ),
    returns=("peak", "honest"),
)
