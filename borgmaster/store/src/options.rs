//! How RocksDB is set up for a log that is written in order, read once, and dropped from the front.

use rocksdb::{DBRecoveryMode, Options};

/// The log, by index.
pub(crate) const LOG: &str = "log";
/// The number of the format, the hard state, and what there is to know of the newest snapshot.
pub(crate) const STATE: &str = "state";
/// The parts of snapshots, by index and part.
pub(crate) const SNAPSHOT: &str = "snapshot";

/// RocksDB brings one of its own into being, which stays empty.
pub(crate) const FAMILIES: [&str; 4] = ["default", LOG, STATE, SNAPSHOT];

const MIB: usize = 1 << 20;

/// Options of the whole.
pub(crate) fn of_database() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // The default, `PointInTime`, silently drops everything after a damaged record.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_paranoid_checks(true);
    // A rarely written family must not keep old files of the write-ahead log.
    options.set_max_total_wal_size(64 * MIB as u64);
    options.set_max_background_jobs(2);
    options.set_max_open_files(128);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(MIB);
    options.set_stats_dump_period_sec(0);
    options
}

/// Options of a family.
pub(crate) fn of_family(name: &str) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(match name {
        LOG => 16 * MIB,
        SNAPSHOT => 8 * MIB,
        _ => MIB,
    });
    options.set_max_write_buffer_number(2);
    options
}
