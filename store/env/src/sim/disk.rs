//! The file system of a simulated machine: directories, names, and what a crash does to them.
//!
//! Directory changes are remembered in order until the directory is synced. A rename is one
//! change, so it never half happens. What survives a crash is a prefix of the changes of each
//! kind of crash, as a journalling file system gives.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

use crate::{DirEntry, Prng};

use super::CrashMode;
use super::pages::Pages;

/// Identity of a file or directory, independent of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Inode(u64);

const ROOT: Inode = Inode(0);

#[derive(Clone, Debug)]
enum Node {
    Directory(Directory),
    File(Pages),
}

#[derive(Clone, Debug, Default)]
struct Directory {
    entries: BTreeMap<String, Inode>,
    durable: BTreeMap<String, Inode>,
}

/// A change of directories that survives a crash as a whole or not at all.
#[derive(Clone, Debug)]
struct DirectoryChange {
    edits: Vec<(Inode, String, Option<Inode>)>,
}

/// Files and directories of one machine.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    nodes: BTreeMap<Inode, Node>,
    next: u64,
    /// Changes of directories that were not synced yet, oldest first.
    pending: Vec<DirectoryChange>,
    /// Bytes of file contents that fit; `None`: no limit.
    pub(super) capacity: Option<u64>,
}

impl Default for Disk {
    fn default() -> Disk {
        let nodes = BTreeMap::from([(ROOT, Node::Directory(Directory::default()))]);
        Disk {
            nodes,
            next: 1,
            pending: Vec::new(),
            capacity: None,
        }
    }
}

impl Disk {
    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut at = ROOT;
        for name in names(path) {
            at = match self.directory(at, path)?.entries.get(name) {
                Some(inode) => *inode,
                None => {
                    let inode = self.add(Node::Directory(Directory::default()));
                    self.change(vec![(at, name.to_owned(), Some(inode))]);
                    inode
                }
            };
        }
        self.directory(at, path).map(|_| ())
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<Inode> {
        let (directory, name) = self.parent(path)?;
        if self.directory(directory, path)?.entries.contains_key(&name) {
            return Err(error(io::ErrorKind::AlreadyExists, path, "exists already"));
        }
        let inode = self.add(Node::File(Pages::default()));
        self.change(vec![(directory, name, Some(inode))]);
        Ok(inode)
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<Inode> {
        let mut at = ROOT;
        for name in names(path) {
            at = *self
                .directory(at, path)?
                .entries
                .get(name)
                .ok_or_else(|| error(io::ErrorKind::NotFound, path, "no such file"))?;
        }
        Ok(at)
    }

    pub(super) fn find_file(&self, path: &Path) -> io::Result<Inode> {
        let inode = self.find(path)?;
        self.file(inode, path).map(|_| inode)
    }

    pub(super) fn remove(&mut self, path: &Path, want_dir: bool) -> io::Result<()> {
        let inode = self.find(path)?;
        match (&self.nodes[&inode], want_dir) {
            (Node::Directory(directory), true) if !directory.entries.is_empty() => {
                return Err(error(
                    io::ErrorKind::DirectoryNotEmpty,
                    path,
                    "is not empty",
                ));
            }
            (Node::File(_), true) => {
                return Err(error(
                    io::ErrorKind::NotADirectory,
                    path,
                    "is not a directory",
                ));
            }
            (Node::Directory(_), false) => {
                return Err(error(io::ErrorKind::IsADirectory, path, "is a directory"));
            }
            _ => {}
        }
        let (directory, name) = self.parent(path)?;
        self.change(vec![(directory, name, None)]);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.find(from)?;
        let (from_directory, from_name) = self.parent(from)?;
        let (to_directory, to_name) = self.parent(to)?;
        if (from_directory, &from_name) != (to_directory, &to_name) {
            self.change(vec![
                (from_directory, from_name, None),
                (to_directory, to_name, Some(inode)),
            ]);
        }
        Ok(())
    }

    pub(super) fn hard_link(&mut self, original: &Path, link: &Path) -> io::Result<()> {
        let inode = self.find_file(original)?;
        let (directory, name) = self.parent(link)?;
        if self.directory(directory, link)?.entries.contains_key(&name) {
            return Err(error(io::ErrorKind::AlreadyExists, link, "exists already"));
        }
        self.change(vec![(directory, name, Some(inode))]);
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let directory = self.directory(self.find(path)?, path)?;
        let entry = |(name, inode): (&String, &Inode)| match &self.nodes[inode] {
            Node::File(pages) => DirEntry {
                name: name.clone(),
                len: pages.len(),
                is_dir: false,
            },
            Node::Directory(_) => DirEntry {
                name: name.clone(),
                len: 0,
                is_dir: true,
            },
        };
        Ok(directory.entries.iter().map(entry).collect())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let inode = self.find(path)?;
        self.directory(inode, path)?;
        let pending = std::mem::take(&mut self.pending);
        for change in pending {
            if change
                .edits
                .iter()
                .any(|(directory, ..)| *directory == inode)
            {
                self.harden(&change);
            } else {
                self.pending.push(change);
            }
        }
        Ok(())
    }

    pub(super) fn file(&self, inode: Inode, path: &Path) -> io::Result<&Pages> {
        match self.nodes.get(&inode) {
            Some(Node::File(pages)) => Ok(pages),
            Some(Node::Directory(_)) => {
                Err(error(io::ErrorKind::IsADirectory, path, "is a directory"))
            }
            None => Err(error(io::ErrorKind::NotFound, path, "no such file")),
        }
    }

    pub(super) fn file_mut(&mut self, inode: Inode, path: &Path) -> io::Result<&mut Pages> {
        match self.nodes.get_mut(&inode) {
            Some(Node::File(pages)) => Ok(pages),
            Some(Node::Directory(_)) => {
                Err(error(io::ErrorKind::IsADirectory, path, "is a directory"))
            }
            None => Err(error(io::ErrorKind::NotFound, path, "no such file")),
        }
    }

    /// Bytes that still fit.
    pub(super) fn available(&self) -> u64 {
        let used = || -> u64 {
            let size = |node: &Node| match node {
                Node::File(pages) => pages.allocated(),
                Node::Directory(_) => 0,
            };
            self.nodes.values().map(size).sum()
        };
        self.capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(used()))
    }

    /// What is left after the machine lost power (or the process was killed, `KeepAll`).
    pub(super) fn crash(&mut self, mode: CrashMode, random: &mut Prng) {
        if mode == CrashMode::KeepAll {
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        let survive = match mode {
            CrashMode::DropUnsynced | CrashMode::LoseDirectoryEntries => 0,
            _ => random.between(0, pending.len() as u64) as usize,
        };
        for change in &pending[..survive] {
            self.harden(change);
        }
        for node in self.nodes.values_mut() {
            match node {
                Node::Directory(directory) => directory.entries = directory.durable.clone(),
                Node::File(pages) => pages.crash(mode, random),
            }
        }
        self.drop_unreachable();
    }

    /// Removes what no name leads to. Open files stay readable until the next crash only.
    fn drop_unreachable(&mut self) {
        let mut reachable = BTreeMap::new();
        let mut queue = vec![ROOT];
        while let Some(inode) = queue.pop() {
            if let Some(node) = self.nodes.remove(&inode) {
                if let Node::Directory(directory) = &node {
                    queue.extend(directory.entries.values());
                }
                reachable.insert(inode, node);
            }
        }
        self.nodes = reachable;
    }

    fn add(&mut self, node: Node) -> Inode {
        let inode = Inode(self.next);
        self.next += 1;
        self.nodes.insert(inode, node);
        inode
    }

    fn change(&mut self, edits: Vec<(Inode, String, Option<Inode>)>) {
        for (directory, name, inode) in &edits {
            if let Some(Node::Directory(directory)) = self.nodes.get_mut(directory) {
                edit(&mut directory.entries, name, *inode);
            }
        }
        self.pending.push(DirectoryChange { edits });
    }

    fn harden(&mut self, change: &DirectoryChange) {
        for (directory, name, inode) in &change.edits {
            if let Some(Node::Directory(directory)) = self.nodes.get_mut(directory) {
                edit(&mut directory.durable, name, *inode);
            }
        }
    }

    fn directory(&self, inode: Inode, path: &Path) -> io::Result<&Directory> {
        match self.nodes.get(&inode) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File(_)) => Err(error(
                io::ErrorKind::NotADirectory,
                path,
                "is not a directory",
            )),
            None => Err(error(io::ErrorKind::NotFound, path, "no such directory")),
        }
    }

    fn parent(&self, path: &Path) -> io::Result<(Inode, String)> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let name = names(path)
            .next_back()
            .ok_or_else(|| error(io::ErrorKind::InvalidInput, path, "has no name"))?;
        let inode = self.find(parent)?;
        self.directory(inode, parent)?;
        Ok((inode, name.to_owned()))
    }
}

fn edit(entries: &mut BTreeMap<String, Inode>, name: &str, inode: Option<Inode>) {
    match inode {
        Some(inode) => {
            entries.insert(name.to_owned(), inode);
        }
        None => {
            entries.remove(name);
        }
    }
}

fn names(path: &Path) -> impl DoubleEndedIterator<Item = &str> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    })
}

pub(super) fn error(kind: io::ErrorKind, path: &Path, what: &str) -> io::Error {
    io::Error::new(kind, format!("{}: {what}", path.display()))
}
