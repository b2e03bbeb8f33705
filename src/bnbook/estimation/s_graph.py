"""The graph of shared nodes of a model: traced, evaluated, and differentiated edge by edge.

A **batch node** holds one value per example, each computed from its own example and from
shared nodes. A **shared node** is a parameter or a **reduction**, the mean over examples
of a batch node. The S-graph joins two shared nodes by an edge S → T where T can be
reached from S without crossing another shared node; then T = E_n f(D_n, S).

`trace_s_graph` decides by these definitions, not by a list of known operations: it runs
each operation on the batch and on each example alone, and compares.

Source: Anonymous (2022), §2.1.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import fx, nn

from bnbook.estimation.batch_moments import expand_batch_norms
from bnbook.estimation.node_kinds import (
    BATCH,
    CONSTANT,
    DERIVED,
    PARAMETER,
    REDUCTION,
    attribute,
    call,
    classify,
)

INPUT, LOSS = "D", "L"
MOST_PATHS = 100_000

Values = Mapping[str, torch.Tensor]
Edge = tuple[str, str]


class WithLoss(nn.Module):
    """A model and its loss as one module of the inputs x and the targets t.

    Args:
        model: maps x to the output.
        loss: of (output, t), a mean over examples.
    """

    def __init__(self, model: nn.Module, loss: Callable):
        """Keep both."""
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The loss of a batch."""
        return self.loss(self.model(x), t)


class SGraph:
    """The S-graph of a model on a batch; made by `trace_s_graph`.

    Attributes:
        base: the traced base graph.
        inputs: the batch, one tensor for each argument of the model, examples first.
        kinds: of each node of the base graph, by its name there: "batch", "reduction",
            "parameter", "derived" (a function of shared nodes alone) or "constant".
        nodes: names in the S-graph, inputs before outputs: "D" for the batch, a parameter
            by its name in the model, a reduction by module and operation, "L" the loss.
        edges: (S, T) pairs.
        values: of every shared node, by name.
    """

    def __init__(
        self,
        base: fx.GraphModule,
        inputs: tuple[torch.Tensor, ...],
        kinds: dict[str, str],
        results: dict[str, torch.Tensor],
    ):
        """Name the shared nodes and find the edges."""
        self.base, self.inputs, self.kinds = base, inputs, kinds
        self._results = results
        self._loss = next(n for n in base.graph.nodes if n.op == "output").args[0]
        self._shared: dict[fx.Node, str] = {}  # the stops of a walk backwards
        self._sources = [n for n in base.graph.nodes if n.op == "placeholder"]
        for node in base.graph.nodes:
            if kinds.get(node.name) == PARAMETER:
                self._shared[node] = node.target
            elif node is self._loss:
                self._shared[node] = LOSS
            elif kinds.get(node.name) == REDUCTION:
                self._shared[node] = self._name(node)
        self._by_name = {name: node for node, name in self._shared.items()}
        self.nodes = (INPUT, *self._shared.values())
        self.values = {n: results[node.name] for n, node in self._by_name.items()}
        self.edges = tuple(
            (start, end) for end in self.reductions for start in self._starts(end)
        )

    def _name(self, node: fx.Node) -> str:
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path = stack[-1][0] if stack else ""
        label = "mean" if node.name.startswith(("channel_mean", "mean")) else node.name
        name = f"{path}.{label}" if path else label
        if name in self._shared.values() and label == "mean":
            name = name[: -len("mean")] + "square" if path else node.name
        while name in self._shared.values():
            name = f"{path}.{node.name}" if path else f"{node.name}_"
        return name

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that the loss uses."""
        return tuple(n for n in self.nodes if self._is(n, PARAMETER))

    @property
    def reductions(self) -> tuple[str, ...]:
        """Names of the other shared nodes, the loss last."""
        return tuple(n for n in self.nodes if n != INPUT and not self._is(n, PARAMETER))

    def _is(self, name: str, kind: str) -> bool:
        return name != INPUT and self.kinds[self._by_name[name].name] == kind

    def subgraph(self, target: str) -> tuple[fx.Node, ...]:
        """The operations of the base graph that make up the node T of the S-graph: what
        a walk backwards from it meets before the next shared nodes."""
        return self._walk(target)[0]

    def _starts(self, target: str) -> list[str]:
        stops = self._walk(target)[1]
        sources = [INPUT] if any(s in stops for s in self._sources) else []
        return sources + [name for n, name in self._shared.items() if n in stops]

    def _walk(self, target: str) -> tuple[tuple[fx.Node, ...], set[fx.Node]]:
        root = self._require(target)
        stops, inside, todo = set(), {root}, list(root.all_input_nodes)
        while todo:
            node = todo.pop()
            if node in self._shared or node in self._sources:
                stops.add(node)
            elif node not in inside:
                inside.add(node)
                todo += node.all_input_nodes
        ordered = (n for n in self.base.graph.nodes if n in inside)
        return tuple(n for n in ordered if n.op.startswith("call")), stops

    def function(
        self, target: str
    ) -> Callable[[Sequence[torch.Tensor], Values], torch.Tensor]:
        """The function f of T = E_n f(D_n, S).

        Returns:
            A function of (inputs, values of the shared nodes before T). On a batch of one
            example it returns f(D_n, S); on more, the mean over them.

        Raises:
            ValueError: target is no reduction of this graph.
        """
        node = self._require(target)
        return lambda inputs, values: self._evaluate(node, inputs, values)

    def batch_function(
        self, name: str
    ) -> Callable[[Sequence[torch.Tensor], Values], torch.Tensor]:
        """The function of a batch node of the base graph, as `function` for a reduction:
        one row for each example of the inputs.

        Raises:
            ValueError: there is no batch node of this name.
        """
        if self.kinds.get(name) != BATCH:
            found = [n for n, kind in self.kinds.items() if kind == BATCH]
            raise ValueError(f"{name!r} is no batch node; there are {found}")
        node = next(n for n in self.base.graph.nodes if n.name == name)
        return lambda inputs, values: self._evaluate(node, inputs, values)

    def batch_value(self, name: str) -> torch.Tensor:
        """Value of a batch node on the whole batch, examples first."""
        self.batch_function(name)
        return self._results[name]

    def forward(self, parameters: Values) -> dict[str, torch.Tensor]:
        """All reductions of the whole batch, by one forward pass of the base graph.

        Args:
            parameters: of every parameter, by name.
        """
        known = dict(zip(self._sources, self.inputs, strict=True))
        for name in self.reductions:
            self._evaluate(self._by_name[name], self.inputs, parameters, known)
        return {name: known[self._by_name[name]] for name in self.reductions}

    def _evaluate(self, root, inputs, values, known=None):
        """The value of a node; what `known` holds is not computed again."""
        known = (
            dict(zip(self._sources, inputs, strict=True)) if known is None else known
        )

        def value(node: fx.Node):
            if node not in known:
                if node in self._shared and node is not root:
                    known[node] = values[self._shared[node]]
                elif node.op == "get_attr":
                    known[node] = attribute(self.base, node.target)
                else:
                    known[node] = call(node, value)
            return known[node]

        return value(root)

    def jacobian(self, source: str, target: str) -> torch.Tensor:
        """J(S, T) = E_n ∂f(D_n, S)/∂S on the whole batch, (|T|, |S|).

        Raises:
            ValueError: there is no edge between two shared nodes of these names.
        """
        return self._jacobians(source, target, self.inputs)

    def example_jacobians(self, source: str, target: str) -> torch.Tensor:
        """J_n(S, T) = ∂f(D_n, S)/∂S for every example, (N, |T|, |S|); the other shared
        nodes have the values of the whole batch.

        Raises:
            ValueError: as `jacobian`.
        """

        def one(*row):
            return self._jacobians(source, target, [r[None] for r in row])

        return torch.func.vmap(one)(*self.inputs)

    def _jacobians(self, source, target, inputs):
        if source == INPUT or (source, target) not in self.edges:
            raise ValueError(
                f"no edge {source} → {target} between shared nodes; the edges are "
                f"{[e for e in self.edges if e[0] != INPUT]}"
            )
        f = self.function(target)

        def of_source(value):
            return f(inputs, {**self.values, source: value}).reshape(-1)

        found = torch.func.jacrev(of_source)(self.values[source])
        return found.reshape(found.shape[0], -1)

    def all_jacobians(self, *, per_example: bool = False) -> dict[Edge, torch.Tensor]:
        """`jacobian`, or `example_jacobians`, of every edge that does not start at D."""
        find = self.example_jacobians if per_example else self.jacobian
        return {edge: find(*edge) for edge in self.edges if edge[0] != INPUT}

    def paths(self, source: str, target: str = LOSS) -> Iterator[tuple[str, ...]]:
        """All directed paths from one node to another, each as a tuple of names."""
        for name in (source, target):
            if name not in self.nodes:
                raise ValueError(f"no node {name!r}; the nodes are {self.nodes}")
        if source == target:
            yield (source,)
            return
        for start, end in self.edges:
            if start == source:
                for rest in self.paths(end, target):
                    yield source, *rest

    def count_paths(self, source: str, target: str = LOSS) -> int:
        """How many paths there are, without listing them."""
        counts = dict.fromkeys(self.nodes, 0) | {source: 1}
        for start, end in self.edges:  # sorted by end, inputs before outputs
            counts[end] += counts[start] if start in counts and end != source else 0
        return counts[target]

    def path_sum(self, source: str, jacobians: Mapping[Edge, torch.Tensor]):
        """Σ over all paths from S to the loss of the products of Jacobians, (|S|,).

        Args:
            source: a parameter or a reduction.
            jacobians: of every edge, (|T|, |S|), or (N, |T|, |S|) for a sum per example.

        Raises:
            ValueError: source is no node, or has too many paths to list.
        """
        if source not in self.values or source == LOSS:
            raise ValueError(f"source must be one of {self.nodes[1:-1]}, got {source}")
        if (count := self.count_paths(source)) > MOST_PATHS:
            raise ValueError(f"{count} paths are too many; use backpropagation")
        total = 0.0
        for path in self.paths(source):
            edges = list(itertools.pairwise(path))
            product = jacobians[edges[0]]
            for edge in edges[1:]:
                product = jacobians[edge] @ product
            total = total + product[..., 0, :]
        return total

    def _require(self, target: str) -> fx.Node:
        if target not in self.reductions:
            raise ValueError(f"{target!r} is no reduction; they are {self.reductions}")
        return self._by_name[target]


def trace_s_graph(model: nn.Module, *inputs: torch.Tensor) -> SGraph:
    """Trace a model with `torch.fx`, classify its nodes and build the S-graph.

    Args:
        model: maps the inputs to the loss, one number. `nn.BatchNorm` in it is written
            out in means first. The model itself is not changed.
        inputs: the batch, examples along the first axis of each.

    Raises:
        TypeError: an input is no tensor, or the model is no module.
        ValueError: fewer than two examples, or unequal numbers; an operation mixes
            examples and is no mean over them, draws random numbers, writes into its
            input or returns something other than one tensor; the result is no loss.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    if not inputs or not all(isinstance(x, torch.Tensor) for x in inputs):
        raise TypeError("inputs must be tensors, examples along the first axis")
    counts = {x.shape[0] if x.ndim else 0 for x in inputs}
    if len(counts) != 1 or min(counts) < 2:
        raise ValueError(
            f"inputs must hold the same number of examples, at least 2, got {counts}; "
            "of one example every value would be a mean"
        )
    expanded = expand_batch_norms(model)
    tracer = _Tracer()
    graph = tracer.trace(expanded)
    base = fx.GraphModule(tracer.root, graph)
    parameters = dict(expanded.named_parameters(remove_duplicate=False))
    feed, kinds, results = iter(inputs), {}, {}
    for node in graph.nodes:
        name = node.name
        if node.op == "placeholder":
            try:
                kinds[name], results[name] = BATCH, next(feed)
            except StopIteration:
                raise ValueError(f"the model wants an input {name!r} too") from None
        elif node.op == "get_attr":
            kinds[name] = PARAMETER if node.target in parameters else CONSTANT
            results[name] = attribute(base, node.target).detach()
        elif node.op != "output":
            kinds[name], results[name] = classify(node, kinds, results)
    if next(feed, None) is not None:
        raise ValueError(f"the model takes fewer than {len(inputs)} inputs")
    _require_loss(
        next(n for n in graph.nodes if n.op == "output").args[0], kinds, results
    )
    return SGraph(base, inputs, kinds, results)


class _Tracer(fx.Tracer):
    """Enters every module, so that all parameters are nodes."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """No module is a leaf."""
        return False


def _require_loss(node, kinds, results) -> None:
    if not isinstance(node, fx.Node) or results[node.name].numel() != 1:
        raise ValueError(
            "the model must return its loss, one number; wrap it in WithLoss"
        )
    if kinds[node.name] not in (REDUCTION, DERIVED):
        raise ValueError(
            f"the result is a {kinds[node.name]} node, not a mean over examples; use "
            "reduction='mean'"
        )
