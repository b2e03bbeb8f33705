"""Exercise: which examples come next after a run has been interrupted."""

import numpy as np

from bnbook.exercises.model import Case, FunctionExercise, variants


def next_indices(
    orders: np.ndarray, workers: int, worker: int, batch: int, step: int
) -> np.ndarray:
    """The examples that a worker takes in a step, from the number of the step alone.

    In each epoch the examples are dealt out in the order of that epoch, one by one: to
    worker 0, 1, …, then to worker 0 again. Each worker takes its pile in batches. Steps are
    counted over all epochs, from 0. What is too little for a whole step of all workers is
    left out, and the next epoch starts.

    Args:
        orders: the numbers of the examples in the order of each epoch, (E, N).
        workers: number of workers.
        worker: number of this one, from 0.
        batch: examples that a worker takes in a step.
        step: number of the step.

    Returns:
        indices: their numbers, (batch,).
    """
    pile = orders.shape[1] // workers
    epoch, position = divmod(step, pile // batch)
    mine = orders[epoch][worker::workers]
    return mine[position * batch : (position + 1) * batch].copy()


def in_blocks(orders, workers, worker, batch, step):
    """You give each worker a block of successive examples. They are dealt out one by one."""
    pile = orders.shape[1] // workers
    epoch, position = divmod(step, pile // batch)
    start = worker * pile + position * batch
    return orders[epoch][start : start + batch].copy()


def successive_slices(orders, workers, worker, batch, step):
    """You give the workers successive slices of what a step takes. The examples are dealt out one by one."""
    epoch, position = divmod(step, orders.shape[1] // workers // batch)
    start = (position * workers + worker) * batch
    return orders[epoch][start : start + batch].copy()


def own_pile(orders, workers, worker, batch, step):
    """You count the steps of an epoch from this worker's own pile. The first piles can hold one example more
    than the last: a step needs a batch from every worker."""
    mine = orders[0][worker::workers]
    epoch, position = divmod(step, len(mine) // batch)
    mine = orders[epoch][worker::workers]
    return mine[position * batch : (position + 1) * batch].copy()


def first_order(orders, workers, worker, batch, step):
    """You use the order of the first epoch. Every epoch has its own."""
    pile = orders.shape[1] // workers
    position = step % (pile // batch)
    return orders[0][worker::workers][position * batch : (position + 1) * batch].copy()


def from_the_start(orders, workers, worker, batch, step):
    """You start the epoch anew. The steps of it that are done must be skipped."""
    epoch = step // (orders.shape[1] // workers // batch)
    return orders[epoch][worker::workers][:batch].copy()


def other_epoch_length(orders, workers, worker, batch, step):
    """You count the steps of an epoch as if one worker took all examples. A step takes workers · batch."""
    epoch, position = divmod(step, orders.shape[1] // batch)
    at = np.arange(position * batch, (position + 1) * batch)
    return np.take(orders[epoch][worker::workers], at, mode="wrap")


def off_by_one(orders, workers, worker, batch, step):
    """You return the examples of the step before. Step 0 takes the first batch."""
    return next_indices(orders, workers, worker, batch, max(step - 1, 0))


def by_walking(orders, workers, worker, batch, step):
    """The same, by going through all steps from the start."""
    done = 0
    for order in orders:
        piles = [list(order[w::workers]) for w in range(workers)]
        while min(map(len, piles)) >= batch:
            taken = [[pile.pop(0) for _ in range(batch)] for pile in piles]
            if done == step:
                return np.array(taken[worker])
            done += 1
    raise IndexError(step)


_rng = np.random.default_rng(905)


def _orders(epochs, count):
    return np.stack([_rng.permutation(np.arange(float(count))) for _ in range(epochs)])


EXERCISE = FunctionExercise(
    id="at-scale-position",
    chapter="estimation/at_scale",
    title="Where was I?",
    level="warm-up",
    reference=next_indices,
    why="The number of steps says which epoch and which batch of it comes next, so nothing else about the "
    "order has to be stored.",
    mistakes=variants(
        in_blocks,
        successive_slices,
        own_pile,
        first_order,
        from_the_start,
        other_epoch_length,
        off_by_one,
    ),
    alternatives=(by_walking,),
    hints=(
        "How many steps does an epoch have, if each takes workers · batch examples?",
        "divmod(step, steps of an epoch) gives the epoch and the batch within it.",
    ),
    cases=(
        Case("23 examples, step 5 of the run", (_orders(3, 23), 2, 1, 4, 5)),
        Case(
            "23 examples, worker 0 of 2, step 2 of the run",
            (_orders(3, 23), 2, 0, 4, 2),
            "The pile of worker 0 has one example more than that of worker 1.",
        ),
        Case("30 examples, 3 workers, step 8", (_orders(3, 30), 3, 2, 2, 8)),
        Case("12 examples, one worker, step 7", (_orders(3, 12), 1, 0, 3, 7)),
    ),
    returns=("indices",),
)
