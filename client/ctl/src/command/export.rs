//! `export`: the records of a range in key order, to a file or standard output.
//!
//! Memory holds one page of the scan, whatever the range. Each page is a snapshot of its region,
//! not the range as a whole: what is written meanwhile may be in it or not. Every key that stays
//! is there exactly once. What comes out goes into `import` as it is and comes out of it again
//! byte for byte. When keys expire is not part of a record.

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use tinykv_client::{Scan, ScanStream};

use super::progress::{Moved, Progress};
use super::record::RecordFormat;
use super::{Failure, Global, data};
use crate::output::{self, Output};

/// Bytes collected before they are written.
const WRITE_BYTES: usize = 256 << 10;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is exported can be imported again and is the same byte for byte. While others write, the \
export is no snapshot of one moment: each page of at most 1,024 records is one of its region.")]
pub(crate) struct Export {
    #[command(flatten)]
    range: data::Range,
    /// File to write; it appears when it is complete. Standard output if left out or -
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long, requires = "file")]
    yes: bool,
    /// How the records are written [default: by the file's name (.jsonl), else tsv]
    #[arg(long, value_enum, value_name = "FORMAT")]
    records: Option<RecordFormat>,
}

impl Export {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let (lower, upper) = self.range.bounds(global)?;
        let file = self.file.filter(|file| file.as_os_str() != "-");
        let format = RecordFormat::or_by_name(self.records, file.as_deref());
        let named = |error: io::Error| {
            let name = file
                .as_ref()
                .map_or("standard output".into(), |file| file.to_string_lossy());
            Failure::Refused(format!("{name}: {error}"))
        };
        let mut sink = Sink::open(file.as_deref(), self.yes).map_err(named)?;
        let mut scan = data::connect(global).scan(Scan {
            lower,
            upper,
            ..Scan::default()
        });
        let progress = Progress::new(None);
        let written = copy(&mut scan, format, &mut sink, &progress).await;
        let took = progress.finish();
        let moved = match written {
            Ok(moved) => moved,
            // The reader has seen enough (`| head`).
            Err(CopyError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(CopyError::Write(error)) => return Err(named(error)),
            Err(CopyError::Read(error)) => return Err(error.into()),
        };
        sink.complete().map_err(named)?;
        match (global.output(), &file) {
            (Output::Json, Some(_)) => output::json(&moved),
            _ => eprintln!("exported {}", moved.sentence(took)),
        }
        Ok(())
    }
}

enum CopyError {
    Read(tinykv_client::Error),
    Write(io::Error),
}

async fn copy(
    scan: &mut ScanStream,
    format: RecordFormat,
    sink: &mut Sink,
    progress: &Progress,
) -> Result<Moved, CopyError> {
    let mut moved = Moved::default();
    let mut text = Vec::with_capacity(WRITE_BYTES * 2);
    loop {
        let pair = scan.next().await.map_err(CopyError::Read)?;
        if let Some((key, value)) = &pair {
            format.write(&mut text, key, value);
            moved.add(key, value);
        }
        if text.len() >= WRITE_BYTES || pair.is_none() {
            sink.write(&text).map_err(CopyError::Write)?;
            progress.advance(text.len() as u64, moved.records);
            text.clear();
        }
        if pair.is_none() {
            return Ok(moved);
        }
    }
}

/// Where the records go.
enum Sink {
    Stdout(io::Stdout),
    /// A pipe or a device.
    Special(File),
    /// A file beside its final name until it is complete.
    Growing {
        file: NamedTempFile,
        path: PathBuf,
        replace: bool,
    },
}

impl Sink {
    fn open(path: Option<&Path>, replace: bool) -> io::Result<Sink> {
        let Some(path) = path else {
            return Ok(Sink::Stdout(io::stdout()));
        };
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => return Err(ErrorKind::IsADirectory.into()),
            Ok(metadata) if !metadata.is_file() => {
                return Ok(Sink::Special(File::options().write(true).open(path)?));
            }
            Ok(_) if !replace => return Err(exists()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // As any new file: what the umask leaves of it.
        let file = tempfile::Builder::new()
            .prefix(".export-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder(path))?;
        Ok(Sink::Growing {
            file,
            path: path.to_owned(),
            replace,
        })
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Sink::Stdout(stdout) => stdout.write_all(text),
            Sink::Special(file) => file.write_all(text),
            Sink::Growing { file, .. } => file.write_all(text),
        }
    }

    /// All is written: a file is made durable and gets its name.
    fn complete(self) -> io::Result<()> {
        match self {
            Sink::Stdout(mut stdout) => stdout.flush(),
            Sink::Special(_) => Ok(()),
            Sink::Growing {
                file,
                path,
                replace,
            } => {
                file.as_file().sync_all()?;
                let named = match replace {
                    true => file.persist(&path),
                    false => file.persist_noclobber(&path),
                };
                match named {
                    Ok(_) => sync_folder(&path),
                    Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Err(exists()),
                    Err(error) => Err(error.error),
                }
            }
        }
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes the name of a file durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

fn exists() -> io::Error {
    io::Error::new(
        ErrorKind::AlreadyExists,
        "exists; give --yes to replace it, or another name",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(path: &Path, replace: bool, text: &str) -> io::Result<()> {
        let mut sink = Sink::open(Some(path), replace)?;
        sink.write(text.as_bytes())?;
        sink.complete()
    }

    #[test]
    fn a_file_appears_when_it_is_complete() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("records.tsv");
        let mut sink = Sink::open(Some(&path), false).expect("a sink");
        sink.write(b"half").expect("written");
        assert!(!path.exists());
        drop(sink);
        assert_eq!(folder.path().read_dir().expect("a folder").count(), 0);
        export(&path, false, "whole").expect("written");
        assert_eq!(std::fs::read(&path).expect("a file"), b"whole");
    }

    #[test]
    fn a_file_is_replaced_only_when_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("records.tsv");
        export(&path, false, "old").expect("written");
        let error = export(&path, false, "new").expect_err("refused");
        assert!(error.to_string().contains("--yes"), "{error}");
        assert_eq!(std::fs::read(&path).expect("a file"), b"old");
        export(&path, true, "new").expect("written");
        assert_eq!(std::fs::read(&path).expect("a file"), b"new");
    }

    #[test]
    fn a_folder_is_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(export(folder.path(), true, "text").is_err());
    }
}
