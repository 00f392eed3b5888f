use candle_core::{DType, Device, Tensor, Var};
use vlp_bench::kernels::optim::{AdamW, adamw_, sum_of_squares};
use vlp_bench::kernels::{Gradient, Logits, Tape, embedding, random::Key};

use super::{flat, normal};

const VOCABULARY: usize = 301;

fn words(purpose: &str, count: usize) -> Tensor {
    Tensor::new(Key::new(2, 0, purpose).below(count, VOCABULARY as u32), &Device::Cpu).unwrap()
}

/// The gradients of a loss, by which a table of this width is looked up twice, in both forms.
fn looked_up(width: usize, dtype: DType) -> (Var, Gradient, Tensor) {
    let table = Var::from_tensor(&normal("table", &[VOCABULARY, width], dtype).unwrap()).unwrap();
    let loss = || {
        let parts = ["first", "second"].map(|purpose| {
            let found = embedding(&table, &words(purpose, 40)).unwrap();
            (&found * normal(purpose, found.dims(), dtype).unwrap()).unwrap().sum_all().unwrap()
        });
        (&parts[0] + &parts[1]).unwrap()
    };
    let tape = Tape::record();
    let compact = tape.backward_compact(&loss()).unwrap().remove(&table).unwrap();
    let tape = Tape::record();
    let whole = tape.backward(&loss()).unwrap().remove(&table).unwrap();
    (table, compact, whole)
}

#[test]
fn rows_looked_up_twice_have_the_sum_of_what_came_back_to_them_in_the_order_in_which_it_came() {
    let width = 7;
    for dtype in [DType::F32, DType::F64] {
        let (_, compact, whole) = looked_up(width, dtype);
        assert!(matches!(compact, Gradient::Rows(_)));
        let mut expected = vec![0f64; VOCABULARY * width];
        for purpose in ["second", "first"] {
            let came = normal(purpose, &[40, width], dtype).unwrap().to_dtype(DType::F64).unwrap();
            let rows = words(purpose, 40).to_vec1::<u32>().unwrap();
            for (row, came) in rows.into_iter().zip(came.to_vec2::<f64>().unwrap()) {
                for (sum, came) in expected[row as usize * width..].iter_mut().zip(came) {
                    *sum += came;
                    if dtype == DType::F32 {
                        *sum = f64::from(*sum as f32);
                    }
                }
            }
        }
        assert_eq!(flat(&whole), expected);
    }
}

#[test]
fn rows_alone_have_the_norm_and_lead_to_the_update_of_the_whole_gradient_bit_by_bit() {
    // Rows within a chunk of the sweep, across two and across three; tables with and without a remainder.
    for width in [1, 7, 1000, 17_000] {
        let (table, compact, whole) = looked_up(width, DType::F32);
        let norms = [Gradient::sum_of_squares([&compact]).unwrap(), sum_of_squares(&whole).unwrap()];
        assert_eq!(norms[0].to_bits(), norms[1].to_bits(), "width {width}");
        let n = VOCABULARY * width;
        let pairs = [(), ()].map(|()| {
            let theta = table.as_tensor().copy().unwrap().detach();
            (theta, Tensor::zeros((2, n), DType::F32, &Device::Cpu).unwrap())
        });
        for step in 1..=2 {
            let adamw = AdamW {
                rate: 1e-2,
                beta1: 0.9,
                beta2: 0.98,
                eps: 1e-6,
                weight_decay: 0.2,
                step,
                grad_scale: 0.5,
            };
            compact.adamw_(&pairs[0].0, &pairs[0].1, &adamw).unwrap();
            adamw_(&pairs[1].0, &pairs[1].1, &whole, &adamw).unwrap();
        }
        assert!(flat(&pairs[0].0) == flat(&pairs[1].0), "width {width}");
        assert!(flat(&pairs[0].1) == flat(&pairs[1].1), "width {width}");
    }
}

#[test]
fn a_table_that_is_also_multiplied_or_mostly_looked_up_has_a_whole_gradient() {
    let table = Var::from_tensor(&normal("table", &[VOCABULARY, 6], DType::F32).unwrap()).unwrap();
    let form = |count: usize, decodes: bool, again: bool| {
        let tape = Tape::record();
        let ids = words("ids", count);
        let found = embedding(&table, &ids).unwrap();
        let mut loss = found.sqr().unwrap().sum_all().unwrap();
        if decodes {
            let decoded = Logits::new(found, &table, None).cross_entropy(&ids, 0.0).unwrap().loss;
            loss = (loss + decoded).unwrap();
        }
        if again {
            let found = embedding(&table, &ids).unwrap();
            loss = (loss + found.sum_all().unwrap()).unwrap();
        }
        tape.backward_compact(&loss).unwrap().remove(&table).unwrap()
    };
    assert!(matches!(form(40, false, false), Gradient::Rows(_)));
    assert!(matches!(form(40, false, true), Gradient::Rows(_)));
    // The walk meets the product before any look-up, or after the first of two.
    assert!(matches!(form(40, true, false), Gradient::Whole(_)));
    assert!(matches!(form(40, true, true), Gradient::Whole(_)));
    assert!(matches!(form(VOCABULARY, false, false), Gradient::Whole(_)));
}

#[test]
fn rows_of_a_table_that_was_computed_lead_further_back() {
    let table = Var::from_tensor(&normal("table", &[VOCABULARY, 6], DType::F32).unwrap()).unwrap();
    let ids = words("ids", 40);
    let gradient = |glued: bool| {
        let tape = Tape::record();
        let own = if glued { (table.as_tensor() * 1.0).unwrap() } else { table.as_tensor().clone() };
        let loss = embedding(&own, &ids).unwrap().sqr().unwrap().sum_all().unwrap();
        flat(tape.backward(&loss).unwrap().get(&table).unwrap())
    };
    assert_eq!(gradient(true), gradient(false));
}
