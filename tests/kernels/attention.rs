use candle_core::{D, DType, Device, Result, Tensor, Var};
use proptest::prelude::*;
use vlp_bench::kernels::{self, Bias, Dropout, Mask, Spans, Tape, random::Key};

use super::{agrees, assert_close, check_gradients, flat, loss_and_gradients, normal};

/// Attention by the formula, in f64, for a dense additive mask (B, Tq, Tk).
fn plain(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, mask: &Tensor) -> Result<Tensor> {
    let (b, queries, width) = q.dims3()?;
    let columns = width / heads;
    let split = |x: &Tensor| x.reshape((b, x.dim(1)?, heads, columns))?.transpose(1, 2)?.contiguous();
    let scores = (split(q)?.matmul(&split(k)?.t()?.contiguous()?)? * (1.0 / (columns as f64).sqrt()))?;
    let scores = scores.broadcast_add(&mask.unsqueeze(1)?)?;
    let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
    let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
    weights.matmul(&split(v)?)?.transpose(1, 2)?.reshape((b, queries, width))
}

/// The additive form of a mask, with minus infinity written as a very low number.
fn additive(mask: &Mask, b: usize, queries: usize, keys: usize) -> Tensor {
    let hidden = match mask {
        Mask::Keys(visible) | Mask::CausalKeys(visible) => flat(visible),
        _ => vec![1.0; b * keys],
    };
    let causal = matches!(mask, Mask::Causal | Mask::CausalKeys(_));
    let mut out = Vec::new();
    for example in 0..b {
        for query in 0..queries {
            for key in 0..keys {
                let later = causal && key + queries > query + keys;
                out.push(if later || hidden[example * keys + key] == 0.0 { -1e30 } else { 0f64 });
            }
        }
    }
    Tensor::from_vec(out, (b, queries, keys), &Device::Cpu).unwrap()
}

fn masks(b: usize, queries: usize, keys: usize) -> Vec<Mask> {
    let mut visible: Vec<u8> =
        Key::new(3, 0, "mask").uniform(b * keys).into_iter().map(|u| u8::from(u < 0.7)).collect();
    // The first key is visible, so that no query is without one.
    visible.chunks_mut(keys).for_each(|row| row[0] = 1);
    let visible = Tensor::from_vec(visible, (b, keys), &Device::Cpu).unwrap();
    let added = normal("added", &[1, queries, keys], DType::F64).unwrap();
    let mut masks = vec![Mask::None, Mask::Keys(visible.clone()), Mask::Additive(added)];
    if queries <= keys {
        masks.push(Mask::Causal);
        masks.push(Mask::CausalKeys(visible.to_dtype(DType::F32).unwrap()));
    }
    masks
}

fn check(b: usize, queries: usize, keys: usize, heads: usize, columns: usize) {
    let width = heads * columns;
    let q = normal("q", &[b, queries, width], DType::F64).unwrap();
    let k = normal("k", &[b, keys, width], DType::F64).unwrap();
    let v = normal("v", &[b, keys, width], DType::F64).unwrap();
    let inputs = [q.clone(), k.clone(), v.clone()];
    for mask in masks(b, queries, keys) {
        let dense = match &mask {
            Mask::Additive(added) => added.broadcast_as((b, queries, keys)).unwrap().contiguous().unwrap(),
            mask => additive(mask, b, queries, keys),
        };
        let reference = |t: &[Tensor]| plain(&t[0], &t[1], &t[2], heads, &dense);
        let expected = plain(&q, &k, &v, heads, &dense).unwrap();
        let (_, gradients) = loss_and_gradients(&inputs, &reference).unwrap();
        for (dtype, tolerance) in [(DType::F64, 1e-7), (DType::F32, 2e-5)] {
            let typed: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(dtype).unwrap()).collect();
            let fused = |t: &[Tensor]| kernels::attention(&t[0], &t[1], &t[2], heads, &mask, None);
            assert_close(&fused(&typed).unwrap(), &expected, tolerance);
            for (got, expected) in loss_and_gradients(&typed, &fused).unwrap().1.iter().zip(&gradients) {
                assert_close(got, expected, tolerance);
            }
            let packed = |t: &[Tensor]| {
                kernels::cross_attention(&t[0], &Tensor::cat(&[&t[1], &t[2]], 2)?, heads, &mask, None)
            };
            assert_close(&packed(&typed).unwrap(), &expected, tolerance);
            for (got, expected) in loss_and_gradients(&typed, &packed).unwrap().1.iter().zip(&gradients) {
                assert_close(got, expected, tolerance);
            }
            if queries == keys {
                let packed = |t: &[Tensor]| {
                    kernels::self_attention(&Tensor::cat(&[&t[0], &t[1], &t[2]], 2)?, heads, &mask, None)
                };
                assert_close(&packed(&typed).unwrap(), &expected, tolerance);
                for (got, expected) in loss_and_gradients(&typed, &packed).unwrap().1.iter().zip(&gradients) {
                    assert_close(got, expected, tolerance);
                }
            }
        }
    }
}

#[test]
fn attention_has_the_values_and_gradients_of_its_formula_under_every_mask() {
    for (b, queries, keys, heads, columns) in [
        (1, 1, 1, 1, 1),
        (2, 3, 3, 2, 5),
        (3, 17, 17, 3, 8),
        (2, 5, 17, 1, 7),
        (2, 65, 65, 2, 32),
        (1, 17, 3, 4, 4),
    ] {
        check(b, queries, keys, heads, columns);
    }
}

#[test]
fn queries_in_several_tiles_give_the_same_attention() {
    // 197 x 400 scores do not fit one tile.
    check(1, 197, 400, 1, 4);
}

#[test]
fn heads_of_published_widths_give_the_same_attention() {
    for (queries, keys, heads, columns) in [(17, 17, 2, 16), (9, 33, 1, 64), (5, 5, 2, 96), (3, 65, 1, 128)] {
        check(2, queries, keys, heads, columns);
    }
}

#[test]
fn long_sequences_give_the_same_attention() {
    let (length, columns) = (1024, 16);
    let inputs = ["q", "k", "v"].map(|name| normal(name, &[1, length, columns], DType::F64).unwrap());
    // The last quarter is padding, behind which stand queries that see what is left.
    let visible: Vec<u8> = (0..length).map(|key| u8::from(key < length / 4 * 3)).collect();
    let mask = Mask::CausalKeys(Tensor::from_vec(visible, (1, length), &Device::Cpu).unwrap());
    let dense = additive(&mask, 1, length, length);
    let reference = |t: &[Tensor]| plain(&t[0], &t[1], &t[2], 1, &dense);
    let (_, gradients) = loss_and_gradients(&inputs, &reference).unwrap();
    let typed = inputs.each_ref().map(|x| x.to_dtype(DType::F32).unwrap());
    let fused = |t: &[Tensor]| kernels::attention(&t[0], &t[1], &t[2], 1, &mask, None);
    assert_close(&fused(&typed).unwrap(), &reference(&inputs).unwrap(), 2e-5);
    for (got, expected) in loss_and_gradients(&typed, &fused).unwrap().1.iter().zip(&gradients) {
        assert_close(got, expected, 2e-5);
    }
}

#[test]
fn attention_gradients_agree_with_finite_differences() {
    let shape = [2, 4, 6];
    let inputs: Vec<Tensor> =
        ["q", "k", "v"].iter().map(|name| normal(name, &shape, DType::F64).unwrap()).collect();
    for mask in masks(2, 4, 4) {
        check_gradients(&inputs, &|t| kernels::attention(&t[0], &t[1], &t[2], 3, &mask, None));
    }
}

#[test]
fn a_query_without_a_visible_key_yields_zeros_and_zero_gradients() {
    let visible = Tensor::new(&[[0u8, 0, 0], [0, 1, 1]], &Device::Cpu).unwrap();
    let inputs: Vec<Tensor> =
        ["q", "k", "v"].iter().map(|name| normal(name, &[2, 3, 4], DType::F32).unwrap()).collect();
    let f =
        |t: &[Tensor]| kernels::attention(&t[0], &t[1], &t[2], 2, &Mask::CausalKeys(visible.clone()), None);
    let y = flat(&f(&inputs).unwrap());
    // The first example sees nothing; the first query of the second sees only a hidden key.
    assert!(y[..16].iter().all(|&y| y == 0.0) && y[16..].iter().all(|&y| y != 0.0));
    for gradient in loss_and_gradients(&inputs, &f).unwrap().1 {
        let gradient = flat(&gradient);
        assert!(gradient[..12].iter().all(|&g| g == 0.0));
        assert!(gradient.iter().all(|g| g.is_finite()));
    }
    let hidden = Tensor::full(f32::NEG_INFINITY, (1, 3, 3), &Device::Cpu).unwrap();
    let y = kernels::attention(&inputs[0], &inputs[1], &inputs[2], 2, &Mask::Additive(hidden), None).unwrap();
    assert!(flat(&y).iter().all(|&y| y == 0.0));
}

#[test]
fn a_causal_query_does_not_depend_on_later_keys() {
    let qkv = normal("qkv", &[1, 9, 12], DType::F32).unwrap();
    let mut changed = qkv.to_vec3::<f32>().unwrap();
    changed[0][8] = vec![100.0; 12];
    let changed = Tensor::new(changed, &Device::Cpu).unwrap();
    let first_eight = |x: &Tensor| {
        flat(&kernels::self_attention(x, 2, &Mask::Causal, None).unwrap().narrow(1, 0, 8).unwrap())
    };
    assert_eq!(first_eight(&qkv), first_eight(&changed));
}

#[test]
fn sequences_without_padding_attend_as_each_would_alone() {
    let lengths = [3usize, 1, 9, 4];
    let spans = Spans::of(lengths);
    let rows = lengths.iter().sum::<usize>();
    let qkv = normal("qkv", &[rows, 12], DType::F64).unwrap();
    for causal in [false, true] {
        let mask = Mask::itself(&spans, causal);
        let alone = |t: &[Tensor]| {
            let each = spans.ranges().iter().map(|range| {
                let own = t[0].narrow(0, range.start, range.len())?.unsqueeze(0)?;
                let mask = if causal { Mask::Causal } else { Mask::None };
                kernels::self_attention(&own, 2, &mask, None)?.squeeze(0)
            });
            Tensor::cat(&each.collect::<Result<Vec<_>>>()?, 0)
        };
        let fused = |t: &[Tensor]| kernels::self_attention(&t[0], 2, &mask, None);
        agrees(std::slice::from_ref(&qkv), &fused, &alone);
    }
}

#[test]
fn examples_may_share_their_keys() {
    let (queries, images) = (Spans::of([2, 5, 1, 3]), [2u32, 0, 2, 2]);
    let keys = Spans::even(4, 7).take(&images).unwrap();
    let q = normal("q", &[11, 6], DType::F64).unwrap();
    let kv = normal("kv", &[4, 7, 12], DType::F64).unwrap();
    let alone = |t: &[Tensor]| {
        let each = queries.ranges().iter().zip(images).map(|(range, image)| {
            let q = t[0].narrow(0, range.start, range.len())?.unsqueeze(0)?;
            kernels::cross_attention(&q, &t[1].narrow(0, image as usize, 1)?, 3, &Mask::None, None)?
                .squeeze(0)
        });
        Tensor::cat(&each.collect::<Result<Vec<_>>>()?, 0)
    };
    let mask = Mask::across(queries.clone(), keys.clone());
    agrees(&[q.clone(), kv.clone()], &|t| kernels::cross_attention(&t[0], &t[1], 3, &mask, None), &alone);
    // An image that nobody looks at has a gradient of zeros, not one that was never written.
    let vars = [Var::from_tensor(&q).unwrap(), Var::from_tensor(&kv).unwrap()];
    let tape = Tape::record();
    let y = kernels::cross_attention(&vars[0], &vars[1], 3, &mask, None).unwrap();
    let gradients = tape.backward(&y.sqr().unwrap().sum_all().unwrap()).unwrap();
    let unseen = gradients.get(&vars[1]).unwrap().get(1).unwrap();
    assert!(flat(&unseen).iter().all(|&g| g == 0.0));
}

#[test]
fn weights_are_dropped_after_the_softmax_with_one_mask_forwards_and_backwards() {
    let dropout = Some(Dropout { p: 0.3, key: Key::new(1, 2, "weights") });
    let inputs = [3, 7, 7].map(|rows| normal(&format!("{rows}"), &[2, rows, 6], DType::F64).unwrap());
    check_gradients(&inputs, &|t| kernels::attention(&t[0], &t[1], &t[2], 2, &Mask::None, dropout));
    // With identity matrices for values the outcome is the weights themselves.
    let (q, k) =
        (normal("q", &[5, 64, 8], DType::F32).unwrap(), normal("k", &[5, 8, 8], DType::F32).unwrap());
    let eye = Tensor::eye(8, DType::F32, &Device::Cpu).unwrap().broadcast_as((5, 8, 8)).unwrap();
    let weights = |dropout| flat(&kernels::attention(&q, &k, &eye, 1, &Mask::None, dropout).unwrap());
    let (kept, all) = (weights(dropout), weights(None));
    let zeros = kept.iter().filter(|&&w| w == 0.0).count() as f64 / kept.len() as f64;
    assert!((zeros - 0.3).abs() < 0.03, "{zeros}");
    assert!(kept.iter().zip(all).all(|(kept, all)| *kept == 0.0 || (kept * 0.7 - all).abs() < 1e-5));
}

/// The bias (1,Tq,Tk) of one head for queries and keys at these places, from (H,P,P').
fn at_places(scores: &Tensor, head: usize, [queries, keys]: [&[u32]; 2]) -> Result<Tensor> {
    let rows = |places: &[u32]| Tensor::new(places, scores.device());
    scores.narrow(0, head, 1)?.index_select(&rows(queries)?, 1)?.index_select(&rows(keys)?, 2)
}

/// Attention with a bias, example by example and head by head.
fn plain_biased(
    [q, k, v]: [&Tensor; 3],
    scores: &Tensor,
    heads: usize,
    [queries, keys]: [&Spans; 2],
    places: [&[u32]; 2],
) -> Result<Tensor> {
    let columns = q.dim(1)? / heads;
    let each = queries.ranges().iter().zip(keys.ranges()).map(|(own, seen)| {
        let head = |head: usize| {
            let part = |x: &Tensor, rows: &std::ops::Range<usize>| {
                x.narrow(0, rows.start, rows.len())?
                    .narrow(1, head * columns, columns)?
                    .contiguous()?
                    .unsqueeze(0)
            };
            let bias = at_places(scores, head, [&places[0][own.clone()], &places[1][seen.clone()]])?;
            plain(&part(q, own)?, &part(k, seen)?, &part(v, seen)?, 1, &bias)?.squeeze(0)
        };
        Tensor::cat(&(0..heads).map(head).collect::<Result<Vec<_>>>()?, 1)
    });
    Tensor::cat(&each.collect::<Result<Vec<_>>>()?, 0)
}

#[test]
fn a_bias_for_each_pair_of_places_has_the_values_and_gradients_of_its_formula() {
    // More examples than sums of the gradient, places in runs, out of order, and some that nobody stands at.
    let lengths: Vec<usize> = (0..19).map(|example| 1 + example % 5).collect();
    let (spans, rows) = (Spans::of(lengths.iter().copied()), lengths.iter().sum::<usize>());
    let places: Vec<u32> =
        Key::new(4, 0, "places").below(rows / 2, 7).into_iter().chain(0..).take(rows).collect();
    let places: Vec<u32> = places.into_iter().map(|place| place % 7).collect();
    let (qkv, scores) =
        (normal("qkv", &[rows, 12], DType::F64).unwrap(), normal("scores", &[2, 8, 9], DType::F64).unwrap());
    let mask = Mask::itself(&spans, false);
    agrees(
        &[qkv.clone(), scores.clone()],
        &|t| {
            let bias = Bias { scores: &t[1], places: [&places, &places] };
            kernels::biased_self_attention(&t[0], bias, 2, &mask, None)
        },
        &|t| {
            let part = |index: usize| t[0].narrow(1, 4 * index, 4);
            plain_biased([&part(0)?, &part(1)?, &part(2)?], &t[1], 2, [&spans; 2], [&places; 2])
        },
    );
    // Two queries an example, over keys that examples share.
    let queries = Spans::even(19, 2);
    let keys = spans.take(&(0..19).map(|example| example % 4).collect::<Vec<_>>()).unwrap();
    let firsts = vec![5u32; 38];
    let (q, kv) = (qkv.narrow(0, 0, 38).unwrap().narrow(1, 0, 4).unwrap(), qkv.narrow(1, 4, 8).unwrap());
    let across = Mask::across(queries.clone(), keys.clone());
    agrees(
        &[q.contiguous().unwrap(), kv.contiguous().unwrap(), scores],
        &|t| {
            let bias = Bias { scores: &t[2], places: [&firsts, &places] };
            kernels::biased_cross_attention(&t[0], &t[1], bias, 2, &across, None)
        },
        &|t| {
            let part = |index: usize| t[1].narrow(1, 4 * index, 4);
            plain_biased([&t[0], &part(0)?, &part(1)?], &t[2], 2, [&queries, &keys], [&firsts, &places])
        },
    );
}

#[test]
fn a_bias_of_zeros_changes_no_bit_and_dropout_is_that_without_it() {
    let qkv = normal("qkv", &[3, 7, 12], DType::F32).unwrap();
    let (zeros, places) =
        (Tensor::zeros((2, 7, 7), DType::F32, &Device::Cpu).unwrap(), [0, 1, 2, 3, 4, 5, 6].repeat(3));
    for dropout in [None, Some(Dropout { p: 0.3, key: Key::new(1, 2, "weights") })] {
        for mask in [Mask::None, Mask::Causal] {
            let bias = Bias { scores: &zeros, places: [&places, &places] };
            let biased = kernels::biased_self_attention(&qkv, bias, 2, &mask, dropout).unwrap();
            assert_eq!(flat(&biased), flat(&kernels::self_attention(&qkv, 2, &mask, dropout).unwrap()));
        }
    }
}

#[test]
fn a_bias_that_does_not_fit_is_refused() {
    let qkv = normal("qkv", &[1, 3, 12], DType::F64).unwrap();
    let message = |dims: [usize; 3], places: &[u32]| {
        let scores = normal("scores", &dims, DType::F64).unwrap();
        let bias = Bias { scores: &scores, places: [places, places] };
        kernels::biased_self_attention(&qkv, bias, 2, &Mask::None, None).unwrap_err().to_string()
    };
    assert!(message([3, 4, 4], &[0, 1, 2]).contains("for 2 heads and [3, 3] rows"));
    assert!(message([2, 4, 4], &[0, 1]).contains("places of 2 queries and 2 keys"));
    assert!(message([2, 4, 4], &[0, 4, 1]).contains("place 4 of 4"));
}

#[test]
fn sequences_that_do_not_fit_the_rows_are_refused() {
    let x = normal("x", &[6, 12], DType::F64).unwrap();
    let message = |spans: Spans| {
        kernels::self_attention(&x, 2, &Mask::itself(&spans, false), None).unwrap_err().to_string()
    };
    assert!(message(Spans::of([2, 3])).contains("are not those of q"));
    assert!(message(Spans::of([2, 5])).contains("are not those of q"));
    assert!(Spans::of([2, 3]).take(&[2]).unwrap_err().to_string().contains("of 2"));
    let kv = normal("kv", &[6, 8], DType::F64).unwrap();
    let mask = Mask::across(Spans::of([6]), Spans::of([7]));
    let beyond = kernels::cross_attention(&x.narrow(1, 0, 4).unwrap(), &kv, 2, &mask, None).unwrap_err();
    assert!(beyond.to_string().contains("of 6"), "{beyond}");
}

#[test]
fn frozen_keys_and_values_receive_no_gradient() {
    let q = candle_core::Var::from_tensor(&normal("q", &[2, 3, 4], DType::F32).unwrap()).unwrap();
    let kv = normal("kv", &[2, 5, 8], DType::F32).unwrap();
    let y = kernels::cross_attention(q.as_tensor(), &kv, 2, &Mask::None, None).unwrap();
    let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&kv).is_none() && grads.get(q.as_tensor()).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn attention_agrees_with_its_formula_on_random_shapes(
        b in 1usize..4, queries in 1usize..24, keys in 1usize..24, heads in 1usize..4, columns in 1usize..10,
    ) {
        check(b, queries, keys, heads, columns);
    }
}
