use candle_core::{Device, Tensor};
use vlp_bench::models::{Dims, Store};
use vlp_bench::objectives::queue::Queue;

use super::tiny::DIMS;
use super::{config, store};

fn rows(first: u32, count: u32) -> Tensor {
    let values = (first..first + count).map(|row| row as f32).collect::<Vec<_>>();
    Tensor::from_vec(values, (count as usize, 1), &Device::Cpu).unwrap()
}

#[test]
fn a_queue_holds_the_newest_rows_however_batch_and_queue_divide() {
    for (size, batch) in [(6, 2), (5, 3), (3, 3), (2, 5), (1, 1), (7, 4)] {
        let store = Store::new(&Device::Cpu, 1, &[]);
        let queue = Queue::open(&store.student(), size, &[1]).unwrap();
        for push in 0..5 {
            queue.push(&rows(push * batch, batch)).unwrap();
            let mut held: Vec<u32> = queue
                .rows()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()
                .iter()
                .map(|&x| x as u32)
                .collect();
            let pushed = (push + 1) * batch;
            if pushed as usize >= size {
                held.sort_unstable();
                assert_eq!(held, (pushed - size as u32..pushed).collect::<Vec<_>>(), "{size} {batch} {push}");
            }
        }
    }
}

#[test]
fn a_queue_continues_where_its_store_was_saved() {
    let fresh = || Store::new(&Device::Cpu, 1, &[]);
    let (store, resumed) = (fresh(), fresh());
    let queue = Queue::open(&store.student(), 5, &[1]).unwrap();
    queue.push(&rows(0, 3)).unwrap();
    let saved = store.tensors().into_iter().map(|(name, value)| (name, value.copy().unwrap())).collect();
    queue.push(&rows(3, 4)).unwrap();
    let continued = Queue::open(&resumed.student(), 5, &[1]).unwrap();
    resumed.load(&saved).unwrap();
    continued.push(&rows(3, 4)).unwrap();
    let values = |queue: &Queue| queue.rows().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(values(&queue), values(&continued));
}

#[test]
fn the_queue_of_images_holds_as_many_vectors_an_image_as_the_model_has() {
    for (queries, expected) in [(None, vec![5, 6]), (Some(3), vec![5, 3, 6])] {
        let store = store();
        let dims = Dims { queries, ..DIMS };
        config("itc_momentum: {queue: 5}").open(&store.student(), &dims).unwrap();
        assert_eq!(store.entries()["itc_momentum.images.rows"].var.dims(), expected);
        assert_eq!(store.entries()["itc_momentum.texts.rows"].var.dims(), [5, 6]);
    }
}
