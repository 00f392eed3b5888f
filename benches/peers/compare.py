"""Times training steps of this suite and of PyTorch in turn (A B A B ..) and prints their ratio.

    python3 benches/peers/compare.py [--rounds 5] [--steps 8] [--threads 2] [--compile] [clip albef]

Makes its own Python environment under `target/peers` the first time. Only ratios within one run mean anything: the two
sides alternate, so a machine that slows down slows both.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import venv

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOME = ROOT / "target" / "peers"
REQUIREMENTS = ["torch==2.15.0", "numpy"]


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


def ours():
    """The benchmark binary, built in the bench profile."""
    build = ["cargo", "bench", "--bench", "benches", "--no-run", "--message-format=json"]
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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=["clip", "albef"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="torch.compile on the PyTorch side")
    args = parser.parse_args()
    binary, python = ours(), environment()
    peer = str(pathlib.Path(__file__).with_name("step.py"))
    print(f"{args.rounds} rounds of {args.steps} steps, {args.threads} threads each, f32; median (lowest to highest)\n")
    print("| step | ours, pairs/s | PyTorch, pairs/s | ratio | our peak memory, MiB | PyTorch's | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name in args.names:
        count = ["--steps", str(args.steps), "--threads", str(args.threads)]
        rounds = []
        for _ in range(args.rounds):
            a = once([binary, "--step", name, *count], args.threads)
            b = once([python, peer, name, *count, *(["--compile"] if args.compile else [])], args.threads)
            rounds.append((a, b))
        if abs(rounds[0][0]["parameters"] / rounds[0][1]["parameters"] - 1) > 0.01:
            sys.exit(f"{name}: the two sides do not train the same model: {rounds[0]}")
        speed, memory = "pairs_per_second", "peak_memory_mib"
        print(
            f"| {name} | {spread([a[speed] for a, _ in rounds])} | {spread([b[speed] for _, b in rounds])} "
            f"| {spread([a[speed] / b[speed] for a, b in rounds], 2)} "
            f"| {spread([a[memory] for a, _ in rounds], 0)} | {spread([b[memory] for _, b in rounds], 0)} "
            f"| {spread([a[memory] / b[memory] for a, b in rounds], 2)} |",
            flush=True,
        )
    frameworks = {b["framework"] for _, b in rounds}
    before = rounds[0][1]["memory_before_mib"]
    print(f"\n{', '.join(frameworks)}; importing it takes {before:.0f} MiB of its peak.")


if __name__ == "__main__":
    main()
