//! `region split | merge | transfer-leader | add-peer | remove-peer | move`: orders to the placement driver.
//!
//! An order becomes an operator there, with steps. Without `--wait` the command ends once it is
//! admitted; with it the steps are shown on standard error as they begin, and the last line says
//! what is true then, or why it is not. What placement refuses is told in its own words.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tinykv_keys::RoutingKey;
use tinykv_proto::placement::add_operator_request::Action;
use tinykv_proto::placement::{
    AddOperatorRequest, AddPeerOn, ListOperatorsRequest, MergeInto, MovePeer, RemovePeerFrom,
    SplitAtKeys, TransferLeaderTo,
};
use tokio::time::{Instant, sleep};

use crate::output::{self, Output};
use crate::placement::{Asked, Link, refused};
use crate::status::{Operator, Region, overview_with_regions};

use super::{Failure, Global, operator};

/// How often an operator is looked at.
const POLL: Duration = Duration::from_millis(100);

/// Which region an order is for.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// The region, by its id
    #[arg(value_name = "REGION")]
    id: Option<u64>,
    /// The region that holds this key, as `--format` says
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

/// Whether to wait for the end.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Waiting {
    /// Wait until it is done and show the steps; --timeout says how long
    #[arg(long)]
    wait: bool,
}

/// Flags of `region split`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
The region keeps its id and the keys below the first KEY. Without --region it is the one that holds \
the first KEY; with --region and without KEY it is cut in the middle.")]
pub(crate) struct Split {
    /// First key of each new region, as `--format` says, in ascending order
    #[arg(value_name = "KEY", required_unless_present = "region")]
    keys: Vec<String>,
    /// The region to be split
    #[arg(long, value_name = "ID")]
    region: Option<u64>,
    #[command(flatten)]
    waiting: Waiting,
}

/// Flags of `region merge`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
The peers of SOURCE come to the stores of TARGET first. Then TARGET takes in its keys, and SOURCE is \
gone for good. Reads and writes of both go on, but for a moment while SOURCE is frozen.")]
pub(crate) struct Merge {
    /// The region that goes
    #[arg(value_name = "SOURCE")]
    source: u64,
    /// The region beside it that takes it in
    #[arg(value_name = "TARGET")]
    target: u64,
    #[command(flatten)]
    waiting: Waiting,
}

/// Flags of `region transfer-leader`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TransferLeader {
    #[command(flatten)]
    which: Which,
    /// The store whose peer is to lead
    #[arg(long, value_name = "STORE")]
    to: u64,
    #[command(flatten)]
    waiting: Waiting,
}

/// Flags of `region add-peer` and `region remove-peer`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct OnePeer {
    #[command(flatten)]
    which: Which,
    /// The store of the peer
    #[arg(long, value_name = "STORE")]
    store: u64,
    #[command(flatten)]
    waiting: Waiting,
}

/// Flags of `region move`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Move {
    #[command(flatten)]
    which: Which,
    /// The store that has the peer
    #[arg(long, value_name = "STORE")]
    from: u64,
    /// The store that is to have it
    #[arg(long, value_name = "STORE")]
    to: u64,
    #[command(flatten)]
    waiting: Waiting,
}

/// What is printed when an order was waited for.
#[derive(Debug, Serialize)]
struct Done<'a> {
    operator: &'a Operator,
    /// The region as it is now; of a split all its parts.
    regions: &'a [Region],
}

impl Split {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let keys = self
            .keys
            .iter()
            .map(|text| {
                let key = global.key(text)?;
                Ok(Bytes::copy_from_slice(
                    RoutingKey::cut_before_raw(&key).as_bytes(),
                ))
            })
            .collect::<Result<Vec<Bytes>, Failure>>()?;
        let request = AddOperatorRequest {
            region_id: self.region.unwrap_or_default(),
            key: keys.first().cloned().unwrap_or_default(),
            action: Some(Action::Split(SplitAtKeys { keys })),
            ..AddOperatorRequest::default()
        };
        give(global, request, self.waiting).await
    }
}

impl Merge {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let target_region_id = self.target;
        let request = AddOperatorRequest {
            region_id: self.source,
            action: Some(Action::Merge(MergeInto { target_region_id })),
            ..AddOperatorRequest::default()
        };
        give(global, request, self.waiting).await
    }
}

impl TransferLeader {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let store_id = self.to;
        let action = Action::TransferLeader(TransferLeaderTo { store_id });
        self.which.give(global, action, self.waiting).await
    }
}

impl OnePeer {
    pub(super) async fn add(self, global: &Global) -> Result<(), Failure> {
        let store_id = self.store;
        let action = Action::AddPeer(AddPeerOn { store_id });
        self.which.give(global, action, self.waiting).await
    }

    pub(super) async fn remove(self, global: &Global) -> Result<(), Failure> {
        let store_id = self.store;
        let action = Action::RemovePeer(RemovePeerFrom { store_id });
        self.which.give(global, action, self.waiting).await
    }
}

impl Move {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let action = Action::MovePeer(MovePeer {
            from_store_id: self.from,
            to_store_id: self.to,
        });
        self.which.give(global, action, self.waiting).await
    }
}

impl Which {
    async fn give(self, global: &Global, action: Action, waiting: Waiting) -> Result<(), Failure> {
        let region_id = match (self.id, self.key) {
            (Some(id), _) => id,
            (None, key) => {
                let key = global.key(&key.unwrap_or_default())?;
                global.link().client().locate(key).await?.route.region.0
            }
        };
        let request = AddOperatorRequest {
            region_id,
            action: Some(action),
            ..AddOperatorRequest::default()
        };
        give(global, request, waiting).await
    }
}

/// Gives an order, and sees it through if that is wished.
async fn give(
    global: &Global,
    request: AddOperatorRequest,
    waiting: Waiting,
) -> Result<(), Failure> {
    let link = global.link();
    let answer = link
        .ask(Asked::Order, |mut client| {
            let request = request.clone();
            async move { client.add_operator(request).await }
        })
        .await?;
    refused(answer.header.as_ref())?;
    let begun = Operator::of(&answer.operator.unwrap_or_default());
    if !waiting.wait {
        match global.output() {
            Output::Json => output::json(&begun),
            Output::Table => output::line(&format!(
                "operator {} has begun: {} of region {}; see `operator list`",
                begun.id, begun.kind, begun.region_id
            )),
        }
        return Ok(());
    }
    let ended = see_through(&link, begun, global.timeout).await?;
    if ended.state != "success" {
        return Err(Failure::Refused(format!(
            "operator {} ({} of region {}) ended as {}: {}",
            ended.id, ended.kind, ended.region_id, ended.state, ended.outcome
        )));
    }
    let mut regions = overview_with_regions(&link).await?.region_list;
    let (id, parts) = match &request.action {
        Some(Action::Split(split)) => (ended.region_id, split.keys.len().max(1) + 1),
        Some(Action::Merge(merge)) => (merge.target_region_id, 1),
        _ => (ended.region_id, 1),
    };
    let first = regions
        .iter()
        .position(|region| region.id == id)
        .unwrap_or(regions.len());
    regions.drain(..first);
    regions.truncate(parts);
    match global.output() {
        Output::Json => output::json(&Done {
            operator: &ended,
            regions: &regions,
        }),
        Output::Table => output::line(&truth(&ended, &request.action, &regions)),
    }
    Ok(())
}

/// Waits for the end of an operator and shows its steps as they begin.
async fn see_through(
    link: &Link,
    begun: Operator,
    patience: Option<Duration>,
) -> Result<Operator, Failure> {
    let (began, id) = (Instant::now(), begun.id);
    let mut operator = begun;
    let mut shown = 0;
    loop {
        let is_running = operator.state == "running";
        let reached = match is_running {
            true => operator.step_index as usize + 1,
            false => operator.steps.len(),
        };
        let steps = operator.steps.iter().enumerate();
        for (at, step) in steps.take(reached).skip(shown) {
            eprintln!("step {} of {}: {step}", at + 1, operator.steps.len());
        }
        shown = shown.max(reached);
        if !is_running {
            return Ok(operator);
        }
        if patience.is_some_and(|patience| began.elapsed() >= patience) {
            return Err(Failure::Unreachable(format!(
                "operator {id} is not done after {:?}, at step {shown} of {}: {}; it goes on, see \
                 `operator list`",
                began.elapsed(),
                operator.steps.len(),
                operator.step
            )));
        }
        sleep(POLL).await;
        let request = ListOperatorsRequest {
            operator_id: id,
            with_ended: true,
            ..ListOperatorsRequest::default()
        };
        let unknown = |what: &str| {
            Failure::Unreachable(format!(
                "what became of operator {id} is not known ({what}); see `region show {}`",
                operator.region_id
            ))
        };
        operator = match operator::list(link, request).await {
            Ok(found) => found
                .into_iter()
                .next()
                .ok_or_else(|| unknown("it is not listed"))?,
            // A new leader of placement knows no operators of the old one.
            Err(Failure::Refused(sentence)) => return Err(unknown(&sentence)),
            Err(other) => return Err(other),
        };
    }
}

/// What is true now, one line.
fn truth(ended: &Operator, action: &Option<Action>, regions: &[Region]) -> String {
    let id = ended.region_id;
    let Some(region) = regions.first() else {
        return format!("region {id} is not known any more");
    };
    match (action, regions) {
        (Some(Action::Split(_)), [left, right]) => format!(
            "split region {id} success, left: {}, right: {}",
            left.id, right.id
        ),
        (Some(Action::Split(_)), parts) => {
            let ids: Vec<String> = parts.iter().map(|part| part.id.to_string()).collect();
            format!("split region {id} success, parts: {}", ids.join(", "))
        }
        (Some(Action::Merge(_)), _) => format!(
            "region {id} is merged into region {}, which is on stores {}",
            region.id,
            region.peers_line()
        ),
        (Some(Action::TransferLeader(_)), _) => {
            let leader = region.leader.as_ref();
            let from = leader.map_or("nowhere at the moment".to_owned(), |peer| {
                format!("store {}", peer.store_id)
            });
            format!("region {id} is led from {from}")
        }
        _ => format!("region {id} is on stores {}", region.peers_line()),
    }
}
