"""The paper's module against the authors' numbers and against a plain-loop version."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cian import CrossImageAffinity, cross_image_affinity
from cian.affinity import affinity_map, retrieve
from tests.helpers import shared

CONVS = {"query": "q", "key": "k", "value": "v"}


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    file = np.load(shared("reference/affinity_and_losses.npz"))
    return {name: torch.from_numpy(file[name]) for name in file}


def from_reference(arrays: dict[str, Tensor]) -> CrossImageAffinity:
    module = CrossImageAffinity(24, 12)
    state = {f"{ours}.weight": arrays[f"w_conv_embed_{theirs}"] for ours, theirs in CONVS.items()}
    state["project.weight"] = arrays["w_conv_out"]
    names = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "var"}
    state |= {f"norm.{ours}": arrays[f"bn_{theirs}"] for ours, theirs in names.items()}
    module.load_state_dict(state, strict=False)
    return module.eval()


def test_residuals_equal_the_authors(reference):
    features = reference["feat"]
    with torch.no_grad():
        self_features, cross_features = from_reference(reference)(features, group_size=2)
    torch.testing.assert_close(self_features - features, reference["g2_max_eval_dot_self"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(cross_features - features, reference["g2_max_eval_dot_cross"], rtol=1e-5, atol=1e-5)


def test_gradients_equal_the_authors(reference):
    module = from_reference(reference)
    features = reference["feat"].clone().requires_grad_()
    self_features, cross_features = module(features, group_size=2)
    loss = ((self_features - features) * reference["up_self"]).sum()
    loss = loss + ((cross_features - features) * reference["up_cross"]).sum()
    loss.backward()
    got = {"feat": features.grad, "_bn_out_gamma": module.norm.weight.grad, "_bn_out_beta": module.norm.bias.grad}
    got |= {f"_conv_embed_{theirs}_weight": getattr(module, ours).weight.grad for ours, theirs in CONVS.items()}
    got["_conv_out_weight"] = module.project.weight.grad
    for name, gradient in got.items():
        expected = reference[f"g2_max_eval_dot_d{name}"]
        scale = float(expected.abs().max())
        torch.testing.assert_close(
            gradient / scale, expected / scale, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def plain(module: CrossImageAffinity, x: Tensor, group_size: int) -> tuple[Tensor, Tensor | None]:
    """The method as the paper describes it: image by image, cell by cell, key by key, without the module's own code."""
    n, _, h, w = x.shape
    pooled = isinstance(module.pool, nn.MaxPool2d)
    options = module.attend.keywords

    def project(conv: nn.Conv2d, image: Tensor) -> Tensor:
        return torch.einsum("oc,chw->ohw", conv.weight[:, :, 0, 0], image)

    def pool(image: Tensor) -> Tensor:
        if not pooled:
            return image
        d, h, w = image.shape
        out = image.new_full((d, (h + 1) // 2, (w + 1) // 2), -torch.inf)
        for y, x_ in itertools.product(range(out.shape[1]), range(out.shape[2])):
            window = image[:, max(0, 2 * y - 1) : 2 * y + 2, max(0, 2 * x_ - 1) : 2 * x_ + 2]
            out[:, y, x_] = window.amax((1, 2))
        return out

    def message(query_image: Tensor, reference: Tensor) -> Tensor:
        query, key, value = project(module.query, query_image), pool(project(module.key, reference)), None
        value = pool(project(module.value, reference))
        keys, values = key.flatten(1).T, value.flatten(1).T  # (cells, d)
        out = torch.zeros_like(query)
        for y, x_ in itertools.product(range(h), range(w)):
            q = query[:, y, x_]
            if module.similarity == "cosine":
                scores = [torch.dot(k, q) / (k.norm() * q.norm()) for k in keys]
            else:
                scores = [torch.dot(k, q) for k in keys]
            weights = torch.stack(scores).softmax(0)
            out[:, y, x_] = sum(a * v for a, v in zip(weights, values, strict=True))
        return out

    def residual(messages: Tensor) -> Tensor:
        r = torch.einsum("oc,nchw->nohw", module.project.weight[:, :, 0, 0], messages)
        norm = module.norm
        if norm.training:
            mean, var = r.mean((0, 2, 3)), r.var((0, 2, 3), unbiased=False)
        else:
            mean, var = norm.running_mean, norm.running_var
        r = (r - mean[:, None, None]) / (var[:, None, None] + norm.eps).sqrt()
        return r * norm.weight[:, None, None] + norm.bias[:, None, None]

    own = torch.stack([message(image, image) for image in x])
    if group_size == 1:
        return x + residual(own), None
    chunk = n // group_size
    crossed = []
    for i in range(n):
        others = [(i + offset * chunk) % n for offset in range(1, group_size)]
        messages = [own[i]] if options["include_self"] else []
        messages += [message(x[i], x[other]) for other in others]
        stacked = torch.stack(messages)
        crossed.append(stacked.amax(0) if options["merge"] == "max" else stacked.mean(0))
    return x + residual(own), x + residual(torch.stack(crossed))


@pytest.mark.parametrize("group_size", [1, 2, 3, 4])
@pytest.mark.parametrize("merge", ["max", "mean"])
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize(
    ("include_self", "pool", "train"), [(True, True, False), (False, False, True), (True, True, True)]
)
def test_equals_plain_loops_in_values_and_gradients(group_size, merge, similarity, include_self, pool, train):
    torch.manual_seed(0)
    module = CrossImageAffinity(5, 3, similarity, merge, include_self, pool).double().train(train)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    nn.init.normal_(module.norm.running_mean)
    nn.init.uniform_(module.norm.running_var, 0.5, 2)
    x = torch.randn(group_size * 2, 5, 4, 3, dtype=torch.float64)
    state = {k: v.clone() for k, v in module.state_dict().items()}

    def run(forward) -> tuple[list[Tensor], list[Tensor]]:
        module.load_state_dict(state)
        features = x.clone().requires_grad_()
        outputs = [out for out in forward(features) if out is not None]
        upstream = [torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out) for out in outputs]
        inputs = [features, *module.parameters()]
        return outputs, list(torch.autograd.grad(outputs, inputs, upstream))

    values, gradients = run(lambda f: module(f, group_size))
    expected_values, expected_gradients = run(lambda f: plain(module, f, group_size))
    assert len(values) == (1 if group_size == 1 else 2)
    torch.testing.assert_close(values, expected_values, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-7, atol=1e-7)


def test_starts_as_identity():
    x = torch.randn(4, 8, 5, 5)
    self_features, cross_features = CrossImageAffinity(8)(x, group_size=2)
    assert torch.equal(self_features, x) and torch.equal(cross_features, x)


def test_training_updates_running_statistics_once_per_branch():
    module = CrossImageAffinity(8)
    module(torch.randn(4, 8, 5, 5), group_size=2)
    assert int(module.norm.num_batches_tracked) == 2


def test_gradients_flow_into_references():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 3, 3, requires_grad=True)
    _, cross = cross_image_affinity(x, x, x, group_size=2, merge="mean", include_self=False)
    cross[0].sum().backward()
    assert x.grad[1].abs().sum() > 0


def test_hand_computed_message():
    """Two keys, scores 0 and ln 3: affinities 1/4 and 3/4."""
    query = torch.ones(1, 1, 1, 1)
    key = torch.tensor([0.0, float(np.log(3))]).view(1, 1, 1, 2)
    value = torch.tensor([4.0, 8.0]).view(1, 1, 1, 2)
    assert retrieve(query, key, value).item() == pytest.approx(7.0)
    torch.testing.assert_close(affinity_map(query, key).flatten(), torch.tensor([0.25, 0.75]))


def test_map_is_what_retrieval_uses():
    torch.manual_seed(0)
    module = CrossImageAffinity(6, 4)
    x, y = torch.randn(2, 6, 5, 7), torch.randn(2, 6, 4, 4)
    look = module.look(x, y)  # (2, 5, 7, 2, 2)
    assert look.shape == (2, 5, 7, 2, 2)
    torch.testing.assert_close(look.sum((3, 4)), torch.ones(2, 5, 7))
    with torch.no_grad():
        value = module.pool(module.value(y))
        expected = retrieve(module.query(x), module.pool(module.key(y)), value)
    torch.testing.assert_close(torch.einsum("nhwij,ndij->ndhw", look, value), expected, rtol=1e-4, atol=1e-6)


def test_gradcheck():
    torch.manual_seed(0)
    tensors = [torch.randn(4, 2, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(lambda q, k, v: cross_image_affinity(q, k, v, merge="mean"), tensors)


@pytest.mark.parametrize("options", [{"group_size": 2}, {"group_size": 0}, {"group_size": 3, "merge": "sum"}])
def test_refuses_what_makes_no_groups(options):
    x = torch.randn(3, 2, 2, 2)
    with pytest.raises(ValueError, match="use"):
        cross_image_affinity(x, x, x, **options)


def test_runs_under_autocast_and_any_float():
    x = torch.randn(2, 8, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = CrossImageAffinity(8)(x)
    assert out.shape == x.shape and F.mse_loss(out.float(), x) < 1e-3
