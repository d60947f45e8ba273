//! `check`: whether all replicas of each region hold the same.
//!
//! Region by region, in key order: the leader's store compares the replicas at one index of the log and
//! tells what each holds ([`verdict`]). Before each attempt the placement driver is asked anew where
//! the region is and who leads it, and the walk goes on where the region that was checked ended: splits,
//! merges and new leaders on the way leave no gap. What cannot be checked is tried again for a while,
//! then told as unchecked, and the walk goes on.

mod verdict;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tinykv_proto::check::check_client::CheckClient;
use tinykv_proto::check::{CheckRegionRequest, CheckRegionResponse, Refusal};
use tinykv_proto::metapb;
use tinykv_proto::placement::{OverviewRequest, OverviewResponse};
use tokio::time::{Instant, sleep};
use tonic::Request;
use tonic::transport::Endpoint;

use crate::placement::{Asked, Link, refused};
use crate::status::overview_with_regions;

use super::{Failure, Global};
use verdict::Verdict;

/// Time for one region when nothing is said: its data is read slowly, so as not to disturb.
const REGION_TIME: Duration = Duration::from_secs(120);
/// How long a store may take to be connected to.
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// So long it is tried to get a region checked that moves, or whose store is busy.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// Flags of `check`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Every replica is summed up at the same index of the region's log, in the background: reads and writes \
go on. --timeout is the time for one region [default: 120]. Exit codes: 0 all replicas are equal; 1 some \
differ, or could not be checked; 2 unreachable.")]
pub(crate) struct Check {
    /// The regions, by their ids; without any: all
    #[arg(
        value_name = "REGION",
        value_parser = clap::value_parser!(u64).range(1..),
        conflicts_with_all = ["all", "from", "to"]
    )]
    ids: Vec<u64>,
    /// All regions
    #[arg(long, conflicts_with_all = ["from", "to"])]
    all: bool,
    /// From the region on that holds this key, as `--format` says
    #[arg(long, value_name = "KEY")]
    from: Option<String>,
    /// Only regions with keys before this one
    #[arg(long, value_name = "KEY")]
    to: Option<String>,
}

/// A region as it stands now, and where it is led.
struct Place {
    region: metapb::Region,
    /// `None` while nobody leads.
    leader: Option<String>,
}

impl Check {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let mut found = Vec::new();
        let walked = self.walk(global, &mut found).await;
        // What was found until then is told, however it ended.
        if !found.is_empty() || walked.is_ok() {
            verdict::print(global.output(), &found);
        }
        walked?;
        match found.iter().all(Verdict::is_equal) {
            true => Ok(()),
            false => Err(Failure::Quiet),
        }
    }

    async fn walk(&self, global: &Global, found: &mut Vec<Verdict>) -> Result<(), Failure> {
        let link = global.link();
        if !self.ids.is_empty() {
            for (id, start) in starts(&link, &self.ids).await? {
                found.push(check(global, &link, &start, Some(id)).await?.0);
            }
            return Ok(());
        }
        let key = |text: &Option<String>| text.as_deref().map(|key| global.key(key)).transpose();
        let (from, to) = (key(&self.from)?.unwrap_or_default(), key(&self.to)?);
        if to.as_ref().is_some_and(|to| *to <= from) {
            let sentence = "no key lies between these; give a --from that lies before --to";
            return Err(Failure::Refused(sentence.to_owned()));
        }
        let mut start = from;
        loop {
            let (verdict, end) = check(global, &link, &start, None).await?;
            found.push(verdict);
            if end.is_empty() || to.as_ref().is_some_and(|to| *to <= end) {
                return Ok(());
            }
            start = end;
        }
    }
}

/// Where regions begin; all must be known before anything is checked.
async fn starts(link: &Link, ids: &[u64]) -> Result<Vec<(u64, Bytes)>, Failure> {
    let regions = overview_with_regions(link).await?.region_list;
    let start = |id: &u64| {
        let region = regions.iter().find(|region| region.id == *id);
        let missing = || Failure::Refused(format!("there is no region {id}; see `region list`"));
        Ok((*id, region.ok_or_else(missing)?.start.clone()))
    };
    ids.iter().map(start).collect()
}

/// Checks the region that holds a routing key, which must be the one that is wanted; and where it ends.
async fn check(
    global: &Global,
    link: &Link,
    start: &Bytes,
    wanted: Option<u64>,
) -> Result<(Verdict, Bytes), Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        let Place { region, leader } = place(link, start).await?;
        if let Some(id) = wanted
            && id != region.id
        {
            let problem = format!("it is gone: its keys belong to region {} now", region.id);
            return Ok((Verdict::unchecked(id, problem), region.end_key));
        }
        let answer = match leader {
            None => Err("nobody leads it".to_owned()),
            Some(address) => ask(global, &address, region.id).await,
        };
        let problem = match answer {
            Ok(answer) if answer.refusal() == Refusal::None => {
                let end = answer.end_key.clone();
                return Ok((Verdict::of(region.id, answer), end));
            }
            Ok(refused) => refused.error,
            Err(problem) => problem,
        };
        if Instant::now() >= until {
            return Ok((Verdict::unchecked(region.id, problem), region.end_key));
        }
        sleep(PAUSE).await;
    }
}

async fn place(link: &Link, start: &Bytes) -> Result<Place, Failure> {
    let answer = link
        .ask(Asked::Question, |mut client| {
            let request = OverviewRequest {
                with_regions: true,
                start_key: start.clone(),
                limit: 1,
                ..OverviewRequest::default()
            };
            async move { client.overview(request).await }
        })
        .await?;
    refused(answer.header.as_ref())?;
    let OverviewResponse {
        stores, regions, ..
    } = answer;
    let stores = stores.into_iter().filter_map(|known| known.store);
    let addresses: BTreeMap<u64, String> = stores.map(|store| (store.id, store.address)).collect();
    let first = regions.into_iter().next();
    let first = first.and_then(|known| Some((known.region?, known.leader)));
    let (region, leader) = first.ok_or_else(|| {
        let sentence = "the placement driver does not know all regions yet; ask again";
        Failure::Refused(sentence.to_owned())
    })?;
    let leader = leader.and_then(|leader| addresses.get(&leader.store_id).cloned());
    Ok(Place { region, leader })
}

async fn ask(global: &Global, address: &str, region: u64) -> Result<CheckRegionResponse, String> {
    let unreachable = |error: tonic::transport::Error| {
        format!("its leader's store at {address} cannot be reached: {error}")
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(unreachable)?
        .connect_timeout(CONNECT_TIME);
    let channel = endpoint.connect().await.map_err(unreachable)?;
    let mut request = Request::new(CheckRegionRequest { region_id: region });
    request.set_timeout(global.timeout.unwrap_or(REGION_TIME));
    let answer = CheckClient::new(channel).check_region(request).await;
    let answer = answer.map_err(|status| status.message().to_owned())?;
    Ok(answer.into_inner())
}
