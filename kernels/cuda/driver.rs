//! A GPU: candle's device, the kernels compiled for it, and cuBLAS.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::cuda_backend::cudarc::cublas::{result::gemm_ex, sys as blas};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr, LaunchConfig, PushKernelArg, result};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts};
use candle_core::cuda_backend::{CudaStorageSlice, WrapErr};
use candle_core::{CudaDevice, CudaStorage, Device, Error, Layout, Result, Shape, Storage, bail};

use super::body::{Body, Operand};
use super::machine::{Address, Arg, Buffer, Family, Machine, Matrix, Words, Write};
use super::memory::Held;
use super::{Products, libraries, pool, products};
use crate::kernels::Precision;
use crate::kernels::product::count;

/// GPU number `ordinal`, with one stream for all threads, so that work is done in the order in which it is asked for.
pub(super) fn open(ordinal: usize) -> Result<Device> {
    let devices = libraries::devices()?;
    if ordinal >= devices {
        bail!("there are {devices} GPUs, counted from 0");
    }
    libraries::load()?;
    let device = Device::new_cuda_with_stream(ordinal)?;
    // SAFETY: this stream is the only one that candle and the kernels are given, so nothing has to wait for another.
    unsafe { device.as_cuda_device()?.disable_event_tracking() };
    pool::keep(device.as_cuda_device()?)?;
    Ok(device)
}

pub(super) fn peak_memory(device: &Device) -> Result<u64> {
    pool::peak(device.as_cuda_device()?)
}

pub(super) fn usable() -> Result<String> {
    let first = about(&open(0)?)?;
    Ok(match libraries::devices()? {
        1 => first,
        devices => format!("{first}, the first of {devices}"),
    })
}

pub(super) fn about(device: &Device) -> Result<String> {
    let context = device.as_cuda_device()?.cuda_stream().context().clone();
    let (major, minor) = context.compute_capability().map_err(Error::wrap)?;
    Ok(format!("{}, compute capability {major}.{minor}", context.name().map_err(Error::wrap)?))
}

/// Memory of a GPU.
pub(crate) struct Memory<T>(CudaSlice<T>);

impl<T> Memory<T> {
    pub fn pointer(&self) -> u64 {
        // Nothing is tracked by events, so that there is nothing to record when the pointer has been used.
        self.0.device_ptr(self.0.stream()).0
    }
}

pub(crate) fn machine(storage: &CudaStorage) -> Result<Box<dyn Machine>> {
    Ok(Box::new(Gpu(storage.device().clone())))
}

pub(crate) fn address(storage: &CudaStorage) -> Result<Address> {
    match &storage.slice {
        CudaStorageSlice::F32(slice) => Ok(Address::new(slice.device_ptr(slice.stream()).0, Precision::F32)),
        CudaStorageSlice::BF16(slice) => {
            Ok(Address::new(slice.device_ptr(slice.stream()).0, Precision::Bf16))
        }
        _ => bail!("a GPU computes in f32 and bf16, not in {:?}", storage.dtype()),
    }
}

/// A zero beside `storage`.
pub(crate) fn scalar(storage: &CudaStorage) -> Result<CudaStorage> {
    let device = storage.device().clone();
    Ok(CudaStorage::wrap_cuda_slice(device.alloc_zeros::<f32>(1)?, device))
}

/// Runs the body of an operation as candle asks for it.
pub(crate) fn forward_on<const N: usize>(
    name: &str,
    body: &dyn Body<N>,
    inputs: [(&CudaStorage, &Layout); N],
) -> Result<(CudaStorage, Shape)> {
    let Some((first, _)) = inputs.first() else { bail!("{name}: no operand") };
    let gpu = Gpu(first.device().clone());
    let operands = inputs.map(|(storage, layout)| match layout.contiguous_offsets() {
        Some((start, _)) => Ok(Operand { at: address(storage)?.after(start), layout }),
        None => bail!("{name}: an operand is not contiguous"),
    });
    let operands = operands.into_iter().collect::<Result<Vec<_>>>()?;
    let operands = operands.try_into().map_err(|_| Error::Msg("wrong number of operands".into()))?;
    let (buffer, shape) = body.forward(&gpu, operands)?;
    match gpu.store(buffer)? {
        Storage::Cuda(storage) => Ok((storage, shape)),
        _ => bail!("{name}: memory of another machine"),
    }
}

/// 16 MiB, which the second-level cache of an H100 (50 MB) holds.
const CHUNK: usize = 1 << 22;

struct Gpu(CudaDevice);

/// The PTX of each family by its name and architecture, compiled once in a process.
static COMPILED: Mutex<BTreeMap<String, Arc<str>>> = Mutex::new(BTreeMap::new());

impl Gpu {
    fn compiled(&self, family: &Family) -> Result<Arc<str>> {
        let context = self.0.cuda_stream().context().clone();
        let (major, minor) = context.compute_capability().map_err(Error::wrap)?;
        let arch = match (major, minor) {
            (8, _) => "compute_80",
            (9, _) => "compute_90",
            // The instructions of the last architecture that is known run on all later ones.
            (newer, _) if newer > 9 => "compute_90",
            _ => bail!("a GPU of compute capability {major}.{minor}; kernels need 8.0 or later"),
        };
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("{}/{arch}", family.name);
        if let Some(ptx) = compiled.get(&key) {
            return Ok(Arc::clone(ptx));
        }
        let options = CompileOptions {
            arch: Some(arch),
            name: Some(format!("{}.cu", family.name)),
            options: vec!["--std=c++17".into()],
            ..CompileOptions::default()
        };
        let ptx = compile_ptx_with_opts(family.source, options).map_err(|error| match error {
            CompileError::CompileError { log, .. } => {
                Error::Msg(format!("{}.cu: {}", family.name, log.to_string_lossy()))
            }
            error => Error::wrap(error),
        })?;
        let ptx: Arc<str> = ptx.to_src().into();
        compiled.insert(key, Arc::clone(&ptx));
        Ok(ptx)
    }
}

impl Machine for Gpu {
    fn address(&self, storage: &Storage) -> Result<Address> {
        match storage {
            Storage::Cuda(storage) if storage.device().same_device(&self.0) => address(storage),
            _ => bail!("one operand lies on a GPU, and another does not lie on it"),
        }
    }

    fn room(&self, precision: Precision, n: usize) -> Result<Buffer> {
        // SAFETY: every bit pattern is an f32 and a bf16, and launchers write each element before they read it.
        unsafe {
            Ok(match precision {
                Precision::F32 => Buffer::F32(Held::Device(Memory(self.0.alloc(n.max(1))?))),
                Precision::Bf16 => Buffer::Bf16(Held::Device(Memory(self.0.alloc(n.max(1))?))),
            })
        }
    }

    fn upload(&self, words: &[u32]) -> Result<Words> {
        let words = if words.is_empty() { &[0] } else { words };
        Ok(Held::Device(Memory(self.0.clone_htod(words)?)))
    }

    fn download(&self, buffer: &Buffer) -> Result<Vec<f32>> {
        match buffer {
            Buffer::F32(Held::Device(Memory(slice))) => self.0.clone_dtoh(slice),
            _ => bail!("expected f32 of this machine"),
        }
    }

    fn chunk(&self) -> usize {
        CHUNK
    }

    fn clear(&self, at: Address, n: usize) -> Result<()> {
        let stream = self.0.cuda_stream();
        stream.context().bind_to_thread().w()?;
        let bytes = at.precision().bytes() * n;
        // SAFETY: launchers clear buffers and slots that they hold, within their lengths.
        unsafe { result::memset_d8_async(at.pointer(), 0, bytes, stream.cu_stream()) }.w()
    }

    fn launch(
        &self,
        family: &Family,
        kernel: &str,
        grid: [usize; 3],
        threads: u32,
        arguments: &[Arg],
    ) -> Result<()> {
        if grid.contains(&0) {
            return Ok(());
        }
        if grid[0] > i32::MAX as usize || grid[1..].iter().any(|&blocks| blocks > 65535) {
            bail!("{}: {kernel} on a grid of {grid:?}", family.name);
        }
        // The device keeps modules by name, and the sources are constants of this program.
        let module = format!("vlp-bench/{}", family.name);
        let function = self.0.get_or_load_custom_func(kernel, &module, &self.compiled(family)?)?;
        let mut builder = function.builder();
        for argument in arguments {
            match argument {
                Arg::At(address) => builder.arg(address.word()),
                Arg::Long(value) => builder.arg(value),
                Arg::Int(value) => builder.arg(value),
                Arg::Word(value) => builder.arg(value),
                Arg::Real(value) => builder.arg(value),
            };
        }
        let [x, y, z] = grid.map(|blocks| blocks as u32);
        let shape = LaunchConfig { grid_dim: (x, y, z), block_dim: (threads, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: the arguments are those of the kernel, which the rehearsal counts; what it reads and writes are operands,
        // slots and buffers that the launcher holds until the stream has been given all that uses them.
        unsafe { builder.launch(shape) }.w()?;
        Ok(())
    }

    fn product(&self, out: Address, a: Matrix, b: Matrix, write: Write) -> Result<()> {
        let int = |n: usize| i32::try_from(n).map_err(Error::wrap);
        let (m, n, k) = (a.rows, b.columns, a.columns);
        if b.rows != k {
            bail!("cannot multiply {m} x {k} by {} x {n}", b.rows);
        }
        if m == 0 || n == 0 {
            return Ok(());
        }
        if k == 0 {
            return if write == Write::Add { Ok(()) } else { self.clear(out, m * n) };
        }
        count(1, [m, n, k]);
        let (one, zero) = (1f32, 0f32);
        let beta = if write == Write::Add { &one } else { &zero };
        let compute = match (a.at.precision(), products()) {
            (Precision::F32, Products::Tf32) => blas::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
            _ => blas::cublasComputeType_t::CUBLAS_COMPUTE_32F,
        };
        let side = |matrix: Matrix| match matrix.transposed {
            false => blas::cublasOperation_t::CUBLAS_OP_N,
            true => blas::cublasOperation_t::CUBLAS_OP_T,
        };
        let kept = |at: Address| match at.precision() {
            Precision::F32 => blas::cudaDataType_t::CUDA_R_32F,
            Precision::Bf16 => blas::cudaDataType_t::CUDA_R_16BF,
        };
        let handle = self.0.cublas_handle();
        self.0.cuda_stream().context().bind_to_thread().w()?;
        // cuBLAS counts columns first, so it is asked for out' = b' a', whose factors are what it takes ours for.
        // SAFETY: launchers multiply operands into buffers or slots of m x n elements.
        unsafe {
            gemm_ex(
                *handle.handle(),
                side(b),
                side(a),
                int(n)?,
                int(m)?,
                int(k)?,
                std::ptr::from_ref(&one).cast(),
                b.at.pointer() as *const _,
                kept(b.at),
                int(b.stride)?,
                a.at.pointer() as *const _,
                kept(a.at),
                int(a.stride)?,
                std::ptr::from_ref(beta).cast(),
                out.pointer() as *mut _,
                kept(out),
                int(n)?,
                compute,
                blas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .map_err(Error::wrap)
    }

    fn store(&self, buffer: Buffer) -> Result<Storage> {
        match buffer {
            Buffer::F32(Held::Device(Memory(slice))) => {
                Ok(Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, self.0.clone())))
            }
            Buffer::Bf16(Held::Device(Memory(slice))) => {
                Ok(Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, self.0.clone())))
            }
            _ => bail!("memory of another machine"),
        }
    }

    fn take(&self, storage: Rc<Storage>) -> Result<Buffer> {
        let storage = match Rc::try_unwrap(storage) {
            Ok(Storage::Cuda(storage)) => storage.slice,
            Err(shared) => match &*shared {
                Storage::Cuda(storage) => match &storage.slice {
                    CudaStorageSlice::F32(slice) => CudaStorageSlice::F32(slice.try_clone().w()?),
                    CudaStorageSlice::BF16(slice) => CudaStorageSlice::BF16(slice.try_clone().w()?),
                    _ => bail!("a gradient is f32 or bf16"),
                },
                _ => bail!("a gradient of another machine"),
            },
            Ok(_) => bail!("a gradient of another machine"),
        };
        match storage {
            CudaStorageSlice::F32(slice) => Ok(Buffer::F32(Held::Device(Memory(slice)))),
            CudaStorageSlice::BF16(slice) => Ok(Buffer::Bf16(Held::Device(Memory(slice)))),
            _ => bail!("a gradient is f32 or bf16"),
        }
    }
}
