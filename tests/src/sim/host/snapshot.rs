//! Snapshots are taken, sent, kept and installed; dead peers lose their data.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use tinykv_engine::EngineError;
use tinykv_lsm::{Ingest, OriginId, WriteBatch};
use tinykv_node::transport::SnapshotHeader;
use tinykv_raft::{GroupId, LogIndex};
use tinykv_replica::{
    Destroy, Event, InstallRecord, KeyRange, ReceivedSnapshot, RegionState, SnapshotHandle,
    SnapshotInstall, SnapshotSend, StateMachine,
};

use super::super::happening::Context;
use super::super::letter::through_the_wire;
use super::reader::pairs;
use super::work::SPACE_WAIT;
use super::{Host, Job, Trouble, Work};

const SNAPSHOTS: &str = "snapshots";

impl<S: StateMachine> Host<S> {
    pub(super) fn send_snapshot(
        &mut self,
        context: &mut Context,
        send: SnapshotSend,
    ) -> Result<(), Trouble> {
        context.report.probe("snapshot_sent");
        let Some(running) = &self.running else {
            return Ok(());
        };
        let snapshot = running.engine.lsm().snapshot();
        let mut data = Vec::new();
        for range in &send.ranges {
            data.extend(pairs(&snapshot, range).map_err(|error| self.trouble(&error))?);
        }
        data.sort();
        let to = send.message.to;
        if self.destination(to.store).is_some() {
            context.send_snapshot(self.id, self.life, send, data);
        } else {
            context.snapshot_sent(self.id, self.life, send.message.group, to.id, false);
        }
        Ok(())
    }

    /// A snapshot has come over the network; whether it is here, whole and durably.
    pub(in crate::sim) fn receive_snapshot(
        &mut self,
        context: &mut Context,
        send: SnapshotSend,
        data: &[(Bytes, Bytes)],
    ) -> Result<bool, Trouble> {
        let Some(running) = &mut self.running else {
            return Ok(false);
        };
        let handle = SnapshotHandle(running.next_snapshot);
        running.next_snapshot += 1;
        if let Err(error) = self.keep_snapshot(handle, data) {
            return match self.engine_trouble(&error) {
                Some(trouble) => Err(trouble),
                None => {
                    context.report.probe("snapshot_without_space");
                    Ok(false)
                }
            };
        }
        let header = through_the_wire(&SnapshotHeader {
            message: send.message,
            state: RegionState::clone(&send.state),
        });
        let received = ReceivedSnapshot {
            message: header.message,
            state: header.state,
            handle,
        };
        self.post(context, Event::SnapshotReceived(Box::new(received)));
        Ok(true)
    }

    fn keep_snapshot(
        &self,
        handle: SnapshotHandle,
        pairs: &[(Bytes, Bytes)],
    ) -> Result<(), EngineError> {
        let env = self.env.shared();
        let dir = Path::new(SNAPSHOTS);
        env.create_dir_all(dir)?;
        env.sync_dir(Path::new(""))?;
        let path = snapshot_path(handle, "data");
        let mut writer = tinykv_lsm::SstWriter::create(&env, &path, &self.options.lsm)?;
        for (key, value) in pairs {
            writer.add(key, value)?;
        }
        if writer.finish()?.is_none() && env.exists(&path)? {
            env.remove_file(&path)?;
        }
        env.sync_dir(dir)?;
        Ok(())
    }

    /// A job of the pool: some time after the shard asked for it.
    pub(super) fn install(
        &mut self,
        context: &mut Context,
        install: SnapshotInstall,
    ) -> Result<(), Trouble> {
        let again = install.clone();
        let SnapshotInstall {
            group,
            peer,
            snapshot,
            state,
            drop,
            handle,
        } = install;
        let result = self
            .ingest_of(group, snapshot.index, &state, &drop, handle)
            .and_then(|ingest| match &self.running {
                Some(running) => running.engine.install(group, snapshot, &ingest),
                None => Ok(()),
            });
        if let Err(error) = result {
            return match self.engine_trouble(&error) {
                Some(trouble) => Err(trouble),
                None => {
                    let job = Job::Install(Box::new(again));
                    context.after(SPACE_WAIT, self.id, self.life, Work::Job(job));
                    Ok(())
                }
            };
        }
        context.report.probe("snapshot_installed");
        let event = Event::SnapshotInstalled {
            group,
            peer: peer.id,
            snapshot,
            result: Ok(()),
        };
        self.post(context, event);
        Ok(())
    }

    /// What installing a received snapshot changes in the tree, from the log's record of it.
    pub(super) fn ingest(
        &self,
        group: GroupId,
        index: LogIndex,
        record: &InstallRecord,
    ) -> Result<Ingest, EngineError> {
        let drop: Vec<KeyRange> = record.dropped().flat_map(S::ranges).collect();
        self.ingest_of(group, index, &record.after, &drop, record.handle)
    }

    fn ingest_of(
        &self,
        group: GroupId,
        index: LogIndex,
        state: &RegionState,
        drop: &[KeyRange],
        handle: SnapshotHandle,
    ) -> Result<Ingest, EngineError> {
        let env = self.env.shared();
        let meta = snapshot_path(handle, "meta");
        if env.exists(&meta)? {
            env.remove_file(&meta)?;
        }
        let mut writer = tinykv_lsm::SstWriter::create(&env, &meta, &self.options.lsm)?;
        writer.add(&S::state_key(group), &state.encode())?;
        writer.finish()?;
        env.sync_dir(Path::new(SNAPSHOTS))?;
        let mut files = vec![meta];
        let data = snapshot_path(handle, "data");
        if env.exists(&data)? {
            files.push(data);
        }
        Ok(Ingest {
            drop: drop.iter().map(bounds).collect(),
            files,
            applied: Some((OriginId(group.0), index.0)),
        })
    }

    /// A job of the pool, like [`Host::install`].
    pub(super) fn destroy(
        &mut self,
        context: &mut Context,
        destroy: &Destroy,
    ) -> Result<(), Trouble> {
        let mut batch = WriteBatch::new();
        batch.delete(S::state_key(destroy.group));
        batch.forget(OriginId(destroy.group.0));
        let drop = destroy.drop.iter().map(bounds).collect();
        let done = self.engine(|running| {
            running.engine.write(&batch)?;
            let lsm = running.engine.lsm();
            lsm.ingest(&Ingest {
                drop,
                files: Vec::new(),
                applied: None,
            })?;
            lsm.flush()?;
            Ok(())
        })?;
        if !done {
            let job = Job::Destroy(Box::new(destroy.clone()));
            context.after(SPACE_WAIT, self.id, self.life, Work::Job(job));
            return Ok(());
        }
        let event = Event::Destroyed {
            group: destroy.group,
            peer: destroy.peer,
        };
        self.post(context, event);
        Ok(())
    }
}

fn bounds(range: &KeyRange) -> (Bytes, Bytes) {
    (range.start.clone(), range.end.clone())
}

fn snapshot_path(handle: SnapshotHandle, what: &str) -> PathBuf {
    Path::new(SNAPSHOTS).join(format!("{:016x}.{what}", handle.0))
}
