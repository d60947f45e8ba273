//! The steps of a script.

use super::conditions::pattern_of;
use super::*;

/// So long that nothing ends by itself.
const NEVER_MS: u64 = 1 << 40;

impl Cluster {
    pub(super) fn play(&mut self, step: &str, planned: &mut Option<(GroupId, AdminAction)>) {
        if let Some((expected, step)) = step
            .strip_prefix("refuse ")
            .and_then(|it| it.split_once(": "))
        {
            return self.play_refused(expected, step, planned);
        }
        let words: Vec<&str> = step.split_whitespace().collect();
        if let Some((group, action)) = self.action(&words, planned) {
            let leader = self.leader_store(group).expect("it is led");
            return self.administrate(leader, group, action);
        }
        match words[..] {
            ["stores", count] => self.add_stores(number(count), 1 << 20),
            ["stores", count, "short-logs"] => self.add_stores(number(count), 200),
            ["group", id, "on", ref homes @ ..] => {
                let homes: Vec<u64> = homes.iter().map(|it| number(it)).collect();
                self.founded = self.founded.max(number(id));
                self.found_group_on(group(id), &homes);
            }
            ["lead", id, "on", store] => self.make_leader(group(id), number(store)),
            ["put", key] => {
                let group = self.group_of(key).expect("somebody holds it");
                self.append_until_acked(group, key);
            }
            ["ask", key, "on", store] => self.ask_there(number(store), key, false),
            ["read", key, "on", store] => self.ask_there(number(store), key, true),
            ["plan", source, "into", target] => {
                let action = self.merge_action(group(source), group(target));
                *planned = Some((group(source), action));
            }
            ["destroy", id, "on", store] => self.tell_dead(number(store), group(id), false),
            ["forget", id, "on", store] => self.tell_dead(number(store), group(id), true),
            ["run", ms] => self.run_for(number(ms)),
            ["await", ref condition @ ..] => {
                self.until(step, |cluster| cluster.is_so(condition));
            }
            ["expect", ref condition @ ..] => {
                assert!(
                    self.is_so(condition),
                    "{step}: it is not\n{}",
                    self.picture()
                );
            }
            _ => self.play_fault(&words),
        }
    }

    fn play_fault(&mut self, words: &[&str]) {
        match *words {
            ["hold", ref pattern @ ..] => self.post.rule(Verdict::Hold, pattern_of(pattern)),
            ["copy", ref pattern @ ..] => self.post.rule(Verdict::Copy, pattern_of(pattern)),
            ["lose", ref pattern @ ..] => self.post.rule(Verdict::Lose, pattern_of(pattern)),
            ["lift", ref pattern @ ..] => self.post.lift(&pattern_of(pattern)),
            [
                "release" | "reverse" | "twice" | "next" | "last" | "replay" | "drop",
                ref pattern @ ..,
            ] => {
                self.deliver_held(words[0], pattern);
            }
            ["cut", from, "->", to] => {
                self.cut.insert((number(from), number(to)), u64::MAX);
            }
            ["cut", store] => {
                for other in 1..=self.stores.len() as u64 {
                    self.cut.insert((number(store), other), u64::MAX);
                    self.cut.insert((other, number(store)), u64::MAX);
                }
            }
            ["join"] => self.cut.clear(),
            ["deaf", store, "to", id] => {
                self.deaf.insert((number(store), group(id)));
            }
            ["hearing"] => self.deaf.clear(),
            ["withhold", store] => self.store(store).habits.sync_ms_max = NEVER_MS,
            ["sync-one", store] => {
                let first = self.store(store).wal.pending.front_mut();
                first.expect("something is under way").durable_at = 0;
            }
            ["sync", store] => sync(self.store(store)),
            ["stall", store] => self.store(store).habits.job_ms_max = NEVER_MS,
            ["work", store] => work(self.store(store)),
            ["crash", store, "losing"] => self.crash_keeping(number(store), 0),
            ["crash", store, "keeping", count] => self.crash_keeping(number(store), number(count)),
            ["restart", store] => {
                let now = self.now;
                self.down_until.insert(number(store), now);
                self.step();
            }
            ["pause", store] => self.store(store).paused_until = u64::MAX,
            ["resume", store] => self.store(store).paused_until = 0,
            _ => panic!("{words:?} is no step: they are documented in scripts.rs"),
        }
    }

    /// Administrative steps.
    fn action(
        &mut self,
        words: &[&str],
        planned: &mut Option<(GroupId, AdminAction)>,
    ) -> Option<(GroupId, AdminAction)> {
        match words {
            ["split", id, "at", rest @ ..] => {
                let middle = rest.iter().position(|word| *word == "into");
                let (keys, children) =
                    rest.split_at(middle.expect("split G at KEY.. into CHILD.."));
                Some((
                    group(id),
                    self.split_action(group(id), keys, &children[1..]),
                ))
            }
            ["merge", "planned"] => Some(planned.take().expect("it was planned")),
            ["merge", source, "into", target] => {
                let action = self.merge_action(group(source), group(target));
                Some((group(source), action))
            }
            ["change", id, steps @ ..] => {
                let region = self.region_of(group(id));
                let changes = steps.chunks(2).map(|step| {
                    let store = StoreId(number(step[1]));
                    let here = || region.peer_on(store).expect("it has a peer there").id;
                    match step[0] {
                        "add" => {
                            self.next_peer += 1;
                            PeerChange::AddLearner(Peer::learner(
                                PeerId(500 + self.next_peer),
                                store,
                            ))
                        }
                        "promote" => PeerChange::Promote(here()),
                        "demote" => PeerChange::Demote(here()),
                        "remove" => PeerChange::Remove(here()),
                        other => panic!("{other} is no change of membership"),
                    }
                });
                let changes = changes.collect();
                let epoch = region.epoch;
                Some((group(id), AdminAction::ChangePeers { epoch, changes }))
            }
            ["transfer", id, "to", store] => {
                let to = self.region_of(group(id)).peer_on(StoreId(number(store)));
                let to = to.map(|peer| peer.id);
                Some((group(id), AdminAction::TransferLeader { to }))
            }
            _ => None,
        }
    }

    fn split_action(&mut self, parent: GroupId, keys: &[&str], children: &[&str]) -> AdminAction {
        let region = self.region_of(parent);
        let ids = children.iter().map(|child| {
            let peers = region.peers.iter().map(|_| {
                self.next_peer += 1;
                PeerId(500 + self.next_peer)
            });
            SplitIds {
                peers: peers.collect(),
                region: group(child),
            }
        });
        AdminAction::Split {
            epoch: region.epoch,
            ids: ids.collect(),
            keys: keys
                .iter()
                .map(|key| Bytes::from((*key).to_owned()))
                .collect(),
        }
    }

    fn play_refused(
        &mut self,
        expected: &str,
        step: &str,
        planned: &mut Option<(GroupId, AdminAction)>,
    ) {
        let words: Vec<&str> = step.split_whitespace().collect();
        let (group, action) = self
            .action(&words, planned)
            .expect("an administrative step");
        let leader = self.leader_store(group).expect("it is led");
        let event = self.admin_event(leader, group, action);
        match self.answer(leader, event) {
            Some(Outcome::DefinitelyNot(refusal)) => {
                let said = format!("{refusal:?}");
                assert!(said.contains(expected), "{step}: {said}");
            }
            other => panic!("{step}: {other:?} is no refusal"),
        }
    }

    fn store(&mut self, word: &str) -> &mut Store {
        &mut self.stores[number(word) as usize - 1]
    }

    fn add_stores(&mut self, count: u64, log_bytes_max: u64) {
        for id in 1..=count {
            let habits = Habits {
                sync_ms_max: 1,
                job_ms_max: 0,
                notice_ms_max: 0,
                miss_one_in: 0,
                tail_max: 1_000,
                flush_one_in: if log_bytes_max < 1_000 { 3 } else { 50 },
                log_bytes_max,
                clock_rate: 1_000,
                hibernate_after: None,
            };
            self.stores.push(Store::new(StoreId(id), habits, id));
        }
    }

    fn make_leader(&mut self, group: GroupId, store: u64) {
        self.until("it is led", |cluster| cluster.leader_store(group).is_some());
        self.run_for(600);
        if self.leader_store(group) != Some(store) {
            self.hand_to(group, store);
        }
    }

    fn ask_there(&mut self, store: u64, key: &str, is_read: bool) {
        let group = self.group_of(key).expect("somebody holds it");
        self.ask(store, group, key, is_read);
    }

    /// Placement says that a peer is not wanted, or that nobody asks for the dead any more.
    fn tell_dead(&mut self, store: u64, group: GroupId, is_forgotten: bool) {
        let home = &mut self.stores[store as usize - 1];
        let events: Vec<Event> = if is_forgotten {
            let dead = home.dead.iter().filter(|dead| dead.0 == group);
            dead.map(|&(group, peer)| Event::ForgetTombstone { group, peer })
                .collect()
        } else {
            let here = home.shard.as_ref().and_then(|shard| shard.peer(group));
            let peer = here.expect("it lives there").id;
            vec![Event::Destroy { group, peer }]
        };
        assert!(!events.is_empty(), "{group} has no dead peer there");
        home.inbox.extend(events);
    }

    fn deliver_held(&mut self, how: &str, pattern: &[&str]) {
        let mut packets = self.post.take(&pattern_of(pattern));
        assert!(!packets.is_empty(), "nothing of {pattern:?} waits");
        match how {
            "release" => {}
            "reverse" => packets.reverse(),
            "twice" => packets.extend(packets.clone()),
            "next" => self.post.put_back(packets.split_off(1)),
            "last" => {
                let last = packets.pop();
                self.post.put_back(std::mem::take(&mut packets));
                packets.extend(last);
            }
            "replay" => self.post.put_back(packets.clone()),
            _ => packets.clear(),
        }
        for packet in packets {
            self.hand_over(packet);
        }
        self.step();
    }
}
