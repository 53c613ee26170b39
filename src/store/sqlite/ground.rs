//! The file system that a store lies on: some must not be used, some are worth
//! a warning.
//!
//! SQLite's write-ahead log wants locks that hold and memory that processes
//! share. Over a network neither can be relied on, and what comes of it is a
//! damaged database, not an error.

use std::io;
use std::path::{Path, PathBuf};

use super::super::OpenError;

/// What a file system means for a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// A disk of this machine, or one that is not known to be anything else.
    Local,
    /// Another machine, by this protocol. Not to be used.
    Network(&'static str),
    /// The layer of a container, which goes when the container goes.
    Layer,
    /// Memory, which goes when the machine starts again.
    Memory,
    /// Something behind the kernel answers, and how well it locks and syncs
    /// only its makers know.
    Relayed(&'static str),
}

/// The types of `statfs(2)`, those that are not local disks.
const KNOWN: [(u32, Ground); 13] = [
    (0x0000_6969, Ground::Network("NFS")),
    (0x0000_517b, Ground::Network("SMB")),
    (0xfe53_4d42, Ground::Network("SMB")),
    (0xff53_4d42, Ground::Network("SMB")),
    (0x794c_7630, Ground::Layer),
    (0x6175_6673, Ground::Layer),
    (0x0102_1994, Ground::Memory),
    (0x8584_58f6, Ground::Memory),
    // Shares of virtual machines and desktops are among these two; so are
    // sound file systems, which is why they are not refused.
    (0x0102_1997, Ground::Relayed("9p")),
    (0x6573_5546, Ground::Relayed("FUSE")),
    (0x786f_4256, Ground::Relayed("a VirtualBox share")),
    (0x00c3_6400, Ground::Relayed("Ceph")),
    (0x5346_414f, Ground::Relayed("AFS")),
];

impl Ground {
    /// What this type of `statfs(2)` means. The types have 32 bits, whatever
    /// the size and the sign of the field.
    pub fn of_type(f_type: u32) -> Self {
        let known = KNOWN.iter().find(|(known, _)| *known == f_type);
        known.map_or(Self::Local, |(_, ground)| *ground)
    }

    /// What lies, or would lie, at `path`; links are followed.
    ///
    /// # Errors
    /// Where not even the folders above it can be asked.
    pub fn at(path: &Path) -> io::Result<Self> {
        let disk = rustix::fs::statfs(nearest(path))?;
        Ok(Self::of_type(disk.f_type as u32))
    }

    /// Why there must be no store.
    fn refusal(self) -> Option<(String, &'static str)> {
        let Self::Network(protocol) = self else {
            return None;
        };
        Some((
            format!(
                "lies on {protocol}, where SQLite's locks do not hold and its files get damaged"
            ),
            "set `store.path` to a local disk or a block volume",
        ))
    }

    /// What whoever runs the service should know about it.
    fn doubt(self) -> Option<String> {
        match self {
            Self::Local | Self::Network(_) => None,
            Self::Layer => Some(
                "lies in the container's own layer, so every event is lost with the container: mount a volume there"
                    .to_owned(),
            ),
            Self::Memory => Some(
                "lies in memory, so every event is lost when the machine starts again: set it to a disk"
                    .to_owned(),
            ),
            Self::Relayed(name) => Some(format!(
                "lies on {name}: whether a commit survives a loss of power, and whether locks hold, depends on what is behind it; prefer a local disk"
            )),
        }
    }
}

/// Refuses a store on a file system that would damage it, before anything is
/// made there.
pub fn check(path: &Path) -> Result<(), OpenError> {
    match Ground::at(path).ok().and_then(Ground::refusal) {
        None => Ok(()),
        Some((problem, hint)) => Err(OpenError::Unusable {
            path: path.to_owned(),
            problem,
            hint: hint.to_owned(),
        }),
    }
}

/// What is doubtful about a store at `path`, in words.
pub fn doubt(path: &Path) -> Option<String> {
    Ground::at(path).ok()?.doubt()
}

/// The path itself, or the nearest folder above it that is there.
pub fn nearest(path: &Path) -> PathBuf {
    let there = path.ancestors().find(|ancestor| ancestor.exists());
    match there {
        Some(there) if !there.as_os_str().is_empty() => there.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_refused_and_no_other() {
        for (f_type, network) in [
            (0x6969, true),
            (0x517b, true),
            (0xfe53_4d42, true),
            (0xff53_4d42, true),
            (0xef53, false),
            (0x5846_5342, false),
            (0x9123_683e, false),
            (0x2fc1_2fc1, false),
            (0x794c_7630, false),
            (0x0102_1997, false),
            (0x6573_5546, false),
            (0, false),
        ] {
            let ground = Ground::of_type(f_type);
            assert_eq!(ground.refusal().is_some(), network, "{f_type:x}");
            if let Some((problem, hint)) = ground.refusal() {
                assert!(problem.contains("NFS") || problem.contains("SMB"));
                assert!(hint.contains("`store.path`"));
            }
        }
        // On machines whose field is 32 bits wide and signed.
        let signed = 0xff53_4d42_u32.cast_signed();
        assert_eq!(Ground::of_type(signed as u32), Ground::Network("SMB"));
    }

    #[test]
    fn what_may_lose_events_is_doubted_and_a_disk_is_not() {
        for (f_type, words) in [
            (0x794c_7630, Some("container's own layer")),
            (0x0102_1994, Some("in memory")),
            (0x0102_1997, Some("on 9p")),
            (0x6573_5546, Some("on FUSE")),
            (0xef53, None),
            (0x5846_5342, None),
        ] {
            let doubt = Ground::of_type(f_type).doubt();
            assert_eq!(doubt.is_some(), words.is_some(), "{f_type:x}");
            let words = words.unwrap_or_default();
            assert!(doubt.unwrap_or_default().contains(words), "{words}");
        }
        let mut types: Vec<u32> = KNOWN.iter().map(|(f_type, _)| *f_type).collect();
        types.sort_unstable();
        types.dedup();
        assert_eq!(types.len(), KNOWN.len(), "no type has two meanings");
    }

    #[test]
    fn the_ground_of_what_is_not_there_yet_is_that_of_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b/events.db");
        assert_eq!(nearest(&below), folder.path());
        assert_eq!(
            Ground::at(&below).unwrap(),
            Ground::at(folder.path()).unwrap()
        );
        assert_eq!(nearest(Path::new("no/such/events.db")), Path::new("."));
        let shared_memory = Path::new("/dev/shm/no-such-folder/events.db");
        assert_eq!(Ground::at(shared_memory).unwrap(), Ground::Memory);
        let link = folder.path().join("link.db");
        std::os::unix::fs::symlink("/dev/shm", &link).unwrap();
        assert_eq!(Ground::at(&link).unwrap(), Ground::Memory);
    }
}
