//! Where the right answers of a search rank, what guessing would give, and how much a finite test set blurs it.

/// The place of the best right answer to one query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// 1 for the top.
    pub rank: usize,
    /// Whether a wrong answer scores exactly as much; it then ranks ahead, so that ties never help.
    pub tied: bool,
}

/// Ranks the best of the `right` candidates among the wrong ones.
pub fn place(scores: impl Iterator<Item = (u32, f32)> + Clone, right: &[u32]) -> Place {
    let is_right = |candidate: u32| right.contains(&candidate);
    let own = scores.clone().filter(|(candidate, _)| is_right(*candidate));
    let best = own.map(|(_, score)| score).fold(f32::NEG_INFINITY, f32::max);
    let (mut ahead, mut tied) = (0, false);
    for (candidate, score) in scores {
        if score >= best && !is_right(candidate) {
            ahead += 1;
            tied |= score == best;
        }
    }
    Place { rank: ahead + 1, tied }
}

/// The `count` best candidates, best first; of equal scores the wrong ones come first, then the lower number.
pub fn top(scores: &[f32], right: &[u32], count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    let before = |a: &u32, b: &u32| {
        let by_score = scores[*b as usize].total_cmp(&scores[*a as usize]);
        by_score.then(right.contains(a).cmp(&right.contains(b))).then(a.cmp(b))
    };
    let count = count.min(order.len());
    if count < order.len() {
        order.select_nth_unstable_by(count, before);
        order.truncate(count);
    }
    order.sort_unstable_by(before);
    order
}

/// The places of all queries of one kind.
pub struct Places {
    /// One a query.
    pub places: Vec<Place>,
    /// How many candidates are right for each query.
    pub right: Vec<usize>,
    /// The image each query stands for: what is drawn at random when a test set is drawn.
    pub owners: Vec<u32>,
    /// How many candidates each query has.
    pub candidates: usize,
}

impl Places {
    /// The share of queries with a right answer among the first `k`.
    pub fn recall(&self, k: usize) -> f64 {
        self.places.iter().filter(|place| place.rank <= k).count() as f64 / self.places.len().max(1) as f64
    }

    /// The recall of a random order: for r right answers among n candidates, 1 - C(n-r, k) / C(n, k), averaged.
    pub fn chance(&self, k: usize) -> f64 {
        let hit = |right: &usize| 1.0 - missed(self.candidates, *right, k);
        self.right.iter().map(hit).sum::<f64>() / self.right.len().max(1) as f64
    }

    /// How far each of `images` pulls the recall away from its mean; their squares sum to the squared sampling error.
    pub fn pulls(&self, k: usize, images: usize) -> Vec<f64> {
        let (recall, queries) = (self.recall(k), self.places.len().max(1) as f64);
        let mut pulls = vec![0.0; images];
        for (place, owner) in self.places.iter().zip(&self.owners) {
            pulls[*owner as usize] += (f64::from(u8::from(place.rank <= k)) - recall) / queries;
        }
        pulls
    }

    /// How many queries have a wrong answer that scores as much as the best right one.
    pub fn ties(&self) -> usize {
        self.places.iter().filter(|place| place.tied).count()
    }
}

/// The probability that the first `k` of `n` candidates in random order hold none of the `right` ones.
fn missed(n: usize, right: usize, k: usize) -> f64 {
    (0..k.min(n)).map(|drawn| (n - drawn).saturating_sub(right) as f64 / (n - drawn) as f64).product()
}

/// The root of the sum of squared pulls: the standard error over the draw of test images. For one query an image it is
/// the binomial sqrt(p (1-p) / n); captions of one image count as drawn together.
pub fn sampling_error(pulls: &[f64]) -> f64 {
    pulls.iter().map(|pull| pull * pull).sum::<f64>().sqrt()
}
