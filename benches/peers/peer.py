"""The steps and parts of `benches/steps.rs` and `benches/parts.rs` in PyTorch: the same shapes, losses, optimiser and threads.

    python peer.py NAME [--count 8] [--threads 2] [--compile] [--device cuda] [--precision bf16] [--pairs 8]

Prints one line of JSON: pairs (of a step) or times (of a part) a second and the peak memory, of a processor what is
resident of the process, of a GPU what PyTorch has allocated. Written as one writes it in PyTorch today: `nn.Linear`, fused scaled dot-product attention, fused AdamW.
"""

import argparse
import copy
import json
import resource
import time

import torch
from torch import nn
from torch.nn import functional as F

WORDS = 8000


class Attention(nn.Module):
    def __init__(self, width, heads, drop=0.0):
        super().__init__()
        self.heads, self.drop = heads, drop
        self.q, self.kv, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, x, memory=None, mask=None, causal=False):
        split = lambda t: t.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(x if memory is None else memory).chunk(2, -1)
        options = {"attn_mask": mask, "is_causal": causal, "dropout_p": self.drop if self.training else 0.0}
        y = F.scaled_dot_product_attention(split(self.q(x)), split(k), split(v), **options)
        return self.out(y.transpose(1, 2).flatten(2))


class Mlp(nn.Sequential):
    def __init__(self, width, act):
        super().__init__(nn.Linear(width, 4 * width), act, nn.Linear(4 * width, width))


class QuickGelu(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class PreNorm(nn.Module):
    def __init__(self, width, heads, act):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.mlp = Attention(width, heads), Mlp(width, act)

    def forward(self, x, causal=False):
        x = x + self.attention(self.n1(x), causal=causal)
        return x + self.mlp(self.n2(x))


class PostNorm(nn.Module):
    """A BERT layer, with cross-attention in the fusion half."""

    def __init__(self, width, heads, cross, drop):
        super().__init__()
        self.attention, self.n1 = Attention(width, heads, drop), nn.LayerNorm(width, eps=1e-12)
        self.cross = Attention(width, heads, drop) if cross else None
        self.nc = nn.LayerNorm(width, eps=1e-12) if cross else None
        self.mlp, self.n2 = Mlp(width, nn.GELU()), nn.LayerNorm(width, eps=1e-12)
        self.drop = nn.Dropout(drop)

    def forward(self, x, mask, memory=None):
        x = self.n1(x + self.drop(self.attention(x, mask=mask)))
        if self.cross is not None:
            x = self.nc(x + self.drop(self.cross(x, memory)))
        return self.n2(x + self.drop(self.mlp(x)))


class Vit(nn.Module):
    def __init__(self, size, patch, width, depth, heads, act, pre):
        super().__init__()
        self.patch = nn.Conv2d(3, width, patch, patch, bias=not pre)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn((size // patch) ** 2 + 1, width) * 0.02)
        self.before = nn.LayerNorm(width) if pre else nn.Identity()
        self.blocks = nn.ModuleList(PreNorm(width, heads, act) for _ in range(depth))
        self.after = nn.LayerNorm(width)

    def forward(self, pixels):
        x = self.patch(pixels).flatten(2).transpose(1, 2)
        x = self.before(torch.cat([self.cls.expand(x.size(0), -1, -1), x], 1) + self.positions)
        for block in self.blocks:
            x = block(x)
        return x


class Clip(nn.Module):
    def __init__(self, size=64, patch=8, image=(192, 6, 6), text=(192, 6, 6), vocabulary=WORDS, words=24, embed=192):
        """`image` and `text`: width, depth and heads."""
        super().__init__()
        self.image = Vit(size, patch, *image, QuickGelu(), pre=True)
        width, depth, heads = text
        self.table = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.table.weight, std=0.02)
        self.positions = nn.Parameter(torch.randn(words, width) * 0.01)
        self.text = nn.ModuleList(PreNorm(width, heads, QuickGelu()) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.to_image = nn.Linear(image[0], embed, bias=False)
        self.to_text = nn.Linear(width, embed, bias=False)
        self.scale = nn.Parameter(torch.tensor(2.6593))

    def loss(self, batch):
        image = F.normalize(self.to_image(self.image.after(self.image(batch["pixels"])[:, 0])), dim=-1)
        x = self.table(batch["ids"]) + self.positions
        for block in self.text:
            x = block(x, causal=True)
        ends = batch["mask"].sum(1).long() - 1
        x = self.norm(x[torch.arange(len(x)), ends])
        logits = self.scale.exp() * image @ F.normalize(self.to_text(x), dim=-1).T
        own = torch.arange(len(logits))
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

    def after(self):
        with torch.no_grad():
            self.scale.clamp_(max=4.6052)


class Albef(nn.Module):
    def __init__(self, size=64, patch=8, width=192, depth=6, fusion=3, heads=6, words=24, embed=128, drop=0.1):
        super().__init__()
        self.image = Vit(size, patch, width, depth, heads, nn.GELU(), pre=False)
        self.table = nn.Embedding(WORDS, width)
        nn.init.normal_(self.table.weight, std=0.02)
        self.positions = nn.Parameter(torch.randn(words, width) * 0.02)
        self.segments = nn.Parameter(torch.zeros(width))
        self.norm, self.drop = nn.LayerNorm(width, eps=1e-12), nn.Dropout(drop)
        self.text = nn.ModuleList(PostNorm(width, heads, False, drop) for _ in range(depth - fusion))
        self.joint = nn.ModuleList(PostNorm(width, heads, True, drop) for _ in range(fusion))
        self.to_image, self.to_text = nn.Linear(width, embed), nn.Linear(width, embed)
        self.temperature = nn.Parameter(torch.tensor(0.07))
        self.dense, self.dense_norm = nn.Linear(width, width), nn.LayerNorm(width, eps=1e-12)
        self.bias = nn.Parameter(torch.zeros(WORDS))

    def read(self, ids, mask):
        x = self.drop(self.norm(self.table(ids) + self.positions + self.segments))
        for layer in self.text:
            x = layer(x, mask)
        return x

    def fuse(self, x, mask, image):
        for layer in self.joint:
            x = layer(x, mask, image)
        return x

    def see(self, pixels):
        return self.image.after(self.image(pixels))

    def words(self, hidden):
        return F.linear(self.dense_norm(F.gelu(self.dense(hidden))), self.table.weight, self.bias)

    def embeds(self, image, text):
        return F.normalize(self.to_image(image[:, 0]), dim=-1), F.normalize(self.to_text(text[:, 0]), dim=-1)


class AlbefStep(nn.Module):
    """ITC with momentum and queue, ITM with hard negatives, MLM with distillation: a step of ALBEF's pre-training."""

    def __init__(self, queue=4096, alpha=0.4, momentum=0.995):
        super().__init__()
        self.model, self.alpha, self.momentum = Albef(), alpha, momentum
        self.teacher = copy.deepcopy(self.model).requires_grad_(False)
        self.head = nn.Linear(192, 2)
        self.register_buffer("images", F.normalize(torch.randn(queue, 128), dim=-1))
        self.register_buffer("texts", F.normalize(torch.randn(queue, 128), dim=-1))
        self.place = 0

    def loss(self, batch):
        model, teacher, alpha = self.model, self.teacher, self.alpha
        pixels, ids, mask = batch["pixels"], batch["ids"], batch["mask"][:, None, None, :].bool()
        rows = len(ids)
        image, text = model.see(pixels), model.read(ids, mask)
        i, t = model.embeds(image, text)
        with torch.no_grad():
            image_m, text_m = teacher.see(pixels), teacher.read(ids, mask)
            self.i, self.t = teacher.embeds(image_m, text_m)
            all_i, all_t = torch.cat([self.i, self.images]), torch.cat([self.t, self.texts])
            own = torch.zeros(rows, len(all_i)).fill_diagonal_(1)
            target = lambda a, b: alpha * F.softmax(a @ b.T / model.temperature, 1) + (1 - alpha) * own
            to_text, to_image = target(self.i, all_t), target(self.t, all_i)
        itc = (F.cross_entropy(i @ all_t.T / model.temperature, to_text)
               + F.cross_entropy(t @ all_i.T / model.temperature, to_image)) / 2
        with torch.no_grad():
            scores = i @ t.T / model.temperature
            other = torch.multinomial(F.softmax(scores, 1).fill_diagonal_(0) + 1e-9 * (1 - torch.eye(rows)), 1)[:, 0]
            images = torch.multinomial(F.softmax(scores.T, 1).fill_diagonal_(0) + 1e-9 * (1 - torch.eye(rows)), 1)[:, 0]
        matched = model.fuse(text, mask, image)[:, 0]
        false = model.fuse(torch.cat([text, text[other]]), torch.cat([mask, mask[other]]),
                           torch.cat([image[images], image]))[:, 0]
        labels = torch.cat([torch.ones(rows), torch.zeros(2 * rows)]).long()
        itm = F.cross_entropy(self.head(torch.cat([matched, false])), labels)
        masked, chosen = batch["masked"], batch["chosen"]
        hidden = model.fuse(model.read(masked, mask), mask, image)[chosen]
        with torch.no_grad():
            soft = F.softmax(teacher.words(teacher.fuse(teacher.read(masked, mask), mask, image_m)[chosen]), -1)
        logits = model.words(hidden)
        mlm = (1 - alpha) * F.cross_entropy(logits, ids[chosen]) + alpha * F.cross_entropy(logits, soft)
        return itc + itm + mlm

    def after(self):
        with torch.no_grad():
            self.model.temperature.clamp_(0.001, 0.5)
            torch._foreach_lerp_(list(self.teacher.parameters()), list(self.model.parameters()), 1 - self.momentum)
            end = self.place + len(self.i)
            self.images[self.place:end], self.texts[self.place:end] = self.i, self.t
            self.place = end % len(self.images)


def batch(rows, words=24, size=64, vocabulary=WORDS):
    lengths = torch.randint(6, words + 1, (rows, 1))
    mask = (torch.arange(words) < lengths).float()
    ids = torch.randint(5, vocabulary, (rows, words)) * mask.long()
    chosen = (torch.rand(rows, words) < 0.15) & mask.bool()
    return {"pixels": torch.randn(rows, 3, size, size), "ids": ids, "mask": mask, "chosen": chosen,
            "masked": ids.masked_fill(chosen, 4)}


def training_step(model, data, compiled, precision):
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p for p in trained if p.ndim >= 2], "weight_decay": 0.05},
              {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), eps=1e-6, fused=True)
    loss_of = torch.compile(model.loss) if compiled else model.loss
    mixed = torch.autocast(torch.get_default_device().type, torch.bfloat16, enabled=precision == "bf16")

    def step():
        optimiser.zero_grad(set_to_none=True)
        with mixed:
            loss = loss_of(data)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        model.after()
        return loss

    return step, sum(p.numel() for p in trained)


def layer(compiled):
    """A layer of BERT-base on 8 sequences of 197 tokens, forward and backward, without dropout."""
    model = PostNorm(768, 12, cross=False, drop=0.0)
    x, c = torch.randn(8, 197, 768, requires_grad=True), torch.randn(8, 197, 768)
    forward = torch.compile(model) if compiled else model

    def run():
        model.zero_grad(set_to_none=True)
        x.grad = None
        (forward(x, None) * c).sum().backward()

    return run


def optimiser():
    """Clipping to norm 1 and AdamW over 100 million parameters in 100 tensors."""
    parameters = [nn.Parameter(torch.randn(1000, 1000)) for _ in range(100)]
    for parameter in parameters:
        parameter.grad = torch.randn(1000, 1000)
    adamw = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.05, fused=True)

    def run():
        nn.utils.clip_grad_norm_(parameters, 1.0)
        adamw.step()

    return run


def cross_entropy(compiled):
    """Cross-entropy over 30,522 words of 1,024 rows of logits, forward and backward."""
    logits, targets = torch.randn(1024, 30522, requires_grad=True), torch.randint(30522, (1024,))
    loss_of = torch.compile(F.cross_entropy) if compiled else F.cross_entropy

    def run():
        logits.grad = None
        loss_of(logits, targets).backward()

    return run


def ipot(compiled):
    """Plans between 64 texts of 30 words and images of 100 regions: 50 iterations, as one writes them in PyTorch."""
    cost = torch.rand(64, 30, 100)

    @torch.no_grad()
    def plan(cost, beta=0.5, iterations=50):
        rows, m, n = cost.shape
        a = torch.exp(-cost.transpose(1, 2) / beta)
        t, sigma = torch.ones(rows, n, m), torch.full((rows, m, 1), 1 / m)
        for _ in range(iterations):
            q = a * t
            delta = 1 / (n * (q @ sigma))
            sigma = 1 / (m * (q.transpose(1, 2) @ delta))
            t = delta * q * sigma.transpose(1, 2)
        return t

    plan = torch.compile(plan) if compiled else plan
    return lambda: plan(cost)


def peak_memory():
    if torch.get_default_device().type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def prepare(name, compiled, precision, pairs):
    """What to run, how many of what it counts are in one run, and how many parameters it trains."""
    b32 = {"size": 224, "words": 77, "vocabulary": 49408}
    steps = {
        "clip": (64, {}, Clip),
        "clip_b32": (8, b32, lambda: Clip(patch=32, image=(768, 12, 12), text=(512, 12, 8), embed=512, **b32)),
        "albef": (32, {}, AlbefStep),
    }
    if name in steps:
        usual, size, model = steps[name]
        rows = pairs or usual
        step, parameters = training_step(model(), batch(rows, **size), compiled, precision)
        return step, rows, parameters
    parts = {"layer": layer, "cross_entropy": cross_entropy, "ipot": ipot}
    return (optimiser() if name == "optimiser" else parts[name](compiled)), 1, None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32", help="of a step: under autocast")
    parser.add_argument("--pairs", type=int, help="of a step, if not the usual ones")
    args = parser.parse_args()
    torch.set_default_device(args.device)
    before = peak_memory()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    run, units, parameters = prepare(args.name, args.compile, args.precision, args.pairs)
    wait = torch.cuda.synchronize if args.device != "cpu" else lambda: None
    for _ in range(2):
        run()
    wait()
    start = time.perf_counter()
    for _ in range(args.count):
        outcome = run()
    wait()
    seconds = time.perf_counter() - start
    print(json.dumps({
        "name": args.name,
        "per_second": args.count * units / seconds,
        "peak_memory_mib": peak_memory(),
        "memory_before_mib": before,
        "parameters": parameters,
        "loss": float(outcome.detach()) if parameters else None,
        "framework": f"PyTorch {torch.__version__}" + (" compiled" if args.compile else ""),
    }))


if __name__ == "__main__":
    main()
