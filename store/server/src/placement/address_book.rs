//! Addresses of the cluster's stores, kept in the data directory.
//!
//! When all stores restart while placement is away, this is how they find each other. It is a
//! memory, not a truth: an address may have changed hands since, which the greeting between stores
//! finds out, because it names cluster and store. A book that cannot be read is an empty one.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tinykv_env::Env;
use tinykv_replica::StoreId;

const BOOK: &str = "STORES";
const BOOK_NEW: &str = "STORES.new";
const FORMAT: u32 = 1;

/// Far above what a book takes; of a longer file the rest is not read, and so it is damaged.
const BOOK_BYTES_MAX: u64 = 4 << 20;

/// Stores and where their peers are reached (`host:port`).
pub(super) type Addresses = BTreeMap<StoreId, String>;

/// The book in a data directory.
#[derive(Debug)]
pub(super) struct AddressBook {
    env: Arc<dyn Env>,
    dir: PathBuf,
    /// What stands in the file; held while it is written.
    written: Mutex<Option<Addresses>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pages {
    format: u32,
    stores: BTreeMap<u64, String>,
}

impl AddressBook {
    pub(super) fn new(env: Arc<dyn Env>, dir: &Path) -> AddressBook {
        AddressBook {
            env,
            dir: dir.to_owned(),
            written: Mutex::default(),
        }
    }

    /// What an earlier start wrote.
    pub(super) fn read(&self) -> Addresses {
        match self.try_read() {
            Ok(addresses) => {
                *self.written.lock() = Some(addresses.clone());
                addresses
            }
            Err(error) => {
                tracing::warn!("the addresses of the other stores are not remembered: {error}");
                Addresses::new()
            }
        }
    }

    fn try_read(&self) -> io::Result<Addresses> {
        let path = self.dir.join(BOOK);
        if !self.env.exists(&path)? {
            return Ok(Addresses::new());
        }
        let file = self.env.open(&path)?;
        let len = usize::try_from(file.len()?.min(BOOK_BYTES_MAX)).unwrap_or(0);
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        let damaged = |problem: String| {
            let sentence = format!("{} is damaged: {problem}", path.display());
            io::Error::new(io::ErrorKind::InvalidData, sentence)
        };
        let pages: Pages =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if pages.format != FORMAT {
            return Err(damaged(format!("format {} is unknown", pages.format)));
        }
        let stores = pages.stores.into_iter();
        Ok(stores.map(|(id, address)| (StoreId(id), address)).collect())
    }

    /// Writes the addresses down if they are others than those in the file. Waits for the disk.
    pub(super) fn write(&self, addresses: &Addresses) -> io::Result<()> {
        let mut written = self.written.lock();
        if written.as_ref() == Some(addresses) {
            return Ok(());
        }
        let stores = addresses.iter();
        let pages = Pages {
            format: FORMAT,
            stores: stores.map(|(id, at)| (id.0, at.clone())).collect(),
        };
        let (env, new) = (self.env.as_ref(), self.dir.join(BOOK_NEW));
        if env.exists(&new)? {
            env.remove_file(&new)?;
        }
        let file = env.create(&new)?;
        file.write_at(&serde_json::to_vec_pretty(&pages)?, 0)?;
        file.sync_data()?;
        env.rename(&new, &self.dir.join(BOOK))?;
        env.sync_dir(&self.dir)?;
        *written = Some(addresses.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tinykv_env::OsEnv;

    use super::*;

    fn addresses(known: &[(u64, &str)]) -> Addresses {
        let known = known.iter();
        known
            .map(|(id, at)| (StoreId(*id), (*at).to_owned()))
            .collect()
    }

    #[test]
    fn addresses_survive_a_restart() {
        let temp = tempfile::tempdir().expect("temp dir");
        let book = || AddressBook::new(OsEnv::shared(), temp.path());
        assert_eq!(book().read(), Addresses::new());
        let first = addresses(&[(1, "a:1"), (2, "b:2")]);
        let open = book();
        open.write(&first).expect("written");
        open.write(&first).expect("nothing to do");
        assert_eq!(book().read(), first);
        let second = addresses(&[(1, "a:9")]);
        open.write(&second).expect("written");
        assert_eq!(book().read(), second);
    }

    #[test]
    fn a_damaged_book_is_empty_and_written_anew() {
        let temp = tempfile::tempdir().expect("temp dir");
        let book = || AddressBook::new(OsEnv::shared(), temp.path());
        for damaged in ["", "{", r#"{"format":2,"stores":{}}"#, r#"{"format":1}"#] {
            std::fs::write(temp.path().join(BOOK), damaged).expect("write");
            let open = book();
            assert_eq!(open.read(), Addresses::new(), "{damaged:?}");
            let known = addresses(&[(3, "c:3")]);
            open.write(&known).expect("written");
            assert_eq!(book().read(), known);
        }
    }
}
