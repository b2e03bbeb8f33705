"""`bnbook.foundations.conventions` and `convention_layers`: what libraries do, and translation between them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from bnbook.foundations.convention_layers import (
    ReferenceLayer,
    TorchLayer,
    probe,
    promised,
)
from bnbook.foundations.conventions import (
    CONVENTIONS,
    convert_momentum,
    convert_running_statistics,
    get_convention,
    new_batch_weight,
)
from bnbook.foundations.normalization import standardize_weights

WITH_MOMENTUM = [
    name for name, convention in CONVENTIONS.items() if convention.weighs != "equal"
]
every = pytest.mark.parametrize("name", CONVENTIONS)
names = st.sampled_from(list(CONVENTIONS))
momentum_names = st.sampled_from(WITH_MOMENTUM)


class OnnxLayer:
    """The `onnx` reference evaluator as `probe` wants it."""

    def __init__(self, features, **attributes):
        onnx = pytest.importorskip("onnx")
        from onnx.reference import ReferenceEvaluator

        def info(name):
            return onnx.helper.make_tensor_value_info(
                name, onnx.TensorProto.DOUBLE, None
            )

        def model(training, outputs):
            node = onnx.helper.make_node(
                "BatchNormalization",
                list("xsbmv"),
                outputs,
                training_mode=training,
                **attributes,
            )
            graph = onnx.helper.make_graph(
                [node], "g", [info(n) for n in "xsbmv"], [info(n) for n in outputs]
            )
            return ReferenceEvaluator(
                onnx.helper.make_model(
                    graph, opset_imports=[onnx.helper.make_opsetid("", 15)]
                )
            )

        self.trains, self.infers = model(1, ["y", "mean", "var"]), model(0, ["y"])
        self.mean, self.var = np.zeros(features), np.ones(features)

    def feed(self, x):
        ones = np.ones_like(self.mean)
        return {"x": x, "s": ones, "b": 0 * ones, "m": self.mean, "v": self.var}

    def train(self, x):
        y, self.mean, self.var = self.trains.run(None, self.feed(x))
        return y

    def infer(self, x):
        return self.infers.run(None, self.feed(x))[0]


def batches(count, size, features=3, seed=0):
    return np.random.default_rng(seed).normal(
        [3.0, -1.0, 0.0][:features], [2.0, 0.5, 1.0][:features], (count, size, features)
    )


class TestConventions:
    @every
    def test_registry_is_consistent(self, name):
        convention = get_convention(name)
        assert convention.name == name
        assert (convention.momentum is None) == (convention.weighs == "equal")
        assert all(link.startswith("https://") for link in convention.source)

    def test_pytorch_is_what_the_registry_says(self):
        assert probe(TorchLayer) == promised("pytorch")

    def test_pytorch_without_momentum_is_the_papers_average(self):
        observed = probe(lambda features: TorchLayer(features, momentum=None))
        assert observed.weights == promised("paper").weights
        assert observed.corrected == promised("paper").corrected

    @pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
    @pytest.mark.filterwarnings("ignore:Degrees of freedom:RuntimeWarning")
    @pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
    def test_onnx_is_what_the_registry_says(self):
        pytest.importorskip("onnx")
        assert probe(OnnxLayer) == promised("onnx")

    @every
    def test_reference_layer_is_what_the_registry_says(self, name):
        assert probe(lambda features: ReferenceLayer(name, features)) == promised(name)

    def test_probe_sees_other_rules(self):
        class OtherLayer(ReferenceLayer):
            def _apply(self, x, mean, var):
                return (x - mean) / (np.sqrt(var) + self.eps)

        observed = probe(
            lambda features: OtherLayer("keras", features, eps=0.003, momentum=0.7)
        )
        assert (observed.eps_inside, observed.eps, observed.weights) == (
            False,
            0.003,
            (0.3, 0.3),
        )

        class Neither(ReferenceLayer):
            def _apply(self, x, mean, var):
                return x - mean

        with pytest.raises(ValueError, match="neither √"):
            probe(lambda features: Neither("keras", features))

        class NoChannels(ReferenceLayer):
            def _rows(self, x):
                raise ValueError("no")

        with pytest.raises(ValueError, match="neither axis 1 nor axis −1"):
            probe(lambda features: NoChannels("keras", features))

    def test_a_refused_batch_still_counts_in_pytorch(self):
        layer = nn.BatchNorm1d(2)
        with pytest.raises(ValueError, match="more than 1 value"):
            layer(torch.zeros(1, 2))
        layer(torch.zeros(0, 2))
        assert layer.num_batches_tracked == 2
        assert layer.running_var.tolist() == [1.0, 1.0]


class TestReferenceLayer:
    @pytest.mark.parametrize("module", [nn.BatchNorm1d, nn.BatchNorm2d])
    def test_equals_pytorch(self, module):
        shape = (4, 3) if module is nn.BatchNorm1d else (2, 3, 4, 5)
        mine, theirs = (
            ReferenceLayer("pytorch", 3, momentum=0.3, eps=0.2),
            TorchLayer(3, module, momentum=0.3, eps=0.2),
        )
        for seed in range(5):
            x = np.random.default_rng(seed).normal(2.0, 3.0, shape)
            np.testing.assert_allclose(
                mine.train(x), theirs.train(x), rtol=0, atol=1e-12
            )
        np.testing.assert_allclose(mine.mean, theirs.mean, rtol=1e-13)
        np.testing.assert_allclose(mine.var, theirs.var, rtol=1e-13)
        np.testing.assert_allclose(mine.infer(x), theirs.infer(x), rtol=0, atol=1e-12)

    def test_equals_onnx(self):
        pytest.importorskip("onnx")
        # Attributes of a node are stored in single precision, whatever the type of the data.
        stored = {"momentum": float(np.float32(0.9)), "eps": float(np.float32(1e-5))}
        mine, theirs = ReferenceLayer("onnx", 3, **stored), OnnxLayer(3)
        for x in batches(5, 4):
            np.testing.assert_allclose(
                mine.train(x), theirs.train(x), rtol=0, atol=1e-12
            )
        np.testing.assert_allclose(mine.mean, theirs.mean, rtol=1e-13)
        np.testing.assert_allclose(mine.var, theirs.var, rtol=1e-13)
        np.testing.assert_allclose(mine.infer(x), theirs.infer(x), rtol=0, atol=1e-12)

    def test_paper_averages_all_batches_alike(self):
        layer, data = ReferenceLayer("paper", 3), batches(7, 4)
        for x in data:
            layer.train(x)
        np.testing.assert_allclose(layer.mean, data.mean(axis=(0, 1)), rtol=1e-13)
        np.testing.assert_allclose(
            layer.var, data.var(axis=1, ddof=1).mean(axis=0), rtol=1e-13
        )

    @every
    def test_channels_where_the_convention_has_them(self, name):
        layer = ReferenceLayer(name, 2, momentum=None)
        x = np.random.default_rng(0).normal(size=(3, 2, 4, 5))
        placed = np.moveaxis(x, 1, layer.convention.channel_axis)
        y = np.moveaxis(layer.train(placed), layer.convention.channel_axis, 1)
        np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-14)
        with pytest.raises(ValueError, match="must hold the 2 features"):
            layer.train(np.zeros((3, 4, 5, 6)))

    def test_one_value_and_none(self):
        accepted = ReferenceLayer("keras", 2, momentum=0.5)
        assert not accepted.train(np.array([[3.0, -2.0]])).any()
        assert accepted.var.tolist() == [0.5, 0.5]
        accepted.train(np.zeros((0, 2)))
        assert np.isnan(accepted.mean).all()
        ignored = ReferenceLayer("pytorch", 2)
        assert ignored.train(np.zeros((0, 2))).shape == (0, 2)
        assert ignored.var.tolist() == [1.0, 1.0]
        with pytest.raises(ValueError, match="does not train on 1 values"):
            ignored.train(np.ones((1, 2)))

    @pytest.mark.parametrize(
        ("call", "error", "match"),
        [
            (
                lambda: ReferenceLayer("caffe", 2),
                ValueError,
                "no convention 'caffe'; use one of paper, pytorch",
            ),
            (lambda: ReferenceLayer("keras", 0), ValueError, "positive integer, got 0"),
            (
                lambda: ReferenceLayer("keras", 2, momentum=1.5),
                ValueError,
                r"\[0, 1\], got 1.5",
            ),
            (
                lambda: ReferenceLayer("paper", 2, momentum=0.1),
                ValueError,
                "no momentum",
            ),
            (lambda: ReferenceLayer("keras", 2, eps=-1.0), ValueError, "eps must be"),
            (
                lambda: ReferenceLayer("keras", 2).train(np.ones((4, 3))),
                ValueError,
                "must hold the 2 features",
            ),
            (
                lambda: ReferenceLayer("keras", 2).infer(np.ones(2)),
                ValueError,
                "must hold the 2 features",
            ),
            (
                lambda: ReferenceLayer("keras", 2).train(np.full((4, 2), np.inf)),
                ValueError,
                "finite",
            ),
            (
                lambda: ReferenceLayer("keras", 2).train(np.ones((4, 2), dtype=int)),
                TypeError,
                "floating-point",
            ),
        ],
    )
    def test_bad_input(self, call, error, match):
        with pytest.raises(error, match=match):
            call()


class TestMomentum:
    def test_defaults_of_the_libraries(self):
        assert convert_momentum(0.1, source="pytorch", target="onnx") == 0.9
        assert (
            round(convert_momentum(0.99, source="keras", target="pytorch"), 12) == 0.01
        )
        assert convert_momentum(0.99, source="keras", target="flax") == 0.99

    @given(st.floats(0, 1), momentum_names, momentum_names)
    def test_round_trip(self, momentum, source, target):
        there = convert_momentum(momentum, source=source, target=target)
        assert 0 <= there <= 1
        assert (
            abs(convert_momentum(there, source=target, target=source) - momentum)
            <= 1e-15
        )
        weights = new_batch_weight(momentum, source), new_batch_weight(there, target)
        assert abs(weights[0] - weights[1]) <= 1e-15

    @pytest.mark.parametrize("source", WITH_MOMENTUM)
    @pytest.mark.parametrize("target", WITH_MOMENTUM)
    def test_converted_momentum_gives_the_same_running_mean(self, source, target):
        layers = (
            ReferenceLayer(source, 3, momentum=0.3),
            ReferenceLayer(
                target, 3, momentum=convert_momentum(0.3, source=source, target=target)
            ),
        )
        for x in batches(6, 4):
            for layer in layers:
                layer.train(x)
        np.testing.assert_allclose(layers[0].mean, layers[1].mean, rtol=1e-13)

    @pytest.mark.parametrize(
        ("arguments", "error", "match"),
        [
            (
                (1.1, "keras", "flax"),
                ValueError,
                r"momentum must lie in \[0, 1\], got 1.1",
            ),
            ((-0.1, "keras", "pytorch"), ValueError, "got -0.1"),
            ((float("nan"), "keras", "pytorch"), ValueError, "got nan"),
            (("0.1", "keras", "pytorch"), TypeError, "real number, got str"),
            ((True, "keras", "pytorch"), TypeError, "real number, got bool"),
            (
                (0.1, "keras", "theano"),
                ValueError,
                "paper, pytorch, keras, tensorflow-fused, flax, onnx",
            ),
            ((0.1, None, "keras"), ValueError, "no convention None"),
            ((0.1, "paper", "keras"), ValueError, "'paper' has no momentum"),
            ((0.1, "keras", "paper"), ValueError, "momentum=None"),
        ],
    )
    def test_bad_input(self, arguments, error, match):
        momentum, source, target = arguments
        with pytest.raises(error, match=match):
            convert_momentum(momentum, source=source, target=target)


class TestRunningStatistics:
    @given(names, names, st.integers(2, 1000), st.floats(0, 1), st.integers(0, 2**31))
    def test_round_trip(self, source, target, size, initial_weight, seed):
        rng = np.random.default_rng(seed)
        mean, var = rng.normal(size=4), initial_weight + rng.exponential(2.0, size=4)
        options = {"batch_size": size, "initial_weight": initial_weight}
        there = convert_running_statistics(
            mean, var, source=source, target=target, **options
        )
        back = convert_running_statistics(
            *there, source=target, target=source, **options
        )
        np.testing.assert_array_equal(back[0], mean)
        np.testing.assert_allclose(back[1], var, rtol=1e-12)

    @given(names, names, names, st.integers(2, 50), st.integers(0, 2**31))
    @settings(max_examples=40)
    def test_way_round_does_not_matter(self, source, over, target, size, seed):
        mean, var = np.zeros(3), np.random.default_rng(seed).exponential(size=3)
        direct = convert_running_statistics(
            mean, var, source=source, target=target, batch_size=size
        )
        first = convert_running_statistics(
            mean, var, source=source, target=over, batch_size=size
        )
        both = convert_running_statistics(
            *first, source=over, target=target, batch_size=size
        )
        np.testing.assert_allclose(both[1], direct[1], rtol=1e-12)

    @pytest.mark.parametrize("source", WITH_MOMENTUM)
    @pytest.mark.parametrize("target", WITH_MOMENTUM)
    @pytest.mark.parametrize("size", [2, 5])
    def test_is_what_the_target_would_have_collected(self, source, target, size):
        one, other = (
            ReferenceLayer(
                name, 3, momentum=convert_momentum(0.2, source="pytorch", target=name)
            )
            for name in (source, target)
        )
        for x in batches(9, size):
            one.train(x)
            other.train(x)
        options = {"batch_size": size, "initial_weight": 0.8**9}
        mean, var = convert_running_statistics(
            one.mean, one.var, source=source, target=target, **options
        )
        np.testing.assert_allclose(mean, other.mean, rtol=1e-13)
        np.testing.assert_allclose(var, other.var, rtol=1e-12)
        if get_convention(source).corrected != get_convention(target).corrected:
            _, naive = convert_running_statistics(
                one.mean, one.var, source=source, target=target, batch_size=size
            )
            assert np.abs(naive - other.var).max() > 1e-3

    def test_torch_in_the_middle_of_a_run(self):
        """PyTorch for 10 batches, then Keras for 10: the same as Keras for 20."""
        keras = ReferenceLayer("keras", 3, momentum=0.9)
        moved = TorchLayer(
            3, momentum=convert_momentum(0.9, source="keras", target="pytorch")
        )
        for x in batches(10, 4):
            keras.train(x)
            moved.train(x)
        after = ReferenceLayer("keras", 3, momentum=0.9)
        after.mean, after.var = convert_running_statistics(
            moved.mean,
            moved.var,
            source="pytorch",
            target="keras",
            batch_size=4,
            initial_weight=0.9**10,
        )
        for x in batches(10, 4, seed=1):
            keras.train(x)
            after.train(x)
        np.testing.assert_allclose(after.mean, keras.mean, rtol=1e-13)
        np.testing.assert_allclose(after.var, keras.var, rtol=1e-13)

    def test_images_count_positions(self):
        one, other = (
            ReferenceLayer("pytorch", 2),
            ReferenceLayer("keras", 2, momentum=0.9),
        )
        x = np.random.default_rng(3).normal(size=(2, 2, 3, 4))
        one.train(x)
        other.train(np.moveaxis(x, 1, -1))
        _, var = convert_running_statistics(
            one.mean,
            one.var,
            source="pytorch",
            target="keras",
            batch_size=2 * 3 * 4,
            initial_weight=0.9,
        )
        np.testing.assert_allclose(var, other.var, rtol=1e-13)

    def test_new_arrays(self):
        mean, var = np.ones(2), np.ones(2)
        for target in ("pytorch", "keras"):
            new = convert_running_statistics(
                mean, var, source="pytorch", target=target, batch_size=4
            )
            new[0][:], new[1][:] = 7.0, 7.0
        assert mean.tolist() == var.tolist() == [1.0, 1.0]

    @pytest.mark.parametrize(
        ("changes", "error", "match"),
        [
            (
                {"batch_size": 1},
                ValueError,
                r"batch_size is 1: 'pytorch' and 'keras' differ",
            ),
            ({"batch_size": 0}, ValueError, "at least 1, got 0"),
            ({"batch_size": 4.0}, TypeError, "integer, got float"),
            (
                {"initial_weight": 1.1},
                ValueError,
                r"initial_weight must lie in \[0, 1\]",
            ),
            ({"initial_weight": 0.9}, ValueError, "larger than the variance 0.5"),
            (
                {"var": np.array([1.0, -1.0])},
                ValueError,
                "must not be negative, got -1",
            ),
            ({"var": np.ones(3)}, ValueError, "the shape of mean"),
            ({"var": np.array([1.0, np.nan])}, ValueError, "finite"),
            ({"mean": [0.0, 0.0]}, TypeError, "plain NumPy array"),
            ({"mean": np.zeros(2, dtype=complex)}, TypeError, "must be real"),
            ({"source": "caffe"}, ValueError, "no convention 'caffe'"),
            ({"target": "caffe"}, ValueError, "no convention 'caffe'"),
        ],
    )
    def test_bad_input(self, changes, error, match):
        options = {
            "mean": np.zeros(2),
            "var": np.array([0.5, 2.0]),
            "source": "pytorch",
            "target": "keras",
            "batch_size": 4,
        }
        options |= changes
        with pytest.raises(error, match=match):
            convert_running_statistics(
                options.pop("mean"), options.pop("var"), **options
            )


class TestExercises:
    """The reference solutions are the functions that the chapter uses, or PyTorch's."""

    def test_running_mean(self):
        from bnbook.exercises.foundations import conventions_momentum as exercise

        means, layer = batches(6, 4).mean(axis=1), TorchLayer(3, momentum=0.3)
        for mean in means:
            layer.train(mean + np.array([[-1.0], [1.0]]))
        got = exercise.running_mean(means, 0.3)
        np.testing.assert_allclose(got, layer.mean, rtol=1e-13)

    def test_rms_weights_and_groups(self):
        from bnbook.exercises.foundations import (
            conventions_property,
            conventions_rms,
            conventions_weights,
        )

        x, gamma = batches(2, 5), np.array([0.5, -2.0, 1.0])
        theirs = F.rms_norm(torch.tensor(x), (3,), torch.tensor(gamma), eps=0.3)
        got = conventions_rms.rms_norm(x, gamma, 0.3)
        np.testing.assert_allclose(got, theirs.numpy(), rtol=1e-12)
        w = np.random.default_rng(4).normal(size=(4, 6, 2, 2))
        got = conventions_weights.standardize_weights(w, 0.1)
        np.testing.assert_allclose(got, standardize_weights(w, eps=0.1), atol=1e-13)
        for variant in conventions_property.EXERCISE.correct:
            theirs = F.group_norm(torch.tensor(w), 3, eps=0.1).numpy()
            np.testing.assert_allclose(variant.function(w, 3, 0.1), theirs, atol=1e-13)
        for variant in conventions_property.EXERCISE.mutants:
            assert np.abs(variant.function(w, 3, 0.1) - theirs).max() > 1e-3

    def test_another_eps_and_a_moved_variance(self):
        from bnbook.exercises.foundations import conventions_convert, conventions_eps

        layer = TorchLayer(3, momentum=0.2)
        for x in batches(9, 4):
            layer.train(x)
        gamma, beta = np.array([0.5, -2.0, 1.0]), np.array([1.0, 0.0, -3.0])
        wanted = gamma * ReferenceInference(layer, 0.01)(x) + beta
        new_gamma, new_beta = conventions_eps.absorb_eps(
            gamma, beta, layer.var, 0.01, 0.5
        )
        got = new_gamma * ReferenceInference(layer, 0.5)(x) + new_beta
        np.testing.assert_allclose(got, wanted, rtol=1e-12)
        _, var = convert_running_statistics(
            layer.mean,
            layer.var,
            source="pytorch",
            target="keras",
            batch_size=4,
            initial_weight=0.8**9,
        )
        moved = conventions_convert.running_var_for_keras(layer.var, 4, 9, 0.2)
        np.testing.assert_allclose(moved, var, rtol=1e-13)


class ReferenceInference:
    """PyTorch's inference with a layer's statistics and another ε."""

    def __init__(self, layer, eps):
        self.statistics, self.eps = (layer.mean, layer.var), eps

    def __call__(self, x):
        running = map(torch.tensor, self.statistics)
        return F.batch_norm(torch.tensor(x), *running, eps=self.eps).numpy()
