"""What all normalizations of the part share: half precision as in `nn.BatchNorm2d`."""

import copy

import pytest
import torch
from torch import nn

from bnbook.estimation.minibatch import BatchRenorm
from bnbook.estimation.population_norm import PopulationNorm
from bnbook.estimation.two_stage import TwoStageNorm, tower

LAYERS = {
    "renorm": lambda: BatchRenorm(4),
    "example": lambda: PopulationNorm(4),
    "batch": lambda: PopulationNorm(4, interaction="batch"),
    "rotated": lambda: PopulationNorm(4, rotation="hadamard"),
    "two stages": lambda: TwoStageNorm(4),
}


class TestHalfPrecision:
    @pytest.mark.parametrize("whole", [True, False], ids=["model", "input only"])
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3, 3)])
    @pytest.mark.parametrize("name", LAYERS)
    def test_the_output_has_the_dtype_of_the_input(self, name, shape, dtype, whole):
        layer = LAYERS[name]()
        x = torch.randn(shape, generator=torch.manual_seed(0))
        expected = layer.eval()(x)
        half = copy.deepcopy(layer).to(dtype) if whole else layer
        torch.testing.assert_close(
            half(x.to(dtype)), expected.to(dtype), rtol=0.02, atol=0.02
        )
        half.train()
        with tower(half, "first"):
            y = half(x.to(dtype).requires_grad_())
        assert y.dtype == dtype
        y.float().square().sum().backward()
        assert half.weight.grad.isfinite().all()
        assert half.running_var.isfinite().all()

    def test_a_linear_layer_can_follow(self):
        model = nn.Sequential(nn.Linear(4, 4), PopulationNorm(4), nn.Linear(4, 2))
        y = model.to(torch.bfloat16)(torch.randn(6, 4, dtype=torch.bfloat16))
        assert y.dtype == torch.bfloat16
