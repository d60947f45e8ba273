//! The stream of timestamps: one answer per request, in order.

use futures::{StreamExt, stream};
use tinykv_proto::pdpb;
use tonic::{Status, Streaming};

use super::{Answers, Service, unavailable};
use crate::convert::timestamp_to_proto;
use crate::timestamps::BATCH_MAX;

impl Service {
    /// Each answer is drawn when its request is read; nothing runs ahead.
    pub(super) fn timestamp_stream(
        &self,
        requests: Streaming<pdpb::TsoRequest>,
    ) -> Answers<pdpb::TsoResponse> {
        let service = self.clone();
        let answers = stream::unfold(Some((service, requests)), |state| async {
            let (service, mut requests) = state?;
            let answer = match requests.next().await? {
                Ok(request) => service.timestamps(&request).await,
                Err(status) => Err(status),
            };
            // An error is the last thing on a stream.
            let rest = answer.is_ok().then_some((service, requests));
            Some((answer, rest))
        });
        Box::pin(answers)
    }

    async fn timestamps(&self, request: &pdpb::TsoRequest) -> Result<pdpb::TsoResponse, Status> {
        let leadership = self.lead().await?;
        let header = self.header(request.header.as_ref())?;
        if !(1..=BATCH_MAX).contains(&request.count) {
            return Err(Status::invalid_argument(format!(
                "1 to {BATCH_MAX} timestamps can be had at once, not {}",
                request.count
            )));
        }
        let last = self
            .desk()
            .draw_timestamps(&leadership, request.count)
            .await
            .map_err(|error| unavailable(&error))?;
        let timestamp = timestamp_to_proto(last)
            .ok_or_else(|| Status::internal("the clock is beyond all bounds"))?;
        Ok(pdpb::TsoResponse {
            header: Some(header),
            count: request.count,
            timestamp: Some(timestamp),
        })
    }
}
