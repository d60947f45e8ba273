//! What a serving leader makes of questions and reports.

use tinykv_keys as keys;
use tinykv_placement::convert::{
    manual_from_proto, region_from_proto, report_from_proto, stats_from_proto,
};
use tinykv_placement::coordinator::Heard;
use tinykv_placement::view::RegionReport;
use tinykv_proto::pdpb;
use tinykv_raft::{GroupId, Term};
use tinykv_replica::{Peer, Region};

use super::super::happening::{Asker, Context};
use super::desk::{Purpose, Wish};
use super::handing_out::{Drawing, Taker};
use super::member::Member;
use super::{Question, Reply, located};

impl Member {
    pub(super) fn answer(
        &mut self,
        context: &mut Context,
        from: Asker,
        call: u64,
        question: Question,
    ) -> Result<(), String> {
        let Some(term) = self.desk.serving.as_ref().map(|serving| serving.term) else {
            return Ok(());
        };
        let id = self.host.id;
        match question {
            Question::StoreHeartbeat(request) => {
                let stats = stats_from_proto(&request);
                let now = self.host.local(context);
                let state = self.state.read();
                if let (Asker::Store { id: store, .. }, Some(serving)) =
                    (from, &mut self.desk.serving)
                {
                    let coordinator = &mut serving.coordinator;
                    coordinator.on_store_heartbeat(store, stats, state.settings(), now);
                }
                let reply = Reply::StoreHeartbeat(pdpb::StoreHeartbeatResponse {
                    wanted_replicas: state.replicas_wanted(),
                    ..pdpb::StoreHeartbeatResponse::default()
                });
                context.tell(id, from, call, reply);
            }
            Question::RegionHeartbeat(request) => {
                let report = Box::new(report_from_proto(&request)?);
                self.on_heartbeat(context, term, report)?;
            }
            Question::SplitIds(request) => {
                let region = region_from_proto(&request.region.unwrap_or_default())?;
                if self.state.read().check_split(&region).is_ok() {
                    let (children, peers) = (request.split_count, region.peers.len());
                    let taker = Taker::Split {
                        from,
                        call,
                        children,
                        peers,
                    };
                    self.take_ids(context, taker)?;
                }
            }
            Question::FreshId(_) => self.take_ids(context, Taker::Store(from))?,
            Question::Split(request) => {
                let parts = request.regions.iter().map(region_from_proto);
                let parts: Vec<Region> = parts.collect::<Result<_, _>>()?;
                let update = self.state.read().route_update(&parts);
                match update {
                    // Outdated: what is known is newer.
                    Err(_) => {}
                    Ok(None) => self.on_split(context, term, &parts, &[])?,
                    Ok(Some(command)) => {
                        let purpose = Purpose::Split { term, parts };
                        self.propose(context, purpose, &command, Some(term));
                    }
                }
            }
            Question::Locate(request) => {
                let found = self.locate(&request.region_key);
                if let Some((region, _)) = &found {
                    context.invariants.on_shown(region)?;
                }
                let reply = Reply::Region(located(found, keys::Asker::Raw));
                context.tell(id, from, call, reply);
            }
            Question::Region(request) => {
                let group = GroupId(request.region_id);
                let region = self.state.read().routes().region(group).cloned();
                let found = region.map(|region| (region, None));
                let reply = Reply::Region(located(found, keys::Asker::Stored));
                context.tell(id, from, call, reply);
            }
            Question::Timestamps(request) => {
                let count = request.count;
                self.draw(context, Drawing { from, count, call })?;
            }
            Question::Command(command) => {
                let purpose = Purpose::Command { term, from };
                self.propose(context, purpose, &command, Some(term));
            }
            Question::ChangeMembers(request) => {
                self.change_members(context, term, from, call, request)?;
            }
            Question::Join(request) => {
                let joined = self.admit(&request);
                context.tell(id, from, call, Reply::Joined(joined));
            }
            // Answered by whoever is asked, and while it knows no leader by nobody.
            Question::Members(_) | Question::Register(_) => {}
            Question::Operate(request) => {
                let region = GroupId(request.region_id);
                let action = request.action.ok_or("a wish without an action")?;
                let wish = manual_from_proto(action);
                let wish = Box::new(Wish { region, wish });
                self.take_ids(context, Taker::Wish(wish))?;
            }
        }
        Ok(())
    }

    fn locate(&self, key: &[u8]) -> Option<(Region, Option<Peer>)> {
        let state = self.state.read();
        let region = state.routes().at(key)?;
        let view = self.desk.serving.as_ref()?.coordinator.view();
        let known = view.regions.get(&region.id);
        let leader = known.and_then(|known| known.leader);
        Some((region.clone(), leader))
    }

    /// A route that is news goes through the log first.
    fn on_heartbeat(
        &mut self,
        context: &mut Context,
        term: Term,
        report: Box<RegionReport>,
    ) -> Result<(), String> {
        let regions = [report.region.clone()];
        let update = self.state.read().route_update(&regions);
        match update {
            Err(_) => {
                context.report.probe("outdated_heartbeat_refused");
                Ok(())
            }
            Ok(None) => self.on_report(context, term, *report, &[]),
            Ok(Some(command)) => {
                let purpose = Purpose::Route { term, report };
                self.propose(context, purpose, &command, Some(term));
                Ok(())
            }
        }
    }

    /// The description in the report is in the routes by now.
    pub(super) fn on_report(
        &mut self,
        context: &mut Context,
        term: Term,
        report: RegionReport,
        removed: &[GroupId],
    ) -> Result<(), String> {
        let now = self.host.local(context);
        let state = self.state.clone();
        let Some(leadership) = self.in_term(term) else {
            return Ok(());
        };
        let coordinator = &mut leadership.coordinator;
        let heard = coordinator.on_region_heartbeat(report, removed, &state.read(), now);
        match heard {
            Ok(Heard { orders, .. }) => self.order(context, orders)?,
            Err(_) => context
                .report
                .probe("heartbeat_of_a_deposed_leader_refused"),
        }
        self.count_ended(context);
        Ok(())
    }

    /// All parts of a split are in the routes by now.
    pub(super) fn on_split(
        &mut self,
        context: &mut Context,
        term: Term,
        parts: &[Region],
        removed: &[GroupId],
    ) -> Result<(), String> {
        let now = self.host.local(context);
        let state = self.state.clone();
        let Some(leadership) = self.in_term(term) else {
            return Ok(());
        };
        let coordinator = &mut leadership.coordinator;
        let heard = coordinator.on_split(parts, removed, &state.read(), now);
        self.order(context, heard.orders)?;
        self.count_ended(context);
        Ok(())
    }
}
