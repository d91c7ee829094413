import torch

from tryage.quickstart.optimizer import Optimizer, orthogonalized


def test_singular_values_come_close_to_one():
    generator = torch.Generator().manual_seed(0)
    for shape in ((24, 24), (8, 30), (30, 8)):
        values = torch.linalg.svdvals(orthogonalized(torch.randn(shape, generator=generator)))
        assert values.max() < 1.3
        assert values.median() > 0.6


def parameters():
    torch.manual_seed(0)
    shapes = {"embed.weight": (6, 4), "layer.weight": (4, 4), "norm.weight": (4,)}
    return {name: torch.nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}


def descend(optimizer, named, steps):
    for _ in range(steps):
        sum(parameter.square().sum() for parameter in named.values()).backward()
        optimizer.step(0.05)


def test_it_descends_and_clears_the_gradients():
    named = parameters()
    before = {name: parameter.norm().item() for name, parameter in named.items()}
    descend(Optimizer(named), named, 10)
    for name, parameter in named.items():
        assert parameter.norm().item() < before[name]
        assert parameter.grad is None


def test_it_goes_on_from_its_state_as_if_it_had_not_stopped():
    whole, halves = parameters(), parameters()
    descend(Optimizer(whole), whole, 6)
    first, second = Optimizer(halves), Optimizer(halves)
    descend(first, halves, 3)
    second.load(first.state, first.steps)
    descend(second, halves, 3)
    for name, parameter in whole.items():
        assert torch.equal(parameter, halves[name])
