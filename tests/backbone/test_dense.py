from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

from cian import CIAN, CianError, CrossImageAffinity
from cian.backbone.dense import Backbone
from cian.backbone.pretrained import build_backbone

FAMILIES = [
    ("tf_efficientnet_lite0", 16),
    ("tf_efficientnet_lite0", 8),
    ("resnet50", 8),
    ("convnext_atto", 16),
    ("vit_tiny_patch16_224", 16),
    ("vit_small_patch14_dinov2", 14),
]


@pytest.mark.parametrize(("name", "stride"), FAMILIES)
def test_every_family_trains_as_cian(name, stride):
    torch.manual_seed(0)
    backbone = build_backbone(name, stride, "random")
    grid = backbone.grid
    assert grid.stride == stride
    network = CIAN(backbone, 3, CrossImageAffinity(backbone.channels, 16))
    height, width = grid.size(60, 70)
    images = torch.randn(2, 3, height, width)
    self_logits, cross_logits = network(images, group_size=2)
    cells = grid.cells(torch.zeros(2, height, width)).shape
    assert self_logits.shape == cross_logits.shape == (2, 3, *cells[1:])
    with torch.no_grad():
        features, detail = backbone.forward_detail(images)
    assert features.shape[1:] == (backbone.channels, *cells[1:]) and detail.shape[1] == backbone.detail_channels
    (self_logits.sum() + cross_logits.sum()).backward()
    assert all(p.grad is not None for p in backbone.parameters() if p.requires_grad and p.ndim == 4)
    network.eval()
    assert network(images[:1])[1] is None
    assert grid.upsample(self_logits, (height, width)).shape == (2, 3, height, width)


def test_batch_norm_is_frozen():
    backbone = build_backbone("test_resnet", 8, "random").train()
    before = {k: v.clone() for k, v in backbone.state_dict().items() if "running" in k}
    backbone(torch.randn(2, 3, 33, 33))
    assert before and all(torch.equal(v, backbone.state_dict()[k]) for k, v in before.items())
    norms = [m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(not p.requires_grad for norm in norms for p in norm.parameters())


def test_packaged_weights_are_imagenets():
    """They differ from random weights, and give features between 0 and 6 (the last activation is ReLU6)."""
    backbone = build_backbone("tf_efficientnet_lite0", 16, "imagenet").eval()
    assert backbone.grid.mean == (0.5, 0.5, 0.5)
    random = build_backbone("tf_efficientnet_lite0", 16, "random").eval()
    stem = "model.conv_stem.weight"
    assert not torch.equal(backbone.state_dict()[stem], random.state_dict()[stem])
    y, x = torch.meshgrid(torch.linspace(-1, 1, 129), torch.linspace(-1, 1, 129), indexing="ij")
    image = torch.stack([(x * 9).sin(), (y * 9).cos(), x * y])[None]
    features = backbone(image)
    assert float(features.detach().min()) >= 0 and float(features.detach().max()) <= 6  # after ReLU6: a sane scale


def test_frozen_stages_have_no_gradient():
    backbone = build_backbone("test_efficientnet", 8, "random", frozen_stages=2)
    backbone(torch.randn(1, 3, 33, 33)).sum().backward()
    grads = [p.grad for p in backbone.model.conv_stem.parameters()] + [
        p.grad for p in backbone.model.blocks[0].parameters()
    ]
    assert all(grad is None for grad in grads)
    assert any(p.grad is not None for p in backbone.model.blocks[1].parameters())


@pytest.mark.parametrize(
    ("name", "stages", "first"),
    [
        ("tf_efficientnet_lite0", 3, "model.blocks.2."),
        ("resnet26", 2, "model.layer2."),
        ("convnext_atto", 2, "model.stages.1."),
        ("regnety_002", 2, "model.s2."),
        ("vit_tiny_patch16_224", 0, "model."),
    ],
)
def test_default_freezes_up_to_stride_4(name, stages, first):
    backbone = Backbone(name, 16, None)
    assert backbone.frozen_stages == stages
    trained = [key for key, value in backbone.named_parameters() if value.requires_grad]
    assert trained[0].startswith(first)


def test_random_weights_are_never_frozen_by_default():
    assert all(p.requires_grad for p in build_backbone("test_convnext", 16, "random", frozen_stages=None).parameters())


def test_own_weights_file(tmp_path):
    source = build_backbone("test_resnet", 8, "random")
    save_file(source.model.state_dict(), tmp_path / "weights.safetensors")
    loaded = build_backbone("test_resnet", 8, str(tmp_path / "weights.safetensors"))
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in source.state_dict().items())


def test_weights_that_are_not_finite_are_refused(tmp_path):
    state = build_backbone("test_resnet", 8, "random").model.state_dict()
    next(iter(state.values())).view(-1)[0] = torch.nan
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(CianError, match=r"weights\.safetensors hold values that are NaN or infinite\. Give other"):
        build_backbone("test_resnet", 8, str(tmp_path / "weights.safetensors"))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto"])
def test_weights_file_of_timm_holds_its_classifier(name, tmp_path):
    """Under any name; it is left out."""
    source = timm.create_model(name, pretrained=False)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    loaded = build_backbone(name, 16, str(tmp_path / "weights.safetensors")).model.state_dict()
    assert loaded and all(torch.equal(value, source.state_dict()[key]) for key, value in loaded.items())


@pytest.mark.parametrize(
    "name", ["resnet50_clip", "convnext_atto_ols", "halonet26t", "botnet26t_256", "vit_tiny_r_s16_p8_224"]
)
def test_features_that_lie_elsewhere_than_the_labels_are_refused(name):
    with pytest.raises(CianError, match=f"backbone {name}: gives no dense features.*Use a ResNet"):
        Backbone(name, 16)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("tf_eficientnet_lite0", "random", "Close: .*tf_efficientnet_lite0"),
        ("test_resnet", "nowhere.safetensors", "no such file"),
        ("test_resnet", "imagenet", "cannot get its weights"),
        ("swin_tiny_patch4_window7_224", "random", "Use a ResNet"),
    ],
)
def test_errors_name_the_cure(name, weights, message, monkeypatch):
    def offline(*args, pretrained=False, create=timm.create_model, **options):
        if pretrained:
            raise OSError("no network")
        return create(*args, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(CianError, match=message):
        build_backbone(name, 8, weights)


@pytest.mark.parametrize(("name", "stride"), [("resnet18", 8), ("test_efficientnet", 8), ("test_vit", 16)])
def test_cell_looks_where_the_grid_says(name, stride):
    """What a cell sees (the gradient to the image) is centred on the pixel that `cells` takes its label from."""
    torch.manual_seed(0)
    backbone = build_backbone(name, stride, "random").eval()
    grid = backbone.grid
    side, _ = grid.size(14 * stride, 14 * stride)
    pixels = grid.cells(torch.arange(side)[None, :, None].expand(1, side, side))[0, :, 0]
    image = torch.randn(1, 3, side, side, requires_grad=True)
    features = backbone(image)
    assert features.shape[2:] == (len(pixels), len(pixels))
    if grid.alignment == "centre":  # attention sees everything: the patch alone has a grid
        assert pixels[1] - pixels[0] == stride == 2 * pixels[0]
        return
    middle = len(pixels) // 2
    features[0, :, middle, middle].pow(2).sum().backward()
    seen = image.grad.abs().sum((0, 1, 3))
    centre = float((seen * torch.arange(side)).sum() / seen.sum())
    assert centre == pytest.approx(float(pixels[middle]), abs=stride / 4)
