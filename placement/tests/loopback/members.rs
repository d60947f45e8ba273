//! A group of three: whoever leads, ids and timestamps go on where the last leader stopped (M9).

use tinykv_proto::pdpb;
use tonic::Code;

use super::cluster::{Placement, directory, error, eventually};
use super::timestamps::draw;

/// Addresses nobody listens on. Somebody may take one before a member does; then the test fails
/// at once with a sentence that says so.
pub(crate) fn free_addresses(count: usize) -> Vec<String> {
    let bound: Vec<std::net::TcpListener> = (0..count)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    let address = |bound: &std::net::TcpListener| bound.local_addr().expect("bound").to_string();
    bound.iter().map(address).collect()
}

#[tokio::test]
async fn nothing_repeats_when_the_leader_changes() {
    let addresses = free_addresses(3);
    let directories = [directory(), directory(), directory()];
    let names = ["a", "b", "c"];
    let entries = names.iter().zip(&addresses);
    let list: Vec<String> = entries
        .map(|(name, address)| format!("{name}=http://{address}"))
        .collect();
    let list = list.join(",");
    let launch = async |member: usize| {
        let flags = [
            "--name",
            names[member],
            "--addr",
            &addresses[member],
            "--initial-cluster",
            &list,
        ];
        Placement::launch(directories[member].path(), &flags).await
    };
    let mut members = [
        Some(launch(0).await),
        Some(launch(1).await),
        Some(launch(2).await),
    ];
    let mut ids: Vec<u64> = Vec::new();
    let mut largest = 0;
    let mut cluster_ids = Vec::new();
    for _round in 0..3 {
        // Every member names the same leader; only that one serves.
        let leader = eventually("a leader all agree on", async || {
            let mut named = Vec::new();
            for member in members.iter_mut().flatten() {
                let request = pdpb::GetMembersRequest::default();
                let reply = member
                    .client()
                    .await
                    .get_members(request)
                    .await
                    .ok()?
                    .into_inner();
                member.cluster_id = reply.header?.cluster_id;
                named.push(reply.leader?.member_id);
            }
            named.dedup();
            let [leader] = named[..] else { return None };
            usize::try_from(leader).ok()?.checked_sub(1)
        })
        .await;
        for (position, member) in members.iter().enumerate() {
            let member = member.as_ref().expect("all are up");
            let request = pdpb::AllocIdRequest {
                header: member.header(),
                count: 1,
            };
            let reply = member.client().await.alloc_id(request).await;
            match reply {
                Ok(reply) => {
                    assert_eq!(position, leader, "only the leader serves");
                    let reply = reply.into_inner();
                    assert_eq!(error(reply.header), None);
                    ids.push(reply.id);
                }
                Err(status) => {
                    assert_ne!(position, leader, "{status}");
                    assert_eq!(status.code(), Code::Unavailable);
                }
            }
        }
        let serving = members[leader].take().expect("it leads");
        cluster_ids.push(serving.cluster_id);
        for (first, last) in draw(&serving, &[1, 1_000, 262_144]).await {
            assert!(first > largest, "{first} after {largest}");
            largest = last;
        }
        ids.extend(serving.ids(5).await);
        serving.stop().await;
        // The others go on without it; then it comes back and follows.
        let next = members.iter_mut().flatten().next().expect("two are left");
        eventually("another leader", async || {
            let request = pdpb::GetMembersRequest::default();
            let reply = next
                .client()
                .await
                .get_members(request)
                .await
                .ok()?
                .into_inner();
            (reply.leader?.member_id != leader as u64 + 1).then_some(())
        })
        .await;
        members[leader] = Some(launch(leader).await);
    }
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), ids.len(), "an id came twice: {ids:?}");
    cluster_ids.dedup();
    assert_eq!(cluster_ids.len(), 1, "one cluster, one id");
    for member in members.into_iter().flatten() {
        member.stop().await;
    }
}
