"""Checkpoints as other code publishes them."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from pointcmt.training.networks.backbones import BACKBONES
from tests.training import textbooks

CLASSES = 6
# These are like pointvit-s and pointnext-s, but large or with one more layer.
LIKE_OTHERS = ("pointvit-b", "pointvit-l", "point-bert", "pointnext-s-c64")
NAMES = [name for name in BACKBONES if name not in LIKE_OTHERS]
POINTS = torch.randn(2, 512, 3, generator=torch.Generator().manual_seed(0)).double() * 0.4


def reference(name="msg", **names):
    """A network named as in the reference code, with random weights and statistics, float64."""
    torch.manual_seed(0)
    model = getattr(textbooks, name)(CLASSES, **names).double()
    textbooks.disturb(model)
    return model


def ours(name="pointnet2-msg"):
    torch.manual_seed(1)
    return BACKBONES[name](CLASSES).double()


def prefixed(model, prefix="module.model."):
    return {prefix + key: value for key, value in model.state_dict().items()}


def save(path, weights, **beside):
    torch.save({"epoch": 3, "model_state": weights, **beside}, path)
    return path


class Yanx27(nn.Module):
    """PointNet++ in the layout of yanx27's repository: biases before norms; MSG: features first.

    values: of each point, 6 with normals.
    """

    def __init__(self, multi, values=3):
        super().__init__()
        near = [(values, 32, 32, 64), (values, 64, 64, 128), (values, 64, 96, 128)]
        far = [(323, 64, 64, 128), (323, 128, 128, 256), (323, 128, 128, 256)]
        if not multi:
            near, far = [(values, 64, 64, 128)], [(131, 128, 128, 256)]
        self.multi, self.sa1, self.sa2, self.sa3 = multi, nn.Module(), nn.Module(), nn.Module()
        every = [[], near, far, [(3 + sum(w[-1] for w in far), 256, 512, 1024)]]
        for stage, mlps in zip((self.sa1, self.sa2, self.sa3), every[1:], strict=True):
            convs = [[nn.Conv2d(a, b, 1) for a, b in pairwise(w)] for w in mlps]
            norms = [[nn.BatchNorm2d(b) for b in w[1:]] for w in mlps]
            if multi and stage is not self.sa3:
                stage.conv_blocks = nn.ModuleList(map(nn.ModuleList, convs))
                stage.bn_blocks = nn.ModuleList(map(nn.ModuleList, norms))
            else:
                stage.mlp_convs, stage.mlp_bns = map(nn.ModuleList, (convs[0], norms[0]))
        self.fc1, self.bn1 = nn.Linear(1024, 512), nn.BatchNorm1d(512)
        self.fc2, self.bn2 = nn.Linear(512, 256), nn.BatchNorm1d(256)
        self.fc3 = nn.Linear(256, 40)

    def forward(self, points):
        """points [B, N, 3 or 6] → the 512-d feature after fc1."""
        near = (0.1, 16), (0.2, 32), (0.4, 128)
        far = (0.2, 32), (0.4, 64), (0.8, 128)
        near, far = (near, far) if self.multi else (((0.2, 32),), ((0.4, 64),))
        features = points[..., 3:] if points.shape[2] > 3 else None
        points = points[..., :3]
        for stage, count, scales in ((self.sa1, 512, near), (self.sa2, 128, far)):
            centers = textbooks.take(points, textbooks.farthest(points, count))
            found = []
            for (radius, neighbors), layers in zip(scales, self.layers(stage), strict=True):
                index = textbooks.balls(points, centers, radius, neighbors)
                group = textbooks.take(points, index) - centers[:, :, None]
                if features is not None:
                    parts = [group, textbooks.take(features, index)]
                    group = torch.cat(parts[::-1] if self.multi else parts, dim=-1)
                found.append(self.run(layers, group).amax(dim=-1).mT)
            points, features = centers, torch.cat(found, dim=-1)
        rest = torch.cat([points, features], dim=-1)[:, None]
        pooled = self.run(self.layers(self.sa3)[0], rest).amax(dim=-1)[..., 0]
        return F.relu(self.bn1(self.fc1(pooled)))

    def logits(self, points):
        """points [B, N, 3] → scores of 40 classes, by the published head, without dropout."""
        return self.fc3(F.relu(self.bn2(self.fc2(self(points)))))

    def layers(self, stage):
        if hasattr(stage, "conv_blocks"):
            return list(zip(stage.conv_blocks, stage.bn_blocks, strict=True))
        return [(stage.mlp_convs, stage.mlp_bns)]

    def run(self, layers, group):
        x = group.permute(0, 3, 1, 2)
        for conv, norm in zip(*layers, strict=True):
            x = F.relu(norm(conv(x)))
        return x


class Learning3D(nn.Module):
    """PointNet as in learning3d: five layers for each point, a maximum, a head of 512-256-40."""

    def __init__(self):
        super().__init__()
        self.feature_model = nn.Module()
        for number, (a, b) in enumerate(pairwise((3, 64, 64, 64, 128, 1024)), 1):
            self.feature_model.add_module(f"conv{number}", nn.Conv1d(a, b, 1))
            self.feature_model.add_module(f"bn{number}", nn.BatchNorm1d(b))
        self.linear1, self.bn1 = nn.Linear(1024, 512), nn.BatchNorm1d(512)
        self.linear2, self.bn2 = nn.Linear(512, 256), nn.BatchNorm1d(256)
        self.linear3 = nn.Linear(256, 40)

    def logits(self, points):
        """points [B, N, 3] → scores of 40 classes."""
        x, layers = points.mT, self.feature_model
        for number in range(1, 6):
            conv, norm = getattr(layers, f"conv{number}"), getattr(layers, f"bn{number}")
            x = F.relu(norm(conv(x)))
        x = F.relu(self.bn1(self.linear1(x.amax(dim=2))))
        return self.linear3(F.relu(self.bn2(self.linear2(x))))


class PublishedDGCNN(textbooks.DGCNN):
    """DGCNN as its authors and antao97 publish it: their names and their head, for 40 classes."""

    NAMES = {  # noqa: RUF012
        "embed": "conv5.0",
        "embed_norm": "conv5.1",
        "linear": "linear1",
        "norm": "bn6",
    }

    def __init__(self):
        super().__init__(CLASSES)  # whose linear classifier is not used
        self.linear2, self.bn7 = nn.Linear(512, 256), nn.BatchNorm1d(256)
        self.linear3 = nn.Linear(256, 40)

    def published(self):
        """The weights by their published names; norms of edge convolutions have two names."""
        found = {}
        for name, tensor in self.state_dict().items():
            layer, _, field = name.partition(".")
            if layer == "edges":
                number, kind, field = field.split(".")
                found[f"conv{int(number) + 1}.{int(kind == 'norm')}.{field}"] = tensor
                if kind == "norm":
                    found[f"bn{int(number) + 1}.{field}"] = tensor
            elif layer != "classifier":
                found[f"{self.NAMES.get(layer, layer)}.{field}"] = tensor
        return found

    def logits(self, points):
        """points [B, N, 3] → scores of 40 classes, with LeakyReLU after every layer."""
        normed = []
        with self.norm.register_forward_hook(lambda *given: normed.append(given[-1])):
            self(points)
        x = F.leaky_relu(normed[0], 0.2)
        return self.linear3(F.leaky_relu(self.bn7(self.linear2(x)), 0.2))


class PublishedPointMLP(textbooks.PointMLP):
    """PointMLP as its authors publish it: their names and their head, for 40 classes."""

    def __init__(self):
        super().__init__(CLASSES)  # whose linear classifier is not used
        self.linear = nn.Linear(1024, 512)
        self.linear2, self.norm2 = nn.Linear(512, 256), nn.BatchNorm1d(256)
        self.linear3 = nn.Linear(256, 40)

    def published(self):
        """The weights by their published names; convolutions are [O, I, 1]."""
        layers = {"embed": "embedding.net.{}", "linear": "classifier.0", "norm": "classifier.1"}
        layers |= {"linear2": "classifier.4", "norm2": "classifier.5", "linear3": "classifier.8"}
        for n in range(4):
            layers[f"stages.{n}.transfer"] = f"pre_blocks_list.{n}.transfer.net.{{}}"
            for part, list_ in (("neighbors", "pre_blocks_list"), ("centers", "pos_blocks_list")):
                for block, half in ((0, 0), (0, 1), (1, 0), (1, 1)):
                    theirs = f"{list_}.{n}.operation.{block}.net{half + 1}.{{}}"
                    layers[f"stages.{n}.{part}.{block}.{half}"] = theirs
        found = {}
        for name, tensor in self.state_dict().items():
            layer, field = name.rsplit(".", 1)
            if field in ("alpha", "beta"):
                number = layer.removeprefix("stages.")
                found[f"local_grouper_list.{number}.affine_{field}"] = tensor.view(1, 1, 1, -1)
            elif layer in layers:
                found[f"{layers[layer]}.{field}"] = tensor
            elif layer.endswith((".conv", ".norm")):
                place, kind = layer.rsplit(".", 1)
                value = tensor[..., 0] if kind == "conv" else tensor
                found[f"{layers[place].format(int(kind == 'norm'))}.{field}"] = value
        return found

    def logits(self, points):
        """points [B, N, 3] → scores of 40 classes."""
        return self.linear3(F.relu(self.norm2(self.linear2(self(points)[1]))))


class PublishedPointNeXt(textbooks.PointNeXtS):
    """PointNeXt-S as openpoints publishes it: its names and its head, for 40 classes."""

    def __init__(self, width=32):
        super().__init__(CLASSES, width)  # whose linear classifier is not used
        self.linear2, self.norm2 = nn.Linear(512, 256, bias=False), nn.BatchNorm1d(256)
        self.linear3 = nn.Linear(256, 40)

    def published(self):
        """The weights by their published names."""
        layers = {"stem": "encoder.encoder.0.0.convs.0.0"}
        for n in range(4):
            place = f"encoder.encoder.{n + 1}.0"
            layers |= {f"stages.{n}.{half}.conv": f"{place}.convs.{half}.0" for half in (0, 1)}
            layers |= {f"stages.{n}.{half}.norm": f"{place}.convs.{half}.1" for half in (0, 1)}
            layers[f"stages.{n}.2"] = f"{place}.skipconv.0"
        for half in (0, 1):
            layers[f"all.{half}.conv"] = f"encoder.encoder.5.0.convs.{half}.0"
            layers[f"all.{half}.norm"] = f"encoder.encoder.5.0.convs.{half}.1"
        for number, (linear, norm) in enumerate((("linear", "norm"), ("linear2", "norm2"))):
            layers[linear] = f"prediction.head.{2 * number}.0"
            layers[norm] = f"prediction.head.{2 * number}.1"
        layers["linear3"] = "prediction.head.4.0"
        named = ((name.rsplit(".", 1), tensor) for name, tensor in self.state_dict().items())
        return {f"{layers[la]}.{field}": x for (la, field), x in named if la in layers}

    def logits(self, points):
        """points [B, N, 3] → scores of 40 classes."""
        return self.linear3(F.relu(self.norm2(self.linear2(self(points)[1]))))


class PointMAE(nn.Module):
    """Point-MAE's network for fine-tuning, as its authors publish it.

    between: Point-BERT's width of a patch before `reduce_dim`; 0 for Point-MAE. classes: 0 leaves
    out the head.
    """

    def __init__(self, width=384, depth=12, between=0, classes=0):
        super().__init__()
        self.encoder = nn.Module()
        norms = nn.BatchNorm1d(128), nn.BatchNorm1d(512)
        for name, norm, (a, b, c) in (
            ("first_conv", norms[0], (3, 128, 256)),
            ("second_conv", norms[1], (512, 512, between or width)),
        ):
            layers = nn.Conv1d(a, b, 1), norm, nn.ReLU(), nn.Conv1d(b, c, 1)
            self.encoder.add_module(name, nn.Sequential(*layers))
        if between:
            self.reduce_dim = nn.Linear(between, width)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.cls_pos = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))
        self.blocks = nn.Module()
        self.blocks.blocks = nn.ModuleList(self.block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        if classes:
            more = () if between else (nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout())
            more += () if between else (nn.Linear(256, 256), nn.BatchNorm1d(256))
            last = nn.ReLU(), nn.Dropout(), nn.Linear(256, classes)
            self.cls_head_finetune = nn.Sequential(nn.Linear(2 * width, 256), *more, *last)

    def block(self, width):
        block, block_parts = nn.Module(), {"attn": nn.Module(), "mlp": nn.Module()}
        block.norm1, block.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        for name, part in block_parts.items():
            block.add_module(name, part)
        block.attn.qkv = nn.Linear(width, 3 * width, bias=False)
        block.attn.proj = nn.Linear(width, width)
        block.mlp.fc1, block.mlp.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        return block

    def forward(self, points):
        """points [B, N, 3] → the class token and the maximum over patches, [B, 2·D]."""
        centers = textbooks.take(points, textbooks.farthest(points, points.shape[1] // 16))
        index = torch.cdist(centers, points).topk(32, largest=False).indices
        patches = textbooks.take(points, index) - centers[:, :, None]  # [B, G, 32, 3]
        B, G = patches.shape[:2]
        x = self.encoder.first_conv(patches.flatten(0, 1).mT)  # [B·G, 256, 32]
        x = torch.cat([x.amax(dim=2, keepdim=True).expand_as(x), x], dim=1)
        x = self.encoder.second_conv(x).amax(dim=2).view(B, G, -1)
        x = self.reduce_dim(x) if hasattr(self, "reduce_dim") else x
        x = torch.cat([self.cls_token.expand(B, -1, -1), x], dim=1)
        places = torch.cat([self.cls_pos.expand(B, -1, -1), self.pos_embed(centers)], dim=1)
        for block in self.blocks.blocks:
            x = x + places
            qkv = block.attn.qkv(block.norm1(x)).unflatten(-1, (3, -1, 64))  # [B, T, 3, heads, 64]
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            mixed = (q @ k.mT / 8).softmax(dim=-1) @ v
            x = x + block.attn.proj(mixed.transpose(1, 2).flatten(2))
            x = x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))
        x = self.norm(x)
        return torch.cat([x[:, 0], x[:, 1:].amax(dim=1)], dim=1)

    def logits(self, points):
        return self.cls_head_finetune(self(points))


class ResNet18(nn.Module):
    """torchvision's ResNet-18 without its last layer in PointCMT's MVCNN: net.0 … net.7, fc.0."""

    def __init__(self, classes):
        super().__init__()
        stem = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()
        widths = (64, 64), (64, 128), (128, 256), (256, 512)
        stages = [nn.Sequential(BasicBlock(a, b), BasicBlock(b, b)) for a, b in widths]
        pooling = nn.MaxPool2d(3, 2, 1), *stages, nn.AdaptiveAvgPool2d(1)
        self.net = nn.Sequential(*stem, *pooling)
        self.fc = nn.Sequential(nn.Linear(512, classes))

    def forward(self, images):
        """Normalized images [B, V, 3, H, W] → logits [B, C]."""
        views = self.net(images.flatten(0, 1)).flatten(1)
        return self.fc(views.view(*images.shape[:2], -1).amax(dim=1))


class BasicBlock(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        stride = 1 if before == after else 2
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample = None
        if stride == 2:
            conv = nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(after))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))
