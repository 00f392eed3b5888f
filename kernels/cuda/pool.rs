//! What a GPU's driver holds for this process.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::result::{device::get_mem_pool, mem_pool};
use candle_core::cuda_backend::cudarc::driver::sys::{CUmemPool_attribute, CUmemoryPool};
use candle_core::{CudaDevice, Result};

fn pool(device: &CudaDevice) -> Result<CUmemoryPool> {
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().w()?;
    // SAFETY: the context has a device.
    unsafe { get_mem_pool(stream.context().cu_device()) }.w()
}

/// Has the driver keep what is freed for the next allocation. By itself it gives everything back to the system whenever the
/// processor waits for the GPU, which is once an update.
pub(super) fn keep(device: &CudaDevice) -> Result<()> {
    if !device.cuda_stream().context().has_async_alloc() {
        return Ok(());
    }
    let mut all = u64::MAX;
    let threshold = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the pool is the device's, and the attribute is a number of 64 bits.
    unsafe { mem_pool::set_attribute(pool(device)?, threshold, (&raw mut all).cast()) }.w()
}

/// The most bytes that were allocated at once.
pub(super) fn peak(device: &CudaDevice) -> Result<u64> {
    let mut most = 0u64;
    let used = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
    // SAFETY: as in `keep`.
    unsafe { mem_pool::get_attribute(pool(device)?, used, (&raw mut most).cast()) }.w()?;
    Ok(most)
}
