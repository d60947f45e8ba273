//! What operators steer the cluster by: its settings, and stores that leave.

use std::collections::BTreeMap;

use tinykv_proto::pdpb::ErrorType;
use tinykv_proto::placement;
use tinykv_replica::StoreId;
use tonic::Status;

use super::{Service, failure};
use crate::convert::labels_to_proto;
use crate::schedule::eviction_blocked;
use crate::state::{Command, StoreLife};
use crate::view::StoreState;

impl Service {
    pub(super) async fn show_settings(
        &self,
        message: placement::ConfigureRequest,
    ) -> Result<placement::ConfigureResponse, Status> {
        self.lead().await?;
        let mut header = self.operator_header(message.header.as_ref())?;
        if !message.name.is_empty() {
            let change = Command::ChangeSetting {
                name: message.name,
                value: message.value,
            };
            header = self.change(header, &change).await?;
        }
        let settings = *self.desk().group().state().read().settings();
        let shown = settings.list().into_iter();
        Ok(placement::ConfigureResponse {
            header: Some(header),
            settings: shown
                .map(|(name, value)| placement::Setting {
                    name: name.into(),
                    value,
                })
                .collect(),
        })
    }

    pub(super) async fn keep_from_leading(
        &self,
        message: placement::EvictLeadersRequest,
    ) -> Result<placement::EvictLeadersResponse, Status> {
        let leadership = self.lead().await?;
        let mut header = self.operator_header(message.header.as_ref())?;
        let store = StoreId(message.store_id);
        let command = match message.eviction() {
            placement::Eviction::Look => None,
            placement::Eviction::Begin => Some(Command::EvictLeaders { store }),
            placement::Eviction::End => Some(Command::AdmitLeaders { store }),
        };
        if let Some(command) = command {
            header = self.change(header, &command).await?;
        }
        let group = self.desk().group();
        let (settings, now) = (*group.state().read().settings(), group.now());
        let coordinator = leadership.coordinator();
        let view = coordinator.view();
        let held = view.counts().get(&store).copied().unwrap_or_default();
        let is_evicted = view.evicted.contains(&store);
        let blocked_by = match is_evicted {
            true => eviction_blocked(view, &settings, store, now),
            false => Vec::new(),
        };
        Ok(placement::EvictLeadersResponse {
            header: Some(header),
            is_evicted,
            leaders: held.leaders,
            blocked_by,
        })
    }

    pub(super) async fn set_labels(
        &self,
        message: placement::LabelStoreRequest,
    ) -> Result<placement::LabelStoreResponse, Status> {
        self.lead().await?;
        let mut header = self.operator_header(message.header.as_ref())?;
        let store = StoreId(message.store_id);
        let named = message.labels.len();
        let pairs = message.labels.into_iter();
        let labels: BTreeMap<String, String> =
            pairs.map(|label| (label.key, label.value)).collect();
        if labels.len() < named {
            let sentence = "a label is named twice: name each level once";
            return Ok(placement::LabelStoreResponse {
                header: Some(failure(header, ErrorType::InvalidValue, sentence)),
                labels: Vec::new(),
            });
        }
        header = self
            .change(header, &Command::SetLabels { store, labels })
            .await?;
        let state = self.desk().group().state().read();
        let known = state.stores().get(&store);
        Ok(placement::LabelStoreResponse {
            header: Some(header),
            labels: known.map(labels_to_proto).unwrap_or_default(),
        })
    }

    pub(super) async fn forget_stores(
        &self,
        message: placement::RemoveTombstonesRequest,
    ) -> Result<placement::RemoveTombstonesResponse, Status> {
        self.lead().await?;
        let mut header = self.operator_header(message.header.as_ref())?;
        let asked: Vec<StoreId> = match message.store_id {
            0 => {
                let state = self.desk().group().state().read();
                let stores = state.stores().keys().copied();
                stores.filter(|store| state.has_left(*store)).collect()
            }
            id => vec![StoreId(id)],
        };
        let mut store_ids = Vec::new();
        for store in asked {
            header = self.change(header, &Command::ForgetStore { store }).await?;
            if header.error.is_some() {
                break;
            }
            store_ids.push(store.0);
        }
        Ok(placement::RemoveTombstonesResponse {
            header: Some(header),
            store_ids,
        })
    }

    pub(super) async fn drain_store(
        &self,
        message: placement::DrainRequest,
    ) -> Result<placement::DrainResponse, Status> {
        let leadership = self.lead().await?;
        let mut header = self.operator_header(message.header.as_ref())?;
        let id = StoreId(message.store_id);
        let life = match message.leaving() {
            placement::Leaving::Look => None,
            placement::Leaving::Begin => Some(StoreLife::Leaving),
            placement::Leaving::End => Some(StoreLife::Serving),
        };
        let known = |store: StoreId| {
            let state = self.desk().group().state().read();
            state.stores().get(&store).map(|record| record.life)
        };
        let refused = |header, kind, sentence: String| {
            Ok(placement::DrainResponse {
                header: Some(failure(header, kind, sentence)),
                ..placement::DrainResponse::default()
            })
        };
        match (known(id), life) {
            (None, _) => {
                let sentence =
                    format!("store {id} does not exist: list the stores for those that do");
                return refused(header, ErrorType::EntryNotFound, sentence);
            }
            (Some(StoreLife::Tombstone), Some(_)) => {
                let sentence = format!(
                    "store {id} has left the cluster for good: start a new store in its place"
                );
                return refused(header, ErrorType::StoreTombstone, sentence);
            }
            (Some(_), Some(life)) => {
                let command = Command::SetStoreLife { store: id, life };
                header = self.change(header, &command).await?;
            }
            (Some(_), None) => {}
        }
        let group = self.desk().group();
        let (settings, now) = (*group.state().read().settings(), group.now());
        let is_leaving = known(id) != Some(StoreLife::Serving);
        let coordinator = leadership.coordinator();
        let state = coordinator.view().store_state(id, &settings, now);
        let (left, pace) = coordinator.drain(id, &settings, now);
        let blocked_by = match state {
            StoreState::Tombstone => Vec::new(),
            _ if is_leaving => left.blocked_by,
            _ => Vec::new(),
        };
        Ok(placement::DrainResponse {
            header: Some(header),
            state: state.to_string(),
            is_leaving,
            regions: left.regions,
            leaders: left.leaders,
            moving: left.moving,
            moved: pace.moved,
            remaining_ms: pace.remaining.map(super::millis),
            blocked_by,
        })
    }
}
