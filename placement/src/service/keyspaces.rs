//! `keyspacepb.Keyspace`: the keyspace DEFAULT always exists; there are no others yet.

use tinykv_proto::keyspacepb;
use tonic::{Request, Response, Status};

use super::{Service, failure};
use tinykv_proto::pdpb::ErrorType;

const DEFAULT: &str = "DEFAULT";

#[tonic::async_trait]
impl keyspacepb::keyspace_server::Keyspace for Service {
    async fn load_keyspace(
        &self,
        request: Request<keyspacepb::LoadKeyspaceRequest>,
    ) -> Result<Response<keyspacepb::LoadKeyspaceResponse>, Status> {
        let request = request.into_inner();
        let header = self.header(request.header.as_ref())?;
        let response = if request.name == DEFAULT {
            keyspacepb::LoadKeyspaceResponse {
                header: Some(header),
                keyspace: Some(keyspacepb::KeyspaceMeta {
                    id: 0,
                    name: DEFAULT.into(),
                    state: keyspacepb::KeyspaceState::Enabled.into(),
                    ..keyspacepb::KeyspaceMeta::default()
                }),
            }
        } else {
            let message = format!("there is no keyspace {}", request.name);
            keyspacepb::LoadKeyspaceResponse {
                header: Some(failure(header, ErrorType::EntryNotFound, message)),
                keyspace: None,
            }
        };
        Ok(Response::new(response))
    }
}
