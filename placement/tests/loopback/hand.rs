//! What operators ask of placement; each test adds the calls it needs.

use tinykv_proto::placement::placement_client::PlacementClient;
use tonic::transport::Channel;

use super::cluster::Placement;

/// An operator's calls.
pub(crate) struct Hand {
    pub(crate) client: PlacementClient<Channel>,
}

impl Hand {
    pub(crate) async fn new(placement: &Placement) -> Hand {
        let url = format!("http://{}", placement.address);
        Hand {
            client: PlacementClient::connect(url).await.expect("it listens"),
        }
    }
}
