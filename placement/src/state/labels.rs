//! Commands about where stores stand: their labels, and how far apart replicas are to be.

use std::collections::{BTreeMap, BTreeSet};

use tinykv_replica::StoreId;

use super::levels::check_value;
use super::records::StoreRecord;
use super::rows::RowChange;
use super::settings::Settings;
use super::{Refusal, Reply, State};

impl State {
    /// Sets labels of a store; one with an empty value is taken away, others stay.
    pub(super) fn set_labels(
        &mut self,
        id: StoreId,
        labels: &BTreeMap<String, String>,
        changes: &mut Vec<RowChange>,
    ) -> Result<Reply, Refusal> {
        self.check_present(id)?;
        self.check_labels(labels.iter())?;
        let store = self.stores.get_mut(&id).expect("it is present");
        let before = store.labels.clone();
        for (level, value) in labels {
            match value.is_empty() {
                true => store.labels.remove(level),
                false => store.labels.insert(level.clone(), value.clone()),
            };
        }
        if store.labels != before {
            changes.push(RowChange::put_store(store));
        }
        Ok(Reply::Done)
    }

    /// Labels a store names at its start: news have to be known levels; what it had been given
    /// before and does not name stays.
    pub(super) fn merge_labels(&self, store: &mut StoreRecord) -> Result<(), Refusal> {
        let known = self.stores.get(&store.id).map(|known| &known.labels);
        let is_news =
            |(level, value): &(&String, &String)| known.and_then(|k| k.get(*level)) != Some(*value);
        self.check_labels(store.labels.iter().filter(is_news))?;
        for (level, value) in known.into_iter().flatten() {
            let had = store.labels.entry(level.clone());
            had.or_insert_with(|| value.clone());
        }
        Ok(())
    }

    fn check_labels<'a>(
        &self,
        labels: impl Iterator<Item = (&'a String, &'a String)>,
    ) -> Result<(), Refusal> {
        for (level, value) in labels {
            if !self.settings.location_labels.contains(level) {
                return Err(Refusal::UnknownLevel {
                    level: level.clone(),
                    levels: self.settings.location_labels.to_string(),
                });
            }
            check_value(value).map_err(|what| Refusal::OutOfRange { what })?;
        }
        Ok(())
    }

    /// Whether the stores that stay stand in enough domains for what settings want.
    pub(super) fn check_isolation(&self, settings: &Settings) -> Result<(), Refusal> {
        let Some(level) = settings.isolation_level else {
            return Ok(());
        };
        if self.settings.isolation_level == Some(level) {
            return Ok(());
        }
        let domains: BTreeSet<Vec<&String>> = self
            .serving()
            .filter_map(|store| {
                let above = settings.location_labels.iter();
                let narrowest = above.take_while(|other| *other != level).chain([level]);
                let domain = narrowest.map(|level| store.labels.get(level.name()));
                domain.collect::<Option<Vec<_>>>()
            })
            .collect();
        let wanted = self.replicas_wanted() as usize;
        if domains.len() < wanted {
            return Err(Refusal::BadSettings {
                what: format!(
                    "isolation_level {level} needs stores in {wanted} of them, and they are known \
                     to stand in {}: label them with `store label` first",
                    domains.len()
                ),
            });
        }
        Ok(())
    }
}
