"""What PyTorch users do with a layer, for every registered one: it works, or it is refused; never silently wrong."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from test_contract import build, input_for
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacrev, jvp, vmap

from e4profile.groups import as_group
from e4profile.layers import LAYERS
from e4profile.witnesses.equivariance.layers import randomise

GROUP = as_group("C2")
SAMPLES = [
    pytest.param((LAYERS[name], sample), id=f"{name}-{index}")
    for name in sorted(LAYERS)
    if LAYERS[name].has_closed_form()
    for index, sample in enumerate(LAYERS[name].samples())
]
every_sample = pytest.mark.parametrize("case", SAMPLES)
every_layer = pytest.mark.parametrize("case", [one for one in SAMPLES if one.id.endswith("-0")])
STEP = 1e-6
# PyTorch's rules of forward-mode differentiation are scripts
its_own_warnings = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
# PyTorch goes through the batch one by one where an operator of its own has no rule for vmap
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")


def made(case, dtype=torch.float64):
    """An evaluated layer with random values and an input of two images."""
    layer, sample = case
    module = randomise(build(layer, sample, GROUP), seed=5).to(dtype).eval()
    return module, input_for(module, sample, GROUP).to(dtype)


def values_of(module):
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def called_with(module, inputs):
    return lambda values: functional_call(module, values, (inputs,))


def assert_close(found, expected, tolerance=1e-9):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * max(1.0, expected.abs().max().item())


def assert_derivative(tangent, function, point, direction):
    """A directional derivative against differences, which may be wrong in a place or two next to a maximum's kink."""
    moved = [{name: value + sign * STEP * direction[name] for name, value in point.items()} for sign in (1, -1)]
    with torch.no_grad():
        expected = (function(moved[0]) - function(moved[1])) / (2 * STEP)
    off = (tangent - expected).abs() > 1e-5 * max(1.0, expected.abs().max().item())
    assert off.double().mean() < 0.02
    assert tangent.abs().max() > 0


def assert_follows_the_weights(function, module, inputs):
    """A function made of a module gives what the module gives, also after the module's weights were changed."""
    for factor in (1.0, 1.5):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(factor)
            assert_close(function(inputs), module(inputs))


@every_sample
def test_autocast_leaves_nothing_behind(case):
    module, inputs = made(case, torch.float32)
    with torch.no_grad():
        expected = module(inputs)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = module(inputs)
        assert torch.equal(module(inputs), expected)
    assert_close(rounded.float(), expected, 0.1)
    module, inputs = made(case, torch.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        first = module(inputs)
    assert torch.equal(first, rounded)
    with torch.no_grad():
        assert torch.equal(module(inputs), expected)
    with torch.autocast("cpu", torch.bfloat16):
        module.train()(inputs.requires_grad_()).float().sum().backward()
    assert inputs.grad.dtype == torch.float32


@every_sample
def test_channels_last(case):
    module, inputs = made(case)
    expected = module(inputs)
    last = module.to(memory_format=torch.channels_last)
    assert_close(last(inputs.contiguous(memory_format=torch.channels_last)), expected)


@every_sample
@pytest.mark.parametrize("training", [False, True])
def test_empty_batch(case, training):
    module, inputs = made(case)
    none = inputs[:0].requires_grad_()
    output = module.train(training)(none)
    assert tuple(output.shape) == module.output_shape(tuple(none.shape))
    output.sum().backward()
    assert none.grad.shape == none.shape


@every_sample
def test_one_image_is_its_part_of_the_batch(case):
    module, inputs = made(case)
    assert_close(module(inputs[:1]), module(inputs)[:1])


@every_sample
def test_torch_func_gradients(case):
    module, inputs = made(case)
    of_values, of_inputs = grad(lambda values, x: functional_call(module, values, (x,)).square().sum(), (0, 1))(
        values_of(module), inputs
    )
    features = inputs.clone().requires_grad_()
    expected = torch.autograd.grad(module(features).square().sum(), [features, *module.parameters()])
    for found, wanted in zip([of_inputs, *of_values.values()], expected, strict=True):
        assert_close(found, wanted)

    def some(x):
        return module(x).sum((0, 2, 3))[:2]

    assert_close(jacrev(some)(inputs), torch.autograd.functional.jacobian(some, inputs))


@every_sample
@its_own_warnings
def test_forward_mode_derivatives(case):
    module, inputs = made(case)
    torch.manual_seed(2)
    direction = torch.randn_like(inputs)
    output, tangent = jvp(module, (inputs,), (direction,))
    assert_close(output, module(inputs))
    assert_derivative(tangent, lambda point: module(point["x"]), {"x": inputs}, {"x": direction})
    with torch.no_grad(), forward_ad.dual_level():
        assert_close(forward_ad.unpack_dual(module(forward_ad.make_dual(inputs, direction))).tangent, tangent)
    values = values_of(module)
    if values:
        directions = {name: torch.randn_like(value) for name, value in values.items()}
        function = called_with(module, inputs)
        assert_derivative(jvp(function, (values,), (directions,))[1], function, values, directions)


@every_sample
def test_vmap_over_images_and_over_weights(case):
    module, inputs = made(case)
    assert_close(vmap(module)(torch.stack([inputs, 2 * inputs])), torch.stack([module(inputs), module(2 * inputs)]))
    values = values_of(module)
    if not values:
        return
    function = called_with(module, inputs)
    together = vmap(function)({name: torch.stack([value, -value]) for name, value in values.items()})
    assert_close(together[1], function({name: -value for name, value in values.items()}))

    def loss(values, x):
        return functional_call(module, values, (x[None],)).square().sum()

    per_image = vmap(grad(loss), (None, 0))(values, inputs)
    whole = grad(lambda values: function(values).square().sum())(values)
    for name, expected in whole.items():
        assert_close(per_image[name].sum(0), expected, 1e-8)


@every_sample
@its_own_warnings
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_is_checked_and_follows_the_weights(case):
    module, inputs = made(case)
    with torch.no_grad():
        module(inputs)  # what evaluation keeps is there
        traced = torch.jit.trace(module, inputs)
    assert_follows_the_weights(traced, module, 0.5 * inputs)


@every_layer
def test_compiled(case):
    module, inputs = made(case)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    assert_follows_the_weights(compiled, module, inputs)
    torch._dynamo.reset()


@every_sample
def test_copies(case):
    module, inputs = made(case)
    layer, sample = case
    with torch.no_grad():
        expected = module(inputs)
        file = io.BytesIO()
        torch.save(module.state_dict(), file)
        file.seek(0)
        loaded = build(layer, sample, GROUP).double().eval()
        loaded(inputs)
        loaded.load_state_dict(torch.load(file))
        for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), loaded):
            assert torch.equal(other(inputs), expected)
            for parameter in other.parameters():
                parameter.zero_()
            assert torch.equal(module(inputs), expected)


@every_sample
def test_weights_changed_between_calls(case):
    module, inputs = made(case)
    layer, sample = case
    other = build(layer, sample, GROUP).double().eval()
    with torch.no_grad():
        module(inputs)
        for parameter in module.parameters():
            parameter.add_(0.3)
        other.load_state_dict(module.state_dict())
        assert torch.equal(module(inputs), other(inputs))


@every_sample
def test_inference_then_training(case):
    module, inputs = made(case)
    with torch.inference_mode():
        expected = module(inputs)
    features = inputs.clone().requires_grad_()
    assert_close(module(features), expected)
    for training in (False, True):
        module.train(training)(features).square().sum().backward()
    assert torch.isfinite(features.grad).all()
    with torch.inference_mode():
        module.eval()(inputs)
