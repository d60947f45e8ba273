//! Ids and timestamps drawn from placement, by the rules of its protocol.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tinykv_env::OsEnv;
use tinykv_proto::pdpb::pd_client::PdClient;
use tinykv_proto::pdpb::{AllocIdRequest, GetMembersRequest, RequestHeader, TsoRequest};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

/// How long one answer may take before another member is asked.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two tries when nobody answers.
const PAUSE: Duration = Duration::from_millis(10);

/// Bits of a timestamp below its milliseconds.
const LOGICAL_BITS: u32 = 18;

/// What was drawn.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Drawn {
    /// Ids, all different.
    pub ids: u64,
    /// Timestamps, each above the one before.
    pub timestamps: u64,
    /// Members that stopped answering.
    pub breaks: u64,
    /// The longest time without a timestamp, in milliseconds.
    pub longest_gap_ms: u64,
    /// How far a timestamp was ahead of this machine's wall clock at most, in milliseconds.
    pub ahead_ms_max: u64,
}

/// A task that draws.
pub struct Drawing {
    stop: Arc<AtomicBool>,
    ahead_ms_max: Arc<AtomicU64>,
    task: JoinSet<Result<Drawn, String>>,
}

impl Drawing {
    /// Begins to draw, from whichever member leads, with so long a pause after each draw.
    pub fn start(placements: &[String], pause: Duration) -> Drawing {
        let stop = Arc::new(AtomicBool::new(false));
        let ahead_ms_max = Arc::new(AtomicU64::new(0));
        let drawer = Drawer {
            stop: Arc::clone(&stop),
            ahead_ms_max: Arc::clone(&ahead_ms_max),
            pause,
            ids: BTreeSet::new(),
            last: 0,
            since: Instant::now(),
            drawn: Drawn::default(),
        };
        let mut task = JoinSet::new();
        task.spawn(drawer.draw(placements.to_vec()));
        Drawing {
            stop,
            ahead_ms_max,
            task,
        }
    }

    /// How far a timestamp was ahead of this machine's wall clock at most, so far.
    pub fn ahead_ms_max(&self) -> u64 {
        self.ahead_ms_max.load(Ordering::Relaxed)
    }

    /// Ends it.
    ///
    /// # Errors
    /// An id or timestamp repeated or went back, or nothing was drawn.
    pub async fn stop(mut self) -> Result<Drawn, String> {
        self.stop.store(true, Ordering::Relaxed);
        let drawn = self.task.join_next().await;
        let drawn = drawn.ok_or("nobody draws")?;
        let drawn = drawn.map_err(|error| error.to_string())??;
        match drawn.ids.min(drawn.timestamps) {
            0 => Err(format!("nothing was drawn: {drawn:?}")),
            _ => Ok(drawn),
        }
    }
}

struct Drawer {
    stop: Arc<AtomicBool>,
    ahead_ms_max: Arc<AtomicU64>,
    pause: Duration,
    ids: BTreeSet<u64>,
    /// The last timestamp.
    last: u64,
    /// When that was.
    since: Instant,
    drawn: Drawn,
}

impl Drawer {
    async fn draw(mut self, members: Vec<String>) -> Result<Drawn, String> {
        let mut members = members.iter().cycle();
        while !self.stopped() {
            let Some(member) = members.next() else {
                return Err("there are no members".to_owned());
            };
            if let Some((client, header)) = connect(member).await {
                self.draw_from(client, header).await?;
                self.drawn.breaks += 1;
            }
            sleep(PAUSE).await;
        }
        Ok(self.drawn)
    }

    /// Draws until the member answers no more.
    async fn draw_from(
        &mut self,
        mut client: PdClient<Channel>,
        header: RequestHeader,
    ) -> Result<(), String> {
        let request = TsoRequest {
            header: Some(header.clone()),
            count: 1,
            ..TsoRequest::default()
        };
        let stop = Arc::clone(&self.stop);
        // One request after the other: each is sent once the answer to the one before is there.
        let (send, receive) = tokio::sync::mpsc::channel(1);
        let requests = tokio_stream::wrappers::ReceiverStream::new(receive);
        if send.send(request.clone()).await.is_err() {
            return Ok(());
        }
        let Ok(Ok(answers)) = timeout(ANSWER_TIMEOUT, client.tso(requests)).await else {
            return Ok(());
        };
        let mut answers = answers.into_inner();
        while !stop.load(Ordering::Relaxed) {
            let Ok(Ok(Some(answer))) = timeout(ANSWER_TIMEOUT, answers.message()).await else {
                return Ok(());
            };
            let refused = answer.header.is_none_or(|header| header.error.is_some());
            let (false, Some(timestamp)) = (refused, answer.timestamp) else {
                return Ok(());
            };
            self.on_timestamp(timestamp.physical, timestamp.logical)?;
            let ids = AllocIdRequest {
                header: Some(header.clone()),
                ..AllocIdRequest::default()
            };
            let Ok(Ok(answer)) = timeout(ANSWER_TIMEOUT, client.alloc_id(ids)).await else {
                return Ok(());
            };
            let answer = answer.into_inner();
            if answer.header.is_none_or(|header| header.error.is_some()) {
                return Ok(());
            }
            self.on_id(answer.id)?;
            if !self.pause.is_zero() {
                sleep(self.pause).await;
            }
            if send.send(request.clone()).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn on_timestamp(&mut self, physical: i64, logical: i64) -> Result<(), String> {
        let timestamp = ((physical as u64) << LOGICAL_BITS) | logical as u64;
        if timestamp <= self.last {
            let last = self.last;
            return Err(format!("timestamp {timestamp} was drawn after {last}"));
        }
        let ahead = (physical as u64).saturating_sub(wall_clock_ms());
        self.drawn.ahead_ms_max = self.drawn.ahead_ms_max.max(ahead);
        self.ahead_ms_max.fetch_max(ahead, Ordering::Relaxed);
        let gap = self.since.elapsed().as_millis() as u64;
        self.last = timestamp;
        self.since = Instant::now();
        self.drawn.longest_gap_ms = self.drawn.longest_gap_ms.max(gap);
        self.drawn.timestamps += 1;
        Ok(())
    }

    fn on_id(&mut self, id: u64) -> Result<(), String> {
        if !self.ids.insert(id) {
            return Err(format!("id {id} was drawn twice"));
        }
        self.drawn.ids += 1;
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn wall_clock_ms() -> u64 {
    OsEnv::shared().wall_clock().as_millis() as u64
}

/// A client of a member, and the header that its requests carry.
async fn connect(member: &str) -> Option<(PdClient<Channel>, RequestHeader)> {
    let connected = PdClient::connect(format!("http://{member}"));
    let mut client = timeout(ANSWER_TIMEOUT, connected).await.ok()?.ok()?;
    let members = client.get_members(GetMembersRequest::default());
    let members = timeout(ANSWER_TIMEOUT, members).await.ok()?.ok()?;
    let cluster_id = members.into_inner().header?.cluster_id;
    let header = RequestHeader {
        cluster_id,
        ..RequestHeader::default()
    };
    Some((client, header))
}
