//! The network of a simulated cluster: what is lost, doubled, late, or cut off.
//!
//! Pure: it decides the fate of a message, the world carries it out. Links are directed, so that
//! a partition can be one-way.

use std::collections::BTreeSet;
use std::time::Duration;

use tinykv_env::Prng;

/// A machine's place in the network.
pub type Address = u64;

/// How bad the weather is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// One message in so many is lost; 0: none.
    pub loss_one_in: u64,
    /// One message in so many arrives twice; 0: none.
    pub double_one_in: u64,
    /// One message in so many takes up to ten times as long; 0: none.
    pub late_one_in: u64,
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
        let delay_min = Duration::from_micros(random.between(50, 1_000));
        let delay_max = delay_min + Duration::from_micros(random.between(100, 10_000));
        Weather {
            loss_one_in,
            double_one_in,
            late_one_in,
            delay_min,
            delay_max,
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
}

impl Network {
    /// A network whose links are all whole.
    pub fn new(weather: Weather) -> Network {
        Network {
            weather,
            cut: BTreeSet::new(),
            lost: 0,
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
        (0..copies).map(|_| self.delay(random)).collect()
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

    /// Draws a partition among `addresses` and cuts it. Says which kind.
    pub fn partition(&mut self, addresses: &[Address], random: &mut Prng) -> &'static str {
        let mut shuffled = addresses.to_vec();
        for i in (1..shuffled.len()).rev() {
            shuffled.swap(i, random.below(i as u64 + 1) as usize);
        }
        let kind = random.below(4);
        let split = match kind {
            0 | 1 => 1,
            _ => shuffled.len() / 2,
        };
        let (some, others) = shuffled.split_at(split.min(shuffled.len()));
        for a in some {
            for b in others {
                self.cut(*a, *b);
                if kind != 1 && kind != 3 {
                    self.cut(*b, *a);
                }
            }
        }
        ["isolate", "isolate_one_way", "halves", "halves_one_way"][kind as usize]
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
        if random.chance(late_one_in) {
            delay * random.between(2, 10) as u32
        } else {
            delay
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Network, Weather};
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
        for seed in 0..50 {
            let (mut network, mut random) = (Network::new(Weather::FAIR), Prng::new(seed));
            network.partition(&[1, 2, 3], &mut random);
            let pairs = [(1, 2), (1, 3), (2, 3), (2, 1), (3, 1), (3, 2)];
            assert!(
                pairs.iter().any(|(a, b)| network.is_cut(*a, *b)),
                "seed {seed}"
            );
        }
    }
}
