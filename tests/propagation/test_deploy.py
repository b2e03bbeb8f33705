"""`bnbook.propagation.deploy` and its parts: integers only, bit for bit."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bnbook.propagation.binary import BinaryConv2d, BinaryLinear, Sign
from bnbook.propagation.deploy import PackedNetwork, pack_network
from bnbook.propagation.deploy_training import (
    KINDS,
    bytes_of,
    disagreements,
    inputs,
    network,
    predictions,
    train,
)
from bnbook.propagation.packing import (
    Ternary,
    level_dot,
    pack_bits,
    pack_levels,
    pack_signs,
    pack_ternary,
    sign_dot,
    ternary_dot,
    unpack_bits,
    word_count,
)
from bnbook.propagation.ternary import TernaryConv2d, TernaryLinear
from bnbook.propagation.thresholds import (
    Threshold,
    evaluate,
    fold_scores,
    fold_sign,
    real_threshold,
    same_winners,
)

LENGTHS = st.one_of(st.integers(1, 70), st.sampled_from([127, 128, 129, 192, 200]))


def signs(rng, *shape):
    return rng.choice([-1, 1], shape)


def normalization(gamma, beta, mean, var, *, eps=1e-5, dtype=torch.float32, kind=None):
    norm = (kind or nn.BatchNorm1d)(len(gamma), eps=eps, dtype=dtype)
    values = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": var}
    state = {name: torch.tensor(v, dtype=dtype) for name, v in values.items()}
    norm.load_state_dict(state, strict=False)
    return norm.eval()


def unsettle(model, seed):
    """Statistics and parameters of both signs, as no initialization has them."""
    generator = torch.Generator().manual_seed(seed)
    for part in model:
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, spread in (
                (part.weight, 1.0),
                (part.bias, 1.0),
                (part.running_mean, 5.0),
            ):
                tensor.data.normal_(0.0, spread, generator=generator)
            part.running_var.uniform_(0.5, 90.0, generator=generator)
    return model.eval()


class TestPacking:
    @given(LENGTHS, st.integers(0, 2**32 - 1))
    @settings(deadline=None)
    def test_dot_products_are_those_of_integers(self, length, seed):
        rng = np.random.default_rng(seed)
        rows, columns = rng.integers(1, 6, 2)
        a, w = signs(rng, rows, length), signs(rng, columns, length)
        u, t = rng.integers(-1, 2, (rows, length)), rng.integers(-1, 2, w.shape)
        z = rng.integers(0, 17, a.shape)
        bits_a, bits_w, planes = pack_signs(a), pack_signs(w), pack_levels(z, 5)
        for got, expected in (
            (sign_dot(bits_a, bits_w, length), a @ w.T),
            (ternary_dot(pack_ternary(u), pack_ternary(t)), u @ t.T),
            (ternary_dot(bits_a, pack_ternary(t)), a @ t.T),
            (ternary_dot(pack_ternary(a), pack_ternary(w)), a @ w.T),
            (level_dot(planes, bits_w), z @ w.T),
            (level_dot(planes, pack_ternary(t)), z @ t.T),
        ):
            assert got.dtype == np.int32
            np.testing.assert_array_equal(got, expected)

    @given(LENGTHS, st.integers(0, 2**32 - 1))
    @settings(deadline=None)
    def test_unpacking_undoes_packing(self, length, seed):
        bits = np.random.default_rng(seed).random((2, 3, length)) < 0.5
        words = pack_bits(bits)
        assert words.shape == (2, 3, word_count(length)) and words.dtype == np.uint64
        np.testing.assert_array_equal(unpack_bits(words, length), bits)
        assert np.bitwise_count(words).sum() == bits.sum()  # the padding is 0

    def test_where_a_bit_lies(self):
        bits = np.zeros(130, bool)
        bits[[0, 63, 64, 129]] = True
        assert pack_bits(bits).tolist() == [1 + 2**63, 1, 2]

    def test_pieces_of_any_size_give_the_same(self, monkeypatch):
        rng = np.random.default_rng(0)
        a, w = signs(rng, 7, 300), signs(rng, 5, 300)
        for chunk in (1, 6, 17, 1 << 16):
            monkeypatch.setattr("bnbook.propagation.packing._CHUNK", chunk)
            got = sign_dot(pack_signs(a), np.asfortranarray(pack_signs(w)), 300)
            np.testing.assert_array_equal(got, a @ w.T)

    def test_nothing_is_modified(self):
        rng = np.random.default_rng(0)
        a, w = pack_signs(signs(rng, 3, 70)), pack_signs(signs(rng, 4, 70))
        before = a.copy(), w.copy()
        sign_dot(a, w, 70)
        np.testing.assert_array_equal(a, before[0])
        np.testing.assert_array_equal(w, before[1])

    @pytest.mark.parametrize(
        ("function", "x", "words"),
        [
            (pack_signs, [1.0, 0.0], r"only -1, \+1, got 0.0"),
            (pack_signs, [1.0, np.nan], "got nan"),
            (pack_signs, [2, 1], "got 2"),
            (pack_ternary, [0.5, 1.0], "got 0.5"),
            (lambda x: pack_levels(x, 4), [16], "0 to 15, got 16"),
            (lambda x: pack_levels(x, 4), [-1], "got -1"),
            (lambda x: pack_levels(x, 4), [1.5], "got 1.5"),
            (lambda x: pack_levels(x, 4), [np.nan], "got nan"),
            (lambda x: pack_levels(x, 0), [1], "bits must be an integer from 1"),
            (pack_signs, [], "K at least 1"),
            (pack_signs, 1.0, "K at least 1"),
        ],
    )
    def test_values_that_do_not_fit_a_bit(self, function, x, words):
        with pytest.raises(ValueError, match=words):
            function(np.array(x))

    def test_wrong_types(self):
        for x in ([1, -1], np.array(["a"]), np.array([True]), np.array([1j])):
            with pytest.raises(TypeError, match="real numbers"):
                pack_signs(x)
        with pytest.raises(TypeError, match="boolean array"):
            pack_bits(np.array([0, 1]))
        words = np.zeros((2, 1), np.uint64)
        for wrong in (words.astype(np.int64), words.astype(float), [[0]]):
            with pytest.raises(TypeError, match="uint64"):
                sign_dot(wrong, words, 9)
        with pytest.raises(TypeError, match="length must be an integer"):
            sign_dot(words, words, 9.0)

    def test_wrong_lengths(self):
        words = np.zeros((2, 2), np.uint64)
        for length in (0, 64, 129):
            with pytest.raises(ValueError, match="2 words in a row"):
                sign_dot(words, words, length)
        with pytest.raises(ValueError, match="must have 2 axes"):
            sign_dot(words[0], words, 100)
        with pytest.raises(ValueError, match="bits set behind entry 100"):
            sign_dot(words, words | (np.uint64(1) << np.uint64(36)), 100)
        with pytest.raises(ValueError, match="rows of one length"):
            ternary_dot(words, Ternary(words[:, :1], words[:, :1]))


class TestThresholds:
    """The fold against the module itself, for every sum."""

    SUMS = np.arange(-300, 301)

    def agree(self, norm, low=-300, high=300):
        sums = np.arange(low, high + 1)[:, None].repeat(norm.num_features, 1)
        rule = fold_sign(norm, low, high)
        np.testing.assert_array_equal(rule.bits(sums), evaluate(norm, sums) >= 0)
        return rule

    @given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.booleans())
    @settings(deadline=None, max_examples=40)
    def test_random_features(self, seed, features, images):
        rng = np.random.default_rng(seed)
        kind = nn.BatchNorm2d if images else nn.BatchNorm1d
        norm = normalization(
            rng.normal(size=features) * 10.0 ** rng.integers(-6, 6, features),
            rng.normal(size=features) * 10.0 ** rng.integers(-6, 6, features),
            rng.normal(0, 100, features),
            rng.uniform(0, 1e4, features),
            kind=kind,
        )
        self.agree(norm)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_thresholds_on_an_integer_are_rounded_as_the_module_rounds(self, dtype):
        rng = np.random.default_rng(0)
        gamma, mean = rng.normal(size=2000), rng.normal(0, 50, 2000)
        var = rng.uniform(1, 900, 2000)
        # β puts the threshold on an integer: the sign there is decided by rounding.
        at = rng.integers(-250, 251, 2000)
        beta = -gamma * (at - mean) / np.sqrt(var + 1e-5)
        norm = normalization(gamma, beta, mean, var, dtype=dtype)
        rule = self.agree(norm)
        assert np.abs(rule.at - at).max() <= 1
        if dtype is torch.float32:
            stored = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
            algebra = real_threshold(*(v.detach().double() for v in stored), 1e-5)
            differ = (algebra.at != rule.at).mean()
            assert 0 < differ < 0.6  # some do, which is why the module is asked

    def test_real_threshold_is_right_for_exact_numbers(self):
        rng = np.random.default_rng(1)
        gamma = rng.choice([-4.0, -0.5, 0.25, 1.0, 2.0], 500)
        beta, mean = rng.integers(-40, 41, (2, 500)) / 4
        var = rng.choice([0.25, 1.0, 16.0], 500)  # σ is a power of two: nothing rounds
        norm = normalization(gamma, beta, mean, var, eps=0.0)
        rule, algebra = self.agree(norm), real_threshold(gamma, beta, mean, var, 0.0)
        np.testing.assert_array_equal(algebra.flip, gamma < 0)
        sums = self.SUMS[:, None].repeat(500, 1)
        np.testing.assert_array_equal(algebra.bits(sums), rule.bits(sums))
        inside = np.abs(algebra.at) < 300
        assert inside.sum() > 400 and len(np.unique(gamma)) == 5
        np.testing.assert_array_equal(algebra.at[inside], rule.at[inside])

    def test_gamma_zero_is_a_constant(self):
        norm = normalization(
            [0.0, 0.0, 0.0, -0.0], [1.0, -1.0, 0.0, -0.0], [3.0] * 4, [1.0] * 4
        )
        bits = self.agree(norm).bits(self.SUMS[:, None])
        assert bits.all(axis=0).tolist() == [True, False, True, True]
        assert bits.any(axis=0).tolist() == [True, False, True, True]
        with pytest.raises(ValueError, match="γ is 0 for a feature"):
            real_threshold(*np.zeros((3, 2)), np.ones(2), 0.0)

    def test_threshold_out_of_reach_and_range_of_one_sum(self):
        norm = normalization(
            [1.0, 1.0, -1.0, -1.0], [1e6, -1e6, 1e6, -1e6], [0.0] * 4, [1.0] * 4
        )
        self.agree(norm)
        for s in (-7, 0, 7):
            self.agree(norm, s, s)
        self.agree(norm, 5, 6)

    def test_without_affine_parameters(self):
        norm = nn.BatchNorm1d(3, affine=False).eval()
        norm.running_mean.copy_(torch.tensor([2.5, -3.0, 0.0]))
        assert self.agree(norm).at.tolist() == [3, -3, 0]

    @pytest.mark.parametrize("features", [1, 10, 16, 17, 37])
    def test_module_does_not_depend_on_the_batch(self, features):
        rng = np.random.default_rng(features)
        sums = np.arange(-90, 91)[:, None].repeat(features, 1)
        parameters = (*rng.normal(size=(3, features)), rng.uniform(1, 9, features))
        for kind in (nn.BatchNorm1d, nn.BatchNorm2d):
            norm = normalization(*parameters, kind=kind)
            rows = np.concatenate([evaluate(norm, row[None]) for row in sums])
            np.testing.assert_array_equal(evaluate(norm, sums), rows)
        images = torch.tensor(sums.T.reshape(1, features, 1, -1), dtype=torch.float32)
        for layout in (torch.contiguous_format, torch.channels_last):
            y = norm(images.contiguous(memory_format=layout)).detach().numpy()
            np.testing.assert_array_equal(y[0, :, 0].T, evaluate(norm, sums))

    def test_bad_input(self):
        fine = ([1.0], [0.0], [0.0], [1.0])
        norm = normalization(*fine)
        for position, words in enumerate(("scale", "shift", "mean", "variance")):
            for value in (np.nan, np.inf):
                broken = [list(v) for v in fine]
                broken[position] = [value]
                with pytest.raises(ValueError, match=f"the {words} of .* not finite"):
                    fold_sign(normalization(*broken), -5, 5)
        with pytest.raises(ValueError, match="running variance is negative"):
            fold_sign(normalization([1.0], [0.0], [0.0], [-1.0]), -5, 5)
        with pytest.raises(ValueError, match="not finite at s"):
            fold_sign(normalization([3e38], [0.0], [0.0], [1e-5]), -5, 5)
        with pytest.raises(ValueError, match="training mode"):
            fold_sign(normalization(*fine).train(), -5, 5)
        with pytest.raises(ValueError, match="no running statistics"):
            fold_sign(nn.BatchNorm1d(2, track_running_stats=False).eval(), -5, 5)
        with pytest.raises(ValueError, match="low must not exceed high"):
            fold_sign(norm, 1, 0)
        with pytest.raises(ValueError, match="only to 16777216"):
            fold_sign(norm, 0, 2**24 + 1)
        with pytest.raises(ValueError, match="only to 256"):
            fold_sign(norm.bfloat16(), -300, 300)
        with pytest.raises(TypeError, match="got Linear"):
            fold_sign(nn.Linear(2, 2), -5, 5)


class TestScores:
    @given(st.integers(0, 2**32 - 1))
    @settings(deadline=None, max_examples=25)
    def test_same_winners_says_what_all_pairs_say(self, seed):
        rng = np.random.default_rng(seed)
        a = rng.integers(0, 9, (3, 3)).astype(float)
        b = a + rng.choice([0.0, 0.0, 0.0, 1.0], a.shape)
        every = itertools.product(range(3), repeat=3)  # one sum for each feature
        alike = all(
            a[list(rows), [0, 1, 2]].argmax() == b[list(rows), [0, 1, 2]].argmax()
            for rows in every
        )
        # Pairs are compared too, so that it can only be stricter.
        assert alike or not same_winners(a, b)
        assert same_winners(a, a) and same_winners(a, 2 * a - 7)

    def test_same_winners_knows_who_wins_a_tie(self):
        tie, first, second = np.array([[1, 1]]), np.array([[2, 1]]), np.array([[1, 2]])
        assert same_winners(tie, first) and same_winners(first, tie)
        assert not same_winners(tie, second) and not same_winners(second, tie)
        with pytest.raises(ValueError, match="must both be"):
            same_winners(tie, tie.T)

    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("step", [1, 2])
    def test_argmax_of_every_kind_of_sum(self, seed, step):
        rng = np.random.default_rng(seed)
        norm = normalization(
            rng.normal(size=10) * 3,
            rng.normal(size=10),
            rng.normal(0, 20, 10),
            rng.uniform(1, 600, 10),
        )
        scores = fold_scores(norm, -256, 256, step)
        sums = rng.integers(-256 // step, 256 // step + 1, (20_000, 10)) * step
        expected = torch.from_numpy(evaluate(norm, sums)).argmax(dim=1).numpy()
        np.testing.assert_array_equal(scores(sums).argmax(axis=1), expected)
        every = np.arange(-256, 257, step)[:, None].repeat(10, 1)
        assert same_winners(evaluate(norm, every), scores(every))
        assert len(scores.score) < 20

    def test_equal_features_tie_and_zero_gamma_is_allowed(self):
        norm = normalization(
            [1.0, 1.0, 0.0], [0.5, 0.5, 0.7], [2.0, 2.0, 0.0], [4.0] * 3
        )
        scores = fold_scores(norm, -20, 20)
        every = np.arange(-20, 21)[:, None].repeat(3, 1)
        assert same_winners(evaluate(norm, every), scores(every))
        assert (scores(every)[:, 0] == scores(every)[:, 1]).all()

    def test_exact_ties_go_to_the_lower_feature(self):
        # Real scores are equal, and rounding to fixed point must not break the tie.
        norm = normalization(
            [0.2, 0.7, 1.4, -0.1],
            [0.1, 0.1, 0.1, 0.3],
            [-0.2, 0.0, -1.0, -0.1],
            [4.0, 0.25, 1.0, 4.0],
            eps=0.0,
        )
        scores = fold_scores(norm, -30, 30)
        every = np.arange(-30, 31)[:, None].repeat(4, 1)
        assert same_winners(evaluate(norm, every), scores(every))

    @given(
        st.lists(
            st.sampled_from([1 / 3, 2 / 3, 0.1, 0.2, 0.7, 1.4, -0.1]),
            min_size=4,
            max_size=4,
        ),
        st.integers(0, 2**32 - 1),
    )
    def test_coarse_parameters_collide(self, gamma, seed):
        rng = np.random.default_rng(seed)
        beta, mean = rng.choice([-0.2, 0.0, 0.1, 0.3, 1.0], (2, 4))
        norm = normalization(
            gamma, beta, mean, rng.choice([0.25, 1.0, 4.0], 4), eps=0.0
        )
        scores = fold_scores(norm, -30, 30)
        every = np.arange(-30, 31)[:, None].repeat(4, 1)
        assert same_winners(evaluate(norm, every), scores(every))

    def test_exceptions_where_rounding_reverses_an_order(self):
        # Scores near 2^24 are a whole unit apart in float32: they collide, and more.
        ones = [1.0] * 100
        norm = normalization(ones, (np.arange(100) / 100).tolist(), [-1e7] * 100, ones)
        scores = fold_scores(norm, -20, 20)
        every = np.arange(-20, 21)[:, None].repeat(100, 1)
        assert len(scores.score) > 100
        assert same_winners(evaluate(norm, every), scores(every))
        without = scores.multiplier * every + scores.offset
        assert not same_winners(evaluate(norm, every), without)
        sums = np.random.default_rng(0).integers(-20, 21, (5000, 100))
        expected = evaluate(norm, sums).argmax(axis=1)
        np.testing.assert_array_equal(scores(sums).argmax(axis=1), expected)


def linear_model(kind, widths, seed):
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for a, b in itertools.pairwise(widths):
        parts += [kind(a, b, generator=generator), nn.BatchNorm1d(b), Sign()]
    return unsettle(nn.Sequential(*parts[:-1]), seed)


def same(model, x, largest):
    packed = pack_network(model, largest=largest)
    with torch.no_grad():
        expected = model(x).argmax(dim=1).numpy()
    np.testing.assert_array_equal(packed.predict(x.numpy()), expected)
    return packed


class TestNetworks:
    @pytest.mark.parametrize("kind", [BinaryLinear, TernaryLinear])
    @pytest.mark.parametrize(
        "widths", [(5, 3), (64, 64, 10), (65, 1, 4), (13, 70, 129, 7), (1, 2, 3)]
    )
    def test_linear(self, kind, widths):
        rng = np.random.default_rng(0)
        for seed in range(3):
            model = linear_model(kind, widths, seed)
            x = torch.from_numpy(rng.integers(0, 17, (200, widths[0]))).float()
            packed = same(model, x, 16)
            if len(widths) > 2:
                largest = model[0].in_features * 16
                for layer in packed.layers[:-1]:
                    assert (abs(layer.threshold.astype(int)) <= largest + 1).all()

    @pytest.mark.parametrize("pad", [-1, 0, 1])
    @pytest.mark.parametrize("stride", [1, 2])
    @pytest.mark.parametrize("channels", [3, 64, 70])
    def test_convolution_with_every_padding(self, pad, stride, channels):
        generator = torch.Generator().manual_seed(channels)
        inner = BinaryConv2d(
            channels,
            6,
            (3, 2),
            stride=stride,
            padding=1,
            pad_value=pad,
            generator=generator,
        )
        model = nn.Sequential(
            BinaryConv2d(2, channels, 3, padding=1, generator=generator),
            nn.BatchNorm2d(channels),
            Sign(),
            inner,
            nn.BatchNorm2d(6),
            Sign(),
            nn.Flatten(),
            BinaryLinear(6 * (30 if stride == 1 else 9), 4, generator=generator),
            nn.BatchNorm1d(4),
        )
        unsettle(model, 1)
        x = torch.randint(0, 4, (40, 2, 5, 5), generator=generator).float()
        same(model, x, 3)

    def test_ternary_convolution(self):
        generator = torch.Generator().manual_seed(0)
        make = lambda *sizes: TernaryConv2d(*sizes, 3, padding=1, generator=generator)
        model = nn.Sequential(
            make(1, 20),
            nn.BatchNorm2d(20),
            Sign(),
            make(20, 5),
            nn.BatchNorm2d(5),
            Sign(),
            nn.Flatten(),
            TernaryLinear(5 * 16, 3, generator=generator),
            nn.BatchNorm1d(3),
        )
        unsettle(model, 2)
        same(
            model, torch.randint(0, 17, (30, 1, 4, 4), generator=generator).float(), 16
        )

    def test_zero_gamma_and_rules_that_flip(self):
        model = linear_model(BinaryLinear, (20, 30, 4), 0)
        with torch.no_grad():
            model[1].weight[:10] = 0.0
            model[1].weight[10:20] = -1.0
        same(model, torch.randint(0, 2, (100, 20)).float(), 1)

    def test_hidden_signs_and_saved_file(self, tmp_path):
        model = linear_model(BinaryLinear, (20, 70, 65, 4), 3)
        x = torch.randint(0, 9, (50, 20), generator=torch.Generator().manual_seed(0))
        found = disagreements(model, x.float())
        assert found == {
            "signs": 50 * (70 + 65),
            "wrong_signs": 0,
            "wrong_predictions": 0,
        }
        packed = pack_network(model, largest=16)
        packed.save(tmp_path / "network.npz")
        loaded = PackedNetwork.load(tmp_path / "network.npz")
        x = x.numpy()
        np.testing.assert_array_equal(loaded.predict(x), packed.predict(x))
        assert loaded.sizes == packed.sizes
        stored = (a for layer in packed.layers for a in layer.arrays.values())
        assert packed.nbytes == sum(a.nbytes for a in stored)
        for layer in packed.layers:
            assert all(a.dtype.kind in "iu" for a in layer.arrays.values())

    def test_thresholds_at_the_end_of_16_bits(self):
        # 217 inputs up to 151: sums up to 32767, and thresholds of constants one beyond.
        generator = torch.Generator().manual_seed(0)
        first, last = (
            BinaryLinear(a, b, generator=generator) for a, b in ((217, 4), (4, 4))
        )
        constant = normalization(
            [-1.0, -1.0, 1.0, 1.0], [0.0] * 4, [4e4, -4e4] * 2, [1.0] * 4
        )
        order = normalization([1.0] * 4, [0.1, 0.2, 0.3, 0.4], [0.0] * 4, [1.0] * 4)
        model = nn.Sequential(first, constant, Sign(), last, order).eval()
        x = torch.randint(0, 152, (50, 217), generator=generator).float()
        packed = same(model, x, 151)
        assert packed.layers[0].arrays["threshold"].dtype == np.int32

    def test_weights_take_a_bit_or_two(self):
        for kind, bits in ((BinaryLinear, 1), (TernaryLinear, 2)):
            model = linear_model(kind, (64, 128, 256, 8), 0)
            count = 64 * 128 + 128 * 256 + 256 * 8
            sizes = pack_network(model, largest=16).sizes
            assert sizes["weights"] == count * bits // 8
            assert sizes["thresholds"] == 2 * (128 + 256)
            assert sizes["scores"] == 2 * 8 * 8

    def test_disagreements_are_counted(self, monkeypatch):
        model = linear_model(BinaryLinear, (20, 30, 4), 0)
        x = torch.randint(0, 2, (100, 20), generator=torch.Generator().manual_seed(0))
        shifted = lambda norm, low, high: Threshold(
            (rule := fold_sign(norm, low, high)).at + 2, rule.flip
        )
        monkeypatch.setattr("bnbook.propagation.deploy.fold_sign", shifted)
        found = disagreements(model, x.float())
        assert 0 < found["wrong_signs"] < found["signs"]

    def test_bad_models(self):
        linear, norm = BinaryLinear(4, 4), nn.BatchNorm1d(4)
        pack = lambda *parts: pack_network(nn.Sequential(*parts).eval(), largest=16)
        with pytest.raises(TypeError, match=r"module 0 .* got Linear"):
            pack(nn.Linear(4, 4), norm)
        with pytest.raises(TypeError, match=r"module 2 .* got ReLU"):
            pack(linear, norm, nn.ReLU(), linear, norm)
        with pytest.raises(ValueError, match="must end with a layer and a norm"):
            pack(linear, norm, Sign())
        with pytest.raises(ValueError, match="must end with"):
            pack()
        with pytest.raises(ValueError, match="has a bias"):
            pack(BinaryLinear(4, 4, bias=True), norm)
        with pytest.raises(ValueError, match="has the scale 'layer'"):
            pack(TernaryLinear(4, 4, scale="layer"), norm)
        with pytest.raises(ValueError, match=r"4 outputs .* 5 features"):
            pack(linear, nn.BatchNorm1d(5))
        with pytest.raises(ValueError, match="the padding holds 1"):
            pack(BinaryConv2d(1, 4, 3, padding=1, pad_value=1), nn.BatchNorm2d(4))
        with pytest.raises(ValueError, match="training mode"):
            pack_network(nn.Sequential(linear, nn.BatchNorm1d(4)).train(), largest=16)
        with pytest.raises(TypeError, match=r"expected an nn\.Sequential"):
            pack_network(linear, largest=16)
        for largest in (0, True, 1.5):
            with pytest.raises(ValueError, match="largest must be an integer"):
                pack_network(nn.Sequential(linear, norm).eval(), largest=largest)

    def test_bad_input(self):
        packed = pack_network(linear_model(BinaryLinear, (4, 3), 0), largest=16)
        for x, words in (
            (np.full((2, 4), 17), "0 to 16"),
            (np.full((2, 4), -1), "0 to 16"),
            (np.full((2, 4), 0.5), "got 0.5"),
            (np.full((2, 4), np.nan), "0 to 16"),
            (np.zeros((2, 5)), "must have shape"),
            (np.zeros(4), "must have shape"),
            (np.zeros((0, 4)), "N at least 1"),
        ):
            with pytest.raises(ValueError, match=words):
                packed.predict(x)
        with pytest.raises(TypeError, match="real numbers"):
            packed.predict(torch.zeros(2, 4))


class TestTraining:
    @pytest.mark.parametrize("kind", ["binary", "ternary"])
    def test_trained_network_is_equal_on_the_digits(self, kind):
        from bnbook.data.digits import digits

        model = train(kind, seed=0, epochs=2, width=64)
        x, t = inputs(digits().test, kind)
        found = disagreements(model, x)
        assert found["wrong_signs"] == found["wrong_predictions"] == 0
        assert (predictions(model, x) == t.numpy()).mean() > 0.7

    def test_same_seed_same_network(self):
        first, again = (train("binary", seed=1, epochs=1, width=32) for _ in range(2))
        other = train("binary", seed=2, epochs=1, width=32)
        assert torch.equal(first[0].weight, again[0].weight)
        assert not torch.equal(first[0].weight, other[0].weight)

    def test_shapes_and_sizes(self):
        for kind in KINDS:
            model = network(kind, seed=0).eval()
            shape = (2, 1, 8, 8) if kind == "convolution" else (2, 64)
            assert model(torch.zeros(shape)).shape == (2, 10)
        weights, norms = 64 * 32 + 32 * 32 + 320, 4 * (32 + 32 + 10)
        assert bytes_of(network("binary", seed=0, width=32)) == 4 * (weights + norms)
        with pytest.raises(ValueError, match="unknown kind"):
            network("quaternary", seed=0)
        with pytest.raises(ValueError, match="epochs must be"):
            train("binary", seed=0, epochs=0)


class TestResults:
    def test_speed_up_is_a_t_interval_of_logarithms(self):
        import pandas as pd

        from bnbook.propagation.deploy_results import speed_up

        rows = pd.DataFrame({"ratio": [2.0, 4.0, 8.0]})
        found = speed_up(rows, "ratio", claim_low=1.0)
        inverse = speed_up(1 / rows, "ratio", claim_low=1.0)
        half = 4.302652729911275 * np.log(2) / np.sqrt(3)
        np.testing.assert_allclose(
            [found.estimate, found.low, found.high],
            [4, 4 * np.exp(-half), 4 * np.exp(half)],
        )
        np.testing.assert_allclose(inverse.low, 1 / found.high)
        for wrong in ([2.0, 3.0], [1.0, 2.0, np.nan]):
            with pytest.raises(ValueError, match="at least three sessions"):
                speed_up(pd.DataFrame({"ratio": wrong}), "ratio", claim_low=1.0)
