//! The table of objectives and models: as it is committed, legal wherever a paper trains, and with a reason for every no.

use std::fs;
use std::path::Path;

use vlp_bench::experiments::matrix::Matrix;
use vlp_bench::{models, objectives};

/// What the nine papers train: where they say so, on which model, with which objective. Questions that ALBEF, BLIP and BLIP-2
/// answer word by word are not `answer`, which chooses from a list.
const TRAINED: [(&str, &str, &str); 59] = [
    ("UNITER, section 3.2", "uniter: {}", "mlm: {every_text: true}"),
    ("UNITER, section 3.2", "uniter: {}", "mrfr: {}"),
    ("UNITER, section 3.2", "uniter: {}", "mrc: {}"),
    ("UNITER, section 3.2", "uniter: {}", "mrc_kl: {}"),
    ("UNITER, section 3.2", "uniter: {}", "itm: {negatives: random, replace: image}"),
    ("UNITER, section 3.2", "uniter: {}", "wra: {}"),
    ("UNITER, table 2, line 12", "uniter: {}", "mlm: {masking: joint}"),
    ("UNITER, table 2, line 12", "uniter: {}", "mrfr: {masking: joint}"),
    ("UNITER, table 2, line 12", "uniter: {}", "mrc_kl: {masking: joint}"),
    ("UNITER, section 4.1, VQA", "uniter: {}", "answer: {}"),
    ("UNITER, section 4.1, SNLI-VE", "uniter: {}", "entail: {}"),
    ("UNITER, section 4.1, RefCOCO+", "uniter: {}", "ground: {}"),
    ("UNITER, section 4.3, NLVR2", "uniter: {}", "pair: {}"),
    ("Oscar, section 4, equation 2", "oscar: {}", "mlm: {}"),
    ("Oscar, section 4, equation 3", "oscar: {}", "tag_match: {}"),
    ("Oscar+, section 3.2", "oscar: {}", "tag_match: {captions: 0.25}"),
    ("Oscar, section 5, retrieval", "oscar: {}", "itm: {negatives: random}"),
    ("Oscar, section 5, VQA", "oscar: {}", "answer: {}"),
    ("Oscar, section 5, NLVR2", "oscar: {}", "pair: {}"),
    ("CLIP, section 2.3", "clip: {}", "itc: {}"),
    ("CLIP, figure 2", "clip: {}", "caption: {}"),
    ("CLIP, figure 2", "clip: {}", "bow: {}"),
    ("CLIP, figure 2", "clip: {text_encoder: bag_of_words}", "itc: {}"),
    ("ViLT, section 3.3", "vilt: {}", "itm: {negatives: random, replace: image, exact: true}"),
    ("ViLT, section 3.3", "vilt: {}", "wpa: {}"),
    ("ViLT, section 3.3", "vilt: {}", "mlm: {whole_word: true}"),
    ("ViLT, table 5", "vilt: {}", "mlm: {whole_word: false}"),
    ("ViLT, table 5", "vilt: {}", "mpp: {}"),
    ("ViLT, section 4.2, VQA", "vilt: {}", "answer: {}"),
    ("ViLT, section 4.2, NLVR2", "vilt: {}", "pair: {}"),
    ("ALBEF, section 3.2", "albef: {}", "itc: {}"),
    ("ALBEF, section 3.2", "albef: {}", "itm: {negatives: hard}"),
    ("ALBEF, table 1", "albef: {}", "itm: {negatives: random}"),
    ("ALBEF, section 3.2", "albef: {}", "mlm: {}"),
    ("ALBEF, section 3.3", "albef: {}", "itc_momentum: {distill: 0.4}"),
    ("ALBEF, section 3.3", "albef: {}", "mlm: {distill: 0.4}"),
    ("ALBEF, section 5, SNLI-VE", "albef: {}", "entail: {}"),
    ("ALBEF, section 5, NLVR2", "albef: {}", "pair: {}"),
    ("BLIP, section 3.2", "blip: {}", "itc_momentum: {ramp: 2}"),
    ("BLIP, section 3.2", "blip: {}", "itm: {floor: 1e-4}"),
    ("BLIP, section 3.2", "blip: {}", "lm: {label_smoothing: 0.1}"),
    ("BLIP, section 3.3, CapFilt", "blip: {}", "lm: {label_smoothing: 0.1, prompt: 3}"),
    ("BLIP, section 5.4, NLVR2", "blip: {}", "pair: {}"),
    ("CoCa, section 3.2", "coca: {}", "itc: {}"),
    ("CoCa, section 3.2, labels as captions", "coca: {}", "lm: {}"),
    ("CoCa, section 4.2, VQA", "coca: {}", "answer: {from: causal}"),
    ("CoCa, section 4.2, SNLI-VE", "coca: {}", "entail: {from: causal}"),
    ("CoCa, section 4.2, NLVR2", "coca: {}", "pair: {from: causal}"),
    ("VLMo, section 3.3", "vlmo: {}", "itc: {}"),
    ("VLMo, section 3.3", "vlmo: {}", "itm: {negatives: hard}"),
    ("VLMo, section 3.3", "vlmo: {}", "mlm: {whole_word: true}"),
    ("VLMo, section 3.3, on images", "vlmo: {}", "dvae: {}"),
    ("VLMo, section 3.3, on images", "vlmo: {}", "mim: {target: codes}"),
    ("VLMo, section 3.3, on text", "vlmo: {}", "mlm: {context: none}"),
    ("VLMo, section 4, VQA", "vlmo: {}", "answer: {}"),
    ("VLMo, section 4, NLVR2", "vlmo: {}", "pair: {}"),
    ("BLIP-2, section 3.2", "blip2: {}", "itc: {label_smoothing: 0.1}"),
    ("BLIP-2, section 3.2", "blip2: {}", "itm: {}"),
    ("BLIP-2, section 3.2", "blip2: {}", "lm: {label_smoothing: 0.1}"),
];

/// The second stage of BLIP-2, section 3.3, by the kind of language model.
const GENERATORS: [&str; 2] = ["blip2: {language: {opt: {}}}", "blip2: {language: {t5: {}}}"];

fn read(model: &str, objective: &str) -> (models::Config, objectives::Config) {
    (serde_yaml::from_str(model).unwrap(), serde_yaml::from_str(objective).unwrap())
}

#[test]
fn the_committed_matrix_is_the_one_that_is_printed() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/experiments/matrix.txt");
    let committed = fs::read_to_string(committed).unwrap();
    assert_eq!(format!("{}\n", Matrix::new()), committed, "vlp matrix > tests/experiments/matrix.txt");
}

#[test]
fn what_a_paper_trains_on_its_model_is_legal() {
    let matrix = Matrix::new();
    let generators = GENERATORS.map(|model| ("BLIP-2, section 3.3", model, "lm: {}"));
    for (place, model, objective) in TRAINED.into_iter().chain(generators) {
        let (model, objective) = read(model, objective);
        let reasons = objectives::fits(&objective, model.name(), &*model);
        assert_eq!(reasons, [], "{place}: {} x {}", objective.name(), model.name());
        let mut cells = matrix.cells.iter();
        let cell = cells.find(|cell| (cell.objective, cell.model) == (objective.name(), model.name()));
        assert!(cell.unwrap().fits, "{place}: {} x {}", objective.name(), model.name());
    }
}

#[test]
fn every_model_of_a_paper_is_in_the_list_of_what_papers_train() {
    let trained = TRAINED.map(|(_, model, objective)| read(model, objective).0.name());
    for model in models::Config::all().iter().filter(|model| model.name() != "language") {
        assert!(trained.contains(&model.name()), "{}", model.name());
    }
}

#[test]
fn every_no_says_what_its_model_lacks_and_every_yes_says_nothing() {
    for cell in Matrix::new().cells {
        assert_eq!(cell.fits, cell.reasons.is_empty(), "{} x {}", cell.objective, cell.model);
        assert!(cell.setting.is_none() || cell.fits, "{} x {}", cell.objective, cell.model);
        for reason in cell.reasons {
            assert!(reason.offered.starts_with(&format!("{} ", cell.model)), "{reason:?}");
            assert!(reason.need.starts_with("a ") || reason.need.contains(" ("), "{reason:?}");
        }
    }
}

#[test]
fn a_letter_stands_for_a_setting_that_the_objective_has() {
    let models = models::Config::all();
    for cell in Matrix::new().cells {
        let Some(setting) = cell.setting else { continue };
        let written = setting.split('`').nth(1).unwrap();
        let objective: objectives::Config =
            serde_yaml::from_str(&format!("{}: {{{written}}}", cell.objective)).unwrap();
        let model = models.iter().find(|model| model.name() == cell.model).unwrap();
        assert_eq!(objectives::fits(&objective, model.name(), &**model), []);
    }
}
