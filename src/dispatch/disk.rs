//! When to speak about a disk that gets full. Pure: what is free is an
//! argument.

/// Below this much the disk is about to be full, unless it is a small one.
const CRITICAL: u64 = 128 << 20;

/// How it stands with the disk; later is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Ample,
    Low,
    Critical,
}

/// What there is to say about a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Less than wanted is free.
    Low,
    /// So little is free that commits will fail soon.
    Critical,
    /// Enough is free again.
    Over,
}

/// Says each thing once in an episode, which lasts from the first time that
/// too little is free until there is clearly enough.
#[derive(Debug)]
pub struct DiskWatch {
    low: u64,
    critical: u64,
    worst: Level,
}

impl DiskWatch {
    /// A watch that wants `free_min` bytes to be free; 0 means that only a disk
    /// that is about to be full matters.
    pub fn new(free_min: u64) -> Self {
        let critical = match free_min {
            0 => CRITICAL,
            wanted => CRITICAL.min(wanted / 4),
        };
        Self {
            low: free_min,
            critical,
            worst: Level::Ample,
        }
    }

    /// What there is to say now that `free` bytes are free.
    pub fn look(&mut self, free: u64) -> Option<Turn> {
        let level = if free < self.critical {
            Level::Critical
        } else if free < self.low {
            Level::Low
        } else {
            Level::Ample
        };
        if level > self.worst {
            self.worst = level;
            return match level {
                Level::Critical => Some(Turn::Critical),
                _ => Some(Turn::Low),
            };
        }
        // A little more, so that a disk at the border does not fill the log.
        let wanted = self.low.max(self.critical);
        let enough = wanted.saturating_add(wanted / 8);
        if self.worst > Level::Ample && free >= enough {
            self.worst = Level::Ample;
            return Some(Turn::Over);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    fn said(free_min: u64, free: &[u64]) -> Vec<Option<Turn>> {
        let mut watch = DiskWatch::new(free_min);
        free.iter().map(|free| watch.look(*free)).collect()
    }

    #[test]
    fn each_episode_is_told_once() {
        let free = [
            GIB,
            GIB - 1,
            900 * MIB,
            GIB,
            GIB - 1,
            127 * MIB,
            200 * MIB,
            10,
            GIB,
            2 * GIB,
            3 * GIB,
            0,
            0,
            2 * GIB,
        ];
        let told = [
            None,
            Some(Turn::Low),
            None,
            None,
            None,
            Some(Turn::Critical),
            None,
            None,
            None,
            Some(Turn::Over),
            None,
            Some(Turn::Critical),
            None,
            Some(Turn::Over),
        ];
        assert_eq!(said(GIB, &free), told);
    }

    #[test]
    fn switched_off_it_still_tells_of_a_disk_that_is_about_to_be_full() {
        let told = [None, None, Some(Turn::Critical), None, Some(Turn::Over)];
        let free = [GIB, 128 * MIB, 128 * MIB - 1, 128 * MIB, 144 * MIB];
        assert_eq!(said(0, &free), told);
    }

    #[test]
    fn a_small_disk_has_small_borders() {
        let told = [None, Some(Turn::Low), None, Some(Turn::Critical)];
        assert_eq!(said(8 * MIB, &[8 * MIB, 8 * MIB - 1, 2 * MIB, MIB]), told);
    }
}
