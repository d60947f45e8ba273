use super::*;

const ONE: StoreId = StoreId(1);
const TWO: StoreId = StoreId(2);

/// Two stores and a wire between them that can be cut.
struct Pair {
    stores: BTreeMap<StoreId, Neighbours>,
    now: Duration,
    is_cut: bool,
    sent: usize,
    said: Vec<(StoreId, &'static str, StoreId)>,
}

impl Pair {
    fn new() -> Pair {
        let store = || Neighbours::new(1, NeighbourConfig::default());
        Pair {
            stores: BTreeMap::from([(ONE, store()), (TWO, store())]),
            now: Duration::from_secs(9),
            is_cut: false,
            sent: 0,
            said: Vec::new(),
        }
    }

    fn both_need_each_other() -> Pair {
        let mut pair = Pair::new();
        pair.need(ONE, &[TWO]);
        pair.need(TWO, &[ONE]);
        pair.run(100);
        pair
    }

    fn need(&mut self, who: StoreId, stores: &[StoreId]) {
        let now = self.now;
        let who = self.stores.get_mut(&who).expect("one of the pair");
        who.need(0, stores.iter().copied(), now);
    }

    fn poll(&mut self, who: StoreId) {
        let now = self.now;
        let news = self
            .stores
            .get_mut(&who)
            .expect("one of the pair")
            .poll(now);
        self.said
            .extend(news.lost.iter().map(|store| (who, "lost", *store)));
        self.said
            .extend(news.fresh.iter().map(|store| (who, "fresh", *store)));
        self.sent += news.heartbeats.len();
        for (to, heartbeat) in news.heartbeats {
            if !self.is_cut {
                let to_store = self.stores.get_mut(&to).expect("one of the pair");
                to_store.on_heartbeat(who, heartbeat, now);
                self.poll(to);
            }
        }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / 50 {
            self.now += Duration::from_millis(50);
            self.poll(ONE);
            self.poll(TWO);
        }
    }

    fn said(&mut self) -> Vec<(StoreId, &'static str, StoreId)> {
        std::mem::take(&mut self.said)
    }
}

#[test]
fn one_exchange_a_pair_keeps_both_fresh() {
    let mut pair = Pair::both_need_each_other();
    let mut said = pair.said();
    said.sort_unstable();
    assert_eq!(said, [(ONE, "fresh", TWO), (TWO, "fresh", ONE)]);
    pair.sent = 0;
    pair.run(40_000);
    assert!(pair.said().is_empty());
    assert!(
        (100..=202).contains(&pair.sent),
        "a call and an answer every 400 ms, not {} messages in 40 s",
        pair.sent
    );
}

#[test]
fn who_needs_nobody_answers_and_calls_nobody() {
    let mut pair = Pair::new();
    pair.run(5_000);
    assert_eq!(pair.sent, 0);
    pair.need(ONE, &[TWO]);
    pair.run(5_000);
    assert_eq!(pair.said(), [(ONE, "fresh", TWO)]);
}

#[test]
fn silence_loses_a_store_and_a_word_brings_it_back() {
    let mut pair = Pair::both_need_each_other();
    pair.said();
    pair.is_cut = true;
    pair.run(1_000);
    assert!(pair.said().is_empty(), "it may have been a hiccup");
    pair.run(700);
    assert_eq!(pair.said(), [(ONE, "lost", TWO), (TWO, "lost", ONE)]);
    pair.is_cut = false;
    pair.run(500);
    let mut said = pair.said();
    said.sort_unstable();
    assert_eq!(said, [(ONE, "fresh", TWO), (TWO, "fresh", ONE)]);
}

#[test]
fn broken_connection_is_found_out_sooner() {
    let mut pair = Pair::both_need_each_other();
    pair.said();
    let now = pair.now;
    pair.stores
        .get_mut(&ONE)
        .expect("there")
        .on_unreachable(TWO, now);
    // It lives after all.
    pair.run(1_000);
    assert!(pair.said().is_empty());
    pair.is_cut = true;
    let now = pair.now;
    pair.stores
        .get_mut(&ONE)
        .expect("there")
        .on_unreachable(TWO, now);
    pair.run(350);
    assert_eq!(pair.said(), [(ONE, "lost", TWO)]);
}

#[test]
fn another_boot_is_a_loss_and_an_older_word_is_none() {
    let mut pair = Pair::both_need_each_other();
    pair.said();
    pair.stores
        .insert(TWO, Neighbours::new(2, NeighbourConfig::default()));
    pair.run(500);
    assert_eq!(pair.said(), [(ONE, "lost", TWO), (ONE, "fresh", TWO)]);
    let old = Heartbeat {
        boot: 1,
        seq: 999,
        is_call: false,
    };
    let now = pair.now;
    pair.stores
        .get_mut(&ONE)
        .expect("there")
        .on_heartbeat(TWO, old, now);
    pair.run(500);
    assert!(pair.said().is_empty());
}

#[test]
fn own_pause_condemns_nobody() {
    let mut pair = Pair::both_need_each_other();
    pair.said();
    pair.now += Duration::from_secs(10);
    pair.run(3_000);
    assert!(pair.said().is_empty());
}

#[test]
fn a_store_nobody_watches_is_not_fresh_when_it_is_needed_again() {
    let mut pair = Pair::both_need_each_other();
    pair.said();
    pair.need(ONE, &[]);
    pair.run(50);
    assert_eq!(pair.said(), [(ONE, "lost", TWO)]);
    pair.need(ONE, &[TWO]);
    pair.run(50);
    assert_eq!(pair.said(), [(ONE, "fresh", TWO)]);
}
