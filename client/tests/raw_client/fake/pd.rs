//! The fake's placement members.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tinykv_proto::pdpb::pd_server::Pd;
use tinykv_proto::{ASKER_METADATA, metapb, pdpb};
use tonic::{Request, Response, Status};

use super::{CLUSTER, Region, World};

/// One member.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) index: usize,
    pub(crate) world: Arc<Mutex<World>>,
}

fn header() -> Option<pdpb::ResponseHeader> {
    Some(pdpb::ResponseHeader {
        cluster_id: CLUSTER,
        error: None,
    })
}

fn member(index: usize, address: &str) -> pdpb::Member {
    pdpb::Member {
        name: format!("placement-{index}"),
        member_id: index as u64 + 1,
        client_urls: vec![format!("http://{address}")],
        ..Default::default()
    }
}

fn answer(region: &Region) -> pdpb::GetRegionResponse {
    let leader = (region.told_leader != 0).then(|| region.peer(region.told_leader));
    pdpb::GetRegionResponse {
        header: header(),
        region: Some(region.to_proto()),
        leader,
        ..Default::default()
    }
}

impl Member {
    /// The world, if this member leads.
    fn lead(&self) -> Result<MutexGuard<'_, World>, Status> {
        let world = self.world.lock().expect("no panic");
        if world.placement_leader == Some(self.index) {
            Ok(world)
        } else {
            Err(Status::unavailable("not leader"))
        }
    }

    fn find(
        &self,
        request: &Request<pdpb::GetRegionRequest>,
        find: impl Fn(&[Region], &Bytes) -> Option<Region>,
    ) -> Result<Response<pdpb::GetRegionResponse>, Status> {
        let mut world = self.lead()?;
        let asker = request.metadata().get(ASKER_METADATA);
        let asker = asker.and_then(|it| it.to_str().ok()).map(str::to_owned);
        world.lookups.push(asker);
        world.came.notify_waiters();
        let found = find(&world.regions, &request.get_ref().region_key);
        Ok(Response::new(found.map_or_else(
            || pdpb::GetRegionResponse {
                header: header(),
                ..Default::default()
            },
            |region| answer(&region),
        )))
    }
}

#[tonic::async_trait]
impl Pd for Member {
    async fn get_members(
        &self,
        _: Request<pdpb::GetMembersRequest>,
    ) -> Result<Response<pdpb::GetMembersResponse>, Status> {
        let mut world = self.world.lock().expect("no panic");
        world.members_asked += 1;
        world.came.notify_waiters();
        let members: Vec<_> = world
            .placements
            .iter()
            .enumerate()
            .map(|(at, address)| member(at, address))
            .collect();
        let hint = world.wrong_hints.get(&self.index).copied();
        let leader = hint.or(world.placement_leader);
        let leader = leader.map(|index| members[index].clone());
        Ok(Response::new(pdpb::GetMembersResponse {
            header: header(),
            members,
            leader: leader.clone(),
            etcd_leader: leader,
        }))
    }

    async fn get_region(
        &self,
        request: Request<pdpb::GetRegionRequest>,
    ) -> Result<Response<pdpb::GetRegionResponse>, Status> {
        self.find(&request, |regions, key| {
            regions.iter().find(|region| region.contains(key)).cloned()
        })
    }

    async fn get_prev_region(
        &self,
        request: Request<pdpb::GetRegionRequest>,
    ) -> Result<Response<pdpb::GetRegionResponse>, Status> {
        self.find(&request, |regions, key| {
            let at = regions.iter().position(|region| region.contains(key))?;
            regions.get(at.checked_sub(1)?).cloned()
        })
    }

    async fn get_store(
        &self,
        request: Request<pdpb::GetStoreRequest>,
    ) -> Result<Response<pdpb::GetStoreResponse>, Status> {
        let world = self.lead()?;
        let id = request.into_inner().store_id;
        let address = world.addresses.get(&id).cloned().unwrap_or_default();
        Ok(Response::new(pdpb::GetStoreResponse {
            header: header(),
            store: Some(metapb::Store {
                id,
                address,
                ..Default::default()
            }),
            stats: None,
        }))
    }
}
