use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use vlp_bench::models::store::{Role, matches};
use vlp_bench::models::{Config, Init, Store};

use super::INPUTS;

const NORMAL: Init = Init::Normal { std: 1.0 };

fn store(freeze: &[&str]) -> Store {
    Store::new(&Device::Cpu, 1, &freeze.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>())
}

fn value(store: &Store, name: &str) -> Vec<f32> {
    store.entries()[name].var.flatten_all().unwrap().to_vec1().unwrap()
}

fn set(store: &Store, name: &str, to: f32) {
    let var = &store.entries()[name].var;
    var.set(&Tensor::full(to, var.shape(), &Device::Cpu).unwrap()).unwrap();
}

#[test]
fn a_first_value_depends_on_the_seed_and_its_own_name_alone() {
    let (one, two) = (store(&[]), store(&[]));
    one.student().at("a").get((3, 4), "weight", NORMAL).unwrap();
    let head = two.student().at("head");
    head.get((9, 9), "weight", NORMAL).unwrap();
    two.student().at("a").get((3, 4), "weight", NORMAL).unwrap();
    assert_eq!(value(&one, "a.weight"), value(&two, "a.weight"));
    let other = Store::new(&Device::Cpu, 2, &[]);
    other.student().at("a").get((3, 4), "weight", NORMAL).unwrap();
    assert_ne!(value(&one, "a.weight"), value(&other, "a.weight"));
}

#[test]
fn first_values_have_the_moments_that_their_init_names() {
    let inits = [
        (NORMAL, 1.0, f32::INFINITY),
        (Init::Uniform { bound: 3.0 }, 3.0f32.sqrt(), 3.0),
        (Init::UnitRows, 0.1, 1.0),
    ];
    for (init, deviation, most) in inits {
        let store = store(&[]);
        store.student().get((200, 100), "x", init).unwrap();
        let values = value(&store, "x");
        let count = values.len() as f32;
        let mean = values.iter().sum::<f32>() / count;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / count;
        assert!(mean.abs() < 0.02 * deviation, "{init:?}: mean {mean}");
        assert!((variance.sqrt() / deviation - 1.0).abs() < 0.02, "{init:?}: {variance}");
        assert!(values.iter().all(|x| x.abs() <= most), "{init:?}");
    }
}

#[test]
fn matrices_decay_and_gains_biases_and_the_temperature_do_not() {
    for config in Config::all() {
        let store = store(&[]);
        config.build(&store.student(), &INPUTS).unwrap();
        for (name, entry) in store.entries() {
            let single = ["gain", "bias", "class", "mask", "scale", "temperature"];
            let single = single.iter().any(|end| name.ends_with(end));
            assert_eq!(entry.decays, !single, "{name} {:?}", entry.shape);
        }
    }
}

#[test]
fn a_frozen_parameter_keeps_the_value_it_would_have_had_and_gets_no_gradient() {
    let (free, frozen) = (store(&[]), store(&["image.*"]));
    for store in [&free, &frozen] {
        for part in ["image", "text"] {
            store.student().at(part).get((2, 2), "weight", NORMAL).unwrap();
        }
    }
    assert_eq!(value(&free, "image.weight"), value(&frozen, "image.weight"));
    let entries = frozen.entries();
    assert_eq!(entries["image.weight"].role, Role::Frozen);
    assert!(!entries["image.weight"].decays);
    assert_eq!(entries["text.weight"].role, Role::Trainable);
    let get = |store: &Store, part| store.student().at(part).get((2, 2), "weight", NORMAL).unwrap();
    assert!(!get(&frozen, "image").track_op());
    assert!(get(&frozen, "text").track_op());
    assert!(!frozen.detached().at("text").get((2, 2), "weight", NORMAL).unwrap().track_op());
    assert_eq!((frozen.count(Role::Frozen), frozen.count(Role::Trainable)), (4, 4));
}

#[test]
fn a_star_stands_for_any_run_of_characters() {
    for (pattern, name, fits) in [
        ("image.*", "image.layers.0.mlp.up.weight", true),
        ("image.*", "text.image.weight", false),
        ("*.bias", "text.layers.0.mlp.up.bias", true),
        ("*.layers.0.*", "image.layers.0.norm1.gain", true),
        ("*.layers.0.*", "image.layers.10.norm1.gain", false),
        ("scale", "scale", true),
        ("scale", "scales", false),
        ("*", "", true),
        ("a*a", "a", false),
    ] {
        assert_eq!(matches(pattern, name), fits, "{pattern} on {name}");
    }
}

#[test]
fn a_pattern_that_freezes_nothing_is_found() {
    let store = store(&["image.*", "vision.*", "queue", "teacher.*"]);
    let vars = store.student();
    vars.at("image").get(2, "weight", NORMAL).unwrap();
    vars.get(2, "text", NORMAL).unwrap();
    vars.buffer((2, 2), "queue", Init::UnitRows).unwrap();
    store.teacher().get(2, "text", NORMAL).unwrap();
    assert_eq!(store.idle_patterns(), ["vision.*", "queue", "teacher.*"]);
}

#[test]
fn a_teacher_begins_as_its_student_and_follows_it() {
    let store = store(&["frozen"]);
    for name in ["x", "frozen"] {
        store.student().get((2, 3), name, NORMAL).unwrap();
    }
    let teacher = store.teacher().get((2, 3), "x", Init::Constant(7.0)).unwrap();
    assert!(!teacher.track_op());
    let first = value(&store, "x");
    assert_eq!(value(&store, "teacher.x"), first);
    set(&store, "x", 1.0);
    store.follow(0.75).unwrap();
    let expected: Vec<f32> = first.iter().map(|x| 0.75 * x + 0.25).collect();
    let followed = teacher.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!(followed.iter().zip(&expected).all(|(got, expected)| (got - expected).abs() < 1e-6));
    assert_eq!(value(&store, "x"), [1.0; 6]);
    store.teacher().get((2, 3), "frozen", NORMAL).unwrap();
    assert_eq!(store.count(Role::Teacher), 6, "what is frozen needs no shadow");
}

#[test]
fn a_teacher_cannot_ask_for_what_no_student_has() {
    let store = store(&[]);
    let error = store.teacher().get(3, "x", NORMAL).unwrap_err().to_string();
    assert!(error.contains("the teacher asks for `x`, which no student has"), "{error}");
    store.student().get(3, "x", NORMAL).unwrap();
    for vars in [store.student(), store.teacher()] {
        let error = vars.get(4, "x", NORMAL).unwrap_err().to_string();
        assert!(error.contains("`x` is [3], asked for as [4]"), "{error}");
    }
}

#[test]
fn a_bounded_parameter_is_brought_back_after_an_update() {
    let store = store(&[]);
    store.student().bounded("above", 1.0, f64::NEG_INFINITY, 2.0).unwrap();
    store.student().bounded("both", 0.07, 0.001, 0.5).unwrap();
    for (to, above, both) in [(9.0, 2.0, 0.5), (-9.0, -9.0, 0.001), (0.25, 0.25, 0.25)] {
        set(&store, "above", to);
        set(&store, "both", to);
        store.enforce_bounds().unwrap();
        assert_eq!((value(&store, "above"), value(&store, "both")), (vec![above], vec![both]));
    }
}

#[test]
fn a_buffer_is_written_in_place_and_belongs_to_the_state() {
    let store = store(&[]);
    let queue = store.student().at("queue").buffer((4, 2), "images", Init::UnitRows).unwrap();
    queue.set(&Tensor::ones((4, 2), queue.dtype(), &Device::Cpu).unwrap()).unwrap();
    let again = store.student().at("queue").buffer((4, 2), "images", Init::UnitRows).unwrap();
    assert_eq!(again.to_vec2::<f32>().unwrap(), [[1.0; 2]; 4]);
    assert_eq!(store.tensors()["queue.images"].to_vec2::<f32>().unwrap(), [[1.0; 2]; 4]);
    assert_eq!(store.of(Role::Buffer).len(), 1);
}

#[test]
fn what_was_saved_is_loaded_and_what_does_not_fit_changes_nothing() {
    let (from, into) = (Store::new(&Device::Cpu, 1, &[]), Store::new(&Device::Cpu, 2, &[]));
    for store in [&from, &into] {
        store.student().get((2, 3), "a", NORMAL).unwrap();
        store.student().get(3, "b", NORMAL).unwrap();
    }
    let saved = from.tensors();
    let before = (value(&into, "a"), value(&into, "b"));
    let bad = |change: &dyn Fn(&mut BTreeMap<String, Tensor>), words: &str| {
        let mut values = saved.clone();
        change(&mut values);
        let error = into.load(&values).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!((value(&into, "a"), value(&into, "b")), before);
    };
    let zeros = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
    bad(&|values| drop(values.remove("b")), "lacks `b`");
    bad(&|values| drop(values.insert("c".into(), zeros(&[1]))), "holds `c`");
    bad(&|values| drop(values.insert("b".into(), zeros(&[4]))), "`b` is [4] F32 there and [3] F32");
    into.load(&saved).unwrap();
    assert_eq!(value(&into, "a"), value(&from, "a"));
    set(&into, "a", 5.0);
    assert_ne!(value(&into, "a"), value(&from, "a"), "the copy is not shared");
}
