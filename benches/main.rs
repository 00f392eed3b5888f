//! One binary for all benchmarks; a module for each area.

use criterion::{criterion_group, criterion_main};

mod kernels;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

criterion_group!(areas, kernels::kernels);
criterion_main!(areas);
