"""Times training steps and parts of them in this suite and in PyTorch in turn (A B A B ..) and prints their ratios.

    python3 benches/peers/compare.py [--rounds 5] [--threads 2] [--compile] [clip clip_b32 albef layer ..]
    python3 benches/peers/compare.py --device cuda --precision bf16 [--pairs 256] [--compile] clip clip_b32 albef

Makes its own Python environment under `target/peers` the first time. Only ratios within one run mean anything: the two
sides alternate, so a machine that slows down slows both. GFLOP/s are those of our matrix products, and the last column
is their share of the rate of one large product, measured in the same round.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import venv

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOME = ROOT / "target" / "peers"
REQUIREMENTS = ["torch==2.15.0", "numpy"]
# What is timed (a step: of how many pairs, unless told otherwise), what it counts, and how often a round runs it.
CASES = {
    "clip": ("CLIP, 6 x 192, {} pairs", "pairs", 8),
    "clip_b32": ("CLIP ViT-B/32, {} pairs", "pairs", 4),
    "albef": ("ALBEF, 6 x 192, {} pairs", "pairs", 8),
    "layer": ("BERT-base layer, 8 x 197 tokens", "times", 10),
    "optimiser": ("clipping and AdamW, 100 M parameters", "times", 10),
    "cross_entropy": ("cross-entropy, 1,024 x 30,522", "times", 10),
    "ipot": ("IPOT, 64 x 30 x 100", "times", 40),
}
PAIRS = {"clip": 64, "clip_b32": 8, "albef": 32}


def environment():
    """The interpreter that has PyTorch, made at the first call."""
    python = HOME / "bin" / "python"
    ready = HOME / "ready"
    wanted = "\n".join(REQUIREMENTS)
    if not ready.exists() or ready.read_text() != wanted:
        print(f"making a Python environment in {HOME.relative_to(ROOT)}", file=sys.stderr)
        venv.create(HOME, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        ready.write_text(wanted)
    return str(python)


def ours(device):
    """The benchmark binary, built in the bench profile."""
    build = ["cargo", "bench", "--bench", "benches", "--no-run", "--message-format=json"]
    if device != "cpu":
        build += ["--features", "cuda", "--config", "tools/cuda.toml", "--target", "x86_64-unknown-linux-gnu"]
    output = subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = (json.loads(line) for line in output.splitlines() if line.startswith("{"))
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "benches")


def once(command, threads):
    limits = {name: str(threads) for name in ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"]}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **limits}).stdout
    return json.loads(output.splitlines()[-1])


def spread(values, digits=1):
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def machine():
    model = "an unknown processor"
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line]
        model = next((value.strip() for key, value in lines if key.strip() == "model name"), model)
    return f"{os.cpu_count()} cores of {model}, {platform.system()}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="torch.compile on the PyTorch side")
    parser.add_argument("--device", default="cpu", help="of both sides; a GPU runs whole steps alone")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--pairs", type=int, help="in a step, if not the usual ones")
    parser.add_argument("--binary", help="our benchmarks, where they are built already")
    parser.add_argument("--python", help="an interpreter with PyTorch, where there is one already")
    args = parser.parse_args()
    binary, python = args.binary or ours(args.device), args.python or environment()
    peer = str(pathlib.Path(__file__).with_name("peer.py"))
    place = ["--device", args.device, "--precision", args.precision]
    place += ["--pairs", str(args.pairs)] if args.pairs else []
    where = f"{args.precision} on {args.device}"
    print(f"{args.rounds} rounds, {args.threads} threads each, {where}; median (lowest to highest). {machine()}.\n")
    print("| what | ours a second | PyTorch a second | ratio | ours, MiB | PyTorch, MiB | ratio "
          "| ours, GFLOP/s | of the machine's |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in args.names:
        title, unit, count = CASES[name]
        title = title.format(args.pairs or PAIRS.get(name))
        options = ["--count", str(count), "--threads", str(args.threads), *place]
        rounds = []
        for _ in range(args.rounds):
            rate = once([binary, "--once", "gemm", "--count", "10", "--threads", str(args.threads)], args.threads)
            a = once([binary, "--once", name, *options], args.threads)
            b = once([python, peer, name, *options, *(["--compile"] if args.compile else [])], args.threads)
            rounds.append((a, b, rate))
        first = rounds[0]
        if first[1]["parameters"] and abs(first[0]["parameters"] / first[1]["parameters"] - 1) > 0.01:
            sys.exit(f"{name}: the two sides do not train the same model: {first}")
        speed, memory, flops = "per_second", "peak_memory_mib", "gigaflops_per_second"
        # The rate of a large product is that of the processor.
        worked = first[0][flops] > 0 and args.device == "cpu"
        print(
            f"| {title} ({unit}) | {spread([a[speed] for a, _, _ in rounds])} "
            f"| {spread([b[speed] for _, b, _ in rounds])} | {spread([a[speed] / b[speed] for a, b, _ in rounds], 2)} "
            f"| {spread([a[memory] for a, _, _ in rounds], 0)} | {spread([b[memory] for _, b, _ in rounds], 0)} "
            f"| {spread([a[memory] / b[memory] for a, b, _ in rounds], 2)} "
            f"| {spread([a[flops] for a, _, _ in rounds], 0) if worked else ''} "
            f"| {spread([a[flops] / rate[flops] for a, _, rate in rounds], 2) if worked else ''} |",
            flush=True,
        )
    frameworks = {b["framework"] for _, b, _ in rounds}
    print(f"\n{', '.join(frameworks)}; importing it takes {first[1]['memory_before_mib']:.0f} MiB of its peak.")


if __name__ == "__main__":
    main()
