//! What the world can do to any process of the cluster, store or member of placement.

use std::time::Duration;

use bytes::Bytes;
use tinykv_env::CrashMode;
use tinykv_raft::Willingness;
use tinykv_replica::{Event, Heartbeat, SnapshotSend, StateMachine, StoreId};

use super::happening::Context;
use super::host::{Host, Hurt, Trouble, Work};
use super::letter::Letter;

/// A process and its machine.
pub(super) trait Process {
    /// Counts starts and stops.
    fn life(&self) -> u64;
    fn is_running(&self) -> bool;
    fn start(&mut self, context: &mut Context) -> Result<(), Trouble>;
    fn crash(&mut self, mode: CrashMode);
    /// Arms a crash in the middle of an I/O some way ahead.
    fn crash_at_io(&mut self, ios: u64, mode: CrashMode);
    /// What the disk keeps when the armed crash point is reached.
    fn crash_mode(&self) -> CrashMode;
    fn paused_until(&self) -> Duration;
    fn pause_until(&mut self, until: Duration);
    fn set_sync_time(&mut self, time: Duration);
    fn set_wall_offset(&mut self, offset_ms: i64);
    /// No more pauses, no armed crash, a good disk, a wall clock that is right.
    fn mend(&mut self);
    /// Limits the disk to what is on it and so many bytes more.
    fn fill_disk(&mut self, slack: u64);
    /// There is space again.
    fn free_disk(&mut self);
    /// One of the next syncs will fail.
    fn fail_sync(&mut self, syncs: u64);
    /// The process ends because a sync failed, and leaves a mark.
    fn note_failed_sync(&mut self);
    /// A failed sync, not answered by the end of the process.
    fn ignores_failed_sync(&self) -> bool;
    /// Where in its log a bit can turn over below its watermark.
    fn damage_log(&mut self, place: u64) -> bool;
    fn work(&mut self, context: &mut Context, work: Work) -> Result<(), Trouble>;
    fn post(&mut self, context: &mut Context, event: Event);
    /// Whether it wants to lead, in this life and those to come.
    fn set_willingness(&mut self, context: &mut Context, willingness: Willingness);
    /// Whether it leads any group.
    fn leads(&self) -> bool;
    /// A heartbeat of another store arrives.
    fn hear(&mut self, context: &mut Context, from: StoreId, heartbeat: Heartbeat);
    /// The connection to a process broke.
    fn on_unreachable(&mut self, context: &mut Context, gone: StoreId);
    /// Bytes of a peer arrive.
    fn deliver(&mut self, context: &mut Context, letter: &Letter);
    fn receive_snapshot(
        &mut self,
        context: &mut Context,
        send: SnapshotSend,
        data: &[(Bytes, Bytes)],
    ) -> Result<bool, Trouble>;
}

/// A process that is a [`Host`] with something on top.
pub(super) trait OnHost {
    /// What it replicates.
    type Machine: StateMachine;
    fn host(&self) -> &Host<Self::Machine>;
    fn host_mut(&mut self) -> &mut Host<Self::Machine>;
    fn begin(&mut self, context: &mut Context) -> Result<(), Trouble>;
    fn carry_out(&mut self, context: &mut Context, work: Work) -> Result<(), Trouble>;
}

impl<P: OnHost> Process for P {
    fn life(&self) -> u64 {
        self.host().life
    }

    fn is_running(&self) -> bool {
        self.host().running.is_some()
    }

    fn start(&mut self, context: &mut Context) -> Result<(), Trouble> {
        self.begin(context)
    }

    fn crash(&mut self, mode: CrashMode) {
        self.host_mut().crash(mode);
    }

    fn crash_at_io(&mut self, ios: u64, mode: CrashMode) {
        self.host_mut().crash_at_io(ios, mode);
    }

    fn crash_mode(&self) -> CrashMode {
        self.host().crash_mode
    }

    fn paused_until(&self) -> Duration {
        self.host().paused_until
    }

    fn pause_until(&mut self, until: Duration) {
        let host = self.host_mut();
        host.paused_until = host.paused_until.max(until);
    }

    fn set_sync_time(&mut self, time: Duration) {
        self.host_mut().sync_time = time;
    }

    fn set_wall_offset(&mut self, offset_ms: i64) {
        self.host_mut().clock.set_wall_offset(offset_ms);
    }

    fn mend(&mut self) {
        let host = self.host_mut();
        host.paused_until = Duration::ZERO;
        host.sync_time = Duration::from_millis(1);
        host.mend();
        host.env.set_capacity(None);
        host.disarm_sync();
        host.clock.set_wall_offset(0);
    }

    fn fill_disk(&mut self, slack: u64) {
        self.host_mut().fill_disk(slack);
    }

    fn free_disk(&mut self) {
        self.host_mut().env.set_capacity(None);
    }

    fn fail_sync(&mut self, syncs: u64) {
        self.host_mut().fail_sync(syncs);
    }

    fn note_failed_sync(&mut self) {
        self.host_mut().hurt = Some(Hurt::FailedSync);
    }

    fn ignores_failed_sync(&self) -> bool {
        let host = self.host();
        host.running.is_some() && host.sync_has_failed()
    }

    fn damage_log(&mut self, place: u64) -> bool {
        self.host_mut().damage_log(place)
    }

    fn work(&mut self, context: &mut Context, work: Work) -> Result<(), Trouble> {
        self.carry_out(context, work)
    }

    fn post(&mut self, context: &mut Context, event: Event) {
        self.host_mut().post(context, event);
    }

    fn set_willingness(&mut self, context: &mut Context, willingness: Willingness) {
        let host = self.host_mut();
        host.config.willingness = willingness;
        host.post(context, Event::SetWillingness(willingness));
    }

    fn leads(&self) -> bool {
        let running = self.host().running.as_ref();
        running.is_some_and(|running| !running.leads.is_empty())
    }

    fn hear(&mut self, context: &mut Context, from: StoreId, heartbeat: Heartbeat) {
        self.host_mut().hear(context, from, heartbeat);
    }

    fn on_unreachable(&mut self, context: &mut Context, gone: StoreId) {
        self.host_mut().on_unreachable(context, gone);
    }

    fn deliver(&mut self, context: &mut Context, letter: &Letter) {
        self.host_mut().deliver(context, letter);
    }

    fn receive_snapshot(
        &mut self,
        context: &mut Context,
        send: SnapshotSend,
        data: &[(Bytes, Bytes)],
    ) -> Result<bool, Trouble> {
        self.host_mut().receive_snapshot(context, send, data)
    }
}
