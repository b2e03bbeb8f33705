"""Exercise: the bytes of packed weights."""

from bnbook.exercises.model import Case, FunctionExercise, variants


def packed_bytes(inputs: int, outputs: int, planes: int) -> int:
    """Bytes of the packed weights of a layer.

    The weights of one output are one row of bits. Each row begins with a new word of 64
    bits, in each of the planes.

    Args:
        inputs: K, the number of weights of an output.
        outputs: D, the number of outputs.
        planes: bits for each weight: 1 for signs, 2 for ternary weights.

    Returns:
        The number of bytes, where 8 bits are one byte.
    """
    words = -(-inputs // 64)
    return 8 * words * outputs * planes


def no_padding(inputs, outputs, planes):
    """You divide all bits by 8. Each row begins with a new word, so the last word of a row is
    stored whole, however few of its bits are used."""
    return inputs * outputs * planes / 8


def rounded_down(inputs, outputs, planes):
    """You round the number of words down. The weights behind the last full word need a word too."""
    return inputs // 64 * 8 * outputs * planes


def padded_once(inputs, outputs, planes):
    """You round up once for the whole matrix. Each row begins with a new word."""
    return 8 * planes * -(-inputs * outputs // 64)


def padded_to_bytes(inputs, outputs, planes):
    """You round each row up to whole bytes. It is rounded up to whole words, of 8 bytes."""
    return -(-inputs // 8) * outputs * planes


def words_for_bytes(inputs, outputs, planes):
    """You count words. A word of 64 bits has 8 bytes."""
    return -(-inputs // 64) * outputs * planes


def one_plane(inputs, outputs, planes):
    """You forget the planes: a ternary weight needs a second bit."""
    return 8 * -(-inputs // 64) * outputs


def transposed(inputs, outputs, planes):
    """You pad the outputs. The bits of a row belong to the inputs of one output."""
    return 8 * -(-outputs // 64) * inputs * planes


def row_by_row(inputs, outputs, planes):
    """The same, by counting."""
    total = 0
    for _ in range(outputs * planes):
        left = inputs
        while left > 0:
            total, left = total + 8, left - 64
    return total


EXERCISE = FunctionExercise(
    id="deploy-bytes",
    chapter="propagation/deploy",
    title="Bytes of packed weights",
    level="warm-up",
    reference=packed_bytes,
    why="A row of K bits needs ⌈K/64⌉ words of 8 bytes; −(−K // 64) rounds up. Only where 64 divides K "
    "is that a 32nd of float32, or a 16th with two planes.",
    mistakes=variants(
        no_padding,
        rounded_down,
        padded_once,
        padded_to_bytes,
        words_for_bytes,
        one_plane,
        transposed,
    ),
    alternatives=(row_by_row,),
    hints=(
        "How many words does one row of K bits need? Try K = 64 and K = 65.",
        "⌈K/64⌉ is `-(-inputs // 64)`. A word has 8 bytes.",
    ),
    cases=(
        Case("100 inputs, 3 outputs, signs", (100, 3, 1)),
        Case("256 inputs, 10 outputs, signs", (256, 10, 1), "64 divides 256."),
        Case(
            "9 inputs, 32 outputs, ternary", (9, 32, 2), "a row is shorter than a word."
        ),
        Case("65 inputs, 7 outputs, ternary", (65, 7, 2)),
    ),
    returns=("bytes",),
)
