//! The network of a simulated cluster: what is lost, doubled, late, or cut off.
//!
//! Pure: it decides the fate of a message, the world carries it out. Links are directed, so that
//! a partition can be one-way.

use std::collections::BTreeSet;
use std::time::Duration;

use tinykv_env::Prng;

use super::setup::Setup;

/// A machine's place in the network.
pub type Address = u64;

/// How bad the weather is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// One message in so many is lost; 0: none.
    pub loss_one_in: u64,
    /// One message in so many arrives twice; 0: none.
    pub double_one_in: u64,
    /// One message in so many takes up to ten times as long, and one of four of these up to two
    /// seconds; 0: none.
    pub late_one_in: u64,
    /// One message in so many arrives once more, seconds later; 0: none.
    pub replay_one_in: u64,
    /// One message between peers in so many is garbled on its way; 0: none.
    pub garble_one_in: u64,
    /// Shortest delay.
    pub delay_min: Duration,
    /// Longest ordinary delay.
    pub delay_max: Duration,
}

impl Weather {
    /// Nothing is lost, and quickly there.
    pub const FAIR: Weather = Weather {
        loss_one_in: 0,
        double_one_in: 0,
        late_one_in: 0,
        replay_one_in: 0,
        garble_one_in: 0,
        delay_min: Duration::from_micros(100),
        delay_max: Duration::from_micros(500),
    };

    /// Weather of a seed: each kind of fault is present in some seeds and absent in others.
    pub fn draw(random: &mut Prng) -> Weather {
        let mut some = |least: u64, most: u64| match random.chance(2) {
            true => random.between(least, most),
            false => 0,
        };
        let (loss_one_in, double_one_in, late_one_in) = (some(5, 200), some(5, 200), some(5, 100));
        let (replay_one_in, garble_one_in) = (some(20, 400), some(20, 400));
        let delay_min = Duration::from_micros(random.between(50, 1_000));
        let delay_max = delay_min + Duration::from_micros(random.between(100, 10_000));
        Weather {
            loss_one_in,
            double_one_in,
            late_one_in,
            replay_one_in,
            garble_one_in,
            delay_min,
            delay_max,
        }
    }

    /// The same weather without some of its kinds.
    pub(super) fn limited(self, setup: &Setup) -> Weather {
        let limit = |kind: &str, one_in: u64| if setup.allows(kind) { one_in } else { 0 };
        Weather {
            loss_one_in: limit("loss", self.loss_one_in),
            double_one_in: limit("double", self.double_one_in),
            late_one_in: limit("late", self.late_one_in),
            replay_one_in: limit("replay", self.replay_one_in),
            garble_one_in: limit("garble", self.garble_one_in),
            ..self
        }
    }
}

/// Which links a partition cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// One from all others.
    Isolate,
    /// One is heard by nobody, but hears.
    IsolateOneWay,
    /// Two halves.
    Halves,
    /// One half is not heard by the other.
    HalvesOneWay,
    /// Everybody reaches two neighbours only.
    Ring,
    /// Two halves that only one member of each reaches all of.
    Bridge,
    /// A leader from all other processes; clients reach it.
    Leader,
    /// Two from each other; both reach all others.
    Link,
    /// One does not hear another one, and that is all.
    LinkOneWay,
}

impl Cut {
    /// All there are.
    pub const ALL: [Cut; 9] = [
        Cut::Isolate,
        Cut::IsolateOneWay,
        Cut::Halves,
        Cut::HalvesOneWay,
        Cut::Ring,
        Cut::Bridge,
        Cut::Leader,
        Cut::Link,
        Cut::LinkOneWay,
    ];

    /// One word for reports.
    pub fn name(self) -> &'static str {
        match self {
            Cut::Isolate => "isolate",
            Cut::IsolateOneWay => "isolate_one_way",
            Cut::Halves => "halves",
            Cut::HalvesOneWay => "halves_one_way",
            Cut::Ring => "ring",
            Cut::Bridge => "bridge",
            Cut::Leader => "leader_only",
            Cut::Link => "link",
            Cut::LinkOneWay => "link_one_way",
        }
    }
}

/// Who can reach whom, and how messages fare.
#[derive(Clone, Debug)]
pub struct Network {
    weather: Weather,
    /// Directed links that carry nothing.
    cut: BTreeSet<(Address, Address)>,
    /// Messages that did not arrive.
    pub lost: u64,
    /// Messages that will arrive once more, long after.
    pub replayed: u64,
}

impl Network {
    /// A network whose links are all whole.
    pub fn new(weather: Weather) -> Network {
        Network {
            weather,
            cut: BTreeSet::new(),
            lost: 0,
            replayed: 0,
        }
    }

    /// The delays after which a message arrives: none if it is lost, two if it is doubled.
    pub fn send(&mut self, from: Address, to: Address, random: &mut Prng) -> Vec<Duration> {
        if from == to {
            return vec![Duration::ZERO];
        }
        if self.is_cut(from, to) || random.chance(self.weather.loss_one_in) {
            self.lost += 1;
            return Vec::new();
        }
        let copies = 1 + usize::from(random.chance(self.weather.double_one_in));
        let mut delays: Vec<Duration> = (0..copies).map(|_| self.delay(random)).collect();
        if random.chance(self.weather.replay_one_in) {
            self.replayed += 1;
            delays.push(Duration::from_millis(random.between(200, 4_000)));
        }
        delays
    }

    /// Whether messages from one to the other are dropped.
    pub fn is_cut(&self, from: Address, to: Address) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Cuts a link in one direction.
    pub fn cut(&mut self, from: Address, to: Address) {
        self.cut.insert((from, to));
    }

    /// Mends all links; with `weather` the weather changes too.
    pub fn heal(&mut self, weather: Option<Weather>) {
        self.cut.clear();
        self.weather = weather.unwrap_or(self.weather);
    }

    /// Cuts links between `addresses`, whose order the seed draws. For [`Cut::Leader`] the first of
    /// `addresses` is the leader.
    pub fn partition(&mut self, cut: Cut, addresses: &[Address], random: &mut Prng) {
        let mut shuffled = addresses.to_vec();
        if cut != Cut::Leader {
            for i in (1..shuffled.len()).rev() {
                shuffled.swap(i, random.below(i as u64 + 1) as usize);
            }
        }
        let middle = shuffled.len() / 2;
        match cut {
            Cut::Isolate | Cut::Leader => self.sever(&shuffled, 1, true),
            Cut::IsolateOneWay => self.sever(&shuffled, 1, false),
            Cut::Link | Cut::LinkOneWay => {
                shuffled.truncate(2);
                self.sever(&shuffled, 1, cut == Cut::Link);
            }
            Cut::Halves => self.sever(&shuffled, middle, true),
            Cut::HalvesOneWay => self.sever(&shuffled, middle, false),
            Cut::Bridge => {
                // The first belongs to both halves.
                if let Some((_, others)) = shuffled.split_first() {
                    self.sever(others, others.len() / 2, true);
                }
            }
            Cut::Ring => {
                let count = shuffled.len();
                for (i, a) in shuffled.iter().enumerate() {
                    for (j, b) in shuffled.iter().enumerate() {
                        let apart = (i + count - j) % count;
                        if ![0, 1, count - 1].contains(&apart) {
                            self.cut(*a, *b);
                        }
                    }
                }
            }
        }
    }

    fn sever(&mut self, addresses: &[Address], at: usize, both_ways: bool) {
        let (some, others) = addresses.split_at(at.min(addresses.len()));
        for a in some {
            for b in others {
                self.cut(*a, *b);
                if both_ways {
                    self.cut(*b, *a);
                }
            }
        }
    }

    /// Whether a message between peers is garbled on its way.
    pub fn garbles(&self, random: &mut Prng) -> bool {
        random.chance(self.weather.garble_one_in)
    }

    fn delay(&self, random: &mut Prng) -> Duration {
        let Weather {
            delay_min,
            delay_max,
            late_one_in,
            ..
        } = self.weather;
        let micros = |delay: Duration| delay.as_micros() as u64;
        let delay = Duration::from_micros(random.between(micros(delay_min), micros(delay_max)));
        if !random.chance(late_one_in) {
            return delay;
        }
        match random.chance(4) {
            true => Duration::from_millis(random.between(100, 2_000)),
            false => delay * random.between(2, 10) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cut, Network, Weather};
    use tinykv_env::Prng;

    #[test]
    fn a_cut_link_carries_nothing_and_the_other_way_does() {
        let (mut network, mut random) = (Network::new(Weather::FAIR), Prng::new(1));
        network.cut(1, 2);
        assert!(network.send(1, 2, &mut random).is_empty());
        assert_eq!(network.send(2, 1, &mut random).len(), 1);
        network.heal(None);
        assert_eq!(network.send(1, 2, &mut random).len(), 1);
        assert_eq!(network.lost, 1);
    }

    #[test]
    fn every_kind_of_weather_occurs_over_seeds() {
        let draws: Vec<_> = (0..50)
            .map(|seed| Weather::draw(&mut Prng::new(seed)))
            .collect();
        assert!(draws.iter().any(|weather| weather.loss_one_in > 0));
        assert!(draws.iter().any(|weather| weather.loss_one_in == 0));
        assert!(draws.iter().any(|weather| weather.double_one_in > 0));
    }

    #[test]
    fn a_partition_always_separates_somebody() {
        let addresses = [1, 2, 3, 4, 5];
        for cut in Cut::ALL {
            for seed in 0..20 {
                let (mut network, mut random) = (Network::new(Weather::FAIR), Prng::new(seed));
                network.partition(cut, &addresses, &mut random);
                let is_cut = |a: &u64| addresses.iter().any(|b| network.is_cut(*a, *b));
                assert!(addresses.iter().any(is_cut), "{cut:?}, seed {seed}");
            }
        }
    }

    #[test]
    fn in_a_ring_everybody_reaches_two_others() {
        let (mut network, mut random) = (Network::new(Weather::FAIR), Prng::new(1));
        let addresses = [1, 2, 3, 4, 5];
        network.partition(Cut::Ring, &addresses, &mut random);
        for a in addresses {
            let reached = addresses
                .iter()
                .filter(|b| a != **b && !network.is_cut(a, **b));
            assert_eq!(reached.count(), 2);
        }
    }
}
