"""Algebra with sums over a batch of symbolic size M, so that a proof holds for every batch.

An expression is built from indexed symbols such as ``z[m]``, finite sums `batch_sum(…, m)` over
m = 1 … M, and `KroneckerDelta` of two indices. `canonical` brings it to a normal form, `is_zero` proves
that it vanishes identically, and `lambdify_batch` turns the very same expression into a NumPy function.

A free index (``i`` in ``z[i]``) stands for any example of the batch: 1 ≤ i ≤ M. Statements hold wherever
their expressions are defined: denominators are not zero and bases of fractional powers are positive.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import sympy as sp

M = sp.Symbol("M", integer=True, positive=True)
_BOUND = sp.Symbol(
    "m", integer=True, positive=True
)  # the index that canonical sums run over


def index(name: str) -> sp.Symbol:
    """A symbol for the number of an example, 1 … M."""
    return sp.Symbol(name, integer=True, positive=True)


def batch_sum(term: sp.Expr, over: sp.Symbol) -> sp.Sum:
    """Σ term over the batch, `over` = 1 … M."""
    return sp.Sum(term, (over, 1, M))


def canonical(expression: sp.Expr) -> sp.Expr:
    """Return an equal expression in which every sum is as small as it can be.

    Sums are expanded, factors that do not depend on the index are pulled out, Kronecker deltas are
    summed away, Σ 1 becomes M, and every remaining sum runs over the same index, so that equal sums
    are equal objects. Roots and reciprocals of sums are kept as they are, their bases in normal form.

    Raises:
        ValueError: a sum has other limits than 1 … M, or a summand that is not a sum of products (for
            example √z_m): its value could not be put in normal form.
    """
    bases: dict[tuple[sp.Expr, bool], sp.Symbol] = {}
    masked = _expand(_mask(sp.sympify(expression), bases, frozenset()))
    return masked.xreplace({v: base for (base, _), v in bases.items()})


def _mask(
    expression: sp.Expr,
    bases: dict[tuple[sp.Expr, bool], sp.Symbol],
    bound: frozenset[sp.Symbol],
) -> sp.Expr:
    """Replace each root or reciprocal of a sum by the same power of a symbol, noted in `bases`."""
    if isinstance(expression, sp.Sum):
        bound = bound | {limit[0] for limit in expression.limits}
    if not expression.args or isinstance(expression, sp.Indexed):
        return expression
    if isinstance(expression, sp.Pow):
        base, power = expression.args
        natural = power.is_Integer and power.is_nonnegative
        if not natural and (base.is_Add or base.has(sp.Sum)):
            if base.free_symbols & bound:
                raise ValueError(
                    f"cannot sum {expression}: its base changes with the index of the sum"
                )
            # Only a root needs a positive base; a reciprocal must not lend its base a sign.
            sign = {"nonzero": True} if power.is_Integer else {"positive": True}
            return (
                bases.setdefault(
                    (canonical(base), power.is_Integer), sp.Dummy("v", **sign)
                )
                ** power
            )
    return expression.func(
        *(_mask(argument, bases, bound) for argument in expression.args)
    )


def _expand(expression: sp.Expr) -> sp.Expr:
    if isinstance(expression, sp.Sum):
        return _canonical_sum(expression)
    if not expression.args or isinstance(expression, sp.Indexed):
        return expression
    return sp.expand(
        expression.func(*(_expand(argument) for argument in expression.args))
    )


def _canonical_sum(total: sp.Sum) -> sp.Expr:
    summand = total.function
    for (
        over,
        *limits,
    ) in total.limits:  # SymPy merges nested sums into one, the innermost index first
        if limits != [1, M]:
            raise ValueError(
                f"expected sums from 1 to M, got {total}; write them with batch_sum"
            )
        # A fresh index keeps an inner canonical sum from capturing the outer one.
        fresh = sp.Dummy("m", integer=True, positive=True)
        summand = sp.expand(_expand(summand.xreplace({over: fresh})))
        summand = sp.Add(
            *(_sum_of_product(term, fresh) for term in sp.Add.make_args(summand))
        )
    return summand


def _sum_of_product(term: sp.Expr, over: sp.Symbol) -> sp.Expr:
    """Σ over one product."""
    if term == 0:
        return term
    constant, dependent = term.as_independent(over, as_Add=False)
    for factor in sp.Mul.make_args(dependent):
        if isinstance(factor, sp.KroneckerDelta):
            if over not in factor.args or not all(
                argument.is_Symbol and argument != M for argument in factor.args
            ):
                raise ValueError(
                    f"cannot sum {factor} over {over}: a delta must compare two indices"
                )
            other = factor.args[0] if factor.args[1] == over else factor.args[1]
            return constant * _expand((dependent / factor).xreplace({over: other}))
    if dependent == 1:
        return constant * M
    for factor in sp.Mul.make_args(dependent):
        base, power = factor.as_base_exp()
        if not (
            isinstance(base, sp.Indexed)
            and base.indices == (over,)
            and power.is_Integer
        ):
            raise ValueError(
                f"cannot sum {dependent} over {over}: only products of indexed symbols are supported"
            )
    return constant * batch_sum(dependent.xreplace({over: _BOUND}), _BOUND)


def derivative(expression: sp.Expr, variable: sp.Indexed | sp.Symbol) -> sp.Expr:
    """∂ expression / ∂ variable in canonical form; an indexed symbol is independent of its neighbours."""
    # A bound index of the same name as the variable's is another index: Σ_m z_m² by z_m is 2 z_m.
    return canonical(sp.diff(_rename_bound(expression), variable))


def _rename_bound(expression: sp.Expr) -> sp.Expr:
    """Give every bound index a fresh name, so that no free index of the same name can be captured."""

    def rename(total: sp.Sum) -> sp.Sum:
        fresh = {
            limit[0]: sp.Dummy(limit[0].name, integer=True, positive=True)
            for limit in total.limits
        }
        return total.xreplace(fresh)

    return sp.sympify(expression).replace(lambda node: isinstance(node, sp.Sum), rename)


def unfold(expression: sp.Expr, definitions: Mapping[sp.Basic, sp.Expr]) -> sp.Expr:
    """Replace abbreviations by their definitions until none is left.

    A key is a symbol (``mu``) or an indexed symbol (``z_hat[m]``), whose index then stands for any index.

    Raises:
        ValueError: a definition refers to itself, directly or through others.
    """
    for _ in range(len(definitions) + 1):
        unfolded = _unfold_once(expression, definitions)
        if unfolded == expression:
            return expression
        expression = unfolded
    raise ValueError(
        "the definitions refer to themselves; each must rest on symbols defined before it"
    )


def _unfold_once(
    expression: sp.Expr, definitions: Mapping[sp.Basic, sp.Expr]
) -> sp.Expr:
    for abbreviation, meaning in definitions.items():
        meaning = _rename_bound(meaning)
        if isinstance(abbreviation, sp.Indexed):
            base, slot = abbreviation.base, abbreviation.indices[0]
            expression = expression.replace(
                lambda node, base=base: (
                    isinstance(node, sp.Indexed) and node.base == base
                ),
                lambda node, slot=slot, meaning=meaning: meaning.xreplace(
                    {slot: node.indices[0]}
                ),
            )
        else:
            expression = expression.xreplace({abbreviation: meaning})
    return expression


def is_zero(
    expression: sp.Expr, definitions: Mapping[sp.Basic, sp.Expr] | None = None
) -> bool:
    """Whether the normal form of `expression` is 0.

    True is a proof that the expression vanishes for every batch size and every value of its symbols for
    which it is defined. False means that this module has no proof; the tests give numbers for such cases.
    """
    return residual(expression, definitions) == 0


def residual(
    expression: sp.Expr, definitions: Mapping[sp.Basic, sp.Expr] | None = None
) -> sp.Expr:
    """Normal form of `expression` after unfolding: where it is 0, the expression vanishes identically.

    Common denominators are multiplied out, so the residual of a false identity is a nonzero multiple of
    the difference of its two sides.
    """
    masked: dict[tuple[sp.Expr, bool], sp.Symbol] = {}
    expression = _mask(
        unfold(sp.sympify(expression), definitions or {}), masked, frozenset()
    )
    bases: dict[sp.Expr, sp.Symbol] = {}
    # Bases that differ by a factor are one base: √(Σ/M) and √Σ must be able to cancel.
    reduced = {key: sp.expand(key[0] / _positive_factor(key[0])) for key in masked}
    rooted = {reduced[key] for key in masked if not key[1]}
    for key, stand_in in masked.items():
        sign = {"positive": True} if reduced[key] in rooted else {"nonzero": True}
        shared = bases.setdefault(reduced[key], sp.Dummy("v", **sign))
        expression = expression.xreplace({stand_in: _positive_factor(key[0]) * shared})
    expression = _expand(expression)
    for base, stand_in in bases.items():
        if expression == 0:
            return sp.S.Zero
        terms = [
            (term, term.as_coeff_exponent(stand_in)[1])
            for term in sp.Add.make_args(expression)
        ]
        if any((term / stand_in**power).has(stand_in) for term, power in terms):
            raise ValueError(
                f"cannot reduce {stand_in} = {base} inside a function; only powers are supported"
            )
        lowest = min(sp.floor(power) for _, power in terms)
        by_root: dict[
            sp.Expr, sp.Expr
        ] = {}  # terms that differ by a whole power of the base belong together
        for term, power in terms:
            root = power - sp.floor(power)
            whole = sp.expand(term / stand_in**power) * base ** (
                sp.floor(power) - lowest
            )
            by_root[root] = by_root.get(root, sp.S.Zero) + whole
        expression = sp.Add(
            *(stand_in**root * sp.expand(whole) for root, whole in by_root.items())
        )
        expression = sp.expand(expression)
    return expression.xreplace({v: base for base, v in bases.items()})


def _positive_factor(base: sp.Expr) -> sp.Expr:
    """The positive number and power of M in front of the first term of `base`."""
    first = min(sp.Add.make_args(base), key=sp.default_sort_key)
    return sp.Mul(
        *(
            abs(factor)
            for factor in sp.Mul.make_args(first)
            if factor.is_Number or factor.as_base_exp()[0] == M
        )
    )


def lambdify_batch(
    expression: sp.Expr,
    arrays: Sequence[sp.IndexedBase],
    numbers: Sequence[sp.Symbol] = (),
    at: sp.Symbol | None = None,
) -> Callable[..., np.ndarray]:
    """Turn a displayed expression into a function of NumPy arrays.

    The result is called with one array of shape (M,) for each of `arrays`, then one number for each of
    `numbers`, and returns the value of the expression for every example ``at`` = 1 … M as an array (M,),
    or one number if `at` is None. Complex arrays are allowed, for complex-step derivatives.

    Raises:
        ValueError: the expression has a symbol that no argument gives.
    """
    given = {
        M,
        *numbers,
        *(base.label for base in arrays),
        *([at] if at is not None else []),
    }
    missing = {
        s for s in expression.free_symbols if not isinstance(s, sp.Indexed)
    } - given
    if missing:
        raise ValueError(
            f"{sorted(map(str, missing))} have no value: name them in arrays, numbers or at"
        )
    parameters = [*arrays, *numbers, M, *([at] if at is not None else [])]
    compiled = sp.lambdify(parameters, expression, modules="numpy")

    def evaluate(*values):
        batches, rest = values[: len(arrays)], values[len(arrays) :]
        count = len(batches[0])
        if any(np.shape(batch) != (count,) for batch in batches):
            raise ValueError(
                f"arrays must all have shape ({count},), got {[np.shape(batch) for batch in batches]}"
            )
        one_based = [
            np.concatenate([[np.nan], batch]) for batch in batches
        ]  # z[1] … z[M], as on paper
        if at is None:
            return compiled(*one_based, *rest, count)
        return np.array(
            [
                compiled(*one_based, *rest, count, example)
                for example in range(1, count + 1)
            ]
        )

    return evaluate
