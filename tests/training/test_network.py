"""Tests of the network in NumPy: gradients, parity with PyTorch, training, bad input."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnbook.experiments import Diverged
from bnbook.foundations.backward import batch_norm_backward
from bnbook.foundations.forward import batch_norm
from bnbook.training.diagram import diagram_rows
from bnbook.training.gradient_check import (
    central_differences,
    complex_step_gradients,
    flat,
)
from bnbook.training.layers import linear, linear_backward, relu, relu_backward
from bnbook.training.losses import LOSSES, logistic_loss, sigmoid, softmax_loss
from bnbook.training.network import (
    Network,
    evaluate,
    forward,
    loss_and_gradients,
    train,
    training_step,
)
from bnbook.training.sgd import SGD, minibatches
from bnbook.training.twin import torch_twin, train_beside_twin, twin_loss

OUTPUTS = {"logistic": 1, "softmax": 3}
KINDS = [(norm, loss) for norm in (False, True) for loss in OUTPUTS]


def problem(count=40, features=5, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, features))
    score = x[:, 0] * x[:, 1] + x[:, 2]
    return x, np.searchsorted(
        np.quantile(score, np.arange(1, classes) / classes), score
    )


def make(norm, loss="logistic", *, seed=1, dtype=np.float64, **options):
    """A small network whose parameters are all away from their initial values."""
    network = Network(
        (5, 7, 6, OUTPUTS[loss]),
        batch_norm=norm,
        loss=loss,
        seed=seed,
        dtype=dtype,
        **options,
    )
    rng = np.random.default_rng(seed + 1)
    for name, value in network.parameters.items():
        network.parameters[name] = (value + 0.3 * rng.normal(size=value.shape)).astype(
            dtype
        )
    return network


class TestLayers:
    def test_linear_is_torch(self):
        rng = np.random.default_rng(0)
        a, w, b, dz = (rng.normal(size=s) for s in ((4, 3), (3, 2), (2,), (4, 2)))
        leaves = [torch.tensor(v, requires_grad=True) for v in (a, w.T, b)]
        z = torch.nn.functional.linear(*leaves)
        da, dw, db = torch.autograd.grad(z, leaves, torch.tensor(dz))
        ours, cache = linear(a, w, b)
        grads = linear_backward(dz, cache)
        for got, expected in (
            (ours, z.detach()),
            (grads.da, da),
            (grads.dw, dw.T),
            (grads.db, db),
        ):
            np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-14)
        assert linear_backward(dz, linear(a, w)[1]).db is None

    def test_relu(self):
        y = np.array([-1.5, -0.0, 0.0, 2.0, np.nan, np.inf, -np.inf])
        a, cache = relu(y)
        np.testing.assert_array_equal(a, [0, 0, 0, 2, np.nan, np.inf, 0])
        np.testing.assert_array_equal(
            relu_backward(np.ones(7), cache), [0, 0, 0, 1, 0, 1, 0]
        )
        z = np.array([3 - 1j, -3 + 1j, 2j])
        np.testing.assert_array_equal(relu(z)[0], [3 - 1j, 0, 0])


class TestLosses:
    @pytest.mark.parametrize("scale", [1.0, 50.0, 1e4])
    def test_both_are_torch(self, scale):
        rng = np.random.default_rng(3)
        z, t = scale * rng.normal(size=(9, 4)), rng.integers(0, 4, size=9)
        for name, logits, labels, reference in (
            ("softmax", z, t, torch.nn.functional.cross_entropy),
            (
                "logistic",
                z[:, 0],
                t % 2,
                torch.nn.functional.binary_cross_entropy_with_logits,
            ),
        ):
            leaf = torch.tensor(logits, requires_grad=True)
            target = torch.tensor(labels)
            expected = reference(
                leaf, target.double() if name == "logistic" else target
            )
            expected.backward()
            loss_of, backward_of = LOSSES[name]
            loss, cache = loss_of(logits, labels)
            assert loss == pytest.approx(expected.item(), rel=1e-13)
            np.testing.assert_allclose(
                backward_of(cache), leaf.grad.numpy(), rtol=1e-12, atol=1e-15
            )

    def test_no_logit_overflows(self):
        z = np.array([-3e38, -1e4, 0, 1e4, 3e38], np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.isfinite(sigmoid(z)).all()
            loss, cache = logistic_loss(z[1:4], np.array([0, 1, 1]))
            assert loss == pytest.approx(math.log(2) / 3)
            assert cache.probability.dtype == np.float32
            loss, _ = softmax_loss(z[[1, 3]][None], np.array([0]))
        assert loss == 2e4

    def test_two_classes_of_a_softmax_are_a_logistic_loss_of_the_difference(self):
        z, t = (
            np.random.default_rng(4).normal(size=(6, 2)),
            np.array([0, 1, 1, 0, 1, 0]),
        )
        both = softmax_loss(z, t)[0], logistic_loss(z[:, 1] - z[:, 0], t)[0]
        assert both[0] == pytest.approx(both[1], rel=1e-14)


class TestGradients:
    @pytest.mark.parametrize(("norm", "loss"), KINDS)
    @pytest.mark.parametrize("l2", [0.0, 0.3])
    def test_every_parameter(self, norm, loss, l2):
        network = make(norm, loss, bias_before_norm=True)
        x, t = problem(12, classes=max(2, OUTPUTS[loss]))
        value, gradients = loss_and_gradients(network, x, t, l2=l2)
        assert isinstance(value, float)
        assert gradients.keys() == network.parameters.keys()
        for name, gradient in gradients.items():
            assert gradient.shape == network.parameters[name].shape
        got = flat(gradients)
        exact = flat(complex_step_gradients(network, x, t, l2=l2))
        np.testing.assert_allclose(got, exact, rtol=0, atol=1e-14)
        near = flat(central_differences(network, x, t, l2=l2))
        np.testing.assert_allclose(got, near, rtol=0, atol=1e-8)

    @pytest.mark.parametrize(("norm", "loss"), KINDS)
    def test_autograd_agrees_with_momentum_and_decay(self, norm, loss):
        network = make(norm, loss, bias_correction=False)
        x, t = problem(103, classes=max(2, OUTPUTS[loss]))
        distance = train_beside_twin(
            network,
            x,
            t,
            learning_rate=0.1,
            momentum=0.9,
            l2=0.02,
            epochs=10,
            batch_size=17,
            seed=5,
        )
        assert len(distance.loss) == 60  # the 103rd example joins the sixth batch
        for part in (distance.loss, distance.parameters, distance.running):
            assert part.max() < 1e-8
        if norm:
            assert distance.running.max() > 0  # something was compared

    def test_penalty_is_on_weights_alone(self):
        network, (x, t) = make(True), problem(12)
        plain, penalized = (
            loss_and_gradients(network, x, t, l2=l2) for l2 in (0.0, 0.5)
        )
        squares = sum(
            (v**2).sum() for n, v in network.parameters.items() if n.startswith("W")
        )
        assert penalized[0] - plain[0] == pytest.approx(0.25 * squares)
        for name, value in network.parameters.items():
            decay = 0.5 * value if name.startswith("W") else 0
            np.testing.assert_allclose(
                penalized[1][name], plain[1][name] + decay, atol=1e-14
            )

    def test_a_bias_before_normalization_is_ignored(self):
        network, (x, t) = make(True, bias_before_norm=True), problem(12)
        loss, gradients = loss_and_gradients(network, x, t)
        for name in ("b1", "b2"):
            assert np.abs(gradients[name]).max() < 1e-15
            network.parameters[name] = network.parameters[name] + 3.0
        assert loss_and_gradients(network, x, t)[0] == pytest.approx(loss, rel=1e-13)
        assert not {"b1", "b2"} & make(True).parameters.keys()

    def test_nothing_is_changed(self):
        for norm in (False, True):
            network, (x, t) = make(norm), problem(12)
            before = network.state(), x.copy(), t.copy()
            counts = [running.count for running in network.running]
            loss_and_gradients(network, x, t, l2=0.1)
            for name, value in before[0].parameters.items():
                np.testing.assert_array_equal(network.parameters[name], value)
            np.testing.assert_array_equal(x, before[1])
            np.testing.assert_array_equal(t, before[2])
            assert [running.count for running in network.running] == counts

    @settings(max_examples=25, deadline=None)
    @given(
        st.booleans(),
        st.sampled_from(sorted(OUTPUTS)),
        st.integers(0, 10**6),
        st.integers(2, 9),
    )
    def test_examples_in_any_order(self, norm, loss, seed, count):
        network = make(norm, loss, seed=seed)
        x, t = problem(count, classes=max(2, OUTPUTS[loss]), seed=seed)
        order = np.random.default_rng(seed).permutation(count)
        one, other = (
            loss_and_gradients(network, x[o], t[o], l2=0.1)
            for o in (np.arange(count), order)
        )
        assert one[0] == pytest.approx(other[0], rel=1e-9)
        scale = np.abs(flat(one[1])).max()
        np.testing.assert_allclose(
            flat(one[1]), flat(other[1]), atol=1e-7 * scale, rtol=0
        )

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10**6), st.sampled_from([0.1, 0.5, 4.0, 100.0]))
    def test_weights_before_normalization_have_no_scale(self, seed, factor):
        network, (x, t) = make(True, seed=seed, eps=0.0), problem(9, seed=seed)
        loss, gradients = loss_and_gradients(network, x, t)
        slope = (gradients["W1"] * network.parameters["W1"]).sum(axis=0)
        np.testing.assert_allclose(
            slope, 0, atol=1e-9 * (1 + np.abs(gradients["W1"]).max())
        )
        network.parameters["W1"] = factor * network.parameters["W1"]
        scaled_loss, scaled = loss_and_gradients(network, x, t)
        assert scaled_loss == pytest.approx(loss, rel=1e-9)
        np.testing.assert_allclose(
            factor * scaled["W1"],
            gradients["W1"],
            rtol=1e-5,
            atol=1e-8 * (1 + np.abs(gradients["W1"]).max()),
        )


class TestDescent:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 100))
    def test_an_epoch_visits_every_example_once(self, count, size, seed):
        batches = list(minibatches(count, size, np.random.default_rng(seed)))
        np.testing.assert_array_equal(
            np.sort(np.concatenate(batches)), np.arange(count)
        )
        assert all(len(batch) == size for batch in batches[:-1])
        assert len(batches[-1]) <= size + 1
        if count > 1 and size > 1:
            assert len(batches[-1]) > 1

    def test_the_order_depends_on_the_generator_alone(self):
        rng = np.random.default_rng(0)
        first, second = (np.concatenate(list(minibatches(50, 8, rng))) for _ in "ab")
        again = np.concatenate(list(minibatches(50, 8, np.random.default_rng(0))))
        np.testing.assert_array_equal(first, again)
        assert (first != second).any()

    def test_sgd_is_torch(self):
        rng = np.random.default_rng(1)
        parameters = {"a": rng.normal(size=3), "b": rng.normal(size=(2, 2))}
        leaves = [torch.tensor(v, requires_grad=True) for v in parameters.values()]
        theirs, ours = torch.optim.SGD(leaves, lr=0.3, momentum=0.8), SGD(0.3, 0.8)
        start = parameters["a"]
        kept = start.copy()
        for _ in range(5):
            gradients = {n: rng.normal(size=v.shape) for n, v in parameters.items()}
            for leaf, gradient in zip(leaves, gradients.values(), strict=True):
                leaf.grad = torch.tensor(gradient)
            theirs.step()
            ours.update(parameters, gradients)
        for leaf, value in zip(leaves, parameters.values(), strict=True):
            np.testing.assert_allclose(value, leaf.detach(), rtol=1e-14)
        np.testing.assert_array_equal(start, kept)  # old arrays stay as they are

    def test_constant_gradient_reaches_the_terminal_step(self):
        parameters, optimizer = {"a": np.zeros(1)}, SGD(0.1, 0.9)
        for _ in range(200):
            before = parameters["a"]
            optimizer.update(parameters, {"a": np.ones(1)})
        assert (before - parameters["a"])[0] == pytest.approx(0.1 / (1 - 0.9))


class TestTraining:
    @pytest.mark.parametrize(("norm", "loss"), KINDS)
    def test_it_learns_and_repeats_itself(self, norm, loss):
        x, t = problem(600, classes=max(2, OUTPUTS[loss]))
        histories = []
        for _ in range(2):
            network = Network(
                (5, 16, 16, OUTPUTS[loss]), batch_norm=norm, loss=loss, seed=0
            )
            histories.append(
                train(
                    network,
                    (x[:400], t[:400]),
                    (x[400:], t[400:]),
                    learning_rate=0.1,
                    momentum=0.9,
                    epochs=8,
                    batch_size=32,
                    seed=3,
                )
            )
        one, other = histories
        assert one.train_accuracy[-1] > 0.85 > 0.7 > 1 / max(2, OUTPUTS[loss])
        assert one.train_loss[-1] < one.train_loss[0]
        assert one.validation_accuracy.shape == (8,)
        assert one.step_loss.shape == (8 * 13,)
        np.testing.assert_array_equal(one.step_loss, other.step_loss)
        assert all(v.dtype == np.float32 for v in network.parameters.values())

    def test_best_epoch_is_the_first_best_and_can_be_restored(self):
        x, t = problem(300)
        noisy = np.where(np.random.default_rng(0).random(300) < 0.3, 1 - t, t)
        network = Network((5, 32, 32, 1), batch_norm=True, seed=0)
        data = (x[:200], noisy[:200]), (x[200:], t[200:])
        history = train(
            network,
            *data,
            learning_rate=0.3,
            momentum=0.9,
            epochs=20,
            batch_size=20,
            seed=1,
        )
        best = int(np.argmax(history.validation_accuracy))
        assert history.best_epoch == best + 1 < 20
        assert (
            evaluate(network, *data[1])[1] == history.validation_accuracy[-1]
        )  # the last epoch
        network.restore(history.best)
        loss, accuracy = evaluate(network, *data[1])
        assert accuracy == history.validation_accuracy[best]
        assert loss == pytest.approx(history.validation_loss[best], rel=1e-6)
        training_step(network, SGD(0.1), x[:20].astype(np.float32), t[:20])
        network.restore(history.best)  # the state was not touched by what came after
        assert evaluate(network, *data[1]) == (loss, accuracy)

    def test_of_equally_good_epochs_the_first_is_best(self):
        x = np.random.default_rng(0).normal(size=(60, 5))
        t = (x[:, 0] > 0).astype(int)
        x[:, 0] += 5 * np.sign(x[:, 0])  # easy: all right from the second epoch on
        network = Network((5, 16, 1), batch_norm=False, seed=0)
        history = train(
            network, (x, t), (x, t), learning_rate=0.1, epochs=6, batch_size=20, seed=0
        )
        assert (history.validation_accuracy[-3:] == 1).all()
        assert history.best_epoch == 1 + np.argmax(history.validation_accuracy) <= 4

    def test_training_is_the_same_with_another_normalization_of_equal_values(self):
        def forward_pair(x, gamma, beta, *, eps):
            y, cache = batch_norm(x, gamma, beta, eps=eps)
            x[:] = np.nan  # it may overwrite its argument
            return y, cache

        def backward_pair(dy, cache):
            grads = batch_norm_backward(dy, cache)
            dy[:] = np.nan
            return grads

        x, t = problem(30)
        plain, other = make(True), make(True, normalize=(forward_pair, backward_pair))
        for network in (plain, other):
            optimizer = SGD(0.1, 0.9)
            for _ in range(3):
                training_step(network, optimizer, x, t, l2=0.1)
        for name, value in plain.parameters.items():
            np.testing.assert_array_equal(value, other.parameters[name])

    def test_running_statistics_are_those_of_the_batch_without_any_past(self):
        network, (x, t) = make(True, alpha=0.0), problem(30)
        twin = torch_twin(make(True, alpha=0.0, bias_correction=False))
        twin_loss(network, twin, x, t)
        training_step(network, SGD(1e-300), x, t)
        np.testing.assert_allclose(
            network.running[0].mean, twin[1].running_mean, rtol=1e-12, atol=1e-14
        )
        np.testing.assert_allclose(
            network.running[0].var, twin[1].running_var, rtol=1e-12
        )

    def test_prediction_is_that_of_torch_in_evaluation_mode(self):
        for loss in OUTPUTS:
            network, (x, t) = make(True, loss, bias_correction=False), problem(30)
            for _ in range(3):
                training_step(network, SGD(0.1), x, t % OUTPUTS[loss])
            logits = torch_twin(network).eval()(torch.tensor(x)).detach().numpy()
            np.testing.assert_allclose(
                network.predict(x).reshape(30, -1), logits, rtol=1e-11, atol=1e-13
            )

    def test_prediction_does_not_depend_on_the_company(self, monkeypatch):
        network, (x, t) = make(True), problem(30)
        training_step(network, SGD(0.1), x, t)
        monkeypatch.setattr("bnbook.training.architecture.ROWS", 7)
        together = network.predict(x)
        alone = np.concatenate([network.predict(row[None]) for row in x])
        np.testing.assert_allclose(together, alone, rtol=1e-12)
        in_batch, _ = forward(network, x)
        assert np.abs(in_batch - together).max() > 1e-3

    @pytest.mark.parametrize("norm", [False, True])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_divergence_names_step_and_rate(self, norm, dtype):
        network, (x, t) = make(norm, dtype=dtype), problem(40)
        with pytest.raises(Diverged, match="learning rate 1e") as caught:
            train(
                network,
                (x, t),
                (x, t),
                learning_rate=1e40 if dtype is np.float32 else 1e200,
                epochs=5,
                batch_size=8,
                seed=0,
            )
        assert 0 < caught.value.step <= 25
        assert str(caught.value.step) in str(caught.value)

    def test_a_failed_step_changes_nothing(self):
        network, (x, t) = make(True), problem(12)
        network.parameters["W3"] = np.full_like(network.parameters["W3"], np.inf)
        before = network.state()
        with pytest.raises(FloatingPointError, match="not finite"):
            training_step(network, SGD(0.1), x, t)
        for name, value in before.parameters.items():
            np.testing.assert_array_equal(network.parameters[name], value)
        assert network.running[0].count == 0

    def test_progress_bar_stays_off_outside_a_terminal(self, capsys):
        x, t = problem(40)
        options = dict(learning_rate=0.1, epochs=1, batch_size=8, seed=0)
        train(make(False), (x, t), (x, t), progress=True, **options)
        assert capsys.readouterr() == ("", "")


class TestNetwork:
    def test_control_and_normalized_network_share_their_weights(self):
        control, normalized = (
            Network((4, 30, 30, 1), batch_norm=norm, seed=5) for norm in (False, True)
        )
        for name in ("W1", "W2", "W3"):
            np.testing.assert_array_equal(
                control.parameters[name], normalized.parameters[name]
            )
        assert (
            Network((4, 30, 30, 1), batch_norm=True, seed=6).parameters["W1"]
            != normalized.parameters["W1"]
        ).any()

    def test_variance_of_the_initial_weights(self):
        network = Network((50, 400, 300, 1), batch_norm=False, seed=0)
        for i, expected in ((1, 2 / 50), (2, 2 / 400), (3, 1 / 300)):
            w = network.parameters[f"W{i}"]
            assert w.var() == pytest.approx(expected, rel=4 * math.sqrt(2 / w.size))

    def test_models_of_figure_3_1_0(self):
        sizes = (28, 1000, 1000, 1000, 1000, 1)
        control, normalized = (
            Network(sizes, batch_norm=norm, seed=0) for norm in (False, True)
        )
        hidden = ["linear", "ReLU"] * 4
        assert [kind for kind, _ in control.layers] == [
            "input",
            *hidden,
            "linear",
            "sigmoid",
        ]
        assert [kind for kind, _ in normalized.layers].count("batch norm") == 4
        weights = 28 * 1000 + 3 * 1000**2 + 1000
        count = lambda network: sum(v.size for v in network.parameters.values())
        assert count(control) == weights + 4001
        assert count(normalized) == weights + 8001
        places = dict((text, place) for place, text in diagram_rows(normalized)[-2:])
        assert places == dict(
            (text, place) for place, text in diagram_rows(control)[-2:]
        )

    def test_astype_is_a_copy(self):
        network = make(True)
        other = network.astype(np.float32)
        other.parameters["W1"][:] = 0
        assert network.parameters["W1"].any()
        assert network.parameters["W1"].dtype == np.float64
        assert other.dtype == np.float32


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"sizes": (5,)}, ValueError, "input and output"),
            ({"sizes": (5, 0, 1)}, ValueError, "at least 1"),
            ({"sizes": (5, 2.0, 1)}, TypeError, "integer"),
            ({"sizes": (5, 3)}, ValueError, "1 output"),
            ({"sizes": (5, 1), "loss": "softmax"}, ValueError, "at least 2 outputs"),
            ({"loss": "hinge"}, ValueError, "hinge"),
            ({"dtype": int}, TypeError, "floating"),
            ({"eps": -1e-5}, ValueError, "eps"),
            ({"alpha": 1.5}, ValueError, "alpha"),
            ({"seed": -1}, ValueError, "seed"),
            ({"seed": 0.5}, TypeError, "seed"),
        ],
    )
    def test_network(self, options, error, words):
        with pytest.raises(error, match=words):
            Network(**{"sizes": (5, 3, 1), "batch_norm": True, "seed": 0} | options)

    @pytest.mark.parametrize(
        ("change", "error", "words"),
        [
            (lambda x, t: (x[:, :4], t), ValueError, r"\(M, 5\)"),
            (lambda x, t: (x[:0], t[:0]), ValueError, "M > 0"),
            (lambda x, t: (x[0], t[0]), ValueError, r"\(M, 5\)"),
            (lambda x, t: (x.astype(int), t), TypeError, "floating"),
            (lambda x, t: (np.where(x > 1, np.nan, x), t), ValueError, "finite"),
            (lambda x, t: (x, t[:-1]), ValueError, "one label for each row"),
            (lambda x, t: (x, t[:, None]), ValueError, "one label for each row"),
            (lambda x, t: (x, t + 1), ValueError, "labels must be 0 … 1, got 2"),
            (lambda x, t: (x, t - 0.5), ValueError, "labels"),
            (lambda x, t: (x, t * np.nan), ValueError, "labels"),
            (lambda x, t: (x, t.astype(str)), TypeError, "numbers"),
            (lambda x, t: (x[:1], t[:1]), ValueError, "one value per feature"),
        ],
    )
    def test_examples(self, change, error, words):
        network, (x, t) = make(True), problem(12)
        with pytest.raises(error, match=words):
            loss_and_gradients(network, *change(x, t))

    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"learning_rate": 0.0}, ValueError, "above 0"),
            ({"learning_rate": math.nan}, ValueError, "finite"),
            ({"learning_rate": "0.1"}, TypeError, "learning_rate"),
            ({"momentum": 1.0}, ValueError, "below 1"),
            ({"momentum": -0.1}, ValueError, "momentum"),
            ({"l2": -1e-9}, ValueError, "l2"),
            ({"l2": math.inf}, ValueError, "l2"),
            ({"epochs": 0}, ValueError, "epochs"),
            ({"batch_size": 1}, ValueError, "batch_size must be at least 2"),
            ({"batch_size": 8.0}, TypeError, "batch_size"),
            ({"seed": None}, TypeError, "seed"),
        ],
    )
    def test_training(self, options, error, words):
        x, t = problem(12)
        usual = {"learning_rate": 0.1, "epochs": 1, "batch_size": 4, "seed": 0}
        with pytest.raises(error, match=words):
            train(make(True), (x, t), (x, t), **(usual | options))

    def test_the_control_may_train_on_single_examples(self):
        x, t = problem(12)
        history = train(
            make(False),
            (x, t),
            (x, t),
            learning_rate=0.1,
            epochs=1,
            batch_size=1,
            seed=0,
        )
        assert len(history.step_loss) == 12

    def test_prediction_before_training(self):
        with pytest.raises(ValueError, match="0 values"):
            make(True).predict(problem(12)[0])

    def test_restore_and_update_of_something_else(self):
        with pytest.raises(ValueError, match="restore a state of this network"):
            make(True).restore(make(False).state())
        with pytest.raises(ValueError, match="gradient of a"):
            SGD(0.1).update({"a": np.zeros(2)}, {"a": np.zeros(3)})
        with pytest.raises(ValueError, match="bias_correction=False"):
            torch_twin(make(True))

    def test_structural_errors_are_not_taken_for_divergence(self):
        def broken(x, gamma, beta, *, eps):
            raise ValueError("wrong shape")

        network = make(True, normalize=(broken, batch_norm_backward))
        with pytest.raises(ValueError, match="wrong shape"):
            training_step(network, SGD(0.1), *problem(12))
