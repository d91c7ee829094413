import pytest
import torch

from tryage.quickstart.optimizer import Optimizer

RATE, STEPS = 0.05, 40


def parameters():
    torch.manual_seed(0)
    shapes = {"embed.weight": (6, 4), "layer.weight": (4, 4), "norm.weight": (4,)}
    return {name: torch.nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}


def descend(optimizer, named, steps):
    for _ in range(steps):
        sum(parameter.square().sum() for parameter in named.values()).backward()
        optimizer.step()


def moves(named, steps=STEPS):
    """Return name → how far each step of a gradient that is always 1 moves a parameter."""
    optimizer = Optimizer(named, RATE, STEPS)
    moved = {name: [] for name in named}
    for _ in range(steps):
        before = {name: parameter.detach().clone() for name, parameter in named.items()}
        sum(parameter.sum() for parameter in named.values()).backward()
        optimizer.step()
        for name, parameter in named.items():
            moved[name].append(before[name] - parameter.detach())
    return moved


def test_it_descends_and_clears_the_gradients():
    named = parameters()
    before = {name: parameter.norm().item() for name, parameter in named.items()}
    descend(Optimizer(named, RATE, STEPS), named, 10)
    for name, parameter in named.items():
        assert parameter.norm().item() < before[name]
        assert parameter.grad is None


@pytest.mark.parametrize("shape", [(24, 24), (8, 30), (30, 8)], ids=str)
def test_a_matrix_moves_by_about_the_rate_in_every_direction(shape):
    named = {"layer.weight": torch.nn.Parameter(torch.zeros(shape))}
    optimizer = Optimizer(named, RATE, 1)
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    (named["layer.weight"] * gradient).sum().backward()
    optimizer.step()
    # The first of one step has the rate 1 / 1.05; a tall matrix moves further by the aspect ratio.
    scale = RATE / 1.05 * max(1.0, shape[0] / shape[1]) ** 0.5
    values = torch.linalg.svdvals(-named["layer.weight"].detach()) / scale
    assert values.max() < 1.3
    assert values.median() > 0.6


def test_embeddings_and_norms_move_by_the_rate_which_rises_and_then_falls():
    moved = moves(parameters())
    for name in ("embed.weight", "norm.weight"):
        shares = [float(move.mean()) / RATE for move in moved[name]]
        # Adam moves each number by the rate where the gradient never changes.
        assert [float(move.std()) for move in moved[name]] == pytest.approx([0.0] * STEPS, abs=1e-6)
        assert shares[0] == pytest.approx(1 / 3, abs=1e-3)
        assert max(shares) == pytest.approx(shares[2], abs=1e-3) == pytest.approx(0.99, abs=0.01)
        assert shares[20] == pytest.approx(0.525, abs=1e-3)
        assert shares[-1] == pytest.approx(0.0515, abs=1e-3)
        assert shares[2:] == sorted(shares[2:], reverse=True)


def test_it_goes_on_from_its_state_as_if_it_had_not_stopped():
    whole, halves = parameters(), parameters()
    descend(Optimizer(whole, RATE, 6), whole, 6)
    first, second = Optimizer(halves, RATE, 6), Optimizer(halves, RATE, 6)
    descend(first, halves, 3)
    second.load({**first.state(), "weight.other": torch.ones(1)}, first.steps)
    descend(second, halves, 3)
    assert second.steps == 6
    for name, parameter in whole.items():
        assert torch.equal(parameter, halves[name])
