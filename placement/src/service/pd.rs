//! `pdpb.PD`, method by method.

use tinykv_proto::pdpb;
use tonic::{Request, Response, Status, Streaming};

use super::regions::Direction;
use super::{Answers, Service};

#[tonic::async_trait]
impl pdpb::pd_server::Pd for Service {
    async fn get_members(
        &self,
        _request: Request<pdpb::GetMembersRequest>,
    ) -> Result<Response<pdpb::GetMembersResponse>, Status> {
        Service::get_members(self).await.map(Response::new)
    }

    async fn get_cluster_info(
        &self,
        _request: Request<pdpb::GetClusterInfoRequest>,
    ) -> Result<Response<pdpb::GetClusterInfoResponse>, Status> {
        Ok(Response::new(pdpb::GetClusterInfoResponse {
            header: Some(super::success(self.cluster_id()?)),
            service_modes: vec![pdpb::ServiceMode::PdSvcMode.into()],
            tso_urls: Vec::new(),
        }))
    }

    async fn tso(
        &self,
        request: Request<Streaming<pdpb::TsoRequest>>,
    ) -> Result<Response<Answers<pdpb::TsoResponse>>, Status> {
        Ok(Response::new(self.timestamp_stream(request.into_inner())))
    }

    async fn get_region(
        &self,
        request: Request<pdpb::GetRegionRequest>,
    ) -> Result<Response<pdpb::GetRegionResponse>, Status> {
        self.find_region(request, Direction::Here).await
    }

    async fn get_prev_region(
        &self,
        request: Request<pdpb::GetRegionRequest>,
    ) -> Result<Response<pdpb::GetRegionResponse>, Status> {
        self.find_region(request, Direction::Before).await
    }

    async fn get_region_by_id(
        &self,
        request: Request<pdpb::GetRegionByIdRequest>,
    ) -> Result<Response<pdpb::GetRegionResponse>, Status> {
        self.region_by_id(request).await
    }

    async fn scan_regions(
        &self,
        request: Request<pdpb::ScanRegionsRequest>,
    ) -> Result<Response<pdpb::ScanRegionsResponse>, Status> {
        Service::scan_regions(self, request).await
    }

    async fn get_store(
        &self,
        request: Request<pdpb::GetStoreRequest>,
    ) -> Result<Response<pdpb::GetStoreResponse>, Status> {
        self.one_store(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_all_stores(
        &self,
        request: Request<pdpb::GetAllStoresRequest>,
    ) -> Result<Response<pdpb::GetAllStoresResponse>, Status> {
        self.all_stores(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn bootstrap(
        &self,
        request: Request<pdpb::BootstrapRequest>,
    ) -> Result<Response<pdpb::BootstrapResponse>, Status> {
        self.bootstrap_cluster(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn is_bootstrapped(
        &self,
        request: Request<pdpb::IsBootstrappedRequest>,
    ) -> Result<Response<pdpb::IsBootstrappedResponse>, Status> {
        self.is_cluster_bootstrapped(request).await
    }

    async fn alloc_id(
        &self,
        request: Request<pdpb::AllocIdRequest>,
    ) -> Result<Response<pdpb::AllocIdResponse>, Status> {
        self.allocate_ids(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn put_store(
        &self,
        request: Request<pdpb::PutStoreRequest>,
    ) -> Result<Response<pdpb::PutStoreResponse>, Status> {
        self.register_store(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn store_heartbeat(
        &self,
        request: Request<pdpb::StoreHeartbeatRequest>,
    ) -> Result<Response<pdpb::StoreHeartbeatResponse>, Status> {
        self.beat(request.into_inner()).await.map(Response::new)
    }

    async fn region_heartbeat(
        &self,
        request: Request<Streaming<pdpb::RegionHeartbeatRequest>>,
    ) -> Result<Response<Answers<pdpb::RegionHeartbeatResponse>>, Status> {
        self.heartbeat_stream(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_cluster_config(
        &self,
        request: Request<pdpb::GetClusterConfigRequest>,
    ) -> Result<Response<pdpb::GetClusterConfigResponse>, Status> {
        self.lead().await?;
        let header = self.header(request.get_ref().header.as_ref())?;
        let id = header.cluster_id;
        let replica_count = self.desk().group().state().read().settings().replica_count;
        Ok(Response::new(pdpb::GetClusterConfigResponse {
            header: Some(header),
            cluster: Some(tinykv_proto::metapb::Cluster {
                id,
                max_peer_count: replica_count,
            }),
        }))
    }

    async fn put_cluster_config(
        &self,
        request: Request<pdpb::PutClusterConfigRequest>,
    ) -> Result<Response<pdpb::PutClusterConfigResponse>, Status> {
        self.change_settings(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_operator(
        &self,
        request: Request<pdpb::GetOperatorRequest>,
    ) -> Result<Response<pdpb::GetOperatorResponse>, Status> {
        self.operator_of(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn ask_batch_split(
        &self,
        request: Request<pdpb::AskBatchSplitRequest>,
    ) -> Result<Response<pdpb::AskBatchSplitResponse>, Status> {
        self.split_ids(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn report_batch_split(
        &self,
        request: Request<pdpb::ReportBatchSplitRequest>,
    ) -> Result<Response<pdpb::ReportBatchSplitResponse>, Status> {
        self.take_over_split(request.into_inner())
            .await
            .map(Response::new)
    }
}
