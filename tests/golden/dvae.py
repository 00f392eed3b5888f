"""Loss and gradients of a dVAE (Ramesh et al., arXiv:2102.12092, section 2.1 and appendix A) of single patches: Gumbel
softmax at temperature 1/16, logit-Laplace likelihood of pixels brought into (0.1, 0.9), KL divergence to uniform codes
weighed 6.6 a patch.

The uniform numbers behind the Gumbel noise are those of the suite's generator: Philox4x32-10 under
splitmix(splitmix(seed) ^ fnv1a("dvae.gumbel")) with seed 1 and the counter (block, 0, step, 0) at step 50.

Run in this folder: python dvae.py. Made with torch 2.15 and safetensors 0.8; writes dvae.safetensors.
"""

import torch
from safetensors.torch import save_file
from torch.nn.functional import gelu, layer_norm, linear

B, SIDE, PATCH, CODES, WIDTH, DEPTH = 2, 8, 4, 5, 6, 2
PIXELS = 3 * PATCH**2
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
DEVIATION = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
WORD, LONG = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(b >> 32) ^ c[1] ^ k[0], b & WORD, (a >> 32) ^ c[3] ^ k[1], a & WORD]
        k = [(k[0] + 0x9E3779B9) & WORD, (k[1] + 0xBB67AE85) & WORD]
    return c


def splitmix(value):
    value = (value + 0x9E3779B97F4A7C15) & LONG
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & LONG
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & LONG
    return value ^ (value >> 31)


def uniform(seed, step, purpose, count):
    hashed = 0xCBF29CE484222325
    for byte in purpose.encode():
        hashed = ((hashed ^ byte) * 0x100000001B3) & LONG
    key = splitmix(splitmix(seed) ^ hashed)
    blocks = [philox((block, 0, step, 0), (key & WORD, key >> 32)) for block in range((count + 3) // 4)]
    return torch.tensor([(word >> 8) / 2**24 for block in blocks for word in block][:count])


def patches(images):
    rows = images.reshape(B, 3, SIDE // PATCH, PATCH, SIDE // PATCH, PATCH)
    return rows.permute(0, 2, 4, 1, 3, 5).reshape(-1, PIXELS)


def layers(at):
    for index in range(DEPTH):
        inner = f"{at}.layers.{index}"
        yield from {f"{inner}.norm.gain": WIDTH, f"{inner}.norm.bias": WIDTH}.items()
        yield from {f"{inner}.mlp.up.weight": (4 * WIDTH, WIDTH), f"{inner}.mlp.up.bias": 4 * WIDTH}.items()
        yield from {f"{inner}.mlp.down.weight": (WIDTH, 4 * WIDTH), f"{inner}.mlp.down.bias": WIDTH}.items()
    yield from {f"{at}.norm.gain": WIDTH, f"{at}.norm.bias": WIDTH}.items()


ENCODER = {
    "dvae.encoder.embed.weight": (WIDTH, PIXELS),
    "dvae.encoder.embed.bias": WIDTH,
    "dvae.encoder.logits.weight": (CODES, WIDTH),
    "dvae.encoder.logits.bias": CODES,
    **dict(layers("dvae.encoder")),
}
DECODER = {
    "dvae.decoder.codes.weight": (WIDTH, CODES),
    "dvae.decoder.pixels.weight": (2 * PIXELS, WIDTH),
    "dvae.decoder.pixels.bias": 2 * PIXELS,
    **dict(layers("dvae.decoder")),
}


def drawn(shapes):
    return {name: torch.randn(shape) / 2 + ("gain" in name) for name, shape in shapes.items()}


def through(p, at, x):
    for index in range(DEPTH):
        inner = f"{at}.layers.{index}"
        normed = layer_norm(x, (WIDTH,), p[f"{inner}.norm.gain"], p[f"{inner}.norm.bias"], 1e-6)
        up = gelu(linear(normed, p[f"{inner}.mlp.up.weight"], p[f"{inner}.mlp.up.bias"]))
        x = x + linear(up, p[f"{inner}.mlp.down.weight"], p[f"{inner}.mlp.down.bias"])
    return layer_norm(x, (WIDTH,), p[f"{at}.norm.gain"], p[f"{at}.norm.bias"], 1e-6)


def encoder(p, pixels):
    embedded = linear(patches(pixels), p["dvae.encoder.embed.weight"], p["dvae.encoder.embed.bias"])
    hidden = through(p, "dvae.encoder", embedded)
    return linear(hidden, p["dvae.encoder.logits.weight"], p["dvae.encoder.logits.bias"])


def main():
    torch.manual_seed(0)
    colours = torch.rand(B, 3, SIDE, SIDE)
    pixels = (colours - MEAN) / DEVIATION
    leaves = {name: leaf.requires_grad_() for name, leaf in drawn(ENCODER | DECODER).items()}
    logits = encoder(leaves, pixels)
    noise = -torch.log(-torch.log(uniform(1, 50, "dvae.gumbel", logits.numel()))).view_as(logits)
    shares = ((logits + noise) * 16).softmax(-1)
    hidden = through(leaves, "dvae.decoder", linear(shares, leaves["dvae.decoder.codes.weight"]))
    told = linear(hidden, leaves["dvae.decoder.pixels.weight"], leaves["dvae.decoder.pixels.bias"])
    centre, log_spread = told[:, :PIXELS], told[:, PIXELS:]
    x = patches(colours) * 0.8 + 0.1
    # The density of logit(x) under a Laplace distribution, times the derivative of logit(x).
    density = torch.distributions.Laplace(centre, log_spread.exp()).log_prob(torch.logit(x)) - (x * (1 - x)).log()
    uniform_codes = torch.distributions.Categorical(logits=torch.zeros(CODES))
    kl = torch.distributions.kl_divergence(torch.distributions.Categorical(logits=logits), uniform_codes)
    # Both are sums over the image, divided by its values.
    loss = (-density.sum() + 6.6 * kl.sum()) / x.numel()
    loss.backward()
    saved = {**leaves, "loss": loss, "pixels": pixels, "kl": kl.mean()}
    saved |= {f"{name}.grad": leaf.grad for name, leaf in leaves.items()}
    save_file({name: value.detach().contiguous() for name, value in saved.items()}, "dvae.safetensors")


if __name__ == "__main__":
    main()
