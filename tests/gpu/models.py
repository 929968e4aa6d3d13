"""The models, with random weights."""

import warnings

import torch
from torch import nn


class Bert(nn.Module):
    """bert-base of the package `transformers` with a classifier for two classes. The clients send
    floats below 1, which are scaled to token ids."""

    dtype, dims, outputs = "float", [128], 2

    def __init__(self):
        super().__init__()
        from transformers import BertConfig, BertForSequenceClassification

        config = BertConfig(num_labels=self.outputs)
        self.words, self.bert = config.vocab_size, BertForSequenceClassification(config)

    def forward(self, x):
        return self.bert(input_ids=(x * self.words).long(), attention_mask=torch.ones_like(x)).logits


class Resnet(nn.Module):
    """resnet-50 of the package `torchvision`: logits of 1000 classes. The clients send bytes."""

    dtype, dims, outputs = "uint8", [224, 224, 3], 1000

    def __init__(self):
        super().__init__()
        from torchvision.models import resnet50

        self.net = resnet50()

    def forward(self, x):
        return self.net(x.permute(0, 3, 1, 2).float() / 255)


class Recommender(nn.Module):
    """13 numbers and 26 categories, as in DLRM: embeddings, products of all pairs, and dense
    layers."""

    dtype, dims, outputs = "float", [39], 1
    NUMBERS, TABLES, ROWS, WIDTH = 13, 26, 100_000, 64

    def __init__(self):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(self.ROWS, self.WIDTH) for _ in range(self.TABLES))
        self.bottom = dense(self.NUMBERS, 512, 256, self.WIDTH)
        pairs = torch.triu_indices(self.TABLES + 1, self.TABLES + 1, 1)
        self.register_buffer("pairs", pairs)
        self.top = dense(pairs.shape[1] + self.WIDTH, 512, 256, self.outputs)

    def forward(self, x):
        numbers, ids = self.bottom(x[:, : self.NUMBERS]), (x[:, self.NUMBERS :] * self.ROWS).long()
        found = [table(ids[:, at]) for at, table in enumerate(self.tables)]
        all_of = torch.stack([numbers, *found], 1)
        products = torch.bmm(all_of, all_of.transpose(1, 2))[:, self.pairs[0], self.pairs[1]]
        return torch.sigmoid(self.top(torch.cat([products, numbers], 1)))


def dense(*widths):
    layers = []
    for inner, outer in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(inner, outer), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


MODELS = {"bert-base": Bert, "resnet-50": Resnet, "recommender": Recommender}


def make(name, device):
    """A traced model: one call to it runs all kernels without Python's lock, as a TensorFlow graph
    does."""
    torch.manual_seed(7)
    model = MODELS[name]().eval().to(device)
    # Do not compile anew for each number of rows.
    torch._C._jit_set_profiling_executor(False)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.freeze(torch.jit.trace(model, rows(name, 2).to(device), check_trace=False))
        for count in (1, 2, 64) if device == "cuda" else (1,):
            traced(rows(name, count).to(device)).cpu()
    return traced


def rows(name, count):
    """Random rows for a model."""
    x = torch.rand(count, *MODELS[name].dims)
    return (x * 256).to(torch.uint8) if MODELS[name].dtype == "uint8" else x


def use_tf32(allowed):
    """TensorFlow multiplies float32 in TF32 on GPUs that can, if nothing else is set
    (tensorflow/core/platform/tensor_float_32_utils.cc)."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
