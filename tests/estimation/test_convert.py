"""Converting networks to every method and back, and refusing what does not fit."""

import copy
import io
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from bnbook.estimation.convert import (
    METHODS,
    OPTIONS,
    convert_normalization,
    method_of,
    recorded_method,
)
from bnbook.estimation.minibatch import BatchRenorm
from bnbook.estimation.population_norm import PopulationNorm
from bnbook.estimation.rotation import hadamard_rotation
from bnbook.estimation.small_nets import inception_style, resnet_style
from bnbook.estimation.sync_norm import SyncNorm
from bnbook.estimation.two_stage import TwoStageNorm, tower, two_stage_backward
from bnbook.estimation.two_stage_conv import TwoStageConv2d

F64 = torch.float64
NETS = {"inception": inception_style, "resnet": resnet_style}


def shaken(model, seed=0):
    """A copy in float64 with non-trivial parameters and statistics."""
    model = copy.deepcopy(model).double()
    generator = torch.manual_seed(seed)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm):
                m.running_mean.normal_(generator=generator)
                m.running_var.uniform_(0.4, 2.0, generator=generator)
                m.num_batches_tracked += 7
                if m.affine:
                    m.weight.uniform_(0.5, 1.5, generator=generator)
                    m.bias.normal_(generator=generator)
    return model


def pictures(count=4, side=16, channels=3):
    generator = torch.manual_seed(count)
    return torch.randn(count, channels, side, side, dtype=F64, generator=generator)


def same_state(one, other):
    first, second = one.state_dict(), other.state_dict()
    assert list(first) == list(second)
    return all(torch.equal(first[name], second[name]) for name in first)


class TestNetworks:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("net", NETS)
    def test_function_state_and_way_back(self, net, method):
        model = shaken(NETS[net]()).eval()
        x = pictures()
        before = copy.deepcopy(model.state_dict())
        there = convert_normalization(model, method)
        assert method_of(there) == method
        assert same_state(there, model)  # names, too
        torch.testing.assert_close(there(x), model(x), rtol=0, atol=1e-12)
        back = convert_normalization(there, "batch")
        assert [type(m) for m in back.modules()] == [type(m) for m in model.modules()]
        assert torch.equal(back(x), model(x))
        assert str(back) == str(model)  # ε, momentum, affine
        assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("net", NETS)
    def test_a_step_of_training(self, net, method):
        model = convert_normalization(shaken(NETS[net](), 1).train(), method)
        x, t = pictures(6), torch.arange(6)
        before = copy.deepcopy(model.state_dict())
        if method == "two_stage":
            two_stage_backward(model, x, t, F.cross_entropy, chunk=3)
        else:
            F.cross_entropy(model(x), t).backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())
        moved = [n for n, v in model.state_dict().items() if not v.equal(before[n])]
        assert moved == [n for n in before if "running" in n or "tracked" in n]

    def test_gradients_with_exact_statistics_are_those_of_batch_normalization(self):
        # With the statistics of the batch, no bound and no factor, the joint estimate is
        # the truth, whatever the network around the layers.
        model = shaken(resnet_style(width=4), 2).train()
        x, t = pictures(6), torch.arange(6)
        seen = copy.deepcopy(model)
        for m in seen.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.momentum = 1.0
        with torch.no_grad():
            seen(x)  # the running variance is now unbiased, so correct for that below
        sizes = {}
        for name, m in seen.named_modules():
            if isinstance(m, nn.BatchNorm2d):
                hook = lambda m, i, o, name=name: sizes.update(
                    {name: i[0].numel() / i[0].shape[1]}
                )
                m.register_forward_hook(hook)
        seen(x)
        joint = convert_normalization(model, "improved_renorm", f_max=None, u_max=None)
        for name, m in joint.named_modules():
            if isinstance(m, PopulationNorm):
                other = dict(seen.named_modules())[name]
                m.running_mean.copy_(other.running_mean)
                n = sizes[name]
                m.running_var.copy_(other.running_var * (n - 1) / n)
        F.cross_entropy(model(x), t).backward()
        F.cross_entropy(joint(x), t).backward()
        for one, other in zip(model.parameters(), joint.parameters(), strict=True):
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-9, atol=1e-12)


KINDS = [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d]


class TestLayers:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_as_the_model_itself(self, kind, method):
        norm = shaken(kind(3, eps=1e-3, momentum=0.3)).eval()
        shape = (
            (2, 3)
            if kind is nn.BatchNorm1d
            else (2, 3, 2, 2, 2)[: KINDS.index(kind) + 3]
        )
        x = torch.randn(*shape, dtype=F64, generator=torch.manual_seed(0))
        there = convert_normalization(norm, method)
        torch.testing.assert_close(there(x), norm(x), rtol=0, atol=1e-12)
        back = convert_normalization(there, "batch")
        assert type(back) is kind and back.eps == 1e-3 and back.momentum == 0.3
        # From any method to any other.
        again = convert_normalization(convert_normalization(there, "sync"), method)
        assert type(convert_normalization(again, "batch")) is kind

    @settings(max_examples=30)
    @given(
        path=st.lists(st.sampled_from(METHODS), max_size=4),
        affine=st.booleans(),
        momentum=st.sampled_from([None, 0.1, 1.0]),
        training=st.booleans(),
        dtype=st.sampled_from([torch.float32, F64]),
        channels=st.integers(1, 5),
    )
    def test_any_path_and_back_is_the_identity(
        self, path, affine, momentum, training, dtype, channels
    ):
        norm = nn.BatchNorm2d(channels, momentum=momentum, affine=affine)
        norm = shaken(norm).to(dtype).train(training)
        found = norm
        for method in (*path, "batch"):
            found = convert_normalization(found, method)
            assert same_state(found, norm) and found.training is training
        assert str(found) == str(norm) and found.running_mean.dtype == dtype

    @pytest.mark.parametrize("method", METHODS)
    def test_what_is_shared_stays_shared_and_what_is_frozen_frozen(self, method):
        norm = nn.BatchNorm1d(4)
        norm.weight.requires_grad_(False)
        other = nn.BatchNorm1d(4)
        other.bias = norm.bias
        model = nn.Sequential(norm, nn.ReLU(), nn.Sequential(norm, other))
        model[0].eval()
        found = convert_normalization(model, method)
        assert found[0] is found[2][0] and found[2][1].bias is found[0].bias
        assert not found[0].weight.requires_grad and found[0].bias.requires_grad
        assert not found[0].training and found[2][1].training
        assert len(list(found.parameters())) == len(list(model.parameters()))
        assert found[0].bias is not model[0].bias

    def test_nn_sync_batch_norm_needs_its_dimensions(self):
        norm = nn.SyncBatchNorm(3)
        assert type(convert_normalization(norm, "sync")) is SyncNorm
        with pytest.raises(ValueError, match=r"the model itself.*dimensions=1, 2 or 3"):
            convert_normalization(norm, "batch")
        found = convert_normalization(norm, "batch", dimensions=3)
        assert type(found) is nn.BatchNorm3d
        fresh = nn.Sequential(PopulationNorm(3), BatchRenorm(3), TwoStageNorm(3))
        found = convert_normalization(fresh, "batch", dimensions=1)
        assert [type(m) for m in found] == [nn.BatchNorm1d] * 3

    def test_options_reach_the_layers(self):
        model = inception_style(width=4)
        found = convert_normalization(model, "two_stage", r_v=0.8, nu_about="running")
        norms = [m for m in found.modules() if isinstance(m, TwoStageNorm)]
        assert len(norms) == 15
        assert {(m.r_m, m.r_v, m.nu_about) for m in norms} == {(1.0, 0.8, "running")}
        found = convert_normalization(model, "renorm", microbatch=2)
        assert {
            m.microbatch for m in found.modules() if isinstance(m, BatchRenorm)
        } == {2}
        found = convert_normalization(model, "frozen")
        norms = [m for m in found.modules() if isinstance(m, PopulationNorm)]
        assert {(m.r_m, m.r_v) for m in norms} == {(0.0, 0.0)}

    def test_no_running_statistics(self):
        norm = nn.BatchNorm2d(3, track_running_stats=False)
        assert type(convert_normalization(norm, "batch")) is nn.BatchNorm2d
        for method in set(METHODS) - {"batch"}:
            with pytest.raises(ValueError, match="itself keeps no running statistics"):
                convert_normalization(norm, method)

    @pytest.mark.parametrize("method", METHODS)
    def test_every_reference_follows(self, method):
        """Layers that the model keeps in a tuple, and not only as its children."""

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.c, self.n = nn.Linear(3, 2), nn.BatchNorm1d(2)
                self.chain = (self.c, self.n)

            def forward(self, x):
                for layer in self.chain:
                    x = layer(x)
                return x

        net = Net()
        found = convert_normalization(net, method)
        assert found.chain[1] is found.n and type(net.n) is nn.BatchNorm1d
        assert method_of(found) == method
        back = convert_normalization(found, "batch")
        assert type(back.chain[1]) is nn.BatchNorm1d and method_of(found) == method

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("whole", [True, False])
    @pytest.mark.parametrize("method", METHODS)
    def test_half_precision(self, method, whole, dtype):
        """A network all in half precision, and one with normalizations in float32."""
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
        net = net.to(dtype)
        if not whole:
            net[1].float()
        net[1].running_mean.normal_()
        net[1].running_var.uniform_(0.5, 2)
        found = convert_normalization(net, method)
        x, t = torch.randn(8, 4).to(dtype), torch.arange(8) % 3
        wanted, y = net.eval()(x), found.eval()(x)
        assert y.dtype == wanted.dtype == dtype
        torch.testing.assert_close(y, wanted, rtol=0.05, atol=0.05)
        loss = lambda y, t: nn.functional.cross_entropy(y.float(), t)
        if method == "two_stage":
            two_stage_backward(found.train(), x, t, loss, chunk=8)
        else:
            loss(found.train()(x), t).backward()
        for parameter in found.parameters():
            assert parameter.grad.dtype == parameter.dtype
            assert parameter.grad.isfinite().all()


class TestRotation:
    def test_hadamard_names_the_layer_and_offers_another(self):
        model = inception_style()
        with pytest.raises(
            ValueError, match=r"1\.branch3x3\.1\.bn: .*12 channels.*random"
        ):
            convert_normalization(model, "single_example", rotation="hadamard")
        found = convert_normalization(
            model, "single_example", rotation="hadamard_or_random", seed=5
        )
        for m in found.modules():
            if isinstance(m, PopulationNorm):
                power = m.num_features in (4, 8)
                fixed = hadamard_rotation(m.num_features).float() if power else None
                assert not power or torch.equal(m.rotation, fixed)
        every = convert_normalization(model, "improved_renorm", rotation="random")
        eights = [m for m in every.modules() if getattr(m, "num_features", 0) == 8]
        assert not torch.equal(eights[0].rotation, eights[1].rotation)

    def test_a_rotation_is_kept_dropped_or_refused(self):
        model = shaken(resnet_style(width=4)).eval()
        x = pictures()
        turned = convert_normalization(model, "single_example", rotation="hadamard")
        assert (turned(x) - model(x)).abs().max() > 0.01
        other = convert_normalization(turned, "two_stage")
        torch.testing.assert_close(other(x), turned(x), rtol=0, atol=1e-12)
        for method in ("batch", "sync", "renorm"):
            with pytest.raises(
                ValueError, match=r"0\.bn has a rotation.*rotation=None"
            ):
                convert_normalization(turned, method)
        back = convert_normalization(turned, "batch", rotation=None)
        assert torch.equal(back(x), model(x))
        assert (
            convert_normalization(turned, "frozen", rotation=None)[0].bn.rotation
            is None
        )

    def test_the_first_step_of_each_tower_survives_a_rotation(self):
        model = convert_normalization(
            shaken(resnet_style()), "two_stage", rotation="random"
        )
        with tower(model, "first"):
            assert torch.isfinite(model(pictures())).all()


class TestCheckpoints:
    def round_trip(self, state):
        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        return torch.load(buffer, weights_only=True)

    @pytest.mark.parametrize("method", METHODS)
    def test_the_own_method_is_loaded_and_others_are_refused(self, method):
        model = resnet_style(width=2)
        own = convert_normalization(shaken(model).float(), method)
        state = self.round_trip(own.state_dict())
        assert recorded_method(state) == method
        fresh = convert_normalization(model, method)
        fresh.load_state_dict(state)
        assert same_state(fresh, own)
        for other in set(METHODS) - {method}:
            target = convert_normalization(model, other)
            kept = {n: v.clone() for n, v in target[0].bn.state_dict().items()}
            with pytest.raises(
                ValueError, match=f"of the method {method}.*is of {other}: "
            ):
                target.load_state_dict(state)
            assert all(v.equal(kept[n]) for n, v in target[0].bn.state_dict().items())

    def test_the_advice_of_the_message_works(self):
        model = resnet_style(width=2)
        state = convert_normalization(shaken(model), "renorm").state_dict()
        loaded = convert_normalization(model.double(), "renorm")
        loaded.load_state_dict(state)
        assert method_of(convert_normalization(loaded, "frozen")) == "frozen"

    @pytest.mark.parametrize("method", METHODS)
    def test_plain_checkpoints_come_in_and_go_out(self, method):
        plain = shaken(resnet_style(width=2)).eval()
        model = convert_normalization(resnet_style(width=2).double(), method).eval()
        model.load_state_dict(self.round_trip(plain.state_dict()))
        x = pictures()
        torch.testing.assert_close(model(x), plain(x), rtol=0, atol=1e-12)
        other = resnet_style(width=2).double().eval()
        other.load_state_dict(model.state_dict())  # a plain model asks no questions
        assert torch.equal(other(x), plain(x))
        assert recorded_method(plain.state_dict()) is None

    def test_the_record_survives_a_wrapper_and_a_copy(self):
        model = copy.deepcopy(convert_normalization(resnet_style(width=2), "frozen"))
        state = nn.DataParallel(model).state_dict()
        assert recorded_method(state) == "frozen"
        state = nn.ModuleList(
            [model, convert_normalization(resnet_style(width=2), "sync")]
        ).state_dict()
        with pytest.raises(ValueError, match=r"several methods.*frozen.*sync"):
            recorded_method(state)


class TestBadInput:
    def test_methods_and_options(self):
        model = resnet_style(width=2)
        with pytest.raises(ValueError, match=r"method must be one of.*got 'layer'"):
            convert_normalization(model, "layer")
        for method, wrong in (("batch", "r_m"), ("sync", "seed"), ("frozen", "r_v")):
            with pytest.raises(ValueError, match=f"{method} has no option {wrong}"):
                convert_normalization(model, method, **{wrong: 1})
        with pytest.raises(ValueError, match=r"0\.bn: r_m must lie between 0 and 1"):
            convert_normalization(model, "single_example", r_m=2.0)
        with pytest.raises(ValueError, match=r"0\.bn: f_max must be at least 1"):
            convert_normalization(model, "two_stage", f_max=0.5)
        with pytest.raises(ValueError, match=r"0\.bn: u_max must be at least 1"):
            convert_normalization(model, "frozen", u_max=0.5)
        with pytest.raises(ValueError, match=r"0\.bn: the rotation must have shape"):
            convert_normalization(model, "frozen", rotation=torch.eye(3))
        with pytest.raises(ValueError, match=r"0\.bn: the rotation must be orthogonal"):
            convert_normalization(model, "frozen", rotation=torch.ones(2, 2))
        with pytest.raises(ValueError, match="dimensions must be 1, 2 or 3, got 4"):
            convert_normalization(model, "batch", dimensions=4)
        assert set(OPTIONS) == set(METHODS)

    def test_models(self):
        with pytest.raises(ValueError, match="Linear has no batch normalization"):
            convert_normalization(nn.Linear(2, 2), "sync")
        with pytest.raises(
            TypeError, match=r"wrapped in DataParallel: pass model\.module"
        ):
            convert_normalization(nn.DataParallel(resnet_style()), "sync")
        with pytest.raises(ValueError, match=r"expected one method.*found none"):
            method_of(nn.Linear(2, 2))
        with pytest.raises(ValueError, match=r"found \['batch', 'sync'\]"):
            method_of(nn.Sequential(nn.BatchNorm1d(2), SyncNorm(2)))

    def test_layers(self):
        class Special(nn.BatchNorm2d):
            pass

        for norm in (Special(2), nn.LazyBatchNorm2d(), TwoStageConv2d(2, 2, 1)):
            with pytest.raises(TypeError, match=f"0 is a {type(norm).__name__}"):
                convert_normalization(nn.Sequential(norm), "frozen")
        norm = nn.BatchNorm2d(2)
        norm.register_forward_hook(lambda m, i, o: o)
        with pytest.raises(ValueError, match="the model itself carries hooks"):
            convert_normalization(norm, "frozen")
        norm = nn.BatchNorm2d(2)
        norm.bias = None
        with pytest.raises(ValueError, match="only one of γ and β"):
            convert_normalization(norm, "frozen")
        with pytest.raises(ValueError, match="itself: eps must be positive"):
            convert_normalization(nn.BatchNorm2d(2, eps=0.0), "frozen")

    @pytest.mark.parametrize(
        "register",
        [
            lambda n: n.register_full_backward_pre_hook(lambda m, g: g),
            lambda n: n.register_state_dict_pre_hook(lambda *a: None),
            lambda n: n.register_state_dict_post_hook(lambda *a: None),
            lambda n: n.register_load_state_dict_pre_hook(lambda *a: None),
            lambda n: n.register_load_state_dict_post_hook(lambda *a: None),
        ],
    )
    def test_all_kinds_of_hooks(self, register):
        norm = convert_normalization(nn.BatchNorm2d(2), "renorm")  # has two of its own
        convert_normalization(norm, "frozen")
        register(norm)
        with pytest.raises(ValueError, match="carries hooks"):
            convert_normalization(norm, "frozen")

    def test_what_a_layer_holds_beside(self):
        norm = nn.BatchNorm2d(2)
        norm.register_buffer("seen", torch.zeros(1))
        norm.helper = nn.Identity()
        with pytest.raises(ValueError, match="holds helper, seen, which would be lost"):
            convert_normalization(norm, "sync")
        norm = nn.BatchNorm2d(2)
        norm.running_var = None
        with pytest.raises(ValueError, match="only one of running mean and variance"):
            convert_normalization(norm, "sync")

    def test_compiled_and_scripted(self):
        net = nn.Sequential(nn.BatchNorm2d(2))
        for compiled in (torch.compile(net, backend="eager"), copy.deepcopy(net)):
            if type(compiled) is nn.Sequential:
                compiled.compile(backend="eager")
            with pytest.raises(TypeError, match="is compiled"):
                convert_normalization(compiled, "frozen")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scripted = torch.jit.script(net)
        with pytest.raises(TypeError, match="is scripted"):
            convert_normalization(scripted, "frozen")

    def test_a_bound_method_is_refused(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm = nn.BatchNorm1d(2)
                self.f = self.norm.forward

        with pytest.raises(ValueError, match="keeps forward of a normalization as f"):
            convert_normalization(Net(), "frozen")

    def test_a_batch_of_one(self):
        x = torch.zeros(1, 2)
        for method in ("renorm", "sync"):
            norm = convert_normalization(nn.BatchNorm1d(2), method)
            with pytest.raises(ValueError, match="no spread"):
                norm(x)
        for method in ("single_example", "frozen", "improved_renorm"):
            convert_normalization(nn.BatchNorm1d(2), method)(x)

    def test_small_networks(self):
        with pytest.raises(ValueError, match="width must be even"):
            inception_style(width=3)
        with pytest.raises(ValueError, match="width must be at least 1"):
            resnet_style(width=0)


@pytest.mark.parametrize("name", ["inception_v3", "resnet50"])
@pytest.mark.parametrize("method", METHODS)
def test_torchvision(name, method):
    models = pytest.importorskip("torchvision.models", exc_type=ImportError)
    options = {"aux_logits": False, "init_weights": False} if name[0] == "i" else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.get_model(name, weights=None, num_classes=5, **options).double()
    model = shaken(model)
    x = pictures(2, 75 if name[0] == "i" else 32)
    there = convert_normalization(model, method)
    assert same_state(there, model)
    wanted = copy.deepcopy(model).eval()(x)
    torch.testing.assert_close(
        copy.deepcopy(there).eval()(x), wanted, rtol=1e-10, atol=1e-10
    )
    back = convert_normalization(there, "batch")
    assert str(back) == str(model) and same_state(back, model)
    if method == "two_stage":
        two_stage_backward(there, x, torch.arange(2), F.cross_entropy)
    else:
        F.cross_entropy(there(x), torch.arange(2)).backward()
    assert all(torch.isfinite(p.grad).all() for p in there.parameters())
    with pytest.raises(ValueError, match="of the method"):
        other = "frozen" if method != "frozen" else "sync"
        convert_normalization(model, other).load_state_dict(there.state_dict())
