//! Loads of all kinds, through the reservoir.

use tinykv_node::traffic::reservoir::{Reservoir, Span};

use super::*;
use crate::space::Space;

/// Requests of each load: far more than are sampled.
const REQUESTS: u64 = 20_000;

/// Even random numbers below `bound`, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // Knuth's MMIX generator; its high bits are good enough here.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn key(number: u64) -> Vec<u8> {
    Space::Plain
        .engine_key(format!("k{number:06}").as_bytes())
        .to_vec()
}

fn point(number: u64) -> Span {
    Span::key(&key(number))
}

/// What becomes of a load of the region of all raw keys.
fn chosen(request: impl FnMut(u64, &mut Random) -> Span) -> Result<String, NotDivided> {
    chosen_in(&Bounds::ALL, REQUESTS, request)
}

fn chosen_in(
    bounds: &Bounds<'_>,
    requests: u64,
    mut request: impl FnMut(u64, &mut Random) -> Span,
) -> Result<String, NotDivided> {
    let mut random = Random(7);
    let mut reservoir = Reservoir::new(512, 1);
    for number in 0..requests {
        reservoir.offer(request(number, &mut random));
    }
    let boundary = choose(bounds, &reservoir.into_samples())?;
    assert!(bounds.can_split_at(&boundary));
    Ok(boundary.to_string())
}

/// How a boundary divides a load of points, in percent below it.
fn percent_below(boundary: &str, mut request: impl FnMut(&mut Random) -> u64) -> u64 {
    let mut random = Random(99);
    let below = (0..REQUESTS)
        .filter(|_| format!("k{:06}", request(&mut random)).as_str() < boundary)
        .count();
    below as u64 * 100 / REQUESTS
}

#[test]
fn even_load_is_cut_in_the_middle() {
    let boundary = chosen(|_, random| point(random.below(10_000))).expect("divided");
    let below = percent_below(&boundary, |random| random.below(10_000));
    assert!((40..=60).contains(&below), "{boundary}: {below} %");
}

#[test]
fn load_by_zipf_is_cut_where_it_is_even() {
    // Zipf's law with exponent 1 over 10,000 keys, by inverting the sum of 1/rank.
    let harmonic: Vec<f64> = (1..=10_000_u32)
        .scan(0.0, |sum, rank| {
            *sum += 1.0 / f64::from(rank);
            Some(*sum)
        })
        .collect();
    let zipf = |random: &mut Random| {
        let all = harmonic.last().expect("not empty");
        let at = random.below(1 << 30) as f64 / f64::from(1 << 30) * all;
        harmonic.partition_point(|sum| *sum < at) as u64
    };
    let boundary = chosen(|_, random| point(zipf(random))).expect("divided");
    let below = percent_below(&boundary, zipf);
    assert!((35..=65).contains(&below), "{boundary}: {below} %");
    // Hot keys are not neighbours when ranks are spread over the keys.
    let spread = |random: &mut Random| zipf(random) * 7_919 % 10_000;
    let boundary = chosen(|_, random| point(spread(random))).expect("divided");
    let below = percent_below(&boundary, spread);
    assert!((30..=70).contains(&below), "{boundary}: {below} %");
}

#[test]
fn a_hot_key_cannot_be_divided() {
    let refused = chosen(|_, _| point(5)).expect_err("one key");
    assert_eq!(refused, NotDivided::OneKey { percent: 100 });
    let refused = chosen(|_, random| match random.below(10) {
        0 => point(random.below(1_000)),
        _ => point(500),
    });
    let refused = refused.expect_err("nine of ten");
    assert!(matches!(refused, NotDivided::OneKey { percent: 90..=100 }));
    assert!(refused.to_string().contains("a key is hot"), "{refused}");
    // Two hot keys can.
    let two = chosen(|number, _| point(number % 2 + 5));
    assert_eq!(two.as_deref(), Ok("k000006"));
}

#[test]
fn inserts_at_the_end_move_on() {
    assert_eq!(chosen(|number, _| point(number)), Err(NotDivided::Moves));
    let downwards = chosen(|number, _| point(REQUESTS - number));
    assert_eq!(downwards, Err(NotDivided::Moves));
    // With as many reads of what is there, a boundary helps.
    let mixed = chosen(|number, random| match number % 2 {
        0 => point(100_000 + number),
        _ => point(random.below(100_000)),
    });
    let boundary = mixed.expect("divided");
    assert!(boundary.as_str() > "k070000", "{boundary}");
}

#[test]
fn scans_that_reach_over_every_boundary_stay_together() {
    let long = chosen(|_, random| {
        let first = random.below(10);
        Span::range(&key(first), &key(990 + random.below(10)))
    });
    let refused = long.expect_err("nothing lies in one part");
    assert!(matches!(refused, NotDivided::ScansSpan { .. }), "{refused}");
    let short = chosen(|_, random| {
        let first = random.below(1_000);
        Span::range(&key(first), &key(first + 50))
    });
    let boundary = short.expect("divided");
    assert!(("k000300".."k000700").contains(&boundary.as_str()));
    // Of all keys, to the end: no boundary is above it.
    let all = chosen(|_, _| {
        let end = Space::Plain.upper_bound(b"");
        Span::range(&Space::Plain.lower_bound(b""), &end)
    });
    let refused = all.expect_err("everything is asked for");
    assert_eq!(refused, NotDivided::ScansSpan { percent: 100 });
}

#[test]
fn few_requests_tell_nothing_and_borders_are_no_boundaries() {
    let few = chosen_in(&Bounds::ALL, 99, |_, random| point(random.below(1_000)));
    assert_eq!(few, Err(NotDivided::TooFewSamples(99)));
    // All requests go to the first key of the region: there is nothing below it.
    let bounds = Bounds::new(b"k000005", b"k000007");
    let first = chosen_in(&bounds, REQUESTS, |_, _| point(5));
    assert_eq!(first, Err(NotDivided::OneKey { percent: 100 }));
    // Samples from before a split may lie outside: they are no boundaries.
    let outside = chosen_in(&bounds, REQUESTS, |number, _| point(number % 2 * 100));
    assert_eq!(outside, Err(NotDivided::OneKey { percent: 100 }));
}
